from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from rl_platform.loggers import console
from rl_platform.loggers.console import Console
from rl_platform.schedule import Progress, Schedule

METRICS = {
    "Loss/value": 0.02734,
    "Loss/surrogate": -0.01378,
    "Loss/entropy": 9.9339,
    "Loss/clip_fraction": 0.1,
    "Policy/mean_noise_std": 1.0,
    "Perf/steps_per_s": 308.4,
    "Perf/collection_time_s": 4.6,
    "Perf/learning_time_s": 0.3771,
    "Perf/simulation_s": 3.0,
    "Perf/learning_s": 1.0,
    "Time/iteration_s": 4.98,
    "Time/wall_s": 10.0,
}
EPISODES = {
    "Train/mean_reward": 0.654,
    "Train/mean_episode_length": 12.0,
    "Train/success_rate": 0.5,
    "Train/episodes": 100.0,
    "Episode_Reward/lifting_object": 0.105,
    "Metrics/object_pose/position_error": 0.5721,
    "Episode_Termination/time_out": 0.0423,
}


class Clock:
    """Time that the test moves; it starts where the command was typed."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(console, "time", clock)
    return clock


def schedule(**limits: Any) -> Schedule:
    known: dict[str, Any] = dict.fromkeys(
        ("max_iterations", "total_env_steps", "stop_after_s", "score_to_win")
    )
    intervals = ("save_interval", "save_best_after", "eval_interval", "video_interval", "log_interval")
    return Schedule(**(known | dict.fromkeys(intervals, 1) | limits))


def plain(**limits: Any) -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    return Console(schedule(**limits), started=1000.0, stream=stream), stream


def blocks(text: str) -> list[int]:
    """The iterations that were printed."""
    return [int(number) for number in re.findall(r"^Learning iteration (\d+)", text, re.M)]


def test_the_lines_of_the_arena_page(clock: Clock) -> None:
    view, stream = plain(max_iterations=12000)
    clock.now += 10.0
    view.iteration(METRICS | EPISODES, 2000, 1536)
    text = stream.getvalue()
    for line in (
        "Computation: 308 steps/s (collection: 4.600s, learning 0.377s)",
        "Mean action noise std: 1.00",
        "Mean value_function loss: 0.0273",
        "Mean surrogate loss: -0.0138",
        "Mean entropy loss: 9.9339",
        "Mean reward: 0.65",
        "Mean episode length: 12.00",
        "Success rate: 50.0%",
        "Episode_Reward/lifting_object: 0.1050",
        "Metrics/object_pose/position_error: 0.5721",
        "Episode_Termination/time_out: 0.0423",
        "Total timesteps: 1536",
        "Iteration time: 4.98s",
        "Time elapsed: 00:00:10",
        "ETA: 13:50:00",  # 10,000 more iterations of 4.98 s
        "Time spent on: simulation 75%, learning 25%",
    ):
        assert re.search(rf"^ *{re.escape(line)}$", text, re.M), line
    assert text.startswith("Learning iteration 2000/12000\n")
    assert "=" * 80 in text
    assert "clip_fraction" not in text


def test_no_ansi_off_a_terminal(clock: Clock) -> None:
    view, stream = plain(max_iterations=2)
    view.start("env lift")
    view.iteration(METRICS | EPISODES, 1, 100)
    view.message("Saved checkpoint to: model_1.pt")
    view.end("max_iterations=2 reached")
    assert "\x1b" not in stream.getvalue() and "\r" not in stream.getvalue()


def test_off_a_terminal_blocks_are_seconds_apart_and_the_last_one_is_there(clock: Clock) -> None:
    view, stream = plain(max_iterations=20)
    for iteration in range(1, 21):
        clock.now += 1.0
        view.iteration(METRICS, iteration, 100 * iteration)
    assert blocks(stream.getvalue()) == [1, 6, 11, 16]
    view.end("max_iterations=20 reached")
    view.close()
    assert blocks(stream.getvalue()) == [1, 6, 11, 16, 20]


def test_the_log_of_a_long_run_stays_short(clock: Clock) -> None:
    view, stream = plain()
    for iteration in range(1, 86_401):  # a day, an iteration a second
        clock.now += 1.0
        view.iteration({}, iteration, iteration)
    printed = blocks(stream.getvalue())
    assert printed[:3] == [1, 6, 11]
    assert len(printed) < 200


def test_an_interrupted_run_shows_its_last_iteration(clock: Clock) -> None:
    stream = io.StringIO()
    with pytest.raises(RuntimeError), Console(schedule(), 1000.0, stream) as view:
        view.iteration(METRICS, 1, 100)
        view.iteration(METRICS, 2, 200)
        raise RuntimeError
    assert blocks(stream.getvalue()) == [1, 2]


def test_episodes_stay_on_show_until_the_next_ones(clock: Clock) -> None:
    view, stream = plain()
    view.iteration(METRICS | EPISODES | {"Eval/success_rate": 0.75}, 1, 100)
    clock.now += 10.0
    view.iteration(METRICS | {"Loss/value": 1.0}, 2, 200)
    last = stream.getvalue().split("Learning iteration 2")[1]
    assert "Success rate: 50.0%" in last and "Eval/success_rate: 0.7500" in last
    assert "Mean value_function loss: 1.0000" in last


def test_shares_are_of_the_time_since_the_last_line(clock: Clock) -> None:
    view, stream = plain()
    view.iteration(METRICS, 1, 100)
    clock.now += 20.0
    view.iteration(METRICS | {"Time/wall_s": 30.0}, 2, 200)
    assert "Time spent on: simulation 15%, learning 5%, other 80%" in stream.getvalue()


@pytest.mark.parametrize(
    ("best", "told"),
    [
        ((0.9, 1.25), "Best success rate while training: 90.0%, mean reward 1.25 (best.pt, iteration 2)"),
        ((0.0, 1.25), "Best mean reward while training: 1.25 (best.pt, iteration 2)"),
    ],
)
def test_the_best_result_is_told_at_the_end(clock: Clock, best: tuple[float, float], told: str) -> None:
    view, stream = plain()
    view.iteration({"Train/success_rate": 0.5, "Train/mean_reward": 1.0}, 1, 1)
    view.end("SIGTERM received", best, 2)
    assert "Training ended: SIGTERM received" in stream.getvalue()
    assert told in stream.getvalue()


def eta(now: Progress, **limits: Any) -> float | None:
    """After ten iterations of 2 s and 50 steps each."""
    pace = console._Pace(schedule(**limits))
    pace.eta_s(Progress(11, 550, 7.0, 2.0, None))  # a resumed run: the command was typed 5 s before
    return pace.eta_s(now)


@pytest.mark.parametrize(
    ("limits", "seconds"),
    [
        ({}, None),
        ({"max_iterations": 30}, 20.0),
        ({"total_env_steps": 1501}, 22.0),
        ({"stop_after_s": 40.0}, 15.0),
        ({"max_iterations": 30, "stop_after_s": 40.0}, 15.0),
        ({"max_iterations": 20}, 0.0),
    ],
)
def test_eta_is_by_the_nearest_limit_and_the_pace_of_this_sitting(
    limits: dict[str, Any], seconds: float | None
) -> None:
    assert eta(Progress(20, 1000, 25.0, 2.0, None), **limits) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "00:00:00"), (59.6, "00:01:00"), (3725, "01:02:05"), (360_000, "100:00:00")]
)
def test_clock(seconds: float, text: str) -> None:
    assert console.clock(seconds) == text


ON_A_TERMINAL = """
import sys, time
from rl_platform.loggers.console import Console
from rl_platform.schedule import Schedule
limits = dict.fromkeys(Schedule.__dataclass_fields__)
view = Console(Schedule(**(limits | {"max_iterations": 3})), time.monotonic())
view.start("env      lift")
assert "rich" not in sys.modules
for iteration in (1, 2, 3):
    metrics = {"Train/success_rate": iteration / 4, "Metrics/a_very_long_name_" + 40 * "x": 1}
    view.iteration(metrics, iteration, 5)
    time.sleep(0.12)
    print("a library's line", file=sys.stderr)
view.message("[Saved] checkpoint to: " + "outputs/" * 15 + "model_3.pt")
view.end("max_iterations=3 reached")
print("after")
"""


def on_a_terminal(script: str, term: str) -> str:
    """What a program writes to a terminal of 80 columns."""
    process, terminal = pty.fork()
    if process == 0:
        os.environ.update(TERM=term, COLUMNS="80", LINES="40", PYTHONPATH=str(Path.cwd()))
        os.execv(sys.executable, [sys.executable, "-c", script])
    written = b""
    while True:
        try:
            chunk = os.read(terminal, 65536)
        except OSError:  # how Linux says that the other end is closed
            break
        if not chunk:
            break
        written += chunk
    _, status = os.waitpid(process, 0)
    os.close(terminal)
    assert status == 0, written.decode()
    return written.decode()


def test_a_terminal_gets_one_block_redrawn_in_place() -> None:
    text = on_a_terminal(ON_A_TERMINAL, "xterm-256color")
    assert text.index("Learning iteration 1/3") < text.index("\x1b[1A") < text.index("Learning iteration 3/3")
    assert "━" in text and "33%" in text and "100%" in text
    assert "75.0%" in text
    assert text.count("a library's line") == 3
    assert "[Saved] checkpoint to: " + "outputs/" * 15 + "model_3.pt" in text  # neither broken nor marked up
    assert text.rindex("Learning iteration 3/3") < text.index("Training ended") < text.index("after")
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is back


def test_the_cursor_is_there_while_training() -> None:
    """A run that is killed cannot bring it back."""
    killed = ON_A_TERMINAL.partition("view.message")[0] + "import os; os._exit(0)"
    text = on_a_terminal(killed, "xterm-256color")
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines() -> None:
    text = on_a_terminal(ON_A_TERMINAL.replace("assert", "pass #"), "dumb")
    assert "\x1b" not in text
    assert blocks(text.replace("\r", "")) == [1, 3]


def test_rich_is_not_imported_off_a_terminal() -> None:
    script = ON_A_TERMINAL + "assert 'rich' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_redrawing_is_cheap() -> None:
    view = Console(schedule(max_iterations=1000), time.monotonic(), io.StringIO())
    view.iteration(METRICS | EPISODES | {f"Episode_Reward/{i}": 1.0 for i in range(30)}, 1, 1)
    start = time.perf_counter()
    for iteration in range(2, 1002):
        view.iteration(METRICS | EPISODES, iteration, iteration)
    assert (time.perf_counter() - start) / 1000 < 1e-3


def test_a_training_goes_on_when_nobody_reads_on() -> None:
    """`python run.py … | head -n 1` shows a line and trains to its end."""
    code = """
import sys, time
from rl_platform.loggers.console import Console
from rl_platform.schedule import Schedule
limits = dict.fromkeys(("max_iterations", "total_env_steps", "stop_after_s", "score_to_win"))
names = ("save_interval", "save_best_after", "eval_interval", "video_interval", "log_interval")
one = Console(Schedule(**limits, **dict.fromkeys(names, 1)), 0.0)
one.message("first")
sys.stdin.readline()
for _ in range(3):
    one.message("x" * 100_000)
print("by somebody else")
print("trained", file=sys.stderr)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=-1, stdout=-1, stderr=-1, text=True, cwd=Path(__file__).parents[2]
    ) as process:
        assert process.stdin and process.stdout and process.stderr
        assert process.stdout.readline() == "first\n"
        process.stdout.close()
        process.stdin.write("go on\n")
        process.stdin.close()
        assert process.stderr.read() == "trained\n"
        assert process.wait() == 0
