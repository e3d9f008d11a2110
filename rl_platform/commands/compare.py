"""`python run.py compare RUN…`: what differs between runs, and which came out better."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from rl_platform.commands.arguments import Parser
from rl_platform.errors import UserError


def main(argv: Sequence[str]) -> int:
    """Print a table for each environment, and draw the curves."""
    parser = Parser(
        prog="python run.py compare",
        description="Compare runs: a table with intervals over seeds, what to beware of, and the curves.",
    )
    parser.add_argument(
        "runs", metavar="RUN", type=Path, nargs="+", help="run directories, sweeps, or folders of them"
    )
    parser.add_argument(
        "--by", metavar="KEY,…", default="", help="agent, algo.gamma … (default: what differs, but the seed)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="for the figures (default: outputs/compare/<date>)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, and draw nothing")
    options = parser.parse_args(argv)
    from rl_platform.comparison import as_json, compare, find_runs, report

    by = [key.strip() for key in options.by.split(",") if key.strip()]
    comparisons = compare(find_runs(options.runs), by)
    if options.json:
        print(json.dumps([as_json(comparison) for comparison in comparisons], indent=2))
        return 0
    print("\n\n".join(report(comparison) for comparison in comparisons))
    from rl_platform.plots import compared

    folder = _new_folder(options.out)
    for comparison in comparisons:
        path = folder / f"{comparison.env.replace('/', '_')}.png"
        settings = {s.name: [member.run for member in s.members] for s in comparison.rated}
        compared(comparison.env, settings, comparison.metric, path)
        print(f"\nCurves: {path}; their points: {path.with_suffix('.csv')}")
    return 0


def _new_folder(asked: Path | None) -> Path:
    """A folder without anything in it that could be overwritten.

    Raises:
        UserError: the one that was asked for has something in it.
    """
    folder = asked or Path("outputs/compare") / datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"--out {folder}: there is something in it, and nothing is overwritten.")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
