"""Time an environment against bare `mujoco.batch` on the same simulations, and a training by its phases.

    python -m benchmarks.throughput [env=lift env.num_envs=512 … any override of run.py]

A window of control steps with random actions is recorded once. Then environment and bare batch take turns:
the environment goes through the window again, and the batch is given, step by step, the state and the
controls that the environment's physics had there, and steps them with nothing else to do. Both use the
same model and number of threads. A second batch also brings the derived fields (poses, Jacobians) up to date
after each step, as every environment needs them: `ratio_to_current_batch` leaves only the task's own work.
These have the engine's settings that ours has (`physics/cpu.py`: no clock, no idle searches). A third one is
as MuJoCo's package has it: `ratio_to_shipped_batch`.
A short training, in a process and a directory of its own, says where its wall time goes. Prints JSON;
`ratio` is environment over batch, 1 would be an environment for free.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import mujoco
import torch
from mujoco import batch as mujoco_batch

from rl_platform import config
from rl_platform.assemble import build_env
from rl_platform.composition import Composer
from rl_platform.envs.env import Env
from rl_platform.errors import UserError
from rl_platform.physics.cpu import engine_clock
from rl_platform.threads import available_threads
from rl_platform.timing import PHASES

ROOT = Path(__file__).parents[1]
STEPS = 60  # control steps of the window
ROUNDS = 7
ITERATIONS = 40  # of the training
ACTION_STD = 0.5
_clock = engine_clock()
SHIPPED_CLOCK = _clock.value if _clock is not None else None  # before an environment stops it


class Window:
    """Some control steps of an environment that can be gone through again, by it or by a bare batch."""

    def __init__(self, env: Env, num_threads: int) -> None:
        """Step `env` into the middle of its episodes, and record what comes then."""
        generator = torch.Generator().manual_seed(0)
        shape = (STEPS, env.num_envs, env.action_dim)
        self.env = env
        self.actions = ACTION_STD * torch.randn(shape, generator=generator)
        env.randomize_episode_lengths()
        self.replay()
        self.start = env.state_dict()
        self.states: list[Any] = []
        physics: Any = env.physics
        step, batch = physics.step, physics._batch

        def recorded(substeps: int) -> None:
            self.states.append(batch.state.copy())  # the controls are a part of it
            step(substeps)

        physics.step = recorded
        self.replay()
        physics.step = step
        self.batch = mujoco_batch.Batch(physics.model, env.num_envs, num_threads)
        self.current = mujoco_batch.Batch(physics.model, env.num_envs, num_threads, persistent=True)
        self.shipped = mujoco_batch.Batch(env.task.scene(env.config).compile(), env.num_envs, num_threads)

    def replay(self) -> None:
        """Step the environment through the actions."""
        for action in self.actions:
            self.env.step(action)

    def environment_s(self) -> float:
        """Seconds of the environment's control steps."""
        self.env.load_state_dict(self.start)
        start = time.perf_counter()
        self.replay()
        return time.perf_counter() - start

    def batch_s(self, batch: Any, stage: mujoco.mjtStage) -> float:
        """Seconds of a batch from the same states, with the same controls."""
        seconds, substeps = 0.0, self.env.config.substeps
        clock, stopped = engine_clock(), None
        if clock is not None:
            stopped = clock.value
            clock.value = SHIPPED_CLOCK if batch is self.shipped else stopped
        for state in self.states:
            batch.state[:] = state
            start = time.perf_counter()
            batch.step(nstep=substeps, stage=int(stage))
            seconds += time.perf_counter() - start
        if clock is not None:
            clock.value = stopped
        return seconds


def compare(cfg: Any) -> dict[str, Any]:
    """Let environment and batches take turns; medians."""
    threads = available_threads(cfg.num_threads)
    torch.set_num_threads(1)  # as in training, while it collects
    env = build_env(cfg, num_envs=cfg.env.num_envs, seed=0, num_threads=threads, training=True)
    if not isinstance(env, Env):
        raise SystemExit("the benchmark compares environments of ours: not env=gymnasium")
    window = Window(env, threads)
    rounds = []
    for _ in range(ROUNDS):
        bare, shipped = (
            window.batch_s(batch, mujoco.mjtStage.mjSTAGE_NONE) for batch in (window.batch, window.shipped)
        )
        current = window.batch_s(window.current, mujoco.mjtStage.mjSTAGE_VEL)
        rounds.append((window.environment_s(), bare, current, shipped))
    steps = STEPS * env.num_envs
    environment, bare, current, shipped = (
        round(steps / statistics.median(times)) for times in zip(*rounds, strict=True)
    )
    ratios = [bare_s / environment_s for environment_s, bare_s, *_ in rounds]
    return {
        "env": cfg.env.name,
        "num_envs": env.num_envs,
        "num_threads": threads,
        "timestep": cfg.env.timestep,
        "substeps": cfg.env.substeps,
        "mujoco": mujoco.__version__,
        "environment_steps_per_s": environment,
        "batch_steps_per_s": bare,
        "current_batch_steps_per_s": current,
        "shipped_batch_steps_per_s": shipped,
        "batch_physics_steps_per_s": bare * cfg.env.substeps,
        "ratio": round(statistics.median(ratios), 3),
        "ratio_min_max": [round(min(ratios), 3), round(max(ratios), 3)],
        "ratio_to_current_batch": round(statistics.median(c / e for e, _, c, _ in rounds), 3),
        "ratio_to_shipped_batch": round(statistics.median(s / e for e, *_, s in rounds), 3),
    }


def training_shares(overrides: list[str]) -> dict[str, Any]:
    """Train for some iterations as a user does; return the share of wall time that each phase took."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "run.py", *overrides, "logger=files", "video=false", "eval.episodes=1",
            "eval.num_envs=1", f"max_iterations={ITERATIONS}", "total_env_steps=null", f"output_dir={folder}",
        ]  # fmt: skip
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if run.returncode:
            raise UserError(f"{' '.join(command)} failed:\n{run.stderr}")
        file = next(Path(folder).rglob("metrics.jsonl"))
        rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows = [row for row in rows if "Time/iteration_s" in row]
    whole = sum(row["Time/iteration_s"] for row in rows)
    seconds = {phase: sum(row[f"Perf/{phase}_s"] for row in rows) for phase in PHASES}
    shares = {phase: round(value / whole, 3) for phase, value in seconds.items()}
    return {
        "first_iteration_finished_s": round(rows[0]["Time/wall_s"], 2),
        "training_steps_per_s": round(statistics.median(row["Perf/steps_per_s"] for row in rows)),
        "wall_time_shares": shares | {"else": round(1.0 - sum(shares.values()), 3)},
    }


def main(argv: list[str]) -> int:
    """Measure and print."""
    overrides = argv or ["env=lift"]
    try:
        cfg = config.check_job(Composer().compose(overrides))
        result = compare(cfg) | training_shares(overrides)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(result, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
