"""env=gymnasium: environments that are not ours keep the contract that ours do."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from rl_platform.assemble import build_env, typed
from rl_platform.config import compose
from rl_platform.envs.external import GymnasiumEnv, Workers
from rl_platform.envs.render import policy_frames
from rl_platform.errors import NonFiniteError, UserError
from rl_platform.evaluate import evaluate, report

ROOT = Path(__file__).parents[2]
OWN = ("env.id=tests/Counter-v0", "env.import=tests.own_environments")
CLASSIC = ["CartPole-v1", "Pendulum-v1", "MountainCarContinuous-v0", "Acrobot-v1"]


def make(*overrides: str, num_envs: int = 4, seed: int = 3, env_offset: int = 0) -> GymnasiumEnv:
    config = typed("env", compose(["env=gymnasium", "env.vectorization=sync", *overrides]).env)
    return GymnasiumEnv(config, num_envs=num_envs, seed=seed, env_offset=env_offset)


def actions(env: GymnasiumEnv, steps: int, seed: int = 0) -> torch.Tensor:
    """`(steps, num_envs, action_dim)` of every kind."""
    generator = torch.Generator().manual_seed(seed)
    if env.num_choices:
        shape = (steps, env.num_envs, 1)
        return torch.randint(0, env.num_choices, shape, generator=generator).float()
    return 3.0 * torch.rand(steps, env.num_envs, env.action_dim, generator=generator) - 1.5


def rollout(env: GymnasiumEnv, steps: int, seed: int = 0) -> torch.Tensor:
    return torch.stack([env.step(action)[0]["policy"] for action in actions(env, steps, seed)])


def choose(env: GymnasiumEnv, choice: int) -> torch.Tensor:
    return torch.full((env.num_envs, 1), float(choice))


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    assert not [p for p in multiprocessing.active_children() if "Workers" in p.name]


@pytest.mark.parametrize("env_id", CLASSIC)
def test_contract(env_id: str) -> None:
    env = make(f"env.id={env_id}", "env.max_episode_steps=20")
    obs = env.reset(seed=1)
    single = gymnasium.make(env_id)
    assert isinstance(single.observation_space, spaces.Box)
    assert env.observation_dims == {"policy": single.observation_space.shape[0]}
    assert env.max_episode_steps == 20
    assert env.step_dt == pytest.approx(1 / single.metadata["render_fps"])
    ended = 0
    for action in actions(env, 45):
        obs, reward, terminated, truncated, info = env.step(action)
        assert obs["policy"].shape == (4, env.observation_dims["policy"])
        assert obs["policy"].dtype == reward.dtype == torch.float32
        assert terminated.dtype == truncated.dtype == torch.bool
        assert not (terminated & truncated).any()
        torch.testing.assert_close(reward, sum(info["rewards"].values()))
        done = terminated | truncated
        ended += int(done.sum())
        assert torch.equal(obs["policy"][~done], info["final_obs"]["policy"][~done])
        assert not done.any() or not torch.equal(obs["policy"][done], info["final_obs"]["policy"][done])
        assert info["success"] is None
    log = env.episode_log()
    assert log["Train/episodes"] == ended > 0
    assert "Train/success_rate" not in log
    assert log["Episode_Reward/reward"] == log["Train/mean_reward"]
    assert log["Episode_Termination/time_out"] + log["Episode_Termination/terminated"] == 1.0
    assert env.episode_log() == {}


def test_continuous_actions_span_the_environments_bounds() -> None:
    env = make("env.id=Pendulum-v1", num_envs=3)
    assert (env.action_dim, env.num_choices) == (1, None)
    assert (env.action_low.item(), env.action_high.item()) == (-1.0, 1.0)
    given = env._for_environments(torch.tensor([[-1.0], [0.5], [7.0]]))
    assert given.tolist() == [[-2.0], [1.0], [2.0]]  # Pendulum's torque is within 2 N m


def test_choices_begin_where_the_environments_do() -> None:
    env = make(*OWN)
    assert (env.action_dim, env.num_choices) == (1, 3)
    env.reset()
    assert env.step(choose(env, 2))[1].tolist() == [7.0] * 4


def test_a_dict_is_flattened_as_gymnasium_does() -> None:
    env = make(*OWN, num_envs=1)
    obs = env.reset(seed=5)["policy"][0].numpy()
    single = gymnasium.wrappers.FlattenObservation(gymnasium.make("tests/Counter-v0"))
    expected, _ = single.reset(seed=env._seed_of(0))
    np.testing.assert_array_equal(obs, expected.astype(np.float32))


def test_a_time_out_is_a_truncation_with_the_true_last_observation() -> None:
    """Although the environment overwrites its own observation when it starts the next episode."""
    env = make(*OWN)
    env.reset()
    for _ in range(5):
        assert not env.step(choose(env, 0))[3].any()
    obs, _, terminated, truncated, info = env.step(choose(env, 0))
    assert truncated.all()
    assert not terminated.any()
    assert info["final_obs"]["policy"][:, 0].tolist() == [6.0] * 4
    assert obs["policy"][:, 0].tolist() == [0.0] * 4
    log = env.episode_log()
    assert log["Train/mean_episode_length"] == 6.0
    assert log["Episode_Termination/time_out"] == 1.0
    assert log["Train/mean_reward"] == 30.0


def test_success_and_metrics_are_those_of_the_episodes_end() -> None:
    env = make(*OWN, "env.metrics=[distance]")
    env.reset()
    action = torch.tensor([[2.0], [0.0], [2.0], [0.0]])
    for _ in range(6):
        *_, info = env.step(action)
    assert info["success"].tolist() == [True, False, True, False]
    assert info["metrics"]["distance"].tolist() == [3.0] * 4
    log = env.episode_log()
    assert log["Train/success_rate"] == 0.5
    assert log["Metrics/distance"] == 3.0


def test_a_metric_that_is_not_there_is_named() -> None:
    env = make(*OWN, "env.metrics=[distnace]")
    env.reset()
    with pytest.raises(UserError, match="has no distnace at an episode's end; it has distance, text"):
        rollout(env, 7)


def test_evaluation_scores_by_return_where_nobody_tells_success() -> None:
    quiet, telling = make(*OWN, "env.kwargs.tells_success=false"), make(*OWN)
    result = evaluate(quiet, lambda obs: torch.full((4, 1), 2.0), episodes=6, seed=0)
    assert "success_rate" not in result
    assert result["return_mean"] == 42.0
    assert report(result).startswith("return")
    result = evaluate(telling, lambda obs: torch.full((4, 1), 2.0), episodes=6, seed=0)
    assert result["success_rate"] == 1.0


def test_seeds_belong_to_global_indices() -> None:
    whole, part = make(*OWN, num_envs=6), make(*OWN, num_envs=2, env_offset=4)
    assert torch.equal(whole.reset(seed=1)["policy"][4:], part.reset(seed=1)["policy"])
    first = whole.reset(seed=1)["policy"]
    assert len(first.unique(dim=0)) == 6
    assert torch.equal(first, whole.reset(seed=1)["policy"])
    assert not torch.equal(first, whole.reset()["policy"])
    assert not torch.equal(first, whole.reset(seed=2)["policy"])


def test_processes_give_the_same_episodes_as_one() -> None:
    """A module of the user's own is imported in each of them."""
    with closing(make(*OWN, "env.vectorization=async", num_envs=3)) as apart:
        assert isinstance(apart._venv, Workers)
        together = make(*OWN, num_envs=3)
        assert torch.equal(apart.reset(seed=2)["policy"], together.reset(seed=2)["policy"])
        assert torch.equal(rollout(apart, 20), rollout(together, 20))
        assert apart.episode_log() == together.episode_log()


@pytest.mark.parametrize("vectorization", ["async", "sync"])
def test_an_error_is_told_with_its_traceback(vectorization: str, capfd: Any) -> None:
    with closing(make(*OWN, "env.kwargs.fail_at=3", f"env.vectorization={vectorization}", num_envs=2)) as env:
        env.reset()
        with pytest.raises(UserError) as caught:
            rollout(env, 5)
    told = str(caught.value)
    assert "env.id=tests/Counter-v0: environment" in told
    assert "failed in step 3" in told
    assert 'raise ValueError("the wheel came off")' in told
    assert "own_environments.py" in told
    assert capfd.readouterr().err == ""


def test_a_process_that_dies_is_named() -> None:
    with closing(make(*OWN, "env.kwargs.die_at=2", "env.vectorization=async", num_envs=2)) as env:
        env.reset()
        with pytest.raises(UserError, match=r"process of environment .*\(exit status 7\).* ended"):
            rollout(env, 3)


def test_a_process_that_is_killed_is_named() -> None:
    with closing(make(*OWN, "env.vectorization=async", num_envs=2)) as env:
        env.reset()
        assert isinstance(env._venv, Workers)
        env._venv.processes[1].kill()
        with pytest.raises(UserError, match=r"process of environment 1 \(killed by signal 9\) ended"):
            rollout(env, 2)


def test_processes_leave_signals_to_the_trainer() -> None:
    """Ctrl-C, and a scheduler's request, reach every process of the job; the trainer still saves."""
    with closing(make(*OWN, "env.vectorization=async", num_envs=2)) as env:
        env.reset()
        assert isinstance(env._venv, Workers)
        for process in env._venv.processes:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
                os.kill(process.pid or 0, number)
        rollout(env, 3)


SCRIPT = """
import os, signal, sys
from tests.envs.test_external import make, OWN
if __name__ == "__main__":
    env = make(*OWN, "env.vectorization=async", num_envs=2)
    env.reset()
    print(*[process.pid for process in env._venv.processes], flush=True)
    if sys.argv[1] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("how", ["kill", "forget"])
def test_no_process_outlives_a_trainer_that_did_not_close_them(how: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, script, how], env=environment, capture_output=True, text=True, timeout=60
    )
    pids = [int(word) for word in done.stdout.split()]
    assert len(pids) == 2
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_nan_is_named() -> None:
    env = make(*OWN, "env.kwargs.nan_at=2")
    env.reset()
    with pytest.raises(NonFiniteError, match="reward of tests/Counter-v0 is not finite in environment 0"):
        rollout(env, 3)
    env.reset()
    with pytest.raises(NonFiniteError, match="policy's action is not finite in environment 1"):
        env.step(torch.tensor([[0.0], [float("nan")], [0.0], [0.0]]))


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["env.id=CartPol-v1"], "did you mean CartPole-v1"),
        (["env.id=cartpole"], "did you mean CartPole-v1"),
        (["env.id=CartPole-v9"], "did you mean CartPole-v1"),
        (["env.import=no_such_module"], "env.import: there is no module no_such_module"),
        (["env.num_envs=0"], "env.num_envs: must be at least 1"),
        (["env.vectorization=forked"], "one of async, sync"),
        (["env.kwargs.render_mode=human"], "env.kwargs.render_mode: is not the environment's"),
        (["env.kwarg.x=1"], "there is no key env.kwarg.x"),
        (["env.improt=x"], "did you mean env.import=x"),
    ],
)
def test_mistakes_are_told_before_anything_starts(overrides: list[str], told: str) -> None:
    with pytest.raises(UserError) as caught:
        compose(["env=gymnasium", *overrides])
    assert told in str(caught.value)


def test_a_module_with_a_mistake_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_module.py").write_text("import no_such_dependency\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="importing broken_module failed: No module named 'no_such_dep"):
        compose(["env=gymnasium", "env.import=broken_module"])


def test_wrong_arguments_are_told_with_those_that_there_are() -> None:
    with pytest.raises(UserError) as caught:
        make(*OWN, "env.kwargs.fail_att=3")
    assert "env.id=tests/Counter-v0 cannot be made with env.kwargs={fail_att: 3}" in str(caught.value)
    assert "its constructor takes fail_at, die_at, nan_at, tells_success" in str(caught.value)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def make_nothing(*_: Any, **__: Any) -> None:
        raise gymnasium.error.DependencyNotInstalled(
            "Box2D is not installed, run `pip install gymnasium[box2d]`"
        )

    monkeypatch.setattr(gymnasium, "make", make_nothing)
    with pytest.raises(UserError, match="needs a package that is not installed: Box2D"):
        make("env.id=CartPole-v1")


BOX, CHOICE = spaces.Box(-1.0, 1.0, (2,)), spaces.Discrete(2)


@pytest.mark.parametrize(
    ("observation", "action", "told"),
    [
        (spaces.Box(0, 255, (84, 84, 3), np.uint8), CHOICE, r"is an image, \(84, 84, 3\): images are not"),
        (spaces.Dict(x=BOX, eye=spaces.Box(0, 255, (8, 8), np.uint8)), CHOICE, "is an image in eye"),
        (spaces.Sequence(BOX), CHOICE, "has no fixed size"),
        (BOX, spaces.MultiDiscrete([2, 3]), "supported are Discrete, and Box of floats"),
        (BOX, spaces.Box(-np.inf, np.inf, (2,)), "no finite bounds"),
    ],
)
def test_spaces_that_are_not_supported(observation: Any, action: Any, told: str) -> None:
    config = typed("env", compose(["env=gymnasium", "env.vectorization=sync", *OWN]).env)
    config.id, config.kwargs = "tests/Spaces-v0", {"observation_space": observation, "action_space": action}
    with pytest.raises(UserError, match=told):
        GymnasiumEnv(config, num_envs=1, seed=0)


@pytest.mark.parametrize(
    ("observation", "size"),
    [
        (spaces.Discrete(4), 4),
        (spaces.Box(-1.0, 1.0, (2, 3)), 6),
        (spaces.Tuple([BOX, spaces.MultiBinary(3)]), 5),
    ],
)
def test_spaces_that_are_flattened(observation: Any, size: int) -> None:
    config = typed("env", compose(["env=gymnasium", "env.vectorization=sync", *OWN]).env)
    action = spaces.Box(-1.0, 2.0, (2, 2))
    config.id, config.kwargs = "tests/Spaces-v0", {"observation_space": observation, "action_space": action}
    env = GymnasiumEnv(config, num_envs=2, seed=0)
    assert env.reset()["policy"].shape == (2, size)
    assert env.action_dim == 4
    assert env.max_episode_steps is None
    rollout(env, 2)


def test_pictures_are_the_environments_own() -> None:
    cfg = compose(["env=gymnasium", *OWN])
    env = build_env(cfg, num_envs=1, seed=0, num_threads=1)
    frames = list(policy_frames(env, lambda obs: torch.zeros(1, 1), 8, seed=1))
    env.close()
    assert [int(frame[0, 0, 0]) for frame in frames] == [0, 10, 20, 30, 40, 50, 0, 10]
    assert frames[0].shape == (48, 64, 3)


def test_what_cannot_be_drawn_says_so() -> None:
    env = make(*OWN, num_envs=1)
    with pytest.raises(UserError, match=r"no window: .* has no render mode human"):
        env.viewer()


def test_a_resumed_environment_starts_episodes_that_were_not_seen() -> None:
    env = make(*OWN)
    first = env.reset()["policy"]
    rollout(env, 9)
    saved = env.state_dict()
    again, twin = make(*OWN), make(*OWN)
    again.load_state_dict(saved)
    twin.load_state_dict(saved)
    assert not again.exact_resume
    start = again.reset()["policy"]
    assert start[:, 0].tolist() == [0.0] * 4
    assert not torch.equal(start, first)
    assert torch.equal(start, twin.reset()["policy"])
