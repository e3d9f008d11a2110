"""Hydra's own suite for launchers: ours start the jobs of any Hydra application."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra.core.singleton import Singleton
from hydra.test_utils.launcher_common_tests import (
    BatchedSweeperTestSuite,
    IntegrationTestSuite,
    LauncherTestSuite,
)
from hydra.test_utils.test_utils import TSweepRunner
from hydra.version import VersionBase
from omegaconf.basecontainer import BaseContainer

from launchers import generic
from rl_platform.errors import UserError

ROOT = Path(__file__).resolve().parent.parent.parent
PLUGINS = ("hydra._internal.core_plugins", "hydra_plugins")
LAUNCHERS = [
    "rl_local",
    pytest.param("rl_submitit_local", marks=pytest.mark.slow),  # a second more for each job
]


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave Hydra, OmegaConf and logging as they were: other tests run in this process, before and after."""
    python_path = [str(ROOT), str(ROOT / "launchers"), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join(filter(None, python_path))
    )  # for the suite's own scripts
    instances = dict(Singleton._instances)
    # Hydra executes its plugins' modules again whenever it looks for plugins: their classes become others.
    plugins = {name: dict(vars(module)) for name, module in sys.modules.items() if name.startswith(PLUGINS)}
    Singleton._instances.pop(VersionBase, None)  # the suite's applications do not choose one
    resolvers, path, root = dict(BaseContainer._resolvers), list(sys.path), logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    Singleton._instances, BaseContainer._resolvers = instances, resolvers
    for name, names in plugins.items():
        vars(sys.modules[name]).update(names)
    sys.path[:] = path
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize("overrides", [[]])
@pytest.mark.parametrize("launcher_name", LAUNCHERS)
class TestLauncher(LauncherTestSuite):
    """One job, several, custom resolvers, what may not be swept."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher_name", "overrides"),
    # a list for each: the suite appends to it
    [(name, ["hydra.sweeper.max_batch_size=2"]) for name in ("rl_local", "rl_submitit_local")],
)
class TestBatches(BatchedSweeperTestSuite):
    """A sweep in several batches."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task_launcher_cfg", "extra_flags"),
    [({}, ["-m", f"hydra/launcher={name}"]) for name in ("rl_local", "rl_submitit_local")],
)
class TestIntegration(IntegrationTestSuite):
    """Scripts in processes of their own: names, directories, working directories."""


@pytest.mark.usefixtures("hydra_restore_singletons")
def test_ranks_are_for_trainings_of_the_platform_alone(
    hydra_sweep_runner: TSweepRunner, tmpdir: Path
) -> None:
    """What a launcher of Hydra's starts knows nothing of ranks."""
    sweep = hydra_sweep_runner(
        calling_file=None,
        calling_module="hydra.test_utils.a_module",
        task_function=None,
        config_path="configs",
        config_name="compose.yaml",
        overrides=["hydra/launcher=rl_distributed", "foo=1,2"],
        temp_dir=tmpdir,
    )
    with pytest.raises(UserError, match="write hydra/launcher=rl_local"), sweep:
        pass


def test_settings_are_those_of_the_yaml_but_for_what_is_given() -> None:
    assert generic.settings("local", None).parallel == 1
    assert generic.settings("local", {"parallel": 3}).parallel == 3
    with pytest.raises(UserError, match=r"did you mean launcher.parallel"):
        generic.settings("local", {"paralel": 3})
