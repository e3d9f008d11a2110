"""The files of `conf/` as a user reads them: their options, keys and comments. Without Hydra, so quickly."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rl_platform.errors import UserError

CONF_DIR = Path(__file__).resolve().parent.parent / "conf"
GROUPS = {
    "env": "the task, its physics and its sizes",
    "agent": "who learns: networks and the implementation that trains them",
    "algo": "the learning rule and its numbers; the agent chooses one by itself",
    "logger": "where metrics go; several: logger=[tensorboard,wandb]",
    "launcher": "where the jobs run: here, or on a cluster",
    "sweeper": "with -m: who chooses what is tried: every combination, or Optuna",
    "sweep": "what a sweep (-m) tries; several: sweep=[ppo,seeds5]",
    "experiment": "results of docs/results.md again, with -m on the same seeds",
    "tuned": "what works best for an env and an algo; chosen by itself, '~tuned' leaves it out",
}
_LINE = re.compile(r"^(?P<indent> *)(?P<key>[\w-]+):(?: (?P<value>.*?))?(?:(?:^|\s+)# (?P<comment>.*))?$")


@dataclass(frozen=True)
class Entry:
    """A line `key: value  # comment`.

    Attributes:
        key: dotted, from the file's top.
        value: as written; empty if keys follow below.
        comment: empty if the line has none.
    """

    key: str
    value: str
    comment: str


def find(group: str, folders: Sequence[Path | str] = ()) -> dict[str, Path]:
    """Return the files of a group's options by name; `folders` of the user's own come before `conf/`.

    Raises:
        UserError: one of the folders does not exist.
    """
    for folder in folders:
        if not Path(folder).is_dir():
            raise UserError(f"--config-dir {folder}: there is no such directory.")
    every = [path for folder in (CONF_DIR, *folders) for path in Path(folder, group).glob("*.yaml")]
    found = {path.stem: path for path in every}
    return dict(sorted(found.items()))


def options(group: str, folders: Sequence[Path | str] = ()) -> dict[str, str]:
    """Return a group's options, each with the first sentence of its file; see `find`."""
    return {name: describe(path) for name, path in find(group, folders).items()}


def describe(path: Path) -> str:
    """Return the first comment of a file that is not a directive to Hydra."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @"):
            return line.lstrip("# ")
    return ""


def entries(path: Path) -> Iterator[Entry]:
    """Yield the keys of a file in block style, from top to bottom."""
    parents: list[tuple[int, str]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        indent = len(match["indent"])
        while parents and parents[-1][0] >= indent:
            parents.pop()
        parents.append((indent, match["key"]))
        key = ".".join(name for _, name in parents)
        yield Entry(key, (match["value"] or "").strip(), (match["comment"] or "").strip())
