"""InvertedPendulum-v5: a pole on a cart is kept upright."""

from __future__ import annotations

from rl_platform.envs.terms import Task
from rl_platform.tasks.gymnasium_mujoco import base
from rl_platform.tasks.gymnasium_mujoco.base import Config

__all__ = ["HEALTHY", "TASK", "Config"]

HEALTHY = {"angle": lambda s: s.qpos[:, 1:2]}

TASK = Task(
    scene=base.scene,
    actions=base.motors,
    reader=base.reader(healthy=HEALTHY),
    events={"reset_noise": base.uniform_noise},
    observations={"policy": {"qpos": lambda s: s.qpos, "qvel": lambda s: s.qvel}},
    rewards={"reward_survive": base.survival},
    terminations={"unhealthy": base.unhealthy},
    metrics={"solved": base.solved},
    reward_rates=False,
    current_fields=False,
    poses_only=True,
)
