"""Distributions of actions, read out of the actor's output: Gaussian and categorical, with one interface.

torch.distributions gives the same numbers (the tests compare them), at several times the cost: its
objects validate, broadcast and recompute.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor, nn

from rl_platform.distributed import Shard, whole

LOG_SQRT_2PI = 0.5 * math.log(2.0 * math.pi)
Columns = dict[str, Tensor]


class Distribution(Protocol):
    """π(a|s) for the rows of an actor's output `out` (n, outputs).

    Attributes:
        outputs: width of the actor's output.
        parameter: what belongs to no state (a σ), or None.
    """

    outputs: int
    parameter: nn.Parameter | None

    def read(self, out: Tensor) -> tuple[Tensor, ...]:
        """The distribution's own numbers, as its surrogate loss takes them."""
        ...

    def noise(self, out: Tensor, generator: torch.Generator, shard: Shard | None = None) -> Tensor:
        """Draw what `sample` makes an action of, a row for each of `out`.

        With `shard` these rows are a part of all ranks': the noise of all is drawn, and that of these rows
        returned, so that ranks with the same generator draw what one with all the rows would.
        """
        ...

    def sample(self, out: Tensor, noise: Tensor) -> Tensor:
        """Return the action (n, action_dim) that belongs to a noise."""
        ...

    def mode(self, out: Tensor) -> Tensor:
        """The likeliest action (n, action_dim)."""
        ...

    def acted(self, out: Tensor, action: Tensor) -> tuple[Columns, Columns]:
        """What the loss has to know of the policy that acted: a row for each sample, and one for all."""
        ...

    def backward(self, out: Tensor, grads: tuple[Tensor, ...], grad_parameter: Tensor | None) -> Tensor:
        """Gradient by `out`, from those by `read(out)`; that of `parameter` goes into `grad_parameter`."""
        ...

    def clamp_(self) -> None:
        """Put `parameter` back into its bounds (after every optimiser step)."""
        ...

    def metrics(self, acted: Columns) -> dict[str, Tensor]:
        """Numbers for the log, () each, from the columns of `acted`."""
        ...


class Gaussian:
    """N(μ, σ²) with independent components; log σ is a parameter, σ is, or both depend on the state."""

    def __init__(
        self, action_dim: int, std_type: str, init_std: float, min_std: float, max_std: float
    ) -> None:
        """`std_type`: see `ActorConfig`; the deviations in units of the action."""
        self.action_dim, self.std_type = action_dim, std_type
        self.log_min_std = math.log(min_std)
        self.log_std_span = math.log(max_std) - self.log_min_std
        self.parameter: nn.Parameter | None = None
        self.outputs = action_dim
        if std_type == "state_dependent":
            self.outputs = 2 * action_dim
        else:
            start = init_std if std_type == "scalar" else math.log(init_std)
            self.parameter = nn.Parameter(torch.full((action_dim,), start))

    def read(self, out: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (n, action_dim) and log σ.

        log σ is (action_dim,) where it is a parameter and (n, action_dim) where it depends on the
        state. There it is squashed into its bounds by a sigmoid: unlike a clamp, that always has a
        gradient that leads back inside.
        """
        if self.parameter is None:
            mean, raw = out.split(self.action_dim, dim=-1)
            return mean, self.log_min_std + self.log_std_span * torch.sigmoid(raw)
        return out, self.parameter.log() if self.std_type == "scalar" else self.parameter

    @torch.no_grad()
    def begin_at_(self, bias: Tensor, std: float) -> None:
        """Let a σ that depends on the state begin at `std`: `bias` is that of the actor's last layer."""
        share = (math.log(std) - self.log_min_std) / self.log_std_span
        bias[self.action_dim :].fill_(math.log(share / (1.0 - share)))

    def noise(self, out: Tensor, generator: torch.Generator, shard: Shard | None = None) -> Tensor:
        """ε ~ N(0, 1), (n, action_dim)."""
        shard = shard or whole(len(out))
        shape = (shard.total, self.action_dim)
        return shard.of(torch.randn(shape, generator=generator, device=out.device, dtype=out.dtype))

    def sample(self, out: Tensor, noise: Tensor) -> Tensor:
        """μ + σ ε."""
        mean, log_std = self.read(out)
        return torch.addcmul(mean, log_std.exp(), noise)

    def mode(self, out: Tensor) -> Tensor:
        """μ."""
        return self.read(out)[0]

    def acted(self, out: Tensor, action: Tensor) -> tuple[Columns, Columns]:
        """`mean`, `log_prob` and `log_std`; the last is one for all samples where it is a parameter."""
        mean, log_std = self.read(out)
        columns = {"mean": mean, "log_prob": gaussian_log_prob(action, mean, log_std)}
        if self.parameter is None:
            return columns | {"log_std": log_std}, {}
        return columns, {"log_std": log_std.clone()}

    def backward(self, out: Tensor, grads: tuple[Tensor, ...], grad_parameter: Tensor | None) -> Tensor:
        """Gradient by `out`, from those by the mean and by each row's log σ, (n, action_dim) each."""
        grad_mean, grad_log_std = grads
        if self.parameter is None:
            share = torch.sigmoid(out[:, self.action_dim :])
            return torch.cat((grad_mean, grad_log_std * self.log_std_span * share * (1.0 - share)), dim=-1)
        assert grad_parameter is not None
        torch.sum(grad_log_std, 0, out=grad_parameter)
        if self.std_type == "scalar":
            grad_parameter /= self.parameter
        return grad_mean

    @torch.no_grad()
    def clamp_(self) -> None:
        """Put a σ that is a parameter back into its bounds."""
        low, high = self.log_min_std, self.log_min_std + self.log_std_span
        if self.std_type == "scalar":
            low, high = math.exp(low), math.exp(high)
        if self.parameter is not None:
            self.parameter.clamp_(low, high)

    def metrics(self, acted: Columns) -> dict[str, Tensor]:
        """The mean σ."""
        return {"Policy/mean_noise_std": acted["log_std"].exp().mean()}


class Categorical:
    """p = softmax(out) over `choices`; an action is a column (n, 1) with the index of the choice."""

    parameter: nn.Parameter | None = None

    def __init__(self, choices: int) -> None:
        """Choose among `choices`."""
        self.outputs = choices

    def read(self, out: Tensor) -> tuple[Tensor]:
        """Return log p (n, choices)."""
        return (torch.log_softmax(out, dim=-1),)

    def noise(self, out: Tensor, generator: torch.Generator, shard: Shard | None = None) -> Tensor:
        """E ~ Exp(1), (n, choices)."""
        shard = shard or whole(len(out))
        return shard.of(out.new_empty(shard.total, out.shape[1]).exponential_(generator=generator))

    def sample(self, out: Tensor, noise: Tensor) -> Tensor:
        """argmax(log p - log E): Gumbel's trick, without a sum over p."""
        return self.mode(out - noise.log())

    def mode(self, out: Tensor) -> Tensor:
        """The likeliest choice."""
        return out.argmax(-1, keepdim=True).to(out.dtype)

    def acted(self, out: Tensor, action: Tensor) -> tuple[Columns, Columns]:
        """`log_p` (n, choices) and `log_prob` (n,), that of the action."""
        (log_p,) = self.read(out)
        return {"log_p": log_p, "log_prob": categorical_log_prob(action, log_p)}, {}

    def backward(self, out: Tensor, grads: tuple[Tensor, ...], grad_parameter: Tensor | None) -> Tensor:
        """The surrogate gives its gradient by `out` already."""
        return grads[0]

    def clamp_(self) -> None:
        """There is no parameter."""

    def metrics(self, acted: Columns) -> dict[str, Tensor]:
        """None besides the entropy, which is among the losses."""
        return {}


def gaussian_log_prob(x: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Log density (n,): -Σ_d [ (x - μ)² / 2σ² + log σ + ½ log 2π ]."""
    z = (x - mean) * torch.exp(-log_std)
    return -0.5 * z.square().sum(-1) - log_std.sum(-1) - LOG_SQRT_2PI * x.shape[-1]


def categorical_log_prob(action: Tensor, log_p: Tensor) -> Tensor:
    """Log probability (n,) of the chosen indices `action` (n, 1) by log p (n, choices)."""
    return log_p.gather(-1, action.long()).squeeze(-1)
