"""`agent=skrl`: the PPO of skrl, https://github.com/Toni-SM/skrl (JMLR 24(254), 2023)."""

from __future__ import annotations

import math
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from rl_platform.agents import library
from rl_platform.agents.native import NativeAgent
from rl_platform.algos.ppo import PPOConfig
from rl_platform.envs.base import VectorEnv
from rl_platform.models.actor_critic import ActorConfig
from rl_platform.models.actor_critic import ActorCriticConfig as Config
from rl_platform.threads import available_threads, torch_threads

__all__ = ["ALGOS", "LIBRARY", "ONLY", "Config", "make_agent"]
ALGOS = ("ppo",)
LIBRARY = "skrl"
ONLY = library.our_own_but("algo.normalize_value") | {
    "algo.normalize_reward": [False],
    "algo.normalize_advantage": ["batch"],
    "agent.actor.std_type": ["log"],
    "agent.mixed_precision": [False],
}


class Policy(nn.Module):
    """The likeliest action: scaler and network of skrl's actor."""

    def __init__(self, scaler: nn.Module, network: nn.Module, discrete: bool) -> None:
        """Share the parts."""
        super().__init__()
        self.scaler, self.network, self.discrete = scaler, network, discrete

    def forward(self, obs: Tensor) -> Tensor:
        """Map observations (n, d) of the group "policy" to actions (n, action_dim)."""
        out = self.network(self.scaler(obs))
        return out.argmax(1, keepdim=True).to(out.dtype) if self.discrete else out


class SkrlPPO(library.Learner):
    """The models, memory and PPO of skrl behind our `Algorithm`.

    It is given the true last observation of an episode, where its own trainers give the next one's first. Its
    adaptive learning rate changes once a pass. It draws from PyTorch's global stream.
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
            UserError: skrl is not installed.
        """
        library.require("skrl", "skrl.agents.torch.ppo")
        self.cfg, self.rollout_steps = cfg, cfg.rollout_steps
        self.num_threads, discrete = num_threads, env.num_choices is not None
        self._ppo = _ppo(agent_cfg, cfg, env, num_envs, device)
        parts = (self._ppo.policy, self._ppo.value)
        scalers = {
            name: scaler
            for name, scaler in self._ppo.checkpoint_modules.items()
            if name.endswith("_preprocessor")
        }
        self.model: nn.Module = nn.ModuleDict(dict(zip(("policy", "value"), parts, strict=True)) | scalers)
        scaler = scalers.get("observation_preprocessor", nn.Identity())
        self._policy = Policy(scaler, self._ppo.policy.network, discrete)
        self._acted: tuple[dict[str, Tensor], Tensor] | None = None

    @torch.no_grad()
    def act(self, obs: dict[str, Tensor]) -> Tensor:
        """See `Algorithm`."""
        action, _ = self._ppo.act(obs["policy"], obs.get("critic"), timestep=0, timesteps=0)
        self._acted = obs, action
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
        obs, action = self._acted
        after = obs if final_obs is None else final_obs
        if not self.cfg.bootstrap_truncated:  # left alone it would go on with the next episode's value
            terminated, truncated = terminated | truncated, torch.zeros_like(truncated)
        self._ppo.record_transition(
            observations=obs["policy"],
            states=obs.get("critic"),
            actions=action,
            rewards=(self.cfg.reward_scale * reward)[:, None],
            next_observations=after["policy"],
            next_states=after.get("critic"),
            terminated=terminated[:, None],
            truncated=(truncated & ~terminated)[:, None],
            infos={},
            timestep=0,
            timesteps=0,
        )

    def update(self, obs: dict[str, Tensor]) -> dict[str, float]:
        """See `Algorithm`."""
        ppo, cfg = self._ppo, self.cfg
        ppo._current_next_observations = obs["policy"].clone()
        ppo._current_next_states = obs["critic"].clone() if "critic" in obs else None
        with torch_threads(self.num_threads):
            ppo.enable_models_training_mode(True)
            ppo.update(timestep=0, timesteps=0)
            ppo.enable_models_training_mode(False)
        told = {name: fmean(values) for name, values in ppo.tracking_data.items()}
        ppo.tracking_data.clear()
        losses = {
            "Loss/surrogate": told["Loss / Policy loss"],
            "Loss/learning_rate": ppo.optimizer.param_groups[0]["lr"],
        }
        # its losses have their weights in them
        if cfg.vf_coef:
            losses["Loss/value"] = told["Loss / Value loss"] / cfg.vf_coef
        if cfg.ent_coef:
            losses["Loss/entropy"] = -told["Loss / Entropy loss"] / cfg.ent_coef
        if not self._policy.discrete:
            losses["Policy/mean_noise_std"] = told["Policy / Standard deviation"]
        return losses

    def set_progress(self, fraction: float) -> None:
        """Lower the linear schedule's rate to (1 - fraction) of its start."""
        if self.cfg.lr_schedule == "linear":
            rate = self.cfg.learning_rate * max(0.0, 1.0 - fraction)
            library.set_learning_rate(self._ppo.optimizer, rate)

    def state_dict(self, whole: bool = True) -> dict[str, Any]:
        """See `Algorithm`."""
        optimizer = self._ppo.optimizer.state_dict()
        return {"model": self.model.state_dict(), "optimizer": optimizer, "envs": {}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Algorithm`."""
        self.load_model(state["model"])
        self._ppo.optimizer.load_state_dict(state["optimizer"])


def _ppo(agent: Config, cfg: PPOConfig, env: VectorEnv, num_envs: int, device: torch.device) -> Any:
    """The PPO of skrl with our numbers by its names."""
    from skrl.agents.torch.ppo import PPO, PPO_CFG
    from skrl.memories.torch import RandomMemory
    from skrl.resources.preprocessors.torch import RunningStandardScaler
    from skrl.resources.schedulers.torch import KLAdaptiveLR

    spaces: dict[str, Any] = {
        "observation_space": library.observation_space(env, "policy"),
        "state_space": library.observation_space(env, "critic") if "critic" in env.observation_dims else None,
        "action_space": library.action_space(env),
        "device": device,
    }
    actor, critic = _models(agent, env, spaces)
    rate = {"kl_threshold": cfg.target_kl, "min_lr": cfg.min_learning_rate, "max_lr": cfg.max_learning_rate}
    adaptive, scales, privileged = cfg.lr_schedule == "adaptive", agent.normalize_obs, spaces["state_space"]

    def scaler(name: str, size: Any, wanted: bool) -> dict[str, Any]:
        if not wanted:
            return {}
        return {name: RunningStandardScaler, f"{name}_kwargs": {"size": size, "device": device}}

    settings = PPO_CFG(
        rollouts=cfg.rollout_steps,
        learning_epochs=cfg.update_epochs,
        mini_batches=cfg.num_minibatches,
        discount_factor=cfg.gamma,
        gae_lambda=cfg.gae_lambda,
        learning_rate=cfg.learning_rate,
        learning_rate_scheduler=KLAdaptiveLR if adaptive else None,
        learning_rate_scheduler_kwargs=rate if adaptive else {},
        grad_norm_clip=cfg.max_grad_norm,
        ratio_clip=cfg.clip_coef,
        value_clip=cfg.clip_coef if cfg.clip_vloss else 0.0,
        entropy_loss_scale=cfg.ent_coef,
        value_loss_scale=cfg.vf_coef / 2,  # of (V - R)²: ours is of half of that
        time_limit_bootstrap=True,  # `observe` says which episodes are bootstrapped
        experiment={"write_interval": 0, "checkpoint_interval": 0},
        **scaler("observation_preprocessor", spaces["observation_space"], scales),
        **scaler("state_preprocessor", privileged, scales and privileged is not None),
        **scaler("value_preprocessor", 1, cfg.normalize_value),
    )
    memory = RandomMemory(memory_size=cfg.rollout_steps, num_envs=num_envs, device=device)
    ppo = PPO(models={"policy": actor, "value": critic}, memory=memory, cfg=settings, **spaces)
    ppo.init()
    ppo.enable_training_mode(True)
    return ppo


def _models(agent: Config, env: VectorEnv, spaces: dict[str, Any]) -> tuple[Any, Any]:
    """Actor and critic as skrl has them: their classes exist only where it is installed."""
    from skrl.models.torch import CategoricalMixin, DeterministicMixin, GaussianMixin, Model

    dims, privileged = env.observation_dims, "critic" in env.observation_dims

    class Gaussian(GaussianMixin, Model):
        def __init__(self, actor: ActorConfig) -> None:
            Model.__init__(self, **spaces)
            low, high = math.log(actor.min_std), math.log(actor.max_std)
            GaussianMixin.__init__(self, min_log_std=low, max_log_std=high)
            self.network = library.mlp(dims["policy"], actor, env.action_dim)
            self.log_std = nn.Parameter(torch.full((env.action_dim,), math.log(actor.init_std)))

        def compute(self, inputs: dict[str, Any], role: str = "") -> tuple[Tensor, dict[str, Any]]:
            return self.network(inputs["observations"]), {"log_std": self.log_std}

    class Categorical(CategoricalMixin, Model):
        def __init__(self, actor: ActorConfig) -> None:
            Model.__init__(self, **spaces)
            CategoricalMixin.__init__(self)
            self.network = library.mlp(dims["policy"], actor, env.num_choices or 0)

        def compute(self, inputs: dict[str, Any], role: str = "") -> tuple[Tensor, dict[str, Any]]:
            return self.network(inputs["observations"]), {}

    class Value(DeterministicMixin, Model):
        def __init__(self) -> None:
            Model.__init__(self, **spaces)
            DeterministicMixin.__init__(self)
            self.network = library.mlp(dims["critic" if privileged else "policy"], agent.critic, 1)

        def compute(self, inputs: dict[str, Any], role: str = "") -> tuple[Tensor, dict[str, Any]]:
            return self.network(inputs["states" if privileged else "observations"]), {}

    return (Gaussian if env.num_choices is None else Categorical)(agent.actor), Value()


def make_agent(cfg: Any, env: VectorEnv, num_envs: int) -> NativeAgent:
    """Build it with the networks of `cfg.agent` and the numbers of `cfg.algo`.

    Raises:
        UserError: skrl is not installed.
    """
    device, threads = torch.device(env.device), available_threads(cfg.num_threads)
    return NativeAgent(env, SkrlPPO(cfg.agent, cfg.algo, env, num_envs, device, threads))
