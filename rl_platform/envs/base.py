"""What trainers, evaluations and adapters ask of an environment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from rl_platform.timing import PhaseTimer

Observations = dict[str, torch.Tensor]


class VectorEnv(Protocol):
    """`num_envs` episodes side by side; one that ends restarts in the same step.

    Attributes:
        num_envs: number of environments.
        device: where the tensors live.
        observation_dims: columns of each observation group, "policy" and perhaps "critic".
        action_dim: columns of the action.
        num_choices: None; or of a discrete action, whose one column is a whole number below it.
        action_low, action_high: its finite bounds, `(action_dim,)`.
        step_dt: control period in s.
        max_episode_steps: steps after which an episode is truncated; None if that is not known.
        exact_resume: whether `load_state_dict` brings the simulation back; else it starts new episodes.
        timer: collects the seconds of the phases "simulation" and "terms".
    """

    num_envs: int
    device: torch.device
    observation_dims: dict[str, int]
    action_dim: int
    num_choices: int | None
    action_low: torch.Tensor
    action_high: torch.Tensor
    step_dt: float
    exact_resume: bool
    timer: PhaseTimer

    @property
    def max_episode_steps(self) -> int | None:
        """See the class."""
        ...

    def reset(self, seed: int | None = None) -> Observations:
        """Start new episodes everywhere, with `seed` the random streams anew too."""
        ...

    def step(
        self, action: torch.Tensor
    ) -> tuple[Observations, torch.Tensor, torch.Tensor, torch.Tensor, dict[str, Any]]:
        """Take one control step everywhere: obs, reward, terminated, truncated, info.

        Args:
            action: `(num_envs, action_dim)`.

        Returns:
            Observations `(num_envs, d)` float32, three `(num_envs,)` tensors, and `info`: "final_obs"
            (the true last observation in the rows that ended, elsewhere obs), "rewards" (each term's
            share), "metrics" (to be read before the next step), "success" (bool, meaningful in the
            rows that ended; None where the environment does not say).

        Raises:
            NonFiniteError: something is NaN or infinite; it names the term and the environment.
            UserError: an environment of the user's own failed.
        """
        ...

    def randomize_episode_lengths(self) -> None:
        """Let each episode begin at a random step of its length; these are not counted in `episode_log`."""
        ...

    def check(self) -> None:
        """Look whether the steps since the last call were right, which may wait for the device.

        Raises:
            NonFiniteError: something was NaN or infinite, and the step that made it did not wait to see it.
            UserError: the simulation went wrong (`Physics.check`).
        """
        ...

    def episode_log(self) -> dict[str, float]:
        """Return means over the episodes that ended since the last call; empty if none did."""
        ...

    def describe(self) -> str:
        """Return the task's tables as text."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of everything that an exact continuation needs.

        Tensors have a row for each environment (but see `sharding.py`); all else is the same for all of them.
        """
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`."""
        ...

    def close(self) -> None:
        """Release what the environment holds."""
        ...


class Renderer(Protocol):
    """Draws environments into arrays."""

    def frame(self, env_id: int = 0) -> np.ndarray:
        """Draw one environment as it is now, `(height, width, 3)` uint8."""
        ...

    def close(self) -> None:
        """Give back what it draws with."""
        ...


@dataclass(frozen=True)
class Page:
    """Where a browser finds an environment.

    Attributes:
        host: the address that is listened at; by default for browsers on this machine, and those that come
            to it through ssh. Whoever reaches it can look on and take over: there is no password.
        port: None: the first free one from 8080 on.
    """

    host: str = "127.0.0.1"
    port: int | None = None


@dataclass
class Controls:
    """What the user of a window asks for.

    Attributes:
        speed: 1: as fast as in reality.
        paused: no step until it is False again.
        step_once: one step though it is paused; set back by who takes it.
        restart: new episodes; set back by who starts them.
    """

    speed: float = 1.0
    paused: bool = False
    step_once: bool = False
    restart: bool = False


class Viewer(Protocol):
    """A window on one environment.

    Attributes:
        controls: what its user asks for.
        invitation: how to come to it, to be printed; empty: it is on this machine's display.
    """

    controls: Controls
    invitation: str

    def draw(self, notes: str = "") -> None:
        """Show the present state, and where there is room for it some lines of text."""
        ...

    def is_open(self) -> bool:
        """Whether the user has not closed the window."""
        ...

    def close(self) -> None:
        """Close the window."""
        ...


class VisibleEnv(VectorEnv, Protocol):
    """A `VectorEnv` that can be looked at. It is to be reset after one of these calls."""

    def renderer(self, width: int, height: int, camera: str | None) -> Renderer:
        """Draw without a window, in pictures of this many pixels if the environment lets one choose.

        Raises:
            UserError: it cannot be drawn here.
        """
        ...

    def viewer(self, page: Page | None = None) -> Viewer:
        """Open a window on this machine's display; or, if `page` is given, in browsers.

        Raises:
            UserError: there is no display, the environment has no such window, or the port is taken.
        """
        ...
