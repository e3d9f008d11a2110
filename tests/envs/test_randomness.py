"""One random stream for each global environment index."""

from __future__ import annotations

import torch

from rl_platform.envs.randomness import EnvRandom

CPU = torch.device("cpu")


def make(num_envs: int, offset: int = 0, seed: int = 7) -> EnvRandom:
    random = EnvRandom(num_envs, offset, CPU)
    random.seed(seed)
    return random


def test_streams_do_not_depend_on_how_environments_are_spread() -> None:
    whole = make(8).uniform(torch.arange(8), 5)
    parts = [make(3).uniform(torch.arange(3), 5), make(5, offset=3).uniform(torch.arange(5), 5)]
    assert torch.equal(whole, torch.cat(parts))


def test_streams_do_not_depend_on_who_else_draws() -> None:
    together, apart = make(4), make(4)
    expected = torch.cat([together.uniform(torch.arange(4), 3), together.uniform(torch.arange(4), 2)], 1)
    for env_id in (2, 0, 3, 1):
        ids = torch.tensor([env_id])
        found = torch.cat([apart.uniform(ids, 3), apart.uniform(ids, 2)], 1)
        assert torch.equal(found[0], expected[env_id])


def test_seeds_and_environments_differ() -> None:
    draws = torch.cat([make(1000, seed=seed).uniform(torch.arange(1000), 4) for seed in (0, 1)])
    assert len(draws.unique()) == draws.numel()


def test_draws_are_uniform_and_normal() -> None:
    random = make(2000)
    ids = torch.arange(2000)
    uniform = random.uniform(ids, 50)
    assert uniform.min() >= 0.0
    assert uniform.max() < 1.0
    assert abs(uniform.mean() - 0.5) < 0.003
    assert abs(uniform.var() - 1 / 12) < 0.002
    normal = random.normal(ids, 50)
    assert abs(normal.mean()) < 0.015
    assert abs(normal.var() - 1.0) < 0.03
    # neighbouring numbers of a stream, and neighbouring streams, are unrelated
    for a, b in ((normal[:, 1:], normal[:, :-1]), (normal[1:], normal[:-1])):
        assert abs((a * b).mean()) < 0.015


def test_ranges() -> None:
    drawn = make(500).uniform_in(torch.arange(500), [[-2.0, -1.0], [3.0, 3.5]])
    assert drawn[:, 0].min() >= -2.0
    assert drawn[:, 0].max() < -1.0
    assert drawn[:, 1].min() >= 3.0
    assert drawn[:, 1].max() < 3.5


def test_a_saved_stream_goes_on() -> None:
    random = make(4)
    random.uniform(torch.arange(4), 3)
    other = make(4, seed=99)
    other.load_state_dict(random.state_dict())
    assert torch.equal(random.uniform(torch.arange(4), 3), other.uniform(torch.arange(4), 3))
