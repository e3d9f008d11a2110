"""`python run.py eval RUN`: how good a run's policy is."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Sequence
from typing import Any

from rl_platform.commands.arguments import at_least_one, open_run, run_parser


def main(arguments: Sequence[str]) -> int:
    """Evaluate and print: for people, or as JSON, and then nothing else on stdout."""
    parser = run_parser("eval", "Play whole episodes with a run's policy, without exploring, and count.")
    parser.add_argument("--episodes", type=at_least_one, help="how many (default: the run's eval.episodes)")
    parser.add_argument(
        "--num-envs", type=at_least_one, help="environments they run in (default: the run's eval.num_envs)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    with contextlib.redirect_stdout(sys.stderr):
        result = evaluate_run(options)
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        from rl_platform.evaluate import report

        print(f"{result['run']}, iteration {result['iteration']}, {result['env_steps']:,} steps")
        print(report(result))
    return 0


def evaluate_run(options: Any) -> dict[str, Any]:
    """Return the evaluation of the run that the command line names, with what was evaluated."""
    from rl_platform import registry
    from rl_platform.assemble import load_run
    from rl_platform.evaluate import evaluate

    run_dir = open_run(options.run)
    settings = run_dir.load_config().eval
    episodes = options.episodes or settings.episodes
    run = load_run(
        run_dir,
        options.checkpoint,
        num_envs=min(options.num_envs or settings.num_envs, episodes),
        device=options.device,
        num_threads=options.num_threads,
    )
    seed = settings.seed if options.seed is None else options.seed
    what = {
        "run": str(run_dir.path),
        "env": registry.env_label(run.cfg.env),
        "agent": run.cfg.agent.name,
        "checkpoint": str(options.checkpoint or run_dir.chosen or "last"),
        "iteration": run.iteration,
        "env_steps": run.env_steps,
    }
    with contextlib.closing(run.env):
        return what | evaluate(run.env, run.agent.policy, episodes, seed)
