"""Jobs of any Hydra application: a task function and a configuration, in a process of its own.

Each job is pickled, run by `python -m launchers.generic JOB RESULT`, and its `JobReturn` read back.
"""

from __future__ import annotations

import importlib
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from launchers.pool import CODE, job_environment
from rl_platform import registry
from rl_platform.errors import UserError
from rl_platform.schema import validate

_POLL_S = 0.02


def settings(name: str, given: Mapping[str, Any] | None) -> Any:
    """Return a launcher's `Config`: its YAML with the given values in their places.

    Raises:
        UserError: lists the mistakes in them.
    """
    file = CODE / "conf" / "launcher" / f"{name}.yaml"
    defaults: Any = OmegaConf.to_container(OmegaConf.load(file))["launcher"]  # type: ignore[call-overload,index]
    values: Any = OmegaConf.to_container(given) if isinstance(given, DictConfig) else given or {}
    config, problems = validate(registry.schema("launcher", name), defaults | values, "launcher", defaults)
    if problems:
        raise UserError("\n".join(map(str, problems)))
    return config


def compose(
    context: HydraContext, config: DictConfig, job_overrides: Sequence[Sequence[str]], first: int
) -> list[DictConfig]:
    """Return the configuration of each job, numbered from `first`."""
    from hydra.core.utils import configure_log, setup_globals

    setup_globals()
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    Path(str(config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
    jobs = []
    for number, overrides in enumerate(job_overrides, first):
        job = context.config_loader.load_sweep_config(config, list(overrides))
        with open_dict(job):
            job.hydra.job.id = job.hydra.job.num = number
        jobs.append(job)
    return jobs


def launch(
    name: str, config: Any, context: HydraContext, task: TaskFunction, jobs: Sequence[DictConfig]
) -> list[JobReturn]:
    """Run the jobs as a launcher is set and return what they returned, in their order.

    Raises:
        UserError: the launcher is for trainings of this platform alone.
    """
    if name == "distributed":
        raise UserError(
            "hydra/launcher=rl_distributed starts a training of this platform on several ranks, and another "
            "application has none; write hydra/launcher=rl_local"
        )
    import cloudpickle
    from hydra.core.singleton import Singleton

    pickled = [
        cloudpickle.dumps(
            {"context": context, "task": task, "config": job, "singletons": Singleton.get_state()}
        )
        for job in jobs
    ]
    if name == "local":
        return _in_processes(pickled, config.parallel)
    from launchers import submission

    folder = submission.new_folder(Path(str(jobs[0].hydra.sweep.dir)))
    make_executor = importlib.import_module(f"launchers.{name}").make_executor
    return submission.call(make_executor(config, folder), pickled)


def run(pickled: bytes) -> JobReturn:
    """Run a pickled job in this process."""
    from hydra.core.singleton import Singleton
    from hydra.core.utils import run_job, setup_globals

    job = pickle.loads(pickled)
    setup_globals()
    Singleton.set_state(job["singletons"])
    return run_job(
        hydra_context=job["context"],
        task_function=job["task"],
        config=job["config"],
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )


def _in_processes(pickled: Sequence[bytes], parallel: int) -> list[JobReturn]:
    with tempfile.TemporaryDirectory() as folder:
        waiting = list(enumerate(pickled))
        running: dict[int, subprocess.Popen[bytes]] = {}
        while waiting or running:
            while waiting and len(running) < parallel:
                number, job = waiting.pop(0)
                running[number] = _start(Path(folder), number, job)
            running = {n: process for n, process in running.items() if process.poll() is None}
            time.sleep(_POLL_S)
        return [_result(Path(folder) / f"{number}.result") for number in range(len(pickled))]


def _start(folder: Path, number: int, job: bytes) -> subprocess.Popen[bytes]:
    file = folder / f"{number}.job"
    file.write_bytes(job)
    env = job_environment()
    # The task function may live where the application does.
    env["PYTHONPATH"] = os.pathsep.join([env["PYTHONPATH"], *sys.path])
    command = [sys.executable, "-m", "launchers.generic", str(file), str(file.with_suffix(".result"))]
    return subprocess.Popen(command, env=env)


def _result(file: Path) -> JobReturn:
    if not file.exists():
        lost = JobReturn(status=JobStatus.FAILED)
        lost.return_value = RuntimeError("the job's process ended without a result")
        return lost
    result = pickle.loads(file.read_bytes())
    assert isinstance(result, JobReturn)
    return result


def _main(job: str, result: str) -> None:
    import cloudpickle

    done = run(Path(job).read_bytes())
    try:
        content = cloudpickle.dumps(done)
    except Exception:  # what a user's exception or result may hold
        done.return_value, done.status = RuntimeError(repr(done._return_value)), JobStatus.FAILED
        content = cloudpickle.dumps(done)
    Path(result).write_bytes(content)


if __name__ == "__main__":
    _main(*sys.argv[1:])
