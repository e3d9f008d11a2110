"""Proximal Policy Optimization (Schulman et al. 2017, arXiv:1707.06347)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rl_platform import chosen, distributed
from rl_platform.buffers import RolloutBuffer, generalized_advantages
from rl_platform.errors import NonFiniteError, UserError
from rl_platform.models.actor_critic import ActorCritic, ActorCriticConfig, Policy
from rl_platform.models.backprop import (
    Adam,
    MLPPass,
    ParameterVector,
    Workspace,
    bfloat16_is_fast,
)
from rl_platform.models.distributions import Gaussian
from rl_platform.models.losses import SURROGATES, PolicyLoss, compiled, value_loss
from rl_platform.models.normalize import ReturnScale
from rl_platform.recorded import CudaGraph, Recorded, Work
from rl_platform.tensor_math import Moments, batch_moments
from rl_platform.threads import ThreadsOfTwo

LR_SCHEDULES = ("fixed", "linear", "adaptive")
ADVANTAGE_NORMALIZATION = ("batch", "minibatch", "none")
LOSSES = ("surrogate", "value", "entropy", "bounds", "kl", "clip_fraction")


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
        recompute_advantage: at the start of each pass but the first, value and advantage by the critic
            as it is by then (Andrychowicz et al. 2021, arXiv:2006.05990, section 3.5).
        normalize_value: the critic learns returns shifted and scaled by their running moments.
        normalize_reward: divide rewards by the running deviation of the discounted return.
        reward_scale: multiply rewards by this (before normalising).
        bootstrap_truncated: add γ V(final_obs) where an episode ran out of time; else treat that as
            the end of the world.
        bounds_loss_coef: weight of the penalty Σ_d max(0, |μ| - 1.1)².
        noise_correlation: of the exploration noise from one step to the next, ε' = ρ ε + √(1 - ρ²) ξ: above 0
            actions are tried for several steps in a row (Hollenstein et al. 2024, arXiv:2312.11091). Each
            step's noise has the same distribution, and the loss takes it for independent.
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
    recompute_advantage: bool
    normalize_value: bool
    normalize_reward: bool
    reward_scale: float
    bootstrap_truncated: bool
    bounds_loss_coef: float
    noise_correlation: float
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
        if not 0.0 <= self.noise_correlation < 1.0:
            yield "noise_correlation", f"must be in [0, 1), got {self.noise_correlation}"
        if self.max_learning_rate < self.min_learning_rate:
            yield "max_learning_rate", f"must be at least min_learning_rate, got {self.max_learning_rate}"


Config = PPOConfig  # by this name the registry finds the schema of algo=ppo


def adapt_learning_rate_(lr: Tensor, kl: Tensor, cfg: PPOConfig) -> None:
    """Slower where the policy moved too far, faster where it hardly moved; in place, without a sync.

    Decided in every minibatch, as RSL-RL does: settings published for Isaac Lab carry over.
    """
    direction = (kl < 0.5 * cfg.target_kl).float() - (kl > 2.0 * cfg.target_kl).float()
    lr.mul_(1.5**direction).clamp_(cfg.min_learning_rate, cfg.max_learning_rate)


class Rollout(NamedTuple):
    """What an update reads.

    Attributes:
        columns: (samples, d) each, or (samples,), in rollout order.
        shared: what the distribution has once for all samples.
        reward: (rollout_steps, num_envs), scaled.
        observed: moments of the observations of each group.
        explained_variance: 1 - Var(R - V) / Var(R), ().
    """

    columns: dict[str, Tensor]
    shared: dict[str, Tensor]
    reward: Tensor
    observed: dict[str, Moments]
    explained_variance: Tensor


class PPO:
    """Collects rollouts and learns from them; see `Algorithm` for what each method promises.

    Gradients are written out, in `models.losses` and `models.backprop`: on a CPU that makes the update
    twice as fast as autograd does. There the critic learns on a thread of its own beside the actor, which
    shares out two processors better than splitting each small matrix does, with the same results as one.

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
        compile_losses: bool,
        num_threads: int,
    ) -> None:
        """Allocate all memory. Raises UserError if the minibatches do not divide a rollout.

        `num_envs`: of this rank. `num_threads`: processors that `update` may use; acting uses PyTorch's
        present number of threads.
        """
        self.envs = distributed.shard(num_envs)
        self.samples = cfg.rollout_steps * num_envs
        of_all_ranks = cfg.rollout_steps * self.envs.total
        if of_all_ranks % cfg.num_minibatches:
            raise UserError(
                f"algo.num_minibatches={cfg.num_minibatches} does not divide the {of_all_ranks} samples "
                f"of a rollout (algo.rollout_steps={cfg.rollout_steps} x env.num_envs={self.envs.total})"
            )
        self.minibatch = of_all_ranks // cfg.num_minibatches
        self.row_of_sample: Tensor | None = None
        if self.envs.size < self.envs.total:
            # where this rank has each of all ranks' samples; -1: another one has it
            rows_of = torch.full((cfg.rollout_steps, self.envs.total), -1, device=device)
            mine = torch.arange(self.samples, device=device).view(-1, num_envs)
            rows_of[:, self.envs.start : self.envs.start + num_envs] = mine
            self.row_of_sample = rows_of.view(-1)
        self.cfg = cfg
        self.rollout_steps = cfg.rollout_steps
        self.device = device
        self.model = model.to(device)
        self._policy = Policy(model)
        self.dtype = torch.bfloat16 if mixed_precision and bfloat16_is_fast(device) else torch.float32
        self.vector = ParameterVector(model, self.dtype, len(LOSSES))
        self.threads = ThreadsOfTwo(num_threads if device.type == "cpu" else 1)
        rows = max(min(self.minibatch, self.samples), num_envs)
        self.actor = MLPPass(model.actor, self.vector, Workspace(rows, device))
        self.critic = MLPPass(model.critic, self.vector, Workspace(rows, device))
        surrogate = SURROGATES[type(model.distribution)]
        vary = self.envs.size < self.envs.total  # the rows of a minibatch that are on this rank
        self.surrogate = compiled(surrogate, device, vary) if compile_losses else surrogate
        self.value_loss = compiled(value_loss, device, vary) if compile_losses else value_loss
        self.learning_rate = torch.tensor(cfg.learning_rate, device=device)
        self.optimizer = Adam(self.vector.data, self.vector.grad, self.learning_rate)
        # of the first minibatch of an update, and of the others
        self.minibatch_steps: list[Work] = [partial(self._minibatch_step, moved) for moved in (False, True)]
        if device.type == "cuda" and not vary:
            graph = partial(CudaGraph, device)
            self.minibatch_steps = [Recorded(step, graph, "a minibatch") for step in self.minibatch_steps]
        self.generator = torch.Generator(device).manual_seed(seed)
        dims = {g: observation_dims[g] for g in model.groups}
        group = model.critic_group if cfg.bootstrap_truncated and chosen.runs_behind(device) else None
        self.buffer = RolloutBuffer(
            cfg.rollout_steps, num_envs, dims, model.action_dim, model.distribution.outputs, device, group
        )
        self.return_scale = ReturnScale(num_envs, cfg.gamma, device) if cfg.normalize_reward else None
        self.last_noise: Tensor | None = None
        if cfg.noise_correlation:
            if not isinstance(model.distribution, Gaussian):
                raise UserError(
                    "algo.noise_correlation is for continuous actions; write algo.noise_correlation=0"
                )
            outputs = torch.zeros(num_envs, model.distribution.outputs, device=device)
            self.last_noise = model.distribution.noise(outputs, self.generator, self.envs)

    @torch.no_grad()
    def act(self, obs: dict[str, Tensor]) -> Tensor:
        """Sample an action (num_envs, action_dim)."""
        out = self.actor.forward(self.model.normalize(obs, "policy").to(self.dtype))
        action = self.model.distribution.sample(out, self._noise(out))
        self.buffer.add_action(obs, action, out)
        return action

    def _noise(self, out: Tensor) -> Tensor:
        """Draw the noise of a step's actions; a first-order autoregression where that is configured."""
        fresh = self.model.distribution.noise(out, self.generator, self.envs)
        if self.last_noise is None:
            return fresh
        rho = self.cfg.noise_correlation
        return self.last_noise.mul_(rho).add_(fresh, alpha=math.sqrt(1.0 - rho * rho))

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
        everyones = None if final_obs is None else final_obs[self.model.critic_group]
        if self.buffer.next_obs is not None and everyones is not None:
            self.buffer.add_next_obs(everyones)
            return
        env_ids = (truncated & ~terminated).nonzero().squeeze(-1)
        if env_ids.numel() or self.buffer.next_obs is not None:
            if everyones is None:
                raise ValueError("episodes were truncated but the environment gave no final_obs")
            self.buffer.add_final_obs(env_ids, everyones[env_ids])

    @torch.no_grad()
    def policy(self, obs: dict[str, Tensor]) -> Tensor:
        """Return the likeliest action (n, action_dim)."""
        return self._policy(obs["policy"])

    def beginning(self) -> str:
        """See `Algorithm`."""
        return ""

    def policy_module(self) -> nn.Module:
        """See `Algorithm`."""
        return self._policy

    def set_progress(self, fraction: float) -> None:
        """Lower the linear schedule's rate to (1 - fraction) of its start."""
        if self.cfg.lr_schedule == "linear":
            self.learning_rate.fill_(self.cfg.learning_rate * max(0.0, 1.0 - fraction))

    @torch.inference_mode()
    def update(self, obs: dict[str, Tensor]) -> dict[str, float]:
        """Learn from the rollout. Raises NonFiniteError before any weight changes if an input is bad."""
        if not self.buffer.full:
            raise RuntimeError(f"update() after {self.buffer.step} of {self.rollout_steps} steps")
        with self.threads:
            return self._learn(obs)

    def _learn(self, obs: dict[str, Tensor]) -> dict[str, float]:
        rollout = self._prepare(obs)
        batch, shared = rollout.columns, rollout.shared
        policy = self.model.distribution.metrics(batch | shared)
        losses: list[Tensor] = []
        for epoch in range(self.cfg.update_epochs):
            if epoch and self.cfg.recompute_advantage:
                batch |= self._look_again(rollout, obs)
            order, sizes = self._shuffle()
            # one gather an epoch: each minibatch is then a slice of consecutive rows
            columns = [column.index_select(0, order) for column in batch.values()]
            for rows in zip(*(x.split(sizes) for x in columns), strict=True):
                minibatch = dict(zip(batch, rows, strict=True)) | shared
                self.optimizer.begin_step()
                losses += self.minibatch_steps[bool(losses)](minibatch)
        self.model.update_normalizers(rollout.observed)
        self.buffer.clear()
        means = torch.stack(losses).mean(0)
        told = {f"Loss/{name}": mean for name, mean in zip((*LOSSES, "grad_norm"), means, strict=True)}
        told["Loss/explained_variance"] = rollout.explained_variance
        told["Loss/learning_rate"] = self.learning_rate
        told |= policy
        # all at once: on a GPU it is waited for
        metrics = dict(zip(told, torch.stack([x.double() for x in told.values()]).tolist(), strict=True))
        bad = [name.removeprefix("Loss/") for name, value in metrics.items() if not math.isfinite(value)]
        if bad:
            raise NonFiniteError(f"PPO: {', '.join(bad)} became NaN or infinite in this update")
        return metrics

    def _shuffle(self) -> tuple[Tensor, list[int]]:
        """A random order of this rank's samples, and how many of them each minibatch has.

        It is one order of all ranks' samples, the same as if one rank had them all.
        """
        parts = self.cfg.num_minibatches
        order = torch.randperm(self.minibatch * parts, generator=self.generator, device=self.device)
        if self.row_of_sample is None:
            return order, [self.minibatch] * parts
        row = self.row_of_sample[order]
        mine = row >= 0
        return row[mine], mine.view(parts, -1).sum(1).tolist()

    def state_dict(self, whole: bool = True) -> dict[str, Any]:
        """Everything that an exact continuation between two rollouts needs."""
        scale = self.return_scale.state_dict() if self.return_scale else {}
        envs: dict[str, Tensor] = {name: scale.pop(name) for name in ("discounted", "done") if name in scale}
        if self.last_noise is not None:
            envs["noise"] = self.last_noise.clone()
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "learning_rate": self.learning_rate.clone(),
            "generator": self.generator.get_state(),
            "envs": envs,
            "return_scale": scale,
        }

    def load_model(self, state: dict[str, Any]) -> None:
        """Take over networks and normalisers."""
        self.model.load_state_dict(state)
        self.vector.refresh()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`; a rollout begun before is dropped."""
        self.load_model(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.learning_rate.copy_(state["learning_rate"])
        self.generator.set_state(state["generator"].cpu())
        envs = dict(state.get("envs", {}))
        noise = envs.pop("noise", None)
        if self.last_noise is not None and noise is not None:
            self.last_noise.copy_(noise)
        if self.return_scale:
            # one dict in checkpoints of 2026-11
            self.return_scale.load_state_dict(state["return_scale"] | envs)
        self.buffer.clear()

    def _prepare(self, obs: dict[str, Tensor]) -> Rollout:
        """Bring the rollout into columns, with their targets; `obs`: what followed the last step."""
        cfg, buffer, model = self.cfg, self.buffer, self.model
        observed = {f"observation group {g}": x for g, x in buffer.obs.items()}
        self._check_finite(observed | {"reward": buffer.reward})
        inputs = {f"{g}_obs": self._inputs(buffer.obs[g].flatten(0, 1), g) for g in model.groups}
        reward = buffer.reward * cfg.reward_scale
        if self.return_scale:
            self.return_scale.update_and_scale_(reward, buffer.done)
        value, advantage = self._advantages(inputs, reward, obs)
        returns = advantage + value
        action = buffer.action.flatten(0, 1)
        acted, shared = model.distribution.acted(buffer.actor_out.flatten(0, 1), action)
        self._check_finite(
            {"value": value, "advantage": advantage, "return": returns, "log-prob": acted["log_prob"]}
        )
        seen = {
            "advantage": batch_moments(advantage.unsqueeze(-1)),
            "return": batch_moments(returns.unsqueeze(-1)),
        }
        seen |= model.observation_moments({g: x.flatten(0, 1) for g, x in buffer.obs.items()})
        seen = dict(zip(seen, distributed.pool_moments(list(seen.values())), strict=True))
        of_advantage, of_returns = seen.pop("advantage"), seen.pop("return")
        explained = 1.0 - (of_advantage.m2 / of_returns.m2.clamp_min(1e-12)).squeeze()
        if model.value_normalizer is not None:
            model.update_value_normalizer(of_returns)
            self.vector.refresh()
        columns = inputs | acted | {"action": action} | self._targets(value, advantage, of_advantage)
        return Rollout(columns, shared, reward, seen, explained)

    def _look_again(self, rollout: Rollout, obs: dict[str, Tensor]) -> dict[str, Tensor]:
        """The rollout's targets by the critic as it is now."""
        value, advantage = self._advantages(rollout.columns, rollout.reward, obs)
        (of_advantage,) = distributed.pool_moments([batch_moments(advantage.unsqueeze(-1))])
        return self._targets(value, advantage, of_advantage)

    def _advantages(
        self, inputs: dict[str, Tensor], reward: Tensor, obs: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """V(s) and the advantages, (samples,) each, in units of the reward (rollout_steps, num_envs)."""
        cfg, buffer = self.cfg, self.buffer
        value, next_value = self._values(inputs[f"{self.model.critic_group}_obs"], obs)
        terminated = buffer.terminated if cfg.bootstrap_truncated else buffer.done
        advantage = generalized_advantages(
            reward, value, next_value, terminated, buffer.done, cfg.gamma, cfg.gae_lambda
        )
        return value.flatten(), advantage.flatten()

    def _targets(self, value: Tensor, advantage: Tensor, of_advantage: Moments) -> dict[str, Tensor]:
        """What the losses compare with, normalised as configured; (samples,) each."""
        returns = advantage + value
        if self.cfg.normalize_advantage == "batch":
            advantage = distributed.standardize(advantage, of_advantage)
        if self.model.value_normalizer is not None:
            value, returns = self.model.value_normalizer(value), self.model.value_normalizer(returns)
        return {"advantage": advantage, "return": returns, "value": value}

    def _inputs(self, obs: Tensor, group: str) -> Tensor:
        """Observations (n, d) as the passes read them."""
        return self.model.normalize({group: obs}, group).to(self.dtype)

    def _values(self, inputs: Tensor, obs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """V(s_t) and V(s'_t), (rollout_steps, num_envs) each, in units of the reward."""
        buffer, group = self.buffer, self.model.critic_group
        if buffer.next_obs is None:
            last = torch.cat([obs[group], *buffer.final_obs])
        else:
            last = buffer.next_obs.flatten(0, 1)
        last = self._inputs(last, group)
        rows = [*inputs.split(self.critic.rows), *last.split(self.critic.rows)]
        value = torch.cat([self.critic.forward(x).squeeze(-1).clone() for x in rows])
        if self.model.value_normalizer is not None:
            value = self.model.value_normalizer.inverse(value)
        shape = buffer.reward.shape
        if buffer.next_obs is not None:
            return value[: self.samples].view(shape), value[self.samples :].view(shape)
        split = self.samples + buffer.num_envs
        # the state a step led to is the next row, but where an episode ended the true last observation
        next_value = value[buffer.num_envs : split].clone()
        if buffer.final_rows:
            next_value[torch.cat(buffer.final_rows)] = value[split:]
        return value[: self.samples].view(shape), next_value.view(shape)

    def _check_finite(self, columns: dict[str, Tensor]) -> None:
        """Raise NonFiniteError that names each bad column (samples in rollout order), step, environment."""
        # a sum is one pass without a temporary: NaN and infinity survive it; all are looked at together
        sums = torch.stack([x.sum() for x in columns.values()]).tolist()
        bad = []
        for (name, x), total in zip(columns.items(), sums, strict=True):
            if not math.isfinite(total) and not torch.isfinite(x).all():
                row = int((~torch.isfinite(x.reshape(self.samples, -1))).any(-1).nonzero()[0])
                step, env = divmod(row, self.buffer.num_envs)
                bad.append(f"{name} (first at rollout step {step}, environment {self.envs.start + env})")
        if bad:
            raise NonFiniteError(f"PPO: NaN or infinity in {', '.join(bad)}; no weight was changed")

    def _minibatch_step(self, moved: bool, batch: dict[str, Tensor]) -> list[Tensor]:
        """One step of the optimiser on some rows; returns their mean losses, as `LOSSES` has them, and ‖∇‖.

        `moved` says whether the policy differs from the one that acted: if not, its KL says nothing.
        """
        cfg = self.cfg
        if cfg.normalize_advantage == "minibatch":
            batch["advantage"] = distributed.standardize(batch["advantage"])
        losses = self._losses(batch)
        grad = self.vector.grad
        if cfg.lr_schedule == "adaptive" and moved:
            adapt_learning_rate_(self.learning_rate, losses["kl"], cfg)
        grad_norm = torch.linalg.vector_norm(grad)
        grad.mul_((cfg.max_grad_norm / (grad_norm + 1e-6)).clamp_max(1.0))
        self.optimizer.step()
        self.model.distribution.clamp_()
        self.vector.refresh()
        return [torch.stack([*losses.values(), grad_norm])]

    def _losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Mean losses of a minibatch, over all ranks; their gradients are in the vector.

        Σ_r n_r/n · mean_r: the ranks have different numbers of a minibatch's samples. One message has it all.
        """
        rows = len(batch["advantage"])
        losses = self._passes(batch) if rows else [self.learning_rate.new_zeros(())] * len(LOSSES)
        self.vector.gather_gradients()
        if self.envs.size < self.envs.total:
            torch.stack(losses, out=self.vector.extra)
            self.vector.message.mul_(rows / self.minibatch)
            distributed.sum_reduce_(self.vector.message)
            losses = list(self.vector.extra.clone())
        return dict(zip(LOSSES, losses, strict=True))

    def _passes(self, batch: dict[str, Tensor]) -> list[Tensor]:
        """Write the gradients of this rank's rows; return their mean losses, as `LOSSES` names them."""
        critic_loss = self.threads.beside(self._critic_pass, batch)
        loss = self._actor_pass(batch)
        return [loss.surrogate, critic_loss(), loss.entropy, loss.bounds, loss.kl, loss.clip_fraction]

    def _actor_pass(self, batch: dict[str, Tensor]) -> PolicyLoss:
        """Write the actor's gradients; return its losses."""
        cfg, distribution = self.cfg, self.model.distribution
        out = self.actor.forward(batch["policy_obs"])
        loss = self.surrogate(
            *distribution.read(out), batch, cfg.clip_coef, cfg.ent_coef, cfg.bounds_loss_coef
        )
        parameter = distribution.parameter
        slot = None if parameter is None else self.vector.master(parameter)[1]
        self.actor.backward(distribution.backward(out, loss.grads, slot))
        return loss

    def _critic_pass(self, batch: dict[str, Tensor]) -> Tensor:
        """Write the critic's gradients; return its loss."""
        cfg = self.cfg
        value = self.critic.forward(batch[f"{self.model.critic_group}_obs"]).squeeze(-1)
        loss, grad = self.value_loss(
            value, batch["value"], batch["return"], cfg.clip_coef if cfg.clip_vloss else None
        )
        self.critic.backward(grad.mul_(cfg.vf_coef).unsqueeze(-1))
        return loss


def make_ppo(
    agent_cfg: ActorCriticConfig,
    algo_cfg: PPOConfig,
    observation_dims: dict[str, int],
    action_dim: int,
    num_envs: int,
    device: torch.device | str,
    seed: int,
    num_threads: int = 1,
    num_choices: int | None = None,
) -> PPO:
    """Build PPO for an environment with these sizes; `seed` fixes the weights and all sampling.

    With `num_choices` the action is one column: a whole number below it.
    """
    model = ActorCritic(agent_cfg, observation_dims, action_dim, algo_cfg.normalize_value, seed, num_choices)
    return PPO(
        model, algo_cfg, observation_dims, num_envs, torch.device(device), seed,
        agent_cfg.mixed_precision, agent_cfg.compile, num_threads,
    )  # fmt: skip
