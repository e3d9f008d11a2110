"""Arguments that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path


def run_parser(command: str, description: str) -> argparse.ArgumentParser:
    """Return a parser for a command that works on one run."""
    parser = argparse.ArgumentParser(prog=f"python run.py {command}", description=description)
    parser.add_argument("run", metavar="RUN", type=Path, help="a run directory, or a checkpoint file in one")
    parser.add_argument(
        "--checkpoint", type=checkpoint, metavar="last|best|N", help="N: an iteration (default: last)"
    )
    parser.add_argument("--seed", type=int, help="of the episodes (default: the run's eval.seed)")
    parser.add_argument("--device", help="cpu, cuda or cuda:N (default: the run's)")
    parser.add_argument("--num-threads", type=at_least_one, help="CPU threads (default: the run's)")
    return parser


def at_least_one(text: str) -> int:
    """Read a whole number above zero."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def checkpoint(text: str) -> str | int:
    """Read "last", "best" or an iteration."""
    if text in ("last", "best"):
        return text
    if text.isdigit():
        return int(text)
    raise argparse.ArgumentTypeError(f"must be last, best or an iteration, got {text}")
