"""Which of several ranks this process is: read from what torchrun, SLURM or our own launcher set.

Nothing heavy is imported here: a rank above 0 has to know what it is before anything else happens.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from rl_platform.errors import UserError

_PR_SET_PDEATHSIG = 1
LAUNCHER_PID = "RL_PLATFORM_LAUNCHER_PID"  # of the process that started this rank, if `ranks.py` did


@dataclass(frozen=True)
class Place:
    """One rank among those that train together.

    Attributes:
        rank: from 0; rank 0 is the one that logs, evaluates and writes.
        world_size: number of ranks, at least 2.
        local_rank: rank among those on this machine.
        local_world_size: ranks on this machine.
        address, port: where the ranks meet.
        hosted: whether the launcher keeps the meeting place; else rank 0 does.
        attempt: of a launcher that starts all ranks again after a failure.
        bound: whether this process has its processors to itself already.
    """

    rank: int
    world_size: int
    local_rank: int
    local_world_size: int
    address: str
    port: int
    hosted: bool
    attempt: int
    bound: bool


def find(environ: Mapping[str, str] = os.environ) -> Place | None:
    """Return this process's place; None if it trains alone.

    torchrun's variables win over SLURM's: torchrun may itself be started by SLURM.

    Raises:
        UserError: variables are missing, or are no numbers.
    """
    try:
        if "RANK" in environ and int(environ.get("WORLD_SIZE", "1")) > 1:
            return _torchrun(environ)
        # set for the tasks of a step alone: what runs in a batch script has no neighbours
        if "SLURM_STEP_NODELIST" in environ and int(environ.get("SLURM_NTASKS", "1")) > 1:
            return _slurm(environ)
    except (KeyError, ValueError) as error:
        raise UserError(
            f"This process is to be one of several ranks, but its environment says {error!r}."
        ) from error
    return None


def settle(place: Place) -> None:
    """Begin as a rank: keep to a share of the processors, and end if the launcher does."""
    _take_processors(place)
    if LAUNCHER_PID in os.environ and sys.platform == "linux":
        # prctl(2): SIGTERM, which saves and ends the run, when the process that started this one dies
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        if os.getppid() != int(os.environ[LAUNCHER_PID]):
            raise UserError("The process that started this rank is gone.")


def _take_processors(place: Place) -> None:
    """Keep to this rank's share of the machine's processors; where there are fewer than ranks, share all.

    To be done before any library starts threads: each thread inherits its processors.
    """
    if place.bound or not hasattr(os, "sched_setaffinity"):
        return
    processors, ranks = sorted(os.sched_getaffinity(0)), place.local_world_size
    if len(processors) < ranks:
        return
    first, end = (len(processors) * i // ranks for i in (place.local_rank, place.local_rank + 1))
    os.sched_setaffinity(0, processors[first:end])


def _torchrun(environ: Mapping[str, str]) -> Place:
    world_size = int(environ["WORLD_SIZE"])
    return Place(
        rank=int(environ["RANK"]),
        world_size=world_size,
        local_rank=int(environ["LOCAL_RANK"]),
        local_world_size=int(environ.get("LOCAL_WORLD_SIZE", world_size)),
        address=environ["MASTER_ADDR"],
        port=int(environ["MASTER_PORT"]),
        hosted=environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
        attempt=int(environ.get("TORCHELASTIC_RESTART_COUNT", "0")),
        bound=False,
    )


def _slurm(environ: Mapping[str, str]) -> Place:
    """The tasks of an `srun`; they meet where rank 0 runs, on the step's first node."""
    job, step = int(environ["SLURM_JOB_ID"]), int(environ.get("SLURM_STEP_ID", "0"))
    tasks_here = int(re.split(r"[(,]", environ.get("SLURM_STEP_TASKS_PER_NODE", "1"))[0])
    own = int(environ.get("SLURM_CPUS_PER_TASK", "0"))
    return Place(
        rank=int(environ["SLURM_PROCID"]),
        world_size=int(environ["SLURM_NTASKS"]),
        local_rank=int(environ["SLURM_LOCALID"]),
        local_world_size=tasks_here,
        address=environ.get("MASTER_ADDR") or _address(environ),
        # below the ports that systems give out by themselves; jobs of one array have different ids
        port=int(environ.get("MASTER_PORT") or 10_000 + (job * 7 + step) % 20_000),
        hosted=False,
        attempt=int(environ.get("SLURM_RESTART_COUNT", "0")),
        bound=0 < _processors() <= own,
    )


def _address(environ: Mapping[str, str]) -> str:
    """The first node's name if it can be resolved; else where srun was called, which is mostly there."""
    name = first_host(environ["SLURM_STEP_NODELIST"])
    try:
        socket.getaddrinfo(name, None)
    except OSError:
        return environ.get("SLURM_LAUNCH_NODE_IPADDR", name)
    return name


def first_host(nodes: str) -> str:
    """Return the first of SLURM's list of nodes: `gpu[03-05,9],login` → `gpu03`."""
    match = re.match(r"([^,\[]+)(?:\[([^\],-]+)[^\]]*\]([^,\[]*))?", nodes)
    if match is None:
        raise ValueError(f"SLURM_STEP_NODELIST={nodes}")
    return "".join(part or "" for part in match.groups())


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
