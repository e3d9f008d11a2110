"""docs/new_task.md, executed as it stands."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "new_task.md").read_text()
FILES = re.findall(r"^`([\w/]+\.(?:py|yaml))`\n\n```\w+\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^```\n(python run\.py .*?)\n```$", PAGE, re.MULTILINE)


def run(command: str, folder: Path) -> str:
    words = shlex.split(command)
    line = [sys.executable, str(ROOT / "run.py"), *words[2:]]
    path = os.pathsep.join([str(folder), str(ROOT)])
    done = subprocess.run(
        line, cwd=folder, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    for name, text in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "my_tasks" / "__init__.py").touch()
    return folder


def test_the_page_has_its_parts() -> None:
    assert [name for name, _ in FILES] == ["my_tasks/dial.py", "my_conf/env/dial.yaml"]
    assert len(COMMANDS) == 5


def test_the_configuration_is_whole(folder: Path) -> None:
    assert "my_tasks.dial" in run(COMMANDS[0], folder)


def test_a_task_can_be_looked_at(folder: Path) -> None:
    assert "look.mp4  (40 steps" in run(COMMANDS[1], folder)


def test_delays_histories_and_pictures_are_configuration(folder: Path) -> None:
    said = run(COMMANDS[4], folder)
    assert "history_steps: 3" in said
    assert "camera: front" in said


def test_a_mistake_is_named(folder: Path) -> None:
    with pytest.raises(AssertionError, match=r"env\.rewards\.near\.std"):
        run(COMMANDS[0] + " env.rewards.near.sdt=1.0", folder)


@pytest.mark.slow
@pytest.mark.parametrize(("command", "least"), list(zip(COMMANDS[2:4], (0.95, 0.5), strict=True)))
def test_training_succeeds(folder: Path, command: str, least: float) -> None:
    run(f"{command} video=false logger=files", folder)
    newest = max(folder.glob("outputs/*/ppo/*/summary.json"), key=lambda path: path.stat().st_mtime)
    assert json.loads(newest.read_text())["eval"]["success_rate"] >= least
