from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, TanhTransform, TransformedDistribution

from rl_platform import config, seeding
from rl_platform.algos.sac import SAC, SACConfig, make_sac
from rl_platform.composition import Composer
from rl_platform.errors import NonFiniteError, UserError
from rl_platform.models.mlp import MLPConfig
from rl_platform.models.soft_actor_critic import (
    SoftActorCriticConfig,
    SquashedActorConfig,
    squashed_log_prob,
)
from rl_platform.recorded import Recorded
from rl_platform.trainer import Trainer
from tests.fakes import MemoryRunDir, PointMass, session
from tests.tape import Tape
from tests.test_resume import differences, metrics
from tests.waiting import looking

NUM_ENVS, ACTIONS = 6, 2
DIMS = {"policy": 4, "critic": 5}
NEVER = torch.zeros(NUM_ENVS, dtype=torch.bool)
NUMBERS: dict[str, Any] = dict(
    name="sac", rollout_steps=4, gradient_steps=6, batch_size=32, buffer_size=600, learning_starts=48,
    learning_rate=1e-3, q_learning_rate=2e-3, alpha_learning_rate=3e-3, gamma=0.9, tau=0.02,
    policy_frequency=2, alpha="auto", init_alpha=0.2, target_entropy=None, reward_scale=1.0,
    bootstrap_truncated=True, random_episode_start=False, save_replay=True,
)  # fmt: skip


def numbers(**changes: Any) -> SACConfig:
    return SACConfig(**(NUMBERS | changes))


def small_sac(
    dims: dict[str, int] = DIMS,
    num_envs: int = NUM_ENVS,
    low: tuple[float, ...] = (-1.0, -2.0),
    high: tuple[float, ...] = (1.0, 6.0),
    seed: int = 0,
    hidden: int = 16,
    mixed_precision: bool = False,
    normalize_obs: bool = True,
    num_threads: int = 1,
    **changes: Any,
) -> SAC:
    actor = SquashedActorConfig([hidden, hidden], "elu", init_std=0.7, min_std=0.01, max_std=5.0)
    agent = SoftActorCriticConfig(
        "sac", actor, MLPConfig([hidden, 12], "tanh"), normalize_obs, mixed_precision
    )
    bounds = torch.tensor(low), torch.tensor(high)
    return make_sac(agent, numbers(**changes), dims, bounds, num_envs, "cpu", seed, num_threads)


def observations(seed: int, num_envs: int = NUM_ENVS) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {g: torch.randn(num_envs, d, generator=generator) for g, d in DIMS.items()}


def collect(sac: SAC, steps: int, seed: int = 0) -> dict[str, Tensor]:
    """Some steps of made-up experience, in which episodes end; return the observation after them."""
    generator = torch.Generator().manual_seed(seed)
    obs = observations(seed)
    for i in range(steps):
        action = sac.act(obs)
        after = observations(1000 * seed + i + 1)
        ended = torch.rand(NUM_ENVS, generator=generator) < 0.2
        sac.observe(-action.square().sum(1), ended, NEVER, after)
        obs = after
    return obs


def train(sac: SAC, iterations: int = 4, seed: int = 0) -> list[dict[str, float]]:
    told = []
    for i in range(iterations):
        told.append(sac.update(collect(sac, sac.rollout_steps, seed + i)))
    return told


def weights(sac: SAC) -> Tensor:
    return torch.cat([sac.of_actor.data, sac.of_critics.data, sac.of_targets.data, sac.log_alpha]).clone()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("gradient_steps", 0),
        ("batch_size", 0),
        ("gamma", 1.5),
        ("tau", 0.0),
        ("learning_rate", 0.0),
        ("learning_starts", -1),
        ("alpha", -0.1),
        ("buffer_size", 31),
    ],
)
def test_check_names_the_value_out_of_range(key: str, value: Any) -> None:
    assert not list(numbers().check())
    assert key in dict(numbers(**{key: value}).check())


def test_a_buffer_without_a_step_for_each_environment_is_refused() -> None:
    with pytest.raises(UserError, match=r"buffer_size=20 holds less than algo.rollout_steps=4 steps of 6"):
        small_sac(buffer_size=20)


def test_log_probability_of_the_squashed_gaussian() -> None:
    noise, mean, log_std = torch.randn(50, 3), 2.0 * torch.randn(50, 3), torch.randn(50, 3).clamp(-2.0, 0.5)
    u = mean + log_std.exp() * noise
    squashed = TransformedDistribution(
        Normal(mean.double(), log_std.double().exp()), [TanhTransform(cache_size=1)]
    )
    expected = squashed.log_prob(squashed.transforms[0](u.double())).sum(1)
    assert torch.allclose(squashed_log_prob(noise, log_std, u).double(), expected, atol=1e-4)
    far = torch.full((1, 3), 30.0)
    assert torch.isfinite(squashed_log_prob(far * 0, far * 0, far)).all()


class Reference(nn.Module):
    """The losses as the paper writes them, by autograd."""

    def __init__(self, sac: SAC, batch: dict[str, Tensor]) -> None:
        super().__init__()
        self.model, self.batch, self.alpha = copy.deepcopy(sac.model), batch, sac.alpha.clone()
        self.target_entropy = sac.target_entropy

    def drawn(self, obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = self.model.gaussian.read(self.model.actor(obs))
        u = mean + log_std.exp() * noise
        normal = Normal(mean, log_std.exp())
        a = torch.tanh(u)
        return a, (normal.log_prob(u) - torch.log(1.0 - a.square() + 1e-12)).sum(1)

    def critic_loss(self) -> Tensor:
        b, m = self.batch, self.model
        with torch.no_grad():
            a, log_prob = self.drawn(b["next_policy_obs"], b["next_noise"])
            after = torch.cat((b["next_critic_obs"], a), 1)
            q = torch.minimum(*(target(after)[:, 0] for target in m.targets))
            y = b["reward"][:, 0] + b["discount"][:, 0] * (q - self.alpha * log_prob)
        now = torch.cat((b["critic_obs"], b["action"]), 1)
        return sum((0.5 * (critic(now)[:, 0] - y).square().mean() for critic in m.critics), torch.zeros(()))

    def actor_loss(self) -> Tensor:
        b, m = self.batch, self.model
        a, log_prob = self.drawn(b["policy_obs"], b["noise"])
        now = torch.cat((b["critic_obs"], a), 1)
        q = torch.minimum(*(critic(now)[:, 0] for critic in m.critics))
        return (self.alpha * log_prob - q).mean()


@pytest.mark.parametrize("num_threads", [1, 2])
def test_gradients_are_those_of_the_papers_losses(num_threads: int) -> None:
    sac = small_sac(num_threads=num_threads, q_learning_rate=1e-9, learning_rate=1e-9)
    train(sac)
    with torch.no_grad():
        batch = sac._draw()
        reference = Reference(sac, {k: v.clone() for k, v in batch.items()})
        (told,) = sac._gradient_step(True, batch)
    model, losses = reference.model, (reference.critic_loss(), reference.actor_loss())
    for loss, parameters, own, mlps in (
        (losses[0], model.critics.parameters(), sac.of_critics, sac.model.critics),
        (losses[1], model.actor.parameters(), sac.of_actor, sac.model.actor),
    ):
        expected = torch.autograd.grad(loss, list(parameters))
        for parameter, grad in zip(mlps.parameters(), expected, strict=True):
            assert torch.allclose(own.gradient(parameter), grad, rtol=1e-3, atol=1e-6)
            assert bool(grad.abs().max() > 0)
    assert told[0].item() == pytest.approx(losses[0].item(), rel=1e-4)
    assert told[2].item() == pytest.approx(losses[1].item(), rel=1e-4)


def test_the_temperature_follows_the_entropy() -> None:
    """Too little entropy makes it rise, too much fall; a number stays what it is."""
    for target, rises in ((50.0, True), (-50.0, False)):
        sac = small_sac(target_entropy=target)
        train(sac)
        assert bool(sac.alpha[0] > 0.2) is rises
    for fixed in (0.0, 0.3):
        sac = small_sac(alpha=fixed)
        losses = train(sac)[-1]
        assert losses["Loss/alpha"] == pytest.approx(fixed)


def test_slow_copies_follow_their_critics() -> None:
    sac = small_sac(gradient_steps=1, learning_starts=32)
    collect(sac, 8)
    before = sac.of_targets.data.clone()
    assert torch.equal(before, sac.of_critics.data)
    sac.update({})
    tau = NUMBERS["tau"]
    assert torch.allclose(sac.of_targets.data, (1 - tau) * before + tau * sac.of_critics.data, atol=1e-7)
    assert not torch.equal(sac.of_critics.data, before)


def test_the_actor_learns_at_every_second_step() -> None:
    sac = small_sac(gradient_steps=1, learning_starts=0, policy_frequency=2, rollout_steps=6)
    moved = []
    for i in range(4):
        collect(sac, 6, i)
        before = sac.of_actor.data.clone()
        losses = sac.update({})
        moved.append(not torch.equal(before, sac.of_actor.data))
        assert ("Loss/actor" in losses) is moved[-1]
        assert "Loss/critic" in losses
    assert moved == [False, True, False, True]


def test_before_it_learns_actions_are_uniform_within_the_bounds() -> None:
    sac = small_sac(dims={"policy": 4, "critic": 5}, learning_starts=480)
    before = weights(sac)
    actions = []
    for i in range(20):
        obs = observations(i)
        for _ in range(4):
            actions.append(sac.act(obs))
            sac.observe(torch.zeros(NUM_ENVS), NEVER, NEVER, obs)
        if i < 19:
            assert sac.update(obs) == {}
    drawn = torch.cat(actions)
    assert torch.equal(weights(sac), before)
    assert drawn[:, 0].min() < -0.95
    assert drawn[:, 0].max() > 0.95
    assert -2.0 <= drawn[:, 1].min() < -1.8
    assert 5.8 < drawn[:, 1].max() <= 6.0
    assert drawn.mean(0).tolist() == pytest.approx([0.0, 2.0], abs=0.3)
    assert sac.update(obs)


def test_actions_stay_within_the_bounds() -> None:
    sac = small_sac()
    train(sac)
    obs = {g: 50.0 * x for g, x in observations(3).items()}
    for action in (sac.act(obs), sac.policy(obs), sac.policy_module()(obs["policy"])):
        assert bool((action >= torch.tensor([-1.0, -2.0])).all())
        assert bool((action <= torch.tensor([1.0, 6.0])).all())


@pytest.mark.parametrize("bootstrap", [True, False])
def test_what_ends_the_sum(bootstrap: bool) -> None:
    sac = small_sac(bootstrap_truncated=bootstrap, reward_scale=2.0)
    obs, final = observations(0), observations(1)
    sac.act(obs)
    terminated, truncated = NEVER.clone(), NEVER.clone()
    terminated[0], truncated[1] = True, True
    sac.observe(torch.full((NUM_ENVS,), 3.0), terminated, truncated, final)
    kept = sac.replay.take(torch.arange(NUM_ENVS), torch.zeros(NUM_ENVS, dtype=torch.int64))
    assert kept["terminated"][:, 0].tolist() == [1.0, 0.0 if bootstrap else 1.0, 0.0, 0.0, 0.0, 0.0]
    assert bool((kept["reward"] == 6.0).all())
    assert torch.equal(kept["next_policy_obs"], final["policy"])
    assert torch.equal(kept["critic_obs"], obs["critic"])
    with pytest.raises(ValueError, match="final_obs"):
        sac.observe(torch.zeros(NUM_ENVS), NEVER, NEVER, None)


def test_normalisers_see_every_observation_once() -> None:
    sac = small_sac(learning_starts=600)
    seen = []
    for i in range(3):
        for j in range(4):
            obs = observations(10 * i + j)
            seen.append(obs["policy"])
            sac.act(obs)
            sac.observe(torch.zeros(NUM_ENVS), NEVER, NEVER, obs)
        sac.update(obs)
    rows: Any = torch.cat(seen)
    normalizer: Any = sac.model.normalizers["policy"]
    assert float(normalizer.count) == len(rows)
    assert torch.allclose(normalizer.mean.float(), rows.mean(0), atol=1e-6)


@pytest.mark.parametrize("where", ["observation", "reward"])
def test_a_nan_is_told_before_a_weight_changes(where: str) -> None:
    sac = small_sac()
    train(sac)
    before = weights(sac)
    obs = collect(sac, 3)
    sac.act(obs | {"policy": obs["policy"] * (math.nan if where == "observation" else 1.0)})
    reward = torch.full((NUM_ENVS,), math.nan if where == "reward" else 0.0)
    sac.observe(reward, NEVER, NEVER, obs)
    with pytest.raises(NonFiniteError, match="policy" if where == "observation" else "reward"):
        sac.update(obs)
    assert torch.equal(weights(sac), before)


@pytest.mark.parametrize("mixed_precision", [False, True])
def test_a_recorded_step_is_the_step_itself(monkeypatch: pytest.MonkeyPatch, mixed_precision: bool) -> None:
    """Held against a tape, which does what a CUDA graph does: the same operations on the same memory."""
    monkeypatch.setattr("rl_platform.algos.sac.bfloat16_is_fast", lambda device: True)
    ours, reference = (small_sac(mixed_precision=mixed_precision) for _ in range(2))
    tapes: list[Tape] = []
    ours.steps = [Recorded(step, lambda: Tape(tapes)) for step in ours.steps]
    for i in range(5):
        told = [train(sac, 1, i) for sac in (ours, reference)]
        assert told[0] == told[1]
        assert torch.equal(weights(ours), weights(reference))
    assert [tape.replays > 3 for tape in tapes] == [True, True]


def test_an_update_waits_twice_for_the_device() -> None:
    sac = small_sac()
    train(sac, 2)
    collect(sac, 4)
    with looking(allowed=2) as looks:
        assert sac.update({})
    assert looks.seen == 2


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("mixed_precision", [False, True])
def test_contextual_bandit(seed: int, mixed_precision: bool) -> None:
    """One-step episodes: the best action is half of the observation."""
    sac = small_sac(
        {"policy": 2}, 16, (-2.0, -2.0), (2.0, 2.0), seed, hidden=32, mixed_precision=mixed_precision,
        rollout_steps=8, gradient_steps=32, batch_size=64, buffer_size=20_000, learning_starts=512,
        learning_rate=3e-3, q_learning_rate=3e-3,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    obs = torch.randn(16, 2, generator=generator)
    always, never = torch.ones(16, dtype=torch.bool), torch.zeros(16, dtype=torch.bool)
    for _ in range(60):
        for _ in range(sac.rollout_steps):
            action = sac.act({"policy": obs})
            reward = -(action - 0.5 * obs).square().sum(-1)
            obs = torch.randn(16, 2, generator=generator)
            sac.observe(reward, always, never, {"policy": obs})
        sac.update({"policy": obs})
    test = torch.randn(500, 2, generator=generator)
    error = (sac.policy({"policy": test}) - 0.5 * test).abs().mean()
    assert error < 0.12  # untrained: 0.4


def trainer(path: Path, seed: int = 1, save_replay: bool = True, **changes: Any) -> Trainer:
    seeding.seed_everything(seed)
    env = PointMass(8)
    sac = small_sac(
        env.observation_dims, 8, (-1.0, -1.0), (1.0, 1.0), seed=seed, save_replay=save_replay,
        buffer_size=200, learning_starts=64,
    )  # fmt: skip
    return Trainer(env, sac, session(path, **changes))


def test_interrupted_and_resumed_is_the_same_training(tmp_path: Path) -> None:
    """Also where the buffer has gone round."""
    for part in ("whole", "parts"):
        (tmp_path / part).mkdir()
    whole = trainer(tmp_path / "whole", max_iterations=20)
    whole.fit()
    first = trainer(tmp_path / "parts", max_iterations=10)
    first.fit()
    second = trainer(tmp_path / "parts", seed=7, max_iterations=20)
    second.load_state_dict(MemoryRunDir(tmp_path / "parts").load_checkpoint())
    second.fit()
    states = [MemoryRunDir(tmp_path / part).load_checkpoint() for part in ("whole", "parts")]
    assert differences(states[0], states[1]) == []
    rows = [metrics(one.session.loggers) for one in (whole, first, second)]
    assert rows[1] + rows[2] == rows[0]


def test_a_best_checkpoint_has_the_networks_alone(tmp_path: Path) -> None:
    one = trainer(tmp_path, max_iterations=40, save_best_after=1)
    one.fit()
    last, best = (MemoryRunDir(tmp_path).load_checkpoint(name) for name in ("last", "best"))
    assert last["algo"]["envs"]["replay"]["columns"]["reward"].shape == (8, 25, 1)
    assert best["algo"]["envs"] == {}


def test_without_transitions_the_buffer_fills_before_anything_is_learnt(tmp_path: Path) -> None:
    trainer(tmp_path, save_replay=False, max_iterations=10).fit()
    state = MemoryRunDir(tmp_path).load_checkpoint()
    assert state["algo"]["envs"] == {}
    again = trainer(tmp_path, save_replay=False, max_iterations=12)
    again.load_state_dict(state)
    sac = again.algo
    assert isinstance(sac, SAC)
    told = sac.beginning()
    assert "The transitions of before are not in the checkpoint" in told
    assert "Learning starts after 64 environment steps with the policy's actions" in told
    before = weights(sac)
    again._collect()
    assert sac.update({}) == {}  # 32 of 64
    assert torch.equal(weights(sac), before)
    again._collect()
    assert sac.update({})
    obs = again.env.reset()
    assert not torch.equal(sac.act(obs), sac.act(obs))  # the policy's own noise: nothing uniform any more
    assert sac.seen * 8 > sac.cfg.learning_starts


def test_a_buffer_that_is_too_small_is_told_before_anything_starts() -> None:
    job = Composer().compose(["env=cartpole", "agent=sac", "algo.buffer_size=6000", "env.num_envs=8192"])
    with pytest.raises(UserError, match=r"algo.buffer_size: must be at least .* = 8 x 8192, got 6000"):
        config.check_job(job)


def test_it_says_when_learning_starts() -> None:
    sac = small_sac(learning_starts=100, save_replay=False)
    told = sac.beginning()
    assert "Replay buffer: 600 transitions, 0 MB when full (checkpoints are without them)" in told
    assert "Learning starts after 102 environment steps with random actions" in told
    train(sac, 5)
    assert "Learning starts" not in sac.beginning()


def test_networks_of_another_run_act_from_the_start() -> None:
    first, second = small_sac(seed=1, learning_starts=48), small_sac(seed=2, learning_starts=480)
    train(first)
    second.load_model(first.state_dict()["model"])
    obs = observations(5)
    drawn = torch.stack([second.act(obs) for _ in range(300)])
    assert (
        drawn.median(0).values - first.policy(obs)
    ).abs().max() < 0.9  # uniform ones have their middle elsewhere
    assert "with the policy's actions" in second.beginning()
    third = small_sac(learning_starts=480)
    third.load_state_dict(small_sac(learning_starts=480).state_dict())
    assert "with random actions" in third.beginning()


def test_a_buffer_that_fits_nowhere_is_told() -> None:
    with pytest.raises(
        UserError, match=r"buffer_size=100_000_000_000_000 needs .* GB, which cpu does not have"
    ):
        small_sac(buffer_size=100_000_000_000_000)


def test_a_training_that_ends_before_it_learns_is_refused() -> None:
    job = Composer().compose(["env=cartpole", "agent=sac", "total_env_steps=3000"])
    with pytest.raises(UserError, match=r"learning_starts: must be less than total_env_steps=3000, got 5000"):
        config.check_job(job)
