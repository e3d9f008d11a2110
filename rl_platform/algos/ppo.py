"""Proximal Policy Optimization (Schulman et al. 2017, arXiv:1707.06347)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rl_platform import distributed
from rl_platform.buffers import RolloutBuffer
from rl_platform.errors import NonFiniteError, UserError
from rl_platform.models.actor_critic import ActorCritic, ActorCriticConfig
from rl_platform.models.distributions import (
    gaussian_entropy,
    gaussian_kl,
    gaussian_log_prob,
    gaussian_sample,
)
from rl_platform.models.normalize import Normalizer

LR_SCHEDULES = ("fixed", "linear", "adaptive")
ADVANTAGE_NORMALIZATION = ("batch", "minibatch", "none")
SOFT_BOUND = 1.1
LOSSES = ("surrogate", "value", "entropy", "bounds", "kl", "clip_fraction", "grad_norm")


@dataclass
class PPOConfig:
    """The numbers of PPO.

    Attributes:
        name: of the algorithm.
        rollout_steps: steps of each environment between updates.
        update_epochs: passes over a rollout.
        num_minibatches: parts of a rollout, each one optimiser step; must divide its samples.
        learning_rate: Adam's; with `adaptive`, only the first.
        lr_schedule: `fixed`; `linear` (to zero at the end of training); `adaptive` (÷ 1.5 in a
            minibatch whose KL from the acting policy exceeds 2 `target_kl`, × 1.5 below half of it).
        target_kl: nats, of the adaptive schedule.
        min_learning_rate: lower bound of the adaptive schedule.
        max_learning_rate: upper bound of the adaptive schedule.
        gamma: discount a step.
        gae_lambda: λ of the generalized advantage estimate.
        clip_coef: ε of the clipped objective.
        clip_vloss: clip the value loss too, by the same ε.
        ent_coef: weight of the entropy bonus.
        vf_coef: weight of the value loss ½ (V - R)².
        max_grad_norm: of all parameters together.
        normalize_advantage: over the whole `batch`, each `minibatch`, or `none`.
        normalize_value: the critic learns returns shifted and scaled by their running moments.
        normalize_reward: divide rewards by the running deviation of the discounted return.
        reward_scale: multiply rewards by this (before normalising).
        bootstrap_truncated: add γ V(final_obs) where an episode ran out of time; else treat that as
            the end of the world.
        bounds_loss_coef: weight of the penalty Σ_d max(0, |μ| - 1.1)².
        random_episode_start: begin training at random points of the episode, so that time-outs do
            not come all at once.
    """

    name: str
    rollout_steps: int
    update_epochs: int
    num_minibatches: int
    learning_rate: float
    lr_schedule: str
    target_kl: float
    min_learning_rate: float
    max_learning_rate: float
    gamma: float
    gae_lambda: float
    clip_coef: float
    clip_vloss: bool
    ent_coef: float
    vf_coef: float
    max_grad_norm: float
    normalize_advantage: str
    normalize_value: bool
    normalize_reward: bool
    reward_scale: float
    bootstrap_truncated: bool
    bounds_loss_coef: float
    random_episode_start: bool

    def check(self) -> Iterator[tuple[str, str]]:
        """Yield (key, message) for every value out of range."""
        for key in ("rollout_steps", "update_epochs", "num_minibatches"):
            if getattr(self, key) < 1:
                yield key, f"must be at least 1, got {getattr(self, key)}"
        for key in ("gamma", "gae_lambda"):
            if not 0.0 <= getattr(self, key) <= 1.0:
                yield key, f"must be in [0, 1], got {getattr(self, key)}"
        for key in ("learning_rate", "target_kl", "clip_coef", "max_grad_norm", "reward_scale"):
            if getattr(self, key) <= 0.0:
                yield key, f"must be above 0, got {getattr(self, key)}"
        for key in ("min_learning_rate", "ent_coef", "vf_coef", "bounds_loss_coef"):
            if getattr(self, key) < 0.0:
                yield key, f"must be at least 0, got {getattr(self, key)}"
        for key, names in (
            ("lr_schedule", LR_SCHEDULES),
            ("normalize_advantage", ADVANTAGE_NORMALIZATION),
        ):
            if getattr(self, key) not in names:
                yield key, f"must be one of {', '.join(names)}, got {getattr(self, key)}"
        if self.max_learning_rate < self.min_learning_rate:
            yield "max_learning_rate", f"must be at least min_learning_rate, got {self.max_learning_rate}"


Config = PPOConfig  # by this name the registry finds the schema of algo=ppo


def generalized_advantages(
    reward: Tensor,
    value: Tensor,
    next_value: Tensor,
    terminated: Tensor,
    done: Tensor,
    gamma: float,
    gae_lambda: float,
) -> Tensor:
    """Generalized advantage estimates (Schulman et al. 2016, arXiv:1506.02438, eq. 16).

    δ_t = r_t + γ (1 - terminated_t) V(s'_t) - V(s_t);  A_t = δ_t + γλ (1 - done_t) A_{t+1}.
    All tensors are (rollout_steps, num_envs). `next_value` is the value of the state the step really
    led to, also where the environment was then reset.
    """
    delta = reward + gamma * next_value * ~terminated - value
    carry = gamma * gae_lambda * ~done
    advantage = torch.empty_like(delta)
    running = torch.zeros_like(delta[0])
    for t in reversed(range(delta.shape[0])):
        running = torch.addcmul(delta[t], carry[t], running, out=advantage[t])
    return advantage


def adapt_learning_rate(lr: Tensor, kl: Tensor, cfg: PPOConfig) -> Tensor:
    """Slower where the policy moved too far, faster where it hardly moved; without reading `kl`.

    Decided in every minibatch, as RSL-RL does: settings published for Isaac Lab carry over.
    """
    slower = (lr / 1.5).clamp_min(cfg.min_learning_rate)
    faster = (lr * 1.5).clamp_max(cfg.max_learning_rate)
    # a KL of exactly zero is the first minibatch of an update: nothing has moved yet
    hardly = (kl < 0.5 * cfg.target_kl) & (kl > 0.0)
    return torch.where(kl > 2.0 * cfg.target_kl, slower, torch.where(hardly, faster, lr))


def normalized(x: Tensor) -> Tensor:
    """Zero mean, unit deviation over all samples of all ranks."""
    mean = distributed.mean_reduce_(x.mean())
    var = distributed.mean_reduce_((x - mean).square().mean())
    return (x - mean) / (var.sqrt() + 1e-8)


class PPO:
    """Collects rollouts and learns from them; see `Algorithm` for what each method promises.

    The observation normalisers change only at the end of an update, so that the log-probabilities of
    a rollout belong to one policy. All randomness comes from one generator that is part of the state.
    """

    def __init__(
        self,
        model: ActorCritic,
        cfg: PPOConfig,
        observation_dims: dict[str, int],
        num_envs: int,
        device: torch.device,
        seed: int,
        mixed_precision: bool,
    ) -> None:
        """Allocate the rollout and the optimiser. Raises UserError if minibatches do not divide it."""
        self.samples = cfg.rollout_steps * num_envs
        if self.samples % cfg.num_minibatches:
            raise UserError(
                f"algo.num_minibatches={cfg.num_minibatches} does not divide the {self.samples} samples "
                f"of a rollout (algo.rollout_steps={cfg.rollout_steps} x env.num_envs={num_envs})"
            )
        self.cfg = cfg
        self.rollout_steps = cfg.rollout_steps
        self.device = device
        self.mixed_precision = mixed_precision
        self.model = model.to(device)
        self.parameters = list(self.model.parameters())
        self.learning_rate = torch.tensor(cfg.learning_rate, device=device)
        self.optimizer = torch.optim.Adam(self.parameters, lr=self.learning_rate, fused=True)
        self.generator = torch.Generator(device).manual_seed(seed)
        dims = {g: observation_dims[g] for g in self.model.groups}
        self.buffer = RolloutBuffer(cfg.rollout_steps, num_envs, dims, model.action_dim, device)
        self.return_moments = Normalizer(1).to(device) if cfg.normalize_reward else None
        self.discounted_return = torch.zeros(num_envs, device=device)
        self.discounted_done = torch.zeros(num_envs, dtype=torch.bool, device=device)

    @torch.no_grad()
    def act(self, obs: dict[str, Tensor]) -> Tensor:
        """Sample an action (num_envs, action_dim)."""
        with self._autocast():
            mean, std = self.model.distribution(self.model.normalize(obs, "policy"))
        action = gaussian_sample(mean, std, self.generator)
        self.buffer.add_action(obs, action, mean, std)
        return action

    def observe(
        self,
        reward: Tensor,
        terminated: Tensor,
        truncated: Tensor,
        final_obs: dict[str, Tensor] | None,
    ) -> None:
        """Take in the outcome of the last `act`."""
        self.buffer.add_outcome(reward, terminated, truncated)
        if not self.cfg.bootstrap_truncated:
            return
        env_ids = (truncated & ~terminated).nonzero().squeeze(-1)
        if env_ids.numel():
            if final_obs is None:
                raise ValueError("episodes were truncated but the environment gave no final_obs")
            self.buffer.add_final_obs(env_ids, final_obs[self.model.critic_group][env_ids])

    @torch.no_grad()
    def policy(self, obs: dict[str, Tensor]) -> Tensor:
        """Return the mean action (n, action_dim)."""
        return self.model.distribution(self.model.normalize(obs, "policy"))[0]

    def set_progress(self, fraction: float) -> None:
        """Lower the linear schedule's rate to (1 - fraction) of its start."""
        if self.cfg.lr_schedule == "linear":
            self.learning_rate.fill_(self.cfg.learning_rate * max(0.0, 1.0 - fraction))

    def update(self, obs: dict[str, Tensor]) -> dict[str, float]:
        """Learn from the rollout. Raises NonFiniteError before any weight changes if an input is bad."""
        if not self.buffer.full:
            raise RuntimeError(f"update() after {self.buffer.step} of {self.rollout_steps} steps")
        batch, explained_variance = self._prepare(obs)
        totals = torch.zeros(len(LOSSES), device=self.device)
        widths = [column.shape[-1] for column in batch.values()]
        packed = torch.cat(list(batch.values()), dim=-1)
        for _ in range(self.cfg.update_epochs):
            order = torch.randperm(self.samples, generator=self.generator, device=self.device)
            # one gather an epoch: each minibatch is then a slice of consecutive rows
            for rows in packed[order].chunk(self.cfg.num_minibatches):
                minibatch = dict(zip(batch, rows.split(widths, dim=-1), strict=True))
                totals += self._minibatch_step(minibatch)
        self.model.update_normalizers({g: x.flatten(0, 1) for g, x in self.buffer.obs.items()})
        std = self.buffer.std.mean().item()
        self.buffer.clear()
        steps = self.cfg.update_epochs * self.cfg.num_minibatches
        losses = dict(zip(LOSSES, (totals / steps).tolist(), strict=True))
        bad = [name for name, value in losses.items() if not math.isfinite(value)]
        if bad:
            raise NonFiniteError(f"PPO: {', '.join(bad)} became NaN or infinite in this update")
        losses["explained_variance"] = explained_variance
        losses["learning_rate"] = self.learning_rate.item()
        return {f"Loss/{name}": value for name, value in losses.items()} | {"Policy/mean_noise_std": std}

    def state_dict(self) -> dict[str, Any]:
        """Everything that an exact continuation between two rollouts needs."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "learning_rate": self.learning_rate.clone(),
            "generator": self.generator.get_state(),
            "return_moments": self.return_moments.state_dict() if self.return_moments else {},
            "discounted_return": self.discounted_return.clone(),
            "discounted_done": self.discounted_done.clone(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`; a rollout begun before is dropped."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.learning_rate.copy_(state["learning_rate"])
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate
        self.generator.set_state(state["generator"].cpu())
        if self.return_moments:
            self.return_moments.load_state_dict(state["return_moments"])
        self.discounted_return.copy_(state["discounted_return"])
        self.discounted_done.copy_(state["discounted_done"])
        self.buffer.clear()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed_precision)

    @torch.no_grad()
    def _prepare(self, obs: dict[str, Tensor]) -> tuple[dict[str, Tensor], float]:
        """The rollout as columns (samples, d), with targets; and the critic's explained variance."""
        buffer, model = self.buffer, self.model
        policy_obs = model.normalize(buffer.obs, "policy").flatten(0, 1)
        value, next_value = self._values(obs)
        reward = self._scaled_reward()
        terminated = buffer.terminated if self.cfg.bootstrap_truncated else buffer.done
        advantage = generalized_advantages(
            reward, value, next_value, terminated, buffer.done, self.cfg.gamma, self.cfg.gae_lambda
        )
        returns = advantage + value
        explained = 1.0 - advantage.var() / returns.var().clamp_min(1e-12)
        if self.cfg.normalize_advantage == "batch":
            advantage = normalized(advantage)
        value, returns = value.reshape(-1, 1), returns.reshape(-1, 1)
        if model.value_normalizer is not None:
            model.update_value_normalizer(returns)
            value, returns = model.value_normalizer(value), model.value_normalizer(returns)
        mean, std, action = (x.flatten(0, 1) for x in (buffer.mean, buffer.std, buffer.action))
        batch = {
            "policy_obs": policy_obs,
            "action": action,
            "mean": mean,
            "std": std,
            "log_prob": gaussian_log_prob(action, mean, std).unsqueeze(-1),
            "advantage": advantage.reshape(-1, 1),
            "return": returns,
            "value": value,
        }
        if model.critic_group == "critic":
            batch["critic_obs"] = model.normalize(buffer.obs, "critic").flatten(0, 1)
        self._check_finite(batch | {"reward": reward.reshape(-1, 1)})
        return batch, explained.item()

    def _values(self, obs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """V(s_t) and V(s'_t), (rollout_steps, num_envs) each, in units of the reward."""
        buffer, model = self.buffer, self.model
        group = model.critic_group
        rows = [buffer.obs[group].flatten(0, 1), obs[group], *buffer.final_obs]
        with self._autocast():
            value = model.value(model.normalize({group: torch.cat(rows)}, group))
        if model.value_normalizer is not None:
            value = model.value_normalizer.inverse(value)
        split = self.samples + buffer.num_envs
        # the state a step led to is the next row, but where an episode ended the true last observation
        next_value = value[buffer.num_envs : split].clone()
        if buffer.final_rows:
            next_value[torch.cat(buffer.final_rows)] = value[split:]
        shape = buffer.reward.shape
        return value[: self.samples].view(shape), next_value.view(shape)

    def _scaled_reward(self) -> Tensor:
        """The rollout's rewards as learned from.

        Normalisation divides by the running deviation of the discounted return, which grows with
        every step, as in Gymnasium's NormalizeReward: G_t = γ (1 - done_{t-1}) G_{t-1} + r_t.
        """
        reward = self.buffer.reward * self.cfg.reward_scale
        if self.return_moments is None:
            return reward
        for t in range(self.rollout_steps):
            self.discounted_return *= self.cfg.gamma * ~self.discounted_done
            self.discounted_return += reward[t]
            self.discounted_done.copy_(self.buffer.done[t])
            self.return_moments.update(self.discounted_return.unsqueeze(-1))
            reward[t] /= self.return_moments.scale
        return reward

    def _check_finite(self, columns: dict[str, Tensor]) -> None:
        """Raise NonFiniteError that names each bad column, its step and environment."""
        bad = []
        for name, x in columns.items():
            # a sum is one pass without a temporary: NaN and infinity survive it
            if not math.isfinite(x.sum().item()) and not torch.isfinite(x).all():
                row = int((~torch.isfinite(x)).any(-1).nonzero()[0])
                step, env = divmod(row, self.buffer.num_envs)
                bad.append(f"{name} (first at rollout step {step}, environment {env})")
        if bad:
            raise NonFiniteError(f"PPO: NaN or infinity in {', '.join(bad)}; no weight was changed")

    def _minibatch_step(self, batch: dict[str, Tensor]) -> Tensor:
        """One optimiser step; returns the `LOSSES`."""
        cfg, model = self.cfg, self.model
        with self._autocast():
            mean, std = model.distribution(batch["policy_obs"])
            value = model.value(batch.get("critic_obs", batch["policy_obs"]))
        log_prob = gaussian_log_prob(batch["action"], mean, std)
        advantage = batch["advantage"].squeeze(-1)
        if cfg.normalize_advantage == "minibatch":
            advantage = normalized(advantage)
        ratio = torch.exp(log_prob - batch["log_prob"].squeeze(-1))
        clipped = ratio.clamp(1.0 - cfg.clip_coef, 1.0 + cfg.clip_coef)
        surrogate = -torch.minimum(ratio * advantage, clipped * advantage).mean()
        value_loss = self._value_loss(value, batch["value"].squeeze(-1), batch["return"].squeeze(-1))
        entropy = gaussian_entropy(std).mean()
        bounds = (mean.abs() - SOFT_BOUND).clamp_min(0.0).square().sum(-1).mean()
        loss = surrogate + cfg.vf_coef * value_loss - cfg.ent_coef * entropy + cfg.bounds_loss_coef * bounds
        self.optimizer.zero_grad()
        loss.backward()
        for p in self.parameters:
            if p.grad is not None:
                distributed.mean_reduce_(p.grad)
        with torch.no_grad():
            kl = distributed.mean_reduce_(gaussian_kl(batch["mean"], batch["std"], mean, std).mean())
            if cfg.lr_schedule == "adaptive":
                self.learning_rate.copy_(adapt_learning_rate(self.learning_rate, kl, cfg))
            clip_fraction = ((ratio - 1.0).abs() > cfg.clip_coef).float().mean()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, cfg.max_grad_norm)
        self.optimizer.step()
        model.clamp_std()
        return torch.stack((surrogate, value_loss, entropy, bounds, kl, clip_fraction, norm)).detach()

    def _value_loss(self, value: Tensor, old_value: Tensor, returns: Tensor) -> Tensor:
        """½ (V - R)², where clipped the larger of that and the same for V kept within ε of V_old."""
        loss = (value - returns).square()
        if self.cfg.clip_vloss:
            near = old_value + (value - old_value).clamp(-self.cfg.clip_coef, self.cfg.clip_coef)
            loss = torch.maximum(loss, (near - returns).square())
        return 0.5 * loss.mean()


def make_ppo(
    agent_cfg: ActorCriticConfig,
    algo_cfg: PPOConfig,
    observation_dims: dict[str, int],
    action_dim: int,
    num_envs: int,
    device: torch.device | str,
    seed: int,
) -> PPO:
    """Build PPO for an environment with these sizes; `seed` fixes the weights and all sampling."""
    model = ActorCritic(agent_cfg, observation_dims, action_dim, algo_cfg.normalize_value, seed)
    return PPO(
        model, algo_cfg, observation_dims, num_envs, torch.device(device), seed, agent_cfg.mixed_precision
    )
