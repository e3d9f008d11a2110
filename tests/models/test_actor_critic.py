from __future__ import annotations

from typing import Any

import pytest
import torch

from rl_platform.models.actor_critic import ActorConfig, ActorCritic, ActorCriticConfig
from rl_platform.models.mlp import MLP, MLPConfig
from rl_platform.tensor_math import batch_moments

DIMS = {"policy": 4, "critic": 6}
ACTOR: dict[str, Any] = dict(
    hidden_sizes=[8], activation="elu", std_type="log", init_std=0.5, min_std=0.1, max_std=2.0
)  # fmt: skip


def config(**actor: Any) -> ActorCriticConfig:
    return ActorCriticConfig(
        "ppo", ActorConfig(**(ACTOR | actor)), MLPConfig([8], "tanh"), True, False, False
    )  # fmt: skip


def model(dims: dict[str, int] = DIMS, normalize_value: bool = True, **actor: Any) -> ActorCritic:
    return ActorCritic(config(**actor), dims, 3, normalize_value, seed=0)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_sizes", [8, 0]),
        ("activation", "sigmoidal"),
        ("std_type", "beta"),
        ("min_std", 0.0),
        ("max_std", 0.05),
        ("init_std", 3.0),
    ],
)
def test_check_names_the_value_out_of_range(key: str, value: Any) -> None:
    assert not list(config().actor.check())
    assert key in dict(config(**{key: value}).actor.check())


def test_a_state_dependent_std_cannot_start_on_its_bound() -> None:
    on_bound = dict(config(std_type="state_dependent", init_std=2.0).actor.check())
    assert "strictly" in on_bound["init_std"]


def test_the_seed_fixes_the_weights() -> None:
    def weights(seed: int) -> torch.Tensor:
        network = MLP(4, [8], 2, "elu", 1.0, torch.Generator().manual_seed(seed))
        return torch.cat([p.flatten() for p in network.parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_hidden_weights_start_orthogonal_and_the_policy_near_zero() -> None:
    first, last = model().actor.linears
    torch.testing.assert_close(first.weight.T @ first.weight, 2.0 * torch.eye(4))
    torch.testing.assert_close(last.weight @ last.weight.T, 1e-4 * torch.eye(3))


def test_the_critic_reads_its_own_group_where_there_is_one() -> None:
    assert model().critic.linears[0].in_features == 6
    alone = model({"policy": 4})
    assert alone.critic_group == "policy"
    assert alone.critic.linears[0].in_features == 4


@pytest.mark.parametrize("std_type", ["scalar", "log", "state_dependent"])
def test_std_starts_where_asked(std_type: str) -> None:
    network = model(std_type=std_type)
    mean, log_std = network.distribution.read(network.actor(torch.randn(5, 4)))
    assert mean.shape == (5, 3)
    torch.testing.assert_close(log_std.exp().expand(5, 3), torch.full((5, 3), 0.5), rtol=0.05, atol=0)


def test_a_state_dependent_std_stays_in_its_bounds() -> None:
    network = model(std_type="state_dependent")
    out = torch.full((2, 6), 100.0) * torch.tensor([[1.0], [-1.0]])
    std = network.distribution.read(out)[1].exp()
    torch.testing.assert_close(std, torch.tensor([[2.0], [0.1]]).expand(2, 3))


@pytest.mark.parametrize("std_type", ["scalar", "log"])
def test_a_std_that_is_a_parameter_is_put_back_into_its_bounds(std_type: str) -> None:
    network = model(std_type=std_type)
    with torch.no_grad():
        network.std_parameter.copy_(torch.tensor([-50.0, 0.3, 50.0]))
    network.distribution.clamp_()
    std = network.distribution.read(torch.zeros(1, 3))[1].exp()
    middle = 0.3 if std_type == "scalar" else torch.tensor(0.3).exp().item()
    torch.testing.assert_close(std, torch.tensor([0.1, middle, 2.0]))


@pytest.mark.parametrize("std_type", ["scalar", "log", "state_dependent"])
def test_gradient_through_mean_and_std_agrees_with_autograd(std_type: str) -> None:
    network = model(std_type=std_type)
    out = network.actor(torch.randn(5, 4)).detach().requires_grad_()
    grad_mean, grad_log_std = torch.randn(2, 5, 3)
    mean, log_std = network.distribution.read(out)
    total = (mean * grad_mean).sum() + (log_std.expand(5, 3) * grad_log_std).sum()
    total.backward()
    with torch.no_grad():
        slot = torch.empty(3)
        parameter = None if std_type == "state_dependent" else slot
        ours = network.distribution.backward(out, (grad_mean, grad_log_std), parameter)
    torch.testing.assert_close(ours, out.grad)
    if parameter is not None:
        torch.testing.assert_close(slot, network.std_parameter.grad)


def test_a_discrete_action_has_a_logit_for_each_choice_and_no_std() -> None:
    network = ActorCritic(config(), DIMS, 1, True, seed=0, num_choices=5)
    out = network.actor(torch.randn(7, 4))
    assert out.shape == (7, 5)
    assert "std_parameter" not in network.state_dict()
    (log_p,) = network.distribution.read(out)
    torch.testing.assert_close(log_p.exp(), torch.full((7, 5), 0.2), atol=0.05, rtol=0)


def test_new_statistics_of_returns_change_no_value() -> None:
    network = model()
    x = torch.randn(10, 6)
    assert network.value_normalizer is not None

    def value() -> torch.Tensor:
        assert network.value_normalizer is not None
        return network.value_normalizer.inverse(network.critic(x)).detach()

    before = value()
    network.update_value_normalizer(batch_moments(100.0 + 5.0 * torch.randn(1000, 1)))
    torch.testing.assert_close(value(), before, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(network.value_normalizer.shift.item(), 100.0, rtol=0.01, atol=0)
