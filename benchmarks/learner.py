"""Time PPO's update against RSL-RL's: same data, weights, network, epochs, minibatches and threads.

    python -m benchmarks.learner [--threads N] [--rounds N]

The contestants take turns within each round, so that a busy machine slows them alike. An update is
`compute_returns` and `update` of RSL-RL, and `update` of ours, which contains the critic's values: RSL-RL
computes those while acting. So acting (all of a rollout but the environment) is timed as well.
Prints JSON with medians in seconds and ratios of them; `ratio` is that of the updates alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from rl_platform.algos.ppo import PPO, PPOConfig, make_ppo
from rl_platform.models.actor_critic import ActorConfig, ActorCriticConfig
from rl_platform.models.mlp import MLPConfig

NUM_ENVS, ROLLOUT_STEPS, OBSERVATIONS, ACTIONS = 512, 24, 36, 8
EPOCHS, MINIBATCHES = 5, 4
GAMMA, LAMBDA, CLIP, LEARNING_RATE, TARGET_KL, MAX_GRAD_NORM = 0.99, 0.95, 0.2, 3e-4, 0.01, 1.0
NETWORKS = ([128, 128], [256, 128, 64])


class Rollout:
    """Made-up experience: noise, with a reward that actions can influence."""

    def __init__(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.obs = torch.randn(ROLLOUT_STEPS + 1, NUM_ENVS, OBSERVATIONS, generator=generator)
        self.terminated = torch.rand(ROLLOUT_STEPS, NUM_ENVS, generator=generator) < 0.01
        self.never = torch.zeros(NUM_ENVS, dtype=torch.bool)

    def reward(self, action: Tensor) -> Tensor:
        """Highest where every action is 0.3."""
        return -(action - 0.3).square().sum(-1)


def our_ppo(hidden_sizes: list[int], mixed_precision: bool) -> PPO:
    """Build our PPO as a run does by default, with RSL-RL's choices where the two differ."""
    actor = ActorConfig(hidden_sizes, "elu", std_type="scalar", init_std=1.0, min_std=0.01, max_std=10.0)
    critic = MLPConfig(hidden_sizes, "elu")
    agent = ActorCriticConfig(
        "ppo", actor, critic, normalize_obs=False, compile=False, mixed_precision=mixed_precision
    )
    algo = PPOConfig(
        name="ppo", rollout_steps=ROLLOUT_STEPS, update_epochs=EPOCHS, num_minibatches=MINIBATCHES,
        learning_rate=LEARNING_RATE, lr_schedule="adaptive", target_kl=TARGET_KL,
        min_learning_rate=1e-5, max_learning_rate=1e-2, gamma=GAMMA, gae_lambda=LAMBDA,
        clip_coef=CLIP, clip_vloss=True, ent_coef=0.01, vf_coef=1.0, max_grad_norm=MAX_GRAD_NORM,
        normalize_advantage="batch", normalize_value=False, normalize_reward=False, reward_scale=1.0,
        recompute_advantage=False, bootstrap_truncated=True, bounds_loss_coef=0.0, noise_correlation=0.0,
        random_episode_start=False,
    )  # fmt: skip
    return make_ppo(
        agent, algo, {"policy": OBSERVATIONS}, ACTIONS, NUM_ENVS, "cpu", 1, torch.get_num_threads()
    )


def rsl_rl_ppo(hidden_sizes: list[int], mixed_precision: bool) -> Any:
    """Build RSL-RL's PPO with the same numbers."""
    from rsl_rl.algorithms import PPO as RslRlPPO  # noqa: N811
    from rsl_rl.models import MLPModel
    from rsl_rl.storage import RolloutStorage
    from tensordict import TensorDict

    obs = TensorDict({"policy": torch.zeros(NUM_ENVS, OBSERVATIONS)}, batch_size=[NUM_ENVS])
    gaussian = {"class_name": "GaussianDistribution", "init_std": 1.0, "std_type": "scalar"}
    actor = MLPModel(obs, {"actor": ["policy"]}, "actor", ACTIONS, hidden_sizes, "elu", False, gaussian)
    critic = MLPModel(obs, {"critic": ["policy"]}, "critic", 1, hidden_sizes, "elu", False)
    storage = RolloutStorage("rl", NUM_ENVS, ROLLOUT_STEPS, obs, [ACTIONS], "cpu")
    return RslRlPPO(
        actor, critic, storage, num_learning_epochs=EPOCHS, num_mini_batches=MINIBATCHES,
        clip_param=CLIP, gamma=GAMMA, lam=LAMBDA, value_loss_coef=1.0, entropy_coef=0.01,
        learning_rate=LEARNING_RATE, max_grad_norm=MAX_GRAD_NORM, use_clipped_value_loss=True,
        schedule="adaptive", desired_kl=TARGET_KL, use_mixed_precision=mixed_precision,
    )  # fmt: skip


def copy_weights(ours: PPO, theirs: Any) -> None:
    """Give RSL-RL's networks the weights of ours."""
    for mlp, model in ((ours.model.actor, theirs.actor), (ours.model.critic, theirs.critic)):
        with torch.no_grad():
            for mine, other in zip(mlp.parameters(), model.mlp.parameters(), strict=True):
                other.copy_(mine)


def run_ours(ppo: PPO, rollout: Rollout, clock: Callable[[], float]) -> tuple[float, float]:
    """Return the seconds that the update after a rollout takes, and those that acting took."""
    acting = 0.0
    for t in range(ROLLOUT_STEPS):
        start = clock()
        action = ppo.act({"policy": rollout.obs[t]})
        acting += clock() - start
        reward = rollout.reward(action)
        start = clock()
        ppo.observe(reward, rollout.terminated[t], rollout.never, None)
        acting += clock() - start
    start = clock()
    ppo.update({"policy": rollout.obs[-1]})
    return clock() - start, acting


def run_theirs(ppo: Any, rollout: Rollout, clock: Callable[[], float]) -> tuple[float, float]:
    """The same for RSL-RL."""
    from tensordict import TensorDict

    obs = [TensorDict({"policy": x}, batch_size=[NUM_ENVS]) for x in rollout.obs]
    acting = 0.0
    for t in range(ROLLOUT_STEPS):
        start = clock()
        with torch.inference_mode():  # as its runner does
            action = ppo.act(obs[t])
        acting += clock() - start
        reward, done = rollout.reward(action), rollout.terminated[t].long()
        start = clock()
        with torch.inference_mode():
            ppo.process_env_step(obs[t + 1], reward, done, {})
        acting += clock() - start
    start = clock()
    with torch.inference_mode():
        ppo.compute_returns(obs[-1])
    ppo.update()
    return clock() - start, acting


def compare(hidden_sizes: list[int], rounds: int, clock: Callable[[], float]) -> dict[str, Any]:
    """Alternate the contestants over `rounds` rounds; two more beforehand are not counted."""
    ours = {"ours": our_ppo(hidden_sizes, True), "ours_float32": our_ppo(hidden_sizes, False)}
    theirs = {"rsl_rl": rsl_rl_ppo(hidden_sizes, False), "rsl_rl_mixed": rsl_rl_ppo(hidden_sizes, True)}
    for ppo in theirs.values():
        copy_weights(ours["ours"], ppo)
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in (*ours, *theirs)}
    for i in range(rounds + 2):
        rollout = Rollout(seed=i)
        for name, ppo in ours.items():
            seconds[name].append(run_ours(ppo, rollout, clock))
        for name, ppo in theirs.items():
            seconds[name].append(run_theirs(ppo, rollout, clock))
    update = {name: statistics.median(u for u, _ in times[2:]) for name, times in seconds.items()}
    acting = {name: statistics.median(a for _, a in times[2:]) for name, times in seconds.items()}
    passes = EPOCHS * ROLLOUT_STEPS * NUM_ENVS
    return {
        "hidden_sizes": hidden_sizes,
        "precision": str(ours["ours"].dtype).removeprefix("torch."),
        "update_s": {name: round(value, 5) for name, value in update.items()},
        "acting_s": {name: round(value, 5) for name, value in acting.items()},
        "sample_passes_per_s": {name: round(passes / value) for name, value in update.items()},
        "ratio": round(update["rsl_rl"] / update["ours"], 3),
        "ratio_float32": round(update["rsl_rl"] / update["ours_float32"], 3),
        "ratio_to_rsl_rl_mixed": round(update["rsl_rl_mixed"] / update["ours"], 3),
        "ratio_with_acting": round(
            (update["rsl_rl"] + acting["rsl_rl"]) / (update["ours"] + acting["ours"]), 3
        ),
    }


def main() -> int:
    """Run the comparison for each network and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--threads", type=int, default=2, help="threads of every contestant")
    parser.add_argument("--rounds", type=int, default=20, help="updates of every contestant")
    parser.add_argument(
        "--cpu-time", action="store_true", help="count processor time (on a busy machine, with --threads 1)"
    )
    args = parser.parse_args()
    if find_spec("rsl_rl") is None:
        parser.error('needs RSL-RL to compare with: pip install -e ".[peers]"')
    torch.set_num_threads(args.threads)
    clock = time.process_time if args.cpu_time else time.perf_counter
    result = {
        "threads": args.threads,
        "clock": "processor" if args.cpu_time else "wall",
        "torch": torch.__version__,
        "rsl_rl": version("rsl-rl-lib"),
        "samples": ROLLOUT_STEPS * NUM_ENVS,
        "update_epochs": EPOCHS,
        "num_minibatches": MINIBATCHES,
        "networks": [compare(hidden, args.rounds, clock) for hidden in NETWORKS],
    }
    print(json.dumps(result, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
