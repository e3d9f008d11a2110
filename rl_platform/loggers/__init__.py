"""Loggers: chosen by key, `rl_platform/loggers/<key>.py` or a dotted module of the user's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from omegaconf import OmegaConf

from rl_platform import registry
from rl_platform.checkpoint import to_stderr
from rl_platform.errors import UserError
from rl_platform.loggers.base import Context, Logger, LoggerGroup
from rl_platform.run_dir import RunDir
from rl_platform.schema import validate


def make_loggers(
    cfg: Any,
    run_dir: RunDir,
    checkpoint: Mapping[str, Any] | None,
    say: Callable[[str], None] = to_stderr,
) -> LoggerGroup:
    """Make the loggers that `cfg.logger` names.

    Args:
        cfg: the run's complete configuration.
        run_dir: where files go.
        checkpoint: the one that the run goes on from, with `loggers` and `env_steps`; None if it starts.
        say: tells the user something, in one line.

    Raises:
        UserError: a logger cannot be had as it is configured. Whatever else goes wrong with one is
            said, and the run does without it.
    """
    states = {} if checkpoint is None else checkpoint["loggers"]
    env_steps = 0 if checkpoint is None else checkpoint["env_steps"]
    loggers: dict[str, Logger] = {}
    for key, node in cfg.logger.items():
        name, values = str(key), OmegaConf.to_container(node, resolve=True)
        config, problems = validate(registry.schema("logger", name), values, f"logger.{name}")
        if problems:
            raise UserError("\n".join(str(problem) for problem in problems))
        context = Context(cfg, run_dir, states.get(name, {}), env_steps, say)
        try:
            logger = registry.load("logger", name).make_logger(config, context)
        except UserError:
            raise
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            say(f"The logger {name} does not start; the run does without it. ({why})")
            continue
        if logger is not None:
            loggers[name] = logger
    return LoggerGroup(loggers, states, say)
