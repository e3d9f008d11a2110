"""An actor and a critic, with their normalisers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rl_platform.models.distributions import Categorical, Distribution, Gaussian
from rl_platform.models.mlp import MLP, MLPConfig
from rl_platform.models.normalize import Normalizer, observation_normalizers
from rl_platform.tensor_math import Moments, batch_moments

STD_TYPES = ("scalar", "log", "state_dependent")


@dataclass
class ActorConfig(MLPConfig):
    """The policy's network and its exploration noise; σ is of continuous actions only.

    Attributes:
        std_type: how the standard deviation is held: `scalar` (a parameter σ for each action), `log`
            (a parameter log σ) or `state_dependent` (a second head of the network).
        init_std: σ at the start, in units of the action.
        min_std: σ never falls below this.
        max_std: σ never rises above this.
    """

    std_type: str
    init_std: float
    min_std: float
    max_std: float

    def check(self) -> Iterator[tuple[str, str]]:
        """Yield (key, message) for every value out of range."""
        yield from super().check()
        if self.std_type not in STD_TYPES:
            yield "std_type", f"must be one of {', '.join(STD_TYPES)}, got {self.std_type}"
        if self.min_std <= 0:
            yield "min_std", f"must be above 0, got {self.min_std}"
        if self.max_std < self.min_std:
            yield "max_std", f"must be at least min_std ({self.min_std}), got {self.max_std}"
        if not self.min_std <= self.init_std <= self.max_std:
            yield "init_std", f"must be in [{self.min_std}, {self.max_std}], got {self.init_std}"
        elif self.std_type == "state_dependent" and self.init_std in (self.min_std, self.max_std):
            yield "init_std", f"must lie strictly between min_std and max_std, got {self.init_std}"


@dataclass
class ActorCriticConfig:
    """The networks of the native PPO agent.

    Attributes:
        name: of the agent.
        actor: reads the observation group `policy`.
        critic: reads the group `critic` where the task has one (privileged), else `policy`.
        normalize_obs: shift and scale observations by their running moments.
        compile: torch.compile for the losses (needs a C++ compiler on a CPU, and seconds at the start).
        mixed_precision: multiply the hidden layers' matrices in bfloat16, where the processor has
            instructions for it; master weights, activations and losses stay float32.
    """

    name: str
    actor: ActorConfig
    critic: MLPConfig
    normalize_obs: bool
    compile: bool
    mixed_precision: bool

    def check(self) -> Iterator[tuple[str, str]]:
        """Yield (key, message) for every value out of range."""
        yield from ()


class ActorCritic(nn.Module):
    """Policy π(a|s) and state value V(s).

    π is N(μ(s), σ²), or a probability for each of `num_choices`: what `distribution` makes of the actor's
    output. The networks' inputs are normalised observations: see `normalize`. The critic's output is in
    units of the value normaliser.
    """

    distribution: Distribution

    def __init__(
        self,
        cfg: ActorCriticConfig,
        observation_dims: dict[str, int],
        action_dim: int,
        normalize_value: bool,
        seed: int,
        num_choices: int | None = None,
    ) -> None:
        """Build both networks; `seed` fixes their weights; `num_choices` makes the action discrete."""
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        actor, critic = cfg.actor, cfg.critic
        self.action_dim = action_dim
        if num_choices is None:
            self.distribution = Gaussian(
                action_dim, actor.std_type, actor.init_std, actor.min_std, actor.max_std
            )
        else:
            self.distribution = Categorical(num_choices)
        if self.distribution.parameter is not None:
            self.std_parameter = self.distribution.parameter
        self.critic_group = "critic" if "critic" in observation_dims else "policy"
        self.groups = ("policy",) if self.critic_group == "policy" else ("policy", "critic")
        inputs, outputs = observation_dims["policy"], self.distribution.outputs
        self.actor = MLP(inputs, actor.hidden_sizes, outputs, actor.activation, 0.01, generator)
        critic_size = observation_dims[self.critic_group]
        self.critic = MLP(critic_size, critic.hidden_sizes, 1, critic.activation, 1.0, generator)
        dims = {g: observation_dims[g] for g in self.groups}
        self.normalizers = observation_normalizers(dims, cfg.normalize_obs)
        self.value_normalizer = Normalizer(1) if normalize_value else None
        if num_choices is None and actor.std_type == "state_dependent":
            assert isinstance(self.distribution, Gaussian)
            self.distribution.begin_at_(self.actor.linears[-1].bias, actor.init_std)

    def normalize(self, obs: dict[str, Tensor], group: str) -> Tensor:
        """The named group of observations (n, d), as the networks read it."""
        return self.normalizers[group](obs[group])

    def observation_moments(self, obs: dict[str, Tensor]) -> dict[str, Moments]:
        """Moments of observations (n, d), of each group that is normalised."""
        names = [g for g, normalizer in self.normalizers.items() if isinstance(normalizer, Normalizer)]
        return {g: batch_moments(obs[g]) for g in names}

    def update_normalizers(self, moments: dict[str, Moments]) -> None:
        """Add the observations of each group, given by their moments, to the running ones."""
        for group, seen in moments.items():
            normalizer = self.normalizers[group]
            assert isinstance(normalizer, Normalizer)
            normalizer.merge(seen)

    @torch.no_grad()
    def update_value_normalizer(self, returns: Moments) -> None:
        """Add returns, given by their moments (1,), and rescale the critic's last layer: no V(s) changes.

        Pop-Art (van Hasselt et al. 2016, arXiv:1602.07714, eq. 9-10).
        """
        assert self.value_normalizer is not None
        shift, scale = self.value_normalizer.shift.clone(), self.value_normalizer.scale.clone()
        self.value_normalizer.merge(returns)
        new_shift, new_scale = self.value_normalizer.shift, self.value_normalizer.scale
        last = self.critic.linears[-1]
        last.weight *= scale / new_scale
        last.bias.mul_(scale / new_scale).add_((shift - new_shift) / new_scale)


class Policy(nn.Module):
    """The likeliest action, of an actor-critic without its critic: normaliser, actor, mode."""

    def __init__(self, model: ActorCritic) -> None:
        """Share the networks of `model`."""
        super().__init__()
        self.normalizer, self.actor = model.normalizers["policy"], model.actor
        self.distribution = model.distribution

    def forward(self, obs: Tensor) -> Tensor:
        """Map observations (n, d) of the group "policy" to actions (n, action_dim)."""
        return self.distribution.mode(self.actor(self.normalizer(obs)))
