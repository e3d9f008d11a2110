"""`agent=sb3`: the PPO of Stable-Baselines3 (Raffin et al. 2021, JMLR 22(268))."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rl_platform.agents import library
from rl_platform.agents.native import NativeAgent
from rl_platform.algos.ppo import PPOConfig
from rl_platform.envs.base import VectorEnv
from rl_platform.models.actor_critic import ActorCriticConfig as Config
from rl_platform.models.normalize import OBSERVATION_CLIP, Normalizer, ReturnScale
from rl_platform.threads import available_threads, torch_threads

__all__ = ["ALGOS", "LIBRARY", "ONLY", "Config", "make_agent"]
ALGOS = ("ppo",)
LIBRARY = "stable_baselines3"
ONLY = library.OUR_OWN | {
    "algo.lr_schedule": ["fixed", "linear"],
    "algo.normalize_advantage": ["minibatch", "none"],
    "agent.actor.std_type": ["log"],
    "agent.actor.min_std": [1e-6],
    "agent.actor.max_std": [1e6],
    "agent.mixed_precision": [False],
}
REWARD_CLIP = 10.0  # VecNormalize's
# What it tells of an update, by our names.
TOLD = {
    "train/policy_gradient_loss": "Loss/surrogate",
    "train/value_loss": "Loss/value",
    "train/entropy_loss": "Loss/entropy",
    "train/approx_kl": "Loss/kl",
    "train/clip_fraction": "Loss/clip_fraction",
    "train/explained_variance": "Loss/explained_variance",
    "train/learning_rate": "Loss/learning_rate",
    "train/std": "Policy/mean_noise_std",
}
# Its value loss is (V - R)² where ours is half of that; what it calls entropy loss is minus the entropy.
FACTORS = {"Loss/value": 0.5, "Loss/entropy": -1.0}


class Policy(nn.Module):
    """The likeliest action: our normaliser, and the network of Stable-Baselines3's actor."""

    def __init__(self, normalizer: nn.Module, policy: Any, discrete: bool) -> None:
        """Share the parts of `policy`."""
        super().__init__()
        self.normalizer, self.discrete = normalizer, discrete
        self.hidden, self.output = policy.mlp_extractor.policy_net, policy.action_net

    def forward(self, obs: Tensor) -> Tensor:
        """Map observations (n, d) of the group "policy" to actions (n, action_dim)."""
        out = self.output(self.hidden(self.normalizer(obs)))
        return out.argmax(1, keepdim=True).to(out.dtype) if self.discrete else out


class Sb3PPO(library.Learner):
    """Stable-Baselines3's policy, rollout buffer and PPO behind our `Algorithm`.

    Observations and rewards are normalised as its VecNormalize does, with the moments of all steps so far. It
    draws from the global streams of PyTorch and NumPy.
    """

    def __init__(
        self,
        agent_cfg: Config,
        cfg: PPOConfig,
        env: VectorEnv,
        num_envs: int,
        device: torch.device,
        num_threads: int,
    ) -> None:
        """Build them for an environment's sizes. `num_threads`: of PyTorch while it learns.

        Raises:
            UserError: Stable-Baselines3 is not installed.
        """
        stable_baselines3 = library.require("sb3", "stable_baselines3")
        self.cfg, self.rollout_steps, self.num_envs = cfg, cfg.rollout_steps, num_envs
        self.device, self.num_threads, self.discrete = device, num_threads, env.num_choices is not None
        size = env.observation_dims["policy"]
        self.normalizer = Normalizer(size, OBSERVATION_CLIP) if agent_cfg.normalize_obs else nn.Identity()
        self._ppo = _ppo(stable_baselines3, agent_cfg, cfg, env, num_envs, device)
        self.model: nn.Module = nn.ModuleDict({"normalizer": self.normalizer, "policy": self._ppo.policy})
        self.model.to(device)
        self._policy = Policy(self.normalizer, self._ppo.policy, self.discrete)
        self.return_scale = ReturnScale(num_envs, cfg.gamma, device) if cfg.normalize_reward else None
        self._first = np.ones(num_envs, dtype=np.float32)  # whether the step before ended an episode
        self._acted: tuple[Tensor, Tensor, Tensor, Tensor] | None = None

    @torch.no_grad()
    def act(self, obs: dict[str, Tensor]) -> Tensor:
        """See `Algorithm`."""
        if isinstance(self.normalizer, Normalizer):
            self.normalizer.update(obs["policy"])
        seen = self.normalizer(obs["policy"])
        action, value, log_prob = self._ppo.policy(seen)
        action = action.reshape(self.num_envs, -1)
        self._acted = seen, action, value, log_prob
        return action.float()

    @torch.no_grad()
    def observe(
        self,
        reward: Tensor,
        terminated: Tensor,
        truncated: Tensor,
        final_obs: dict[str, Tensor] | None,
    ) -> None:
        """See `Algorithm`."""
        assert self._acted is not None
        seen, action, value, log_prob = self._acted
        done = terminated | truncated
        reward = self.cfg.reward_scale * reward
        if self.return_scale is not None:
            reward = reward.clone()
            self.return_scale.update_and_scale_(reward[None], done[None])
            reward = reward.clamp(-REWARD_CLIP, REWARD_CLIP)
        if self.cfg.bootstrap_truncated and final_obs is not None:
            ids = (truncated & ~terminated).nonzero()[:, 0]
            if len(ids):
                last = self._ppo.policy.predict_values(self.normalizer(final_obs["policy"][ids]))
                reward = reward.index_add(0, ids, last[:, 0], alpha=self.cfg.gamma)
        rows = (x.cpu().numpy() for x in (seen, action, reward))
        self._ppo.rollout_buffer.add(*rows, self._first, value, log_prob)
        self._first = done.float().cpu().numpy()

    def update(self, obs: dict[str, Tensor]) -> dict[str, float]:
        """See `Algorithm`."""
        ppo = self._ppo
        with torch_threads(self.num_threads):
            with torch.no_grad():
                last = ppo.policy.predict_values(self.normalizer(obs["policy"]))
            ppo.rollout_buffer.compute_returns_and_advantage(last, self._first)
            ppo.train()
        ppo.rollout_buffer.reset()
        ppo.policy.set_training_mode(False)
        found = {name: ppo.logger.name_to_value.get(key) for key, name in TOLD.items()}
        ppo.logger.name_to_value.clear()
        return {k: FACTORS.get(k, 1.0) * float(v) for k, v in found.items() if v is not None}

    def set_progress(self, fraction: float) -> None:
        """Tell its schedule how far the training is."""
        self._ppo._current_progress_remaining = max(0.0, 1.0 - fraction)

    def state_dict(self, whole: bool = True) -> dict[str, Any]:
        """See `Algorithm`."""
        scale = self.return_scale.state_dict() if self.return_scale else {}
        envs = {name: scale.pop(name) for name in ("discounted", "done") if name in scale}
        return {
            "model": self.model.state_dict(),
            "optimizer": self._ppo.policy.optimizer.state_dict(),
            "envs": envs | {"first": torch.from_numpy(self._first.copy())},
            "return_scale": scale,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Algorithm`."""
        self.load_model(state["model"])
        self._ppo.policy.optimizer.load_state_dict(state["optimizer"])
        envs = dict(state["envs"])
        self._first = envs.pop("first").cpu().numpy()
        if self.return_scale is not None:
            self.return_scale.load_state_dict(state["return_scale"] | envs)


def _ppo(
    stable_baselines3: Any, agent: Config, cfg: PPOConfig, env: VectorEnv, num_envs: int, device: torch.device
) -> Any:
    """Stable-Baselines3's PPO with our numbers by its names; we do the stepping, so it has no environment."""
    from stable_baselines3.common.logger import Logger

    actor, critic, rate = agent.actor, agent.critic, cfg.learning_rate
    ppo = stable_baselines3.PPO(
        "MlpPolicy",
        None,
        learning_rate=(lambda remaining: remaining * rate) if cfg.lr_schedule == "linear" else rate,
        n_steps=cfg.rollout_steps,
        batch_size=cfg.rollout_steps * num_envs // cfg.num_minibatches,
        n_epochs=cfg.update_epochs,
        gamma=cfg.gamma,
        gae_lambda=cfg.gae_lambda,
        clip_range=cfg.clip_coef,
        clip_range_vf=cfg.clip_coef if cfg.clip_vloss else None,
        normalize_advantage=cfg.normalize_advantage == "minibatch",
        ent_coef=cfg.ent_coef,
        vf_coef=cfg.vf_coef / 2,  # of (V - R)²: ours is of half of that
        max_grad_norm=cfg.max_grad_norm,
        policy_kwargs={
            "net_arch": {"pi": list(actor.hidden_sizes), "vf": list(critic.hidden_sizes)},
            "activation_fn": library.ACTIVATIONS[actor.activation],
            "log_std_init": math.log(actor.init_std),
        },
        device=device,
        _init_setup_model=False,
    )
    ppo.observation_space, ppo.action_space = (
        library.observation_space(env, "policy"),
        library.action_space(env),
    )
    ppo.n_envs = num_envs
    ppo._setup_model()
    hidden = ppo.policy.mlp_extractor.value_net  # it has one activation for both
    for i, layer in enumerate(hidden):
        if not isinstance(layer, nn.Linear):
            hidden[i] = library.ACTIVATIONS[critic.activation]()
    ppo.set_logger(Logger(folder=None, output_formats=[]))
    ppo.policy.set_training_mode(False)
    return ppo


def make_agent(cfg: Any, env: VectorEnv, num_envs: int) -> NativeAgent:
    """Build it with the networks of `cfg.agent` and the numbers of `cfg.algo`.

    Raises:
        UserError: Stable-Baselines3 is not installed.
    """
    device, threads = torch.device(env.device), available_threads(cfg.num_threads)
    return NativeAgent(env, Sb3PPO(cfg.agent, cfg.algo, env, num_envs, device, threads))
