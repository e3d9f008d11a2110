"""Our environments as Gymnasium's: `gymnasium.make("rl_platform/Lift-v0")` and `make_vec`.

Importing this module registers one id for every `conf/env/<name>.yaml` of ours; `gymnasium.make` imports it
where the id says so: `rl_platform.envs.gymnasium:rl_platform/Lift-v0`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from rl_platform.envs.env import Env

if TYPE_CHECKING:
    from rl_platform.envs.render import OffscreenRenderer

NAMESPACE = "rl_platform"
_CONF = Path(__file__).resolve().parents[2] / "conf" / "env"


def env_id(name: str) -> str:
    """Return Gymnasium's id of an environment: `lift_isaac` is `rl_platform/LiftIsaac-v0`."""
    return f"{NAMESPACE}/{''.join(part.capitalize() for part in name.split('_'))}-v0"


def register_all() -> None:
    """Register every environment that is not registered yet."""
    for name in sorted(path.stem for path in _CONF.glob("*.yaml")):
        if name != "gymnasium" and env_id(name) not in gymnasium.registry:
            gymnasium.register(
                env_id(name),
                entry_point=f"{__name__}:SingleEnv",
                vector_entry_point=f"{__name__}:BatchEnv",
                kwargs={"name": name},
            )


def _make_env(name: str, num_envs: int, overrides: Sequence[str], num_threads: int) -> Env:
    from rl_platform.assemble import build_env
    from rl_platform.config import compose

    cfg = compose([f"env={name}", *overrides])
    env = build_env(cfg, num_envs=num_envs, seed=0, num_threads=num_threads)
    assert isinstance(env, Env)
    return env


def _box(low: torch.Tensor, high: torch.Tensor) -> gymnasium.spaces.Box:
    return gymnasium.spaces.Box(_numpy(low), _numpy(high), dtype=np.float32)


def _unbounded(dim: int) -> gymnasium.spaces.Box:
    return gymnasium.spaces.Box(-np.inf, np.inf, (dim,), np.float32)


def _numpy(values: torch.Tensor) -> np.ndarray:
    """Copy: what a user is given stays as it is."""
    return values.detach().cpu().numpy().copy()


class SingleEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """One environment. The observation is the group "policy".

    `info` has `metrics` and `rewards` (each term's share) by name; `success` (bool) where the task knows one.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}  # noqa: RUF012  Gymnasium's own annotation

    def __init__(self, name: str, render_mode: str | None = None, overrides: Sequence[str] = ()) -> None:
        """Make the environment `conf/env/<name>.yaml`.

        Args:
            name: of the environment.
            render_mode: "rgb_array" or None.
            overrides: changes to its configuration, such as "env.episode_length_s=5".
        """
        self._env = _make_env(name, 1, overrides, num_threads=1)
        self.metadata = {**self.metadata, "render_fps": round(1.0 / self._env.step_dt)}
        self.render_mode = render_mode
        self.observation_space = _unbounded(self._env.observation_dims["policy"])
        self.action_space = _box(self._env.action_low, self._env.action_high)
        self._renderer: OffscreenRenderer | None = None
        self._seeded = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode; without any seed ever, a random one."""
        super().reset(seed=seed)
        if seed is None and not self._seeded:
            seed = int(self.np_random.integers(2**31))
        self._seeded = True
        return _numpy(self._env.reset(seed)["policy"][0]), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Take one control step; clips the action to its bounds."""
        batch = torch.as_tensor(action, dtype=torch.float32).reshape(1, -1)
        _, reward, terminated, truncated, info = self._env.step(batch)
        told: dict[str, Any] = {
            section: {name: float(values[0]) for name, values in info[section].items()}
            for section in ("metrics", "rewards")
        }
        if info["success"] is not None:
            told["success"] = bool(info["success"][0])
        # Where the episode ended, the environment shows the next one already; Gymnasium wants the last.
        obs = _numpy(info["final_obs"]["policy"][0])
        return obs, float(reward[0]), bool(terminated[0]), bool(truncated[0]), told

    def render(self) -> np.ndarray | None:
        """Return a picture `(480, 640, 3)` uint8; None without a render mode."""
        if self.render_mode is None:
            return None
        if self._renderer is None:
            from rl_platform.envs.render import OffscreenRenderer

            self._renderer = OffscreenRenderer(self._env)
        return self._renderer.frame(0)

    def close(self) -> None:
        """Release the drawing context."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None


class BatchEnv(gymnasium.vector.VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """Many environments in one simulation batch; same-step autoreset.

    `info` is as in Gymnasium's own vector environments: where an episode ended, `final_obs` (object
    array of observations) and `final_info` with `metrics` and, where the task knows one, `success`, each with
    its mask `_<name>`.
    """

    def __init__(
        self,
        name: str,
        num_envs: int = 1,
        render_mode: str | None = None,
        overrides: Sequence[str] = (),
        num_threads: int = 1,
    ) -> None:
        """Make `num_envs` environments `conf/env/<name>.yaml` on `num_threads` threads.

        Args:
            name: of the environment.
            num_envs: how many.
            render_mode: None; a batch is not drawn.
            overrides: changes to the configuration, such as "env.episode_length_s=5".
            num_threads: of the simulation.

        Raises:
            ValueError: any other render mode.
        """
        if render_mode is not None:
            raise ValueError(f"render_mode={render_mode!r}: use gymnasium.make to draw one environment")
        self._env = _make_env(name, num_envs, overrides, num_threads)
        self.metadata = {
            "render_modes": [],
            "render_fps": round(1.0 / self._env.step_dt),
            "autoreset_mode": AutoresetMode.SAME_STEP,
        }
        self.render_mode = None
        self.num_envs = num_envs
        self.single_observation_space = _unbounded(self._env.observation_dims["policy"])
        self.single_action_space = _box(self._env.action_low, self._env.action_high)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._seeded = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start episodes everywhere.

        One seed serves all environments: each has a random stream of its own, by its index.
        """
        super().reset(seed=seed)
        if seed is None and not self._seeded:
            seed = int(self.np_random.integers(2**31))
        self._seeded = True
        return _numpy(self._env.reset(seed)["policy"]), {}

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Take one control step everywhere; clips the actions to their bounds."""
        batch = torch.as_tensor(actions, dtype=torch.float32)
        obs, reward, terminated, truncated, info = self._env.step(batch)
        done = _numpy(terminated | truncated)
        told = _final_info(done, info) if done.any() else {}
        return _numpy(obs["policy"]), _numpy(reward.double()), _numpy(terminated), _numpy(truncated), told


def _final_info(done: np.ndarray, info: dict[str, Any]) -> dict[str, Any]:
    last = _numpy(info["final_obs"]["policy"])
    final_obs = np.full(len(done), None, dtype=object)
    for i in np.flatnonzero(done):
        final_obs[i] = last[i]
    metrics = {name: np.where(done, _numpy(values), 0.0) for name, values in info["metrics"].items()}
    final_info = {
        "metrics": metrics | {f"_{name}": done.copy() for name in metrics},
        "_metrics": done.copy(),
    }
    if info["success"] is not None:
        final_info |= {"success": _numpy(info["success"]) & done, "_success": done.copy()}
    return {
        "final_obs": final_obs,
        "_final_obs": done.copy(),
        "final_info": final_info,
        "_final_info": done.copy(),
    }


register_all()
