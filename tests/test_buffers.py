from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rl_platform.buffers import ReplayBuffer, RolloutBuffer, generalized_advantages


def column(*values: float) -> Tensor:
    """One environment's steps."""
    return torch.tensor(values, dtype=torch.float64).unsqueeze(-1)


def flags(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.bool).unsqueeze(-1)


def test_gae_of_three_steps_by_hand() -> None:
    none = flags(0, 0, 0)
    advantage = generalized_advantages(
        column(1, 2, 3), column(0.5, 0.4, 0.3), column(0.4, 0.3, 0.2), none, none, gamma=0.9, gae_lambda=0.8
    )
    # δ = r + 0.9 V' - V = 0.86, 1.87, 2.88; A = δ + 0.72 A'
    third = 2.88
    second = 1.87 + 0.72 * third
    first = 0.86 + 0.72 * second
    torch.testing.assert_close(advantage, column(first, second, third))


def test_termination_drops_the_next_value_and_cuts_the_sum() -> None:
    advantage = generalized_advantages(
        column(1, 2, 3),
        column(0.5, 0.4, 0.3),
        column(0.4, 99.0, 0.2),
        flags(0, 1, 0),
        flags(0, 1, 0),
        0.9,
        0.8,
    )
    second = 2 - 0.4
    torch.testing.assert_close(advantage, column(0.86 + 0.72 * second, second, 2.88))


def test_truncation_keeps_the_final_value_and_cuts_the_sum() -> None:
    final_value = 0.7
    advantage = generalized_advantages(
        column(1, 2, 3), column(0.5, 0.4, 0.3), column(0.4, final_value, 0.2),
        flags(0, 0, 0), flags(0, 1, 0), 0.9, 0.8,
    )  # fmt: skip
    second = 2 + 0.9 * final_value - 0.4
    torch.testing.assert_close(advantage, column(0.86 + 0.72 * second, second, 2.88))


def test_lambda_one_gives_discounted_returns() -> None:
    generator = torch.Generator().manual_seed(0)
    reward, value = torch.randn(2, 10, 3, generator=generator, dtype=torch.float64)
    last = torch.randn(3, generator=generator, dtype=torch.float64)
    done = torch.zeros(10, 3, dtype=torch.bool)
    next_value = torch.cat((value[1:], last.unsqueeze(0)))
    advantage = generalized_advantages(reward, value, next_value, done, done, 0.95, 1.0)
    returns = last
    for t in reversed(range(10)):
        returns = reward[t] + 0.95 * returns
        torch.testing.assert_close(advantage[t] + value[t], returns)


def small_buffer() -> RolloutBuffer:
    return RolloutBuffer(2, 3, {"policy": 4}, 1, 1, torch.device("cpu"))


def test_buffer_keeps_copies_and_refuses_a_step_too_many() -> None:
    buffer = small_buffer()
    obs, action = {"policy": torch.ones(3, 4)}, torch.ones(3, 1)
    never = torch.zeros(3, dtype=torch.bool)
    for t in range(2):
        buffer.add_action(obs, action, action)
        buffer.add_outcome(torch.full((3,), float(t)), never, never)
        obs["policy"].fill_(7.0)
    assert buffer.full
    assert torch.equal(buffer.obs["policy"][0], torch.ones(3, 4))
    assert torch.equal(buffer.reward[:, 0], torch.tensor([0.0, 1.0]))
    with pytest.raises(RuntimeError, match="rollout is full"):
        buffer.add_action(obs, action, action)


def test_final_observations_are_filed_under_their_step_and_environment() -> None:
    buffer = small_buffer()
    never = torch.zeros(3, dtype=torch.bool)
    for _ in range(2):
        buffer.add_action({"policy": torch.zeros(3, 4)}, torch.zeros(3, 1), torch.zeros(3, 1))
        buffer.add_outcome(torch.zeros(3), never, never)
    buffer.add_final_obs(torch.tensor([0, 2]), torch.ones(2, 4))
    assert torch.cat(buffer.final_rows).tolist() == [3, 5]


def test_a_replay_buffer_goes_round() -> None:
    buffer = ReplayBuffer(4, 2, {"policy": 1}, 1, torch.device("cpu"))
    never = torch.zeros(2, dtype=torch.bool)

    def step(i: int) -> dict[str, Tensor]:
        value = torch.tensor([[float(i)], [float(100 + i)]])
        obs = {"policy_obs": value, "next_policy_obs": value + 1.0}
        return obs | {"action": -value, "reward": 10.0 * value[:, 0], "terminated": never}

    for i in range(3):
        buffer.add(step(i))
    assert (buffer.size, buffer.position) == (3, 3)
    for i in range(3, 6):
        buffer.add(step(i))
    assert (buffer.size, buffer.position) == (4, 2)
    taken = buffer.take(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 3]))
    assert taken["policy_obs"][:, 0].tolist() == [4.0, 105.0, 103.0]
    assert taken["next_policy_obs"][:, 0].tolist() == [5.0, 106.0, 104.0]
    assert taken["reward"][:, 0].tolist() == [40.0, 1050.0, 1030.0]
    assert buffer.latest("action", 3)[0, :, 0].tolist() == [-3.0, -4.0, -5.0]
    other = ReplayBuffer(4, 2, {"policy": 1}, 1, torch.device("cpu"))
    other.load_state_dict(buffer.state_dict())
    for one in (buffer, other):
        one.add(step(6))
        assert one.columns["action"][1, :, 0].tolist() == [-104.0, -105.0, -106.0, -103.0]
    assert torch.equal(other.latest("reward", 4), buffer.latest("reward", 4))
