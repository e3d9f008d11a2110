"""`launcher=slurm`: each run is a job of a SLURM cluster, the jobs of a sweep an array."""

from __future__ import annotations

import functools
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launchers import cluster, snapshot, submission, worker
from rl_platform import slurm
from rl_platform.errors import UserError
from rl_platform.run_dir import RunDir
from rl_platform.states import ENDED, state_of

_TIME = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?")


@dataclass
class Config:
    """`launcher=slurm`; see `conf/launcher/slurm.yaml`.

    Attributes:
        name: slurm.
        partition: None for the cluster's choice; so with account, qos and mem.
        account: that pays.
        qos: quality of service.
        time: limit of a job, as SLURM writes it; at its end the run goes back into the queue.
        nodes: of a job.
        gpus_per_node: of a job.
        tasks_per_node: ranks on each node; None for one a GPU, or one.
        cpus_per_task: processors of each rank.
        mem: memory of each node.
        array_parallelism: jobs of a sweep at a time.
        job_name: what the queue shows.
        mail_user: who is written to.
        mail_type: on which occasions.
        setup: shell commands before the training.
        python: that the job calls, None for this one.
        container: image for srun (pyxis).
        container_mounts: directories that it sees.
        srun_args: further arguments of srun.
        sbatch: further parameters of sbatch.
        signal_delay_s: s before the time limit at which a run saves.
        wait: until all jobs have ended.
    """

    name: str
    partition: str | None
    account: str | None
    qos: str | None
    time: str
    nodes: int
    gpus_per_node: int
    tasks_per_node: int | None
    cpus_per_task: int
    mem: str | None
    array_parallelism: int
    job_name: str
    mail_user: str | None
    mail_type: str
    setup: list[str]
    python: str | None
    container: str | None
    container_mounts: str | None
    srun_args: list[str]
    sbatch: dict[str, Any]
    signal_delay_s: int
    wait: bool

    def check(self) -> Iterator[tuple[str, str]]:
        """Yield (key, message) for each value out of range."""
        for key in ("nodes", "cpus_per_task", "array_parallelism", "signal_delay_s"):
            if getattr(self, key) < 1:
                yield key, f"must be at least 1, got {getattr(self, key)}"
        if self.gpus_per_node < 0:
            yield "gpus_per_node", f"must be at least 0, got {self.gpus_per_node}"
        if self.tasks_per_node is not None and self.tasks_per_node < 1:
            yield "tasks_per_node", f"must be at least 1 or null, got {self.tasks_per_node}"
        if minutes(self.time) is None:
            yield "time", f"must be minutes, H:MM:SS or D-HH:MM:SS, got {self.time}"
        elif 60 * (minutes(self.time) or 0) <= self.signal_delay_s:
            yield (
                "time",
                f"must be more than signal_delay_s={self.signal_delay_s} s, got {self.time}",
            )

    @property
    def tasks(self) -> int:
        """Ranks on each node."""
        return self.tasks_per_node or max(1, self.gpus_per_node)


def minutes(text: str) -> int | None:
    """Read SLURM's `MM`, `MM:SS`, `H:MM:SS`, `D-HH`, `D-HH:MM:SS`; rounded up; None if it is none of them."""
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    days, *parts = match.groups()
    a, b, c = (int(part or 0) for part in parts)
    given = sum(part is not None for part in parts)
    if days is not None:
        seconds = int(days) * 86400 + a * 3600 + b * 60 + c
    elif given == 3:
        seconds = a * 3600 + b * 60 + c
    else:
        seconds = a * 60 + b
    return -(-seconds // 60) or None


def parameters(config: Config) -> dict[str, Any]:
    """Return what submitit takes, without what is about the script itself."""
    given = {
        "partition": config.partition,
        "account": config.account,
        "qos": config.qos,
        "mem": config.mem,
        "gpus_per_node": config.gpus_per_node or None,
        "job_name": config.job_name,
        "mail_user": config.mail_user,
        "mail_type": config.mail_type if config.mail_user else None,
        "time": minutes(config.time),
        "nodes": config.nodes,
        "ntasks_per_node": config.tasks,
        "cpus_per_task": config.cpus_per_task,
    }
    return {key: value for key, value in given.items() if value is not None}


def flags(config: Config) -> list[str]:
    """Return the same as sbatch's arguments."""
    both = parameters(config) | {"requeue": True} | config.sbatch
    named = [(key.replace("_", "-"), value) for key, value in both.items()]
    return [f"--{key}" if value is True else f"--{key}={value}" for key, value in named]


def make_executor(config: Config, folder: Path, setup: Sequence[str] = (), after: str | None = None) -> Any:
    """Return submitit's executor with these settings.

    Args:
        config: of the launcher.
        folder: where submitit writes.
        setup: shell commands after the user's.
        after: shell command when the step has ended.
    """
    import submitit

    srun = list(config.srun_args)
    if config.nodes * config.tasks > 1:
        srun.append("--kill-on-bad-exit=1")
    if config.container:
        srun.append(f"--container-image={config.container}")
    if config.container_mounts:
        srun.append(f"--container-mounts={config.container_mounts}")
    executor = submitit.SlurmExecutor(folder, python=config.python)
    executor.update_parameters(
        **parameters(config),
        array_parallelism=config.array_parallelism,
        signal_delay_s=config.signal_delay_s,
        setup=[*config.setup, *setup, f"export SRUN_CPUS_PER_TASK={config.cpus_per_task}"],
        teardown=[after] if after else None,
        srun_args=srun,
        stderr_to_stdout=True,
        additional_parameters={"requeue": True, **config.sbatch},
    )
    return executor


class Launcher:
    """Submits runs as SLURM jobs; see `multirun.RunLauncher`."""

    poll_s = 2.0
    shows_output = False
    survives = True

    def __init__(self, config: Config) -> None:
        """Nothing is submitted yet."""
        self._config, self.slots, self.wait = config, config.array_parallelism, config.wait
        self._outputs = Path("outputs")
        self._runs: list[RunDir] = []
        self._ended = 0  # how often in a row everything was over

    def check(self, configs: Sequence[Mapping[str, Any]]) -> None:
        """See `RunLauncher`."""
        submission.require_submitit("slurm")
        config = self._config
        for run in configs:
            submission.needs_gpus(run, config.gpus_per_node)
            ranks = config.nodes * config.tasks
            if run["env"]["num_envs"] % ranks:
                raise UserError(
                    f"env.num_envs={run['env']['num_envs']}: a job has launcher.nodes × tasks = {ranks} "
                    "ranks, which share the environments evenly"
                )
        self._outputs = Path(configs[0]["output_dir"])
        cluster.check(
            cluster.find(),
            config.partition,
            config.nodes,
            config.gpus_per_node,
            config.tasks,
            config.cpus_per_task,
        )
        cluster.check_shared(self._outputs)
        cluster.try_out(flags(config))

    def submit(self, home: Path, runs: Sequence[RunDir]) -> None:
        """See `RunLauncher`: one job, or one array."""
        code = snapshot.take(home, self._outputs)
        folder = submission.new_folder(home)
        submission.write_jobs(folder, runs)
        python = self._config.python or shlex.quote(sys.executable)
        executor = make_executor(
            self._config,
            folder,
            setup=[
                f"export PYTHONPATH={shlex.quote(str(code))}${{PYTHONPATH:+:$PYTHONPATH}}",
                "export PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1",
            ],
            after=f"{python} -m launchers.after_job $? {shlex.quote(str(folder))}",
        )
        with submission.environment(code), executor.batch():
            jobs = [executor.submit(worker.main, str(run.path.absolute())) for run in runs]
        for run, job in zip(runs, jobs, strict=True):
            run.slurm_job = job.job_id
        print(f"SLURM job {str(jobs[0].job_id).partition('_')[0]}", flush=True)
        self._runs += runs

    def poll(self) -> bool:
        """See `RunLauncher`. Twice in a row, since files may be seen later than the queue."""
        jobs = functools.cache(slurm.active_jobs)
        over = all(state_of(run, jobs=jobs) in ENDED for run in self._runs)
        self._ended = self._ended + 1 if over else 0
        return self._ended < 2

    def stop(self) -> None:
        """See `RunLauncher`: the jobs do not need this process."""

    def kill(self) -> None:
        """See `RunLauncher`: as `stop`."""
