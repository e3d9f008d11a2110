"""Pictures and videos of environments, without a window."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import torch

from rl_platform.envs.base import VisibleEnv
from rl_platform.envs.env import Env
from rl_platform.envs.picture import Picture
from rl_platform.errors import UserError

Frame = np.ndarray  # (height, width, 3) uint8
_TILE_GAP = 4  # pixels


class RenderingError(UserError):
    """This machine cannot draw; the message says in one line why and how to mend it."""


class OffscreenRenderer:
    """Draws environments into arrays."""

    def __init__(self, env: Env, width: int = 640, height: int = 480, camera: str | None = None) -> None:
        """Open a drawing context.

        Args:
            env: whose simulations to draw.
            width: pixels.
            height: pixels.
            camera: name of a camera in the scene; None: the scene's first, or one that sees all of it.

        Raises:
            RenderingError: no OpenGL here.
            UserError: the scene has no such camera.
        """
        self._picture = Picture(env)
        model = self._picture.model
        self._camera = _camera(model, camera)
        model.vis.global_.offwidth = max(model.vis.global_.offwidth, width)
        model.vis.global_.offheight = max(model.vis.global_.offheight, height)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # glfw warns, and then it raises
                self._renderer = mujoco.Renderer(model, height, width)
        except Exception as error:
            raise RenderingError(_how_to_mend(error)) from error

    def frame(self, env_id: int = 0) -> Frame:
        """Draw one environment as it is now, `(height, width, 3)` uint8."""
        self._renderer.update_scene(self._picture.show(env_id), camera=self._camera)
        return self._renderer.render()

    def close(self) -> None:
        """Give the context back."""
        self._renderer.close()


def _camera(model: mujoco.MjModel, name: str | None) -> Any:
    names = [model.camera(i).name for i in range(model.ncam)]
    if name is not None:
        if name not in names:
            raise UserError(f"--camera {name}: the scene has {', '.join(names) or 'no cameras'}")
        return name
    if names:
        return names[0]
    camera = mujoco.MjvCamera()
    mujoco.mjv_defaultFreeCamera(model, camera)
    return camera


def _how_to_mend(error: Exception) -> str:
    """One line: why drawing failed and what to do."""
    backend = os.environ.get("MUJOCO_GL", "the default")
    if backend in ("disable", "disabled", "off", "false", "0"):
        return f"no video: MUJOCO_GL={backend} switches drawing off; unset it"
    reason = " ".join(str(error).split()) or type(error).__name__
    return (
        f"no video: OpenGL ({backend}) does not work here ({reason[:120]}); install it "
        "(Debian, Ubuntu: apt-get install libegl1 libgl1-mesa-dri) or try MUJOCO_GL=osmesa (libosmesa6)"
    )


def tile(frames: list[Frame]) -> Frame:
    """Put equally large frames side by side, in a grid about as many wide as high."""
    if len(frames) == 1:
        return frames[0]
    columns = math.ceil(math.sqrt(len(frames)))
    rows = math.ceil(len(frames) / columns)
    height, width, _ = frames[0].shape
    sheet = np.zeros(
        (rows * (height + _TILE_GAP) - _TILE_GAP, columns * (width + _TILE_GAP) - _TILE_GAP, 3), np.uint8
    )
    for i, frame in enumerate(frames):
        top, left = (i // columns) * (height + _TILE_GAP), (i % columns) * (width + _TILE_GAP)
        sheet[top : top + height, left : left + width] = frame
    return sheet


def policy_frames(
    env: VisibleEnv,
    policy: Callable[[dict[str, torch.Tensor]], torch.Tensor],
    steps: int,
    *,
    seed: int,
    width: int = 640,
    height: int = 480,
    camera: str | None = None,
    check_stop: Callable[[], None] = lambda: None,
) -> Generator[Frame, None, None]:
    """Play the policy from `seed` on and yield a picture of all environments after each step.

    Several environments share the width and the height. Raises as `VisibleEnv.renderer` does.
    """
    columns = math.ceil(math.sqrt(env.num_envs))
    rows = math.ceil(env.num_envs / columns)
    renderer = env.renderer(width // columns, height // rows, camera)
    try:
        obs = env.reset(seed)
        for _ in range(steps):
            check_stop()
            yield tile([renderer.frame(i) for i in range(env.num_envs)])
            with torch.no_grad():
                obs = env.step(policy(obs))[0]
    finally:
        renderer.close()


def record_video(path: Path, frames: Generator[Frame, None, None], fps: float) -> Path:
    """Write frames as they come to an H.264 MP4 that browsers play; no more than one is held.

    Args:
        path: of the file; it appears under this name only when it is complete.
        frames: equally large pictures, at least one.
        fps: pictures a second.

    Raises:
        UserError: ffmpeg does not run here.
    """
    import imageio_ffmpeg  # heavy; nobody needs it before the first video

    first = next(frames)
    height, width, _ = first.shape
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    writer = imageio_ffmpeg.write_frames(
        str(partial),
        (width, height),
        fps=fps,
        codec="libx264",
        pix_fmt_out="yuv420p",
        macro_block_size=2,
        ffmpeg_log_level="error",
        output_params=["-crf", "20", "-preset", "veryfast", "-movflags", "+faststart"],
    )
    try:
        writer.send(None)
        writer.send(np.ascontiguousarray(first))
        for frame in frames:
            writer.send(np.ascontiguousarray(frame))
        writer.close()
        partial.replace(path)
    except (OSError, RuntimeError) as error:
        raise UserError(f"no video: ffmpeg failed: {error}") from error
    finally:
        frames.close()
        writer.close()
        partial.unlink(missing_ok=True)
    return path
