"""Any environment that is registered with Gymnasium: env=gymnasium env.id=CartPole-v1."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium
from gymnasium.envs.registration import find_highest_version, parse_env_id

from rl_platform.envs.external import GymnasiumEnv
from rl_platform.errors import UserError
from rl_platform.gymnasium_process import import_module

OUR_OWN = {"render_mode": "videos set it", "max_episode_steps": "write env.max_episode_steps=…"}


@dataclass
class Config:
    """Which environment, and how many.

    Attributes:
        name: of this module.
        id: registered with Gymnasium; `module:Id-v0` imports a module first.
        import_: a module of the user's that registers environments, the key `import`; None for none.
        kwargs: of the environment's constructor.
        num_envs: environments stepped together, over all ranks.
        vectorization: a process for each environment, or all in one.
        max_episode_steps: steps until an episode is truncated; None for what is registered.
        metrics: names in the environment's info to log at an episode's end.
    """

    name: str
    id: str
    import_: str | None
    kwargs: dict[str, Any]
    num_envs: int
    vectorization: Literal["async", "sync"]
    max_episode_steps: int | None
    metrics: list[str]

    def check(self) -> Iterator[tuple[str, str]]:
        """Yield (key, message) for each value out of range, or that Gymnasium does not know."""
        for key in ("num_envs", "max_episode_steps"):
            value = getattr(self, key)
            if value is not None and value < 1:
                yield key, f"must be at least 1, got {value}"
        for key in OUR_OWN.keys() & self.kwargs.keys():
            yield f"kwargs.{key}", f"is not the environment's: {OUR_OWN[key]}"
        module, _, env_id = self.id.rpartition(":")
        for key, name in (("import", self.import_), ("id", module or None)):
            try:
                import_module(name)
            except UserError as error:
                yield key, str(error)
                return
        if (told := unknown(env_id)) is not None:
            yield "id", told


def unknown(env_id: str) -> str | None:
    """Say what is wrong with an id; None if Gymnasium knows it."""
    try:
        namespace, name, version = parse_env_id(env_id)
    except gymnasium.error.Error:
        namespace, name, version = None, env_id, 0
    if env_id in gymnasium.registry:
        return None
    if version is None and find_highest_version(namespace, name) is not None:
        return None  # Gymnasium takes the latest
    lower = {known.lower(): known for known in gymnasium.registry}
    alike = [lower[word] for word in difflib.get_close_matches(env_id.lower(), lower, n=3, cutoff=0.5)]
    hint = f"; did you mean {', '.join(alike)}?" if alike else ""
    return (
        f"Gymnasium knows no environment {env_id}{hint} A package that registers its own has to be "
        "imported: env.import=…"
    )


def make_env(
    config: Config,
    *,
    num_envs: int,
    seed: int,
    device: str,
    num_threads: int,
    training: bool,
    env_offset: int = 0,
) -> GymnasiumEnv:
    """Make `num_envs` of them; the threads are the processes', and there is no easier training."""
    return GymnasiumEnv(config, num_envs=num_envs, seed=seed, device=device, env_offset=env_offset)
