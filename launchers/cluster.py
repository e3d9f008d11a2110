"""What a SLURM cluster has, so that what it cannot do is said before anything is made or submitted."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rl_platform import slurm
from rl_platform.errors import UserError
from rl_platform.schema import nearest

_COMMANDS = ("sbatch", "srun", "squeue", "sinfo", "scontrol")
_LOCAL = ("/tmp", "/var/tmp", "/dev/shm", "/run")  # everybody's own, on every cluster
_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Nodes:
    """Nodes of a partition that are alike.

    Attributes:
        partition: its name.
        count: how many.
        gpus: of each.
        cpus: of each.
    """

    partition: str
    count: int
    gpus: int
    cpus: int


def find() -> list[Nodes]:
    """Ask SLURM for the nodes of its partitions.

    Raises:
        UserError: SLURM is not installed here, or does not answer.
    """
    missing = [command for command in _COMMANDS if shutil.which(command) is None]
    if missing:
        raise UserError(
            f"launcher=slurm: there is no {missing[0]} on this machine. Type the command on a login node of "
            "the cluster; launcher=submitit_local does the same on this machine."
        )
    told = slurm.ask("sinfo", "-h", "-a", "-o", "%R|%D|%G|%c")
    if told is None:
        raise UserError("launcher=slurm: SLURM does not answer; `sinfo` says why.")
    return parse(told)


def parse(told: str) -> list[Nodes]:
    """Read what `sinfo -h -o '%R|%D|%G|%c'` prints, such as `main|2|gpu:a100:4(S:0-1)|64`."""
    found = []
    for line in told.splitlines():
        partition, count, gres, cpus = line.strip().split("|")
        gpus = sum(int(number) for number in re.findall(r"\bgpu(?::[^:,()]+)?:(\d+)", gres))
        found.append(Nodes(partition, int(count), gpus, int(cpus.rstrip("+"))))
    return found


def check(
    nodes: Sequence[Nodes], partition: str | None, num_nodes: int, gpus: int, tasks: int, cpus: int
) -> None:
    """Raise a UserError if no nodes can do what a job asks for.

    Args:
        nodes: of the cluster.
        partition: that the job is for; several with commas; None for the cluster's choice.
        num_nodes: of a job.
        gpus: on each node.
        tasks: on each node.
        cpus: of each task.
    """
    names = list(dict.fromkeys(group.partition for group in nodes))
    wanted = partition.split(",") if partition else names
    for name in wanted:
        if name not in names:
            match = nearest(name, names)
            meant = f"did you mean launcher.partition={match}? " if match else ""
            raise UserError(
                f"launcher.partition={name}: there is no such partition; {meant}There are {', '.join(names)}."
            )
    own = [group for group in nodes if group.partition in wanted]
    where = f" of partition {partition}" if partition else ""
    most = max((group.gpus for group in own), default=0)
    if gpus > most:
        raise UserError(f"launcher.gpus_per_node={gpus}: no node{where} has more than {most} GPUs.")
    most = max((group.cpus for group in own if group.gpus >= gpus), default=0)
    if tasks * cpus > most:
        raise UserError(
            f"launcher.cpus_per_task={cpus}: with {tasks} tasks that is {tasks * cpus} processors, and no "
            f"node{where} that has the GPUs has more than {most}."
        )
    fitting = max(sum(g.count for g in own if g.partition == name and g.gpus >= gpus) for name in wanted)
    if num_nodes > fitting:
        raise UserError(
            f"launcher.nodes={num_nodes}: there are only {fitting} such nodes in "
            f"{f'partition {partition}' if partition else 'a partition'}."
        )


def check_shared(output_dir: Path) -> None:
    """Raise a UserError if the runs' directory is certainly not seen by the other machines of the cluster."""
    path = output_dir.absolute()
    folder = next((name for name in _LOCAL if path.resolve().is_relative_to(name)), None)
    if folder is None or _alone():
        return
    raise UserError(
        f"output_dir={output_dir} is in {folder}, which every machine has for itself: the jobs would not "
        "find their runs. Write output_dir=DIR with a directory on the cluster's shared disk."
    )


def _alone() -> bool:
    """Whether all of the cluster's nodes are this machine."""
    told = slurm.ask("scontrol", "show", "node", "-o") or ""
    hosts = set(re.findall(r"NodeHostName=(\S+)", told))
    return hosts <= {socket.gethostname(), socket.gethostname().partition(".")[0]}


def try_out(flags: Sequence[str]) -> None:
    """Let `sbatch --test-only` say whether it would take such a job (account, QOS, limits).

    Raises:
        UserError: with SLURM's own words.
    """
    command = ["sbatch", "--test-only", *flags, "--wrap=true"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise UserError("launcher=slurm: SLURM does not answer; `sinfo` says why.") from error
    if done.returncode != 0:
        told = [re.sub(r"^(sbatch|allocation failure): (error: )?", "", s) for s in done.stderr.splitlines()]
        raise UserError(
            f"SLURM would not take these jobs: {'; '.join(filter(None, told))}\n"
            f"  It was asked for {' '.join(flags)}"
        )
