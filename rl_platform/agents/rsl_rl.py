"""`agent=rsl_rl`: the PPO of RSL-RL, https://github.com/leggedrobotics/rsl_rl (arXiv:2509.10771)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rl_platform.agents import library
from rl_platform.agents.native import NativeAgent
from rl_platform.algos.ppo import PPOConfig
from rl_platform.envs.base import VectorEnv
from rl_platform.errors import UserError
from rl_platform.models.actor_critic import ActorCriticConfig as Config
from rl_platform.models.backprop import bfloat16_is_fast
from rl_platform.models.mlp import MLPConfig
from rl_platform.threads import available_threads, torch_threads

__all__ = ["ALGOS", "LIBRARY", "ONLY", "Config", "make_agent"]
ALGOS = ("ppo",)
LIBRARY = "rsl_rl"
ONLY = library.OUR_OWN | {
    "algo.normalize_reward": [False],
    "algo.normalize_advantage": ["batch", "minibatch"],
    "algo.min_learning_rate": [1e-5],
    "algo.max_learning_rate": [1e-2],
    "agent.actor.std_type": ["log", "scalar"],
}


class Policy(nn.Module):
    """The mean action: normaliser and network of RSL-RL's actor."""

    def __init__(self, actor: Any) -> None:
        """Share the parts of `actor`."""
        super().__init__()
        self.normalizer, self.mlp = actor.obs_normalizer, actor.mlp

    def forward(self, obs: Tensor) -> Tensor:
        """Map observations (n, d) of the group "policy" to actions (n, action_dim)."""
        return self.mlp(self.normalizer(obs))


class RslRlPPO(library.Learner):
    """RSL-RL's networks, storage and PPO behind our `Algorithm`.

    It takes V(s_t) for the value of the state that a truncated episode ended in, draws all randomness from
    PyTorch's global stream, and clips the gradients of actor and critic each by themselves.
    """

    def __init__(
        self,
        agent_cfg: Config,
        cfg: PPOConfig,
        observation_dims: dict[str, int],
        action_dim: int,
        num_envs: int,
        device: torch.device,
        num_threads: int,
    ) -> None:
        """Build them. `num_threads`: of PyTorch while it learns.

        Raises:
            UserError: RSL-RL is not installed.
        """
        algorithms = library.require("rsl_rl", "rsl_rl.algorithms")
        self.cfg, self.rollout_steps = cfg, cfg.rollout_steps
        self.device, self.num_threads = device, num_threads
        self.groups = [group for group in observation_dims if group in ("policy", "critic")]
        nothing: dict[str, Tensor] = {
            g: torch.zeros(num_envs, observation_dims[g], device=device) for g in self.groups
        }
        self._ppo = _ppo(algorithms, agent_cfg, cfg, self._seen(nothing), action_dim, device)
        self.model: nn.Module = nn.ModuleDict({"actor": self._ppo.actor, "critic": self._ppo.critic})
        self._policy = Policy(self._ppo.actor)

    def _seen(self, obs: dict[str, Tensor]) -> Any:
        """Observations as RSL-RL takes them."""
        from tensordict import TensorDict

        rows = len(obs["policy"])
        return TensorDict({g: obs[g] for g in self.groups}, batch_size=[rows], device=self.device)

    @torch.inference_mode()
    def act(self, obs: dict[str, Tensor]) -> Tensor:
        """See `Algorithm`."""
        action: Tensor = self._ppo.act(self._seen(obs))
        return action

    @torch.inference_mode()
    def observe(
        self,
        reward: Tensor,
        terminated: Tensor,
        truncated: Tensor,
        final_obs: dict[str, Tensor] | None,
    ) -> None:
        """See `Algorithm`."""
        told = {"time_outs": (truncated & ~terminated).float()} if self.cfg.bootstrap_truncated else {}
        # what the step led to (None) is for its curiosity alone
        self._ppo.process_env_step(None, self.cfg.reward_scale * reward, terminated | truncated, told)

    def update(self, obs: dict[str, Tensor]) -> dict[str, float]:
        """See `Algorithm`."""
        with torch_threads(self.num_threads):
            with torch.inference_mode():
                self._ppo.compute_returns(self._seen(obs))
            losses = self._ppo.update()
        noise = self._ppo.actor.distribution
        with torch.no_grad():
            noise.update(torch.zeros(1, noise.output_dim, device=self.device))
        return {
            "Loss/surrogate": losses["surrogate"],
            "Loss/value": losses["value"] / 2,  # RSL-RL's is (V - R)², ours half of it
            "Loss/entropy": losses["entropy"],
            "Loss/learning_rate": self._ppo.learning_rate,
            "Policy/mean_noise_std": noise.std.mean().item(),
        }

    def set_progress(self, fraction: float) -> None:
        """Lower the linear schedule's rate, which RSL-RL has not, to (1 - fraction) of its start."""
        if self.cfg.lr_schedule == "linear":
            self._set_learning_rate(self.cfg.learning_rate * max(0.0, 1.0 - fraction))

    def _set_learning_rate(self, rate: float) -> None:
        self._ppo.learning_rate = rate
        library.set_learning_rate(self._ppo.optimizer, rate)

    def state_dict(self, whole: bool = True) -> dict[str, Any]:
        """See `Algorithm`."""
        optimizer = self._ppo.optimizer.state_dict()
        return {"model": self.model.state_dict(), "optimizer": optimizer, "envs": {}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Algorithm`."""
        self.load_model(state["model"])
        self._ppo.optimizer.load_state_dict(state["optimizer"])
        self._set_learning_rate(self._ppo.optimizer.param_groups[0]["lr"])


def _ppo(
    algorithms: Any, agent: Config, cfg: PPOConfig, obs: Any, action_dim: int, device: torch.device
) -> Any:
    """RSL-RL's PPO for observations like `obs`, with our numbers by its names."""
    from rsl_rl.models import MLPModel
    from rsl_rl.storage import RolloutStorage

    actor, critic = agent.actor, agent.critic
    noise = {
        "class_name": "GaussianDistribution", "init_std": actor.init_std, "std_type": actor.std_type,
        "std_range": (actor.min_std, actor.max_std),
    }  # fmt: skip
    reads = {"actor": ["policy"], "critic": ["critic" if "critic" in obs else "policy"]}

    def network(who: str, outputs: int, mlp: MLPConfig, noise: dict[str, Any] | None) -> MLPModel:
        activation = {"silu": "swish"}.get(mlp.activation, mlp.activation)
        return MLPModel(
            obs, reads, who, outputs, list(mlp.hidden_sizes), activation, agent.normalize_obs, noise
        )

    return algorithms.PPO(
        network("actor", action_dim, actor, noise),
        network("critic", 1, critic, None),
        RolloutStorage("rl", len(obs), cfg.rollout_steps, obs, [action_dim], str(device)),
        num_learning_epochs=cfg.update_epochs,
        num_mini_batches=cfg.num_minibatches,
        clip_param=cfg.clip_coef,
        gamma=cfg.gamma,
        lam=cfg.gae_lambda,
        value_loss_coef=cfg.vf_coef / 2,  # of (V - R)²: ours is of half of that
        entropy_coef=cfg.ent_coef,
        learning_rate=cfg.learning_rate,
        max_grad_norm=cfg.max_grad_norm,
        use_clipped_value_loss=cfg.clip_vloss,
        schedule="adaptive" if cfg.lr_schedule == "adaptive" else "fixed",
        desired_kl=cfg.target_kl,
        normalize_advantage_per_mini_batch=cfg.normalize_advantage == "minibatch",
        use_mixed_precision=agent.mixed_precision and bfloat16_is_fast(device),
        device=str(device),
    )


def make_agent(cfg: Any, env: VectorEnv, num_envs: int) -> NativeAgent:
    """Build it with the networks of `cfg.agent` and the numbers of `cfg.algo`.

    Raises:
        UserError: RSL-RL is not installed, or the environment's actions are choices.
    """
    if env.num_choices is not None:
        raise UserError(
            "agent=rsl_rl has continuous actions only, and this environment has choices: agent=ppo, sb3, skrl"
        )
    sizes = env.observation_dims, env.action_dim, num_envs
    threads = available_threads(cfg.num_threads)
    return NativeAgent(env, RslRlPPO(cfg.agent, cfg.algo, *sizes, torch.device(env.device), threads))
