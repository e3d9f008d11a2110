"""What an environment tells of the episodes that ended, and of the tables it is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from rl_platform import chosen

if TYPE_CHECKING:
    from rl_platform.envs.base import VectorEnv
    from rl_platform.envs.env import Env


class EpisodeLog:
    """Sums over running episodes, and means over those that ended since the last `pop`.

    Attributes:
        reports_success: whether the environment says which episodes succeeded.
        sums: each reward term's sum over the running episodes, `(terms, num_envs)` float64, live.
    """

    def __init__(
        self,
        env: VectorEnv,
        rewards: tuple[str, ...],
        ends: tuple[str, ...],
        metrics: tuple[str, ...],
        length_s: float,
    ) -> None:
        """Follow the episodes of `env`: its reward terms, reasons to end, and metrics by name.

        `length_s`: what `Episode_Reward` is divided by, the longest episode's length in s.
        """
        self._rewards, self._ends, self._metrics = rewards, ends, metrics
        self._length_s = length_s
        self.reports_success = True
        zeros = partial(torch.zeros, dtype=torch.float64, device=env.device)
        # of each running episode: its steps, then each reward term's sum
        self._running = zeros(1 + len(rewards), env.num_envs)
        self._steps, self.sums = self._running[0], self._running[1:]
        # whose running episode did not begin at its start; whether any may have, without asking a device
        self._partial = torch.zeros(env.num_envs, dtype=torch.bool, device=env.device)
        self._some_partial = chosen.runs_behind(env.device)
        # of the episodes that ended: their number, then the above, successes, each end and metric
        sizes = (1, 1 + len(rewards), 1 + len(ends) + len(metrics))
        self._totals = zeros(sum(sizes))
        self._count, self._sums_of_running, self._sums_at_end = self._totals.split(sizes)

    def leave_out_running(self) -> None:
        """Leave the running episodes out of the means: what is left of them is not a whole one."""
        self._partial.fill_(True)
        self._some_partial = True

    def add(self, shares: torch.Tensor) -> None:
        """Count one step, with each reward term's share `(terms, num_envs)`."""
        self._steps += 1
        self.sums += shares

    def end(
        self,
        done: torch.Tensor,
        ends: Sequence[torch.Tensor],
        metrics: Mapping[str, torch.Tensor],
        success: torch.Tensor | None,
    ) -> None:
        """Count the episodes that ended with the last step.

        Args:
            done: environments whose episode ended: ids, or a mask (`chosen.py`).
            ends: whether it was for this reason, `(num_envs,)` bool for each of them.
            metrics: name → `(num_envs,)`.
            success: `(num_envs,)` bool; None if the environment does not say.
        """
        if success is None:
            success = torch.zeros_like(ends[0])
        ended, running = torch.stack([success, *ends, *metrics.values()]), self._running
        if chosen.is_mask(done):
            whole = done & ~self._partial
            ended, running = (values.where(whole, 0) for values in (ended, running))
            self._count += whole.sum()
        else:
            whole = done[~self._partial[done]] if self._some_partial else done
            ended, running = (values.index_select(1, whole) for values in (ended, running))
            self._count += len(whole)
        self._sums_of_running += running.sum(1)
        self._sums_at_end += ended.sum(1, dtype=torch.float64)
        self.forget(done)

    def forget(self, which: torch.Tensor) -> None:
        """Start counting anew for these environments."""
        chosen.fill(self._running, which, 0, dim=1)
        if self._some_partial:
            chosen.fill(self._partial, which, False)
            if not chosen.runs_behind(self._partial.device):
                self._some_partial = bool(self._partial.any())

    def pop(self) -> dict[str, float]:
        """Return the means over the episodes that ended since the last call; empty if none did.

        `Episode_Reward/<term>` is the episode's sum over the longest episode's length in s, as Isaac
        Lab has it; `Train/mean_reward` is the whole return; `Episode_Termination/<name>` the share of
        episodes that ended so; `Metrics/<name>` the value at the episode's end.
        """
        totals = self._totals.tolist()
        episodes = totals[0]
        self._totals.zero_()
        if episodes == 0:
            return {}
        means = iter([total / episodes for total in totals[1:]])
        log = {
            "Train/episodes": episodes,
            "Train/mean_episode_length": next(means),
        }
        returns = {name: next(means) for name in self._rewards}
        success_rate = next(means)
        if self.reports_success:
            log["Train/success_rate"] = success_rate
        log["Train/mean_reward"] = sum(returns.values())
        log |= {f"Episode_Reward/{name}": value / self._length_s for name, value in returns.items()}
        log |= {f"Episode_Termination/{name}": next(means) for name in self._ends}
        return log | {f"Metrics/{name}": next(means) for name in self._metrics}

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return the sums, and whose episodes are left out."""
        own = {"running": self._running, "totals": self._totals, "partial": self._partial}
        return {name: values.clone() for name, values in own.items()}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Continue from a `state_dict`."""
        self._running.copy_(state["running"])
        self._totals.copy_(state["totals"])
        self._partial.copy_(state.get("partial", torch.zeros(())))  # not in runs of before 2026-11-26
        if not chosen.runs_behind(self._partial.device):
            self._some_partial = bool(self._partial.any())


def describe(env: Env) -> str:
    """Return the task's tables as text: actions, observations, rewards, and how episodes start and end."""
    config, tables = env.config, asdict(env.config)
    lines = [
        f"Control {1 / env.step_dt:.4g} Hz ({config.substeps} × {config.timestep:g} s), "
        f"episode {env.max_episode_steps} steps ({env.max_episode_steps * env.step_dt:.4g} s)"
    ]
    sizes = {name: f"{term.dim}" for name, term in env.actions.items()}
    lines += _table("Actions", sizes, tables.get("actions", {name: {} for name in sizes}))
    if config.action_delay_steps[1]:
        low, high = config.action_delay_steps
        lines.append(f"    delayed by {low} to {high} control steps")
    for group, dim in env.observation_dims.items():
        sizes = {name: "" for name in env.task.observations[group]}
        lines += _table(f"Observations: {group} ({dim})", sizes, tables["observations"][group])
    for group, (height, width, _) in env.image_shapes.items():
        lines.append(
            f"  Observations: {group} ({width} × {height} pixels, {config.cameras[group]['camera']})"
        )
    for section in ("rewards", "terminations", "commands", "events", "curriculum"):
        names = {name: "" for name in getattr(env.task, section)}
        if names:
            lines += _table(section.capitalize(), names, tables[section])
    return "\n".join(lines)


def _table(title: str, rows: dict[str, str], settings: Any) -> list[str]:
    lines = [f"  {title}"]
    for name, size in rows.items():
        values = settings[name]
        numbers = "off" if values is None else ", ".join(f"{k} {_short(v)}" for k, v in values.items())
        lines.append(f"    {name:<36} {size:>3} {numbers}".rstrip())
    return lines


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).replace(" ", "")
