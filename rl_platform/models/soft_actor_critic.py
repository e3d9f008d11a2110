"""The networks of SAC: a squashed Gaussian policy, and two critics with slow copies."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rl_platform.models.distributions import LOG_SQRT_2PI, Gaussian
from rl_platform.models.mlp import MLP, MLPConfig
from rl_platform.models.normalize import observation_normalizers


@dataclass
class SquashedActorConfig(MLPConfig):
    """The policy's network; σ depends on the state, and is of the action before it is squashed.

    Attributes:
        init_std: σ at the start, where a whole range is from -1 to 1.
        min_std: σ never falls below this.
        max_std: σ never rises above this.
    """

    init_std: float
    min_std: float
    max_std: float

    def check(self) -> Iterator[tuple[str, str]]:
        """Yield (key, message) for every value out of range."""
        yield from super().check()
        if self.min_std <= 0:
            yield "min_std", f"must be above 0, got {self.min_std}"
        if self.max_std <= self.min_std:
            yield "max_std", f"must be above min_std ({self.min_std}), got {self.max_std}"
        elif not self.min_std < self.init_std < self.max_std:
            yield "init_std", f"must be between {self.min_std} and {self.max_std}, got {self.init_std}"


@dataclass
class SoftActorCriticConfig:
    """The networks of the SAC agent.

    Attributes:
        name: of the agent.
        actor: reads the observation group `policy`.
        critic: of each of the two; reads the group `critic` where the task has one, else `policy`.
        normalize_obs: shift and scale observations by their running moments.
        mixed_precision: multiply the hidden layers' matrices in bfloat16, where the processor has
            instructions for it.
    """

    name: str
    actor: SquashedActorConfig
    critic: MLPConfig
    normalize_obs: bool
    mixed_precision: bool

    def check(self) -> Iterator[tuple[str, str]]:
        """Yield (key, message) for every value out of range."""
        yield from ()


class SoftActorCritic(nn.Module):
    """Policy π(a|s), Q₁(s, a), Q₂(s, a) and their slow copies.

    a = tanh(u) with u ~ N(μ(s), σ(s)²) is in [-1, 1]; that is what the critics read. `applied` scales it to
    the bounds that the environment has.
    """

    low: Tensor
    half_range: Tensor

    def __init__(
        self,
        cfg: SoftActorCriticConfig,
        observation_dims: dict[str, int],
        action_low: Tensor,
        action_high: Tensor,
        seed: int,
    ) -> None:
        """Build them; `seed` fixes their weights."""
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.action_dim = len(action_low)
        self.critic_group = "critic" if "critic" in observation_dims else "policy"
        self.groups = ("policy",) if self.critic_group == "policy" else ("policy", "critic")
        actor, critic = cfg.actor, cfg.critic
        std = (actor.init_std, actor.min_std, actor.max_std)
        self.gaussian = Gaussian(self.action_dim, "state_dependent", *std)
        inputs = observation_dims["policy"]
        self.actor = MLP(inputs, actor.hidden_sizes, self.gaussian.outputs, actor.activation, 0.01, generator)
        self.gaussian.begin_at_(self.actor.linears[-1].bias, actor.init_std)
        inputs = observation_dims[self.critic_group] + self.action_dim
        self.critics = nn.ModuleList(
            MLP(inputs, critic.hidden_sizes, 1, critic.activation, 1.0, generator) for _ in range(2)
        )
        self.targets = copy.deepcopy(self.critics)
        dims = {g: observation_dims[g] for g in self.groups}
        self.normalizers = observation_normalizers(dims, cfg.normalize_obs)
        self.register_buffer("low", action_low.detach().clone().cpu())
        self.register_buffer("half_range", (action_high - action_low).detach().cpu() / 2)

    def applied(self, action: Tensor) -> Tensor:
        """Actions in [-1, 1], scaled to the environment's bounds."""
        return self.low + (action + 1.0) * self.half_range


class SquashedPolicy(nn.Module):
    """The mode of the Gaussian, squashed and scaled: normaliser, actor, tanh, bounds."""

    def __init__(self, model: SoftActorCritic) -> None:
        """Share the networks of `model`."""
        super().__init__()
        self.normalizer, self.actor = model.normalizers["policy"], model.actor
        self.action_dim = model.action_dim
        self.low, self.half_range = model.low, model.half_range

    def forward(self, obs: Tensor) -> Tensor:
        """Map observations (n, d) of the group "policy" to actions (n, action_dim)."""
        mean = self.actor(self.normalizer(obs))[:, : self.action_dim]
        return self.low + (torch.tanh(mean) + 1.0) * self.half_range


def squashed_log_prob(noise: Tensor, log_std: Tensor, u: Tensor) -> Tensor:
    """Log density log π(a|s), (n,), of a = tanh(u) with u = μ + σ ε (Haarnoja et al. 2018, appendix C).

    Σ_d -½ ε² - log σ - ½ log 2π - log(1 - tanh² u), the last as 2 (log 2 - u - softplus(-2u)).
    """
    squash = 2.0 * (math.log(2.0) - u - nn.functional.softplus(-2.0 * u))
    return (-0.5 * noise.square() - log_std - LOG_SQRT_2PI - squash).sum(-1)
