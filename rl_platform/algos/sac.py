"""Soft Actor-Critic (Haarnoja et al. 2018, arXiv:1812.05905)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from rl_platform import distributed
from rl_platform.buffers import ReplayBuffer
from rl_platform.errors import NonFiniteError, UserError
from rl_platform.models.backprop import Adam, MLPPass, ParameterVector, Workspace, bfloat16_is_fast
from rl_platform.models.normalize import Normalizer
from rl_platform.models.soft_actor_critic import (
    SoftActorCritic,
    SoftActorCriticConfig,
    SquashedPolicy,
    squashed_log_prob,
)
from rl_platform.recorded import CudaGraph, Recorded, Work
from rl_platform.tensor_math import batch_moments
from rl_platform.threads import ThreadsOfTwo

OF_CRITICS = ("critic", "q")
OF_ACTOR = ("actor", "entropy", "noise_std")


@dataclass
class SACConfig:
    """The numbers of SAC.

    Attributes:
        name: of the algorithm.
        rollout_steps: steps of each environment between updates.
        gradient_steps: optimiser steps of the critics in an update.
        batch_size: transitions of each, over all ranks.
        buffer_size: transitions kept, over all environments and ranks.
        learning_starts: environment steps with uniformly random actions before the first update.
        learning_rate: Adam's, of the actor.
        q_learning_rate: Adam's, of the critics.
        alpha_learning_rate: Adam's, of the temperature's logarithm.
        gamma: discount a step.
        tau: τ of the slow copies, θ̄ ← τ θ + (1 - τ) θ̄.
        policy_frequency: steps of the critics for one of actor and temperature.
        alpha: the temperature α, or `auto`: it is learnt.
        init_alpha: where it starts then.
        target_entropy: nats that it holds the policy's entropy at; None for minus the action's columns.
        reward_scale: multiply rewards by this.
        bootstrap_truncated: add γ V(final_obs) where an episode ran out of time; else treat that as
            the end of the world.
        random_episode_start: begin training at random points of the episode, so that time-outs do
            not come all at once.
        save_replay: whether the transitions are a part of the checkpoints (not of `best.pt`), so that a run
            goes on with the same bits; else it fills its buffer anew.
    """

    name: str
    rollout_steps: int
    gradient_steps: int
    batch_size: int
    buffer_size: int
    learning_starts: int
    learning_rate: float
    q_learning_rate: float
    alpha_learning_rate: float
    gamma: float
    tau: float
    policy_frequency: int
    alpha: float | Literal["auto"]
    init_alpha: float
    target_entropy: float | None
    reward_scale: float
    bootstrap_truncated: bool
    random_episode_start: bool
    save_replay: bool

    def check(self) -> Iterator[tuple[str, str]]:
        """Yield (key, message) for every value out of range."""
        for key in ("rollout_steps", "gradient_steps", "batch_size", "buffer_size", "policy_frequency"):
            if getattr(self, key) < 1:
                yield key, f"must be at least 1, got {getattr(self, key)}"
        for key in ("learning_rate", "q_learning_rate", "alpha_learning_rate", "init_alpha", "reward_scale"):
            if getattr(self, key) <= 0.0:
                yield key, f"must be above 0, got {getattr(self, key)}"
        if not 0.0 <= self.gamma <= 1.0:
            yield "gamma", f"must be in [0, 1], got {self.gamma}"
        if not 0.0 < self.tau <= 1.0:
            yield "tau", f"must be in (0, 1], got {self.tau}"
        if self.learning_starts < 0:
            yield "learning_starts", f"must be at least 0, got {self.learning_starts}"
        if self.alpha != "auto" and self.alpha < 0.0:
            yield "alpha", f"must be auto or at least 0, got {self.alpha}"
        for key in ("batch_size", "learning_starts"):
            if self.buffer_size < getattr(self, key):
                yield "buffer_size", f"must be at least {key}={getattr(self, key)}, got {self.buffer_size}"


Config = SACConfig  # by this name the registry finds the schema of algo=sac


class SAC:
    """Keeps transitions and learns from them; see `Algorithm` for what each method promises.

    Gradients are written out, as PPO's are; on a CPU each critic has a thread of its own. Several ranks learn
    as one would: each draws the same transitions of all environments and computes those of its own. All
    randomness comes from one generator that is part of the state.
    """

    def __init__(
        self,
        model: SoftActorCritic,
        cfg: SACConfig,
        observation_dims: dict[str, int],
        num_envs: int,
        device: torch.device,
        seed: int,
        mixed_precision: bool,
        num_threads: int,
    ) -> None:
        """Allocate all memory. Raises UserError if an environment's share of the replay buffer is no step.

        `num_envs`: of this rank. `num_threads`: processors that `update` may use.
        """
        self.cfg, self.rollout_steps, self.device = cfg, cfg.rollout_steps, device
        self.envs = distributed.shard(num_envs)
        capacity = cfg.buffer_size // self.envs.total
        if capacity < cfg.rollout_steps:
            raise UserError(
                f"algo.buffer_size={cfg.buffer_size} holds less than algo.rollout_steps={cfg.rollout_steps} "
                f"steps of {self.envs.total} environments"
            )
        self.model = model.to(device)
        self._policy = SquashedPolicy(model)
        self.dtype = torch.bfloat16 if mixed_precision and bfloat16_is_fast(device) else torch.float32
        self.threads = ThreadsOfTwo(num_threads if device.type == "cpu" else 1)
        rows = max(cfg.batch_size, num_envs)
        self.of_actor = ParameterVector(model.actor, self.dtype, extra=1 + len(OF_ACTOR))
        self.of_critics = ParameterVector(model.critics, self.dtype, extra=len(OF_CRITICS))
        self.of_targets = ParameterVector(model.targets, self.dtype)
        self.actor = MLPPass(model.actor, self.of_actor, Workspace(rows, device))
        spaces = [Workspace(rows, device) for _ in range(2)]
        self.critics, self.targets = (
            [MLPPass(mlp, vector, space) for mlp, space in zip(mlps, spaces, strict=True)]  # type: ignore[arg-type]
            for mlps, vector in ((model.critics, self.of_critics), (model.targets, self.of_targets))
        )
        adaptive = cfg.alpha == "auto"
        start = cfg.init_alpha if adaptive else float(cfg.alpha)
        self.log_alpha = torch.tensor([math.log(start) if start else -math.inf], device=device)
        self.alpha = self.log_alpha.exp()
        self.target_entropy = -float(model.action_dim) if cfg.target_entropy is None else cfg.target_entropy
        rates = (cfg.learning_rate, cfg.q_learning_rate, cfg.alpha_learning_rate if adaptive else 0.0)
        slots = ((self.of_actor.data, self.of_actor.grad), (self.of_critics.data, self.of_critics.grad))
        self.alpha_grad = torch.zeros_like(self.log_alpha)
        self.optimizers = [
            Adam(data, grad, torch.tensor(rate, device=device))
            for (data, grad), rate in zip((*slots, (self.log_alpha, self.alpha_grad)), rates, strict=True)
        ]
        # of the critics alone, and of all
        self.steps: list[Work] = [partial(self._gradient_step, with_actor) for with_actor in (False, True)]
        if device.type == "cuda" and self.envs.size == self.envs.total:
            graph = partial(CudaGraph, device)
            self.steps = [Recorded(step, graph, "a gradient step") for step in self.steps]
        self.generator = torch.Generator(device).manual_seed(seed)
        dims = {g: observation_dims[g] for g in model.groups}
        try:
            self.replay = ReplayBuffer(capacity, num_envs, dims, model.action_dim, device)
        except RuntimeError as error:  # PyTorch's word for no memory
            size = 4 * num_envs * capacity * (2 * sum(dims.values()) + model.action_dim + 2)
            needed = f"{size / 1e9:.1f} GB, which {device} does not have"
            raise UserError(f"algo.buffer_size={cfg.buffer_size:_} needs {needed}") from error
        self.seen = 0  # steps of each environment
        self.trained = False  # the networks are another run's: their actions, not random ones, come first
        self.gradient_steps = 0
        self._acted: dict[str, Tensor] = {}

    @torch.no_grad()
    def act(self, obs: dict[str, Tensor]) -> Tensor:
        """Sample an action (num_envs, action_dim); a uniformly random one before `learning_starts`."""
        if not self.trained and self.seen * self.envs.total < self.cfg.learning_starts:
            shape = (self.envs.total, self.model.action_dim)
            drawn = torch.rand(shape, generator=self.generator, device=self.device)
            action = self.envs.of(drawn) * 2.0 - 1.0
        else:
            out = self.actor.forward(self._inputs(obs["policy"], "policy"))
            noise = self.model.gaussian.noise(out, self.generator, self.envs)
            action = self.model.gaussian.sample(out, noise).tanh_()
        self._acted = {f"{g}_obs": obs[g] for g in self.model.groups} | {"action": action}
        return self.model.applied(action)

    @torch.no_grad()
    def observe(
        self,
        reward: Tensor,
        terminated: Tensor,
        truncated: Tensor,
        final_obs: dict[str, Tensor] | None,
    ) -> None:
        """Take in the outcome of the last `act`; without `final_obs` no transition could be kept."""
        if final_obs is None:
            raise ValueError("SAC needs what every step led to: final_obs")
        ended = terminated if self.cfg.bootstrap_truncated else terminated | truncated
        led_to = {f"next_{g}_obs": final_obs[g] for g in self.model.groups}
        self.replay.add(
            self._acted | led_to | {"reward": self.cfg.reward_scale * reward, "terminated": ended}
        )
        self.seen += 1

    @torch.no_grad()
    def policy(self, obs: dict[str, Tensor]) -> Tensor:
        """Return the squashed mode (n, action_dim)."""
        return self._policy(obs["policy"])

    def policy_module(self) -> nn.Module:
        """See `Algorithm`."""
        return self._policy

    def set_progress(self, fraction: float) -> None:
        """Nothing: its rates are the same to the end."""

    @torch.inference_mode()
    def update(self, obs: dict[str, Tensor]) -> dict[str, float]:
        """Learn from what is in the buffer; nothing, and no losses, before `learning_starts`.

        Raises:
            NonFiniteError: an observation or a reward is not finite, or a loss became so.
        """
        self._take_in_latest()
        if self._lacking():
            return {}
        with self.threads:
            told = [self._step() for _ in range(self.cfg.gradient_steps)]
        losses: dict[str, Tensor] = {}
        for names, rows in zip((OF_CRITICS, OF_ACTOR), zip(*told, strict=True), strict=True):
            had = [row for row in rows if row is not None]
            losses |= dict(zip(names, torch.stack(had).mean(0), strict=True)) if had else {}
        losses["alpha"] = self.alpha[0]
        found = dict(zip(losses, torch.stack(list(losses.values())).tolist(), strict=True))  # all at once
        if bad := [name for name, value in found.items() if not math.isfinite(value)]:
            raise NonFiniteError(f"SAC: {', '.join(bad)} became NaN or infinite in this update")
        noise = {"Policy/mean_noise_std": found.pop("noise_std")} if "noise_std" in found else {}
        return {f"Loss/{name}": value for name, value in found.items()} | noise

    def _lacking(self) -> int:
        """Steps of each environment that are to be collected before anything is learnt."""
        enough = math.ceil(max(self.cfg.learning_starts, self.cfg.batch_size) / self.envs.total)
        return max(0, min(self.replay.capacity, enough) - self.replay.size)

    def beginning(self) -> str:
        """What the transitions take, and when learning starts."""
        size = (
            sum(column.nbytes for column in self.replay.columns.values()) * self.envs.total / self.envs.size
        )
        where = "checkpoints hold them too" if self.cfg.save_replay else "checkpoints are without them"
        kept = self.replay.capacity * self.envs.total
        told = f"Replay buffer: {kept:,} transitions, {size / 1e6:,.0f} MB when full ({where})."
        if steps := self._lacking() * self.envs.total:
            actions = "the policy's" if self.trained or self.seen else "random"
            lost = "The transitions of before are not in the checkpoint. " if self.seen else ""
            told += f" {lost}Learning starts after {steps:,} environment steps with {actions} actions."
        return told

    def _take_in_latest(self) -> None:
        """Look whether the latest rollout is finite; add it to the observations' moments, of all ranks."""
        latest = partial(self.replay.latest, steps=self.rollout_steps)
        rows = {g: latest(f"{g}_obs").flatten(0, 1) for g in self.model.groups}
        sums = torch.stack([x.sum() for x in (*rows.values(), latest("reward"))]).tolist()
        for name, total in zip((*rows, "reward"), sums, strict=True):
            if not math.isfinite(total):
                raise NonFiniteError(f"SAC: NaN or infinity in {name}; no weight was changed")
        normalized = [g for g in rows if isinstance(self.model.normalizers[g], Normalizer)]
        moments = distributed.pool_moments([batch_moments(rows[g]) for g in normalized])
        for group, seen in zip(normalized, moments, strict=True):
            self.model.normalizers[group].merge(seen)  # type: ignore[operator]

    def _step(self) -> tuple[Tensor, Tensor | None]:
        """One gradient step on transitions drawn anew: `OF_CRITICS`, and `OF_ACTOR` if that took a step."""
        batch = self._draw()
        self.gradient_steps += 1
        with_actor = self.gradient_steps % self.cfg.policy_frequency == 0
        for optimizer in self.optimizers if with_actor else self.optimizers[1:2]:
            optimizer.begin_step()
        (told,) = self.steps[with_actor](batch)
        critics, actor = told.split([len(OF_CRITICS), len(OF_ACTOR)])
        return critics, actor if with_actor else None

    def _draw(self) -> dict[str, Tensor]:
        """This rank's part of a batch: transitions, observations as the networks read them, and noise."""
        size, generator = self.cfg.batch_size, self.generator
        env_ids = torch.randint(self.envs.total, (size,), generator=generator, device=self.device)
        steps = torch.randint(self.replay.size, (size,), generator=generator, device=self.device)
        shape = (2, size, self.model.action_dim)
        noise = torch.randn(shape, generator=generator, device=self.device)
        if self.envs.size < self.envs.total:
            mine = (env_ids >= self.envs.start) & (env_ids < self.envs.start + self.envs.size)
            env_ids, steps, noise = env_ids[mine] - self.envs.start, steps[mine], noise[:, mine]
        batch = self.replay.take(env_ids, steps)
        for group in self.model.groups:
            for name in (f"{group}_obs", f"next_{group}_obs"):
                batch[name] = self.model.normalizers[group](batch[name])
        batch["noise"], batch["next_noise"] = noise
        batch["discount"] = self.cfg.gamma * (1.0 - batch.pop("terminated"))
        return batch

    def _gradient_step(self, with_actor: bool, batch: dict[str, Tensor]) -> list[Tensor]:
        """A step of the critics, and one of actor and temperature after it; `OF_CRITICS`, then `OF_ACTOR`."""
        share = 1.0 / self.cfg.batch_size
        self._critics_step(batch, share)
        told = torch.zeros(len(OF_ACTOR), device=self.device)
        if with_actor:
            told = self._actor_step(batch, share)
        # θ̄ ← τ θ + (1 - τ) θ̄
        self.of_targets.data.lerp_(self.of_critics.data, self.cfg.tau)
        self.of_targets.refresh()
        return [torch.cat((self.of_critics.extra, told))]

    def _critics_step(self, batch: dict[str, Tensor], share: float) -> None:
        """Minimise ½ (Q_i(s, a) - y)², y = r + γ (min_i Q̄_i(s', a') - α log π(a'|s')), a' ~ π (eq. 5, 6)."""
        group, gaussian = self.model.critic_group, self.model.gaussian
        out = self.actor.forward(batch["next_policy_obs"].to(self.dtype))
        mean, log_std = gaussian.read(out)
        u = torch.addcmul(mean, log_std.exp(), batch["next_noise"])
        log_prob = squashed_log_prob(batch["next_noise"], log_std, u)
        after = torch.cat((batch[f"next_{group}_obs"], u.tanh()), 1).to(self.dtype)
        now = torch.cat((batch[f"{group}_obs"], batch["action"]), 1).to(self.dtype)
        other = self.threads.beside(self.targets[1].forward, after)
        soft = torch.minimum(self.targets[0].forward(after), other())[:, 0] - self.alpha * log_prob
        y = batch["reward"][:, 0] + batch["discount"][:, 0] * soft

        def learn(critic: MLPPass) -> tuple[Tensor, Tensor]:
            q = critic.forward(now)[:, 0]
            error = q - y
            critic.backward((error * share).unsqueeze(1))
            return error.square().sum() * (0.5 * share), q.sum() * share

        beside = self.threads.beside(learn, self.critics[1])
        (loss, q), (loss2, _) = learn(self.critics[0]), beside()
        self.of_critics.gather_gradients()
        self.of_critics.extra.copy_(torch.stack((loss + loss2, q)))
        distributed.sum_reduce_(self.of_critics.message)
        self.optimizers[1].step()
        self.of_critics.refresh()

    def _actor_step(self, batch: dict[str, Tensor], share: float) -> Tensor:
        """Minimise α log π(a|s) - min_i Q_i(s, a) (eq. 9) with a = tanh u, and -log α (log π + H̄) (eq. 18).

        With u = μ + σ ε: ∂ log π/∂u = 2 a and ∂a/∂u = 1 - a²; ∂u/∂ log σ = σ ε, and log π has -log σ besides.
        """
        group, gaussian = self.model.critic_group, self.model.gaussian
        noise = batch["noise"]
        out = self.actor.forward(batch["policy_obs"].to(self.dtype))
        mean, log_std = gaussian.read(out)
        std = log_std.exp()
        u = torch.addcmul(mean, std, noise)
        action, log_prob = u.tanh(), squashed_log_prob(noise, log_std, u)
        x = torch.cat((batch[f"{group}_obs"], action), 1).to(self.dtype)
        ones = torch.ones_like(log_prob).unsqueeze(1)

        def by_action(critic: MLPPass) -> tuple[Tensor, Tensor]:
            q = critic.forward(x)[:, 0]
            return q, critic.input_gradient(ones)[:, -self.model.action_dim :]

        beside = self.threads.beside(by_action, self.critics[1])
        (q, slope), (q2, slope2) = by_action(self.critics[0]), beside()
        first = q <= q2
        slope = torch.where(first.unsqueeze(1), slope, slope2)
        grad_u = share * (2.0 * self.alpha * action - slope * (1.0 - action.square()))
        grad_log_std = grad_u * std * noise - share * self.alpha
        self.actor.backward(gaussian.backward(out, (grad_u, grad_log_std), None))
        self.of_actor.gather_gradients()
        loss = (self.alpha * log_prob - torch.minimum(q, q2)).sum() * share
        numbers = (log_prob.sum() * share, loss, -log_prob.sum() * share, std.mean(1).sum() * share)
        self.of_actor.extra.copy_(torch.stack(numbers))
        distributed.sum_reduce_(self.of_actor.message)
        self.optimizers[0].step()
        self.of_actor.refresh()
        torch.neg(self.of_actor.extra[:1] + self.target_entropy, out=self.alpha_grad)
        self.optimizers[2].step()
        torch.exp(self.log_alpha, out=self.alpha)
        return self.of_actor.extra[1:].clone()

    def _inputs(self, obs: Tensor, group: str) -> Tensor:
        """Observations (n, d) as the passes read them."""
        return self.model.normalizers[group](obs).to(self.dtype)

    def state_dict(self, whole: bool = True) -> dict[str, Any]:
        """See `Algorithm`; `whole`: with the transitions, if `save_replay` says so."""
        keep = whole and self.cfg.save_replay
        return {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "log_alpha": self.log_alpha.clone(),
            "generator": self.generator.get_state(),
            "seen": self.seen,
            "trained": self.trained,
            "gradient_steps": self.gradient_steps,
            "envs": {"replay": self.replay.state_dict()} if keep else {},
        }

    def load_model(self, state: dict[str, Any]) -> None:
        """See `Algorithm`."""
        self.trained = True
        self.model.load_state_dict(state)
        for vector in (self.of_actor, self.of_critics, self.of_targets):
            vector.refresh()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`; without transitions in it the buffer fills before anything is learnt."""
        self.load_model(state["model"])
        for optimizer, own in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(own)
        self.log_alpha.copy_(state["log_alpha"])
        torch.exp(self.log_alpha, out=self.alpha)
        self.generator.set_state(state["generator"].cpu())
        self.seen, self.gradient_steps = state["seen"], state["gradient_steps"]
        self.trained = state["trained"]
        if "replay" in state["envs"]:
            self.replay.load_state_dict(state["envs"]["replay"])


def make_sac(
    agent_cfg: SoftActorCriticConfig,
    algo_cfg: SACConfig,
    observation_dims: dict[str, int],
    action_bounds: tuple[Tensor, Tensor],
    num_envs: int,
    device: torch.device | str,
    seed: int,
    num_threads: int = 1,
) -> SAC:
    """Build SAC for an environment with these sizes; `seed` fixes the weights and all sampling."""
    model = SoftActorCritic(agent_cfg, observation_dims, *action_bounds, seed)
    return SAC(
        model, algo_cfg, observation_dims, num_envs, torch.device(device), seed,
        agent_cfg.mixed_precision, num_threads,
    )  # fmt: skip
