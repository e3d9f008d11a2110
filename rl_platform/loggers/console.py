"""What the user sees while a run trains. Not an option of `logger=`: every run has it.

On a terminal one block with a progress bar is redrawn in place, at most twice a second. Anywhere
else (a file, a pipe, a cluster's log) the block is printed as plain lines: after the first iteration,
then whenever 5 s or a twentieth of the elapsed time have passed since the last one, whichever is longer
(so that a run of days does not leave a log of gigabytes), and after the last iteration.
`log_interval` sets which iterations can be shown at all.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TextIO

from rl_platform.errors import lead_nowhere
from rl_platform.schedule import Progress, Schedule
from rl_platform.timing import PHASES

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

Rows = list[tuple[str, str]]

_REDRAW_S = 0.5  # one redraw takes 5 to 20 ms
_PRINT_S, _PRINT_SHARE = 5.0, 0.05
_WIDTH = 80
_COLON = 38  # column of the colons, as on the page of Isaac Lab Arena
_TWO_COLUMNS = 100  # characters from which a terminal takes them
# In this order; what else an algorithm reports is in the logs.
_LABELS = {
    "Policy/mean_noise_std": ("Mean action noise std", "{:.2f}"),
    "Loss/value": ("Mean value_function loss", "{:.4f}"),
    "Loss/surrogate": ("Mean surrogate loss", "{:.4f}"),
    "Loss/critic": ("Mean critic loss", "{:.4f}"),
    "Loss/q": ("Mean Q value", "{:.2f}"),
    "Loss/actor": ("Mean actor loss", "{:.4f}"),
    "Loss/alpha": ("Temperature", "{:.4f}"),
    "Loss/entropy": ("Mean entropy loss", "{:.4f}"),
    "Loss/kl": ("Mean KL divergence", "{:.4f}"),
    "Loss/learning_rate": ("Learning rate", "{:.2e}"),
    "Train/mean_reward": ("Mean reward", "{:.2f}"),
    "Train/mean_episode_length": ("Mean episode length", "{:.2f}"),
    "Train/success_rate": ("Success rate", "{:.1%}"),
}
_GROUPS = ("Episode_Reward/", "Metrics/", "Episode_Termination/", "Eval/")
# Known only after iterations in which an episode ended or an evaluation was due: shown until the next.
_LASTING = ("Train/", *_GROUPS)


class Console:
    """The user's view of a run.

    As a context manager, or by `close`, it leaves the terminal in order whatever happens.
    """

    def __init__(self, schedule: Schedule, started: float, stream: TextIO | None = None) -> None:
        """Say nothing yet.

        Args:
            schedule: how far the run is to go.
            started: when the command was typed, s of `time.monotonic()`.
            stream: where to write; None for stdout.
        """
        self._schedule, self._started = schedule, started
        self._stream = stream or sys.stdout
        self._live: Live | None = None
        self._pace = _Pace(schedule)
        self._lasting: dict[str, float] = {}
        self._pending: _Block | None = None  # drawn or printed by nobody yet
        self._shown_at = -math.inf
        self._wall_s: float | None = None

    def __enter__(self) -> Self:
        """Nothing is open before the first iteration."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Leave the terminal in order."""
        self.close()

    @property
    def is_terminal(self) -> bool:
        """Whether there is somebody to see a block redrawn in place."""
        return self._stream.isatty() and os.environ.get("TERM") not in (None, "", "dumb")

    def start(self, text: str) -> None:
        """Show what is going to be trained: the run's facts, the task's tables."""
        self.message(f"{'─' * _WIDTH}\n{text}\n{'─' * _WIDTH}")

    def message(self, text: str) -> None:
        """Show a text, above the block if there is one."""
        if self._live is None:
            try:
                print(text, file=self._stream, flush=True)
            except BrokenPipeError:
                lead_nowhere(self._stream)  # the training does not end because nobody looks on
        else:
            # Lines are not broken: commands and paths can be copied.
            self._live.console.print(text, soft_wrap=True, highlight=False, markup=False)

    def iteration(self, metrics: Mapping[str, float], iteration: int, env_steps: int) -> None:
        """Show where the training is.

        Args:
            metrics: as they are logged.
            iteration: iterations done.
            env_steps: done, summed over environments and ranks.
        """
        now = time.monotonic()
        self._lasting |= {name: value for name, value in metrics.items() if name.startswith(_LASTING)}
        progress = Progress(
            iteration, env_steps, now - self._started, metrics.get("Time/iteration_s", 0.0), None
        )
        self._pending = _Block(
            metrics={**self._lasting, **metrics},
            progress=progress,
            iterations=self._schedule.iterations(progress),
            fraction=self._schedule.fraction_done(progress),
            eta_s=self._pace.eta_s(progress),
            since_last_s=None if self._wall_s is None else metrics.get("Time/wall_s", 0.0) - self._wall_s,
        )
        self._wall_s = metrics.get("Time/wall_s")
        interval = _REDRAW_S if self.is_terminal else max(_PRINT_S, _PRINT_SHARE * progress.elapsed_s)
        if now - self._shown_at >= interval:
            self._show()
            self._shown_at = now

    def end(self, reason: str, best: tuple[float, float] | None = None, iteration: int = 0) -> None:
        """Leave the last block standing and say why the training ended, and its best result.

        Args:
            reason: of the end.
            best: success rate and mean return that `best.pt` was chosen by; None if there is none yet.
            iteration: of `best.pt`.
        """
        self.close()
        lines = [f"Training ended: {reason}"]
        if best is not None:
            success, mean_return = best
            told = f"mean reward while training: {mean_return:.2f}"
            if success > 0.0:
                told = f"success rate while training: {success:.1%}, mean reward {mean_return:.2f}"
            lines.append(f"Best {told} (best.pt, iteration {iteration})")
        self.message("\n".join(lines))

    def close(self) -> None:
        """Show what was not shown yet, and let go of the terminal. Nothing happens the second time."""
        if self._pending is not None:
            self._show()
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _show(self) -> None:
        """Draw or print the pending block."""
        assert self._pending is not None
        block, self._pending = self._pending, None
        if not self.is_terminal:
            self.message(block.as_text())
            return
        if self._live is None:
            self._live = _open_live(self._stream)
        self._live.update(block.as_table(self._live.console.width), refresh=True)


class _Pace:
    """How long the rest takes, by the mean pace of this sitting."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._first: tuple[int, int, float] | None = None

    def eta_s(self, now: Progress) -> float | None:
        """Seconds until the limit that is nearest in time; None without limits."""
        if self._first is None:
            # This call comes after an iteration that is not before the first moment known.
            before = now.elapsed_s - now.iteration_s
            self._first = now.iteration - 1, now.env_steps * (now.iteration - 1) // now.iteration, before
        iteration, env_steps, elapsed_s = self._first
        iterations_per_s = (now.iteration - iteration) / max(now.elapsed_s - elapsed_s, 1e-9)
        steps_per_iteration = (now.env_steps - env_steps) / (now.iteration - iteration)
        limits, left = self._schedule, []
        if limits.max_iterations is not None:
            left.append((limits.max_iterations - now.iteration) / iterations_per_s)
        if limits.total_env_steps is not None:
            iterations = math.ceil((limits.total_env_steps - now.env_steps) / steps_per_iteration)
            left.append(iterations / iterations_per_s)
        if limits.stop_after_s is not None:
            left.append(limits.stop_after_s - now.elapsed_s)
        return max(0.0, min(left)) if left else None


@dataclass(frozen=True)
class _Block:
    """One iteration in words.

    Attributes:
        metrics: as they are logged, the lasting ones included.
        progress: how far the run is.
        iterations: of the run, None if that is open.
        fraction: of the run that is done, in [0, 1].
        eta_s: s until its end; None if that is open.
        since_last_s: wall time between the last log line and this one; None at the first.
    """

    metrics: Mapping[str, float]
    progress: Progress
    iterations: int | None
    fraction: float
    eta_s: float | None
    since_last_s: float | None

    @property
    def title(self) -> str:
        """`Learning iteration 20/200`."""
        of = "" if self.iterations is None else f"/{self.iterations}"
        return f"Learning iteration {self.progress.iteration}{of}"

    def learning(self) -> Rows:
        """Speed, losses, and how the episodes went."""
        rows = []
        if "Perf/steps_per_s" in self.metrics:
            speed, collection, learning = (
                self.metrics.get(f"Perf/{name}", 0.0)
                for name in ("steps_per_s", "collection_time_s", "learning_time_s")
            )
            parts = f"(collection: {collection:.3f}s, learning {learning:.3f}s)"
            rows.append(("Computation", f"{speed:.0f} steps/s {parts}"))
        rows += [
            (label, form.format(self.metrics[name]))
            for name, (label, form) in _LABELS.items()
            if name in self.metrics
        ]
        return rows

    def task(self) -> Rows:
        """The task's own numbers, under the names that the logs have."""
        return [
            (name, f"{value:.4f}")
            for group in _GROUPS
            for name, value in self.metrics.items()
            if name.startswith(group)
        ]

    def totals(self) -> Rows:
        """Steps and times."""
        return [
            ("Total timesteps", str(self.progress.env_steps)),
            ("Iteration time", f"{self.progress.iteration_s:.2f}s"),
            ("Time elapsed", clock(self.metrics.get("Time/wall_s", self.progress.elapsed_s))),
            ("ETA", "open" if self.eta_s is None else clock(self.eta_s)),
            *self.shares(),
        ]

    def shares(self) -> Rows:
        """Where the time went since the last log line."""
        seconds = {phase: self.metrics.get(f"Perf/{phase}_s", 0.0) for phase in PHASES}
        total = max(self.since_last_s or 0.0, sum(seconds.values()))
        if total <= 0:
            return []
        seconds["other"] = total - sum(seconds.values())
        shown = [f"{phase} {s / total:.0%}" for phase, s in seconds.items() if s / total >= 0.005]
        half = math.ceil(len(shown) / 2) if len(shown) > 3 else len(shown)
        lines = [", ".join(shown[:half]), ", ".join(shown[half:])]
        return [("Time spent on" if i == 0 else "", line) for i, line in enumerate(lines) if line]

    def as_text(self) -> str:
        """Return plain lines."""
        lines = [self.title, ""]
        lines += _aligned([*self.learning(), *self.task()])
        lines += ["=" * _WIDTH, *_aligned(self.totals()), ""]
        return "\n".join(lines)

    def as_table(self, width: int) -> Table:
        """Return what is drawn on a terminal of this width: the bar above, one or two columns below.

        The bar comes first, so that a low window cuts off the details and not the bar.
        """
        from rich import box
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        head = Table.grid(padding=(0, 1), expand=True)
        head.add_column(no_wrap=True)
        head.add_column(ratio=1)
        head.add_column(no_wrap=True)
        left = "" if self.eta_s is None else f", {clock(self.eta_s)} left"
        bar = ProgressBar(total=1.0, completed=self.fraction)
        head.add_row(f"[bold]{self.title}[/]", bar, f"{self.fraction:.0%}{left}")
        columns = [[*self.learning(), *self.totals()], self.task()]
        if width < _TWO_COLUMNS:
            columns = [[*self.learning(), *self.task(), *self.totals()]]
        body = Table.grid(padding=(0, 3))
        for _ in columns:
            body.add_column(no_wrap=True)
        body.add_row(*map(_as_grid, columns))
        block = Table(box=box.HORIZONTALS, show_header=False, expand=True, padding=0, border_style="dim")
        block.add_row(head)
        block.add_section()
        block.add_row(body)
        return block


def clock(seconds: float) -> str:
    """`01:02:03`; days are hours here."""
    whole = round(seconds)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def _aligned(rows: Rows) -> list[str]:
    """Put the colons below each other."""
    return [f"{f'{label}:' if label else '':>{_COLON}} {value}" for label, value in rows]


def _as_grid(rows: Sequence[tuple[str, str]]) -> Any:
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column()
    for label, value in rows:
        good = label in ("Success rate", "Eval/success_rate")
        grid.add_row(Text(label), Text(value, style="bold green" if good else ""))
    return grid


def _open_live(stream: TextIO) -> Live:
    """Take the terminal: what is printed to stdout and stderr from now on goes above the block."""
    from rich.console import Console as RichConsole
    from rich.live import Live

    live = Live(console=RichConsole(file=stream), auto_refresh=False)
    live.start()
    live.console.show_cursor(True)  # a run that is killed would leave the terminal without
    return live
