"""`logger: {files: {}}`: metrics.jsonl in the run directory, one JSON object a log step.

A line is `{"env_steps": 98304, "Train/mean_reward": 1.25, …}`; a number that is not finite is null.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rl_platform import atomic
from rl_platform.loggers.base import Context, GrowingFile
from rl_platform.run_dir import RunDir


@dataclass
class Config:
    """Has no options."""


def make_logger(config: Config, context: Context) -> FilesLogger:
    """Append to the run's metrics.jsonl, from the checkpoint on."""
    return FilesLogger(context.run_dir, context.env_steps, context.say)


class FilesLogger:
    """Writes each line at once, so that a run that is killed loses none."""

    def __init__(self, run_dir: RunDir, env_steps: int, say: Callable[[str], None]) -> None:
        """Forget the lines after `env_steps`, and half a line that a killed run left."""
        path = run_dir.metrics_jsonl
        if path.exists():
            rows = [row for row in run_dir.read_metrics() if row["env_steps"] <= env_steps]
            text = "".join(json.dumps(row) + "\n" for row in rows)
            if text.encode() != path.read_bytes():
                atomic.write_text(path, text)
        self._file = GrowingFile(path, say)

    def log(self, metrics: Mapping[str, float], env_steps: int) -> None:
        """Append a line."""
        row = {"env_steps": env_steps} | {
            name: value if math.isfinite(value) else None for name, value in metrics.items()
        }
        self._file.write(json.dumps(row).encode() + b"\n")

    def log_image(self, name: str, path: Path, env_steps: int) -> None:
        """The file is in the run directory already."""

    def log_video(self, name: str, path: Path, env_steps: int) -> None:
        """The file is in the run directory already."""

    def summary(self, values: Mapping[str, Any]) -> None:
        """The run writes its summary.json with any logger or none."""

    def state_dict(self) -> dict[str, Any]:
        """There is nothing to remember that is not in the file."""
        return {}

    def close(self, state: str) -> None:
        """Close the file."""
        self._file.close()
