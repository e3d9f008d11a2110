"""`sweeper=optuna`: settings are asked for, run, ended early, told. The launcher trains by arithmetic."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import run
from rl_platform import multirun
from rl_platform.run_dir import RunDir
from rl_platform.states import state_of
from rl_platform.sweep_dir import SweepDir

pytest.importorskip("optuna", reason="the extra optuna is not installed")

SEARCH = ["-m", "sweeper=optuna", "env=cartpole", "agent=ppo", "max_iterations=10", "total_env_steps=null"]
GAMMA = "algo.gamma=interval(0.1,0.9)"


class Arithmetic:
    """A launcher whose runs do an iteration with each poll; what they are worth grows to their gamma.

    Attributes:
        ended: how many iterations each run had in the end, by its directory's name.
        together: the most settings that there were at the same time.
        checked: where the runs that were to be looked at go.
    """

    poll_s, shows_output, survives, wait = 0.0, False, False, True

    def __init__(
        self,
        slots: int = 1,
        stop_after: int = -1,
        late: int = 0,
        failing: Sequence[int] = (),
        killed: Sequence[int] = (),
    ) -> None:
        """How it goes.

        Args:
            slots: jobs at a time.
            stop_after: polls until somebody presses Ctrl-C.
            late: polls before the first job begins.
            failing: numbers of runs.
            killed: numbers of runs.
        """
        self.slots, self.polls_left, self.late = slots, stop_after, late
        self.failing, self.killed = failing, killed
        self.waiting: list[RunDir] = []
        self.running: list[RunDir] = []
        self.ended: dict[str, int] = {}
        self.together = 0
        self.checked: list[str] = []
        self.worth: dict[Path, float] = {}

    def check(self, configs: Sequence[Any]) -> None:
        """Anything can be started."""
        self.checked = [config["output_dir"] for config in configs]

    def submit(self, home: Path, runs: Sequence[RunDir]) -> None:
        self.waiting += runs
        settings = {job.load_config().algo.gamma for job in [*self.running, *self.waiting]}
        self.together = max(self.together, len(settings))

    def poll(self) -> bool:
        self.polls_left -= 1
        if self.polls_left == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        if self.late > 0:
            self.late -= 1
            return True
        while self.waiting and len(self.running) < self.slots:
            self.running.append(self.waiting.pop(0))
            self.running[-1].begin()
        for job in list(self.running):
            self._iterate(job)
        return bool(self.running or self.waiting)

    def _iterate(self, job: RunDir) -> None:
        if job.path not in self.worth:
            cfg = job.load_config()
            self.worth[job.path] = cfg.algo.gamma + cfg.seed / 1000
        n, worth = len(job.read_metrics()) + 1, self.worth[job.path]
        number = int(job.path.name.partition("_")[0])
        if number in self.failing:
            job.update_state(state="failed", error="out of memory")
            self.running.remove(job)
        elif number in self.killed:
            kill(job)
            self.running.remove(job)
        elif n > 10 or job.take_stop_request() is not None:
            summary = {"eval": {"return_mean": worth * (n - 1) / 10}, "env_steps": 1000 * number}
            job.summary_json.write_text(json.dumps(summary))
            job.update_state(state="finished")
            self.ended[job.path.name] = n - 1
            self.running.remove(job)
        else:
            row = {
                "env_steps": n,
                "Time/iteration": n,
                "Time/wall_s": 1.0,
                "Eval/return_mean": worth * n / 10,
            }
            with open(job.metrics_jsonl, "a") as file:
                file.write(json.dumps(row) + "\n")

    def stop(self) -> None:
        for job in self.running:
            job.update_state(state="preempted")
        self.running, self.waiting = [], []

    def kill(self) -> None:
        raise AssertionError("nobody pressed Ctrl-C twice")


def kill(job: RunDir) -> None:
    """Leave a run as a process that is killed leaves it."""
    job.update_state(state="preempted")  # gives the lock back
    job.update_state(state="running", error="killed by SIGKILL")


def search(monkeypatch: pytest.MonkeyPatch, *words: str, **how: Any) -> tuple[int, Arithmetic]:
    launcher = Arithmetic(**how)
    monkeypatch.setattr(multirun, "make_launcher", lambda *args: launcher)
    return run.main(list(words)), launcher


def the_sweep() -> SweepDir:
    (path,) = Path("outputs/sweeps").iterdir()
    return SweepDir.open(path)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_search_ends_with_a_table_and_the_best_as_a_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*SEARCH, GAMMA, "algo.gae_lambda=0.9,0.95", "seed=1,2", "sweeper.n_trials=8", "run_name=mine"]
    status, launcher = search(monkeypatch, *words, slots=3)
    assert status == 0
    sweep = the_sweep()
    assert len(sweep.entries) == len(launcher.ended) == 16
    assert [run.load_config().seed for run in sweep.runs] == [1, 2] * 8
    gammas = [float(launcher.worth[run.path] - 0.001) for run in sweep.runs[::2]]
    assert len(set(gammas)) == 8
    out = capsys.readouterr().out
    best = max(gammas)
    assert f": score {best + 0.0015:.4g}" in out
    last = out.strip().splitlines()[-1]
    assert "run.py env=cartpole agent=ppo max_iterations=10 total_env_steps=null " in last
    assert f"algo.gamma={best:.6g} " in last
    assert not {"seed", "sweeper", "run_name"} & {word.partition("=")[0] for word in last.split()}
    assert run.main(["sweep", str(sweep.path)]) == 0
    assert last in capsys.readouterr().out
    assert all(re.fullmatch(r"\d+_gamma=0\.\d+,gae_lambda=0\.\d+,seed=[12]", r.path.name) for r in sweep.runs)


@pytest.mark.parametrize(
    ("words", "together"),
    [
        ([], 4),
        (["seed=1,2"], 2),
        (["seed=1,2,3"], 2),
        (["seed=1,2,3,4,5"], 1),
        (["sweeper.n_jobs=3"], 3),
        (["sweeper.n_trials=7"], 2),  # a third, that the others learn from
        (["sweeper.n_trials=2"], 1),
    ],
)
def test_as_many_settings_are_tried_at_a_time_as_the_launcher_has_jobs(
    monkeypatch: pytest.MonkeyPatch, words: list[str], together: int
) -> None:
    status, launcher = search(monkeypatch, *SEARCH, GAMMA, "sweeper.n_trials=12", *words, slots=4)
    assert (status, launcher.together) == (0, together)


@pytest.mark.parametrize("pruner", ["median", "asha"])
def test_hopeless_settings_end_early(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], pruner: str
) -> None:
    words = [*SEARCH, GAMMA, "eval_interval=1", f"sweeper.pruner={pruner}", "sweeper.startup_trials=2"]
    status, launcher = search(monkeypatch, *words, "sweeper.n_trials=10", "logger=none", "sweeper.warmup=0.3")
    assert status == 0
    early = [n for n in launcher.ended.values() if n < 10]
    assert early
    assert set(early) <= ({2, 4} if pruner == "asha" else set(range(3, 10)))
    assert set(launcher.ended.values()) - set(early) == {10}
    out = capsys.readouterr().out
    assert out.count(": pruned, score") == len(early)
    assert f"{10 - len(early)} finished, {len(early)} pruned" in out
    assert all("files" in run.load_config().logger for run in the_sweep().runs)


def test_looking_at_a_search_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert search(monkeypatch, *SEARCH, GAMMA, "sweeper.n_trials=2")[0] == 0
    sweep = the_sweep().path
    before = {path: path.read_bytes() for path in sweep.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert run.main(["sweep", str(sweep)]) == 0
    assert "2 finished" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in sweep.rglob("*") if path.is_file()} == before
    (sweep / "study.log").unlink()  # a search that was ended before its first setting
    assert run.main(["sweep", str(sweep)]) == 0
    assert "no settings tried" in capsys.readouterr().out
    assert not (sweep / "study.log").exists()


def test_a_search_can_be_looked_at_where_it_cannot_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such as on a machine without its device."""
    assert search(monkeypatch, *SEARCH, GAMMA, "sweeper.n_trials=2")[0] == 0
    sweep = the_sweep().path
    plan = json.loads((sweep / "search.json").read_text())
    plan["overrides"].append("device=cuda:99")
    (sweep / "search.json").write_text(json.dumps(plan))
    capsys.readouterr()
    assert run.main(["sweep", str(sweep)]) == 0
    assert "2 finished" in capsys.readouterr().out
    assert search(monkeypatch, "sweep", str(sweep), "--continue", "--trials", "3")[0] == 2
    assert "device: is cuda:99" in capsys.readouterr().err


def test_runs_that_have_ended_are_not_asked_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one job at a time the first seed has finished when the second is found hopeless."""
    words = [*SEARCH, GAMMA, "seed=1,2", "eval_interval=1", "sweeper.pruner=median", "sweeper.n_trials=6"]
    status, launcher = search(monkeypatch, *words, "sweeper.startup_trials=2", "sweeper.warmup=0.3")
    assert status == 0
    assert min(launcher.ended.values()) < 10
    assert [run.take_stop_request() for run in the_sweep().runs] == [None] * 12


def test_a_hopeless_run_that_was_interrupted_at_its_end_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Interrupted(Arithmetic):
        def _iterate(self, job: RunDir) -> None:
            if job.take_stop_request() is not None:
                os.kill(os.getpid(), signal.SIGTERM)
            else:
                super()._iterate(job)

    words = [*SEARCH, GAMMA, "eval_interval=1", "sweeper.pruner=median", "sweeper.startup_trials=2"]
    monkeypatch.setattr(multirun, "make_launcher", lambda *args: Interrupted())
    assert run.main([*words, "sweeper.n_trials=10", "sweeper.warmup=0.3"]) == 0
    hopeless = the_sweep().runs[-1].path
    assert search(monkeypatch, "sweep", str(the_sweep().path), "--continue")[1].ended[hopeless.name] < 10


def test_an_interrupted_search_goes_on_as_if_nothing_had_happened(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = [*SEARCH, GAMMA, "sweeper.n_trials=4"]
    assert search(monkeypatch, *words)[0] == 0
    whole = [run.load_config().algo.gamma for run in the_sweep().runs]
    (tmp_path / "again").mkdir()
    monkeypatch.chdir(tmp_path / "again")
    status, launcher = search(monkeypatch, *words, stop_after=16)
    assert status == 0  # as any run that a SIGTERM ends
    assert len(launcher.ended) == 1
    sweep = the_sweep()
    assert f"run.py sweep {sweep.path} --continue" in capsys.readouterr().out
    status, launcher = search(monkeypatch, "sweep", str(sweep.path), "--continue")
    assert status == 0
    assert launcher.checked
    assert len(launcher.ended) == 3
    assert [run.load_config().algo.gamma for run in the_sweep().runs] == whole
    assert all(len(run.read_metrics()) == 10 for run in the_sweep().runs)
    assert "4 finished" in capsys.readouterr().out
    status, launcher = search(monkeypatch, "sweep", str(sweep.path), "--continue", "--trials", "6")
    assert len(launcher.ended) == 2
    assert len(the_sweep().runs) == 6


def test_a_killed_search_starts_its_jobs_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They look killed until their new processes have begun."""
    words = [*SEARCH, GAMMA, "sweeper.n_trials=2"]
    assert search(monkeypatch, *words, stop_after=5)[0] == 0
    (job,) = the_sweep().runs
    kill(job)
    assert search(monkeypatch, "sweep", str(the_sweep().path), "--continue", late=3)[0] == 0
    assert "2 finished" in capsys.readouterr().out.splitlines()
    assert all(len(run.read_metrics()) == 10 for run in the_sweep().runs)


@pytest.mark.parametrize("state", ["killed", "cancelled"])
def test_a_run_that_seems_to_have_ended_once_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], state: str
) -> None:
    looks = iter([state])
    monkeypatch.setattr("rl_platform.search.state_of", lambda *a, **k: next(looks, None) or state_of(*a, **k))
    assert search(monkeypatch, *SEARCH, GAMMA, "sweeper.n_trials=2")[0] == 0
    assert "2 finished" in capsys.readouterr().out.splitlines()


def test_a_setting_with_a_killed_run_is_a_failed_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert search(monkeypatch, *SEARCH, GAMMA, "sweeper.n_trials=3", killed=[1])[0] == 0
    out = capsys.readouterr().out
    assert "killed: killed by SIGKILL" in out
    assert "2 finished, 1 failed" in out


def test_a_setting_with_a_failed_run_is_a_failed_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*SEARCH, GAMMA, "seed=1,2", "sweeper.n_trials=3"]
    status, launcher = search(monkeypatch, *words, failing=[3])
    assert status == 0
    assert len(launcher.ended) == 5
    out = capsys.readouterr().out
    assert "trial 1: failed, " in out
    assert "out of memory" in out
    assert "2 finished, 1 failed" in out
    assert search(monkeypatch, *words, failing=range(6))[0] == 1


def test_a_setting_that_is_refused_does_not_end_the_search(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both ends of the interval are fine, 3 of its numbers do not divide the samples."""
    words = [*SEARCH, "algo.num_minibatches=int(interval(1,4))", "sweeper.n_trials=8", "env.num_envs=4"]
    assert search(monkeypatch, *words, "algo.rollout_steps=4")[0] == 0
    out = capsys.readouterr().out
    assert "algo.num_minibatches: must divide algo.rollout_steps x env.num_envs" in out
    assert "Nothing was started" not in out
    assert "failed" in out


def test_several_objectives_end_with_their_front(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*SEARCH, GAMMA, "sweeper.objective=[return_mean,env_steps]", "sweeper.n_trials=6"]
    status, _ = search(monkeypatch, *words, "sweeper.direction=[maximize,minimize]", "sweeper.sampler=nsgaii")
    assert status == 0
    out = capsys.readouterr().out
    # Each run costs more steps than the one before: the first and all that were better than any before.
    gammas = [run.load_config().algo.gamma for run in the_sweep().runs]
    front = [g for i, g in enumerate(gammas) if all(g > earlier for earlier in gammas[:i])]
    listed = [line for line in out.splitlines() if line.startswith("  ") and "run.py" in line]
    assert len(listed) == len(front)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["seed=1,2"], "has nothing to search"),
        (["algo.gamma=interval(0.5,1.5)"], "algo.gamma: must be in [0, 1], got 1.5"),
        ([GAMMA, "sweeper.pruner=asha"], "eval_interval=10"),
        ([GAMMA, "sweeper.pruner=asha", "eval_interval=3", "log_interval=2"], "log_interval=1"),
        ([GAMMA, "sweeper.n_trails=3"], "did you mean sweeper.n_trials=3?"),
        ([GAMMA, "sweeper.objective=sucess"], "did you mean success_rate?"),
        ([GAMMA, "sweeper.pruner=medain"], "sweeper.pruner=median"),
        (["algo.gama=interval(0.5,0.9)"], "did you mean algo.gamma"),
    ],
)
def test_mistakes_are_told_before_anything_is_made(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    assert search(monkeypatch, *SEARCH, *words)[0] == 2
    assert told in capsys.readouterr().err
    assert not Path("outputs").exists()


def test_what_is_for_optuna_alone_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["-m", GAMMA]) == 2
    assert "Intervals are for sweeper=optuna" in capsys.readouterr().err
    assert run.main(["sweeper=optuna", "algo.gamma=0.9"]) == 2
    assert "needs -m" in capsys.readouterr().err.replace("need -m", "needs -m")
    assert run.main(["-m", "sweeper=basic,optuna", "seed=1,2"]) == 2
    assert "one sweep has one sweeper" in capsys.readouterr().err
