"""A task with a bug says which of its terms has it, before any work starts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import mujoco
import pytest
import torch
from omegaconf import OmegaConf

from rl_platform.assemble import typed
from rl_platform.config import compose
from rl_platform.envs import make_env
from rl_platform.envs.terms import Command, Task
from rl_platform.errors import NonFiniteError, UserError
from rl_platform.tasks import cartpole, lift
from tests.envs.test_every_env import make

Function = Callable[..., Any]


def build(**tables: Any) -> None:
    """Make cartpole with other tables."""
    config = typed("env", compose(["env=cartpole"]).env)
    task = dataclasses.replace(cartpole.TASK, **tables)
    make_env(config, task, num_envs=4, seed=1, device="cpu", num_threads=1)


def replaced(section: str, function: Function) -> tuple[str, Mapping[str, Any]]:
    """The first term's name, and the table with another function for it."""
    table: Mapping[str, Any] = getattr(cartpole.TASK, section)
    name = next(name for name in table)
    return name, {**table, name: function}


def test_an_observation_of_a_wrong_shape_is_named() -> None:
    terms = cartpole.TASK.observations["policy"]
    name = next(iter(terms))
    with pytest.raises(UserError, match=rf"policy/{name} \(.*test_trial\.py:\d+\) has the shape \(4,\)"):
        build(observations={"policy": {**terms, name: lambda s, **_: torch.zeros(4)}})


@pytest.mark.parametrize("section", ["rewards", "terminations", "metrics"])
def test_a_value_of_a_wrong_shape_is_named(section: str) -> None:
    name, table = replaced(section, lambda s, **_: torch.zeros(4, 1))
    words = rf"{section[:-1]} {name} \(.*test_trial\.py:\d+\) has the shape \(4, 1\); it must be \(4,\)"
    with pytest.raises(UserError, match=words):
        build(**{section: table})


def test_a_termination_that_is_a_number_is_named() -> None:
    name, table = replaced("terminations", lambda s, **_: torch.zeros(4))
    with pytest.raises(UserError, match=rf"termination {name} .* it must give torch\.bool"):
        build(terminations=table)


def test_success_that_is_a_number_is_named() -> None:
    with pytest.raises(UserError, match=r"success .* it must give torch\.bool"):
        build(success=lambda s: torch.zeros(4))


def test_a_term_that_fails_is_named_with_its_line() -> None:
    name, table = replaced("rewards", lambda s, **_: s.no_such_thing)
    words = rf"reward {name} \(.*test_trial\.py:\d+\) fails: AttributeError: .*no_such_thing"
    with pytest.raises(UserError, match=words):
        build(rewards=table)


def test_a_term_that_gives_no_tensor_is_named() -> None:
    name, table = replaced("rewards", lambda s, **_: 1.0)
    with pytest.raises(UserError, match=rf"reward {name} .* gives float"):
        build(rewards=table)


def test_a_nan_in_an_observation_is_named() -> None:
    env = make("cartpole", 4)
    name = next(iter(env._groups.terms["policy"]))
    function, own, parameters = env._groups.terms["policy"][name]

    def broken(state: object, **values: Any) -> torch.Tensor:
        return torch.as_tensor(function(state, **values)).index_fill(0, torch.tensor([2]), torch.nan)

    env._groups.terms["policy"][name] = (broken, own, parameters)
    with pytest.raises(NonFiniteError, match=f"observation policy/{name} is not finite in environment 2"):
        env.step(torch.zeros(4, 1))


def test_a_nan_in_an_episodes_first_observation_is_named() -> None:
    env = make("cartpole", 4)
    name = next(iter(env._groups.terms["policy"]))
    function, own, parameters = env._groups.terms["policy"][name]

    def broken(state: object, **values: Any) -> torch.Tensor:
        fresh = (env.episode_length == 0)[:, None]
        return torch.where(fresh, torch.nan, torch.as_tensor(function(state, **values)))

    env._groups.terms["policy"][name] = (broken, own, parameters)
    with pytest.raises(NonFiniteError, match=f"observation policy/{name} is not finite in environment 0"):
        env.reset()
    env.episode_length.fill_(1)
    env.episode_length[2] = env.max_episode_steps - 1
    with pytest.raises(NonFiniteError, match=f"observation policy/{name} is not finite in environment"):
        env.step(torch.zeros(4, 1))


def test_an_event_that_fails_is_named_with_its_line() -> None:
    name, table = replaced("events", lambda env, env_ids, **_: env.no_such_thing)
    words = rf"event {name} \(.*test_trial\.py:\d+\) fails: AttributeError: .*no_such_thing"
    with pytest.raises(UserError, match=words):
        build(events=table)


def test_a_command_of_a_wrong_shape_is_named() -> None:
    config = typed("env", compose(["env=lift"]).env)
    task = dataclasses.replace(lift.TASK, commands={"goal": Command(lambda env, ids, **_: ids, dim=3)})
    words = r"command goal has the shape \(4,\); it must be \(len\(env_ids\), 3\), here \(4, 3\)"
    with pytest.raises(UserError, match=words):
        make_env(config, task, num_envs=4, seed=1, device="cpu", num_threads=1)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ([-1.0, 0.5], r"event cube_mass .*mdp\.py:\d+\) fails: .*a mass is above 0 kg"),
        ([2.0, 0.5], r"event cube_mass .* fails: .*a range is \[low, high\], got \[2.0, 0.5\]"),
        ([0.1, 0.2, 0.3], r"event cube_mass .* fails: .*a range is \[low, high\], got"),
        ("0.5-2", r"event cube_mass .* fails: .*a range is \[low, high\], got 0.5-2"),
    ],
)
def test_a_range_that_makes_no_sense_is_told_with_its_event(value: Any, told: str) -> None:
    config = compose(["env=lift"]).env
    config.events.cube_mass = {"range": value}
    with pytest.raises(UserError, match=told):
        make_env(typed("env", config), lift.TASK, num_envs=2, seed=1, device="cpu", num_threads=1)


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        ("rewards.alive.weight", "big", r"env\.rewards\.alive\.weight: must be a number, got 'big'"),
        ("observations.policy.joint_vel.noise", "much", r"joint_vel\.noise: must be a number, got 'much'"),
        ("observations.policy.joint_vel.scale", [4.0, 1.0], r"joint_vel\.scale: must be a number, got \[4"),
    ],
)
def test_a_setting_of_a_wrong_type_is_told_with_its_key(place: str, value: Any, told: str) -> None:
    config = compose(["env=cartpole"]).env
    OmegaConf.update(config, place, value)
    with pytest.raises(UserError, match=told):
        typed("env", config)


def test_a_module_without_a_task_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    config = compose(["env=cartpole"]).env
    monkeypatch.delattr(cartpole, "TASK")
    with pytest.raises(UserError, match="cartpole has no TASK"):
        typed("env", config)


def test_a_term_that_the_yaml_lacks_is_named() -> None:
    config = compose(["env=cartpole"]).env
    name = next(iter(config.rewards))
    del config.rewards[name]
    with pytest.raises(UserError, match=rf"env\.rewards\.{name}: the task has this term, the YAML does not"):
        typed("env", config)


def test_a_term_that_the_task_lacks_is_named() -> None:
    with pytest.raises(
        UserError, match=r"there is no key env\.rewards\.allive\n.*did you mean env\.rewards\.alive="
    ):
        make("cartpole", 1, 1, "+env.rewards.allive={weight:1.0}")


def test_a_scene_that_does_not_compile_is_named() -> None:
    def scene(config: Any, looks: str = "none") -> mujoco.MjSpec:
        spec = cartpole.TASK.scene(config, looks)
        spec.worldbody.add_body(name="massless", pos=(0, 0, 5)).add_freejoint(name="massless")
        return spec

    with pytest.raises(UserError, match=r"env=cartpole: the scene does not compile: (.|\n)*mass"):
        build(scene=scene)


def test_an_mjcf_with_a_mistake_is_named_with_its_line(tmp_path: Any) -> None:
    path = tmp_path / "own.xml"
    path.write_text("<mujoco>\n  <worldbody>\n    <bodi name='x'/>\n  </worldbody>\n</mujoco>\n")
    with pytest.raises(
        UserError, match=r"env=gymnasium_mujoco.half_cheetah: the scene does not compile: (.|\n)*line 3"
    ):
        make("half_cheetah", 1, 1, f"env.xml_file={path}")


def test_a_task_without_mistakes_is_built() -> None:
    build()
    assert isinstance(cartpole.TASK, Task)
