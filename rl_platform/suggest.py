"""What the user meant: the nearest option, the nearest key, the right group of a key."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rl_platform.schema import Problem, nearest

ABSENT = object()
OPEN = object()  # not there, but its parent is empty: its own schema knows what may be put in

GROUP_ORDER = ("env", "algo", "agent", "logger", "launcher", "sweeper")

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
    "e_clip": "clip_coef",
    "entropy_coef": "ent_coef",
    "envs": "num_envs",
    "eval_freq": "eval_interval",
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
    "max_episode_length": "episode_length_s",
    "max_epochs": "max_iterations",
    "max_steps": "total_env_steps",
    "mini_epochs": "update_epochs",
    "minibatches": "num_minibatches",
    "n_envs": "num_envs",
    "n_epochs": "update_epochs",
    "n_steps": "rollout_steps",
    "n_timesteps": "total_env_steps",
    "name": "run_name",
    "normalize_input": "normalize_obs",
    "num_actors": "num_envs",
    "num_iterations": "max_iterations",
    "num_learning_epochs": "update_epochs",
    "num_mini_batches": "num_minibatches",
    "num_steps": "rollout_steps",
    "num_steps_per_env": "rollout_steps",
    "polyak": "tau",
    "q_lr": "q_learning_rate",
    "random_timesteps": "learning_starts",
    "save_freq": "save_interval",
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
    "value_loss_coef": "vf_coef",
}
# What has another form here, or none → what to do.
ADVICE = {
    "agent_cfg_path": "an agent's settings are its keys, and files of your own are options: --config-dir DIR",
    "batch_size": "write algo.num_minibatches=N: how many, not how large",
    "cuda": "write device=cuda",
    "distributed": "write launcher=distributed launcher.num_processes=N",
    "env_spacing": "leave it out: each environment is a simulation of its own",
    "gpu": "write device=cuda",
    "minibatch_size": "write algo.num_minibatches=N: how many, not how large",
    "minibatch_size_per_env": "write algo.num_minibatches=N: how many, not how large",
    "multi_gpu": "write launcher=distributed launcher.num_processes=N",
    "test": "that is a command of its own: python run.py play RUN",
    "track": "write logger=[tensorboard,wandb]",
    "truncate_grads": "write algo.max_grad_norm=NUMBER: gradients are always held to one",
    "use_wandb": "write logger=[tensorboard,wandb]",
    "wandb_activate": "write logger=[tensorboard,wandb]",
    "wandb_project_name": "write logger=[tensorboard,wandb] logger.wandb.project=NAME",
}
# Tasks by other names (without Isaac-, -v0 and capitals) → by ours.
TASKS = {
    "cartpole_direct": "cartpole",
    "franka_lift": "lift",
    "lift_cube": "lift",
    "lift_cube_franka": "lift_isaac",
    "lift_object": "lift_isaac",
    "pick_cube": "lift",
    "reach_franka": "reach",
}


def lookup(values: Mapping[Any, Any], key: str) -> Any:
    """Return what is at a dotted key (lists by index), `OPEN` or `ABSENT`."""
    node: Any = values
    for part in key.replace("[", ".").replace("]", "").split("."):
        if isinstance(node, Mapping) and part in node:
            node = node[part]
        elif isinstance(node, list) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
        else:
            return OPEN if (node is None or node == {} or node is OPEN) and node is not values else ABSENT
    return node


def option(group: str, given: str, groups: Mapping[str, Sequence[str]]) -> Problem:
    """Describe a group's option that does not exist."""
    match = _option(group, given, groups)
    elsewhere = [name for name, options in groups.items() if given in options]
    hint = "write '~tuned' to train without" if group == "tuned" else ""
    if match:
        hint = f"did you mean {group}={match}?"
    elif elsewhere:
        hint = f"{given} is an option of {elsewhere[0]}: write {elsewhere[0]}={given}"
    if group == "env" and re.fullmatch(r"[\w/]+-v\d+", given):
        hint = f"{hint} Any of Gymnasium's is env=gymnasium env.id={given}".lstrip()
    return Problem(f"{group}={given}", f"no such {group}; there are {', '.join(sorted(groups[group]))}", hint)


def key(text: str, given: str, values: Mapping[Any, Any], groups: Mapping[str, Sequence[str]]) -> Problem:
    """Describe a key that does not exist; `text` is the whole override."""
    value = text.partition("=")[2]
    own = {name: node for name, node in values.items() if name != "hydra"}
    if (leaf := _leaf(given)) in ADVICE:
        return Problem(text, f"there is no key {given}", ADVICE[leaf])
    names = _candidates(given, list(_keys(own)), groups)
    if names and names[0] in groups and value not in groups[names[0]]:
        value = _option(names[0], value, groups) or value
    matches = [f"{name}={value}" if value else name for name in names]
    sure = matches and _leaf(matches[0].partition("=")[0]) == _leaf(given)
    hint = f"write {', or '.join(matches)}" if sure else f"did you mean {' or '.join(matches)}?"
    return Problem(text, f"there is no key {given}", hint if matches else "")


def unreadable(
    text: str, groups: Mapping[str, Sequence[str]], commands: Iterable[str], keys: Iterable[str] = ()
) -> Problem:
    """Describe an argument that is not an override at all; `keys` are those of the configuration's top."""
    word, equals, value = text.partition("=")
    holders = [group for group, options in groups.items() if word in options]
    if not equals and holders:
        return Problem(text, f"{word} is an option of the group {holders[0]}", f"write {holders[0]}={word}")
    if not equals and word in keys:
        return Problem(text, f"{word} is a key", f"write {word}=…")
    if not equals and (task := _task(word, groups.get("env", ()))):
        return Problem(text, f"{word} is called {task} here", f"write env={task}")
    if not equals and Path(word, "run.json").is_file():
        return Problem(text, "is a run", f"write resume={word}; or eval {word}, or play {word}")
    if not equals or " " in word:
        options = [name for names in groups.values() for name in names]
        alike = nearest(word, [*commands, *options])
        meant = f"did you mean {alike}? " if alike else ""
        return Problem(text, "is no command and no key=value", f"{meant}Settings are written env=lift")
    if value.count("'") + value.count('"') or not value:
        return Problem(text, "cannot be read", "look at its quotes and brackets")
    return Problem(text, "cannot be read", f"with special characters in it, write \"{word}='{value}'\"")


def _option(group: str, given: str, groups: Mapping[str, Sequence[str]]) -> str | None:
    """The option that `given` may stand for."""
    return (_task(given, groups[group]) if group == "env" else None) or nearest(given, groups[group])


def _task(given: str, options: Sequence[str]) -> str | None:
    """Our name of a task that another library calls so: Isaac-Cartpole-v0, HalfCheetah-v5."""
    name, version = re.fullmatch(r"(?:Isaac-)?(.*?)(?:-v(\d+))?", given, re.DOTALL).groups()  # type: ignore[union-attr]
    snake = re.sub(r"(?<=[a-z])(?=[A-Z])|-", "_", name).lower()
    ours = (f"{snake}_v{version}", TASKS.get(snake), snake)
    return next((one for one in ours if one in options), None)


def _candidates(given: str, known: list[str], groups: Mapping[str, Sequence[str]]) -> list[str]:
    """Keys that `given` may stand for, best first."""
    parent, _, leaf = given.rpartition(".")
    leaf = ALIASES.get(leaf, leaf)
    if leaf in groups and not parent:
        return [leaf]
    siblings = [name for name in known if name.rpartition(".")[0] == parent]
    for pool, cutoff in ((known, 1.0), (siblings, 0.85), (known, 0.9), (siblings, 0.6), (known, 0.75)):
        match = nearest(leaf, {_leaf(name) for name in pool}, cutoff)
        found = [name for name in pool if _leaf(name) == match]
        if found:
            near = [name for name in found if parent and nearest(name.split(".")[0], [parent.split(".")[0]])]
            return sorted(near or found, key=_rank)[:4]
    match = nearest(given, groups) if not parent else None
    return [match] if match else []


def _rank(name: str) -> int:
    """The parts of a run that people mean first come first."""
    group = name.split(".")[0]
    return GROUP_ORDER.index(group) if group in GROUP_ORDER else len(GROUP_ORDER)


def _keys(values: Mapping[Any, Any], path: str = "") -> Iterator[str]:
    for name, node in values.items():
        full = f"{path}.{name}" if path else str(name)
        yield full
        if isinstance(node, Mapping):
            yield from _keys(node, full)


def _leaf(dotted: str) -> str:
    return dotted.rpartition(".")[2]
