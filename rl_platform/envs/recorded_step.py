"""What follows the physics in a control step, as one CUDA graph."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from rl_platform.recorded import Recorded, Recording

if TYPE_CHECKING:
    from rl_platform.envs.env import Env

Outcome = tuple[
    dict[str, torch.Tensor], torch.Tensor, torch.Tensor, torch.Tensor, dict[str, Any]
]  # of `Env.step`


class RecordedOutcome:
    """Calls a function that returns what `Env.step` does; from the third time on a recording of it.

    All that it returns lies side by side in one tensor of each type, so that a copy of it is one operation.
    """

    def __init__(
        self,
        outcome: Callable[[], Outcome],
        recording: Callable[[], Recording],
        what: str,
        held: Callable[[], dict[str, object]],
    ) -> None:
        """`outcome` is work, and the rest as `Recorded` has it."""
        self._outcome = outcome
        self._recorded = Recorded(lambda _: self._packed(), recording, what, held)
        self._places: list[tuple[tuple[str, ...], torch.dtype, torch.Size]] = []

    def __call__(self) -> Outcome:
        """See the class; metrics are computed with the rest."""
        columns = {packed.dtype: packed for packed in self._recorded({})}
        start = dict.fromkeys(columns, 0)
        obs: dict[str, torch.Tensor] = {}
        info: dict[str, Any] = {"final_obs": {}, "rewards": {}, "metrics": {}, "success": None}
        told: dict[str, torch.Tensor] = {}
        for (section, *name), dtype, shape in self._places:
            begin = start[dtype]
            start[dtype] += shape.numel()
            values = columns[dtype][begin : start[dtype]].view(shape)
            if section == "obs":
                obs[name[0]] = values
            elif name:
                info[section][name[0]] = values
            elif section == "success":
                info[section] = values
            else:
                told[section] = values
        return obs, told["reward"], told["terminated"], told["truncated"], info

    def _packed(self) -> list[torch.Tensor]:
        obs, reward, terminated, truncated, info = self._outcome()
        values: dict[tuple[str, ...], torch.Tensor] = {("obs", name): x for name, x in obs.items()}
        values |= {("reward",): reward, ("terminated",): terminated, ("truncated",): truncated}
        for section in ("final_obs", "rewards", "metrics"):
            values |= {(section, name): x for name, x in info[section].items()}
        if info["success"] is not None:
            values["success",] = info["success"]
        self._places = [(name, x.dtype, x.shape) for name, x in values.items()]
        kinds = dict.fromkeys(x.dtype for x in values.values())
        return [torch.cat([x.flatten() for x in values.values() if x.dtype == kind]) for kind in kinds]


def lasting(env: Env, reader: Callable[[], Any]) -> dict[str, object]:
    """What lasts from step to step, as far as it can be found, with names for people.

    `reader`: the task's, which may keep something in its closure.
    """
    read = inspect.getclosurevars(reader).nonlocals if inspect.isfunction(reader) else {}
    holders: dict[str, Mapping[str, Any]] = {
        "env": vars(env),
        "env.memory": env.memory,
        "env.commands": env.commands,
        "the reader": read,
    }
    for name, term in env.actions.items():
        holders[f"the action term {name}"] = getattr(term, "__dict__", {})
    kinds = (torch.Tensor, bool, int, float)
    return {
        f"{name} of {holder}": value
        for holder, values in holders.items()
        for name, value in values.items()
        if isinstance(value, kinds)
    }
