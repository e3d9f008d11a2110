"""`sweeper=optuna launcher=slurm`: settings are jobs of a real SLURM. Training is real, and tiny."""

from __future__ import annotations

import re

import pytest

from rl_platform.run_dir import RunDir
from rl_platform.sweep_dir import SweepDir
from tests.cluster.place import ON_SLURM, Place

pytest.importorskip("optuna", reason="the extra optuna is not installed")
pytestmark = [pytest.mark.cluster, pytest.mark.slow]

SEARCH = [*ON_SLURM, "sweeper=optuna", "algo.learning_rate=tag(log,interval(1e-4,1e-2))", "sweeper.n_jobs=2"]


def test_a_search_runs_two_settings_at_a_time(place: Place) -> None:
    words = ["max_iterations=3", "sweeper.n_trials=3", "seed=1,2"]
    done = place.run_py("-m", *SEARCH, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = place.path.glob("outputs/sweeps/*")
    sweep = SweepDir.open(path)
    assert [place.state(run) for run in sweep.runs] == ["finished"] * 6
    assert len({str(run.slurm_job) for run in sweep.runs}) == 6
    assert "3 finished" in done.stdout
    assert re.search(r"run\.py env=cartpole '~tuned' .*algo\.learning_rate=0\.\d+", done.stdout)
    shown = place.run_py("sweep", str(path))
    assert done.stdout.strip().endswith(shown.stdout.strip())


def test_hopeless_settings_are_ended_wherever_their_jobs_are(place: Place) -> None:
    """What is searched is the reward of a step, so that the order of the returns is known."""
    search = [*ON_SLURM, "sweeper=optuna", "sweeper.n_jobs=2", "sweeper.n_trials=6", "sweeper.pruner=median"]
    words = ["env.rewards.alive.weight=interval(0,100)", "sweeper.objective=return_mean", "eval_interval=50"]
    limits = ["max_iterations=null", "stop_after_s=20", "sweeper.startup_trials=1", "sweeper.warmup=0.1"]
    done = place.run_py("-m", *search, *words, *limits)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = place.path.glob("outputs/sweeps/*")
    runs = SweepDir.open(path).runs
    assert [place.state(run) for run in runs] == ["finished"] * 6
    early = [run for run in runs if rows_time(run) < 18.0]
    assert early
    assert f"{6 - len(early)} finished, {len(early)} pruned" in done.stdout
    weights = {run.path: run.load_config().env.rewards.alive.weight for run in runs}
    assert max(weights, key=lambda path: weights[path]) not in [run.path for run in early]


def rows_time(run: RunDir) -> float:
    """Wall time of a run's last iteration, in s from its command's start."""
    return float(run.read_metrics()[-1]["Time/wall_s"])
