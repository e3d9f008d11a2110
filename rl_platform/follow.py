"""A rank above 0: it trains as rank 0 does, on its own environments, and writes nothing but its log."""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import closing
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from rl_platform import clock, distributed, place, ranks
from rl_platform.agents import make_agent
from rl_platform.errors import NonFiniteError, RankLostError, UserError
from rl_platform.loggers.base import LoggerGroup
from rl_platform.loggers.console import Console
from rl_platform.run_dir import RunDir
from rl_platform.schedule import Schedule
from rl_platform.signals import StopSignal
from rl_platform.train import beginning, own_device, training_env
from rl_platform.trainer import Session


def follow(here: place.Place) -> int:
    """Train on what rank 0 announces; return the exit status.

    What this rank prints goes to its log in the run directory. If it is the first to fail, its last words go
    to where errors were printed before, too.
    """
    console = sys.stderr
    try:
        job = distributed.announced(here)
        if job is None:
            return 0  # whatever rank 0 did, its exit status tells
        with StopSignal() as stop:
            run_dir = RunDir.open(job["run"])
            if place.LAUNCHER_PID not in os.environ:  # who started us with a log shows it itself
                console = ranks.redirect_output(run_dir.path, here.rank)
            cfg = OmegaConf.create(job["config"])
            with distributed.group(here, cfg.device):
                _train(own_device(cfg, here), run_dir, stop)
    except RankLostError as error:
        print(error, file=sys.stderr)
        return 1
    except BaseException as error:
        told = isinstance(error, UserError | NonFiniteError)
        text = f"{error}\n" if told else traceback.format_exc()
        sys.stderr.write(text)
        if distributed.tell_failure(here, error) and console is not sys.stderr:
            log = ranks.log_path(Path(job["run"]), here.rank)  # type: ignore[index]
            console.write(f"rank {here.rank} failed; its log is {log}\n{text}")
            console.flush()
        return 2 if isinstance(error, UserError) else 1
    return 0


def _train(cfg: Any, run_dir: RunDir, stop: StopSignal) -> None:
    with closing(training_env(cfg)) as env:
        agent = make_agent(cfg, env, env.num_envs)
        schedule, started = Schedule.from_config(cfg), clock.command_start()
        with open(os.devnull, "w") as nowhere:
            console = Console(schedule, started, nowhere)
            session = Session(
                schedule=schedule,
                run_dir=run_dir,
                loggers=LoggerGroup({}, {}, console.message),
                console=console,
                stop=stop,
                started=started,
                evaluate=lambda policy: {},
                record=lambda policy, iteration: None,
                random_episode_start=cfg.algo.get("random_episode_start", False),
            )
            agent.fit(session, beginning(cfg, run_dir, agent, console.message))
