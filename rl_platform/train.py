"""One training, from its configuration to its summary: this screen builds the parts and runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import torch
from omegaconf import OmegaConf

from rl_platform import agreement, clock, distributed, place, provenance, registry, seeding
from rl_platform.agents import make_agent
from rl_platform.agents.base import Agent
from rl_platform.assemble import build_env
from rl_platform.envs.base import Page, VisibleEnv
from rl_platform.errors import NonFiniteError, RankLostError, UserError
from rl_platform.finish import finish
from rl_platform.loggers import make_loggers
from rl_platform.loggers.console import Console
from rl_platform.opengl import has_display
from rl_platform.review import Reviewer
from rl_platform.run_dir import RunDir
from rl_platform.schedule import Schedule
from rl_platform.signals import Interrupted, StopSignal
from rl_platform.threads import available_threads
from rl_platform.trainer import Session


def train(cfg: Any, run_dir: RunDir) -> int:
    """Train in a run directory, new or to be resumed (`cfg.resume`), then evaluate and sum up.

    Args:
        cfg: checked and complete, the seed drawn.
        run_dir: the run's own.

    Returns:
        The exit status: 0; 130 after an interrupt from the keyboard.

    Where this process is rank 0 of several, the others train with it (`follow.py`).

    Raises:
        UserError: something that the user can mend.
        NonFiniteError: a NaN; the message says where, and how to see it again.
        RankLostError: another rank failed.
    """
    here = place.find()
    if here is None:
        return _lead(cfg, run_dir)
    problem = agreement.ranks_problem(cfg.env.num_envs, here.world_size)
    if problem is not None:
        raise UserError(f"{here.world_size} ranks: {problem}")
    job = {"run": str(run_dir.path.resolve()), "config": OmegaConf.to_yaml(cfg, resolve=True)}
    distributed.announce(here, job)
    with distributed.group(here, cfg.device):
        return _lead(cfg, run_dir, here)


def _lead(cfg: Any, run_dir: RunDir, here: place.Place | None = None) -> int:
    """Train alone, or as rank 0."""
    started = clock.command_start()
    run_dir.begin()
    run_dir.save_config(cfg)
    with StopSignal(on_abort=lambda: run_dir.update_state(state="preempted")) as stop:
        with _failure_recorded(run_dir):
            state = _train(own_device(cfg, here), run_dir, stop, started)
        run_dir.update_state(state=state)
    return stop.exit_code if state == "preempted" else 0


def _train(cfg: Any, run_dir: RunDir, stop: StopSignal, started: float) -> str:
    """Build the environments, run the training, release them; return the run's state."""
    console = Console(Schedule.from_config(cfg), started)
    env = training_env(cfg)
    reviewer = Reviewer(cfg, run_dir, stop, console.message)
    with closing(env), closing(reviewer):
        return _fit(cfg, run_dir, stop, started, console, env, reviewer)


def training_env(cfg: Any) -> VisibleEnv:
    """Build this rank's environments; seed the process and set its number of threads."""
    seeding.seed_everything(cfg.seed)
    threads = available_threads(cfg.num_threads)
    torch.set_num_threads(1)  # an update takes more; while collecting, the simulation has the processors
    shard = distributed.shard(cfg.env.num_envs // distributed.world_size())
    return build_env(
        cfg,
        num_envs=shard.size,
        seed=cfg.seed,
        num_threads=threads,
        training=True,
        env_offset=shard.start,
    )


def own_device(cfg: Any, here: place.Place | None) -> Any:
    """The configuration with the device of one rank: `cuda` is one GPU for each."""
    if here is None or cfg.device != "cuda":
        return cfg
    own = cfg.copy()
    own.device = f"cuda:{here.local_rank}"
    return own


def _fit(
    cfg: Any,
    run_dir: RunDir,
    stop: StopSignal,
    started: float,
    console: Console,
    env: VisibleEnv,
    reviewer: Reviewer,
) -> str:
    """Build the agent and the loggers and run them; return the run's state."""
    agent = make_agent(cfg, env, env.num_envs)
    checkpoint = beginning(cfg, run_dir, agent, console.message)
    loggers = make_loggers(cfg, run_dir, checkpoint, console.message)
    threads = available_threads(cfg.num_threads)
    schedule = Schedule.from_config(cfg)
    console.start(_block(cfg, run_dir, env, agent.num_parameters, threads))
    for warning in schedule.never_due(cfg.algo.rollout_steps * cfg.env.num_envs):
        console.message(warning)
    state = "failed"
    try:
        with _window(cfg, env, console) as draw:
            session = Session(
                schedule=schedule,
                run_dir=run_dir,
                loggers=loggers,
                console=console,
                stop=stop,
                started=started,
                evaluate=reviewer.metrics,
                record=reviewer.record,
                random_episode_start=cfg.algo.get("random_episode_start", False),
                on_step=draw,
            )
            outcome = agent.fit(session, checkpoint)
        distributed.leave()  # what follows is rank 0's alone
        stop.check()
        finish(cfg, run_dir, agent.policy, outcome, reviewer, loggers, console)
        state = "finished"
    except Interrupted as interruption:
        state = "preempted"
        console.close()
        console.message(f"{interruption}. Go on with: {provenance.run(f'resume={run_dir.path}')}")
    finally:
        console.close()
        loggers.close(state)
    return state


def beginning(cfg: Any, run_dir: RunDir, agent: Agent, say: Callable[[str], None]) -> dict[str, Any] | None:
    """Return the checkpoint that a resumed run goes on from; None at a new start.

    A new start has fresh networks, or those of another run (`init_from`).

    Raises:
        UserError: there is no checkpoint to begin with, or its networks are of another kind.
    """
    if cfg.resume is not None:
        if any(run_dir.checkpoints.glob("*.pt")):
            checkpoint = run_dir.load_checkpoint(say=say)
            say(f"Going on from iteration {checkpoint['iteration']}, {checkpoint['env_steps']:,} steps")
            return checkpoint
        say("This run ended before its first checkpoint: it starts anew.")
    if cfg.init_from is not None:
        _take_over(cfg.init_from, agent, say)
    return None


def _take_over(init_from: str, agent: Agent, say: Callable[[str], None]) -> None:
    checkpoint = RunDir.open(init_from).load_checkpoint(say=say)
    try:
        agent.load_policy(checkpoint)
    except (RuntimeError, KeyError) as error:
        what = " ".join(line.strip() for line in str(error).splitlines()[1:3]) or str(error)
        raise UserError(
            f"init_from={init_from}: its networks are of other sizes than this run's (another task?). {what}"
        ) from error
    say(f"Beginning with the networks of {init_from}, iteration {checkpoint['iteration']}")


def _block(cfg: Any, run_dir: RunDir, env: VisibleEnv, num_parameters: int, threads: int) -> str:
    """What is about to be trained, in the words that change it on the command line."""
    rows = {
        "env": f"{registry.env_label(cfg.env)}, {cfg.env.num_envs} environments{_physics(cfg)}",
        "agent": f"{cfg.agent.name}, {num_parameters:,} parameters",
        "algo": cfg.algo.name,
        "device": f"{cfg.device}, {_ranks()}{threads} threads",
        "seed": cfg.seed,
        "until": Schedule.from_config(cfg).limits(),
        "run": run_dir.path,
    }
    table = "\n".join(f"{name:<8} {value}" for name, value in rows.items())
    return f"{table}\n\n{env.describe()}"


def _physics(cfg: Any) -> str:
    """What simulates, where it is not MuJoCo on the processors."""
    on_warp = registry.simulator(cfg.env.get("physics", "cpu"), cfg.device) == "warp"
    return " on MuJoCo Warp" if on_warp else ""


def _ranks() -> str:
    ranks = distributed.world_size()
    return f"{ranks} ranks of " if ranks > 1 else ""


@contextmanager
def _window(cfg: Any, env: VisibleEnv, console: Console) -> Iterator[Callable[[], None]]:
    """Yield what draws the first environment after each step; nothing if the run is headless.

    In a window on this machine's display, or if it has none in browsers.
    """
    if cfg.headless:
        yield lambda: None
        return
    viewer = env.viewer(None if has_display() else Page())
    if viewer.invitation:
        console.message(viewer.invitation)
    try:
        yield viewer.draw
    finally:
        viewer.close()


@contextmanager
def _failure_recorded(run_dir: RunDir) -> Iterator[None]:
    """Write into run.json why a run ended, if it is by an error."""
    try:
        yield
    except BaseException as error:
        told = isinstance(error, UserError | NonFiniteError | RankLostError)
        run_dir.update_state(state="failed", error=str(error) if told else f"{type(error).__name__}: {error}")
        raise
