"""The exceptions that the platform raises on purpose."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TextIO


class UserError(Exception):
    """A mistake that the user can mend: shown as its message alone, without a traceback."""


class MissingPackageError(UserError):
    """Something cannot be done until a package has been installed.

    Attributes:
        packages: what to give to `pip install`, one after the other.
    """

    def __init__(self, message: str, packages: list[str]) -> None:
        """Say what cannot be done."""
        super().__init__(message)
        self.packages = packages


class NonFiniteError(RuntimeError):
    """A NaN or an infinity appeared in an observation, a reward or a loss."""

    def __init__(self, message: str, env_id: int | None = None) -> None:
        """Say what was not finite, and in which environment if it was one."""
        super().__init__(message)
        self.env_id = env_id


class RankLostError(RuntimeError):
    """Another rank of this training ended: says why, if that is known."""


def exit_status(action: Callable[[], int]) -> int:
    """Do something on the command line; print what the user can mend; return the process's exit status.

    That is what `action` returns; 2 after a UserError, 1 after a NaN or the loss of another rank, 130 after
    an interrupt.
    """
    try:
        return action()
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except (NonFiniteError, RankLostError) as error:
        print(error, file=sys.stderr)  # it says where it happened and how to see it again
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        lead_nowhere(sys.stdout)
        return 0


def lead_nowhere(stream: TextIO) -> None:
    """Let a stream that nobody reads on (`… | head`) take what is written to it, to no end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
