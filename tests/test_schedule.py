from __future__ import annotations

from typing import Any

import pytest

from rl_platform.schedule import Progress, Schedule, is_due
from rl_platform.scores import EpisodeScores


def schedule(**limits: Any) -> Schedule:
    none: dict[str, Any] = dict.fromkeys(
        ("max_iterations", "total_env_steps", "stop_after_s", "score_to_win")
    ) | dict.fromkeys(
        ("save_interval", "save_best_after", "eval_interval", "video_interval", "log_interval"), 0
    )
    return Schedule(**(none | limits))


def progress(
    iteration: int = 0,
    env_steps: int = 0,
    elapsed_s: float = 0.0,
    iteration_s: float = 0.0,
    score: float | None = None,
) -> Progress:
    return Progress(iteration, env_steps, elapsed_s, iteration_s, score)


@pytest.mark.parametrize(
    ("limit", "before", "at"),
    [
        ({"max_iterations": 3}, progress(iteration=2), progress(iteration=3)),
        ({"total_env_steps": 100}, progress(env_steps=99), progress(env_steps=100)),
        ({"stop_after_s": 10.0}, progress(elapsed_s=9.0), progress(elapsed_s=10.1)),
        (
            {"stop_after_s": 10.0},
            progress(elapsed_s=8.9, iteration_s=1),
            progress(elapsed_s=9.1, iteration_s=1),
        ),
        ({"score_to_win": 5.0}, progress(score=4.9), progress(score=5.0)),
        ({"score_to_win": -5.0}, progress(score=None), progress(score=-1.0)),
    ],
)
def test_each_limit_stops_and_is_named(limit: dict[str, Any], before: Progress, at: Progress) -> None:
    assert schedule(**limit).reason_to_stop(before) is None
    reason = schedule(**limit).reason_to_stop(at)
    assert reason is not None and next(iter(limit)) in reason


def test_the_nearest_limit_says_how_much_is_done() -> None:
    limits = schedule(max_iterations=10, total_env_steps=1000)
    assert limits.fraction_done(progress(iteration=2, env_steps=500)) == 0.5
    assert limits.fraction_done(progress(iteration=20)) == 1.0
    assert schedule().fraction_done(progress(iteration=7)) == 0.0


def test_an_interval_of_zero_is_never_due() -> None:
    assert [i for i in range(7) if is_due(3, i)] == [0, 3, 6]
    assert not any(is_due(0, i) for i in range(7))


def log(episodes: int, reward: float, success: float) -> dict[str, float]:
    return {"Train/episodes": episodes, "Train/mean_reward": reward, "Train/success_rate": success}


def test_there_is_no_score_before_the_window_is_full() -> None:
    scores = EpisodeScores(window=10)
    scores.add(log(9, 1.0, 1.0))
    assert scores.score is None
    scores.add({})
    scores.add(log(1, 11.0, 0.0))
    assert scores.score == (0.9, 2.0)


def test_the_score_forgets_what_the_window_does_not_need() -> None:
    scores = EpisodeScores(window=10)
    for reward in range(5):
        scores.add(log(5, reward, 0.0))
    assert scores.score == (0.0, 3.5)


def test_pop_averages_over_episodes_and_starts_anew() -> None:
    scores = EpisodeScores(window=1)
    scores.add(log(1, 0.0, 0.0))
    scores.add(log(3, 4.0, 1.0))
    assert scores.pop() == log(4, 3.0, 0.75)
    assert scores.pop() == {}


def test_scores_continue_from_their_state() -> None:
    scores = EpisodeScores(window=4)
    scores.add(log(3, 1.0, 0.5))
    again = EpisodeScores(window=4)
    again.load_state_dict(scores.state_dict())
    for one in (scores, again):
        one.add(log(3, 3.0, 0.5))
    assert again.score == scores.score == (0.5, 2.0)
    assert again.pop() == scores.pop()


def test_limits_are_said_as_they_are_typed() -> None:
    assert schedule(total_env_steps=1_500_000).limits() == "total_env_steps=1_500_000"
    assert schedule(max_iterations=7, stop_after_s=60.0).limits() == "max_iterations=7 or stop_after_s=60.0"
    assert schedule().limits() == "somebody stops it"


@pytest.mark.parametrize(
    ("limits", "now", "iterations"),
    [
        ({"max_iterations": 7}, progress(2, 20), 7),
        ({"total_env_steps": 95}, progress(2, 20), 10),
        ({"total_env_steps": 100}, progress(2, 20), 10),
        ({"total_env_steps": 100}, progress(11, 110), 11),
        ({"total_env_steps": 1000, "max_iterations": 7}, progress(2, 20), 7),
        ({"stop_after_s": 10.0}, progress(2, 20), None),
        ({"total_env_steps": 95}, progress(), None),
    ],
)
def test_how_many_iterations_there_will_be(
    limits: dict[str, Any], now: Progress, iterations: int | None
) -> None:
    assert schedule(**limits).iterations(now) == iterations


def test_an_interval_longer_than_the_training_is_told() -> None:
    one = schedule(total_env_steps=1000, eval_interval=10, video_interval=11)
    assert one.never_due(100) == [
        "video_interval=11 is more than this run's 10 iterations: no video before its end."
    ]
    assert schedule(stop_after_s=9.0, video_interval=11).never_due(100) == []
