"""When the user typed the command: the zero of every wall-clock limit and of the logged wall time."""

from __future__ import annotations

import os
import time
from pathlib import Path

_IMPORTED = time.monotonic()
# A process that is much older than this module's import did something else before (a shell that
# became python, a test session, a notebook): that time is not the run's.
_LONGEST_START_S = 120.0
_first_job = True
STARTED = "RL_PLATFORM_STARTED"  # set by a launcher on this machine: when its own command was typed


def process_start(stat: Path = Path("/proc/self/stat")) -> float:
    """Return when this process was created, in s of `time.monotonic()`.

    Reads field 22 of `/proc/self/stat` (clock ticks since boot, proc(5)); where there is no such
    file, the time at which this module was imported stands in for it.
    """
    try:
        # The second field, the program's name in parentheses, may hold blanks.
        ticks = int(stat.read_text().rpartition(")")[2].split()[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return _IMPORTED
    start = time.monotonic() - age
    return start if 0.0 <= _IMPORTED - start <= _LONGEST_START_S else _IMPORTED


def command_start() -> float:
    """Return when the present run was asked for, in s of `time.monotonic()`.

    The first run of a process starts with the process, so that imports and compilation count.
    Any later one, such as the second job of a sweep, starts with this call.
    """
    global _first_job
    if _first_job:
        _first_job = False
        told = os.environ.get(STARTED)
        return float(told) if told else process_start()
    return time.monotonic()
