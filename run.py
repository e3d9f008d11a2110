"""Train, evaluate, watch: `python run.py --help`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rl_platform import commands
from rl_platform.errors import exit_status


def main(argv: Sequence[str]) -> int:
    """Run the command that the first word names; without one, train."""
    words = list(argv) or ["help"]
    if words == ["--help"] or words == ["-h"]:
        words = ["help"]
    if words[0] in ("--config-dir", "-cd") and len(words) > 2:  # it may come before the command
        words = [*words[2:3], *words[:2], *words[3:]]
    name = words.pop(0) if words[0] in commands.COMMANDS else "train"
    return exit_status(lambda: commands.run(name, words))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
