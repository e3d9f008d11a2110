from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from rl_platform import provenance

ROOT = Path(__file__).resolve().parent.parent


def test_a_command_can_be_typed_where_one_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for folder, script in (
        (ROOT, "run.py"),
        (ROOT.parent, f"{ROOT.name}/run.py"),
        (tmp_path, f"{ROOT}/run.py"),
    ):
        monkeypatch.chdir(folder)
        words = shlex.split(provenance.run("play", Path("my runs/lift"), "x=1"))
        assert words[1:] == [script, "play", "my runs/lift", "x=1"]
        assert Path(words[1]).is_file()
