"""Everything that is claimed of the GPU, in one call of less than nine minutes, as one table.

    python -m benchmarks.gpu                      on a machine with a CUDA device
    python -m benchmarks.gpu --smoke              the same code in miniature, on Warp's CPU device
    python -m benchmarks.gpu --sizes lift …       what room for contacts tasks need (env.warp), with a margin

Bare: MuJoCo Warp's steps alone, as a CUDA graph, on the same simulations. Environment: `Env.step` with random
actions. Collection: that with a policy's actions, kept for learning. Training: the median of an own run's
iterations, and the share of their time in which the GPU had no kernel to run (nvidia-smi). Times are from the
command, as a user sees them, with kernels that are compiled already.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from rl_platform.algos.ppo import make_ppo
from rl_platform.assemble import build_env, typed
from rl_platform.config import compose
from rl_platform.envs.env import Env
from rl_platform.evaluate import wilson_interval
from rl_platform.threads import available_threads

ROOT = Path(__file__).parents[1]
BUDGET_S = 525.0
NOT_MEASURED = "not measured"
ROWS = ("speed", "seeds", "cpu", "humanoid")
SEEDS = (1, 2, 3)
MARGIN = 2.0  # of the room for contacts over the most that was seen


class Table:
    """Rows of figures, printed as they come; none is begun after the budget is spent."""

    def __init__(self, budget_s: float) -> None:
        self.rows: list[tuple[str, str]] = []
        self._end = time.monotonic() + budget_s

    def left_s(self) -> float:
        """Seconds of the budget that are left."""
        return self._end - time.monotonic()

    def add(self, name: str, needs_s: float, measure: Callable[[], str]) -> None:
        """Measure what takes about `needs_s`, if there is still time, and print it."""
        enough = self.left_s() >= needs_s
        value = measure() if enough else f"{NOT_MEASURED}: {max(self.left_s(), 0.0):.0f} s were left"
        self.rows.append((name, value))
        print(f"| {name} | {value} |", flush=True)


def build(cfg: Any) -> Env:
    """A task as training has it."""
    threads = available_threads(None)
    env = build_env(cfg, num_envs=cfg.env.num_envs, seed=0, num_threads=threads, training=True)
    assert isinstance(env, Env)
    return env


def steps_per_s(step: Callable[[], Any], num_envs: int, count: int, device: str) -> float:
    """Environment steps a second of `step`, after some that compile and record."""
    for _ in range(4):
        step()
    _wait(device)
    start = time.perf_counter()
    for _ in range(count):
        step()
    _wait(device)
    return num_envs * count / (time.perf_counter() - start)


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize(device)


def simulation(task: str, num_envs: int, count: int, device: str) -> str:
    """Control steps a second of bare MuJoCo Warp, of the environment, and of a rollout with PPO's policy."""
    cfg = compose([f"env={task}", "agent=ppo", "env.physics=warp", f"env.num_envs={num_envs}"])
    cfg.device = device  # the configuration's own check wants a CUDA device
    env = build(cfg)
    env.randomize_episode_lengths()
    low, high = env.action_low, env.action_high
    actions = iter(lambda: low + (high - low) * torch.rand(num_envs, env.action_dim, device=device), None)
    whole = steps_per_s(lambda: env.step(next(actions)), num_envs, count, device)
    env.check()
    bare = bare_steps_per_s(env, actions, max(3, count // 5), device)
    agent, algo = typed("agent", cfg.agent), typed("algo", cfg.algo)
    ppo = make_ppo(agent, algo, env.observation_dims, env.action_dim, num_envs, device, seed=0)
    seen = env.reset()
    env.randomize_episode_lengths()

    def collect() -> None:
        nonlocal seen
        for _ in range(ppo.rollout_steps):
            seen, reward, terminated, truncated, info = env.step(ppo.act(seen))
            ppo.observe(reward, terminated, truncated, info["final_obs"])
        env.check()
        ppo.buffer.clear()

    rollouts = max(1, count // ppo.rollout_steps)
    collection = steps_per_s(collect, num_envs * ppo.rollout_steps, rollouts, device)
    speeds = f"bare {bare:,.0f}, environment {whole:,.0f}, collection {collection:,.0f} control steps/s"
    return f"{speeds}; of bare {whole / bare:.2f} and {collection / bare:.2f}"


def bare_steps_per_s(env: Env, actions: Iterator[torch.Tensor], count: int, device: str) -> float:
    """Control steps a second of MuJoCo Warp alone, with the controls of `count` steps of the environment.

    With others it has other contacts, and what is at rest wants less.
    """
    import mujoco_warp as mjw  # an extra

    physics: Any = env.physics
    state, controls, step = physics.state_dict(), [], physics.step

    def remember(substeps: int) -> None:
        controls.append(physics.data("ctrl").clone())
        step(substeps)

    physics.step = remember
    for _ in range(count):
        env.step(next(actions))
    physics.step = step

    def substeps() -> None:
        for _ in range(env.config.substeps):
            mjw.step(physics._model, physics._data)

    seconds = []
    for _ in range(6):
        physics.load_state_dict(state)
        _wait(device)
        start = time.perf_counter()
        for control in controls:
            physics.data("ctrl").copy_(control)
            physics._run("bare", substeps)
        _wait(device)
        seconds.append(time.perf_counter() - start)
    return env.num_envs * count / statistics.median(seconds[1:])  # the first records the graph


@dataclass
class Training:
    """A run as a user starts it.

    Attributes:
        rows: of its log.
        final: its last evaluation.
        busy: percentages of the time in which the GPU had something to do, between first and last row.
    """

    rows: list[dict[str, Any]]
    final: dict[str, Any]
    busy: list[float]

    def speed(self) -> str:
        """Environment steps a second of whole iterations, and the GPU's idle share."""
        steps_per_s = statistics.median(row["Perf/steps_per_s"] for row in self.rows)
        idle = f"{100 - statistics.mean(self.busy):.0f} % idle" if self.busy else "idle share unknown"
        return f"{steps_per_s:,.0f} steps/s, GPU {idle}"

    def reached(self, success_rate: float) -> str:
        """Seconds until an evaluation was so good."""
        good = (row for row in self.rows if row.get("Eval/success_rate", 0.0) >= success_rate)
        row = next(good, None)
        return "never" if row is None else f"{row['Time/wall_s']:.0f}"


def train(overrides: list[str], folder: Path, device: str) -> Training:
    """Train as a user does.

    Raises:
        RuntimeError: the training failed; with what it printed.
    """
    command = [sys.executable, "run.py", *overrides, f"device={device}", "logger=files", "video=false"]
    began = time.monotonic()
    with gpu_use(device) as samples:
        run = subprocess.run(
            [*command, f"output_dir={folder}"], cwd=ROOT, capture_output=True, text=True, check=False
        )
    if run.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{run.stderr}")
    path = max(folder.rglob("summary.json"), key=lambda path: path.stat().st_mtime)
    rows = [json.loads(line) for line in (path.parent / "metrics.jsonl").read_text().splitlines()]
    first, last = (began + row["Time/wall_s"] for row in (rows[0], rows[-1]))
    busy = [percent for when, percent in samples if first < when < last]
    return Training(rows, json.loads(path.read_text())["eval"], busy)


@contextmanager
def gpu_use(device: str) -> Iterator[list[tuple[float, float]]]:
    """Watch the GPU in the `with` block: the moments, and the percentage of the time just before in use."""
    samples: list[tuple[float, float]] = []
    if device == "cpu":
        yield samples
        return
    command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "100"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watch:

        def read() -> None:
            assert watch.stdout is not None
            samples.extend((time.monotonic(), float(line)) for line in watch.stdout if line.strip().isdigit())

        reader = threading.Thread(target=read)
        reader.start()
        try:
            yield samples
        finally:
            watch.terminate()
            reader.join()


Interval = tuple[float, float]


def seeds_of(task: str, device: str, overrides: list[str], folder: Path) -> tuple[str, Interval]:
    """Train a task with several seeds; what it came to, and the interval of all final episodes' success."""
    run = [f"env={task}", "agent=ppo", *overrides]
    found = [train([*run, f"seed={seed}"], folder, device) for seed in SEEDS]
    times = ", ".join(training.reached(0.95) for training in found)
    rates, episodes = ([training.final[key] for training in found] for key in ("success_rate", "episodes"))
    successes = round(sum(rate * n for rate, n in zip(rates, episodes, strict=True)))
    told = f"95 % after {times} s; final {_percent(rates)}; {found[-1].speed()}"
    return told, wilson_interval(successes, sum(episodes))


def agreement(intervals: dict[str, Interval]) -> str:
    """Whether the success of all episodes at the ends of the trainings is the same on GPU and CPU."""
    if len(intervals) < 2:
        return f"{NOT_MEASURED}: one of them was not"
    (low, high), (other_low, other_high) = intervals.values()
    told = [f"{where} {100 * ends[0]:.1f} to {_percent([ends[1]])}" for where, ends in intervals.items()]
    return f"{'yes' if low <= other_high and other_low <= high else 'NO'}: {', '.join(told)}"


def _percent(rates: list[float]) -> str:
    return ", ".join(f"{100 * rate:.1f}" for rate in rates) + " %"


def measure(device: str, smoke: bool, rows: list[str], folder: Path) -> Table:
    """Print the wanted rows of the table, one by one."""
    table = Table(BUDGET_S)
    print("| What | Figure |\n|---|---|")
    task, walker = ("cartpole", "cartpole") if smoke else ("lift", "humanoid")
    small = ["max_iterations=2", "eval.episodes=8", "eval.num_envs=8"] if smoke else []
    small += ["algo.rollout_steps=4", "algo.num_minibatches=1", "algo.update_epochs=1"] if smoke else []
    few, many = (4, 8) if smoke else (4096, 8192)
    on_gpu = ["env.physics=warp", "total_env_steps=null", "eval_interval=10"]
    for num_envs in (few, many) if "speed" in rows else ():
        speeds = partial(simulation, task, num_envs, 3 if smoke else 200, device)
        table.add(f"{task}, {num_envs} environments", 40, speeds)
    if "speed" in rows:
        run = [f"env={task}", "agent=ppo", *on_gpu, f"env.num_envs={many}", "max_iterations=80", *small]
        table.add(f"{task}, {many} environments, training", 60, lambda: train(run, folder, device).speed())
    finals: dict[str, Interval] = {}

    def seeds(where: str, run_on: str, overrides: list[str]) -> str:
        told, finals[where] = seeds_of(task, run_on, overrides + small, folder)
        return told

    if "seeds" in rows:
        gpu = [*on_gpu, f"env.num_envs={few}", "stop_after_s=30"]
        table.add(f"{task}, {few} environments, {len(SEEDS)} seeds", 120, lambda: seeds("GPU", device, gpu))
    if "cpu" in rows:
        cpu = ["env.physics=cpu", "stop_after_s=50"]
        table.add(f"{task}, device=cpu, {len(SEEDS)} seeds", 180, lambda: seeds("CPU", "cpu", cpu))
    if {"seeds", "cpu"} <= set(rows):
        table.add("the same success on both (95 % intervals)", 0, lambda: agreement(finals))
    if "humanoid" in rows:
        limit = max(30, int(min(70.0, table.left_s() - 30.0)))
        run_of_walker = [f"env={walker}", "agent=ppo", *on_gpu, f"env.num_envs={few}", *small]

        def walks() -> str:
            training = train([*run_of_walker, f"stop_after_s={limit}"], folder, device)
            final = _percent([training.final["success_rate"]])
            return f"95 % after {training.reached(0.95)} of {limit} s; final {final}; {training.speed()}"

        table.add(f"{walker}, {few} environments", 60, walks)
    return table


def sizes(task: str, num_envs: int, count: int, device: str) -> str:
    """The most contacts and constraint rows that random actions lead to, as `env.warp` has them."""
    cfg = compose([f"env={task}", "env.physics=warp", f"env.num_envs={num_envs}"])
    cfg.device = device
    env = build(cfg)
    physics: Any = env.physics
    most = {"nconmax": 1, "njmax": 1}
    low, high = env.action_low, env.action_high
    for _ in range(count):
        env.step(low + (high - low) * torch.rand(num_envs, env.action_dim, device=device))
        most = {key: max(most[key], used) for key, used in physics.buffer_use().items()}
    room = {key: int(-(-MARGIN * used // 8) * 8) for key, used in most.items()}
    return f"{task}: at most {most} in {num_envs} environments; env.warp={room}".replace("'", "")


def main(argv: list[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.split("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="in miniature, on Warp's CPU device")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), help="(default: all)")
    parser.add_argument("--sizes", nargs="+", metavar="TASK", help="measure env.warp of these tasks instead")
    parser.add_argument("--num-envs", type=int, default=64, help="of --sizes (default: 64)")
    parser.add_argument("--steps", type=int, default=100, help="of --sizes (default: 100)")
    options = parser.parse_args(argv)
    has_cuda = torch.cuda.is_available()
    device = "cuda" if has_cuda and not options.smoke else "cpu"
    if options.sizes:
        for task in options.sizes:
            print(sizes(task, options.num_envs, options.steps, device), flush=True)
        return 0
    if not has_cuda and not options.smoke:
        print(
            "benchmarks.gpu: this machine has no CUDA device; nothing was measured (--smoke tries the code)"
        )
        return 1
    name = torch.cuda.get_device_name() if device == "cuda" else "Warp's CPU device, in miniature"
    print(f"{name}, torch {torch.__version__}, {time.strftime('%Y-%m-%d')}\n")
    with tempfile.TemporaryDirectory() as folder:
        measure(device, options.smoke, options.rows, Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
