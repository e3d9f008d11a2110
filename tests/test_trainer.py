from __future__ import annotations

import math
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from rl_platform import provenance
from rl_platform.errors import NonFiniteError
from rl_platform.timing import PHASES
from rl_platform.trainer import Trainer
from tests.fakes import MemoryLogger, MemoryRunDir, PointMass, session, small_ppo


def trainer(path: Path, num_envs: int = 4, **changes: Any) -> Trainer:
    env = PointMass(num_envs)
    return Trainer(env, small_ppo(env), session(path, **changes))


def logger(one: Trainer) -> MemoryLogger:
    assert isinstance(one.session.loggers, MemoryLogger)
    return one.session.loggers


def saved(one: Trainer) -> list[tuple[int, bool]]:
    assert isinstance(one.session.run_dir, MemoryRunDir)
    return one.session.run_dir.saved


def test_it_stops_at_the_limit_and_saves_once(tmp_path: Path) -> None:
    one = trainer(tmp_path, max_iterations=3)
    assert one.fit().reason == "max_iterations=3 reached"
    assert (one.iteration, one.env_steps) == (3, 3 * 8 * 4)
    assert saved(one) == [(3, False)]


def test_a_request_in_the_directory_ends_it_like_a_limit(tmp_path: Path) -> None:
    one = trainer(tmp_path)
    assert isinstance(one.session.run_dir, MemoryRunDir)
    requests = one.session.run_dir.stop_requests
    one.session.on_step = lambda: requests.append("pruned: too slow") if one.iteration == 2 else None
    assert one.fit().reason == "pruned: too slow"
    assert one.iteration == 3
    assert saved(one) == [(3, False)]


def test_it_learns_to_reach_the_origin(tmp_path: Path) -> None:
    env = PointMass(64)
    ppo = small_ppo(env, learning_rate=3e-3)
    one = Trainer(env, ppo, session(tmp_path, max_iterations=40))
    one.fit()
    returns = [row["Train/mean_reward"] for _, row in logger(one).rows if "Train/mean_reward" in row]
    assert returns[-1] > 0.6 * returns[0], returns  # returns are negative distances


def test_each_row_has_losses_speeds_phases_and_times(tmp_path: Path) -> None:
    one = trainer(tmp_path)
    one.fit()
    assert [steps for steps, _ in logger(one).rows] == [32, 64, 96, 128, 160]
    row = logger(one).rows[-1][1]
    for name in (
        "Loss/value", "Policy/mean_noise_std", "Perf/steps_per_s", "Perf/collection_time_s",
        "Perf/learning_time_s", "Time/wall_s", "Time/iteration_s",
        *(f"Perf/{phase}_s" for phase in PHASES),
    ):  # fmt: skip
        assert math.isfinite(row[name]), name
    assert row["Time/iteration"] == 5
    assert row["Perf/simulation_s"] > 0
    assert row["Perf/learning_s"] > 0


def test_log_interval_averages_over_the_episodes_between(tmp_path: Path) -> None:
    every, seldom = trainer(tmp_path, max_iterations=8), trainer(tmp_path, max_iterations=8, log_interval=4)
    every.fit()
    seldom.fit()
    assert [steps for steps, _ in logger(seldom).rows] == [128, 256]
    parts = [row for _, row in logger(every).rows[:4] if "Train/episodes" in row]
    episodes = sum(row["Train/episodes"] for row in parts)
    mean = sum(row["Train/mean_reward"] * row["Train/episodes"] for row in parts) / episodes
    assert logger(seldom).rows[0][1]["Train/mean_reward"] == pytest.approx(mean)
    assert logger(seldom).rows[0][1]["Train/episodes"] == episodes


def test_intervals_of_saving_evaluating_and_recording(tmp_path: Path) -> None:
    one = trainer(tmp_path, max_iterations=6, save_interval=2, eval_interval=3, video_interval=4)
    evaluated = []

    def evaluate(policy: Any) -> dict[str, float]:
        evaluated.append(one.iteration)
        return {"Eval/success_rate": 0.25}

    one.session.evaluate = evaluate
    one.session.record = lambda policy, iteration: tmp_path / "video.mp4"
    one.fit()
    assert [iteration for iteration, best in saved(one) if not best] == [2, 4, 6]
    assert evaluated == [3, 6]
    assert [steps for steps, row in logger(one).rows if "Eval/success_rate" in row] == [96, 192]
    assert logger(one).videos == [128]


def test_the_best_state_is_kept_as_it_was(tmp_path: Path) -> None:
    one = trainer(tmp_path, num_envs=32, max_iterations=12, save_interval=12, save_best_after=3)
    weights: dict[int, torch.Tensor] = {}
    remember = one._remember_best

    key = next(name for name, value in one.algo.model.state_dict().items() if value.dim() == 2)

    def spy() -> None:
        remember()
        weights[one.iteration] = one.algo.model.state_dict()[key].clone()

    one._remember_best = spy  # type: ignore[method-assign]
    one.fit()
    best = one.session.run_dir.load_checkpoint("best")
    assert best["iteration"] >= 3
    assert torch.equal(best["algo"]["model"][key], weights[best["iteration"]])
    scores = one.session.run_dir.load_checkpoint("last")["best_score"]
    assert tuple(scores) == tuple(best["best_score"])


def test_stop_after_s_counts_from_the_command(tmp_path: Path) -> None:
    one = trainer(tmp_path, max_iterations=None, stop_after_s=30.0, save_best_after=10**9)
    one.session.started = time.monotonic() - 29.9
    begin = time.monotonic()
    assert one.fit().reason == "stop_after_s=30 reached"
    assert time.monotonic() - begin < 5.0
    assert (one.iteration, False) in saved(one)  # beside a best one, if so many episodes ended meanwhile


def test_a_training_without_time_for_an_iteration_leaves_a_checkpoint(tmp_path: Path) -> None:
    one = trainer(tmp_path, max_iterations=None, stop_after_s=1e-9)
    assert one.fit().iteration == 0
    assert saved(one) == [(0, False)]


def test_score_to_win_ends_the_training(tmp_path: Path) -> None:
    one = trainer(tmp_path, num_envs=32, max_iterations=100, score_to_win=-1000.0)
    assert "score_to_win=-1000 reached" in one.fit().reason
    assert one.iteration < 100


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR2])
def test_a_signal_finishes_the_iteration_and_saves(tmp_path: Path, number: signal.Signals) -> None:
    one = trainer(tmp_path, max_iterations=100)

    def on_step() -> None:
        if one.iteration == 2:
            one.session.stop.received = number

    one.session.on_step = on_step
    assert one.fit().reason == f"{number.name} received"
    assert one.iteration == 3
    assert saved(one) == [(3, False)]


def test_a_full_disk_does_not_end_the_training_but_its_end_is_told(tmp_path: Path) -> None:
    one = trainer(tmp_path, max_iterations=4, save_interval=1)
    run_dir = one.session.run_dir
    assert isinstance(run_dir, MemoryRunDir)
    run_dir.full = True
    one.session.on_step = lambda: setattr(run_dir, "full", one.iteration < 3)
    one.fit()
    assert run_dir.saved == [(4, False)]
    assert "no space left" in logger(one).messages[0]


def test_a_nan_names_its_environment_and_can_be_replayed(tmp_path: Path) -> None:
    env = PointMass(4, bad_step=19, bad_env=2)
    one = Trainer(env, small_ppo(env), session(tmp_path))
    with pytest.raises(NonFiniteError, match="distance is not finite in environment 2") as caught:
        one.fit()
    assert f"{provenance.python()} run.py play {tmp_path} --replay {tmp_path / 'nan_dump.pt'}" in str(
        caught.value
    )
    assert caught.value.env_id == 2
    dump = torch.load(tmp_path / "nan_dump.pt", weights_only=True)
    assert dump["env_id"] == 2
    assert len(dump["actions"]) == 3  # steps 17, 18 and 19 of the third iteration
    again = PointMass(4, bad_step=19, bad_env=2)
    again.load_state_dict(dump["env"])
    for action in dump["actions"][:-1]:
        again.step(action)
    with pytest.raises(NonFiniteError):
        again.step(dump["actions"][-1])


def test_a_loss_that_is_no_number_is_told_with_the_command_that_shows_it_again(tmp_path: Path) -> None:
    one = trainer(tmp_path)
    update = one.algo.update

    def broken(obs: dict[str, torch.Tensor]) -> dict[str, float]:
        return update(obs) | {"Loss/value": float("nan")}

    one.algo.update = broken  # type: ignore[method-assign]
    with pytest.raises(NonFiniteError, match="Loss/value is nan") as caught:
        one.fit()
    assert f"{provenance.python()} run.py resume={tmp_path} max_iterations=1" in str(caught.value)
    assert saved(one) == []  # the last good checkpoint is not overwritten
