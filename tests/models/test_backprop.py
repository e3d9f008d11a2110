from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from rl_platform.models.backprop import PASSES, Adam, MLPPass, ParameterVector, Workspace
from rl_platform.models.mlp import ACTIVATIONS, MLP

ROWS, INPUTS, OUTPUTS = 50, 7, 3
CPU = torch.device("cpu")


def mlp(hidden_sizes: list[int], activation: str, outputs: int = OUTPUTS, seed: int = 0) -> MLP:
    return MLP(INPUTS, hidden_sizes, outputs, activation, 1.0, torch.Generator().manual_seed(seed))


def inputs(seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(ROWS, INPUTS, generator=generator), torch.randn(ROWS, OUTPUTS, generator=generator)


@torch.no_grad()
def run_pass(network: MLP, x: Tensor, grad: Tensor, dtype: torch.dtype) -> tuple[Tensor, list[Tensor]]:
    """Output and gradients of the written-out passes."""
    vector = ParameterVector(network, dtype)
    passes = MLPPass(network, vector, Workspace(ROWS + 10, CPU))
    out = passes.forward(x.to(dtype)).clone()
    passes.backward(grad)
    vector.gather_gradients()
    return out, [vector.gradient(p).clone() for p in network.parameters()]


def autograd(network: MLP, x: Tensor, grad: Tensor) -> tuple[Tensor, list[Tensor]]:
    out = network(x)
    return out.detach(), list(torch.autograd.grad(out, list(network.parameters()), grad))


def test_every_activation_has_passes() -> None:
    assert set(PASSES) == set(ACTIVATIONS)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("hidden_sizes", [[], [16], [16, 12, 8]])
def test_passes_agree_with_autograd(activation: str, hidden_sizes: list[int]) -> None:
    network = mlp(hidden_sizes, activation)
    x, grad = inputs()
    expected_out, expected = autograd(network, x, grad)
    out, gradients = run_pass(network, x, grad, torch.float32)
    torch.testing.assert_close(out, expected_out, rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(gradients, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("hidden_sizes", [[], [16], [16, 12, 8]])
def test_the_gradient_by_the_input_agrees_with_autograd(activation: str, hidden_sizes: list[int]) -> None:
    network = mlp(hidden_sizes, activation)
    x, grad = inputs()
    x.requires_grad_()
    (expected,) = torch.autograd.grad(network(x), x, grad)
    with torch.no_grad():
        vector = ParameterVector(network, torch.float32)
        passes = MLPPass(network, vector, Workspace(ROWS + 10, CPU))
        passes.forward(x)
        passes.backward(grad)
        before = vector.gather_gradients().clone()
        passes.forward(x)
        torch.testing.assert_close(passes.input_gradient(grad), expected, rtol=1e-5, atol=1e-6)
        assert torch.equal(vector.gather_gradients(), before)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_passes_in_bfloat16_agree_up_to_its_rounding(activation: str) -> None:
    network = mlp([64, 64], activation)
    x, grad = inputs()
    expected_out, expected = autograd(network, x, grad)
    out, gradients = run_pass(network, x, grad, torch.bfloat16)
    assert (out - expected_out).norm() < 0.02 * expected_out.norm()
    for ours, theirs in zip(gradients, expected, strict=True):
        # a unit of ReLU near its kink may fall on the other side
        assert (ours - theirs).norm() < 0.08 * theirs.norm()


@pytest.mark.parametrize("activation", ["elu", "tanh"])
def test_fast_activations_are_exact_far_out(activation: str) -> None:
    z = torch.tensor([-200.0, -20.0, -1e-6, 0.0, 1e-6, 3.0, 200.0])
    out = torch.empty_like(z)
    PASSES[activation].forward(z, out)
    torch.testing.assert_close(out, ACTIVATIONS[activation](z), rtol=1e-6, atol=2e-7)


def test_fewer_rows_than_allocated_give_their_own_gradients() -> None:
    network = mlp([16], "elu")
    x, grad = inputs()
    vector = ParameterVector(network, torch.float32)
    passes = MLPPass(network, vector, Workspace(ROWS, CPU))
    with torch.no_grad():
        passes.forward(x)
        passes.backward(grad)
        passes.forward(x[:20])
        passes.backward(grad[:20])
    _, expected = autograd(network, x[:20], grad[:20])
    for p, theirs in zip(network.parameters(), expected, strict=True):
        torch.testing.assert_close(vector.gradient(p), theirs, rtol=1e-5, atol=1e-5)


def test_two_networks_share_a_workspace_in_turn() -> None:
    pair = nn.ModuleList([mlp([16, 16], "silu", seed=1), mlp([16, 16], "silu", seed=2)])
    x, grad = inputs()
    expected = [autograd(network, x, grad)[1] for network in pair if isinstance(network, MLP)]
    vector, workspace = ParameterVector(pair, torch.float32), Workspace(ROWS, CPU)
    with torch.no_grad():
        for network in pair:
            assert isinstance(network, MLP)
            passes = MLPPass(network, vector, workspace)
            passes.forward(x)
            passes.backward(grad)
    ours = [vector.gradient(p) for p in pair.parameters()]
    for mine, theirs in zip(ours, [g for gradients in expected for g in gradients], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_parameters_stay_the_modules_own(dtype: torch.dtype) -> None:
    network = mlp([5], "elu")
    before = {k: v.clone() for k, v in network.state_dict().items()}
    vector = ParameterVector(network, dtype)
    assert all(torch.equal(network.state_dict()[k], v) for k, v in before.items())
    network.load_state_dict({k: v + 1.0 for k, v in before.items()})
    vector.refresh()
    for p in network.parameters():
        assert p.data_ptr() % 64 == 0
        assert torch.equal(vector.copy(p)[0], p.to(dtype))
    starts = [p.data_ptr() for p in network.parameters()]
    assert all(a < b for a, b in pairwise(starts))
    vector.data.zero_()
    assert not any(p.any() for p in network.parameters())


def test_adam_agrees_with_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(100, generator=generator)
    theirs = nn.Parameter(data.clone())
    gradient, rate = torch.zeros(100), torch.tensor(3e-3)
    ours, reference = Adam(data, gradient, rate), torch.optim.Adam([theirs], lr=3e-3)
    for step in range(20):
        gradient.copy_(torch.randn(100, generator=generator))
        theirs.grad = gradient.clone()
        if step == 10:
            rate.fill_(1e-2)
            reference.param_groups[0]["lr"] = 1e-2
        ours.begin_step()
        ours.step()
        reference.step()
        torch.testing.assert_close(data, theirs.detach(), rtol=1e-5, atol=1e-6)
