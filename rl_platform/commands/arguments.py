"""Arguments that several commands share."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from rl_platform import suggest
from rl_platform.errors import UserError
from rl_platform.schema import nearest

if TYPE_CHECKING:
    from rl_platform.run_dir import RunDir


class Parser(argparse.ArgumentParser):
    """Takes `--num_envs` for `--num-envs`, and says of what it does not know what may have been meant."""

    def parse_args(self, args: Sequence[str], namespace: Any = None) -> Any:  # type: ignore[override]
        """Read the words after the command.

        Raises:
            UserError: they cannot be read.
        """
        flag = re.compile(r"--[a-z]\w*_")
        words = [_dashes(word) if flag.match(word) else word for word in args]
        options, unknown = self.parse_known_intermixed_args(words, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self.meant(unknown[0])}")
        return options

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, without the whole usage."""
        raise UserError(f"{self.prog}: {message}\n{self.prog} --help lists its arguments.")

    def meant(self, word: str) -> str:
        """A hint on an argument that there is none of."""
        name, equals, value = word.lstrip("-").replace("_", "-").partition("=")
        if advice := suggest.of_command(name):
            return f"\n    → {advice}"
        flags = [text for action in self._actions for text in action.option_strings if text.startswith("--")]
        match = nearest(f"--{name}", flags, 0.75)
        return f"\n    → write {match}{f' {value}' if equals else ''}" if match else ""


def _dashes(word: str) -> str:
    name, equals, value = word.partition("=")
    return f"{name.replace('_', '-')}{equals}{value}"


def run_parser(command: str, description: str, *, or_task: bool = False, plays: bool = True) -> Parser:
    """Return a parser for a command that works on one run.

    `or_task`: or on what is composed for it. `plays`: it plays episodes, as many and where one likes.
    """
    parser = Parser(prog=f"python run.py {command}", description=description)
    what = "a run directory, a checkpoint file in one, or a folder of runs: its newest"
    if or_task:
        what += "; or env=NAME and any other key=value"
        parser.add_argument("run", metavar="RUN|env=NAME", nargs="+", help=what)
        parser.add_argument(
            "-cd", "--config-dir", action="append", default=[], help="with groups of your own"
        )
    else:
        parser.add_argument("run", metavar="RUN", type=Path, help=what)
    parser.add_argument(
        "--checkpoint", type=checkpoint, metavar="last|best|N", help="N: an iteration (default: last)"
    )
    parser.add_argument("--use-last-checkpoint", action="store_true", help=argparse.SUPPRESS)  # it is, anyway
    if plays:
        parser.add_argument("--seed", type=int, help="of the episodes (default: the run's eval.seed)")
        parser.add_argument("--device", help="cpu, cuda or cuda:N (default: the run's)")
        parser.add_argument("--num-threads", type=at_least_one, help="CPU threads (default: the run's)")
    return parser


def open_run(path: Path | str) -> RunDir:
    """Open the run that is meant, or the newest one below a folder of runs, which is told.

    Raises:
        UserError: there is none.
    """
    from rl_platform.run_dir import RunDir, is_run, list_runs

    path = Path(path)
    if path.is_dir() and not is_run(path) and (runs := list_runs(path)):
        if len(runs) > 1:
            print(f"{path} holds {len(runs)} runs; the newest is {runs[-1].path}", file=sys.stderr)
        return runs[-1]
    return RunDir.open(path)


def at_least_one(text: str) -> int:
    """Read a whole number above zero."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def port(text: str) -> int:
    """Read the number of a port."""
    number = int(text)
    if not 1 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"must be from 1 to 65535, got {number}")
    return number


def checkpoint(text: str) -> str | int:
    """Read "last", "best" or an iteration; the name of a file that has them will do."""
    text = re.sub(r"^(?:.*/)?(?:model_)?(last|best|\d+)\.pt$", r"\1", text)
    if text in ("last", "best"):
        return text
    if text.isdigit():
        return int(text)
    raise argparse.ArgumentTypeError(f"must be last, best or an iteration, got {text}")
