"""Names to modules: `lift` is `rl_platform/tasks/lift.py`, `family.task` a module in a folder there.

Any other dotted name is a module of the user's own.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import pkgutil
import traceback
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from rl_platform.errors import UserError
from rl_platform.schema import nearest

PACKAGES = {
    "env": "rl_platform.tasks",
    "agent": "rl_platform.agents",
    "algo": "rl_platform.algos",
    "logger": "rl_platform.loggers",
    "launcher": "launchers",
    "sweeper": "rl_platform.sweepers",
}
# Modules of these packages that are no choice of a user's.
_SHARED = {"base", "native", "library", "console", "manipulation"}
_SHARED |= {"after_job", "cluster", "generic", "pool", "snapshot", "submission", "worker"}  # of launchers
_SHARED |= {"pruning", "space", "study"}  # of sweepers


@functools.cache
def names(kind: str) -> tuple[str, ...]:
    """List what this platform brings of a kind (env, agent, algo, logger), without importing any of it."""
    package = importlib.util.find_spec(PACKAGES[kind])
    folders = package.submodule_search_locations if package else None
    found = []
    for module in pkgutil.iter_modules(folders or []):
        inside = [f"{folder}/{module.name}" for folder in folders or []] if module.ispkg else []
        found += [f"{module.name}.{part.name}" for part in pkgutil.iter_modules(inside)] or [module.name]
    return tuple(sorted(name for name in found if name.rpartition(".")[2] not in _SHARED))


def load(kind: str, name: str) -> ModuleType:
    """Import the module that a name stands for.

    Args:
        kind: env, agent, algo or logger.
        name: of a module in that kind's package, or a dotted name of a user's own module.

    Raises:
        UserError: there is no such module, or importing it fails; it says where.
    """
    if "." in name and name not in names(kind):
        try:
            return importlib.import_module(name)
        except Exception as error:
            missing = error.name if isinstance(error, ModuleNotFoundError) else None
            if missing and (name == missing or name.startswith(f"{missing}.")):
                raise UserError(
                    f"{kind}.name={name}: there is no module {missing} on Python's path. "
                    "Install your package, or put the directory that holds it into PYTHONPATH."
                ) from error
            told = f"{_where(error)}: {type(error).__name__}: {error}"
            raise UserError(f"{kind}.name={name}: importing it fails{told}") from error
    if name not in names(kind):
        match = nearest(name, names(kind))
        raise UserError(
            f"{kind}.name={name}: no such module in {PACKAGES[kind]}"
            + (f"; did you mean {match}?" if match else "")
            + f" There are {', '.join(names(kind))}; a module of your own has a dotted name."
        )
    return importlib.import_module(f"{PACKAGES[kind]}.{name}")


def _where(error: Exception) -> str:
    """Which line, of code that is not installed if there is one, led to it: " at file:line"."""
    if isinstance(error, SyntaxError):
        return f" at {error.filename}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    files = [frame for frame in frames[1:] if not frame.filename.startswith("<")]
    files = [frame for frame in files if "site-packages" not in frame.filename] or files
    return f" at {files[-1].filename}:{files[-1].lineno}" if files else ""


def installation(agent: str) -> str:
    """What to type where the library is missing that an agent is of."""
    return f"pip install -c constraints.txt -e '.[{agent.replace('_', '-')}]'"


def trains_here(launcher: Mapping[str, Any]) -> bool:
    """Whether a launcher's single run is trained by the process that was asked for it, on its devices."""
    return bool(getattr(load("launcher", launcher["name"]), "TRAINS_HERE", False))


def env_label(env: Mapping[str, Any]) -> str:
    """What people call the environment of a configuration: its id at Gymnasium, or its module's name."""
    return str(env.get("id") or env["name"])


def simulator(physics: str | None, device: str) -> str:
    """What `env.physics` comes to on a device, "cpu" or "warp": null is MuJoCo Warp on a GPU."""
    return physics or ("cpu" if device == "cpu" else "warp")


def schema(kind: str, name: str) -> type:
    """Return the dataclass `Config` of a module: the names, types and ranges of its configuration.

    Raises:
        UserError: there is no such module, or it has no `Config`.
    """
    module = load(kind, name)
    config = getattr(module, "Config", None)
    if not isinstance(config, type):
        raise UserError(f"{module.__name__} has no dataclass Config that says which keys {kind} may have.")
    return config
