"""What `python run.py <command> …` can do: each is a module here with `main(argv) -> int | None`."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

COMMANDS = {
    "train": "train a policy; the word may be left out: python run.py env=lift agent=ppo",
    "eval": "RUN: play many episodes with a run's policy; success rate or return, with intervals",
    "play": "RUN: watch a run's policy, in a window or as a video; env=NAME: watch random actions",
    "export": "RUN: a run's policy as an ONNX or TorchScript file that needs no platform",
    "compare": "RUN…: runs side by side, with intervals over seeds, what to beware of, and curves",
    "sweep": "DIR: the table of a sweep; --log N, --retry-failed, --continue",
    "list": "envs | agents | algos | loggers | launchers | sweeps | experiments | runs …: what there is",
    "help": "GROUP=OPTION: every key of an option with its comment, such as help env=lift",
}


def run(name: str, argv: Sequence[str]) -> int:
    """Run a command; return the exit status of the process."""
    return importlib.import_module(f"{__name__}.{name}").main([*argv]) or 0
