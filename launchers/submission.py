"""What `launcher=slurm` and `launcher=submitit_local` share: handing jobs to submitit."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus

from launchers.pool import CODE, job_environment
from rl_platform.errors import UserError
from rl_platform.run_dir import RunDir

_JOBS = "jobs.txt"
VARIABLES = ("PYTHONPATH", "PYTHONSAFEPATH", "PYTHONUNBUFFERED")


def require_submitit(launcher: str) -> None:
    """Raise a UserError if submitit is not installed."""
    if importlib.util.find_spec("submitit") is None:
        raise UserError(f"launcher={launcher} needs submitit: pip install -c constraints.txt -e '.[slurm]'")


def new_folder(home: Path) -> Path:
    """Make a directory below `home` for what submitit writes: one for each submission."""
    number = 0
    while True:
        folder = home.absolute() / "submitit" / str(number)
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return folder


def write_jobs(folder: Path, runs: Sequence[RunDir]) -> None:
    """Write down which run each job of an array has."""
    (folder / _JOBS).write_text("".join(f"{run.path.absolute()}\n" for run in runs))


def run_of_this_job(folder: Path) -> Path:
    """Return the run of the SLURM job that this process belongs to."""
    index = int(os.environ.get("SLURM_ARRAY_TASK_ID", "0"))
    return Path((folder / _JOBS).read_text().splitlines()[index])


@contextmanager
def environment(code: Path) -> Iterator[None]:
    """Give the processes that are started within the block the variables of a job."""
    before = {name: os.environ.get(name) for name in VARIABLES}
    env = job_environment(code)
    os.environ.update({name: env[name] for name in VARIABLES})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def call(executor: Any, pickled: Sequence[bytes]) -> list[JobReturn]:
    """Run another application's jobs (`generic.run`) and return what they returned, in their order."""
    from launchers import generic

    code = Path(
        os.pathsep.join([str(CODE), *filter(None, sys.path)])
    )  # the task may live where the caller's does
    with environment(code), executor.batch():
        jobs = [executor.submit(generic.run, job) for job in pickled]
    return [_result(job) for job in jobs]


def _result(job: Any) -> JobReturn:
    try:
        result = job.result()
    except Exception as error:  # whatever submitit makes of a job that failed
        result = JobReturn(status=JobStatus.FAILED)
        result.return_value = error
    assert isinstance(result, JobReturn)
    return result


def needs_gpus(config: Mapping[str, Any], gpus: int) -> None:
    """Raise a UserError if a run wants GPUs that its job does not ask for."""
    if str(config["device"]).startswith("cuda") and gpus < 1:
        raise UserError(
            f"device={config['device']} and launcher.gpus_per_node={gpus}: a job sees the GPUs that it asks "
            "for; write launcher.gpus_per_node=1"
        )
