"""What a training leaves behind: an evaluation, a plot, a video, a summary, the next commands."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Any

from rl_platform import atomic, provenance, registry
from rl_platform.errors import UserError
from rl_platform.evaluate import Policy, report
from rl_platform.loggers.base import Logger
from rl_platform.loggers.console import Console
from rl_platform.review import Reviewer
from rl_platform.run_dir import RunDir
from rl_platform.signals import Interrupted
from rl_platform.trainer import Outcome


def finish(
    cfg: Any,
    run_dir: RunDir,
    policy: Policy,
    outcome: Outcome,
    reviewer: Reviewer,
    loggers: Logger,
    console: Console,
) -> None:
    """Evaluate the trained policy and sum the run up, in files and on the console.

    Raises:
        Interrupted: a stop was asked for.
    """
    console.end(outcome.reason, outcome.best_score, outcome.best_iteration)
    console.message("Evaluating the policy without exploration …")
    result = reviewer.evaluate(policy)
    console.message(report(result))
    summary = {
        "env": registry.env_label(cfg.env),
        "agent": cfg.agent.name,
        "algo": cfg.algo.name,
        "seed": cfg.seed,
        "stopped_by": outcome.reason,
        "iteration": outcome.iteration,
        "env_steps": outcome.env_steps,
        "wall_time_s": outcome.wall_s,
        "steps_per_s": outcome.env_steps / outcome.wall_s,
        "eval": result,
    }
    # Written before plot and video: they may fail, and these are what a sweep is about.
    atomic.write_text(run_dir.summary_json, json.dumps(summary, indent=2) + "\n")
    loggers.summary(summary)
    _plot(run_dir, outcome, loggers, console)
    if cfg.video:
        _video(reviewer, policy, outcome, loggers, console)
    console.message(next_commands(cfg, run_dir, outcome, reviewer.missing))


def _plot(run_dir: RunDir, outcome: Outcome, loggers: Logger, console: Console) -> None:
    from rl_platform import plots  # matplotlib takes a second to import

    try:
        image = plots.learning_curve(run_dir)
    except (OSError, UserError) as error:
        console.message(f"no plot: {error}")
        return
    loggers.log_image("learning_curve", image, outcome.env_steps)
    console.message(f"Learning curve: {image}")


def _video(reviewer: Reviewer, policy: Policy, outcome: Outcome, loggers: Logger, console: Console) -> None:
    try:
        video = reviewer.record(policy, outcome.iteration)
    except Interrupted:
        console.message("The training is finished; only its video was cut short.")
        return
    if video is not None:
        loggers.log_video("policy", video, outcome.env_steps)
        console.message(f"Video: {video}")


def next_commands(cfg: Any, run_dir: RunDir, outcome: Outcome, missing: Sequence[str] = ()) -> str:
    """What to type next; `missing`: packages to install before the task can be drawn."""
    run, python = run_dir.path, provenance.python()
    typed = provenance.run
    reached = {"max_iterations": outcome.iteration, "total_env_steps": outcome.env_steps}
    further = [f"{key}={2 * n}" for key, n in reached.items() if cfg[key] is not None and n >= cfg[key]]
    if outcome.reason.startswith("score_to_win="):
        further.append("score_to_win=null")
    watch = [*(f"{python} -m pip install {package}" for package in missing), typed("play", run)]
    lines = [
        f"Watch it        {' && '.join(watch)}",
        f"Evaluate it     {typed('eval', run)}",
        f"Take it along   {typed('export', run)}",
        f"Train it on     {typed(f'resume={run}', *further)}",
    ]
    if "tensorboard" in cfg.logger:
        lines.append(f"See its curves  {python} -m tensorboard.main --logdir {shlex.quote(str(run))}")
    return "\n".join(lines)
