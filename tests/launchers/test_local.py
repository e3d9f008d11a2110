"""`python run.py -m …` on this machine; training is a stand-in (tests/stand_in), the processes are real."""

from __future__ import annotations

import os
import re
import signal
import socket
from pathlib import Path

import pytest

import run
from rl_platform.multirun import Watch
from rl_platform.run_dir import RunDir
from tests.sweeps import PATIENCE_S, ROOT, Place, said, wait_for_state


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(tmp_path, monkeypatch)


def test_a_sweep_runs_every_combination_in_order(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """Wherever -m stands; each job has a directory of its own, with a complete configuration."""
    argv = ["env=lift", "max_iterations=2", "-m", "algo.gamma=0.9,0.99", "seed=1,2", "launcher=local"]
    assert run.main(argv) == 0
    combinations = [(0.9, 1), (0.9, 2), (0.99, 1), (0.99, 2)]
    runs = place.sweep.runs
    assert [(run.load_config().algo.gamma, run.load_config().seed) for run in runs] == combinations
    assert place.sweep.path.parent == Path("outputs/sweeps")
    assert [run.path.name for run in runs] == [
        f"{n}_gamma={gamma},seed={seed}" for n, (gamma, seed) in enumerate(combinations)
    ]
    assert all(run.load_config().max_iterations == 2 for run in runs)
    assert [said(run, key) for run in runs[:1] for key in ("env", "agent", "algo", "seed")] == [
        "lift",
        "ppo",
        "ppo",
        1,
    ]
    begun = [float(str(said(run, "at"))) for run in runs]
    assert begun == sorted(begun)
    out = capsys.readouterr().out
    assert "4 of 4 jobs finished" in out
    assert re.search(rf"job 4 of 4: {runs[3].path}\nseed 2 learns\n", out)
    assert re.search(r"\n0\.9 +2 +46\.5 % \(40\.1 to 52\.9\) .* 2 finished\n", out)
    assert "Best: algo.gamma=0.99" in out
    assert not list(place.path.rglob(".hydra")) + list(place.path.rglob("multirun.yaml"))


def test_a_recipe_brings_values_to_try(place: Place) -> None:
    """A value on the command line counts more."""
    assert (
        run.main(["-m", "sweep=[ppo,seeds5]", "algo.learning_rate=1e-3", "algo.gae_lambda=0.9", "seed=4"])
        == 0
    )
    runs = place.sweep.runs
    assert [run.path.name for run in runs] == ["0_ent_coef=0.0", "1_ent_coef=0.005"]
    assert {run.load_config().seed for run in runs} == {4}


def test_a_sweep_can_switch_a_term_on(place: Place) -> None:
    """The event is null in the YAML; a single run takes the same words."""
    assert run.main(["-m", "env=lift", "seed=1,2", "env.events.cube_mass.range=[0.1,0.2]"]) == 0
    assert [run.load_config().env.events.cube_mass.range for run in place.sweep.runs] == [[0.1, 0.2]] * 2


def test_a_sweep_draws_a_seed_for_each_job(place: Place) -> None:
    assert run.main(["-m", "seed=-1", "algo.gamma=0.9,0.99", "~tuned"]) == 0
    assert len(set(place.seeds())) == 2
    assert min(place.seeds()) >= 0


@pytest.mark.parametrize(
    ("what", "told", "state"),
    [
        ("refuse", "no room for it", "failed"),
        ("nan", "a NaN", "failed"),
        ("bug", "a bug", "failed"),
        ("die", "killed by SIGKILL", "killed"),
    ],
)
def test_a_failing_job_does_not_end_the_sweep(
    place: Place, capsys: pytest.CaptureFixture[str], what: str, told: str, state: str
) -> None:
    """Its error is printed when it happens, and the sweep's exit status tells of it; it can be retried."""
    place.tell({2: what})
    assert run.main(["-m", "seed=1,2,3"]) == 1
    done = capsys.readouterr()
    path = place.sweep.runs[1].path
    assert f"{path} {state}: {told}" in done.err
    assert "2 of 3 jobs finished" in done.out
    assert f"  {path} {state}: {told}" in done.out
    assert ("Traceback" in done.out) == (what == "bug")
    begun = [said(run, "at") for run in place.sweep.runs]
    assert place.states()[0::2] == ["finished", "finished"]

    place.tell({})
    assert run.main(["sweep", str(place.sweep.path), "--retry-failed"]) == 0
    assert place.states() == ["finished"] * 3
    assert [said(run, "at") for run in place.sweep.runs][0::2] == begun[0::2]
    done = capsys.readouterr()
    assert "3 finished" in done.out
    assert str(path) not in done.err  # an old failure is not told again


def test_a_retried_job_may_fail_before_it_begins(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """Such as by an import error in a task of the user's."""
    place.tell({2: "bug"})
    assert run.main(["-m", "seed=1,2"]) == 1
    place.tell({2: "refuse"})
    again = ["sweep", str(place.sweep.path), "--retry-failed"]
    assert run.main(again) == 1
    done = capsys.readouterr()
    assert f"{place.sweep.runs[1].path} failed: no room for it (exit status 2" in done.err
    assert done.out.endswith(f"run.py {' '.join(again)}\n")
    place.tell({})
    assert run.main(again) == 0
    assert place.states() == ["finished"] * 2


def test_each_job_that_did_not_finish_can_be_started_again(place: Place) -> None:
    """By the command that is shown: the first was asked to end, the second failed."""
    place.tell({1: "last", 2: "bug"})
    sweep = place.start("-m", "seed=1,2,3")
    wait_for_state(place, 0, "running")
    os.kill(int(str(said(place.sweep.runs[0], "pid"))), signal.SIGTERM)
    out, _ = sweep.communicate(timeout=PATIENCE_S)
    assert place.states() == ["preempted", "failed", "finished"]
    again = ["sweep", str(place.sweep.path), "--retry-failed", "--continue"]
    assert out.endswith(f"run.py {' '.join(again)}\n")
    place.tell({2: "last"})
    sweep = place.start(*again)
    wait_for_state(place, 1, "running")
    os.kill(int(str(said(place.sweep.runs[1], "pid"))), signal.SIGTERM)
    out, _ = sweep.communicate(timeout=PATIENCE_S)
    assert place.states() == ["finished", "preempted", "finished"]
    assert out.endswith(f"run.py sweep {place.sweep.path} --continue\n")


def test_editing_a_file_during_a_sweep_changes_nothing(place: Place) -> None:
    """All jobs are composed, and their directories made, before the first starts."""
    own = place.path / "own" / "algo" / "mine.yaml"
    own.parent.mkdir(parents=True)
    text = (ROOT / "conf" / "algo" / "ppo.yaml").read_text()
    own.write_text(text.replace("clip_coef: 0.2", "clip_coef: 0.123"))
    place.tell({1: "last"})
    sweep = place.start("-m", "--config-dir", "own", "algo=mine", "~tuned", "seed=1,2")
    wait_for_state(place, 0, "running")
    assert place.states() == ["running", "queued"]
    own.write_text("name: [broken\n")
    os.kill(int(str(said(place.sweep.runs[0], "pid"))), signal.SIGTERM)
    sweep.communicate(timeout=PATIENCE_S)
    assert place.states() == ["preempted", "finished"]
    assert place.sweep.runs[1].load_config().algo.clip_coef == 0.123


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_signal_stops_the_running_job_and_leaves_the_others(place: Place, number: int, status: int) -> None:
    """They go on with the command that is shown."""
    place.tell({1: "last"})
    sweep = place.start("-m", "seed=1,2,3")
    wait_for_state(place, 0, "running")
    sweep.send_signal(number)
    out, _ = sweep.communicate(timeout=PATIENCE_S)
    assert sweep.returncode == status
    assert place.states() == ["preempted", "queued", "queued"]
    go_on = f"run.py sweep {place.sweep.path} --continue"
    assert go_on in out
    place.tell({})
    assert run.main(["sweep", str(place.sweep.path), "--continue"]) == 0
    assert place.states() == ["finished"] * 3


def test_a_command_that_is_killed_takes_its_job_along(place: Place) -> None:
    """By kill -9, or with its terminal: the job saves and ends, nothing trains on unseen."""
    place.tell({1: "last"})
    sweep = place.start("-m", "seed=1,2,3")
    wait_for_state(place, 0, "running")
    sweep.kill()
    sweep.communicate(timeout=PATIENCE_S)
    wait_for_state(place, 0, "preempted")
    assert place.states() == ["preempted", "queued", "queued"]
    place.tell({})
    assert run.main(["sweep", str(place.sweep.path), "--continue"]) == 0
    assert place.states() == ["finished"] * 3


def test_jobs_side_by_side_share_the_processors(place: Place) -> None:
    mine = sorted(os.sched_getaffinity(0))
    assert run.main(["-m", "seed=1,2,3,4", "launcher.parallel=2"]) == 0
    used: list[tuple[int, ...]] = [tuple(said(job, "cpus_used")) for job in place.sweep.runs]
    if len(mine) == 1:
        assert set(used) == {tuple(mine)}
    else:
        assert len(set(used)) == 2
        assert sorted(cpu for share in set(used) for cpu in share) == mine


def test_jobs_side_by_side_report_in_lines(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.tell({2: "bug"})
    assert run.main(["-m", "seed=1,2,3", "launcher.parallel=2"]) == 1
    done = capsys.readouterr()
    assert "0_seed=1: finished at iteration 7" in done.out
    assert "learns" not in done.out
    assert "/1_seed=2 failed: a bug\n" in done.err
    assert "ValueError: a bug" in done.err  # the end of its log
    assert run.main(["sweep", str(place.sweep.path), "--log", "0"]) == 0
    assert capsys.readouterr().out == "seed 1 learns\n"


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["-m", "seed=1,2", "launcher=local,local"], "one sweep has one launcher"),
        (["-m", "sweep=ppo,seeds5"], "write sweep=[ppo,seeds5]"),
        (["-m", "sweep=seed5"], "did you mean sweep=seeds5?"),
        (["sweep=seeds5"], "needs -m"),
        (["-m", "seed=1,2", "launcher.parallel=0"], "launcher.parallel: must be at least 1, got 0"),
        (["-m", "seed=1,2", "launcher.paralel=2"], "did you mean launcher.parallel=2?"),
        (["-m", "seed=1,2", "hydra/launcher=basic"], "write launcher=local"),
        (["sweep", "nowhere"], "there is no such sweep"),
    ],
)
def test_what_is_refused_leaves_nothing(
    place: Place, capsys: pytest.CaptureFixture[str], argv: list[str], told: str
) -> None:
    assert run.main(argv) == 2
    assert told in capsys.readouterr().err
    assert list(place.path.iterdir()) == []


def test_a_failure_is_told_when_its_process_has_said_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = RunDir.create(tmp_path, "a")
    here = {"host": socket.gethostname(), "pid": os.getpid()}
    run_dir.update_state(state="failed", error="a bug", **here)
    watch = Watch([run_dir])
    watch.look()
    assert capsys.readouterr().err == ""
    run_dir.job_log.write_text("Traceback\nValueError: a bug\n")
    watch.look(last=True)
    assert "ValueError: a bug" in capsys.readouterr().err
