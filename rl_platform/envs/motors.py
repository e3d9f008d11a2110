"""Motors driven as they are: the action is the actuators' control."""

from __future__ import annotations

import torch

from rl_platform.physics.base import Physics


class Motors:
    """Control = action, for every actuator of the model; the bounds are their control ranges."""

    def __init__(self, physics: Physics) -> None:
        """Drive all actuators of `physics`."""
        limits = torch.as_tensor(physics.model.actuator_ctrlrange, dtype=torch.float32, device=physics.device)
        self.dim = len(limits)
        self.low, self.high = limits.unbind(1)
        self._ctrl = physics.data("ctrl")

    def reset(self, env_ids: torch.Tensor) -> None:
        """Nothing to forget."""

    def apply(self, action: torch.Tensor) -> None:
        """See the class."""
        self._ctrl.copy_(action)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Nothing to keep."""
        return {}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Nothing to continue."""
