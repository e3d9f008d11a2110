"""Where a run comes from: the command, the code, the libraries, the machine."""

from __future__ import annotations

import functools
import os
import platform
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

_PACKAGES = (
    "rl-platform", "torch", "mujoco", "mujoco-warp", "numpy", "gymnasium", "hydra-core", "wandb",
    "rl-games", "rsl-rl-lib", "stable-baselines3", "skrl",
)  # fmt: skip
_ROOT = Path(__file__).resolve().parent.parent
_GIT_TIMEOUT_S = 10.0


def describe() -> dict[str, Any]:
    """Return what `run.json` says of a process that trains; nothing in it is worth failing for."""
    return {
        "command": command(),
        "argv": list(sys.argv),
        "cwd": os.getcwd(),
        "git": None if commit() is None else {"commit": commit(), "dirty": bool(diff())},
        "versions": versions(),
        "host": socket.gethostname(),
        "cpu": _cpu(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "pid": os.getpid(),
        "job_id": job_id(),
    }


def command() -> str:
    """Return what was typed to start this process."""
    return f"{python()} {shlex.join(sys.argv)}"


def job_id() -> str | None:
    """Return SLURM's name of the job that this process belongs to, `<array>_<index>` in an array."""
    array, index = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{index}" if array and index else os.environ.get("SLURM_JOB_ID")


def python() -> str:
    """Return what to type for this Python: `python` if the shell finds it by that name, else its path."""
    executable = os.path.abspath(sys.executable)
    found = shutil.which("python")
    # Links are not followed: a virtual environment's Python is a link to the system's.
    if found and os.path.dirname(os.path.abspath(found)) == os.path.dirname(executable):
        return "python"
    near = os.path.relpath(executable)
    return shlex.quote(executable if near.startswith("..") else near)


def run(*words: object) -> str:
    """Return what to type from here for `python run.py` with these words."""
    script = "run.py"  # the one here is meant, even by a process that has a snapshot of the code
    if not Path(script).is_file():
        near = os.path.relpath(_ROOT / script)
        script = str(_ROOT / script) if near.startswith("..") else near
    return f"{python()} {shlex.join([script, *map(str, words)])}"


@functools.cache
def commit() -> str | None:
    """Return the code's commit; None without git."""
    found = _git("rev-parse", "HEAD") if _is_ours() else None
    return None if found is None else found.strip()


@functools.cache
def diff() -> str:
    """Return how the code differs from its commit, new files by name; empty without git, too."""
    changes = _git("diff", "HEAD", "--no-color", "--no-ext-diff") if _is_ours() else None
    if changes is None:
        return ""
    new = (_git("ls-files", "--others", "--exclude-standard") or "").splitlines()
    return "".join(f"# not in git: {name}\n" for name in new) + changes


def files() -> list[str] | None:
    """Return the names of all files of the code that git does not ignore, new ones too; None without git."""
    found = _git("ls-files", "-z", "--cached", "--others", "--exclude-standard") if _is_ours() else None
    return None if found is None else [name for name in found.split("\0") if name]


@functools.cache
def versions() -> dict[str, str]:
    """Return the version of Python and of the installed packages that decide what a run does."""
    from importlib import metadata  # 15 ms that a table of runs does without

    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@functools.cache
def _is_ours() -> bool:
    """Whether the code belongs to the repository around it; not if it is installed in a venv of another."""
    return _git("ls-files", "--error-unmatch", f"{Path(__file__).parent.name}/__init__.py") is not None


def _git(*arguments: str) -> str | None:
    """Run git where the code is; None without git, or where the code is not in a repository."""
    try:
        done = subprocess.run(
            ["git", "-C", str(_ROOT), *arguments],
            capture_output=True,
            timeout=_GIT_TIMEOUT_S,
            check=True,
            env=os.environ | {"GIT_OPTIONAL_LOCKS": "0"},  # a run must not disturb the user's git
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace")


@functools.cache
def _cpu() -> str:
    """Return the processor's model, as /proc/cpuinfo has it on Linux."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
