"""The exceptions that the platform raises on purpose."""

from __future__ import annotations


class UserError(Exception):
    """A mistake that the user can mend: shown as its message alone, without a traceback."""


class NonFiniteError(RuntimeError):
    """A NaN or an infinity appeared in an observation, a reward or a loss."""

    def __init__(self, message: str, env_id: int | None = None) -> None:
        """Say what was not finite, and in which environment if it was one."""
        super().__init__(message)
        self.env_id = env_id
