"""Runs that an earlier version of the platform made: keys that came later are filled in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from rl_platform import config
from rl_platform.checkpoint import to_stderr
from rl_platform.errors import UserError
from rl_platform.run_dir import RunDir

_CHOICES = ("env", "agent", "algo")


def load_config(run_dir: RunDir, say: Callable[[str], None] = to_stderr) -> DictConfig:
    """Read a run's configuration; keys that it does not know yet get what `conf/` has for them today.

    That is the option's own value: what `conf/tuned` sets now is not what the run was trained with.

    Args:
        run_dir: of the run.
        say: is told which keys were filled in.

    Raises:
        UserError: there is no configuration, or it cannot be read.
    """
    cfg = run_dir.load_config()
    if not config.find_problems(cfg)[1]:
        return cfg
    words = run_dir.read_state()
    chosen = [f"{group}={words[group]}" for group in _CHOICES if words.get(group)]
    try:
        today = config.compose([*chosen, "~tuned"])
    except UserError:
        return cfg  # the option has gone: whoever checks the configuration says what it lacks
    own, known = OmegaConf.to_container(cfg), OmegaConf.to_container(today)
    assert isinstance(own, dict)
    assert isinstance(known, dict)
    added = list(_fill(own, {key: value for key, value in known.items() if key != "logger"}))
    if added:
        say(f"{run_dir.path} is older than {', '.join(added)}: as conf/ has it today.")
    return OmegaConf.create(own)


def _fill(own: dict[Any, Any], today: Mapping[Any, Any], path: str = "") -> Iterator[str]:
    """Put into `own` what only `today` has; yield the dotted keys with their values."""
    for name, value in today.items():
        key = f"{path}.{name}" if path else str(name)
        if name not in own:
            own[name] = value
            yield f"{key}={'null' if value is None else value}"
        elif isinstance(value, dict) and isinstance(own[name], dict):
            yield from _fill(own[name], value, key)
