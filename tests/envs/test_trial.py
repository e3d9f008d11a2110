"""A task with a bug says which of its terms has it, before any work starts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import mujoco
import pytest
import torch

from rl_platform.assemble import typed
from rl_platform.config import compose
from rl_platform.envs import make_env
from rl_platform.envs.terms import Task
from rl_platform.errors import NonFiniteError, UserError
from rl_platform.tasks import cartpole
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
