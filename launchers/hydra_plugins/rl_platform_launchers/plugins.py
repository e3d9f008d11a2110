"""The launchers by the names that Hydra knows them by: `hydra/launcher=rl_local` and so on."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class PlatformLauncher(Launcher):
    """Starts the platform's runs (`platform`), or the jobs of any other Hydra application (`launch`)."""

    name = ""

    def __init__(self, settings: Mapping[str, Any] | None = None) -> None:
        """`settings`: keys of `conf/launcher/<name>.yaml`; what is not given is as there."""
        from launchers import generic

        self.settings = generic.settings(self.name, settings)
        self.config: DictConfig | None = None
        self.hydra_context: HydraContext | None = None
        self.task_function: TaskFunction | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """See Hydra's `Launcher`."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    @property
    def platform(self) -> Any:
        """The `RunLauncher` with these settings."""
        return importlib.import_module(f"launchers.{self.name}").Launcher(self.settings)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """See Hydra's `Launcher`: the jobs of another application, each in a process of its own."""
        from launchers import generic

        assert self.config is not None and self.hydra_context is not None and self.task_function is not None
        jobs = generic.compose(self.hydra_context, self.config, job_overrides, initial_job_idx)
        return generic.launch(self.name, self.settings, self.hydra_context, self.task_function, jobs)


class LocalLauncher(PlatformLauncher):
    """`launchers/local.py`."""

    name = "local"


class SubmititLocalLauncher(PlatformLauncher):
    """`launchers/submitit_local.py`."""

    name = "submitit_local"


class SlurmLauncher(PlatformLauncher):
    """`launchers/slurm.py`."""

    name = "slurm"


class DistributedLauncher(PlatformLauncher):
    """`launchers/distributed.py`."""

    name = "distributed"


for _class in (LocalLauncher, DistributedLauncher, SubmititLocalLauncher, SlurmLauncher):
    ConfigStore.instance().store(
        group="hydra/launcher",
        name=f"rl_{_class.name}",
        node={"_target_": f"{__name__}.{_class.__name__}", "settings": None},
        provider="rl_platform",
    )
