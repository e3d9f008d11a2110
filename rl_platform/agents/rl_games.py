"""`agent=rl_games`: the PPO of RL-Games (Makoviichuk et al. 2021), https://github.com/Denys88/rl_games."""

from __future__ import annotations

import contextlib
import io
import math
import os
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from rl_platform.agents import library
from rl_platform.agents.native import NativeAgent
from rl_platform.algos.ppo import PPOConfig
from rl_platform.envs.base import VectorEnv
from rl_platform.models.actor_critic import ActorCriticConfig as Config
from rl_platform.models.mlp import MLPConfig
from rl_platform.threads import available_threads, torch_threads

__all__ = ["ALGOS", "LIBRARY", "ONLY", "Config", "make_agent"]
ALGOS = ("ppo",)
LIBRARY = "rl_games"
ONLY = library.our_own_but("algo.normalize_value", "algo.bounds_loss_coef") | {
    "algo.normalize_reward": [False],
    "algo.normalize_advantage": ["batch", "none"],
    "agent.actor.std_type": ["log"],
    "agent.actor.min_std": [1e-6],
    "agent.actor.max_std": [1e6],
    "agent.mixed_precision": [False],
}


class Policy(nn.Module):
    """The likeliest action: normaliser and layers of RL-Games' actor."""

    def __init__(self, model: Any, discrete: bool) -> None:
        """Share the parts of `model`."""
        super().__init__()
        network = model.a2c_network
        self.normalizer = model.running_mean_std if model.normalize_input else nn.Identity()
        self.hidden, self.output = network.actor_mlp, network.logits if discrete else network.mu
        self.discrete = discrete

    def forward(self, obs: Tensor) -> Tensor:
        """Map observations (n, d) of the group "policy" to actions (n, action_dim)."""
        out = self.output(self.hidden(self.normalizer(obs)))
        return out.argmax(1, keepdim=True).to(out.dtype) if self.discrete else out


class RlGamesPPO(library.Learner):
    """RL-Games' agent behind our `Algorithm`: its networks, buffer, returns, passes and schedule.

    It takes V(s_t) for the value of the state that a truncated episode ended in. Its minibatches are the same
    in each pass, whole rollouts of some environments, and its observations' moments move in every minibatch.
    Its adaptive rate follows, for continuous actions, the KL from the pass before, and with choices, once a
    pass, ½ (Δ log π)² from the policy that acted. A critic of privileged observations is a network with an
    optimiser of its own (its central value): learning rates but the linear schedule's are constant there, and
    its gradients are of (V - R)² whatever `vf_coef` is. It draws from PyTorch's global stream.
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
            UserError: RL-Games is not installed.
        """
        library.require("rl_games", "rl_games.algos_torch.a2c_continuous")
        self.cfg, self.rollout_steps, self.num_threads = cfg, cfg.rollout_steps, num_threads
        self._agent = _agent(agent_cfg, cfg, env, num_envs, device)
        self._central = self._agent.central_value_net if self._agent.has_central_value else None
        parts = {"actor_critic": self._agent.model}
        self._optimizers = {"optimizer": self._agent.optimizer}
        if self._central is not None:
            parts["central_value"] = self._central.model
            self._optimizers["central_optimizer"] = self._central.optimizer
        self.model: nn.Module = nn.ModuleDict(parts).eval()
        self._policy = Policy(self._agent.model, self._agent.is_discrete)
        self._step = 0
        self._value = torch.zeros(num_envs, 1, device=device)  # V(s_t) of the last `act`

    def _seen(self, obs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Observations as RL-Games takes them."""
        return {"obs": obs["policy"]} | ({} if self._central is None else {"states": obs["critic"]})

    @torch.no_grad()
    def act(self, obs: dict[str, Tensor]) -> Tensor:
        """See `Algorithm`."""
        agent, seen = self._agent, self._seen(obs)
        found = agent.get_action_values(seen)
        rows = {"obses": seen["obs"], "dones": agent.dones} | {k: found[k] for k in agent.update_list}
        if self._central is not None:
            rows["states"] = seen["states"]
        for name, row in rows.items():
            agent.experience_buffer.update_data(name, self._step, row)
        self._value = found["values"]
        action: Tensor = found["actions"]
        return action.reshape(len(action), -1).float()

    @torch.no_grad()
    def observe(
        self,
        reward: Tensor,
        terminated: Tensor,
        truncated: Tensor,
        final_obs: dict[str, Tensor] | None,
    ) -> None:
        """See `Algorithm`."""
        agent = self._agent
        shaped = agent.rewards_shaper(reward[:, None])
        if agent.value_bootstrap:
            shaped = shaped + agent.gamma * self._value * (truncated & ~terminated)[:, None]
        agent.experience_buffer.update_data("rewards", self._step, shaped)
        agent.dones = (terminated | truncated).byte()
        self._step += 1

    def update(self, obs: dict[str, Tensor]) -> dict[str, float]:
        """See `Algorithm`."""
        agent, self._step = self._agent, 0
        agent.obs = self._seen(obs)
        with torch_threads(self.num_threads):
            _, _, _, _, surrogate, value, *bounds, entropy, kl, _, _ = agent.train_epoch()
        agent.dataset.update_values_dict(None)
        self.model.eval()
        losses = {"surrogate": surrogate, "value": value, "entropy": entropy, "kl": kl}
        if bounds:  # continuous actions have one
            losses["bounds"] = bounds[0]
        told = {f"Loss/{name}": torch.stack(found).mean().item() for name, found in losses.items()}
        if self._central is not None:
            told["Loss/value"] = agent.central_loss
        told["Loss/value"] /= 2  # RL-Games' is (V - R)², ours half of it
        told["Loss/learning_rate"] = agent.last_lr
        if not agent.is_discrete:
            told["Policy/mean_noise_std"] = agent.model.a2c_network.sigma.exp().mean().item()
        return told

    def set_progress(self, fraction: float) -> None:
        """Lower the linear schedule's rate to (1 - fraction) of its start."""
        if self.cfg.lr_schedule == "linear":
            self._set_learning_rate(self.cfg.learning_rate * max(0.0, 1.0 - fraction))

    def _set_learning_rate(self, rate: float) -> None:
        """Let all parameters learn at this rate; RL-Games' own linear schedule wants to know the end."""
        self._agent.last_lr = rate
        if self._central is not None:
            self._central.lr = rate
        for optimizer in self._optimizers.values():
            library.set_learning_rate(optimizer, rate)

    def state_dict(self, whole: bool = True) -> dict[str, Any]:
        """See `Algorithm`. Who had just started an episode has no say in the returns of what follows."""
        optimizers = {name: optimizer.state_dict() for name, optimizer in self._optimizers.items()}
        return {"model": self.model.state_dict(), "envs": {}} | optimizers

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Algorithm`."""
        self.load_model(state["model"])
        for name, optimizer in self._optimizers.items():
            optimizer.load_state_dict(state[name])
        self._agent.last_lr = self._agent.optimizer.param_groups[0]["lr"]


class Fixed:
    """An attribute that keeps its value, whatever a constructor assigns."""

    def __init__(self, value: Any) -> None:
        """Hold `value`."""
        self.value = value

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self.value

    def __set__(self, instance: object, value: Any) -> None: ...


def _agent(agent: Config, cfg: PPOConfig, env: VectorEnv, num_envs: int, device: torch.device) -> Any:
    """RL-Games' agent with our numbers by its names; the environment is stepped elsewhere."""
    params = {
        "model": {"name": "continuous_a2c_logstd" if env.num_choices is None else "discrete_a2c"},
        "network": _network(agent, env),
        "config": _numbers(agent, cfg, env, num_envs) | {"device": device},
    }
    with contextlib.redirect_stdout(io.StringIO()):  # it tells of each layer
        built = _agent_class(env.num_choices is not None)("rl_games", params)
        built.init_tensors()
    if cfg.lr_schedule == "adaptive":
        built.scheduler.min_lr, built.scheduler.max_lr = cfg.min_learning_rate, cfg.max_learning_rate
    return built


def _agent_class(discrete: bool) -> Any:
    """RL-Games' agent for a rollout that comes from outside."""
    from rl_games.algos_torch import model_builder
    from rl_games.algos_torch.a2c_continuous import A2CAgent
    from rl_games.algos_torch.a2c_discrete import DiscreteA2CAgent
    from rl_games.algos_torch.network_builder import A2CBuilder
    from rl_games.common.a2c_common import swap_and_flatten01

    class Builder(A2CBuilder):
        """Gives the critic sizes and an activation of its own, where RL-Games' has the actor's."""

        def build(self, name: str, **kwargs: Any) -> nn.Module:
            network = super().build(name, **kwargs)
            sizes, activation = self.params["critic"]["units"], self.params["critic"]["activation"]
            (inputs,) = kwargs["input_shape"]
            network.critic_mlp = network._build_mlp(inputs, sizes, activation, nn.Linear)
            network.value = network._build_value_layer([inputs, *sizes][-1], network.value_size)
            for layer in (*network.critic_mlp, network.value):
                if isinstance(layer, nn.Linear):
                    nn.init.zeros_(layer.bias)  # as its own are
            return network

    class Agent(DiscreteA2CAgent if discrete else A2CAgent):  # type: ignore[misc]
        # Its constructor makes directories of these names, and as rank 0 a file of logs.
        experiment_dir, nn_dir, summaries_dir = Fixed(os.curdir), Fixed(os.curdir), Fixed(os.curdir)
        global_rank = Fixed(1)
        central_loss = 0.0

        def play_steps(self) -> dict[str, Any]:
            """The rollout that its buffer holds, with returns, as its own `play_steps` ends."""
            rows = self.experience_buffer.tensor_dict
            value, done = rows["values"], rows["dones"].float()
            last = self.dones.float(), self.get_values(self.obs)
            advantage = self.discount_values(*last, done, value, rows["rewards"])
            batch = self.experience_buffer.get_transformed_list(swap_and_flatten01, self.tensor_list)
            batch["returns"] = swap_and_flatten01(advantage + value)
            return batch | {"played_frames": self.batch_size, "step_time": 0.0}

        def train_central_value(self) -> None:
            self.central_loss = super().train_central_value()

    model_builder.register_network("actor_and_critic", Builder)
    return Agent


def _layers(cfg: MLPConfig) -> dict[str, Any]:
    """Hidden layers by RL-Games' names, initialised as PyTorch does."""
    activation = {"silu": "swish"}.get(cfg.activation, cfg.activation)
    return {"units": list(cfg.hidden_sizes), "activation": activation, "initializer": {"name": "default"}}


def _network(agent: Config, env: VectorEnv) -> dict[str, Any]:
    """The network of the policy, and of the value unless that is privileged."""
    continuous = {
        "mu_activation": "None",
        "mu_init": {"name": "default"},
        "sigma_activation": "None",
        "sigma_init": {"name": "const_initializer", "val": math.log(agent.actor.init_std)},
        "fixed_sigma": True,  # a parameter log σ
    }
    privileged = "critic" in env.observation_dims
    return {
        "name": "actor_critic" if privileged else "actor_and_critic",
        "separate": not privileged,
        "space": {"continuous": continuous} if env.num_choices is None else {"discrete": None},
        "mlp": _layers(agent.actor),
        "critic": _layers(agent.critic),
    }


def _numbers(agent: Config, cfg: PPOConfig, env: VectorEnv, num_envs: int) -> dict[str, Any]:
    """What RL-Games calls `config`."""
    from rl_games.common.algo_observer import AlgoObserver
    from rl_games.common.tr_helpers import DefaultRewardsShaper

    spaces = {"observation_space": library.observation_space(env, "policy")}
    privileged = "critic" in env.observation_dims
    if privileged:
        spaces["state_space"] = library.observation_space(env, "critic")
    shared = {  # of the policy's and of a privileged value's training
        "minibatch_size": cfg.rollout_steps * num_envs // cfg.num_minibatches,
        "mini_epochs": cfg.update_epochs,
        "learning_rate": cfg.learning_rate,
        "e_clip": cfg.clip_coef,
        "clip_value": cfg.clip_vloss,
        "normalize_input": agent.normalize_obs,
        "truncate_grads": True,
        "grad_norm": cfg.max_grad_norm,
    }
    network = {"name": "actor_critic", "central_value": True, "mlp": _layers(agent.critic)}
    return shared | {
        "name": "rl_games",
        "env_name": "rl_games",
        "env_info": spaces | {"action_space": library.action_space(env)},
        "vec_env": SimpleNamespace(set_train_info=lambda frame, agent: None),
        "features": {"observer": AlgoObserver()},
        "train_dir": os.curdir,
        "num_actors": num_envs,
        "horizon_length": cfg.rollout_steps,
        "seq_length": 1,  # of recurrent networks; has to divide the samples all the same
        "lr_schedule": "adaptive" if cfg.lr_schedule == "adaptive" else None,
        "schedule_type": "legacy",  # in every minibatch
        "kl_threshold": cfg.target_kl,
        "gamma": cfg.gamma,
        "tau": cfg.gae_lambda,
        "reward_shaper": DefaultRewardsShaper(scale_value=cfg.reward_scale),
        "value_bootstrap": cfg.bootstrap_truncated,
        "normalize_advantage": cfg.normalize_advantage == "batch",
        "normalize_value": cfg.normalize_value,
        "entropy_coef": cfg.ent_coef,
        "critic_coef": cfg.vf_coef,
        "bounds_loss_coef": cfg.bounds_loss_coef,
        "central_value_config": shared | {"network": network} if privileged else None,
        "use_experimental_cv": False,  # the policy's layers are not trained to tell the value as well
    }


def make_agent(cfg: Any, env: VectorEnv, num_envs: int) -> NativeAgent:
    """Build it with the networks of `cfg.agent` and the numbers of `cfg.algo`.

    Raises:
        UserError: RL-Games is not installed.
    """
    device, threads = torch.device(env.device), available_threads(cfg.num_threads)
    return NativeAgent(env, RlGamesPPO(cfg.agent, cfg.algo, env, num_envs, device, threads))
