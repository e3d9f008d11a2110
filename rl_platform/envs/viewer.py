"""MuJoCo's own window on one environment."""

from __future__ import annotations

import sys
from typing import Any

import mujoco

from rl_platform.envs.base import Controls
from rl_platform.envs.env import Env
from rl_platform.envs.picture import Picture
from rl_platform.errors import UserError
from rl_platform.opengl import has_display


class NativeViewer:
    """A window that shows an environment; closing it does not disturb the simulation.

    Attributes:
        controls: what its user asks for, which this window has no buttons for.
        invitation: none is needed.
    """

    invitation = ""

    def __init__(self, env: Env, env_id: int = 0) -> None:
        """Open the window on environment `env_id`.

        Raises:
            UserError: there is no display, or the window does not open.
        """
        if not has_display():
            raise UserError(
                "a window needs a display, and this machine has none (DISPLAY is not set).\n"
                "In a browser instead: python run.py play RUN --viewer web\n"
                "As a video: python run.py play RUN --video FILE.mp4"
            )
        self.controls = Controls()
        self._picture, self._env_id = Picture(env), env_id
        self._handle = _launch(self._picture.model, self._picture.show(env_id))

    def draw(self, notes: str = "") -> None:
        """Show the present state."""
        if not self._handle.is_running():
            return
        with self._handle.lock():
            self._picture.show(self._env_id)
        self._handle.sync()

    def is_open(self) -> bool:
        """Whether the user has not closed the window."""
        return self._handle.is_running()

    def close(self) -> None:
        """Close the window."""
        self._handle.close()


def _launch(model: mujoco.MjModel, data: mujoco.MjData) -> Any:
    import mujoco.viewer  # opens the window system's library

    try:
        return mujoco.viewer.launch_passive(model, data, show_left_ui=False, show_right_ui=False)
    except RuntimeError as error:
        if sys.platform == "darwin":
            raise UserError("on macOS a window needs mjpython: mjpython run.py play RUN") from error
        raise UserError(f"the window did not open: {error}") from error
