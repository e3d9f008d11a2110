from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from rl_platform.loggers import make_loggers
from rl_platform.loggers.base import LoggerGroup
from rl_platform.run_dir import RunDir

Make = Callable[..., LoggerGroup]


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir.create(tmp_path, "2026-11-20_s42")


@pytest.fixture
def said() -> list[str]:
    """What the user was told."""
    return []


@pytest.fixture
def make(run: RunDir, said: list[str]) -> Make:
    """Make the loggers of a sitting, as `train` does; `make(wandb={…}, checkpoint={…})`."""

    def make(checkpoint: dict[str, Any] | None = None, **loggers: Any) -> LoggerGroup:
        cfg = OmegaConf.create(
            {"env": {"name": "lift"}, "agent": {"name": "ppo"}, "seed": 42, "logger": loggers}
        )
        return make_loggers(cfg, run, checkpoint, said.append)

    return make
