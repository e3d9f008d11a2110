"""The code as it is now, kept for jobs that start later: editing it changes nothing for them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from launchers.pool import CODE
from rl_platform import provenance
from rl_platform.errors import UserError

FOLDER = "code"
_PARTS = ("rl_platform", "launchers", "conf", "run.py")  # without git: what a run needs
_LARGEST = 500e6  # bytes


def take(home: Path, outputs: Path) -> Path:
    """Copy the platform's code into `home`, once; later jobs of the same sweep find it there.

    With git that is every file that git does not ignore, new ones too.

    Args:
        home: the directory of the sweep, or of the single run.
        outputs: what runs have written is no code, wherever it is.

    Returns:
        The copy, to be put on Python's path.

    Raises:
        UserError: there is too much, or no room for it.
    """
    target = home.absolute() / FOLDER
    if target.exists():
        return target
    files = [name for name in _files() if not (CODE / name).is_relative_to(outputs.absolute())]
    size = sum((CODE / name).stat().st_size for name in files)
    if size > _LARGEST:
        raise UserError(
            f"The code to be kept for the jobs has {size / 1e6:.0f} MB: it is all that git does not ignore "
            f"in {CODE}. Name data and results in .gitignore."
        )
    partial = target.with_name(f".{FOLDER}.{os.getpid()}")
    try:
        for name in files:
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CODE / name, partial / name)
        partial.rename(target)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise UserError(f"The code cannot be kept for the jobs in {target}: {error.strerror}.") from error
    return target


def _files() -> list[str]:
    """Names below `CODE`."""
    names = provenance.files()
    if names is None:
        found = [path for part in _PARTS for path in [CODE / part, *(CODE / part).rglob("*")]]
        names = [str(path.relative_to(CODE)) for path in found if "__pycache__" not in path.parts]
    return [name for name in names if (CODE / name).is_file()]
