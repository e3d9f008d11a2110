"""Time SAC's gradient steps against Stable-Baselines3's: same network, batch and threads, by turns.

    python -m benchmarks.sac_learner [--threads N] [--rounds N]

Both draw batches of the same size from a full replay buffer of their own, of made-up transitions with
HalfCheetah's sizes; a step is one of both critics, their slow copies, actor and temperature (ours leaves the
last two out at every other step by default, here at none). Prints JSON: medians in ms, and ratios of them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import gymnasium
import numpy as np
import torch

from rl_platform.algos.sac import SAC, SACConfig, make_sac
from rl_platform.models.mlp import MLPConfig
from rl_platform.models.soft_actor_critic import SoftActorCriticConfig, SquashedActorConfig

OBSERVATIONS, ACTIONS, NUM_ENVS, STEPS = 17, 6, 64, 200
HIDDEN = [256, 256]
GRADIENT_STEPS = 50  # of a round
BATCHES = (256, 1024)


def our_sac(batch_size: int, mixed_precision: bool, threads: int) -> SAC:
    """Build our SAC and fill its buffer."""
    actor = SquashedActorConfig(HIDDEN, "relu", init_std=1.0, min_std=0.007, max_std=7.0)
    agent = SoftActorCriticConfig("sac", actor, MLPConfig(HIDDEN, "relu"), False, mixed_precision)
    algo = SACConfig(
        name="sac", rollout_steps=STEPS, gradient_steps=GRADIENT_STEPS, batch_size=batch_size,
        buffer_size=STEPS * NUM_ENVS, learning_starts=0, learning_rate=3e-4, q_learning_rate=3e-4,
        alpha_learning_rate=3e-4, gamma=0.99, tau=0.005, policy_frequency=1, alpha="auto", init_alpha=1.0,
        target_entropy=None, reward_scale=1.0, bootstrap_truncated=True, random_episode_start=False,
        save_replay=False,
    )  # fmt: skip
    bounds = -torch.ones(ACTIONS), torch.ones(ACTIONS)
    sac = make_sac(agent, algo, {"policy": OBSERVATIONS}, bounds, NUM_ENVS, "cpu", 0, threads)
    never = torch.zeros(NUM_ENVS, dtype=torch.bool)
    for _ in range(STEPS):
        obs, after = ({"policy": torch.randn(NUM_ENVS, OBSERVATIONS)} for _ in range(2))
        sac.act(obs)
        sac.observe(torch.randn(NUM_ENVS), never, never, after)
    return sac


def their_sac(batch_size: int) -> Any:
    """Build Stable-Baselines3's SAC and fill its buffer."""
    from stable_baselines3 import SAC as Sb3SAC  # noqa: N811
    from stable_baselines3.common.logger import Logger

    numbers: dict[str, Any] = dict(
        learning_rate=3e-4, buffer_size=STEPS * NUM_ENVS, batch_size=batch_size, device="cpu",
        target_entropy=-float(ACTIONS), policy_kwargs={"net_arch": HIDDEN}, _init_setup_model=False,
    )  # fmt: skip
    sac: Any = Sb3SAC("MlpPolicy", None, **numbers)  # type: ignore[arg-type]
    sac.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (OBSERVATIONS,))
    sac.action_space = gymnasium.spaces.Box(-1.0, 1.0, (ACTIONS,))
    sac.n_envs = NUM_ENVS
    sac._setup_model()
    sac.set_logger(Logger(folder=None, output_formats=[]))
    draw = np.random.default_rng(0).standard_normal
    for _ in range(STEPS):
        obs, after = draw((2, NUM_ENVS, OBSERVATIONS)).astype(np.float32)
        action = np.tanh(draw((NUM_ENVS, ACTIONS)).astype(np.float32))
        sac.replay_buffer.add(obs, after, action, draw(NUM_ENVS), np.zeros(NUM_ENVS), [{}] * NUM_ENVS)
    return sac


def compare(batch_size: int, rounds: int, threads: int) -> dict[str, Any]:
    """Let the contestants take turns; a round beforehand is not counted."""
    ours = {"ours": our_sac(batch_size, True, threads), "ours_float32": our_sac(batch_size, False, threads)}
    theirs = their_sac(batch_size)
    seconds: dict[str, list[float]] = {"ours": [], "ours_float32": [], "sb3": []}
    for _ in range(rounds + 1):
        for name, sac in ours.items():
            torch.set_num_threads(1)
            start = time.perf_counter()
            sac.update({})
            seconds[name].append(time.perf_counter() - start)
        torch.set_num_threads(threads)
        start = time.perf_counter()
        theirs.train(GRADIENT_STEPS, batch_size)
        seconds["sb3"].append(time.perf_counter() - start)
    step = {name: statistics.median(times[1:]) / GRADIENT_STEPS for name, times in seconds.items()}
    return {
        "batch_size": batch_size,
        "precision": str(ours["ours"].dtype).removeprefix("torch."),
        "step_ms": {name: round(1e3 * value, 3) for name, value in step.items()},
        "steps_per_s": {name: round(1.0 / value) for name, value in step.items()},
        "ratio": round(step["sb3"] / step["ours"], 2),
        "ratio_float32": round(step["sb3"] / step["ours_float32"], 2),
    }


def main() -> int:
    """Run the comparison for each size of a batch and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--threads", type=int, default=2, help="threads of every contestant")
    parser.add_argument("--rounds", type=int, default=8, help="of every contestant")
    args = parser.parse_args()
    if find_spec("stable_baselines3") is None:
        parser.error('needs Stable-Baselines3 to compare with: pip install -e ".[sb3]"')
    result = {
        "threads": args.threads,
        "torch": torch.__version__,
        "stable_baselines3": version("stable-baselines3"),
        "hidden_sizes": HIDDEN,
        "batches": [compare(size, args.rounds, args.threads) for size in BATCHES],
    }
    print(json.dumps(result, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
