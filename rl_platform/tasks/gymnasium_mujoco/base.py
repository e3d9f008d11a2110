"""What Gymnasium's tasks have in common: models, motors, resets, and the state of what walks or swims."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mujoco
import torch

from rl_platform import registry
from rl_platform.envs.actions import Motors
from rl_platform.envs.config import EnvConfig
from rl_platform.errors import UserError

if TYPE_CHECKING:
    from rl_platform.envs.env import Env

# Said of Gymnasium's cheetah whenever it is compiled.
warnings.filterwarnings("ignore", message="compiler attribute 'settotalmass' is deprecated")

Quantity = Callable[["State"], torch.Tensor]


@dataclass
class Config(EnvConfig):
    """What the tasks have besides their tables.

    Attributes:
        xml_file: a model of Gymnasium's, or the path of one's own.
        solved_return: an episode that collects so much counts as solved.
        healthy: quantity → [low, high]; beyond one of them the robot has failed. {}: it cannot fail.
    """

    xml_file: str
    solved_return: float
    healthy: dict[str, Any]

    def check(self) -> Iterator[tuple[str, str]]:
        """Yield (key, message) for each value out of range."""
        yield from super().check()
        yield from check(self)


def check(config: Any) -> Iterator[tuple[str, str]]:
    """Yield (key, message) for each difference between a task's tables and its YAML, and each bad range."""
    task = registry.load("env", config.name)
    wanted = getattr(task, "HEALTHY", {})
    if set(config.healthy) != set(wanted):
        yield "healthy", f"must have {', '.join(wanted) or 'no keys'}, got {', '.join(config.healthy)}"
    for name, bounds in config.healthy.items():
        if not (isinstance(bounds, list) and len(bounds) == 2 and bounds[0] < bounds[1]):
            yield f"healthy.{name}", f"must be [low, high], got {bounds}"


@dataclass
class State:
    """What the terms are functions of; float64 (float32 on the GPU), one row an environment.

    What comes from the simulation is live: a term that keeps it, as a metric does, has to copy it.

    Attributes:
        qpos, qvel, ctrl: positions, velocities, and the motors' controls.
        derived: further fields that the task asked for, by their names in `mjData`.
        x, last_x: where the robot is, and where it was before the step, `(n,)` m.
        timestep, step_dt: physics step and control step, s.
        within: says of a state whether the quantities of `healthy` are within their bounds.
        reward_sums: each reward term's sum over the episode so far, `(terms, n)`.
        solved_return: an episode that collects so much counts as solved.
    """

    qpos: torch.Tensor
    qvel: torch.Tensor
    ctrl: torch.Tensor
    derived: Mapping[str, torch.Tensor]
    x: torch.Tensor
    last_x: torch.Tensor
    timestep: float
    step_dt: float
    within: Quantity
    reward_sums: torch.Tensor
    solved_return: float

    @cached_property
    def healthy(self) -> torch.Tensor:
        """Whether the robot has not failed, `(n,)` bool."""
        return self.within(self)

    def rows(self, field: str) -> torch.Tensor:
        """A field of all bodies but the world, side by side: `(n, (bodies - 1) · width)`."""
        values = self.derived[field]
        return values.flatten(1)[:, values.shape[2] :]


def scene(config: Any, looks: str = "none") -> mujoco.MjSpec:
    """Gymnasium's model, which has no other looks.

    Raises:
        UserError: there is no such file.
    """
    own = Path(config.xml_file).expanduser()
    path = own if own.is_file() else _gymnasium() / "envs" / "mujoco" / "assets" / config.xml_file
    if not path.is_file():
        raise UserError(f"env.xml_file={config.xml_file}: neither a file nor a model of Gymnasium's")
    spec = mujoco.MjSpec.from_file(str(path))
    spec.option.timestep = config.timestep
    return spec


def _gymnasium() -> Path:
    """The directory of the installed package, without importing it."""
    package = importlib.util.find_spec("gymnasium")
    assert package is not None and package.origin is not None
    return Path(package.origin).parent


def motors(env: Env) -> dict[str, Any]:
    """All actuators of the model."""
    return {"motors": Motors(env.physics)}


def root_x(env: Env) -> Callable[[], torch.Tensor]:
    """Read the first coordinate of the position."""
    qpos = env.physics.data("qpos")
    return lambda: qpos[:, 0].clone()


def reader(
    position: Callable[[Env], Callable[[], torch.Tensor]] = root_x,
    derived: Sequence[str] = (),
    healthy: Mapping[str, Quantity] | None = None,
) -> Callable[[Env], Callable[[], State]]:
    """Return a task's `reader`.

    Args:
        position: `position(env)` returns the function that reads where the robot is, `(n,)` m, anew.
        derived: the fields of `mjData` that the terms want besides positions, velocities and controls.
        healthy: the task's table of quantities with bounds, each `(n, k)`.
    """

    def build(env: Env) -> Callable[[], State]:
        physics, config = env.physics, env.config
        fields = {name: physics.data(name) for name in derived}
        where = position(env)
        within = bounded(healthy or {}, config.healthy)
        # the place at the last reading is the one before the step, of a new episode its start
        last = where()

        def read() -> State:
            before, now = last.clone(), where()
            last.copy_(now)
            return State(
                qpos=physics.data("qpos"),
                qvel=physics.data("qvel"),
                ctrl=physics.data("ctrl"),
                derived=fields,
                x=now,
                last_x=before,
                timestep=config.timestep,
                step_dt=env.step_dt,
                within=within,
                reward_sums=env.reward_sums,
                solved_return=config.solved_return,
            )

        return read

    return build


def bounded(quantities: Mapping[str, Quantity], bounds: Mapping[str, list[float]]) -> Quantity:
    """Return the function that says whether low < quantity < high for all of them, `(n,)` bool."""
    limits: list[torch.Tensor] = []

    def within(s: State) -> torch.Tensor:
        values = [quantity(s) for quantity in quantities.values()]
        if not limits:
            pairs = zip(quantities, values, strict=True)
            rows = [bounds[name] for name, columns in pairs for _ in range(columns.shape[1])]
            low_high = torch.tensor(rows, dtype=torch.float64, device=s.qpos.device).view(-1, 2)
            limits.extend(low_high.unbind(1))
        table = values[0] if len(values) == 1 else torch.cat(values, dim=1)
        return ((table > limits[0]) & (table < limits[1])).all(1)

    return within


def x_velocity(s: State) -> torch.Tensor:
    """Mean speed along x over the control step, m/s."""
    return (s.x - s.last_x) / s.step_dt


def control_cost(s: State) -> torch.Tensor:
    """‖ctrl‖²."""
    return s.ctrl.square().sum(1)


def survival(s: State) -> torch.Tensor:
    """1 while the robot is healthy."""
    return s.healthy.to(torch.float64)


def unhealthy(s: State) -> torch.Tensor:
    """The robot has failed."""
    return ~s.healthy


def x_position(s: State) -> torch.Tensor:
    """How far the robot is along x, m."""
    return s.x


def clipped_velocity(s: State) -> torch.Tensor:
    """Velocities, cut off at ±10."""
    return s.qvel.clamp(-10.0, 10.0)


def solved(s: Any) -> torch.Tensor:
    """1 where the episode's return has come to `solved_return`."""
    return (s.reward_sums.sum(0) >= s.solved_return).to(s.reward_sums.dtype)


def uniform_noise(env: Env, env_ids: torch.Tensor, *, scale: float) -> None:
    """Add noise from U(-scale, scale) to the initial positions and velocities."""
    qpos, qvel = env.physics.data("qpos"), env.physics.data("qvel")
    noise = scale * env.random.uniform_in(env_ids, [[-1.0, 1.0]] * (qpos.shape[1] + qvel.shape[1]))
    qpos[env_ids] += noise[:, : qpos.shape[1]]
    qvel[env_ids] += noise[:, qpos.shape[1] :]


def uniform_normal_noise(env: Env, env_ids: torch.Tensor, *, scale: float) -> None:
    """Add noise to the initial state: positions from U(-scale, scale), velocities from N(0, scale²)."""
    qpos, qvel = env.physics.data("qpos"), env.physics.data("qvel")
    qpos[env_ids] += scale * env.random.uniform_in(env_ids, [[-1.0, 1.0]] * qpos.shape[1])
    qvel[env_ids] += scale * env.random.normal(env_ids, qvel.shape[1])
