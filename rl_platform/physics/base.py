"""The contract between an environment and whatever simulates it."""

from __future__ import annotations

from typing import Any, Protocol

import mujoco
import torch

# Derived fields that follow from the positions alone.
_POSES = {
    "xpos", "xquat", "xmat", "xipos", "ximat", "xanchor", "xaxis",
    "geom_xpos", "geom_xmat", "site_xpos", "site_xmat",
}  # fmt: skip


def check_is_pose(name: str, poses_only: bool) -> None:
    """Raise a ValueError if a derived field is asked for that a task with `poses_only` does not get."""
    if poses_only and name not in _POSES:
        raise ValueError(f"{name}: the task says poses_only=True, and this is no pose")


class Physics(Protocol):
    """Many simulations of one MuJoCo model, stepped together.

    Tensors are live: a write to a state field is the simulation's state at its next call, and
    derived fields (`xpos`, `site_xpos`, `sensordata` …) describe the current state after every call, unless
    a task asks for them as `mj_step` leaves them (`Task.current_fields`).

    Attributes:
        model: the compiled model that all simulations share, but for the fields of `expand`.
        num_envs: how many simulations there are.
        device: where the tensors live.
        dtype: of the tensors: float64 on the CPU, float32 in MuJoCo Warp.
        diverged: which simulations could not be stepped in the last `step`, (num_envs,) bool; they are back
            at the model's initial state.
    """

    model: mujoco.MjModel
    num_envs: int
    device: torch.device
    dtype: torch.dtype
    diverged: torch.Tensor

    def data(self, name: str) -> torch.Tensor:
        """Return the live `(num_envs, …)` tensor of an `mjData` field."""
        ...

    def expand(self, name: str) -> torch.Tensor:
        """Give a model field a value per environment; return them, live, `(num_envs, …)`."""
        ...

    def set_const(self, env_ids: torch.Tensor) -> None:
        """Recompute the model's derived constants after a write to an expanded field."""
        ...

    def step(self, substeps: int) -> None:
        """Advance every simulation by `substeps` time steps."""
        ...

    def check(self) -> None:
        """Look whether the steps since the last call were right, which may wait for the device.

        Raises:
            UserError: they were not; it says what to change.
        """
        ...

    def forward(self, env_ids: torch.Tensor) -> None:
        """Make the derived fields of these simulations current after a write to their state."""
        ...

    def reset(self, env_ids: torch.Tensor) -> None:
        """Put these simulations back to the model's initial state; `forward` has to follow."""
        ...

    def rows(self, env_ids: torch.Tensor) -> list[torch.Tensor] | None:
        """Return a copy of all that these simulations are, state and derived fields; None if they cannot."""
        ...

    def put_rows(self, which: torch.Tensor, rows: list[torch.Tensor]) -> None:
        """Make these simulations what `rows` says; `forward` need not follow.

        `which`: ids with as many rows, or a mask with a row for each simulation (`chosen.py`).
        """
        ...

    def mj_model(self, env_id: int) -> mujoco.MjModel:
        """Return the model of one environment, with its own values of the expanded fields."""
        ...

    def mj_data(self, env_id: int) -> mujoco.MjData:
        """Return one simulation as a current `MjData`, to render it or to look at it."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return what an exact continuation needs."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`."""
        ...
