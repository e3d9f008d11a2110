"""`python run.py list [envs|agents|algos|loggers|…|runs]`: what there is."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rl_platform import conf_files
from rl_platform.commands.arguments import Parser
from rl_platform.schema import nearest

if TYPE_CHECKING:
    from rl_platform.run_dir import RunDir

GROUPS = {
    "envs": "env",
    "agents": "agent",
    "algos": "algo",
    "launchers": "launcher",
    "loggers": "logger",
    "sweeps": "sweep",
    "experiments": "experiment",
    "tuned": "tuned",
}
# What others call them.
NAMES = {"tasks": "envs", "environments": "envs", "algorithms": "algos", "policies": "agents"}
COLUMNS = {
    "state": "state",
    "env": "env",
    "agent": "agent",
    "seed": "seed",
    "iteration": "iteration",
    "env_steps": "steps",
    "success_rate": "success",
    "return_mean": "return",
    "updated": "updated",
    "job_id": "job",
    "run": "directory",
}
_NO_COLUMN = "error"  # told below the table
_LONGEST = 160  # characters of it


def main(argv: Sequence[str]) -> int:
    """Print tables, or one JSON object."""
    parser = Parser(prog="python run.py list", description="Show what there is.")
    tables = ", ".join([*GROUPS, "runs"])
    parser.add_argument(
        "what", nargs="?", type=_what, metavar="WHAT", help=f"only this: {tables} (default: everything)"
    )
    parser.add_argument("directory", nargs="?", default="outputs", help="of runs (default: outputs)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("-cd", "--config-dir", action="append", default=[], help="with groups of your own")
    options = parser.parse_args(argv)
    wanted = [options.what] if options.what else [*GROUPS, "runs"]
    found = {what: _rows(what, Path(options.directory), options.config_dir) for what in wanted}
    if options.json:
        print(json.dumps(found, indent=2))
        return 0
    for what, rows in found.items():
        heading = f"{what} in {options.directory}" if what == "runs" else what
        print(f"{heading}\n{_table(rows) or '  none'}")
        for row in rows:
            if row.get("state") == "failed" and row["error"]:
                print(f"  {row['run']} failed: {_first_line(row['error'])}")
        if what != wanted[-1]:
            print()
    return 0


def _what(word: str) -> str:
    """Read the name of a table."""
    names = [*GROUPS, "runs"]
    if word in names:
        return word
    match = NAMES.get(word) or nearest(word, names)
    meant = f"\n    → did you mean {match}?" if match else ""
    raise argparse.ArgumentTypeError(f"there is no {word}, there are {', '.join(names)}{meant}")


def _first_line(text: str) -> str:
    line, *rest = text.strip().split("\n")
    return line[:_LONGEST] + (" …" if rest or len(line) > _LONGEST else "")


def describe(run: RunDir, now: datetime) -> dict[str, Any]:
    """One run in a row: what it says of itself, and how it was evaluated at the end."""
    from rl_platform.states import state_of

    state, result = run.said(), run.read_summary().get("eval", {})
    return {
        "state": state_of(run, state),
        "env": state.get("env", ""),
        "agent": state.get("agent", ""),
        "seed": state.get("seed"),
        "iteration": state.get("iteration"),
        "env_steps": state.get("env_steps"),
        "success_rate": result.get("success_rate"),
        "return_mean": result.get("return_mean"),
        "updated": _ago(state.get("updated"), now),
        "job_id": run.slurm_job or state.get("job_id"),
        "run": str(run.path),
        "error": state.get("error"),
    }


def _rows(what: str, directory: Path, folders: Sequence[str]) -> list[dict[str, Any]]:
    if what != "runs":
        options = conf_files.options(GROUPS[what], folders)
        return [{"name": name, "description": text} for name, text in options.items()]
    from rl_platform.run_dir import list_runs

    now = datetime.now(UTC)
    return [describe(run, now) for run in list_runs(directory)]


def _ago(moment: str | None, now: datetime) -> str:
    """How long ago a moment (ISO 8601) was."""
    try:
        seconds = (now - datetime.fromisoformat(moment or "")).total_seconds()
    except (ValueError, TypeError):
        return ""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{max(seconds, 0):.0f} s ago"


def _table(rows: Sequence[dict[str, Any]]) -> str:
    """Aligned columns; those that are empty everywhere are left out."""
    if not rows:
        return ""
    told = [name for name in rows[0] if name != _NO_COLUMN]
    names = [name for name in told if any(row[name] not in (None, "") for row in rows)]
    cells = [[_cell(name, row[name]) for name in names] for row in rows]
    if "run" in names:
        cells.insert(0, [COLUMNS[name] for name in names])
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    lines = ("  ".join(f"{text:{width}}" for text, width in zip(line, widths, strict=True)) for line in cells)
    return "\n".join(f"  {line}".rstrip() for line in lines)


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name == "success_rate":
        return f"{100 * value:.1f} %"
    if name == "return_mean":
        return f"{value:.4g}"
    if name == "env_steps":
        return f"{value:,}"
    return str(value)
