"""`sweeper=basic`: every combination of the values, all of them made before the first job starts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Config:
    """`sweeper=basic` has no options.

    Attributes:
        name: basic.
    """

    name: str
