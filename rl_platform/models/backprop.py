"""Forward and backward passes of an MLP, written out in preallocated memory.

On a CPU this takes about half the time of autograd: matrices are multiplied in bfloat16 where the
processor can, activations use the cheap exponential, nothing is allocated, and every gradient lands in
one vector. The tests hold each pass against autograd.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rl_platform.models.mlp import MLP

aten = torch.ops.aten
LOG2_E = 1.0 / math.log(2.0)
ALIGNMENT = 16  # floats: every weight starts at a multiple of 64 bytes


def bfloat16_is_fast(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware; elsewhere it is emulated, slowly."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, probe, bool)() for probe in probes)


class ParameterVector:
    """All parameters of a module as slices of one vector, and so their gradients.

    The parameters keep their names and shapes: they only move. A copy in `dtype`, with gradients of
    its own, serves the layers that compute in it.
    """

    def __init__(self, module: nn.Module, dtype: torch.dtype, extra: int = 0) -> None:
        """Move the module's parameters; `extra`: numbers that `message` has room for besides."""
        parameters = list(module.parameters())
        sizes = [math.ceil(p.numel() / ALIGNMENT) * ALIGNMENT for p in parameters]
        self.dtype = dtype
        self.data = torch.zeros(sum(sizes), device=parameters[0].device)
        # what ranks tell each other of a minibatch: the gradients, and behind them a few numbers more
        self.message = torch.zeros(sum(sizes) + extra, device=parameters[0].device)
        self.grad, self.extra = self.message.split([sum(sizes), extra])
        same = dtype == torch.float32
        self._copy = self.data if same else self.data.to(dtype)
        self._copy_grad = self.grad if same else torch.zeros_like(self._copy)
        self._master_grad = self.grad if same else torch.zeros_like(self.grad)
        self._rows: dict[Tensor, slice] = {}
        start = 0
        for p, size in zip(parameters, sizes, strict=True):
            self._rows[p] = slice(start, start + p.numel())
            start += size
            view = self._view(self.data, p)
            view.copy_(p.data)
            p.data = view
        self.refresh()

    def refresh(self) -> None:
        """Bring the copy up to date after the parameters changed."""
        if self._copy is not self.data:
            self._copy.copy_(self.data)

    def gather_gradients(self) -> Tensor:
        """Bring together in `grad` what was written for the masters and for the copies; return it."""
        if self._copy_grad is not self._master_grad:
            # each is zero where the other was written
            torch.add(self._master_grad, self._copy_grad, out=self.grad)
        return self.grad

    def gradient(self, parameter: Tensor) -> Tensor:
        """The parameter's slice of `grad`, current after `gather_gradients`."""
        return self._view(self.grad, parameter)

    def master(self, parameter: Tensor) -> tuple[Tensor, Tensor]:
        """The parameter in float32, and the place for its gradient."""
        return self._view(self.data, parameter), self._view(self._master_grad, parameter)

    def copy(self, parameter: Tensor) -> tuple[Tensor, Tensor]:
        """The parameter in `dtype`, and the place for its gradient."""
        return self._view(self._copy, parameter), self._view(self._copy_grad, parameter)

    def _view(self, vector: Tensor, parameter: Tensor) -> Tensor:
        return vector[self._rows[parameter]].view(parameter.shape)


class Adam:
    """Adam (Kingma and Ba 2015, arXiv:1412.6980, algorithm 1) on one vector.

    torch.optim.Adam gives the same numbers; its bookkeeping for groups of parameters takes several
    times as long as the arithmetic on a network of this size.
    """

    def __init__(
        self, data: Tensor, grad: Tensor, learning_rate: Tensor, beta1: float = 0.9, beta2: float = 0.999
    ) -> None:
        """Optimise `data` by `grad`; all three tensors are read at each step."""
        self.data, self.grad, self.learning_rate = data, grad, learning_rate
        self.beta1, self.beta2 = beta1, beta2
        self.epsilon = 1e-8
        self.steps = 0
        self.mean, self.square, self._change = (torch.zeros_like(data) for _ in range(3))
        # 1 - β₁ᵗ and (1 - β₂ᵗ)^-½: where a recorded step reads them (`recorded.py`)
        self._mean_share, self._root_scale = torch.ones(2, device=data.device)

    def begin_step(self) -> None:
        """Count the step that follows."""
        self.steps += 1
        self._mean_share.fill_(1.0 - self.beta1**self.steps)
        self._root_scale.fill_((1.0 - self.beta2**self.steps) ** -0.5)

    def step(self) -> None:
        """θ ← θ - α m̂ / (√v̂ + ε), with m̂ = m / (1 - β₁ᵗ) and v̂ = v / (1 - β₂ᵗ)."""
        self.mean.lerp_(self.grad, 1.0 - self.beta1)
        self.square.mul_(self.beta2).addcmul_(self.grad, self.grad, value=1.0 - self.beta2)
        change = torch.sqrt(self.square, out=self._change)
        change.mul_(self._root_scale).add_(self.epsilon)
        torch.div(self.mean, change, out=change).mul_(self.learning_rate / self._mean_share)
        self.data -= change

    def state_dict(self) -> dict[str, Any]:
        """The moments and the number of steps."""
        return {"steps": self.steps, "mean": self.mean.clone(), "square": self.square.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self.steps = state["steps"]
        self.mean.copy_(state["mean"])
        self.square.copy_(state["square"])


class Activation(NamedTuple):
    """h = f(z), and grad ⊙ f'(z) out of z or h; both write into `out`."""

    forward: Callable[[Tensor, Tensor], object]
    backward: Callable[[Tensor, Tensor, Tensor, Tensor], object]


def _elu(z: Tensor, out: Tensor) -> None:
    """max(z, exp(min(z, 0)) - 1): PyTorch's 2^x takes a quarter of the time of its expm1."""
    torch.clamp_max(z, 0.0, out=out).mul_(LOG2_E).exp2_().sub_(1.0)
    torch.maximum(z, out, out=out)


def _elu_backward(grad: Tensor, z: Tensor, h: Tensor, out: Tensor) -> None:
    aten.elu_backward.grad_input(grad, 1.0, 1.0, 1.0, True, h, grad_input=out)


def _tanh(z: Tensor, out: Tensor) -> None:
    """2 sigmoid(2z) - 1, a quarter of the time of PyTorch's tanh."""
    torch.mul(z, 2.0, out=out).sigmoid_().mul_(2.0).sub_(1.0)


PASSES = {
    "elu": Activation(_elu, _elu_backward),
    "gelu": Activation(
        lambda z, out: aten.gelu.out(z, out=out),
        lambda grad, z, h, out: aten.gelu_backward.grad_input(grad, z, grad_input=out),
    ),
    "relu": Activation(
        lambda z, out: torch.clamp_min(z, 0.0, out=out),
        lambda grad, z, h, out: aten.threshold_backward.grad_input(grad, h, 0.0, grad_input=out),
    ),
    "silu": Activation(
        lambda z, out: torch.sigmoid(z, out=out).mul_(z),
        lambda grad, z, h, out: aten.silu_backward.grad_input(grad, z, grad_input=out),
    ),
    "tanh": Activation(
        _tanh,
        lambda grad, z, h, out: aten.tanh_backward.grad_input(grad, h, grad_input=out),
    ),
}


class Workspace:
    """Memory that passes may share, so that it stays in the processor's cache.

    Passes that share it take turns: a pass's `backward` must come before another one's `forward`. Passes that
    run at once need a workspace each.
    """

    def __init__(self, rows: int, device: torch.device) -> None:
        """Lend tensors of up to `rows` rows."""
        self.rows = rows
        self.device = device
        self._lent: dict[tuple[str, int, torch.dtype], Tensor] = {}

    def take(self, name: str, width: int, dtype: torch.dtype) -> Tensor:
        """Return a tensor (rows, width); the same one for the same arguments."""
        key = (name, width, dtype)
        if key not in self._lent:
            self._lent[key] = torch.empty(self.rows, width, dtype=dtype, device=self.device)
        return self._lent[key]


class MLPPass:
    """Passes of one MLP over the rows of a workspace, or fewer.

    Hidden layers multiply in the vector's `dtype`. Activations and the last layer are float32: a mean
    action rounded to bfloat16 would jump by several hundredths of a small σ.
    """

    def __init__(self, mlp: MLP, vector: ParameterVector, workspace: Workspace) -> None:
        """Prepare; `vector` must hold the parameters of `mlp`."""
        *hidden, last = mlp.linears
        self.rows = workspace.rows
        self.dtype = vector.dtype
        self.mixed = self.dtype != torch.float32
        self.activation = PASSES[mlp.activation_name]
        self.hidden = [(*vector.copy(layer.weight), *vector.copy(layer.bias)) for layer in hidden]
        self.last = (*vector.master(last.weight), *vector.master(last.bias))
        self.out = torch.empty(self.rows, last.out_features, device=workspace.device)
        widths = [layer.out_features for layer in hidden]

        def take(name: str, dtype: torch.dtype) -> list[Tensor]:
            return [workspace.take(name.format(i), width, dtype) for i, width in enumerate(widths)]

        self.z, self.h, self.grad = (take(f"{name}{{}}", self.dtype) for name in ("z", "h", "grad"))
        self.z32 = take("z", torch.float32) if self.mixed else self.z
        self.h32 = take("h", torch.float32) if self.mixed else self.h

    def forward(self, x: Tensor) -> Tensor:
        """Map `x` (n, d) of type `dtype` to (n, output) in float32; the next call overwrites it."""
        n = len(x)
        self.x, top = x, x
        for i, (weight, _, bias, _) in enumerate(self.hidden):
            z, z32, h, top = self.z[i][:n], self.z32[i][:n], self.h[i][:n], self.h32[i][:n]
            torch.addmm(bias, x, weight.t(), out=z)
            if self.mixed:
                z32.copy_(z)
            self.activation.forward(z32, top)
            if self.mixed:
                h.copy_(top)
            x = h
        weight, _, bias, _ = self.last
        self.top = top.float()
        return torch.addmm(bias, self.top, weight.t(), out=self.out[:n])

    def input_gradient(self, grad: Tensor) -> Tensor:
        """The loss's gradient by the input (n, d) in float32, from that by the output of the last `forward`.

        The parameters' gradients stay as they are.
        """
        n = len(grad)
        grad, weight = grad.to(self.dtype), self.last[0].to(self.dtype)
        for i in reversed(range(len(self.hidden))):
            below = torch.mm(grad, weight, out=self.grad[i][:n])
            self.activation.backward(below, self.z[i][:n], self.h[i][:n], below)
            grad, weight = below, self.hidden[i][0]
        return torch.mm(grad, weight).float()

    def backward(self, grad: Tensor) -> None:
        """Write the parameters' gradients, from the loss's by the output of the last `forward`."""
        n = len(grad)
        weight, weight_grad, _, bias_grad = self.last
        torch.mm(grad.t(), self.top, out=weight_grad)
        torch.sum(grad, 0, out=bias_grad)
        grad, weight = grad.to(self.dtype), weight.to(self.dtype)
        for i in reversed(range(len(self.hidden))):
            below = torch.mm(grad, weight, out=self.grad[i][:n])
            self.activation.backward(below, self.z[i][:n], self.h[i][:n], below)
            weight, weight_grad, _, bias_grad = self.hidden[i]
            torch.mm(below.t(), self.h[i - 1][:n] if i else self.x, out=weight_grad)
            torch.sum(below, 0, out=bias_grad)
            grad = below
