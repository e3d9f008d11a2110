"""2k iterations in one go, and k + resume + k, are the same training to the last bit."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rl_platform import seeding
from rl_platform.evaluate import evaluate
from rl_platform.trainer import Trainer
from tests.fakes import MemoryLogger, MemoryRunDir, PointMass, session, small_ppo

WALL_TIME = ("wall_s", "loggers")


def differences(a: Any, b: Any, path: str = "") -> list[str]:
    """Name every place where two nested states are not bit-identical, but for wall times."""
    if path in WALL_TIME:
        return []
    if isinstance(a, dict) and isinstance(b, dict):
        if a.keys() != b.keys():
            return [f"{path}: keys {a.keys() ^ b.keys()}"]
        return [found for key in a for found in differences(a[key], b[key], f"{path}/{key}".strip("/"))]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        return [
            found
            for i, (x, y) in enumerate(zip(a, b, strict=True))
            for found in differences(x, y, f"{path}/{i}")
        ]
    if isinstance(a, torch.Tensor):
        return [] if torch.equal(a, b) else [path]
    return [] if a == b else [f"{path}: {a} != {b}"]


def metrics(logger: Any) -> list[tuple[int, dict[str, float]]]:
    """Rows without what depends on the clock."""
    assert isinstance(logger, MemoryLogger)
    return [
        (
            steps,
            {k: v for k, v in row.items() if not k.startswith(("Perf/", "Time/wall", "Time/iteration_s"))},
        )
        for steps, row in logger.rows
    ]


def new_trainer(path: Path, **changes: Any) -> Trainer:
    seeding.seed_everything(1)
    env = PointMass(8)
    ppo = small_ppo(env, normalize_reward=True)
    one = session(path, **changes)
    one.random_episode_start = True
    return Trainer(env, ppo, one)


def resumed(path: Path, **changes: Any) -> Trainer:
    one = new_trainer(path, **changes)
    one.env.reset(seed=123)  # whatever happened before, the checkpoint decides
    torch.rand(5)
    one.load_state_dict(MemoryRunDir(path).load_checkpoint())
    return one


@pytest.mark.parametrize("log_interval", [1, 4])
def test_interrupted_and_resumed_is_the_same_training(tmp_path: Path, log_interval: int) -> None:
    changes = {"log_interval": log_interval, "save_best_after": 1}
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    whole = new_trainer(tmp_path / "whole", max_iterations=20, **changes)
    whole.fit()
    first = new_trainer(tmp_path / "parts", max_iterations=10, **changes)
    first.fit()
    second = resumed(tmp_path / "parts", max_iterations=20, **changes)
    assert (second.iteration, second.env_steps) == (10, first.env_steps)
    assert second.wall_s >= first.wall_s - 1.0
    second.fit()
    for name in ("last", "best"):
        states = [MemoryRunDir(tmp_path / part).load_checkpoint(name) for part in ("whole", "parts")]
        assert differences(states[0], states[1]) == []
    rows = metrics(first.session.loggers) + metrics(second.session.loggers)
    assert rows == metrics(whole.session.loggers)


def test_another_seed_is_another_training(tmp_path: Path) -> None:
    states = []
    for seed in (1, 2):
        env = PointMass(8, seed=seed)
        one = Trainer(env, small_ppo(env, seed=seed), session(tmp_path, max_iterations=2))
        one.fit()
        states.append(MemoryRunDir(tmp_path).load_checkpoint())
    assert differences(states[0], states[1]) != []


def test_evaluations_on_the_way_change_nothing(tmp_path: Path) -> None:
    states = []
    for interval in (0, 2):
        one = new_trainer(tmp_path, max_iterations=6, eval_interval=interval)
        own = PointMass(4)

        def play(policy: Any, own: PointMass = own) -> dict[str, float]:
            return {"Eval/success_rate": evaluate(own, policy, 8, seed=3)["success_rate"]}

        one.session.evaluate = play
        one.fit()
        states.append(MemoryRunDir(tmp_path).load_checkpoint())
    assert differences(states[0], states[1]) == []


def test_a_finished_training_resumes_to_nothing(tmp_path: Path) -> None:
    new_trainer(tmp_path, max_iterations=2).fit()
    again = resumed(tmp_path, max_iterations=2)
    assert again.fit().reason == "max_iterations=2 reached"
    assert isinstance(again.session.run_dir, MemoryRunDir)
    assert again.session.run_dir.saved == []


def test_process_wide_streams_are_restored() -> None:
    seeding.seed_everything(5)
    np.random.standard_normal()  # leaves a second one in store
    state = seeding.rng_state()

    def draw() -> tuple[float, float, float]:
        return torch.rand(1).item(), random.random(), float(np.random.standard_normal())

    first = draw()
    with seeding.undisturbed():
        seeding.seed_everything(6)
        draw()
    second = draw()
    seeding.set_rng_state(state)
    assert draw() == first
    assert draw() == second
