"""Multi-layer perceptrons."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812 - PyTorch's own convention
from torch import Tensor, nn

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "elu": F.elu,
    "gelu": F.gelu,
    "relu": F.relu,
    "silu": F.silu,
    "tanh": torch.tanh,
}


@dataclass
class MLPConfig:
    """Hidden layers of a network.

    Attributes:
        hidden_sizes: width of each hidden layer; an empty list gives a linear map.
        activation: one of `ACTIVATIONS`.
    """

    hidden_sizes: list[int]
    activation: str

    def check(self) -> Iterator[tuple[str, str]]:
        """Yield (key, message) for every value out of range."""
        if any(size < 1 for size in self.hidden_sizes):
            yield "hidden_sizes", f"must hold positive widths, got {list(self.hidden_sizes)}"
        if self.activation not in ACTIVATIONS:
            yield "activation", f"must be one of {', '.join(ACTIVATIONS)}, got {self.activation}"


class MLP(nn.Module):
    """Linear layers with an activation between them; the last layer is linear.

    Weights start orthogonal, with gain √2 in the hidden layers and `output_gain` in the last
    (Engstrom et al. 2020, "Implementation matters in deep policy gradients"); biases at zero.
    """

    def __init__(
        self,
        input_size: int,
        hidden_sizes: Sequence[int],
        output_size: int,
        activation: str,
        output_gain: float,
        generator: torch.Generator,
    ) -> None:
        """Build the layers on the CPU with weights drawn from `generator`."""
        super().__init__()
        sizes = [input_size, *hidden_sizes, output_size]
        self.activation_name = activation
        self.activation = ACTIVATIONS[activation]
        self.layers = nn.ModuleList(nn.Linear(n_in, n_out) for n_in, n_out in pairwise(sizes))
        for layer in self.linears:
            gain = output_gain if layer is self.linears[-1] else 2.0**0.5
            nn.init.orthogonal_(layer.weight, gain, generator=generator)
            nn.init.zeros_(layer.bias)

    @property
    def linears(self) -> list[nn.Linear]:
        """The layers, from the input to the output."""
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)]

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, input_size) to (n, output_size)."""
        *hidden, last = self.linears
        for layer in hidden:
            x = self.activation(layer(x))
        return last(x)
