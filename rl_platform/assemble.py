"""The parts of a run, built from its configuration: for `train`, and again for `eval` and `play`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from omegaconf import OmegaConf

from rl_platform import registry
from rl_platform.agents import make_agent
from rl_platform.agents.base import Agent
from rl_platform.config import device_problems
from rl_platform.envs import make_env_for
from rl_platform.envs.base import VisibleEnv
from rl_platform.errors import UserError
from rl_platform.old_runs import load_config
from rl_platform.run_dir import RunDir
from rl_platform.schema import validate
from rl_platform.threads import available_threads


def typed(kind: str, node: Any) -> Any:
    """Return a group of the configuration (env, agent, algo) as its module's `Config`.

    Raises:
        UserError: a run of long ago has other keys than the module has today.
    """
    values = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    config, problems = validate(registry.schema(kind, node["name"]), values, kind)
    if problems:
        raise UserError("\n".join(str(problem) for problem in problems))
    return config


def build_env(
    cfg: Any, *, num_envs: int, seed: int, num_threads: int, training: bool = False, env_offset: int = 0
) -> VisibleEnv:
    """Build `cfg.env` with another size and seed; only with `training` may events make the task easier.

    A module has a `TASK` for our own environment, or its own `make_env`. `env_offset`: environments that the
    ranks before this one have.
    """
    config = typed("env", cfg.env)
    module = registry.load("env", config.name)
    make: Callable[..., VisibleEnv]
    make = module.make_env if hasattr(module, "make_env") else partial(make_env_for, task=module.TASK)
    offset = {"env_offset": env_offset} if env_offset else {}  # a user's own `make_env` may do without
    own: dict[str, Any] = {"num_envs": num_envs, "num_threads": num_threads} | offset
    return make(config, seed=seed, device=cfg.device, training=training, **own)


@dataclass
class LoadedRun:
    """A run as `eval` and `play` need it.

    Attributes:
        cfg: its own configuration, as it was saved.
        env: environments like those that it was trained on.
        agent: with the checkpoint's policy.
        iteration, env_steps: of the checkpoint.
    """

    cfg: Any
    env: VisibleEnv
    agent: Agent
    iteration: int
    env_steps: int


def load_env(
    run_dir: RunDir, *, num_envs: int, device: str | None, num_threads: int | None
) -> tuple[Any, VisibleEnv]:
    """Rebuild a run's environment without its policy; return its configuration too. See `load_run`."""
    cfg = load_config(run_dir)
    cfg.device = device or cfg.device
    for problem in device_problems(cfg.device):
        raise UserError(f"device {problem.message}: write --device cpu.")
    threads = available_threads(num_threads or cfg.num_threads)
    torch.set_num_threads(1)  # as in training: the simulation has the processors
    return cfg, build_env(cfg, num_envs=num_envs, seed=cfg.eval.seed, num_threads=threads)


def load_run(
    run_dir: RunDir,
    checkpoint: str | int | None,
    *,
    num_envs: int,
    device: str | None,
    num_threads: int | None,
) -> LoadedRun:
    """Rebuild a run's environment and policy from its directory alone; nothing is composed anew.

    Args:
        run_dir: of the run.
        checkpoint: "last", "best" or an iteration; None: the file that `run_dir` was opened by, or the last.
        num_envs: size of the environment.
        device: None for the run's own.
        num_threads: None for the run's own.

    Raises:
        UserError: the checkpoint does not exist or cannot be read, or this machine lacks the device.
    """
    state = run_dir.load_checkpoint(checkpoint)
    cfg, env = load_env(run_dir, num_envs=num_envs, device=device, num_threads=num_threads)
    agent = make_agent(cfg, env, cfg.env.num_envs)
    agent.load_policy(state)
    return LoadedRun(cfg, env, agent, state["iteration"], state["env_steps"])
