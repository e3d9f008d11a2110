"""The checker on schemas of its own, and what the command line gets to hear."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from rl_platform import conf_files, config, other_names, suggest
from rl_platform.composition import Composer, job_tag
from rl_platform.errors import UserError
from rl_platform.schema import Problem, nearest, shown, to_plain, validate


@dataclass
class Inner:
    sizes: list[int]
    mode: Literal["fast", "slow"]

    def check(self) -> Iterator[tuple[str, str]]:
        if any(size < 1 for size in self.sizes):
            yield "sizes", f"must be positive, got {self.sizes}"


@dataclass
class Outer:
    rate: float
    count: int
    flag: bool
    name: str
    limit: int | None
    pair: tuple[float, float]
    inner: Inner
    terms: dict[str, Any]

    def check(self) -> Iterator[tuple[str, str]]:
        if not 0.0 <= self.rate <= 1.0:
            yield "rate", f"must be in [0, 1], got {self.rate}"
        if (self.terms.get("a") or {}).get("weight", 0) > 10:
            yield "terms.a.weight", "must be at most 10"


GOOD: dict[str, Any] = {
    "rate": 0.5,
    "count": 3,
    "flag": True,
    "name": "x",
    "limit": None,
    "pair": [0.0, 1.0],
    "inner": {"sizes": [4, 4], "mode": "fast"},
    "terms": {"a": {"weight": 1.0, "on": True}, "b": None},
}


def problems(**changes: Any) -> list[Problem]:
    return validate(Outer, GOOD | changes, "top", GOOD)[1]


def test_good_values_build_the_dataclasses() -> None:
    instance, found = validate(Outer, GOOD, "top", GOOD)
    assert found == []
    assert instance.inner == Inner([4, 4], "fast")
    assert instance.pair == (0.0, 1.0)
    assert to_plain(instance) == GOOD


@pytest.mark.parametrize(
    ("key", "value", "kept"),
    [
        ("rate", 1, 1.0),
        ("count", 1e3, 1000),
        ("name", 7, "7"),
        ("limit", 2.0, 2),
        ("pair", (1, 2), (1.0, 2.0)),
    ],
)
def test_harmless_spellings_are_converted(key: str, value: Any, kept: Any) -> None:
    instance, found = validate(Outer, GOOD | {key: value})
    assert found == []
    assert getattr(instance, key) == kept
    assert type(getattr(instance, key)) is type(kept)


@pytest.mark.parametrize(
    ("changes", "key", "message"),
    [
        ({"rate": "1e-4x"}, "top.rate", "must be a number, got 1e-4x"),
        ({"rate": True}, "top.rate", "must be a number, got true"),
        ({"rate": float("nan")}, "top.rate", "must be a number, got nan"),
        ({"rate": 1.5}, "top.rate", "must be in [0, 1], got 1.5"),
        ({"count": 2.5}, "top.count", "must be a whole number, got 2.5"),
        ({"count": None}, "top.count", "must be a whole number, got null"),
        ({"flag": "true"}, "top.flag", "must be true or false, got true"),
        ({"flag": 1}, "top.flag", "must be true or false, got 1"),
        ({"name": None}, "top.name", "must be text, got null"),
        ({"limit": "none"}, "top.limit", "must be a whole number or null, got none"),
        ({"pair": [1.0]}, "top.pair", "must be a list of 2 values, got [1.0]"),
        ({"inner": 3}, "top.inner", "must hold keys and values, got 3"),
        ({"inner": {"sizes": [4], "mode": "fsat"}}, "top.inner.mode", "must be one of fast, slow, got fsat"),
        ({"inner": {"sizes": [0], "mode": "fast"}}, "top.inner.sizes", "must be positive, got [0]"),
        ({"terms": {"a": {"weight": "x"}}}, "top.terms.a.weight", "must be a number, got x"),
        ({"terms": {"a": 3}}, "top.terms.a", "must be keys and values, got 3"),
        ({"terms": {"a": {"on": 1}}}, "top.terms.a.on", "must be true or false, got 1"),
        ({"terms": {"a": {"weight": 11}}}, "top.terms.a.weight", "must be at most 10"),
    ],
)
def test_each_mistake_is_named(changes: dict[str, Any], key: str, message: str) -> None:
    (problem,) = problems(**changes)
    assert (problem.key, problem.message) == (key, message)


def test_unknown_and_missing_keys() -> None:
    unknown, missing = validate(
        Outer, {k: v for k, v in GOOD.items() if k != "count"} | {"cuont": 3}, "", GOOD
    )[1]
    assert unknown.key == "cuont"
    assert "did you mean count?" in unknown.hint
    assert missing.key == "count"
    assert missing.hint == "write count=3"


def test_all_mistakes_are_listed_together() -> None:
    """A wrong type does not hide a value out of range, in the same dataclass or another."""
    found = problems(count="x", rate=2, inner={"sizes": [-1], "mode": 3}, terms={"a": {"weight": 99}}, new=1)
    assert {problem.key for problem in found} == {
        "top.count",
        "top.rate",
        "top.inner.sizes",
        "top.inner.mode",
        "top.terms.a.weight",
        "top.new",
    }


def test_hints_say_what_to_type() -> None:
    (wrong,) = problems(inner={"sizes": [4], "mode": "fsat"})
    assert wrong.hint == "write for example top.inner.mode=fast"
    (out_of_range,) = problems(rate=-1)
    assert out_of_range.hint == "write for example top.rate=0.5"


def test_what_a_file_has_is_no_example() -> None:
    """A wrong value in a file of one's own is both what is asked for and the default."""
    wrong = GOOD | {"rate": "fast"}
    found = validate(Outer, wrong, "top", wrong)[1]
    assert [(problem.key, problem.hint) for problem in found] == [("top.rate", "")]


def test_a_term_can_be_switched_off_and_on() -> None:
    assert problems(terms={"a": None, "b": {"weight": 1.0}}) == []


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "sizes", "mode"]), inner)
    ),
    max_leaves=6,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from([*GOOD, "typo"]), VALUES))
def test_whatever_is_given_nothing_crashes_and_no_wrong_type_passes(changes: dict[str, Any]) -> None:
    instance, found = validate(Outer, GOOD | changes, "top", GOOD)
    assert found or isinstance(instance, Outer)
    if not found:
        assert validate(Outer, to_plain(instance), "top", GOOD) == (instance, [])


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "null"), (True, "true"), ([1, None], "[1,null]"), ({"a": 0.5}, "{a: 0.5}"), ("x", "x")],
)
def test_values_are_shown_as_one_types_them(value: Any, text: str) -> None:
    assert shown(value) == text


def test_nearest_needs_some_likeness() -> None:
    assert nearest("lfit", ["lift", "reach"]) == "lift"
    assert nearest("xyz", ["lift", "reach"]) is None


KEYS = {
    "env": {"num_envs": 1, "empty": {}, "term": None, "list": [1, 2]},
    "algo": {"learning_rate": 1, "gamma": 1, "num_minibatches": 4},
    "agent": {"actor": {"activation": "elu"}, "critic": {"activation": "elu"}},
    "eval": {"num_envs": 1, "seed": 1},
    "seed": 1,
    "max_iterations": 1,
    "device": "cpu",
    "resume": None,
}
GROUPS = {"env": ["lift", "reach"], "agent": ["ppo"], "algo": ["ppo"], "tuned": []}


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("num_envs=64", "write env.num_envs=64, or eval.num_envs=64"),
        ("lr=1e-3", "did you mean algo.learning_rate=1e-3?"),
        ("agent.learning_rate=1", "write algo.learning_rate=1"),
        ("algo.gama=0.9", "did you mean algo.gamma=0.9?"),
        ("+algo.gama=0.9", "did you mean algo.gamma=0.9?"),
        ("activation=relu", "write agent.actor.activation=relu, or agent.critic.activation=relu"),
        ("evall.seed=1", "write eval.seed=1"),
        ("max_iteration=5", "did you mean max_iterations=5?"),
        ("iterations=5", "did you mean max_iterations=5?"),
        ("gpu=1", "write device=cuda"),
        ("task=lift", "did you mean env=lift?"),
        ("agnt=ppo", "did you mean agent=ppo?"),
        ("checkpoint=x", "did you mean resume=x?"),
        ("task=nothing", "write env=NAME; there are lift, reach"),
        ("algo.gama=true", "did you mean algo.gamma=1?"),
        ("activation=[relu]", "write agent.actor.activation=elu, or agent.critic.activation=elu"),
        ("algo.gama=0.9,0.99", "did you mean algo.gamma=0.9,0.99?"),
        ("algo.gama=interval(0,1)", "did you mean algo.gamma=interval(0,1)?"),
        ("sigma_activatio=None", ""),
        ("zzzzzz=1", ""),
    ],
)
def test_unknown_keys_lead_to_the_right_one(override: str, hint: str) -> None:
    key = override.partition("=")[0].lstrip("+")
    problem = suggest.key(override, key, KEYS, GROUPS)
    assert problem.key == override
    assert problem.hint == hint


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("env.num_envs", 1),
        ("env.list.1", 2),
        ("env.list[0]", 1),
        ("resume", None),
        ("env.empty.x", suggest.OPEN),
        ("env.term.range.low", suggest.OPEN),
        ("env.list.2", suggest.ABSENT),
        ("env.nothing", suggest.ABSENT),
        ("nothing", suggest.ABSENT),
        ("seed.x", suggest.ABSENT),
    ],
)
def test_lookup(key: str, found: Any) -> None:
    assert suggest.lookup(KEYS, key) is found or suggest.lookup(KEYS, key) == found


@pytest.mark.parametrize(
    ("source", "tag"),
    [
        ([], ""),
        (["env=lift", "algo.gamma=0.9"], "_env=lift,gamma=0.9"),
        (
            ["seed=3", "launcher=slurm", "launcher.nodes=2", "+launcher.x=2", "launchers=1"],
            "_seed=3,launchers=1",
        ),
        (["~tuned", "++a.x='a b/c'"], "_x=-a-b-c"),
        (["agent.actor.hidden_sizes=[64,64]"], "_hidden_sizes=-64,64"),
        (["x=" + "y" * 200], "_x=" + "y" * 78),
        ("my run", "_my-run"),
        ("", ""),
    ],
)
def test_job_tag(source: Any, tag: str) -> None:
    assert job_tag(source, ["launcher"]) == tag
    assert job_tag(OmegaConf.create(source) if isinstance(source, list) else source, ["launcher"]) == tag


@pytest.fixture(scope="module")
def composer() -> Composer:
    return Composer(commands=["list", "eval"])


def refusal(composer: Composer, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        config.check_job(composer.compose(overrides))
    return str(caught.value)


def test_defaults_compose_and_check(composer: Composer) -> None:
    job = composer.compose([])
    cfg = config.check_job(job)
    assert cfg.seed == 42
    assert cfg.env.name == "lift"
    assert "hydra" not in cfg
    assert isinstance(cfg.algo.learning_rate, float)
    assert config.check(cfg) == cfg


@pytest.mark.parametrize(
    ("typed", "limits"),
    [
        ([], (None, 1_500_000, None)),
        (["max_iterations=12000"], (12000, None, None)),
        (["stop_after_s=60"], (None, None, 60.0)),
        (["stop_after_s=60", "total_env_steps=1000"], (None, 1000, 60.0)),
        (["max_iterations=null"], (None, 1_500_000, None)),
    ],
)
def test_a_typed_limit_takes_the_place_of_the_tuned_ones(
    composer: Composer, typed: list[str], limits: tuple[float | None, ...]
) -> None:
    cfg = config.check_job(composer.compose(["env=lift", *typed]))
    assert (cfg.max_iterations, cfg.total_env_steps, cfg.stop_after_s) == limits


@pytest.mark.parametrize("name", other_names.ALIASES)
def test_other_libraries_names_lead_to_a_key(composer: Composer, name: str) -> None:
    leaf = other_names.ALIASES[name]
    off_policy = f" {leaf}: " in conf_files.CONF_DIR.joinpath("algo/sac.yaml").read_text().replace(
        "\n", "\n "
    )
    agent = "sac" if off_policy and leaf not in composer.compose([]).defaults["algo"] else "ppo"
    told = refusal(composer, f"agent={agent}", f"{name}=1")
    assert re.search(rf"(write|did you mean) ([a-z_]+\.)*{leaf}=(1|true|NAME|\[[0-9,]+\])", told)


@pytest.mark.parametrize(
    ("overrides", "num_envs", "tuned"),
    [
        (["device=cuda"], 4096, "lift_ppo_gpu"),
        (["device=cuda:1", "env.num_envs=64"], 64, "lift_ppo_gpu"),
        (["device=cuda", "env.physics=cpu"], 256, "lift_ppo"),
        (["device=cuda", "tuned=lift_ppo"], 256, "lift_ppo"),
        (["device=cuda", "~tuned"], 512, None),
        (["device=cuda", "env=reach"], 256, "reach_ppo"),
        ([], 256, "lift_ppo"),
    ],
)
def test_where_a_gpu_simulates_its_own_settings_count(
    composer: Composer, overrides: list[str], num_envs: int, tuned: str | None
) -> None:
    job = composer.compose(["env=lift", *overrides])
    assert job.config.env.num_envs == num_envs
    assert job.config.algo.rollout_steps == (24 if tuned is None else 16)
    assert job.choices.get("tuned") == tuned


@pytest.mark.parametrize("key", ["env.warp.njmax", "env.warp.iterations", "env.physics"])
def test_what_may_be_null_can_be_set_to_null(composer: Composer, key: str) -> None:
    cfg = config.check_job(composer.compose(["env=lift", f"{key}=null"]))
    assert OmegaConf.select(cfg, key) is None
    with pytest.raises(UserError, match=r"env\.rewards\.reaching\.std: must be a number, got null"):
        config.check_job(composer.compose(["env=lift", "env.rewards.reaching.std=null"]))


def test_the_value_on_the_command_line_wins(composer: Composer) -> None:
    cfg = config.check_job(composer.compose(["seed=3", "algo.gamma=1", "max_iterations=1e2"]))
    assert (cfg.seed, cfg.algo.gamma, cfg.max_iterations) == (3, 1.0, 100)
    assert isinstance(cfg.algo.gamma, float)
    assert isinstance(cfg.max_iterations, int)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["env=lfit"], ["env=lfit: no such env; there are", "did you mean env=lift?"]),
        (["env=Isaac-Lift-Cube-Franka-v0"], ["did you mean env=lift_isaac?"]),
        (["env=Humanoid-v5"], ["did you mean env=humanoid_v5?"]),
        (["env=HalfCheetah-v4"], ["did you mean env=half_cheetah?"]),
        (["env=Isaac-Lift-Cube-Franka-Play-v0"], ["did you mean env=lift_isaac?"]),
        (["env=Isaac-Lift-Cube-Franka-IK-Rel-v0"], ["did you mean env=lift_isaac?"]),
        (["env=Isaac-Reach-Franka-IK-Abs-v0"], ["did you mean env=reach?"]),
        (["env=Isaac-Humanoid-Direct-v0"], ["did you mean env=humanoid?"]),
        (["env=Isaac-Cartpole-Direct-v0"], ["did you mean env=cartpole?"]),
        (["env=PandaPickCube"], ["did you mean env=lift?"]),
        (["task=PushCubeRL"], ["did you mean env=push_cube?"]),
        (["agent=SAC"], ["did you mean agent=sac?"]),
        (["algo=PPO"], ["did you mean algo=ppo?"]),
        (["algo=a2c_continuous"], ["did you mean algo=ppo?"]),
        (["experiment=mine"], ["no such experiment", "a run's own name is run_name=NAME"]),
        (["env=MountainCar-v0"], ["Any of Gymnasium's is env=gymnasium env.id=MountainCar-v0"]),
        (["lift_object"], ["write env=lift_isaac"]),
        (["minibatch_size=512"], ["write algo.num_minibatches=N"]),
        (["algo.minibatch_size=512"], ["write algo.num_minibatches=N"]),
        (["truncate_grads=true"], ["write algo.max_grad_norm=NUMBER"]),
        (["keep_checkpoints=None"], ["write for example keep_checkpoints=null"]),
        (["agent=lift"], ["no such agent", "lift is an option of env: write env=lift"]),
        (["num_envs=64"], ["there is no key num_envs", "write env.num_envs=64"]),
        (["+algo.gama=0.9"], ["+algo.gama=0.9: there is no key algo.gama", "did you mean algo.gamma=0.9?"]),
        (["++algo.gama=0.9"], ["there is no key algo.gama", "did you mean algo.gamma=0.9?"]),
        (["env.rewards.reachign.weight=2"], ["there is no key env.rewards.reachign.weight"]),
        (["+seed=3"], ["seed is there already", "write seed=3"]),
        (
            ["algo.learning_rate=1e-4x"],
            ["algo.learning_rate: must be a number, got 1e-4x", "write for example algo.learning_rate=0.0"],
        ),
        (["algo.gamma=true"], ["algo.gamma: must be a number, got true"]),
        (["algo.gamma=1.5"], ["algo.gamma: must be in [0, 1], got 1.5", "write for example algo.gamma=0.9"]),
        (["env.num_envs=0"], ["env.num_envs: must be at least 1, got 0"]),
        (["seed=-2"], ["seed: must be in [0, 4294967295], or -1 to draw one, got -2"]),
        (["stop_after_s=0"], ["stop_after_s: must be above 0 s"]),
        (["eval.episodes=0"], ["eval.episodes: must be at least 1, got 0"]),
        (
            ["env.num_envs=7", "algo.rollout_steps=3", "algo.num_minibatches=4"],
            ["3 x 7 = 21, got 4", "=3 or algo"],
        ),
        (["device=gpu"], ["device: must be cpu, cuda or cuda:N, got gpu", "write device=cuda"]),
        (["device=0"], ["device: must be cpu, cuda or cuda:N, got 0", "write device=cuda:0"]),
        (["device=1"], ["write device=cuda:1"]),
        (["algo.lr_schedule=constant"], ["write for example algo.lr_schedule=fixed"]),
        (["algo.lr_schedule=null"], ["write for example algo.lr_schedule=fixed"]),
        (["algo.normalize_advantage=false"], ["write for example algo.normalize_advantage=none"]),
        (["device=tpu"], ["must be cpu, cuda or cuda:N, got tpu", "write device=cpu"]),
        (["lift"], ["lift is an option of the group env", "write env=lift"]),
        (["lst"], ["lst: is no command and no key=value", "did you mean list?"]),
        (["env.num_envs='1"], ["env.num_envs='1: cannot be read"]),
        (["seed=1,2"], ["a sweep needs -m", "python run.py -m … seed=1,2", "seed=[1,2]"]),
        (["seed=range(1,3)"], ["a sweep needs -m"]),
        (["logger=tensorbord"], ["no such logger", "did you mean logger=tensorboard?"]),
        (["logger=[files,wnb]"], ["logger=wnb: no such logger", "did you mean logger=wandb?"]),
        (["launcher=locl"], ["no such launcher", "did you mean launcher=local?"]),
        (["~algo.gamma"], ["algo.gamma: is missing: a number", "write algo.gamma=0.9"]),
        (["env.name=lfit"], ["env.name: ", "did you mean lift?"]),
        (["env.name=my_package.task"], ["env.name: ", "there is no module my_package"]),
        (["hydra.foo=1"], ["hydra.foo=1", "foo"]),
        (["output_dir="], ["output_dir: must name a directory"]),
    ],
)
def test_every_mistake_is_explained(composer: Composer, overrides: list[str], told: list[str]) -> None:
    message = refusal(composer, *overrides)
    assert message.startswith(("One thing has to be changed:", "hydra.foo"))
    for words in told:
        assert words in message


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("\nimport nothing_like_it\n", "broken.py:2: ModuleNotFoundError: No module named 'nothing_like_it'"),
        ("from rl_platform.tasks.lift import no_term\n", "broken.py:1: ImportError: cannot import name"),
        ("x = 1\n\ndef f(:\n    pass\n", "broken.py:3: SyntaxError: invalid syntax"),
        ("\n\n\nimport torch\ntorch.zeros(-1)\n", "broken.py:5: RuntimeError: zeros: Dimension size must"),
    ],
)
def test_a_module_that_cannot_be_imported_is_told_with_its_line(
    composer: Composer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, told: str
) -> None:
    (tmp_path / "broken.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path.parent)
    message = refusal(composer, f"env.name={tmp_path.name}.broken")
    assert f"env.name: {tmp_path.name}.broken: importing it fails at " in message
    assert told in message


@pytest.mark.parametrize(
    ("overrides", "hint"),
    [
        (["episode_length=100"], "write env.episode_length_s=4: in seconds, at 0.04 s a control step"),
        (["env=cartpole", "max_episode_length=300"], "write env.episode_length_s=5: in seconds"),
        (["env.episodeLength=x"], "write env.episode_length_s=SECONDS: steps x control step, here 0.04 s"),
        (["env=gymnasium", "env.id=Ant-v5", "episode_length=9"], "SECONDS: steps x control step, where the"),
        (["eval_freq=10000"], "write eval_interval=N: in iterations"),
        (["runtime.save_freq=200"], "write save_interval=N: in iterations"),
        (["save_frequency=50"], "did you mean save_interval=50?"),
        (["value_loss_coef=0.5"], "write algo.vf_coef=1: twice theirs"),
        (["value_loss_scale=x"], "write algo.vf_coef=NUMBER: twice theirs"),
        (["critic_coef=4"], "did you mean algo.vf_coef=4?"),
        (["log_std_init=-1"], "write agent.actor.init_std=0.368: e to"),
        (["params.network.space.continuous.sigma_init.val=0"], "write agent.actor.init_std=1: e to"),
        (["sigma_init=x"], "write agent.actor.init_std=NUMBER"),
        (["sigma_activation=None"], "leave it out: networks are layers"),
        (["policy=actor_critic"], "write agent=ppo"),
        (["policy=vla"], "write agent=ppo"),
        (["policy.name=actor_critic"], "write agent=ppo"),
        (["algorithm.name=ppo"], "write agent=ppo"),
        (["algorithm.class_name=SAC"], "write agent=sac"),
        (["params.algo.name=a2c_continuous"], "write agent=ppo"),
        (["params.config.name=Humanoid"], "did you mean run_name=Humanoid?"),
        (["env_name=rlgpu"], "leave it out; choose the task with env=NAME"),
        (["env.id=PushCubeRL"], "choose the task with env=NAME"),
        (["action_scale=0.1"], "write env.actions.arm.scale=0.1"),
        (["env=cartpole", "env.cfg.action_scale=0.1"], "write env.actions.cart.scale=0.1"),
        (["env=gymnasium", "env.id=Ant-v5", "action_scale=1"], "this task has no scale of actions"),
        (["agent.actor.type=mlp"], "leave it out: networks are layers"),
        (["load_checkpoint=x"], "write resume=RUN"),
        (["lr_schedule=constant"], "write algo.lr_schedule=fixed"),
        (["reward_shaper=x"], "leave it out, or write algo.reward_scale=NUMBER"),
        (["reward_shaper.scale_value=0.1"], "did you mean algo.reward_scale=0.1?"),
        (["clip_observations=5"], "leave it out: the environment holds actions to their bounds"),
        (["normalize_advantage=true"], "write algo.normalize_advantage=batch"),
        (["wandb=true"], "write logger=[tensorboard,wandb]"),
        (["multi_gpu=false"], "leave it out: it is off"),
        (["wandb_entity=arms"], "write logger=[tensorboard,wandb] logger.wandb.entity=arms"),
        (["wandb_group=true"], "logger.wandb.group=NAME"),
        (["capture_video=true"], "write video_interval=50"),
        (["noise_std_type=log"], "did you mean agent.actor.std_type=log?"),
        (["empirical_normalization=1"], "did you mean agent.normalize_obs=true?"),
        (["clip_value=false"], "did you mean algo.clip_vloss=false?"),
        (["gpu_id=1"], "write device=cuda:1"),
        (["sim_device=cuda:0"], "write device=cuda:0"),
        (["rl_device=cpu"], "write device=cpu"),
        (["graphics_device_id=x"], "write device=cuda"),
        (["cuda=false"], "write device=cpu"),
        (["num_eval_episodes=10"], "did you mean eval.episodes=10?"),
        (["runtime.exp_name=first"], "did you mean run_name=first?"),
        (["fixed_sigma=true"], "leave it out: σ is a parameter"),
        (["fixed_sigma=false"], "write agent.actor.std_type=state_dependent"),
        (["seq_len=4"], "leave it out: no network here is recurrent"),
        (["separate=false"], "leave it out: actor and critic always have networks of their own"),
        (["train=HumanoidPPO"], "leave it out: env=NAME and agent=NAME bring the settings"),
        (["dt=0.01"], "did you mean env.timestep=0.01?"),
        (["batch_size=64"], "write algo.num_minibatches=N"),
        (["agent=sac", "batch_size=64"], "write algo.batch_size=64"),
        (["train_config.json"], "settings are keys on the command line"),
    ],
)
def test_what_has_another_form_here_is_told(composer: Composer, overrides: list[str], hint: str) -> None:
    assert hint in refusal(composer, *overrides)


@pytest.mark.parametrize("name", other_names.ADVICE)
def test_advice_names_keys_that_there_are(composer: Composer, name: str) -> None:
    """With PPO, on lift and with W&B, which have them all."""
    told = refusal(composer, "logger=[tensorboard,wandb]", f"own.{name}=1").partition("→")[2]
    own = composer.compose(["logger=[tensorboard,wandb]"]).defaults
    keys = re.findall(r"\b(?:(?:env|algo|agent|logger|launcher)\.[a-z_.]*[a-z_])", told)
    for key in keys:
        if key not in ("launcher.num_processes", "env.id"):  # of launcher=distributed, env=gymnasium
            assert suggest.lookup(own, key) is not suggest.ABSENT
    assert told


def test_mistakes_in_composition_are_listed_together(composer: Composer) -> None:
    message = refusal(composer, "env=lfit", "env.num_envs=3", "algo.gama=1", "seed=1,2", "lst")
    assert message.startswith(
        "4 things have to be changed:"
    )  # nothing is said of a key of an env that is not there


def test_mistakes_in_values_are_listed_together(composer: Composer) -> None:
    message = refusal(
        composer, "algo.gamma=1.5", "algo.learning_rate=1e-4x", "env.num_envs=0", "device=gpu", "seed=true"
    )
    assert message.startswith("5 things have to be changed:")


def test_a_missing_cuda_device_is_named(composer: Composer, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    message = refusal(composer, "device=cuda")
    assert "device: is cuda, and PyTorch " in message
    assert "is a build for the CPU" in message
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    message = refusal(composer, "device=cuda")
    assert "device: is cuda, and this machine has no CUDA device" in message
    assert "write device=cpu" in message
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert "cuda:5, and this machine has cuda:0, cuda:1" in refusal(composer, "device=cuda:5")
    assert config.check_job(composer.compose(["device=cuda:1"])).device == "cuda:1"


def test_a_window_of_the_environments_own_needs_a_display(
    composer: Composer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "has_display", lambda: False)
    theirs = ["env=gymnasium", "env.id=CartPole-v1", "headless=false"]
    message = refusal(composer, *theirs)
    assert "headless: is false, this machine has no display" in message
    assert "write headless=true" in message
    assert config.check_job(composer.compose([*theirs, "launcher=slurm"])).headless is False
    assert config.check_job(composer.compose(["headless=false"])).headless is False, "in a browser"
    monkeypatch.setattr(config, "has_display", lambda: True)
    assert config.check_job(composer.compose(theirs)).headless is False


def test_an_unfit_pair_of_agent_and_algo_is_refused(
    composer: Composer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rl_platform.agents import ppo

    monkeypatch.setattr(ppo, "ALGOS", ("sac",), raising=False)
    assert "agent=ppo trains with sac, got ppo" in refusal(composer, "agent=ppo")


def test_a_drawn_seed_is_written_down(composer: Composer) -> None:
    seeds = set()
    for _ in range(2):
        job = composer.compose(["seed=-1"])
        cfg = config.check_job(job)
        config.draw_seed(cfg)
        assert 0 <= cfg.seed < 2**31
        assert job.directory(cfg.seed).name.endswith(f"_s{cfg.seed}")
        seeds.add(cfg.seed)
    assert len(seeds) == 2
    cfg = config.compose(["seed=5"])
    config.draw_seed(cfg)
    assert cfg.seed == 5


def test_run_directories_follow_the_pattern(composer: Composer) -> None:
    job = composer.compose(["output_dir=/tmp/x", "run_name=first try", "seed=7"])
    directory = job.directory(7)
    assert directory.parts[:-1] == ("/", "tmp", "x", "lift", "ppo")
    date, clock, seed, name = directory.name.split("_")
    assert len(date) == len("2026-01-31")
    assert len(clock.split("-")[-1]) == 6  # microseconds
    assert (seed, name) == ("s7", "first-try")


def test_a_sweep_becomes_jobs(composer: Composer) -> None:
    jobs = composer.sweep(["algo.gamma=0.9,0.99", "seed=range(0,2)", "~tuned"])
    assert [(job.config.algo.gamma, job.config.seed) for job in jobs] == [
        (0.9, 0),
        (0.9, 1),
        (0.99, 0),
        (0.99, 1),
    ]


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["seed=1,2", "algo.gama=1,2"], "there is no key algo.gama"),
        (["env=lift,lfit"], "did you mean env=lift?"),
        (["launcher=local,slurm"], "one sweep has one launcher"),
        (["algo.gamma=interval(0,1)"], "cannot be written out as jobs"),
    ],
)
def test_a_sweep_is_refused_as_a_whole(composer: Composer, overrides: list[str], told: str) -> None:
    with pytest.raises(UserError, match=told.replace("?", r"\?")):
        composer.sweep(overrides)
