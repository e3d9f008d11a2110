"""Hydra's own suite for launchers on a real SLURM: `hydra/launcher=rl_slurm` runs any Hydra application."""

from __future__ import annotations

import pytest
from hydra.test_utils.launcher_common_tests import (
    BatchedSweeperTestSuite,
    IntegrationTestSuite,
    LauncherTestSuite,
)

from tests.cluster.slurm import Slurm
from tests.launchers.test_hydra import _as_before  # noqa: F401 - a fixture, used by itself

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


@pytest.fixture(autouse=True)
def _on_the_login_node(slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CONF", slurm.env["SLURM_CONF"])


@pytest.mark.parametrize("overrides", [[]])
@pytest.mark.parametrize("launcher_name", ["rl_slurm"])
class TestLauncher(LauncherTestSuite):
    """One job, several, custom resolvers, what may not be swept."""


@pytest.mark.parametrize(("launcher_name", "overrides"), [("rl_slurm", ["hydra.sweeper.max_batch_size=2"])])
class TestBatches(BatchedSweeperTestSuite):
    """A sweep in several batches."""


@pytest.mark.parametrize(("task_launcher_cfg", "extra_flags"), [({}, ["-m", "hydra/launcher=rl_slurm"])])
class TestIntegration(IntegrationTestSuite):
    """Scripts in processes of their own: names, directories, working directories."""
