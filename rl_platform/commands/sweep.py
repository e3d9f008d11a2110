"""`python run.py sweep DIR`: how a sweep is, what came out of it, and its jobs that shall go on."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rl_platform import slurm
from rl_platform.commands.arguments import Parser
from rl_platform.errors import UserError
from rl_platform.run_dir import RunDir
from rl_platform.states import ENDED, UNSUCCESSFUL, state_of
from rl_platform.sweep_dir import SweepDir
from rl_platform.sweep_table import as_json, report
from rl_platform.sweepers.optuna import require_optuna

_FOLLOW_S = 0.5


def main(argv: Sequence[str]) -> int:
    """Show the table, or a job's log, or start jobs again; return the exit status."""
    parser = Parser(prog="python run.py sweep", description="Show a sweep and its results.")
    parser.add_argument("directory", type=Path, help="the sweep's, such as outputs/sweeps/2026-01-31_…")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--log", type=int, metavar="N", help="show what job N prints, until it ends")
    parser.add_argument("--jobs", action="store_true", help="a line for each job as well")
    parser.add_argument(
        "--retry-failed", action="store_true", help="start the failed, killed and cancelled jobs again"
    )
    parser.add_argument(
        "--continue",
        dest="go_on",
        action="store_true",
        help="start the queued and preempted jobs; go on with a search",
    )
    parser.add_argument("--trials", type=int, metavar="N", help="with --continue: try N settings in all")
    options = parser.parse_args(argv)
    sweep = SweepDir.open(options.directory)
    searched = (sweep.path / "search.json").exists()
    if searched:
        require_optuna()
    if options.log is not None:
        return _log(sweep, options.log)
    if options.go_on and searched:
        from rl_platform import search

        return search.go_on(sweep, options.trials)
    if options.retry_failed or options.go_on:
        return _again(sweep, options.retry_failed, options.go_on)
    if options.json:
        print(json.dumps(as_json(sweep), indent=2))
        return 0
    if options.jobs:
        print(_jobs(sweep), end="\n\n")
    print(_search_report(sweep) if searched else report(sweep))
    return 0


def _search_report(sweep: SweepDir) -> str:
    from rl_platform import search
    from rl_platform.search_report import report as report_search

    typed, study = search.look(sweep)
    return report_search(study, typed)


def _jobs(sweep: SweepDir) -> str:
    """Each job in a line: its state, SLURM's name for it, its directory, its error."""
    lines = []
    for run in sweep.runs:
        said = run.said()
        job = run.slurm_job or said.get("job_id") or ""
        lines.append((state_of(run, said), str(job), str(run.path), str(said.get("error") or "")))
    widths = [max(len(line[i]) for line in lines) for i in range(3)]
    return "\n".join(
        f"{state:{widths[0]}}  {job:{widths[1]}}  {path:{widths[2]}}  {error.partition(chr(10))[0]}".rstrip()
        for state, job, path, error in lines
    )


def _log(sweep: SweepDir, number: int) -> int:
    """Print a job's log as it grows, until the job has ended."""
    if not 0 <= number < len(sweep.entries):
        raise UserError(f"--log {number}: the jobs of this sweep are 0 to {len(sweep.entries) - 1}.")
    run = sweep.runs[number]
    offset = 0
    while True:
        state = state_of(run, jobs=slurm.active_jobs)  # before the log, so that nothing is missed at its end
        offset += _print_from(run, offset)
        if state in ENDED or state in ("queued", "preempted"):
            print(f"-- {run.path} is {state}", file=sys.stderr)
            return 0
        time.sleep(_FOLLOW_S)


def _print_from(run: RunDir, offset: int) -> int:
    try:
        with open(run.job_log, "rb") as file:
            file.seek(offset)
            text = file.read()
    except FileNotFoundError:
        return 0
    sys.stdout.write(text.decode(errors="replace"))
    sys.stdout.flush()
    return len(text)


def _again(sweep: SweepDir, failed: bool, waiting: bool) -> int:
    """Start jobs with the sweep's launcher; each goes on from its last checkpoint."""
    wanted = [*(UNSUCCESSFUL if failed else ()), *(("queued", "preempted") if waiting else ())]
    states = {entry.number: state_of(entry.run) for entry in sweep.entries}
    runs = [entry.run for entry in sweep.entries if states[entry.number] in wanted]
    if not runs:
        print(f"None of the {len(states)} jobs is {' or '.join(wanted)}.")
        return 0
    from rl_platform import multirun
    from rl_platform.composition import Composer

    if waiting and (pending := [run for run in runs if _in_queue(run)]):
        raise UserError(
            f"{len(pending)} of the jobs wait in SLURM's queue and start by themselves; leave out --continue"
        )
    composer = Composer()
    job = composer.compose([f"launcher={sweep.launcher['name']}"])
    launcher = multirun.make_launcher(composer, job, sweep.launcher)
    launcher.check([run.load_config() for run in runs])
    for run in runs:
        run.wait_again()
    return multirun.start(launcher, sweep, runs)


def _in_queue(run: RunDir) -> bool:
    return run.slurm_job is not None and run.slurm_job in (slurm.active_jobs_once() or {})
