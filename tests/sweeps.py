"""What the tests of sweeps share: `run.py` with jobs whose training is a stand-in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from rl_platform.run_dir import RunDir
from rl_platform.sweep_dir import SweepDir

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_S = 300


class Place:
    """An empty directory in which sweeps are started, in this process or in one of their own."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path, self._monkeypatch = path, monkeypatch
        monkeypatch.chdir(path)
        monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests" / "stand_in"))
        self.tell({})

    def tell(self, what: dict[int, str]) -> None:
        """Say what the jobs with these seeds do, instead of finishing at once."""
        self._monkeypatch.setenv("STAND_IN", json.dumps(what))

    def run_py(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run `python run.py` to its end."""
        command = [sys.executable, str(ROOT / "run.py"), *argv]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)

    def start(self, *argv: str) -> subprocess.Popen[str]:
        """Start `python run.py`."""
        return subprocess.Popen(
            [sys.executable, str(ROOT / "run.py"), *argv],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=dict(os.environ) | {"PYTHONUNBUFFERED": "1"},
        )

    @property
    def sweep(self) -> SweepDir:
        """The only sweep."""
        (path,) = Path("outputs/sweeps").iterdir()
        return SweepDir.open(path)

    def states(self) -> list[str]:
        """What the runs of the sweep say of themselves."""
        return [str(run.read_state()["state"]) for run in self.sweep.runs]

    def seeds(self) -> list[int]:
        return [int(run.load_config().seed) for run in self.sweep.runs]


def said(run: RunDir, key: str) -> Any:
    return run.read_state().get(key)


def wait_for_state(place: Place, number: int, state: str) -> RunDir:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if list(place.path.glob("outputs/sweeps/*/sweep.json")) and place.states()[number] == state:
            return place.sweep.runs[number]
        time.sleep(0.05)
    raise AssertionError(f"job {number} is not {state}")
