"""Checkpoint files: written whole, checked when read.

A checkpoint is what `torch.save` writes, a zip archive, with a SHA-256 of the file's other bytes in
the archive's comment. It is thus one file, any change in it is noticed, and
`torch.load(path, weights_only=True)` reads it as well.
"""

from __future__ import annotations

import errno
import hashlib
import io
import pickle
import re
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rl_platform import atomic
from rl_platform.errors import UserError

LAST, BEST = "last.pt", "best.pt"
_MARK = b"sha256:"
_TRAILER = len(_MARK) + 2 * hashlib.sha256().digest_size
_NO_COMMENT = struct.pack("<H", 0)


class CheckpointError(UserError):
    """A checkpoint, or the state beside it, could not be written or read; all else is as it was."""


def encode(payload: dict[str, Any]) -> bytes:
    """Return the bytes of a checkpoint file."""
    import torch

    buffer = io.BytesIO()
    torch.save(payload, buffer)
    # The archive's last field is the length of its comment (PKWARE APPNOTE 4.3.16).
    if bytes(buffer.getbuffer()[-2:]) != _NO_COMMENT:
        raise RuntimeError("torch.save no longer writes an archive that ends with an empty comment")
    buffer.seek(-2, io.SEEK_END)
    buffer.write(struct.pack("<H", _TRAILER))
    buffer.write(_MARK + hashlib.sha256(buffer.getbuffer()).hexdigest().encode())
    return buffer.getvalue()


def decode(data: bytes) -> dict[str, Any]:
    """Return the payload of a checkpoint file's bytes, its tensors on the CPU.

    Raises:
        ValueError: bytes are missing or differ from those that were written.
    """
    body, trailer = data[:-_TRAILER], data[-_TRAILER:]
    if not trailer.startswith(_MARK):
        raise ValueError("its end is missing, or another program wrote it")
    if hashlib.sha256(body).hexdigest().encode() != trailer[len(_MARK) :]:
        raise ValueError("its checksum is wrong")
    import torch

    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def check_payload(payload: dict[str, Any]) -> None:
    """Make sure that a checkpoint of this payload could be read again.

    Raises:
        TypeError: it holds something that `weights_only=True` refuses.
    """
    try:
        decode(encode(payload))
    except pickle.UnpicklingError as error:
        raise TypeError(
            "A state_dict holds more than tensors and plain Python values, so that the checkpoint could "
            f"not be read again: {error}"
        ) from error


def iterations(directory: Path) -> list[int]:
    """Return the iterations that have a numbered checkpoint, in order."""
    names = (path.name for path in directory.glob("model_*.pt"))
    return sorted(int(match[1]) for name in names if (match := re.fullmatch(r"model_(\d+)\.pt", name)))


def numbered(directory: Path, iteration: int) -> Path:
    """Name the checkpoint of an iteration."""
    return directory / f"model_{iteration}.pt"


def save(directory: Path, payload: dict[str, Any], iteration: int, keep: int | None) -> Path:
    """Write `model_<iteration>.pt`, make it `last.pt` too, and remove all but the last `keep` numbered ones.

    `keep`: None for all.

    Numbered ones of later iterations go as well: they are of a future that a resume has discarded.

    Raises:
        CheckpointError: the disk did not take it; what was there before is intact.
    """
    path = numbered(directory, iteration)
    _write(path, payload)
    try:
        atomic.link(path, directory / LAST)
    except OSError as error:
        raise _failure(directory / LAST, path.stat().st_size, error) from error
    known = iterations(directory)
    earlier = [number for number in known if number <= iteration]
    for number in set(known) - set(earlier if keep is None else earlier[-keep:]):
        numbered(directory, number).unlink(missing_ok=True)
    return path


def save_best(directory: Path, payload: dict[str, Any]) -> Path:
    """Write `best.pt`; `last.pt` and the numbered ones stay as they are.

    Raises:
        CheckpointError: the disk did not take it; what was there before is intact.
    """
    _write(directory / BEST, payload)
    return directory / BEST


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    try:
        return decode(path.read_bytes())
    except FileNotFoundError as error:
        raise CheckpointError(f"There is no checkpoint {path}.") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: {error}.") from error


def to_stderr(text: str) -> None:
    """Print a line for the user, away from what a program may read on stdout."""
    print(text, file=sys.stderr, flush=True)


def load_last(directory: Path, say: Callable[[str], None] = to_stderr) -> dict[str, Any]:
    """Read the last checkpoint that is whole, and say so if that is not `last.pt`.

    After `last.pt` come the numbered ones, the latest first, then `best.pt`.

    Raises:
        CheckpointError: there is none.
    """
    numbers = reversed(iterations(directory))
    candidates = [directory / LAST, *(numbered(directory, number) for number in numbers), directory / BEST]
    problems = []
    for path in candidates:
        if not path.exists():
            continue
        try:
            payload = load(path)
        except CheckpointError as error:
            problems.append(str(error))
            continue
        if path.name != LAST:
            missing = [] if problems else [f"{directory / LAST} is missing."]
            say(" ".join([*missing, *problems, f"Using the one before: {path}"]))
        return payload
    if problems:
        raise CheckpointError("No checkpoint of this run is whole. " + " ".join(problems))
    raise CheckpointError(f"There is no checkpoint in {directory}: the run ended before its first save.")


def _write(path: Path, payload: dict[str, Any]) -> None:
    data = encode(payload)
    try:
        atomic.write_bytes(path, data)
    except OSError as error:
        raise _failure(path, len(data), error) from error


def _failure(path: Path, size: int, error: OSError) -> CheckpointError:
    """Say what could not be written; for a full disk, how much room it needs and has."""
    needed = f"{size / 1e6:.1f} MB"
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return CheckpointError(f"Checkpoint {path} ({needed}) could not be written: {error.strerror}.")
    if error.errno == errno.EDQUOT:
        return CheckpointError(
            f"Checkpoint {path} could not be written: it needs {needed}, and your quota is used up."
        )
    free = shutil.disk_usage(path.parent).free / 1e6
    return CheckpointError(
        f"Checkpoint {path} could not be written: it needs {needed}, and the disk has {free:.1f} MB left."
    )
