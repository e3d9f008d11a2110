"""Time Gymnasium's MuJoCo tasks: ours, EnvPool's and Gymnasium's own processes, by turns.

    python -m benchmarks.gymnasium [half_cheetah humanoid_v5 … any of rl_platform/tasks/gymnasium_mujoco/]

All have the same number of environments and of threads (Gymnasium: a process for each environment) and the
same random actions, from starts of their own. Bare `mujoco.batch` has the simulation alone, each step from
the states that ours is in. Prints JSON: medians in environment steps a second, and ratios of ours to the
others, each within a round. EnvPool (the extra `peers`) is left out where it is not installed.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch
from mujoco import batch as mujoco_batch

from rl_platform import config
from rl_platform.assemble import build_env
from rl_platform.composition import Composer
from rl_platform.errors import UserError
from rl_platform.threads import available_threads

ROUNDS = 5
SECONDS = 1.5  # of each in a round
Step = Callable[[np.ndarray], Any]


def original(name: str) -> str:
    """Return Gymnasium's id of a task: half_cheetah → HalfCheetah-v5."""
    return "".join(word.capitalize() for word in name.removesuffix("_v5").split("_")) + "-v5"


def ours(cfg: Any, threads: int) -> tuple[Step, Any]:
    """Our environment, stepped as a trainer steps it."""
    env = build_env(cfg, num_envs=cfg.env.num_envs, seed=0, num_threads=threads, training=True)
    return lambda action: env.step(torch.from_numpy(action)), env


def bare(env: Any, threads: int) -> Step:
    """The simulation alone, with nothing read from it."""
    batch = mujoco_batch.Batch(env.physics.model, env.num_envs, threads)
    controls = batch.bind("ctrl")

    def step(action: np.ndarray) -> None:
        batch.state[:] = env.physics._batch.state  # where ours is: what touches more takes longer
        controls[:] = action
        batch.step(nstep=env.config.substeps)

    return step


def envpool_step(name: str, num_envs: int, threads: int) -> Step | None:
    """EnvPool's version, None if it is not installed."""
    try:
        import envpool
    except ImportError:
        print("envpool is not installed (pip install envpool): left out", file=sys.stderr)
        return None
    env = envpool.make_gymnasium(original(name), num_envs=num_envs, num_threads=threads, seed=0)
    env.reset()
    return env.step


def processes(name: str, num_envs: int) -> tuple[Step, Callable[[], None]]:
    """Gymnasium's own vector environment."""
    make = [lambda: gymnasium.make(original(name))] * num_envs
    env = gymnasium.vector.AsyncVectorEnv(make)
    env.reset(seed=0)
    return env.step, env.close


def steps_per_s(step: Step, actions: np.ndarray) -> float:
    """Step for a while; environment steps a second."""
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < SECONDS:
        step(actions[count % len(actions)])
        count += 1
    return count * len(actions[0]) / (time.perf_counter() - start)


def compare(name: str) -> dict[str, Any]:
    """Let all of them take turns."""
    cfg = config.check_job(Composer().compose([f"env={name}", "~tuned"]))
    threads = available_threads(cfg.num_threads)
    torch.set_num_threads(1)  # as in training, while it collects
    gymnasium_step, close = processes(name, cfg.env.num_envs)  # before there are threads to be forked
    step, env = ours(cfg, threads)
    steps: dict[str, Step | None] = {
        "ours": step,
        "batch": bare(env, threads),
        "envpool": envpool_step(name, cfg.env.num_envs, threads),
        "gymnasium": gymnasium_step,
    }
    low, high = env.action_low.numpy(), env.action_high.numpy()
    unit = np.random.default_rng(0).random((50, env.num_envs, env.action_dim), dtype=np.float32)
    actions = low + (high - low) * unit
    present = {who: one for who, one in steps.items() if one is not None}
    rounds = [{who: steps_per_s(one, actions) for who, one in present.items()} for _ in range(ROUNDS)]
    close()
    result: dict[str, Any] = {"env": name, "num_envs": env.num_envs, "num_threads": threads}
    for who in present:
        result[f"{who}_steps_per_s"] = round(statistics.median(each[who] for each in rounds))
    for who in list(present)[1:]:
        ratios = [each["ours"] / each[who] for each in rounds]
        result[f"ratio_to_{who}"] = round(statistics.median(ratios), 2)
        result[f"ratio_to_{who}_min_max"] = [round(min(ratios), 2), round(max(ratios), 2)]
    return result


def main(argv: list[str]) -> int:
    """Measure and print."""
    try:
        results = [compare(name) for name in argv or ["half_cheetah", "humanoid_v5"]]
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(results, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
