"""The configuration that every environment of ours has."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from rl_platform import registry
from rl_platform.envs import cameras
from rl_platform.envs.delays import range_problem
from rl_platform.envs.terms import check_tables


@dataclass
class WarpConfig:
    """What MuJoCo Warp is told besides the scene: its room for contacts, which it lays out before it starts.

    Attributes:
        nconmax: contacts, and pairs near each other, in an environment on average; null: MuJoCo Warp guesses.
        njmax: constraint rows in each environment; null: MuJoCo Warp guesses.
        iterations: of Newton's method at most in a physics step; null: as the scene has it. All environments
            wait for the slowest: of thousands one nearly always wants many, to change its forces a little.
    """

    nconmax: int | None
    njmax: int | None
    iterations: int | None

    def check(self) -> Iterator[tuple[str, str]]:
        """Yield (key, message) for each value out of range."""
        for key in ("nconmax", "njmax", "iterations"):
            if (value := getattr(self, key)) is not None and value < 1:
                yield key, f"must be at least 1, or null, got {value}"


@dataclass
class EnvConfig:
    """Sizes, timing and the numbers of the task's terms; the YAML holds every value.

    Attributes:
        name: the module in `rl_platform/tasks/`, or a dotted module of the user's own.
        num_envs: environments stepped together, over all ranks.
        physics: what simulates; null: warp on a CUDA device, else cpu.
        warp: what MuJoCo Warp is told besides the scene.
        timestep: physics step in s.
        substeps: physics steps in a control step.
        episode_length_s: s until an episode is truncated.
        action_delay_steps: [least, most] control steps from an action to the actuators, drawn at each
            episode's start.
        cameras: observation group → camera of the scene, width and height in pixels.
        observations: group → term → scale and noise (standard deviation), perhaps `history_steps` and
            `delay_steps` (`ObservationHistory`), and the term's parameters.
        rewards: term → weight and the term's parameters; null switches a term off.
        terminations: term → the term's parameters, or null.
        commands: command → resampling_time_s and its ranges.
        events: event at an episode's start → its parameters, or null.
        curriculum: term → its parameters, or null.
    """

    name: str
    num_envs: int
    physics: Literal["cpu", "warp"] | None
    warp: WarpConfig
    timestep: float
    substeps: int
    episode_length_s: float
    action_delay_steps: list[int]
    cameras: dict[str, Any]
    observations: dict[str, Any]
    rewards: dict[str, Any]
    terminations: dict[str, Any]
    commands: dict[str, Any]
    events: dict[str, Any]
    curriculum: dict[str, Any]

    def check(self) -> Iterator[tuple[str, str]]:
        """Yield (key, message) for each value out of range, and where the task's tables have other names."""
        if self.physics == "warp" and importlib.util.find_spec("mujoco_warp") is None:
            yield "physics", "is warp, which is not installed: pip install -c constraints.txt -e '.[gpu]'"
        for key in ("num_envs", "substeps"):
            if getattr(self, key) < 1:
                yield key, f"must be at least 1, got {getattr(self, key)}"
        for key in ("timestep", "episode_length_s"):
            if not getattr(self, key) > 0.0:
                yield key, f"must be above 0 s, got {getattr(self, key)}"
        if problem := range_problem(self.action_delay_steps):
            yield "action_delay_steps", problem
        yield from cameras.problems(self.cameras, self.observations)
        module = registry.load("env", self.name)
        if hasattr(module, "TASK"):
            yield from check_tables(module.TASK, self)
        else:
            yield "name", f"{module.__name__} has no TASK, the table of what the task is made of"
