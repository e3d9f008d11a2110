from __future__ import annotations

import errno
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from rl_platform.errors import UserError
from rl_platform.loggers.base import GrowingFile, LoggerGroup
from rl_platform.run_dir import RunDir
from tests.loggers.conftest import Make


class Recorder:
    """Keeps what it is told, until it breaks."""

    def __init__(self, breaks: str = "") -> None:
        self.calls: list[str] = []
        self._breaks = breaks

    def _told(self, call: str) -> None:
        if call == self._breaks:
            raise RuntimeError("the disk caught fire")
        self.calls.append(call)

    def log(self, metrics: Mapping[str, float], env_steps: int) -> None:
        self._told("log")

    def log_image(self, name: str, path: Path, env_steps: int) -> None:
        self._told("log_image")

    def log_video(self, name: str, path: Path, env_steps: int) -> None:
        self._told("log_video")

    def summary(self, values: Mapping[str, Any]) -> None:
        self._told("summary")

    def state_dict(self) -> dict[str, Any]:
        self._told("state_dict")
        return {"calls": len(self.calls)}

    def close(self, state: str) -> None:
        self._told(f"close {state}")


CALLS = ["log", "log_image", "log_video", "summary", "state_dict", "close finished"]


def tell_everything(group: LoggerGroup) -> None:
    group.log({"a": 1.0}, 1)
    group.log_image("curve", Path("a.png"), 1)
    group.log_video("policy", Path("a.mp4"), 1)
    group.summary({"eval": 1})
    group.state_dict()
    group.close("finished")


def test_every_logger_is_told_everything() -> None:
    loggers = {"one": Recorder(), "two": Recorder()}
    tell_everything(LoggerGroup(loggers, {}, print))
    assert loggers["one"].calls == loggers["two"].calls == CALLS


@pytest.mark.parametrize("breaks", CALLS)
def test_a_logger_that_fails_is_reported_once_and_stops_nothing(breaks: str) -> None:
    loggers = {"bad": Recorder(breaks), "good": Recorder()}
    said: list[str] = []
    group = LoggerGroup(loggers, {}, said.append)
    tell_everything(group)
    tell_everything(group)
    assert loggers["good"].calls == CALLS
    assert loggers["bad"].calls == CALLS[: CALLS.index(breaks)]
    assert len(said) == 1
    assert "bad" in said[0] and "the disk caught fire" in said[0]


def test_an_interrupt_is_not_a_failure() -> None:
    class Interrupted(Recorder):
        def log(self, metrics: Mapping[str, float], env_steps: int) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        LoggerGroup({"one": Interrupted()}, {}, print).log({}, 1)


def test_states_of_loggers_that_are_left_out_are_kept() -> None:
    """A run that goes on without W&B for once still knows its W&B run afterwards."""
    bad = Recorder(breaks="log")
    group = LoggerGroup({"bad": bad, "good": Recorder()}, {"absent": {"id": "abc"}}, lambda _: None)
    assert group.state_dict() == {"absent": {"id": "abc"}, "bad": {"calls": 1}, "good": {"calls": 1}}
    group.log({}, 1)
    assert group.state_dict() == {"absent": {"id": "abc"}, "bad": {"calls": 1}, "good": {"calls": 3}}


class SmallDisk:
    """An open file on a disk with room for so many bytes; takes at most 4 at a time."""

    def __init__(self, room: int) -> None:
        self.room, self.content = room, b""

    def write(self, data: bytes) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = data[: min(4, self.room)]
        self.content += taken
        self.room -= len(taken)
        return len(taken)

    def close(self) -> None:
        pass


def test_what_a_full_disk_refuses_is_written_when_there_is_room(tmp_path: Path) -> None:
    said: list[str] = []
    file = GrowingFile(tmp_path / "metrics.jsonl", said.append)
    disk: Any = SmallDisk(room=10)
    file._file = disk
    for line in (b"line 1\n", b"line 2\n", b"line 3\n"):
        file.write(line)
    assert disk.content == b"line 1\nlin"
    assert said == [
        f"{tmp_path / 'metrics.jsonl'} waits for the disk: No space left on device. Training goes on."
    ]
    disk.room = 100
    file.close()
    assert disk.content == b"line 1\nline 2\nline 3\n"


def test_no_loggers(make: Make, run: RunDir) -> None:
    group = make()
    tell_everything(group)
    assert group.state_dict() == {}
    assert not run.metrics_jsonl.exists()


def test_an_unknown_logger_and_an_unknown_key_are_the_users_errors(make: Make) -> None:
    with pytest.raises(UserError, match="did you mean tensorboard"):
        make(tensorbord={})
    with pytest.raises(UserError, match="no such key"):
        make(files={"flush": 1})


def test_a_users_own_module_and_its_failure_to_start(
    make: Make, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    @dataclass
    class Config:
        works: bool

    def make_logger(config: Any, context: Any) -> Recorder:
        if not config.works:
            raise OSError("no route to host")
        return Recorder()

    module = ModuleType("my_package.log")
    module.__dict__.update(Config=Config, make_logger=make_logger)
    monkeypatch.setitem(sys.modules, "my_package", ModuleType("my_package"))
    monkeypatch.setitem(sys.modules, "my_package.log", module)
    assert make(**{"my_package.log": {"works": True}}).state_dict() == {"my_package.log": {"calls": 1}}
    assert not said
    assert make(**{"my_package.log": {"works": False}}, files={}).state_dict() == {"files": {}}
    assert len(said) == 1 and "my_package.log" in said[0] and "no route to host" in said[0]
