from __future__ import annotations

import io
import shutil
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from rl_platform import distributed
from rl_platform.algos.ppo import PPO, adapt_learning_rate_
from rl_platform.errors import NonFiniteError, UserError
from rl_platform.recorded import Recorded
from tests.algos.helpers import (
    ACTIONS,
    DIMS,
    NUM_ENVS,
    STEPS,
    observations,
    play,
    small_config,
    small_ppo,
    weights,
)
from tests.tape import Tape
from tests.waiting import looking, run_behind

NEVER = torch.zeros(NUM_ENVS, dtype=torch.bool)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rollout_steps", 0),
        ("gamma", 1.5),
        ("gae_lambda", -0.1),
        ("learning_rate", 0.0),
        ("lr_schedule", "cosine"),
        ("max_learning_rate", 1e-6),
        ("ent_coef", -1.0),
        ("normalize_advantage", "always"),
        ("noise_correlation", 1.0),
    ],
)
def test_check_names_the_value_out_of_range(key: str, value: Any) -> None:
    assert not list(small_config().check())
    assert key in dict(small_config(**{key: value}).check())


def test_minibatches_must_divide_the_rollout() -> None:
    with pytest.raises(UserError, match=r"num_minibatches=5 does not divide the 48 samples"):
        small_ppo(num_minibatches=5)


@torch.no_grad()
def targets_now(ppo: PPO, obs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Advantages as the definition has them (a sum of TD errors), by the critic as it is."""
    buffer, scale = ppo.buffer, ppo.model.value_normalizer
    assert scale is not None
    ended_with = torch.cat([torch.zeros(0, dtype=torch.long), *buffer.final_rows])
    value = torch.stack([values_of(ppo, {"critic": x}) for x in buffer.obs["critic"]])
    following = torch.cat([value[1:], values_of(ppo, obs)[None]]).flatten()
    if len(ended_with):
        following[ended_with] = values_of(ppo, {"critic": torch.cat(buffer.final_obs)})
    following = following.view(value.shape)
    errors = buffer.reward + ppo.cfg.gamma * following * (~buffer.terminated) - value
    advantage = torch.zeros_like(value)
    for step in range(ppo.rollout_steps):
        weight = torch.ones(NUM_ENVS)
        for later in range(step, ppo.rollout_steps):
            advantage[step] += weight * errors[later]
            weight = weight * ppo.cfg.gamma * ppo.cfg.gae_lambda * (~buffer.done[later])
    advantage, value = advantage.flatten(), value.flatten()
    targets = {"return": scale(advantage + value), "value": scale(value)}
    return targets | {"advantage": (advantage - advantage.mean()) / advantage.std(correction=0)}


def reference_update(ppo: PPO, obs: dict[str, Tensor]) -> None:
    """PPO's update as one would write it with autograd and PyTorch's optimiser."""
    model, cfg = ppo.model, ppo.cfg
    with torch.no_grad():
        columns, shared, *_ = ppo._prepare(obs)
    parameters = list(model.parameters())
    optimizer = torch.optim.Adam(parameters, lr=cfg.learning_rate)
    lr, first = cfg.learning_rate, True
    for epoch in range(cfg.update_epochs):
        if epoch and cfg.recompute_advantage:
            columns |= targets_now(ppo, obs)
        order = torch.randperm(ppo.samples, generator=ppo.generator)
        for rows in order.chunk(cfg.num_minibatches):
            b = {name: x[rows].clone() for name, x in columns.items()}
            if cfg.normalize_advantage == "minibatch":
                b["advantage"] = distributed.standardize(b["advantage"])
            mean, log_std = model.distribution.read(model.actor(b["policy_obs"]))
            old_log_std = (b | shared)["log_std"]
            policy, old = Normal(mean, log_std.exp()), Normal(b["mean"], old_log_std.exp())
            ratio = (policy.log_prob(b["action"]) - old.log_prob(b["action"])).sum(-1).exp()
            kl = torch.distributions.kl_divergence(old, policy).sum(-1).mean().item()
            gain = torch.minimum(ratio * b["advantage"], ratio.clamp(0.8, 1.2) * b["advantage"])
            value = model.critic(b["critic_obs"]).squeeze(-1)
            squared = (value - b["return"]).square()
            if cfg.clip_vloss:
                near = b["value"] + (value - b["value"]).clamp(-0.2, 0.2)
                squared = torch.maximum(squared, (near - b["return"]).square())
            bounds = (mean.abs() - 1.1).clamp_min(0).square().sum(-1).mean()
            loss = -gain.mean() + cfg.vf_coef * 0.5 * squared.mean() + cfg.bounds_loss_coef * bounds
            loss = loss - cfg.ent_coef * policy.entropy().sum(-1).mean()
            if cfg.lr_schedule == "adaptive" and not first:
                if kl > 2 * cfg.target_kl:
                    lr = max(lr / 1.5, cfg.min_learning_rate)
                elif kl < 0.5 * cfg.target_kl:
                    lr = min(lr * 1.5, cfg.max_learning_rate)
            first = False
            optimizer.param_groups[0]["lr"] = lr
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, cfg.max_grad_norm)
            optimizer.step()
            model.distribution.clamp_()


@pytest.mark.parametrize("std_type", ["scalar", "log", "state_dependent"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"lr_schedule": "fixed", "clip_vloss": False, "normalize_value": False, "bounds_loss_coef": 0.0},
        {"normalize_advantage": "minibatch", "bootstrap_truncated": False, "normalize_reward": True},
        {"recompute_advantage": True, "vf_coef": 2.0},
    ],
)
def test_update_agrees_with_autograd_and_torchs_adam(std_type: str, changes: dict[str, Any]) -> None:
    ours, reference = (small_ppo(std_type=std_type, **changes) for _ in range(2))
    before = weights(ours)
    obs = play(ours)
    play(reference)
    ours.update(obs)
    reference_update(reference, obs)
    assert (weights(ours) - before).abs().max() > 1e-3
    torch.testing.assert_close(weights(ours), weights(reference), rtol=1e-3, atol=2e-5)


def choices_played(ppo: PPO) -> dict[str, Tensor]:
    """Fill a rollout of discrete actions; return the observation after it."""
    for t in range(ppo.rollout_steps):
        action = ppo.act(observations(t))
        assert set(action.unique().tolist()) <= {0.0, 1.0, 2.0}
        ppo.observe((action == 1.0).float().squeeze(1), NEVER, NEVER, None)
    return observations(99)


def test_an_update_with_discrete_actions_agrees_with_autograd_and_torchs_adam() -> None:
    changes: dict[str, Any] = {"vf_coef": 0.0, "lr_schedule": "fixed", "normalize_value": False}
    ours, reference = (small_ppo(actions=1, num_choices=3, **changes) for _ in range(2))
    before = weights(ours)
    metrics = ours.update(choices_played(ours))
    with torch.no_grad():
        columns, *_ = reference._prepare(choices_played(reference))
    parameters, cfg = list(reference.model.parameters()), reference.cfg
    optimizer = torch.optim.Adam(parameters, lr=cfg.learning_rate)
    for _ in range(cfg.update_epochs):
        order = torch.randperm(reference.samples, generator=reference.generator)
        for rows in order.chunk(cfg.num_minibatches):
            b = {name: x[rows] for name, x in columns.items()}
            policy = torch.distributions.Categorical(logits=reference.model.actor(b["policy_obs"]))
            ratio = (policy.log_prob(b["action"].squeeze(1)) - b["log_prob"]).exp()
            gain = torch.minimum(ratio * b["advantage"], ratio.clamp(0.8, 1.2) * b["advantage"])
            optimizer.zero_grad()
            (-gain.mean() - cfg.ent_coef * policy.entropy().mean()).backward()
            torch.nn.utils.clip_grad_norm_(parameters, cfg.max_grad_norm)
            optimizer.step()
    assert (weights(ours) - before).abs().max() > 1e-3
    torch.testing.assert_close(weights(ours), weights(reference), rtol=1e-3, atol=2e-5)
    assert "Policy/mean_noise_std" not in metrics
    assert 0.0 < metrics["Loss/kl"] < 1.0


def test_mixed_precision_takes_nearly_the_same_step() -> None:
    single, mixed = (small_ppo(mixed_precision=m, lr_schedule="fixed", hidden=64) for m in (False, True))
    if mixed.dtype == torch.float32:
        pytest.skip("no bfloat16 in this processor")
    before = weights(single)
    for ppo in (single, mixed):
        ppo.update(play(ppo))
    change, mixed_change = weights(single) - before, weights(mixed) - before
    assert torch.nn.functional.cosine_similarity(change, mixed_change, dim=0) > 0.95


@pytest.mark.parametrize("mixed_precision", [False, True])
def test_nothing_has_moved_in_the_first_minibatch(mixed_precision: bool) -> None:
    ppo = small_ppo(mixed_precision=mixed_precision, update_epochs=1, num_minibatches=1)
    metrics = ppo.update(play(ppo))
    assert metrics["Loss/kl"] == pytest.approx(0.0, abs=1e-5)
    assert metrics["Loss/clip_fraction"] == 0.0
    assert metrics["Loss/surrogate"] == pytest.approx(0.0, abs=1e-3)
    assert metrics["Loss/learning_rate"] == pytest.approx(1e-2)


def test_metrics_have_the_names_of_the_contract() -> None:
    ppo = small_ppo()
    metrics = ppo.update(play(ppo))
    names = "value surrogate entropy bounds learning_rate kl clip_fraction explained_variance grad_norm"
    assert set(metrics) == {f"Loss/{name}" for name in names.split()} | {"Policy/mean_noise_std"}
    assert metrics["Policy/mean_noise_std"] == pytest.approx(0.5)
    assert metrics["Loss/entropy"] == pytest.approx(ACTIONS * 1.4189 - ACTIONS * 0.6931, abs=0.1)


def values_of(ppo: PPO, obs: dict[str, Tensor]) -> Tensor:
    x = ppo.model.normalize(obs, "critic")
    value = ppo.model.critic(x)
    assert ppo.model.value_normalizer is not None
    return ppo.model.value_normalizer.inverse(value).squeeze(-1).detach()


def test_a_truncated_episode_is_followed_by_the_value_of_its_true_last_observation() -> None:
    ppo = small_ppo(rollout_steps=2, num_minibatches=1)
    ppo.update(play(ppo))  # statistics of their own
    first, second, after, final = (observations(seed) for seed in (1, 2, 3, 4))
    truncated, terminated = NEVER.clone(), NEVER.clone()
    truncated[[1, 2]] = True
    terminated[[2, 3]] = True
    ppo.act(first)
    ppo.observe(torch.zeros(NUM_ENVS), terminated, truncated, final)
    ppo.act(second)
    ppo.observe(torch.zeros(NUM_ENVS), NEVER, NEVER, None)
    # an episode that also terminated has no future to bootstrap from
    assert [len(rows) for rows in ppo.buffer.final_obs] == [1]
    with torch.no_grad():
        stored = ppo.buffer.obs["critic"].flatten(0, 1)
        value, next_value = ppo._values(ppo.model.normalize({"critic": stored}, "critic"), after)
    expected = values_of(ppo, second)
    expected[1] = values_of(ppo, final)[1]
    torch.testing.assert_close(value, torch.stack((values_of(ppo, first), values_of(ppo, second))))
    torch.testing.assert_close(next_value, torch.stack((expected, values_of(ppo, after))))


def test_without_bootstrap_a_time_out_ends_the_return() -> None:
    ppo = small_ppo(bootstrap_truncated=False, normalize_advantage="none", normalize_value=False)
    for t in range(STEPS):
        ppo.act(observations(t))
        ppo.observe(torch.ones(NUM_ENVS), NEVER, ~NEVER, None)
    with torch.no_grad():
        columns, *_ = ppo._prepare(observations(99))
    torch.testing.assert_close(columns["return"], torch.ones(STEPS * NUM_ENVS))


def test_a_truncation_without_final_obs_is_refused() -> None:
    ppo = small_ppo()
    ppo.act(observations(0))
    with pytest.raises(ValueError, match="final_obs"):
        ppo.observe(torch.zeros(NUM_ENVS), NEVER, ~NEVER, None)


def test_reward_scale_multiplies_rewards() -> None:
    returns = []
    for scale in (1.0, 0.01):
        ppo = small_ppo(reward_scale=scale, normalize_value=False, gae_lambda=0.0, gamma=0.0)
        obs = play(ppo)
        with torch.no_grad():
            returns.append(ppo._prepare(obs)[0]["return"])
    torch.testing.assert_close(returns[1], 0.01 * returns[0])


@pytest.mark.parametrize(("mode", "std"), [("batch", 1.0), ("none", None)])
def test_advantages_are_standardised_over_the_rollout(mode: str, std: float | None) -> None:
    ppo = small_ppo(normalize_advantage=mode)
    obs = play(ppo)
    with torch.no_grad():
        advantage = ppo._prepare(obs)[0]["advantage"]
    if std is not None:
        assert advantage.mean().item() == pytest.approx(0.0, abs=1e-6)
        assert advantage.std(correction=0).item() == pytest.approx(1.0, abs=1e-4)
    else:
        assert advantage.mean().abs().item() > 1e-3


@pytest.mark.parametrize(
    ("kl", "factor"), [(0.021, 1 / 1.5), (0.019, 1.0), (0.01, 1.0), (0.0051, 1.0), (0.0049, 1.5)]
)
def test_adaptive_learning_rate(kl: float, factor: float) -> None:
    rate = torch.tensor(1e-3)
    adapt_learning_rate_(rate, torch.tensor(kl), small_config(target_kl=0.01))
    assert rate.item() == pytest.approx(1e-3 * factor)


@pytest.mark.parametrize(("kl", "bound"), [(1.0, 1e-5), (0.0, 1e-2)])
def test_adaptive_learning_rate_stays_in_its_bounds(kl: float, bound: float) -> None:
    rate = torch.tensor(1e-3)
    for _ in range(50):
        adapt_learning_rate_(rate, torch.tensor(kl), small_config())
    assert rate.item() == pytest.approx(bound)


def test_linear_schedule_ends_at_zero_and_the_others_ignore_progress() -> None:
    linear, fixed = small_ppo(lr_schedule="linear"), small_ppo(lr_schedule="fixed")
    for fraction, expected in ((0.0, 1e-2), (0.25, 7.5e-3), (1.0, 0.0)):
        linear.set_progress(fraction)
        fixed.set_progress(fraction)
        assert linear.update(play(linear))["Loss/learning_rate"] == pytest.approx(expected)
        assert fixed.learning_rate.item() == pytest.approx(1e-2)


def test_the_privileged_group_reaches_the_critic_only() -> None:
    ppo = small_ppo()
    obs, other = observations(0), observations(0) | {"critic": observations(1)["critic"]}
    assert torch.equal(ppo.policy(obs), ppo.policy(other))
    assert not torch.equal(values_of(ppo, obs), values_of(ppo, other))


def test_policy_is_the_mean_and_touches_no_state() -> None:
    ppo = small_ppo()
    before = ppo.generator.get_state()
    action = ppo.policy({"policy": torch.randn(17, DIMS["policy"])})
    assert action.shape == (17, ACTIONS)
    assert torch.equal(ppo.generator.get_state(), before)
    assert ppo.buffer.step == 0


def test_statistics_of_observations_change_between_rollouts_only() -> None:
    ppo = small_ppo()
    obs = play(ppo)
    assert torch.equal(ppo.model.normalize(obs, "policy"), obs["policy"])
    seen = ppo.buffer.obs["policy"].flatten(0, 1).clone()
    ppo.update(obs)
    expected = (obs["policy"] - seen.mean(0)) / seen.std(0, correction=0)
    torch.testing.assert_close(ppo.model.normalize(obs, "policy"), expected)


def test_the_environment_may_change_an_action_in_place() -> None:
    ppo = small_ppo()
    action = ppo.act(observations(0))
    kept = action.clone()
    action.zero_()
    assert torch.equal(ppo.buffer.action[0], kept)


@pytest.mark.parametrize(
    ("where", "named"),
    [("observation", "observation group critic"), ("reward", "reward"), ("action", "log-prob")],
)
def test_a_bad_input_is_named_and_changes_no_weight(where: str, named: str) -> None:
    ppo = small_ppo()
    obs = play(ppo)
    tensors = {
        "observation": ppo.buffer.obs["critic"],
        "reward": ppo.buffer.reward,
        "action": ppo.buffer.action,
    }
    tensors[where][3, 2] = torch.nan
    before = {k: v.clone() for k, v in ppo.model.state_dict().items()}
    with pytest.raises(NonFiniteError, match=rf"{named} \(first at rollout step 3, environment 2\)"):
        ppo.update(obs)
    assert all(torch.equal(v, before[k]) for k, v in ppo.model.state_dict().items())


def test_a_bad_last_observation_names_the_value() -> None:
    ppo = small_ppo()
    obs = play(ppo)
    obs["critic"][:] = torch.nan
    with pytest.raises(NonFiniteError, match="advantage"):
        ppo.update(obs)


def test_a_loss_that_overflows_is_named() -> None:
    ppo = small_ppo(lr_schedule="fixed", learning_rate=1e30, max_grad_norm=1e30, normalize_value=False)
    with pytest.raises(NonFiniteError, match=r"value.* became NaN or infinite"):
        ppo.update(play(ppo))


def test_update_needs_a_full_rollout() -> None:
    ppo = small_ppo()
    ppo.act(observations(0))
    with pytest.raises(RuntimeError, match="after 0 of 8 steps"):
        ppo.update(observations(1))


FEATURES: list[dict[str, Any]] = [
    {},
    {"std_type": "state_dependent", "normalize_reward": True, "lr_schedule": "linear"},
    {"mixed_precision": True, "normalize_obs": False, "normalize_value": False},
]


@pytest.mark.parametrize("features", FEATURES)
def test_a_continuation_is_bit_identical(features: dict[str, Any]) -> None:
    straight = small_ppo(**features)
    for i in range(2):
        straight.update(play(straight, i))
    file = io.BytesIO()
    torch.save(straight.state_dict(), file)
    file.seek(0)
    resumed = small_ppo(**features, seed=7)
    resumed.update(play(resumed, 9))
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for i in range(2, 4):
        ours, theirs = straight.update(play(straight, i)), resumed.update(play(resumed, i))
        assert ours == theirs
    assert torch.equal(weights(straight), weights(resumed))


def test_the_same_seed_gives_the_same_training() -> None:
    first, second, other = (small_ppo(seed=seed) for seed in (1, 1, 2))
    for ppo in (first, second, other):
        ppo.update(play(ppo))
    assert torch.equal(weights(first), weights(second))
    assert not torch.equal(weights(first), weights(other))


@pytest.mark.parametrize("std_type", ["log", "state_dependent"])
def test_the_critic_beside_the_actor_changes_no_bit(std_type: str) -> None:
    alone, beside = (small_ppo(std_type=std_type, num_threads=n) for n in (1, 2))
    for i in range(3):
        assert alone.update(play(alone, i)) == beside.update(play(beside, i))
    assert torch.equal(weights(alone), weights(beside))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_compiled_losses_agree() -> None:
    plain, compiled = small_ppo(), small_ppo(compile_losses=True)
    for ppo in (plain, compiled):
        ppo.update(play(ppo))
    torch.testing.assert_close(weights(plain), weights(compiled), rtol=1e-3, atol=2e-5)


def test_without_a_compiler_it_says_so_and_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.warns(UserWarning, match="C\\+\\+ compiler"):
        ppo = small_ppo(compile_losses=True)
    ppo.update(play(ppo))


def noise_of(ppo: PPO, steps: int) -> Tensor:
    """The noise of the actions of some steps, (steps, NUM_ENVS, ACTIONS)."""
    drawn = []
    for t in range(steps):
        action = ppo.act(observations(t))
        out = ppo.buffer.actor_out[ppo.buffer.step]
        mean, log_std = ppo.model.distribution.read(out)
        drawn.append((action - mean) / log_std.exp())
        ppo.observe(torch.zeros(NUM_ENVS), NEVER, NEVER, None)
    return torch.stack(drawn).detach()


@pytest.mark.parametrize("rho", [0.0, 0.8])
def test_noise_is_correlated_as_configured_and_keeps_its_spread(rho: float) -> None:
    noise = noise_of(small_ppo(noise_correlation=rho, rollout_steps=10_000, num_minibatches=1), 10_000)
    assert noise.square().mean().item() == pytest.approx(1.0, abs=0.05)
    for lag in (1, 2, 5):
        assert (noise[lag:] * noise[:-lag]).mean().item() == pytest.approx(rho**lag, abs=0.05)


def test_correlated_noise_goes_on_where_it_was() -> None:
    one, other = (small_ppo(noise_correlation=0.9, seed=seed) for seed in (0, 1))
    one.update(play(one))
    other.load_state_dict(one.state_dict())
    assert torch.equal(one.act(observations(3)), other.act(observations(3)))


def test_correlated_noise_is_for_continuous_actions() -> None:
    with pytest.raises(UserError, match="continuous"):
        small_ppo(actions=1, num_choices=3, noise_correlation=0.5)


def play_as_an_environment(ppo: PPO, allowed: int = 0) -> dict[str, Tensor]:
    """Fill a rollout whose `final_obs` are the next observations but where an episode ended."""
    generator = torch.Generator().manual_seed(5)
    ends = torch.rand(ppo.rollout_steps, 2, NUM_ENVS, generator=generator) < 0.2
    seen, last = ([observations(n + t) for t in range(ppo.rollout_steps + 1)] for n in (0, 100))
    with looking(allowed):
        for t, (terminated, truncated) in enumerate(ends):
            action = ppo.act(seen[t])
            done = (terminated | truncated)[:, None]
            final = {g: torch.where(done, last[t][g], rows) for g, rows in seen[t + 1].items()}
            ppo.observe(-action.square().sum(-1), terminated, truncated, final)
    return seen[-1]


@pytest.mark.parametrize(
    "changes",
    [{}, {"std_type": "state_dependent"}, {"recompute_advantage": True}, {"normalize_reward": True}],
)
def test_on_a_gpu_an_update_is_waited_for_three_times(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    """Twice to see that all is finite before a weight changes, once for the metrics; collecting never."""
    with monkeypatch.context() as patch:
        run_behind(patch)
        behind = small_ppo(**changes)
    other = small_ppo(**changes)
    obs = play_as_an_environment(behind)
    assert_same = torch.testing.assert_close
    for group, rows in play_as_an_environment(other, allowed=999).items():
        assert_same(rows, obs[group])
    with looking(allowed=3) as looks:
        metrics = behind.update(obs)
    assert looks.seen == 3
    assert_same(metrics, other.update(obs), rtol=1e-4, atol=1e-6)
    assert_same(weights(behind), weights(other))


def test_without_final_observations_nothing_can_be_bootstrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    run_behind(monkeypatch)
    ppo = small_ppo()
    ppo.act(observations(0))
    with pytest.raises(ValueError, match="no final_obs"):
        ppo.observe(torch.zeros(NUM_ENVS), NEVER, NEVER, None)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"std_type": "scalar", "normalize_advantage": "minibatch"},
        {"std_type": "state_dependent", "recompute_advantage": True},
        {"lr_schedule": "linear", "clip_vloss": False, "mixed_precision": True},
        {"num_choices": 3, "actions": 1, "bounds_loss_coef": 0.0},
    ],
)
def test_a_recorded_step_is_the_step_itself(monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]) -> None:
    """Held against a tape, which does what a CUDA graph does: the same operations on the same memory."""
    if changes.get("mixed_precision"):
        monkeypatch.setattr("rl_platform.algos.ppo.bfloat16_is_fast", lambda device: True)
    ours, reference = small_ppo(**changes), small_ppo(**changes)
    tapes: list[Tape] = []
    ours.minibatch_steps = [Recorded(step, lambda: Tape(tapes)) for step in ours.minibatch_steps]
    for iteration in range(5):
        metrics = []
        for ppo in (ours, reference):
            ppo.set_progress(0.1 * iteration)
            metrics.append(ppo.update(play(ppo, iteration)))
        assert metrics[0] == metrics[1]
        assert torch.equal(weights(ours), weights(reference))
        if iteration == 3:
            ours.load_state_dict(reference.state_dict())
    assert [tape.replays for tape in tapes] == [53, 3]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"std_type": "state_dependent", "recompute_advantage": True, "normalize_advantage": "minibatch"},
        {"normalize_reward": True, "mixed_precision": True},
        {"num_choices": 3, "actions": 1, "bounds_loss_coef": 0.0},
    ],
)
def test_learning_stays_on_the_device(monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]) -> None:
    """On "meta", where tensors have no values: none of another device may get in between."""
    monkeypatch.setattr("rl_platform.algos.ppo.bfloat16_is_fast", lambda device: True)
    generator = torch.Generator
    with monkeypatch.context() as patch:
        patch.setattr(torch, "Generator", lambda device="cpu": generator())
        ppo: Any = small_ppo(device="meta", **changes)
    if ppo.model.distribution.parameter is not None:  # on the way to "meta" a parameter becomes another one
        ppo.model.distribution.parameter = ppo.model.std_parameter
    rows = ppo.minibatch * ppo.cfg.num_minibatches
    order = torch.empty(rows, dtype=torch.int64, device="meta")
    monkeypatch.setattr(ppo, "_shuffle", lambda: (order, [ppo.minibatch] * ppo.cfg.num_minibatches))
    monkeypatch.setattr(ppo, "_check_finite", lambda columns: None)
    drawn = torch.empty(NUM_ENVS, changes.get("num_choices", ACTIONS), device="meta")
    monkeypatch.setattr(ppo.model.distribution, "noise", lambda out, generator, shard: drawn)
    told: list[str] = []

    def tolist(x: Tensor) -> list[float]:
        told.append(x.device.type)
        return [0.0] * len(x)

    monkeypatch.setattr(Tensor, "tolist", tolist)
    seen = {group: torch.empty(NUM_ENVS, dim, device="meta") for group, dim in DIMS.items()}
    for _ in range(ppo.rollout_steps):
        action = ppo.act(seen)
        ppo.observe(action.sum(-1), *torch.empty(2, NUM_ENVS, dtype=torch.bool, device="meta"), seen)
    metrics = ppo.update(seen)
    assert told == ["meta"]
    assert "Loss/kl" in metrics
    state = ppo.state_dict()
    assert {x.device.type for x in state["model"].values()} == {"meta"}
