"""Agents of other libraries learn in our loop, with our numbers by their names."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import math
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

import run
from rl_platform import config, distributed, multirun, registry, seeding
from rl_platform.agents import library
from rl_platform.algos.ppo import PPO, PPOConfig, make_ppo
from rl_platform.commands import eval as eval_command
from rl_platform.composition import Composer
from rl_platform.errors import UserError
from rl_platform.models.actor_critic import ActorConfig, ActorCriticConfig
from rl_platform.models.mlp import MLPConfig
from rl_platform.run_dir import RunDir, list_runs
from rl_platform.threads import torch_threads
from rl_platform.trainer import Trainer
from tests.algos.helpers import NUMBERS
from tests.fakes import MemoryLogger, MemoryRunDir, PointMass, session
from tests.test_resume import differences, metrics

PACKAGES = {"rl_games": "rl_games", "rsl_rl": "rsl_rl", "sb3": "stable_baselines3", "skrl": "skrl"}
NAMES = tuple(PACKAGES)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def module_of(name: str) -> ModuleType:
    return registry.load("agent", name)


def settings(name: str, normalize_obs: bool = True, **changes: Any) -> SimpleNamespace:
    """A configuration that an agent can do with, all else as asked for."""
    actor = ActorConfig([16], "tanh", std_type="log", init_std=0.5, min_std=0.05, max_std=2.0)
    agent = ActorCriticConfig(name, actor, MLPConfig([16, 8], "elu"), normalize_obs, False, False)
    ours = {"normalize_value": False, "bounds_loss_coef": 0.0}
    own = {"lr_schedule": "fixed", "normalize_advantage": "minibatch"} if name == "sb3" else {}
    return SimpleNamespace(
        agent=agent, algo=PPOConfig(**(NUMBERS | ours | own | changes)), num_threads=1, seed=0
    )


def built(name: str, env: Any, **changes: Any) -> Any:
    return module_of(name).make_agent(settings(name, **changes), env, env.num_envs).algo


class Privileged(PointMass):
    """Its critic sees one column more than its policy."""

    def __init__(self, num_envs: int = 4) -> None:
        super().__init__(num_envs)
        self.observation_dims = {"policy": 3, "critic": 4}

    def _observe(self) -> dict[str, Tensor]:
        seen = super()._observe()["policy"]
        return {"policy": seen, "critic": torch.cat([seen, self.returns[:, None]], 1)}


def trainer(
    name: str, path: Path, num_envs: int = 8, seed: int = 1, privileged: bool = True, **changes: Any
) -> Trainer:
    seeding.seed_everything(seed)
    env = (Privileged if privileged else PointMass)(num_envs)
    numbers = {k: changes.pop(k) for k in list(changes) if k in NUMBERS}
    return Trainer(env, built(name, env, **numbers), session(path, **changes))


def test_without_the_library_everything_else_works() -> None:
    code = (
        f"import sys; {''.join(f'import rl_platform.agents.{n};' for n in NAMES)} print(sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not [package for package in PACKAGES.values() if f"'{package}'" in done.stdout]


def test_a_missing_library_says_what_to_install(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(module: str) -> ModuleType:
        raise ModuleNotFoundError(f"No module named '{module}'", name=module.split(".")[0])

    monkeypatch.setattr(importlib, "import_module", nothing)
    with pytest.raises(UserError, match=rf"agent={name} needs the package .*pip install "):
        library.require(name, PACKAGES[name])


def test_several_ranks_are_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    with pytest.raises(UserError, match=f"agent={name} trains on one rank"):
        built(name, PointMass())


def test_it_learns_to_reach_the_origin(name: str, tmp_path: Path) -> None:
    one = trainer(name, tmp_path, num_envs=64, max_iterations=40, learning_rate=3e-3, ent_coef=0.0)
    one.fit()
    rows = [row for _, row in one.session.loggers.rows if "Train/mean_reward" in row]  # type: ignore[attr-defined]
    assert rows[-1]["Train/mean_reward"] > 0.6 * rows[0]["Train/mean_reward"]  # negative distances
    for key in ("Loss/surrogate", "Loss/value", "Loss/learning_rate", "Policy/mean_noise_std"):
        assert math.isfinite(rows[-1][key]), key
    assert rows[-1]["Policy/mean_noise_std"] < rows[0]["Policy/mean_noise_std"]


@pytest.mark.parametrize("privileged", [True, False])
@pytest.mark.parametrize("schedule", ["adaptive", "linear"])
def test_interrupted_and_resumed_is_the_same_training(
    name: str, schedule: str, privileged: bool, tmp_path: Path
) -> None:
    """With the checkpoint through a file that only tensors may be in."""
    changes: dict[str, Any] = {
        "lr_schedule": "fixed" if (name, schedule) == ("sb3", "adaptive") else schedule,
        "normalize_reward": name == "sb3",
        "normalize_value": name in ("rl_games", "skrl"),
        "learning_rate": 3e-3,  # the adaptive rate has left it at the interruption
        "privileged": privileged,
    }
    for part in ("whole", "parts"):
        (tmp_path / part).mkdir()
    whole = trainer(name, tmp_path / "whole", max_iterations=8, **changes)
    whole.fit()
    first = trainer(name, tmp_path / "parts", max_iterations=8, **changes)
    requests = first.session.run_dir.stop_requests  # type: ignore[attr-defined]
    first.session.on_step = lambda: requests.append("half") if first.iteration == 3 else None
    assert first.fit().reason == "half"
    assert first.iteration == 4
    second = trainer(name, tmp_path / "parts", max_iterations=8, seed=7, **changes)
    second.load_state_dict(MemoryRunDir(tmp_path / "parts").load_checkpoint())
    second.fit()
    states = [MemoryRunDir(tmp_path / part).load_checkpoint() for part in ("whole", "parts")]
    assert differences(states[0], states[1]) == []
    rows = [metrics(one.session.loggers) for one in (whole, first, second)]
    assert rows[1] + rows[2] == rows[0]
    if schedule == "linear":
        rates = [row["Loss/learning_rate"] for _, row in rows[0]]
        assert rates == pytest.approx([3e-3 * (1 - i / 8) for i in range(8)])


def test_the_exported_policy_is_the_evaluated_one(name: str, tmp_path: Path) -> None:
    one = trainer(name, tmp_path, max_iterations=3)
    one.fit()
    obs = {"policy": torch.randn(20, 3)}
    module = copy.deepcopy(one.algo.policy_module()).requires_grad_(False)
    expected = one.algo.policy(obs)
    assert expected.shape == (20, 2)
    traced: Any = torch.jit.trace(module, obs["policy"][:2])
    assert torch.equal(traced(obs["policy"]), expected)
    fresh = trainer(name, tmp_path, seed=5).algo
    assert not torch.equal(fresh.policy(obs), expected)
    fresh.load_model(one.algo.state_dict()["model"])
    assert torch.equal(fresh.policy(obs), expected)


def first_reward(name: str, algo: Any) -> Tensor:
    """The first step's reward of each environment as the library keeps it."""
    if name == "rl_games":
        return algo._agent.experience_buffer.tensor_dict["rewards"][0, :, 0]
    if name == "rsl_rl":
        return algo._ppo.storage.rewards[0, :, 0]
    if name == "sb3":
        return torch.from_numpy(algo._ppo.rollout_buffer.rewards[0].copy())
    return algo._ppo.memory.tensors["rewards"][0, :, 0]


def value(name: str, algo: Any, obs: Tensor) -> Tensor:
    """V(s), (n,), by the library's critic."""
    with torch.no_grad():
        if name == "rl_games":
            return algo._agent.get_values({"obs": obs})[:, 0]
        if name == "rsl_rl":
            return algo._ppo.critic(algo._seen({"policy": obs}))[:, 0]
        if name == "sb3":
            return algo._ppo.policy.predict_values(algo.normalizer(obs))[:, 0]
        return algo._ppo.value.act({"observations": obs})[0][:, 0]


@pytest.mark.parametrize("bootstrap", [True, False])
def test_what_a_truncated_episode_is_worth(name: str, bootstrap: bool) -> None:
    """SB3 and skrl add γ V of the true last observation, RL-Games and RSL-RL that of the one before it."""
    algo = built(name, PointMass(3), bootstrap_truncated=bootstrap, normalize_obs=False, reward_scale=2.0)
    obs, final = torch.randn(3, 3), torch.randn(3, 3)
    algo.act({"policy": obs})
    reward = torch.tensor([1.0, 2.0, 3.0])
    terminated, truncated = torch.tensor([False, True, False]), torch.tensor([False, False, True])
    algo.observe(reward, terminated, truncated, {"policy": final})
    expected = 2.0 * reward
    if bootstrap:
        last = obs if name in ("rl_games", "rsl_rl") else final
        expected[2] += NUMBERS["gamma"] * value(name, algo, last)[2]
    assert torch.allclose(first_reward(name, algo), expected, atol=1e-6)
    assert torch.equal(reward, torch.tensor([1.0, 2.0, 3.0]))


def test_an_episode_ends_the_sum_whichever_way(name: str) -> None:
    """What comes after an end, and there is much of it, is not in the return before it."""
    for how in ("terminated", "truncated"):
        algo = built(name, PointMass(2), bootstrap_truncated=False, normalize_obs=False, gae_lambda=1.0)
        never, first = torch.zeros(2, dtype=torch.bool), torch.tensor([True, False])
        for step in range(algo.rollout_steps):
            obs = {"policy": torch.randn(2, 3)}
            algo.act(obs)
            ends = {"terminated": never, "truncated": never} | ({how: first} if step == 0 else {})
            algo.observe(torch.full((2,), 1.0 if step == 0 else 100.0), **ends, final_obs=obs)
        returns = returned(name, algo, obs)
        assert float(returns[0, 0]) == pytest.approx(1.0, abs=1e-4), how
        assert float(returns[0, 1]) > 100.0


def returned(name: str, algo: Any, obs: dict[str, Tensor]) -> Tensor:
    """The returns that the critic learns, (steps, num_envs)."""
    if name == "rl_games":
        agent = algo._agent
        agent.obs = algo._seen(obs)
        return agent.play_steps()["returns"].view(-1, algo.rollout_steps).T
    if name == "rsl_rl":
        storage = algo._ppo.storage
        keep: list[Tensor] = []
        clear = storage.clear

        def cleared() -> None:
            keep.append(storage.returns[..., 0].clone())
            clear()

        storage.clear = cleared
        algo.update(obs)
        return keep[0]
    if name == "sb3":
        buffer = algo._ppo.rollout_buffer
        compute = buffer.compute_returns_and_advantage
        keep = []

        def computed(*args: Any) -> None:
            compute(*args)
            keep.append(torch.from_numpy(buffer.returns.copy()))

        buffer.compute_returns_and_advantage = computed
        algo.update(obs)
        return keep[0]
    algo.update(obs)
    return algo._ppo.memory.tensors["returns"][..., 0]


def networks(name: str, algo: Any) -> tuple[list[nn.Parameter], list[nn.Parameter], nn.Parameter]:
    """Weights of the actor and of the critic, layer by layer, and log σ."""
    if name == "rl_games":
        net = algo._agent.model.a2c_network
        actor = [*net.actor_mlp.parameters(), *net.mu.parameters()]
        if algo._central is not None:
            of_value = algo._central.model.a2c_network
            return actor, [*of_value.actor_mlp.parameters(), *of_value.value.parameters()], net.sigma
        return actor, [*net.critic_mlp.parameters(), *net.value.parameters()], net.sigma
    ppo = algo._ppo
    if name == "rsl_rl":
        return (
            list(ppo.actor.mlp.parameters()),
            list(ppo.critic.mlp.parameters()),
            ppo.actor.distribution.log_std_param,
        )
    if name == "sb3":
        policy = ppo.policy
        actor = [*policy.mlp_extractor.policy_net.parameters(), *policy.action_net.parameters()]
        critic = [*policy.mlp_extractor.value_net.parameters(), *policy.value_net.parameters()]
        return actor, critic, policy.log_std
    return list(ppo.policy.network.parameters()), list(ppo.value.network.parameters()), ppo.policy.log_std


def native_like(name: str, algo: Any, cfg: SimpleNamespace, env: Any) -> PPO:
    """Our PPO with the numbers and weights of a library's."""
    ours = make_ppo(cfg.agent, cfg.algo, env.observation_dims, env.action_dim, env.num_envs, "cpu", seed=0)
    actor, critic, log_std = networks(name, algo)
    with torch.no_grad():
        for mlp, theirs in ((ours.model.actor, actor), (ours.model.critic, critic)):
            for mine, other in zip(mlp.parameters(), theirs, strict=True):
                mine.copy_(other)
        ours.model.std_parameter.copy_(log_std)
    ours.vector.refresh()
    return ours


def test_the_same_numbers_have_the_same_meaning(name: str) -> None:
    """One step on one rollout has our gradients: advantages, clipping, the losses' weights, V's target."""
    bounds = 0.0 if "algo.bounds_loss_coef" in module_of(name).ONLY else 0.3
    cfg = settings(
        name, normalize_obs=False, update_epochs=1, num_minibatches=1, lr_schedule="fixed", ent_coef=0.02,
        vf_coef=0.7, max_grad_norm=1e6, reward_scale=0.5, bounds_loss_coef=bounds,
        normalize_advantage="minibatch" if name == "sb3" else "batch",
    )  # fmt: skip
    env = PointMass(60)  # of how many a deviation is, n or n - 1, hardly matters then
    seeding.seed_everything(3)
    theirs = module_of(name).make_agent(cfg, env, env.num_envs).algo
    networks(name, theirs)[0][-2].data.mul_(3.0)  # some mean actions are beyond 1.1
    ours = native_like(name, theirs, cfg, env)
    generator = torch.Generator().manual_seed(1)
    never = torch.zeros(60, dtype=torch.bool)
    for step in range(cfg.algo.rollout_steps):
        obs = {"policy": torch.randn(60, 3, generator=generator)}
        action = theirs.act(obs)
        with torch.no_grad():
            out = ours.actor.forward(obs["policy"])
            ours.buffer.add_action(obs, action, out)
        reward = -(action - 0.3).square().sum(1)
        ended = torch.rand(60, generator=generator) < 0.2 if step else never
        for algo in (ours, theirs):
            algo.observe(reward.clone(), ended, never, obs)
    last = {"policy": torch.randn(60, 3, generator=generator)}
    losses = [algo.update(last) for algo in (ours, theirs)]
    actor, critic, log_std = networks(name, theirs)
    mine = [*ours.model.actor.parameters(), *ours.model.critic.parameters(), ours.model.std_parameter]
    for parameter, other in zip(mine, [*actor, *critic, log_std], strict=True):
        grad = ours.vector.master(parameter)[1]
        assert other.grad is not None
        assert torch.allclose(grad, other.grad, rtol=5e-3, atol=1e-5), (grad, other.grad)
    assert losses[1]["Loss/value"] == pytest.approx(losses[0]["Loss/value"], rel=1e-3)
    assert losses[1]["Loss/entropy"] == pytest.approx(losses[0]["Loss/entropy"], rel=1e-3)
    assert losses[1]["Loss/learning_rate"] == pytest.approx(cfg.algo.learning_rate)
    if bounds:
        assert losses[0]["Loss/bounds"] > 0.01
        assert losses[1]["Loss/bounds"] == pytest.approx(losses[0]["Loss/bounds"], rel=1e-3)


def test_the_noise_begins_as_configured(name: str) -> None:
    _, _, log_std = networks(name, built(name, PointMass()))
    assert log_std.exp().tolist() == pytest.approx([0.5, 0.5])


def test_the_critic_reads_what_is_privileged() -> None:
    for name, columns in (("rl_games", 4), ("rsl_rl", 4), ("skrl", 4), ("sb3", 3)):
        _, critic, _ = networks(name, built(name, Privileged()))
        assert critic[0].shape[1] == columns, name


def test_choices(name: str) -> None:
    env = PointMass(4)
    env.num_choices, env.action_dim = 3, 1
    if name == "rsl_rl":
        with pytest.raises(UserError, match="agent=rsl_rl has continuous actions only"):
            built(name, env)
        return
    algo = built(name, env)
    for _ in range(algo.rollout_steps):
        obs = {"policy": torch.randn(4, 3)}
        action = algo.act(obs)
        assert action.shape == (4, 1)
        assert set(action.flatten().tolist()) <= {0.0, 1.0, 2.0}
        algo.observe(torch.zeros(4), *torch.zeros(2, 4, dtype=torch.bool), obs)
    algo.update(obs)
    assert set(algo.policy(obs).flatten().tolist()) <= {0.0, 1.0, 2.0}


def test_torch_threads_are_put_back() -> None:
    before = torch.get_num_threads()
    with pytest.raises(KeyError), torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise KeyError
    assert torch.get_num_threads() == before


@pytest.fixture(scope="module")
def composer() -> Composer:
    return Composer()


def test_what_an_agent_has_not_is_off(name: str, composer: Composer) -> None:
    """The settings of a task are for our PPO; what another has not is not written down as if it had."""
    cfg = config.check_job(composer.compose(["env=half_cheetah", f"agent={name}"]))
    ours = config.check_job(composer.compose(["env=half_cheetah"]))
    assert ours.algo.recompute_advantage
    assert not cfg.algo.recompute_advantage
    for key in ("gamma", "gae_lambda", "update_epochs", "rollout_steps", "lr_schedule"):
        assert cfg.algo[key] == ours.algo[key], key
    assert config.check(cfg) == cfg


def test_what_is_typed_is_not_dropped(name: str, composer: Composer) -> None:
    for prefix in ("", "++"):
        job = composer.compose([f"agent={name}", f"{prefix}algo.noise_correlation=0.1"])
        with pytest.raises(UserError, match=rf"agent={name} has 0\.0 only, got 0\.1") as caught:
            config.check_job(job)
        assert "write algo.noise_correlation=0.0, or leave it out" in str(caught.value)
    jobs = composer.sweep([f"agent=ppo,{name}", "algo.noise_correlation=0.1"])
    found = [config.find_job_problems(job)[1] for job in jobs]
    assert [len(problems) for problems in found] == [0, 1]


def test_of_several_values_any_may_be_typed(composer: Composer) -> None:
    cfg = config.check_job(composer.compose(["agent=rsl_rl", "algo.normalize_advantage=minibatch"]))
    assert cfg.algo.normalize_advantage == "minibatch"
    with pytest.raises(UserError, match="agent=sb3 has fixed or linear only, got adaptive"):
        config.check_job(composer.compose(["agent=sb3", "algo.lr_schedule=adaptive"]))


def test_what_is_shown_is_what_is_done(composer: Composer, capsys: pytest.CaptureFixture[str]) -> None:
    """`--cfg job` has the settings that the run will have, and checking a job tells of them."""
    words = ["env=cartpole", "agent=sb3"]
    assert run.main([*words, "--cfg", "job", "--resolve"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    (cfg,) = multirun.check_jobs([composer.compose(words)])
    assert (printed["algo"], printed["agent"]) == (cfg["algo"], cfg["agent"])
    assert printed["algo"]["lr_schedule"] == "fixed"
    told = capsys.readouterr().out
    assert "agent=sb3 has not all of these settings: " in told
    assert "algo.lr_schedule adaptive → fixed" in told
    assert "algo.bounds_loss_coef" not in told  # cartpole has none anyway
    multirun.check_jobs([composer.compose(["env=cartpole"])])
    assert capsys.readouterr().out == ""


def test_a_missing_library_is_told_before_anything_starts(
    name: str, composer: Composer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None)
    with pytest.raises(UserError, match=f"agent: {name} needs the package {PACKAGES[name]}") as caught:
        config.check_job(composer.compose([f"agent={name}"]))
    extra = name.replace("_", "-")
    assert f"pip install -c constraints.txt -e '.[{extra}]'" in str(caught.value)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert extra in project["optional-dependencies"]


def test_several_ranks_are_refused_before_anything_starts(name: str, composer: Composer) -> None:
    words = [f"agent={name}", "launcher=distributed", "launcher.num_processes=2"]
    with pytest.raises(UserError, match=f"agent={name} trains on one rank, got 2"):
        config.check_job(composer.compose(words))


@pytest.mark.slow
def test_a_whole_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Train, resume, evaluate and export, as a user types it."""
    monkeypatch.chdir(tmp_path)
    words = ["env=cartpole", f"agent={name}", "env.num_envs=8", "total_env_steps=null", "video=false"]
    short = ["eval.episodes=8", "eval.num_envs=8", "max_iterations=3"]
    assert run.main([*words, *short]) == 0
    told = capfd.readouterr().out
    assert f"agent    {name}, " in told
    assert (f"agent={name} has not all of these settings: " in told) is (name not in ("rl_games", "skrl"))
    (path,) = [one.path for one in list_runs(Path("outputs"))]
    assert path.parent == Path("outputs/cartpole") / name
    versions = RunDir.open(path).read_state()["versions"]
    package = {"rl_games": "rl-games", "rsl_rl": "rsl-rl-lib", "sb3": "stable-baselines3", "skrl": "skrl"}
    assert package[name] in versions
    assert run.main([f"resume={path}", "max_iterations=5"]) == 0
    assert RunDir.open(path).read_state()["iteration"] == 5
    assert eval_command.main([str(path), "--episodes", "8", "--num-envs", "8", "--json"]) == 0
    assert run.main(["export", str(path), "--format", "torchscript"]) == 0
    assert len(list((path / "exported").glob("policy_*.pt"))) == 1
    assert [one.name for one in tmp_path.iterdir()] == ["outputs"]


def test_loggers_are_ours(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """No directory of the library's own appears, and nothing is printed."""
    monkeypatch.chdir(tmp_path)
    one = trainer(name, tmp_path, max_iterations=2)
    one.fit()
    assert capfd.readouterr().out == ""
    assert isinstance(one.session.loggers, MemoryLogger)
    assert {path.name for path in tmp_path.iterdir()} <= {"last.pt", "best.pt"}
