"""`sweeper=optuna launcher=slurm`: settings are jobs of a real SLURM. Training is real, and tiny."""

from __future__ import annotations

import re

import pytest

from rl_platform.sweep_dir import SweepDir
from tests.cluster.place import ON_SLURM, Place

pytest.importorskip("optuna", reason="the extra optuna is not installed")
pytestmark = [pytest.mark.cluster, pytest.mark.slow]

SEARCH = [*ON_SLURM, "sweeper=optuna", "algo.learning_rate=tag(log,interval(1e-4,1e-2))", "sweeper.n_jobs=2"]


def test_a_search_runs_two_settings_at_a_time_and_prunes(place: Place) -> None:
    """A learning rate that ruins the return is ended by the file that its job finds."""
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
