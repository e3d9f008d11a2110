"""`logger=wandb`: Weights & Biases, online or recorded for later; training never waits for it to work.

Every row carries `global_step`, the environment steps, which all charts have as their x axis: W&B's own
step starts anew when a run that was recorded offline is resumed. When a killed run goes on from a
checkpoint, rows between that checkpoint and the end are sent twice; W&B keeps the first of each.
"""

from __future__ import annotations

import netrc
import os
import secrets
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit
from urllib.request import getproxies

from omegaconf import OmegaConf

from rl_platform.errors import UserError
from rl_platform.loggers.base import Context

Mode = Literal["online", "offline", "disabled"]
_CONNECT_TIMEOUT_S = 5.0
_INIT_TIMEOUT_S = 30.0
_FINISH_TIMEOUT_S = 120.0  # what is not sent by then stays on the disk, for `wandb sync`
_SERVICE_WAIT_S = 120  # W&B's own process is slow to start when a whole array of jobs does


@dataclass
class Config:
    """Where a run belongs in W&B.

    Attributes:
        project: is made if it does not exist.
        entity: user or team; None for the key's own.
        group: of runs that belong together; None for the sweep's name, if the run is of a sweep.
        job_type: such as train.
        tags: at most 64 characters each.
        notes: free text.
        mode: online needs a key and a network, and falls back to offline; the environment variable
            WANDB_MODE goes before online.
    """

    project: str
    entity: str | None
    group: str | None
    job_type: str
    tags: list[str]
    notes: str
    mode: Mode

    def check(self) -> Iterator[tuple[str, str]]:
        """Yield (key, message) for each value that W&B would refuse."""
        bad = sorted(set(self.project) & set("/\\#?%:"))
        if not self.project or len(self.project) > 128 or bad:
            yield "project", f"must have 1 to 128 characters, none of / \\ # ? % :, got {self.project!r}"
        for tag in self.tags:
            if not 1 <= len(tag) <= 64:
                yield "tags", f"must have 1 to 64 characters each, got {tag!r}"


def make_logger(config: Config, context: Context) -> WandbLogger | None:
    """Start a W&B run, or go on with the one that the checkpoint names; None if W&B is disabled.

    Raises:
        UserError: the package wandb is not installed.
    """
    mode = _mode(config.mode)
    if mode == "disabled":
        return None
    os.environ.setdefault("WANDB__SERVICE_WAIT", str(_SERVICE_WAIT_S))
    try:
        import wandb
    except ImportError as error:
        raise UserError(
            'logger=wandb needs the package wandb: pip install -c constraints.txt -e ".[wandb]" '
            "(or leave it out: logger=tensorboard)"
        ) from error
    settings = wandb.setup(wandb.Settings(silent=True)).settings
    obstacle = _obstacle(settings) if mode == "online" else None
    run_id = context.state.get("id") or secrets.token_hex(5)
    run = None
    if mode == "online" and obstacle is None:
        try:
            run = _init(config, context, run_id, "online")
        except Exception as error:  # W&B raises many kinds, and not only its own
            obstacle = (str(error).splitlines() or [type(error).__name__])[0]
            wandb.teardown()  # its process would say that the id is in use
    if run is None:
        run = _init(config, context, run_id, "offline")
        why = f" ({obstacle})" if obstacle else ""
        context.say(f"W&B: recording offline{why}. Upload it with: wandb sync {_segments(context, run)}")
    else:
        context.say(f"W&B: {run.url}")
    return WandbLogger(run)


class WandbLogger:
    """One run of W&B; several live side by side in a process."""

    def __init__(self, run: Any) -> None:
        """`run`: as `wandb.init` returns it."""
        self._run = run
        run.define_metric("global_step", hidden=True)
        run.define_metric("*", step_metric="global_step")

    def log(self, metrics: Mapping[str, Any], env_steps: int) -> None:
        """Send a row; more for the same `env_steps` are joined to it."""
        self._run.log({**metrics, "global_step": env_steps}, step=env_steps)

    def log_image(self, name: str, path: Path, env_steps: int) -> None:
        """Send a picture."""
        import wandb

        self.log({name: wandb.Image(str(path))}, env_steps)

    def log_video(self, name: str, path: Path, env_steps: int) -> None:
        """Send a video."""
        import wandb

        self.log({f"{name}_video": wandb.Video(str(path), format="mp4")}, env_steps)

    def summary(self, values: Mapping[str, Any]) -> None:
        """Send the result; its nested values are `eval.success_rate` and the like in W&B."""
        self._run.summary.update(dict(values))

    def state_dict(self) -> dict[str, Any]:
        """Return which run it is."""
        return {"id": self._run.id}

    def close(self, state: str) -> None:
        """Send what is left and mark the run finished, preempted or failed."""
        if state == "preempted":
            self._run.mark_preempting()  # with an exit code that is not 0, W&B shows it as preempted
        self._run.finish(exit_code=0 if state == "finished" else 1)


def _mode(mode: Mode) -> str:
    """The environment's wish goes before the default: compute nodes set WANDB_MODE=offline."""
    wish = os.environ.get("WANDB_MODE", mode)
    return wish if mode == "online" and wish in ("offline", "disabled") else mode


def _init(config: Config, context: Context, run_id: str, mode: Literal["online", "offline"]) -> Any:
    import wandb

    cfg, path = context.cfg, context.run_dir.path
    values: Any = OmegaConf.to_container(cfg, resolve=True)
    return wandb.init(
        project=config.project,
        entity=config.entity,
        group=config.group or context.run_dir.sweep,
        job_type=config.job_type,
        tags=config.tags,
        notes=config.notes or None,
        name=f"{cfg.env.name}_{cfg.agent.name}_{path.name}",
        config=values,
        dir=str(path),
        mode=mode,
        id=run_id,
        resume="allow",
        reinit="create_new",  # a sweep's earlier job in this process has its own run
        settings=wandb.Settings(
            silent=True,
            console="off",  # W&B would take stdout's place, and the terminal's colours with it
            init_timeout=_INIT_TIMEOUT_S,
            finish_timeout=_FINISH_TIMEOUT_S,
        ),
    )


def _segments(context: Context, run: Any) -> str:
    """What to give `wandb sync`: a run that was resumed has a directory for each sitting."""
    own = Path(run.settings.sync_dir)
    folder = context.run_dir.path / "wandb"  # as the user named the run; W&B itself says it absolutely
    if not (folder / own.name).exists():
        folder = own.parent  # W&B found no room there
    several = len(list(folder.glob("offline-run-*"))) > 1
    return str(folder / ("offline-run-*" if several else own.name))


def _obstacle(settings: Any) -> str | None:
    """Say why W&B cannot be reached, quickly and without a prompt; None if it may be."""
    url = urlsplit(str(settings.base_url))
    if not (settings.api_key or settings.identity_token_file or _netrc_has(url.hostname)):
        return "there is no API key: wandb login"
    if url.scheme in getproxies():
        return None  # only the proxy knows
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        socket.create_connection((str(url.hostname), port), timeout=_CONNECT_TIMEOUT_S).close()
    except OSError:
        return f"{url.hostname} cannot be reached"
    return None


def _netrc_has(host: str | None) -> bool:
    """Whether `wandb login` left a key for this host."""
    chosen = os.environ.get("NETRC")
    for path in [chosen] if chosen else ["~/.netrc", "~/_netrc"]:
        try:
            if host in netrc.netrc(os.path.expanduser(path)).hosts:
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False
