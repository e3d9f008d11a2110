"""Going on from an earlier checkpoint of a run: what was trained after it is put aside, not lost."""

from __future__ import annotations

import shutil
from contextlib import suppress
from itertools import count
from pathlib import Path

from rl_platform import atomic, checkpoint
from rl_platform.checkpoint import CheckpointError
from rl_platform.run_dir import RunDir


def go_back(run_dir: RunDir, chosen: Path, iteration: int, env_steps: int) -> Path | None:
    """Make a checkpoint the run's last one.

    Args:
        run_dir: of the run.
        chosen: one of its checkpoint files, or one that was put aside before.
        iteration: of the checkpoint.
        env_steps: of the checkpoint.

    Returns:
        Where the later checkpoints are now, with copies of the log and the result; None if there were none.

    Raises:
        UserError: a process trains the run now, or its directory cannot be written to.
    """
    with run_dir.held():
        return _go_back(run_dir, chosen, iteration, env_steps)


def _go_back(run_dir: RunDir, chosen: Path, iteration: int, env_steps: int) -> Path | None:
    later = _later(run_dir.checkpoints, iteration)
    folder = _new_folder(run_dir.path / f"after_{iteration}") if later else None
    if folder is not None:
        for path in (run_dir.metrics_jsonl, run_dir.summary_json):
            if path.exists():
                shutil.copy2(path, folder)
        for path in later:
            path.replace(folder / path.name)
    last = run_dir.checkpoints / checkpoint.LAST
    if not (last.exists() and chosen.samefile(last)):
        atomic.link(chosen, last)
    run_dir.update_state(iteration=iteration, env_steps=env_steps)
    return folder


def _new_folder(path: Path) -> Path:
    """Make the first folder of this name, `…_2`, `…_3` that there is not."""
    folder = next(one for n in count(1) if not (one := path if n == 1 else Path(f"{path}_{n}")).exists())
    folder.mkdir()
    return folder


def _later(folder: Path, iteration: int) -> list[Path]:
    """The checkpoints of later iterations, as far as they can be read."""
    numbers = checkpoint.iterations(folder)
    later = [checkpoint.numbered(folder, number) for number in numbers if number > iteration]
    for path in (folder / checkpoint.LAST, folder / checkpoint.BEST):
        with suppress(CheckpointError):  # there is none, or it is damaged
            if checkpoint.load(path)["iteration"] > iteration:
                later.append(path)
    return later
