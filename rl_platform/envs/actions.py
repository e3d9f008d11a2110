"""Ways to drive a robot: what an action means, and the actuator targets it becomes.

An action's bounds are [-1, 1] where a term scales it to what it means, and the joints' range in
`JointPosition`, whose scale is only a unit. The environment clips to them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from rl_platform import chosen
from rl_platform.physics.base import Physics


class ActionTerm(Protocol):
    """One part of the action: `dim` columns within [low, high] that become the targets of some actuators."""

    dim: int
    low: torch.Tensor
    high: torch.Tensor

    def reset(self, which: torch.Tensor) -> None:
        """Forget the targets of the episodes that ended; these simulations are at their new start.

        `which`: ids, or a mask of all (`chosen.py`); `x[which] = y[which]` takes either.
        """
        ...

    def apply(self, action: torch.Tensor) -> None:
        """Turn `(num_envs, dim)` actions into actuator targets for the coming control step."""
        ...

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return the targets kept from step to step."""
        ...

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Continue from a `state_dict`."""
        ...


@dataclass
class JointEffortAction:
    """How the policy pushes joints: force or torque = scale · action.

    Attributes:
        scale: N or N m for an action of 1; the actuators' own limits hold.
    """

    scale: float

    def check(self) -> Iterator[tuple[str, str]]:
        """Yield (key, message) for each value out of range."""
        if not self.scale > 0.0:
            yield "scale", f"must be above 0, got {self.scale}"


@dataclass
class JointPositionAction:
    """How the policy moves joints: target = default + scale · action.

    Attributes:
        scale: rad for an action of 1; the actuators' own range holds.
    """

    scale: float

    def check(self) -> Iterator[tuple[str, str]]:
        """Yield (key, message) for each value out of range."""
        if not self.scale > 0.0:
            yield "scale", f"must be above 0, got {self.scale}"


def columns(ids: Sequence[int], device: torch.device | None = None) -> slice | torch.Tensor:
    """Return an index of these columns: a slice, whose view costs nothing, where they are neighbours."""
    first = ids[0]
    if list(ids) == list(range(first, first + len(ids))):
        return slice(first, first + len(ids))
    return torch.as_tensor(ids, device=device)


def unit_bounds(dim: int, device: torch.device | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Return -1 and 1 for every column, two `(dim,)` float32 tensors."""
    return -torch.ones(dim, device=device), torch.ones(dim, device=device)


class Stateless:
    """A term whose targets depend on nothing but the action and the simulation."""

    def reset(self, which: torch.Tensor) -> None:
        """Nothing to forget."""

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Nothing to keep."""
        return {}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Nothing to continue."""


class Motors(Stateless):
    """Control = action, for every actuator of the model; the bounds are their control ranges."""

    def __init__(self, physics: Physics) -> None:
        """Drive all actuators of `physics`."""
        limits = torch.as_tensor(physics.model.actuator_ctrlrange, dtype=torch.float32, device=physics.device)
        self.dim = len(limits)
        self.low, self.high = limits.unbind(1)
        self._ctrl = physics.data("ctrl")

    def apply(self, action: torch.Tensor) -> None:
        """See the class."""
        self._ctrl.copy_(action)


class JointEffort(Stateless):
    """Force or torque = scale · action, within the actuators' range."""

    def __init__(self, physics: Physics, actuators: Sequence[int], config: JointEffortAction) -> None:
        """Drive motors, whose control is a force (N) or a torque (N m)."""
        self.dim = len(actuators)
        self._ctrl, self._actuators = physics.data("ctrl"), columns(actuators, physics.device)
        self._scale = config.scale
        lowest, highest = control_ranges(physics, actuators)
        self.low = (lowest / config.scale).to(torch.float32)
        self.high = (highest / config.scale).to(torch.float32)

    def apply(self, action: torch.Tensor) -> None:
        """See the class."""
        self._ctrl[:, self._actuators] = (self._scale * action).to(self._ctrl.dtype)


class JointPosition(Stateless):
    """Target = default + scale · action (rad), kept within the actuators' range."""

    def __init__(
        self, physics: Physics, actuators: Sequence[int], default: torch.Tensor, scale: float
    ) -> None:
        """Drive `actuators` around the `default` positions `(len(actuators),)`."""
        self.dim = len(actuators)
        self._ctrl = physics.data("ctrl")
        self._actuators = columns(actuators, physics.device)
        self._default, self._scale = default, scale
        lowest, highest = control_ranges(physics, actuators)
        self.low = ((lowest - default) / scale).to(torch.float32)
        self.high = ((highest - default) / scale).to(torch.float32)

    def apply(self, action: torch.Tensor) -> None:
        """See the class."""
        self._ctrl[:, self._actuators] = (self._default + self._scale * action).to(self._ctrl.dtype)


class RelativeJointPosition:
    """Target ← target + scale · action (rad a step), at most `max_lead` rad ahead of the joint."""

    def __init__(
        self,
        physics: Physics,
        actuators: Sequence[int],
        qpos_ids: Sequence[int],
        scale: float,
        max_lead: float,
    ) -> None:
        """Drive `actuators`, whose joints stand at `qpos_ids`."""
        self.dim = len(actuators)
        self.low, self.high = unit_bounds(self.dim, physics.device)
        self._ctrl, self._qpos = physics.data("ctrl"), physics.data("qpos")
        self._actuators, self._qpos_ids = (
            columns(actuators, physics.device),
            columns(qpos_ids, physics.device),
        )
        self._scale, self._max_lead = scale, max_lead
        self._low, self._high = control_ranges(physics, actuators)
        self._target = self._qpos[:, self._qpos_ids].clone()

    def reset(self, which: torch.Tensor) -> None:
        """Start from where the joints are."""
        chosen.put(self._target, which, chosen.take(self._qpos, which)[:, self._qpos_ids])

    def apply(self, action: torch.Tensor) -> None:
        """See the class."""
        joints = self._qpos[:, self._qpos_ids]
        lead = self._target - joints + self._scale * action
        target = joints + lead.clamp(-self._max_lead, self._max_lead)
        torch.clamp(target, self._low, self._high, out=self._target)
        self._ctrl[:, self._actuators] = self._target

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return the joint targets."""
        return {"target": self._target.clone()}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Continue from a `state_dict`."""
        self._target.copy_(state["target"])


def control_ranges(physics: Physics, actuators: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the ends of the actuators' control ranges, two `(len(actuators),)` tensors."""
    limits = torch.as_tensor(
        physics.model.actuator_ctrlrange[list(actuators)], dtype=physics.dtype, device=physics.device
    )
    return limits[:, 0], limits[:, 1]
