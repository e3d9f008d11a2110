from __future__ import annotations

import json
import math

import pytest

from rl_platform import atomic
from rl_platform.run_dir import RunDir
from tests.loggers.conftest import Make

RESUME = {"loggers": {}, "env_steps": 200}


def rows(run: RunDir) -> list[dict[str, float]]:
    return [json.loads(line) for line in run.metrics_jsonl.read_text().splitlines()]


def test_a_line_is_in_the_file_as_soon_as_it_is_logged(make: Make, run: RunDir) -> None:
    group = make(files={})
    group.log({"Train/mean_reward": 0.1 + 0.2, "Time/wall_s": 1.0}, 100)
    assert rows(run) == [{"env_steps": 100, "Train/mean_reward": 0.1 + 0.2, "Time/wall_s": 1.0}]
    group.log({"Loss/kl": math.nan, "Loss/value": math.inf}, 200)
    assert rows(run)[1] == {"env_steps": 200, "Loss/kl": None, "Loss/value": None}
    assert rows(run) == run.read_metrics()


def test_a_resume_cuts_what_comes_after_the_checkpoint(make: Make, run: RunDir) -> None:
    group = make(files={})
    for env_steps in (100, 200, 300, 400):
        group.log({"a": 1 / 3 + env_steps}, env_steps)
    before = run.metrics_jsonl.read_text().splitlines()
    group = make(RESUME, files={})
    group.log({"a": 1 / 3 + 300}, 300)
    assert run.metrics_jsonl.read_text().splitlines() == before[:3]
    assert not list(run.path.glob(".*.tmp"))


def test_a_run_that_starts_anew_forgets_everything(make: Make, run: RunDir) -> None:
    make(files={}).log({"a": 1.0}, 100)
    make(files={}).log({"a": 2.0}, 100)
    assert rows(run) == [{"env_steps": 100, "a": 2.0}]


@pytest.mark.parametrize("half", [b'{"env_steps": 300, "a', b'{"env_steps": 1', b"\n", b"\xff\xfe"])
def test_half_a_line_of_a_killed_run_does_no_harm(make: Make, run: RunDir, half: bytes) -> None:
    make(files={}).log({"a": 1.0}, 100)
    with open(run.metrics_jsonl, "ab") as file:
        file.write(half)
    assert run.read_metrics() == [{"env_steps": 100, "a": 1.0}]
    make(RESUME, files={}).log({"a": 3.0}, 300)
    assert rows(run) == [{"env_steps": 100, "a": 1.0}, {"env_steps": 300, "a": 3.0}]


def test_nothing_is_rewritten_without_need(make: Make, run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    make(files={}).log({"a": 1.0}, 200)
    monkeypatch.setattr(atomic, "write_text", lambda *_: pytest.fail("rewritten"))
    make(RESUME, files={})


def test_no_file_no_rows(run: RunDir) -> None:
    assert run.read_metrics() == []
