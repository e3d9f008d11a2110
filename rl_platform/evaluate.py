"""How good a policy is: fixed seeds, an exact number of episodes, intervals."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rl_platform import seeding
from rl_platform.envs.base import VectorEnv

Policy = Callable[[dict[str, Tensor]], Tensor]
_Z_95 = 1.959963984540054  # 97.5 % quantile of the standard normal distribution


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """Return the 95 % interval of a proportion (Wilson 1927; Brown et al. 2001, eq. 4).

    (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n): unlike p ± z √(p(1-p)/n) it stays within
    [0, 1] and is not empty at p = 0 or 1.
    """
    p, z2 = successes / trials, _Z_95**2
    centre = p + z2 / (2 * trials)
    half = _Z_95 * math.sqrt(p * (1 - p) / trials + z2 / (4 * trials**2))
    scale = 1 + z2 / trials
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def quotas(episodes: int, num_envs: int) -> list[int]:
    """Share `episodes` out over environments as evenly as possible, `(num_envs,)`."""
    each, more = divmod(episodes, num_envs)
    return [each + (i < more) for i in range(num_envs)]


@dataclass
class _Tally:
    """Sums over the episodes that counted, one row an environment."""

    episode_return: Tensor
    length: Tensor
    returns: list[Tensor]
    lengths: list[Tensor]
    successes: list[Tensor | None]
    metrics: list[dict[str, Tensor]]


def evaluate(
    env: VectorEnv,
    policy: Policy,
    episodes: int,
    seed: int,
    check_stop: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Play `episodes` whole episodes from `seed` on and say how they ended.

    Each environment plays a number of episodes that is fixed beforehand: counting whatever ends
    first would favour short episodes. The result depends on (policy, episodes, seed, num_envs), not
    on threads; with `episodes == env.num_envs` every environment's first episode counts. The
    process's random streams are as before afterwards.

    Args:
        env: environments that nobody else uses; they are left mid-episode.
        policy: obs groups → action, deterministic.
        episodes: how many to play; environments without a share idle.
        seed: of the environments.
        check_stop: called every step; may raise to give up.

    Returns:
        success_rate and success_rate_ci95 (Wilson) if the environment says which episodes succeeded,
        success_rate_2cm if the task reports `success_2cm`, return_mean, return_std,
        episode_length_mean (steps), `metrics/<name>` (means at the episodes' ends), episodes, seed,
        num_envs, wall_time_s.

    Raises:
        NonFiniteError, UserError: as `VectorEnv.step` and `VectorEnv.check` do.
    """
    start = time.monotonic()
    with seeding.undisturbed(), torch.no_grad():
        tally = _play(env, policy, quotas(episodes, env.num_envs), seed, check_stop)
    returns, lengths = (torch.cat(parts).double() for parts in (tally.returns, tally.lengths))
    result: dict[str, Any] = _success(tally) | {
        "return_mean": returns.mean().item(),
        "return_std": returns.std(correction=0).item(),
        "episode_length_mean": lengths.mean().item(),
    }
    for name in tally.metrics[0]:
        mean = torch.cat([ended[name] for ended in tally.metrics]).double().mean().item()
        result["success_rate_2cm" if name == "success_2cm" else f"metrics/{name}"] = mean
    return result | {
        "episodes": len(returns),
        "seed": seed,
        "num_envs": env.num_envs,
        "wall_time_s": time.monotonic() - start,
    }


def _success(tally: _Tally) -> dict[str, Any]:
    """The success rate with its interval; nothing if no episode's end said so."""
    if all(told is None for told in tally.successes):
        return {}
    told = zip(tally.successes, tally.lengths, strict=True)
    success = torch.cat([torch.zeros_like(ends) if s is None else s for s, ends in told]).double()
    rate, trials = success.mean().item(), len(success)
    return {"success_rate": rate, "success_rate_ci95": list(wilson_interval(int(success.sum()), trials))}


def _play(
    env: VectorEnv, policy: Policy, shares: list[int], seed: int, check_stop: Callable[[], None]
) -> _Tally:
    left = torch.tensor(shares, device=env.device)
    zeros = torch.zeros(env.num_envs, dtype=torch.float64, device=env.device)
    tally = _Tally(zeros, torch.zeros_like(left), [], [], [], [])
    obs = env.reset(seed)
    while bool((left > 0).any()):
        check_stop()
        obs, reward, terminated, truncated, info = env.step(policy(obs))
        tally.episode_return += reward
        tally.length += 1
        done = terminated | truncated
        ended = (done & (left > 0)).nonzero()[:, 0]
        if len(ended):
            tally.returns.append(tally.episode_return[ended])
            tally.lengths.append(tally.length[ended])
            tally.successes.append(None if info["success"] is None else info["success"][ended])
            tally.metrics.append({name: values[ended] for name, values in info["metrics"].items()})
        tally.episode_return[done] = 0.0
        tally.length[done] = 0
        left -= done.long()
    env.check()
    return tally


def report(result: dict[str, Any]) -> str:
    """Return an evaluation as lines for people."""
    rows = {}
    if "success_rate" in result:
        low, high = result["success_rate_ci95"]
        rows["success rate"] = f"{result['success_rate']:.1%}  (95 % interval {low:.1%} to {high:.1%})"
    if "success_rate_2cm" in result:
        rows["within 2 cm"] = f"{result['success_rate_2cm']:.1%}"
    rows["return"] = f"{result['return_mean']:.3f} ± {result['return_std']:.3f}"
    rows["episode length"] = f"{result['episode_length_mean']:.1f} steps"
    for name, value in result.items():
        if name.startswith("metrics/"):
            rows[name.removeprefix("metrics/")] = f"{value:.4g}"
    rows["episodes"] = f"{result['episodes']}, seed {result['seed']}, {result['wall_time_s']:.1f} s"
    width = max(map(len, rows)) + 2
    return "\n".join(f"{name:<{width}}{value}" for name, value in rows.items())
