"""`python run.py compare RUN…`: what differs between runs, and which came out better."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rl_platform.commands.arguments import Parser
from rl_platform.errors import UserError

if TYPE_CHECKING:
    from rl_platform.comparison import Comparison


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

    folder = _new_folder(options.out)
    by = [key.strip() for key in options.by.split(",") if key.strip()]
    comparisons = compare(find_runs(options.runs), by, say=lambda text: print(text, file=sys.stderr))
    if options.json:
        print(json.dumps({"comparisons": [as_json(comparison) for comparison in comparisons]}, indent=2))
        return 0
    print("\n\n".join(report(comparison) for comparison in comparisons))
    for comparison in comparisons:
        print(f"\n{_draw(comparison, folder)}")
    return 0


def _draw(comparison: Comparison, folder: Path) -> str:
    """Draw an environment's curves; say where they are, or why there are none."""
    from rl_platform.plots import compared

    path = folder / f"{comparison.env.replace('/', '_')}.png"
    settings = {setting.label: [m.run for m in setting.members] for setting in comparison.rated}
    try:
        without = compared(comparison.env, settings, comparison.metric, path)
    except UserError as error:
        return f"No curves of {comparison.env}: {error}"
    told = f"Curves: {path}\nPoints: {path.with_suffix('.csv')}"
    runs = "1 run" if len(without) == 1 else f"{len(without)} runs"
    return f"{told}\n  ! not drawn, for want of logged episodes: {runs}" if without else told


def _new_folder(asked: Path | None) -> Path:
    """A folder without anything in it that could be overwritten; it is made when something is drawn.

    Raises:
        UserError: the one that was asked for has something in it, or is a file.
    """
    folder = asked or Path("outputs/compare") / datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")
    if folder.is_file():
        raise UserError(f"--out {folder}: this is a file; a folder is wanted.")
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"--out {folder}: there is something in it, and nothing is overwritten.")
    return folder
