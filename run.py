"""Train, evaluate, watch: `python run.py --help`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from rl_platform import commands
from rl_platform.errors import NonFiniteError, UserError


def main(argv: Sequence[str]) -> int:
    """Run the command that the first word names; without one, train."""
    words = list(argv) or ["help"]
    if words == ["--help"] or words == ["-h"]:
        words = ["help"]
    name = words.pop(0) if words[0] in commands.COMMANDS else "train"
    try:
        return commands.run(name, words)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except NonFiniteError as error:
        print(error, file=sys.stderr)  # it says where it happened and how to see it again
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads on: `… | head`
        return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
