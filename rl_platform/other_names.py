"""How other libraries call things, and what there is here instead: tables for `suggest.py`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

Advice = str | Callable[[str, Mapping[Any, Any]], str]  # may need the value given, and the composed ones

UNSAID = "…"  # stands for a value that was not given
ON, OFF = ("true", "1", "yes", "on"), ("false", "0", "no", "off")

# How other libraries call things → how they are called here.
ALIASES = {
    "actor_hidden_dims": "hidden_sizes",
    "algorithm": "algo",
    "alpha_lr": "alpha_learning_rate",
    "autotune": "alpha",
    "checkpoint": "resume",
    "clip": "clip_coef",
    "clip_param": "clip_coef",
    "clip_range": "clip_coef",
    "clip_value": "clip_vloss",
    "critic_coef": "vf_coef",
    "critic_hidden_dims": "hidden_sizes",
    "critic_learning_rate": "q_learning_rate",
    "decimation": "substeps",
    "desired_kl": "target_kl",
    "dt": "timestep",
    "e_clip": "clip_coef",
    "empirical_normalization": "normalize_obs",
    "entropy_coef": "ent_coef",
    "envs": "num_envs",
    "exp_name": "run_name",
    "experiment_name": "run_name",
    "grad_norm": "max_grad_norm",
    "horizon_length": "rollout_steps",
    "init_noise_std": "init_std",
    "iterations": "max_iterations",
    "kl_threshold": "target_kl",
    "lam": "gae_lambda",
    "load_run": "resume",
    "log_dir": "output_dir",
    "lr": "learning_rate",
    "max_epochs": "max_iterations",
    "max_steps": "total_env_steps",
    "mini_epochs": "update_epochs",
    "minibatches": "num_minibatches",
    "n_envs": "num_envs",
    "n_eval_episodes": "episodes",
    "n_epochs": "update_epochs",
    "n_steps": "rollout_steps",
    "n_timesteps": "total_env_steps",
    "name": "run_name",
    "noise_std_type": "std_type",
    "normalize_input": "normalize_obs",
    "num_actors": "num_envs",
    "num_eval_episodes": "episodes",
    "num_iterations": "max_iterations",
    "num_learning_epochs": "update_epochs",
    "num_mini_batches": "num_minibatches",
    "num_steps": "rollout_steps",
    "num_steps_per_env": "rollout_steps",
    "polyak": "tau",
    "q_lr": "q_learning_rate",
    "random_timesteps": "learning_starts",
    "save_frequency": "save_interval",
    "scale_value": "reward_scale",
    "schedule": "lr_schedule",
    "task": "env",
    "tau": "gae_lambda",
    "timeout": "stop_after_s",
    "total_timesteps": "total_env_steps",
    "train_freq": "rollout_steps",
    "train_frequency": "rollout_steps",
    "units": "hidden_sizes",
    "use_clipped_value_loss": "clip_vloss",
    "utd_ratio": "gradient_steps",
    "value_bootstrap": "bootstrap_truncated",
}


def as_number(value: str) -> float | None:
    """The finite number that a text is, if it is one."""
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def said(value: str) -> str:
    """The value, unless it says no more than that something is on."""
    return "" if value == UNSAID or value.lower() in ON else value


def _switch(on: str, off: str = "leave it out: it is off") -> Advice:
    """Advice on what is true or false."""
    return lambda value, values: off if value.lower() in OFF else on


def _agent(value: str, values: Mapping[Any, Any]) -> str:
    return f"write agent={'sac' if value.lower() == 'sac' else 'ppo'}: it brings its algo along"


def _device(value: str, values: Mapping[Any, Any]) -> str:
    """One GPU of several: by its number, or by PyTorch's name."""
    if value in ("cpu", "-1"):
        return "write device=cpu"
    index = re.fullmatch(r"(?:cuda:)?(\d+)", value)
    return f"write device=cuda:{index[1]}" if index else "write device=cuda"


def _wandb(key: str, example: str) -> Advice:
    def told(value: str, values: Mapping[Any, Any]) -> str:
        return f"write logger=[tensorboard,wandb] logger.wandb.{key}={said(value) or example}"

    return told


def _std(value: str, values: Mapping[Any, Any]) -> str:
    """Of a logarithm, the number itself."""
    number = as_number(value)
    if number is None or abs(number) > 20:
        return "write agent.actor.init_std=NUMBER: e to the power of theirs"
    return f"write agent.actor.init_std={math.exp(number):.3g}: e to the power of theirs"


def _doubled(value: str, values: Mapping[Any, Any]) -> str:
    number = as_number(value)
    twice = "NUMBER" if number is None else f"{2 * number:g}"
    return f"write algo.vf_coef={twice}: twice theirs, as it weighs ½ (V - R)² and theirs (V - R)²"


def _iterations(key: str) -> Advice:
    """Advice on an interval that others count in steps."""

    def told(value: str, values: Mapping[Any, Any]) -> str:
        steps = "algo.rollout_steps x env.num_envs environment steps"
        return f"write {key}=N: in iterations, each of {steps}"

    return told


def _seconds(value: str, values: Mapping[Any, Any]) -> str:
    """The length of an episode, which others count in control steps."""
    steps, env = as_number(value), values.get("env") or {}
    if "timestep" not in env or "substeps" not in env:
        return "write env.episode_length_s=SECONDS: steps x control step, where the task has it"
    control = env["timestep"] * env["substeps"]
    if steps is None:
        return f"write env.episode_length_s=SECONDS: steps x control step, here {control:.4g} s"
    return f"write env.episode_length_s={steps * control:.4g}: in seconds, at {control:.4g} s a control step"


def _action_scale(value: str, values: Mapping[Any, Any]) -> str:
    actions = (values.get("env") or {}).get("actions") or {}
    terms = [name for name, term in actions.items() if isinstance(term, Mapping) and "scale" in term]
    keys = [f"env.actions.{name}.scale={said(value) or 'NUMBER'}" for name in terms]
    return f"write {', or '.join(keys)}" if keys else "leave it out: this task has no scale of actions"


def _std_type(value: str, values: Mapping[Any, Any]) -> str:
    if value.lower() in OFF:
        return "write agent.actor.std_type=state_dependent"
    return "leave it out: σ is a parameter (agent.actor.std_type)"


def _tensorboard(value: str, values: Mapping[Any, Any]) -> str:
    return f"that is TensorBoard's: python -m tensorboard.main --logdir {said(value) or 'outputs'}"


OWN_FILES = "settings are keys on the command line, and files of your own are options: --config-dir DIR"
_DISTRIBUTED = "write launcher=distributed launcher.num_processes=N"
_LOG_TO_WANDB = _switch("write logger=[tensorboard,wandb]")
_MINIBATCHES = "write algo.num_minibatches=N: how many, not how large"
_GO_ON = "write resume=RUN: a run directory, or a checkpoint in one"
_PLAIN = "leave it out: networks are layers of agent.actor.hidden_sizes and agent.critic.hidden_sizes"
_NO_MEMORY = "leave it out: no network here is recurrent"
_CLIPPED = (
    "leave it out: the environment holds actions to their bounds, agent.normalize_obs scales observations"
)
_VIDEOS = _switch(
    "write video_interval=50: in iterations; there is one of the final policy anyway", "write video=false"
)
# What has another form here, or none, by the end of its key → what to do.
ADVICE: dict[str, Advice] = {
    "action_scale": _action_scale,
    "actor.type": _PLAIN,
    "agent_cfg_path": OWN_FILES,
    "algo.name": _agent,
    "algorithm.name": _agent,
    "batch_size": _MINIBATCHES,
    "capture_video": _VIDEOS,
    "class_name": _agent,
    "clip_actions": _CLIPPED,
    "clip_obs": _CLIPPED,
    "clip_observations": _CLIPPED,
    "config": OWN_FILES,
    "config_file": OWN_FILES,
    "config_path": OWN_FILES,
    "cpu": _switch("write device=cpu", "write device=cuda"),
    "critic.type": _PLAIN,
    "cuda": _switch("write device=cuda", "write device=cpu"),
    "d2rl": _PLAIN,
    "distributed": _switch(_DISTRIBUTED),
    "enable_cameras": "leave it out: pictures are rendered wherever a video or env.cameras asks for them",
    "env.id": "choose the task with env=NAME; env=gymnasium is the one with an env.id",
    "env_name": "leave it out; choose the task with env=NAME",
    "env_spacing": "leave it out: each environment is a simulation of its own",
    "episodeLength": _seconds,
    "episode_length": _seconds,
    "eval_freq": _iterations("eval_interval"),
    "fixed_sigma": _std_type,
    "gpu": _switch("write device=cuda", "write device=cpu"),
    "gpu_id": _device,
    "graphics_device_id": _device,
    "initializer": _PLAIN,
    "initializer.name": _PLAIN,
    "keep_all_info": "leave it out: all that an environment tells is logged",
    "livestream": "write headless=false; a trained policy: python run.py play RUN --viewer web",
    "load_checkpoint": _GO_ON,
    "load_path": _GO_ON,
    "log_std_init": _std,
    "logdir": _tensorboard,
    "max_episode_length": _seconds,
    "minibatch_size": _MINIBATCHES,
    "minibatch_size_per_env": _MINIBATCHES,
    "ml_framework": "leave it out: it is PyTorch; other libraries are agents: python run.py list agents",
    "mu_activation": _PLAIN,
    "mu_init": _PLAIN,
    "mu_init.name": _PLAIN,
    "multi_gpu": _switch(_DISTRIBUTED),
    "network.name": _agent,
    "obs_mode": "leave it out: env.observations has what a policy sees, env.cameras pictures",
    "policy": _agent,
    "policy.name": _agent,
    "ppo": _switch("write agent=ppo", "write agent=sac"),
    "real_time": "that is of a policy: python run.py play RUN --viewer native or web",
    "reward_shaper": "leave it out, or write algo.reward_scale=NUMBER",
    "rl_device": _device,
    "save_freq": _iterations("save_interval"),
    "separate": "leave it out: actor and critic always have networks of their own",
    "seq_len": _NO_MEMORY,
    "seq_length": _NO_MEMORY,
    "sigma_activation": _PLAIN,
    "sigma_init": _std,
    "sigma_init.name": _std,
    "sigma_init.val": _std,
    "sim_device": _device,
    "test": "that is a command of its own: python run.py play RUN",
    "torch_deterministic": "leave it out: on a CPU a run is repeated by its seed",
    "track": _LOG_TO_WANDB,
    "train": "leave it out: env=NAME and agent=NAME bring the settings for the two along",
    "truncate_grads": "write algo.max_grad_norm=NUMBER: gradients are always held to one",
    "use_last_checkpoint": "python run.py play RUN plays the last one, resume=RUN trains on from it",
    "use_sde": "leave it out: algo.noise_correlation lets an action be tried for longer",
    "use_smooth_clamp": "leave it out: algo.clip_coef clips sharply",
    "use_wandb": _LOG_TO_WANDB,
    "value_loss_coef": _doubled,
    "value_loss_scale": _doubled,
    "wandb": _LOG_TO_WANDB,
    "wandb_activate": _LOG_TO_WANDB,
    "wandb_entity": _wandb("entity", "TEAM"),
    "wandb_group": _wandb("group", "NAME"),
    "wandb_project": _wandb("project", "NAME"),
    "wandb_project_name": _wandb("project", "NAME"),
}
# Keys that there are, but that mean another thing behind dashes in other libraries.
DASHED: dict[str, Advice] = {
    "resume": lambda value, values: f"write resume={value}" if said(value) else _GO_ON,
    "video": _VIDEOS,
}
# Behind dashes they stand alone in other libraries: the next word is not theirs.
FLAGS = {
    "capture_video",
    "cpu",
    "cuda",
    "distributed",
    "enable_cameras",
    "headless",
    "keep_all_info",
    "multi_gpu",
    "real_time",
    "test",
    "torch_deterministic",
    "track",
    "use_last_checkpoint",
    "use_wandb",
    "video",
    "wandb",
}
# The flags of other libraries' play.py → what to do where a command is given them.
OF_COMMANDS = {
    "enable_cameras": "leave it out: pictures are rendered wherever they are asked for",
    "headless": "leave it out: there is a window with play --viewer native only",
    "livestream": "write play RUN --viewer web",
    "load_run": "write RUN, its directory, alone",
    "real_time": "leave it out: play --viewer native and --viewer web are in real time",
    "task": "write RUN, the directory of a run, alone; without a policy: play env=NAME",
    "video_length": "write play RUN --video --steps N",
}
# Words that others have for a command → what to type.
WORDS = {
    "enjoy": "play RUN",
    "evaluate": "eval RUN",
    "render": "play RUN",
    "tensorboard": "python -m tensorboard.main --logdir outputs",
    "test": "play RUN",
    "tune": "-m … sweeper=optuna",
    "visualize": "play RUN",
    "watch": "play RUN",
}
# Options of a group by other names.
OPTIONS = {"a2c": "ppo", "a2c_continuous": "ppo", "a2c_discrete": "ppo", "actor_critic": "ppo"}
# What to do without one of a group's options.
WITHOUT = {
    "experiment": "python run.py list experiments; a run's own name is run_name=NAME",
    "tuned": "write '~tuned' to train without",
}
# Tasks by other names (without Isaac-, -v0 and capitals) → by ours.
TASKS = {
    "franka_lift": "lift",
    "lift_cube": "lift",
    "lift_cube_franka": "lift_isaac",
    "lift_object": "lift_isaac",
    "panda_pick_cube": "lift",
    "pick_cube": "lift",
    "push_cube_rl": "push_cube",
    "reach_franka": "reach",
}
