"""Observation groups that are pictures: what a camera of the scene sees, drawn with the task's looks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch

from rl_platform.errors import UserError

if TYPE_CHECKING:
    from rl_platform.envs.env import Env

_KEYS = {"camera", "width", "height"}


class Cameras:
    """Pictures of all environments, a group each; they are drawn one after another, off-screen.

    Attributes:
        shapes: group → (height, width, 3).
    """

    def __init__(self, env: Env, settings: Mapping[str, Mapping[str, Any]]) -> None:
        """Open a drawing context for each group.

        Raises:
            UserError: OpenGL does not work here, or the scene has no such camera.
        """
        self.shapes = {group: (own["height"], own["width"], 3) for group, own in settings.items()}
        self._renderers = {}
        for group, own in settings.items():
            try:
                self._renderers[group] = env.renderer(own["width"], own["height"], own["camera"])
            except UserError as error:
                raise UserError(f"env.cameras.{group}: {error}") from error

    def observe(self, env_ids: torch.Tensor) -> dict[str, torch.Tensor]:
        """Draw these environments; group → `(len(env_ids), height, width, 3)` uint8, red, green, blue."""
        return {
            group: torch.stack([torch.from_numpy(renderer.frame(i).copy()) for i in env_ids.tolist()])
            for group, renderer in self._renderers.items()
        }

    def close(self) -> None:
        """Give the drawing contexts back."""
        for renderer in self._renderers.values():
            renderer.close()


def problems(settings: Mapping[str, Any], taken: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (key, message) for what is wrong with the groups; `taken` has the names that are not free."""
    for group, own in settings.items():
        key = f"cameras.{group}"
        if group in taken:
            yield key, "the task has an observation group of this name; choose another"
        if not isinstance(own, Mapping) or set(own) != _KEYS:
            yield key, f"must be {{camera: NAME, width: PIXELS, height: PIXELS}}, got {own}"
            continue
        for size in ("width", "height"):
            if type(own[size]) is not int or own[size] < 1:
                yield f"{key}.{size}", f"must be a whole number of pixels, at least 1, got {own[size]}"
