"""Files that are whole or not there: neither a crash nor a full disk leaves half of one under its name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

TEMPORARY = ".tmp"  # ends the name of a file that is still being written


def write_bytes(path: Path, *parts: bytes | memoryview, forced: bool = True) -> None:
    """Replace `path` by a file with this content.

    The content goes to a temporary file beside it, is forced to the disk, and takes the place of the
    old file in one step (rename(2)).

    Args:
        path: of the file.
        parts: its content.
        forced: wait until it is on the disk. If not, other processes see a whole file all the same, but
            a machine that loses power in the next minute may be left with an empty one.

    Raises:
        OSError: the old file, if there was one, is as it was; the temporary file is gone.
    """
    with _temporary(path) as temporary:
        with open(temporary, "wb") as file:
            for part in parts:
                file.write(part)
            if forced:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    if forced:
        sync_directory(path.parent)


def write_text(path: Path, text: str, forced: bool = True) -> None:
    """Replace `path` by a text file, as `write_bytes` does."""
    write_bytes(path, text.encode(), forced=forced)


def link(source: Path, path: Path) -> None:
    """Make `path` a second name of the file `source`, or a copy where the file system has no links.

    Raises:
        OSError: `path` is as it was.
    """
    with _temporary(path) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            write_bytes(path, source.read_bytes())
            return
        os.replace(temporary, path)
    sync_directory(path.parent)


def remove_temporaries(directory: Path) -> None:
    """Remove what writers that were killed left in a directory.

    Only for whoever writes there: another process's file may be in the making.
    """
    for leftover in directory.glob(f".*{TEMPORARY}"):
        leftover.unlink(missing_ok=True)


def sync_directory(directory: Path) -> None:
    """Force a directory's names to the disk, where the system can do that."""
    with suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """Name a file beside `path`, this process's own, and see to it that none is left."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    temporary.unlink(missing_ok=True)
    try:
        yield temporary
    finally:
        # There still if writing failed, or if both names were one file already: rename(2) does
        # nothing then.
        temporary.unlink(missing_ok=True)
