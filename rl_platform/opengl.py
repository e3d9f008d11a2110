"""Which OpenGL MuJoCo draws with. MuJoCo decides that when it is imported, so this comes before."""

from __future__ import annotations

import ctypes
import os
import sys


def has_display() -> bool:
    """Whether a window can be opened: always on macOS and Windows, with X or Wayland elsewhere."""
    return sys.platform in ("darwin", "win32") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )


def choose_backend() -> None:
    """Ask MuJoCo for EGL where there is no display, unless the user has set MUJOCO_GL."""
    if has_display() or "MUJOCO_GL" in os.environ:
        return
    try:
        ctypes.CDLL("libEGL.so.1")
    except OSError:
        return  # with MUJOCO_GL=egl, `import mujoco` would fail: training needs no OpenGL
    os.environ["MUJOCO_GL"] = "egl"
