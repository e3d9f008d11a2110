from __future__ import annotations

import builtins
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from rl_platform.errors import UserError
from rl_platform.loggers.wandb import Config
from rl_platform.run_dir import RunDir
from tests.loggers.conftest import Make

wandb = pytest.importorskip("wandb")

OPTIONS: dict[str, Any] = {
    "project": "rl_platform",
    "entity": None,
    "group": None,
    "job_type": "train",
    "tags": ["first-try"],
    "notes": "a note",
    "mode": "offline",
}
ONLINE = OPTIONS | {"mode": "online"}


@pytest.fixture(autouse=True)
def nobodys_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No key and no wish of the machine's user reaches the tests, and nothing of theirs W&B."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_ENTITY", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    wandb.teardown()
    yield
    wandb.teardown()


def records(run: RunDir) -> list[list[dict[str, Any]]]:
    """The records of every offline segment, in the order of their writing, as W&B reads them."""
    command = Path(sys.executable).with_name("wandb")
    found = []
    for segment in sorted((run.path / "wandb").glob("offline-run-*")):
        printed = subprocess.run(
            [command, "leet", "inspect", "--json", segment], capture_output=True, text=True, check=True
        )
        found.append([json.loads(line) for line in printed.stdout.splitlines()])
    return found


def of_type(segment: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [record[kind] for record in segment if record["type"] == kind]


def history(segment: list[dict[str, Any]], name: str) -> list[tuple[int, int, float]]:
    """(W&B's step, our step, value)."""
    rows = [record["item"] for record in of_type(segment, "history")]
    return [(row["_step"], row["global_step"], row[name]) for row in rows if name in row]


def test_an_offline_run_reads_back(make: Make, run: RunDir, tmp_path: Path, said: list[str]) -> None:
    from matplotlib.figure import Figure

    png, mp4 = tmp_path / "curve.png", tmp_path / "policy.mp4"
    Figure(figsize=(2, 2)).savefig(png)
    mp4.write_bytes(b"not really a video")
    group = make(wandb=OPTIONS)
    group.log({"Train/mean_reward": 0.5}, 100)
    group.log({"Train/mean_reward": 0.75}, 200)
    group.log_image("learning_curve", png, 200)
    group.log_video("policy", mp4, 200)
    group.summary({"env_steps": 200, "eval": {"success_rate": 0.98}})
    identity = group.state_dict()["wandb"]["id"]
    group.close("finished")

    (segment,) = records(run)
    (started,) = of_type(segment, "run")
    assert started["run_id"] == identity
    assert started["project"] == "rl_platform" and started["job_type"] == "train"
    assert started["tags"] == ["first-try"] and started["notes"] == "a note"
    assert started["display_name"] == "lift_ppo_2026-11-20_s42"
    assert "run_group" not in started
    assert (
        started["config"]["update"]["env"] == {"name": "lift"} and started["config"]["update"]["seed"] == 42
    )
    assert history(segment, "Train/mean_reward") == [(100, 100, 0.5), (200, 200, 0.75)]
    (x_axis,) = [metric for metric in of_type(segment, "metric") if metric.get("glob_name") == "*"]
    assert x_axis["step_metric"] == "global_step"
    last = of_type(segment, "history")[-1]["item"]
    assert last["learning_curve._type"] == "image-file" and last["policy_video._type"] == "video-file"
    media = run.path / "wandb"
    assert next(media.rglob("*.png")).read_bytes() == png.read_bytes()
    assert next(media.rglob("*.mp4")).read_bytes() == mp4.read_bytes()
    summary: dict[str, Any] = {}
    for record in of_type(segment, "summary"):
        summary |= record["update"]
    assert summary["eval"] == {"success_rate": 0.98}
    assert [end["exit_code"] for end in of_type(segment, "exit")] == [0]
    assert said == [f"W&B: recording offline. Upload it with: wandb sync {segment_dir(run)}"]


def segment_dir(run: RunDir) -> str:
    """The only segment, as it is named to the user."""
    (path,) = (run.path / "wandb").glob("offline-run-*")
    return str(path)


def test_a_resumed_run_goes_on_as_the_same_one(make: Make, run: RunDir, said: list[str]) -> None:
    group = make(wandb=OPTIONS)
    group.log({"a": 1.0}, 100)
    checkpoint = {"loggers": group.state_dict(), "env_steps": 100}
    group.close("preempted")
    group = make(checkpoint, wandb=OPTIONS)
    group.log({"a": 2.0}, 200)
    assert group.state_dict() == checkpoint["loggers"]
    group.close("finished")
    first, second = records(run)
    assert of_type(first, "run")[0]["run_id"] == of_type(second, "run")[0]["run_id"]
    assert of_type(first, "preempting")
    assert [end["exit_code"] for end in of_type(first, "exit")] == [1]
    assert history(second, "a") == [(200, 200, 2.0)]
    assert said[1].endswith(f"wandb sync {run.path}/wandb/offline-run-*")


def test_two_jobs_in_a_process_are_two_runs(make: Make, run: RunDir) -> None:
    """Even if the first one's logger was left open."""
    one, two = make(wandb=OPTIONS), make(wandb=OPTIONS)
    one.log({"a": 1.0}, 100)
    two.log({"a": 2.0}, 100)
    one.close("finished")
    two.close("failed")
    first, second = records(run)
    ids = {of_type(segment, "run")[0]["run_id"] for segment in (first, second)}
    assert len(ids) == 2
    assert {history(segment, "a")[0][2] for segment in (first, second)} == {1.0, 2.0}


def test_jobs_of_a_sweep_are_grouped_by_its_name(tmp_path: Path, make: Make, run: RunDir) -> None:
    job = tmp_path / "sweeps" / "2026-11-20" / "0_seed=1"
    shutil.copytree(run.path, job)
    run.path = job
    make(wandb=OPTIONS).close("finished")
    make(wandb=OPTIONS | {"group": "mine"}).close("finished")
    assert sorted(of_type(segment, "run")[0]["run_group"] for segment in records(run)) == [
        "2026-11-20",
        "mine",
    ]


def test_without_a_key_it_records_offline_and_says_so_once(
    make: Make, run: RunDir, said: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    group = make(wandb=ONLINE)
    group.log({"a": 1.0}, 100)
    group.close("finished")
    assert len(records(run)) == 1
    assert said == [
        "W&B: recording offline (there is no API key: wandb login). "
        f"Upload it with: wandb sync {segment_dir(run)}"
    ]
    assert capfd.readouterr() == ("", "")


def test_without_a_network_it_records_offline(
    make: Make, run: RunDir, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    wandb.teardown()
    make(wandb=ONLINE).close("finished")
    assert len(records(run)) == 1
    assert len(said) == 1 and "recording offline (127.0.0.1 cannot be reached)" in said[0]


@pytest.fixture
def refusing_server() -> Iterator[str]:
    """A W&B that takes nobody's key."""

    class Refuse(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = b'{"errors": [{"message": "user is not logged in"}]}'
            self.send_response(401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST  # noqa: N815 - the library's name

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Refuse)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_key_that_is_refused_ends_in_an_offline_run(
    make: Make,
    run: RunDir,
    said: list[str],
    monkeypatch: pytest.MonkeyPatch,
    refusing_server: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", refusing_server)
    wandb.teardown()
    group = make(wandb=ONLINE)
    group.log({"a": 1.0}, 100)
    group.close("finished")
    (segment,) = records(run)
    assert history(segment, "a") == [(100, 100, 1.0)]
    assert len(said) == 1 and "recording offline" in said[0] and "not logged in" in said[0]
    assert capfd.readouterr() == ("", "")


def test_a_key_of_wandb_login_is_found(
    tmp_path: Path, make: Make, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login user password {'0' * 40}\n")
    make(wandb=ONLINE).close("finished")
    assert "cannot be reached" in said[0]


def test_the_environment_turns_it_off(
    make: Make, run: RunDir, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert make(wandb=ONLINE).state_dict() == {}
    assert make(wandb=OPTIONS | {"mode": "disabled"}).state_dict() == {}
    assert not (run.path / "wandb").exists() and not said


def test_a_dead_wandb_stops_nothing(make: Make, run: RunDir, said: list[str]) -> None:
    group = make(wandb=OPTIONS, files={})
    wandb.teardown()  # its process is gone
    group.log({"a": 1.0}, 100)
    group.log({"a": 2.0}, 200)
    group.close("finished")
    assert len(run.read_metrics()) == 2
    assert len(said) == 2 and "logger wandb failed" in said[1]


def test_without_the_package_the_message_says_how_to_get_it(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "wandb":
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(UserError, match=r"pip install -c constraints.txt -e \"\.\[wandb\]\""):
        make(wandb=OPTIONS)


def test_importing_the_module_does_not_import_wandb() -> None:
    script = "import sys, rl_platform.loggers.wandb; print('wandb' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("change", "key"),
    [({"project": ""}, "project"), ({"project": "a/b"}, "project"), ({"tags": [""]}, "tags")],
)
def test_values_out_of_range(change: dict[str, Any], key: str) -> None:
    assert list(Config(**OPTIONS).check()) == []
    assert [bad for bad, _ in Config(**(OPTIONS | change)).check()] == [key]
