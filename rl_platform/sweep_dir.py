"""The directory of a sweep: its runs, and in `sweep.json` what differs between them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from rl_platform import atomic, provenance
from rl_platform.errors import UserError
from rl_platform.run_dir import RunDir

MARKER = "sweep.json"
_FORMAT = 1


@dataclass(frozen=True)
class Entry:
    """One job of a sweep.

    Attributes:
        number: from 0, in the order in which they were made.
        run: its run directory.
        varied: key → value, as text, of what differs between the jobs.
    """

    number: int
    run: RunDir
    varied: Mapping[str, str]


class SweepDir:
    """A folder that holds `sweep.json`, and the run directories that this names.

    Attributes:
        path: as the user gave it.
        entries: the jobs.
        launcher: the configuration of the launcher that starts them.
        command: what made the sweep, and when (`created`).
    """

    def __init__(self, path: Path, launcher: Mapping[str, Any], command: str, created: str) -> None:
        """Use `create` or `open`."""
        self.path, self.launcher, self.command, self.created = path, dict(launcher), command, created
        self.entries: list[Entry] = []

    @classmethod
    def create(cls, path: Path, launcher: Mapping[str, Any]) -> Self:
        """Make a new directory for a sweep; `add` puts runs into it.

        Raises:
            UserError: it exists, or cannot be made here.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir()
        except FileExistsError as error:
            raise UserError(f"{path} exists already, and is never overwritten; choose a run_name.") from error
        except OSError as error:
            raise UserError(f"The sweep's directory {path} cannot be made: {error.strerror}.") from error
        created = datetime.now(UTC).isoformat(timespec="microseconds")
        return cls(path, launcher, provenance.command(), created)

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Open a sweep that exists.

        Raises:
            UserError: this is none.
        """
        path = Path(path)
        try:
            found = json.loads((path / MARKER).read_bytes())
        except FileNotFoundError as error:
            raise UserError(_not_a_sweep(path)) from error
        except (OSError, ValueError) as error:
            raise UserError(f"{path / MARKER} cannot be read: {error}") from error
        sweep = cls(path, found["launcher"], found["command"], found["created"])
        for job in found["jobs"]:
            sweep.add(RunDir(path / job["run"]), job["varied"])
        return sweep

    def add(self, run: RunDir, varied: Mapping[str, str]) -> None:
        """Take in a run; `save` writes it down."""
        self.entries.append(Entry(len(self.entries), run, dict(varied)))

    def save(self) -> None:
        """Write `sweep.json`."""
        jobs = [{"run": entry.run.path.name, "varied": entry.varied} for entry in self.entries]
        content = {
            "format": _FORMAT,
            "created": self.created,
            "command": self.command,
            "launcher": self.launcher,
            "jobs": jobs,
        }
        atomic.write_text(self.path / MARKER, json.dumps(content, indent=1, ensure_ascii=False) + "\n")

    @property
    def runs(self) -> Sequence[RunDir]:
        """The jobs' run directories."""
        return [entry.run for entry in self.entries]

    @property
    def varying(self) -> list[str]:
        """The keys that differ between the jobs."""
        return list(dict.fromkeys(key for entry in self.entries for key in entry.varied))


def _not_a_sweep(path: Path) -> str:
    if not path.exists():
        sweeps = sorted(found.parent for found in path.parent.glob(f"*/{MARKER}"))
        last = f" The last one there is {sweeps[-1]}." if sweeps else ""
        return f"{path}: there is no such sweep.{last}"
    if (path / "run.json").exists():
        return f"{path} is a single run, not a sweep: python run.py list runs {path}"
    inside = sorted(found.parent for found in (*path.glob(f"*/{MARKER}"), *path.glob(f"*/*/{MARKER}")))
    last = f" The last one below it is {inside[-1]}." if inside else ""
    return f"{path} is not a sweep's directory: it holds no {MARKER}.{last}"
