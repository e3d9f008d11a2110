"""What the parts of a configuration must agree on: agent and algorithm, sizes, ranks, pruning."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from rl_platform import registry
from rl_platform.schema import Problem, shown


def together(checked: Mapping[str, Any]) -> Iterator[Problem]:
    """What two parts must agree on."""
    env, algo, agent = (checked.get(kind) or {} for kind in ("env", "algo", "agent"))
    algos = _algos(agent["name"]) if agent else None
    if algos is not None and algo and algo["name"] not in algos:
        message = f"agent={agent['name']} trains with {', '.join(algos)}, got {algo['name']}"
        able = [name for name in registry.names("agent") if algo["name"] in (_algos(name) or ())]
        yield Problem("algo", message, f"write {' or '.join(f'agent={n}' for n in able)}, or leave algo out")
    yield from _pruning(checked)
    ranks = (checked.get("launcher") or {}).get("num_processes")
    yield from _library(agent, ranks)
    if isinstance(ranks, int) and env.get("num_envs"):
        problem = ranks_problem(env["num_envs"], ranks)
        if problem is not None:
            yield problem
    yield from _sizes(env, algo)
    starts, limit = algo.get("learning_starts"), checked.get("total_env_steps")
    if starts and limit and starts >= limit and not checked.get("resume"):
        message = f"must be less than total_env_steps={limit}, got {starts}: nothing would be learnt"
        yield Problem("algo.learning_starts", message, f"write algo.learning_starts={limit // 10}")


def _sizes(env: Mapping[str, Any], algo: Mapping[str, Any]) -> Iterator[Problem]:
    """Whether a rollout of all environments has room in a replay buffer, and can be cut into minibatches."""
    room = algo.get("buffer_size")
    parts, steps, envs = algo.get("num_minibatches"), algo.get("rollout_steps"), env.get("num_envs")
    if room and steps and envs and room < steps * envs:
        message = f"must be at least algo.rollout_steps x env.num_envs = {steps} x {envs}, got {room}"
        yield Problem("algo.buffer_size", message, f"write algo.buffer_size={100 * steps * envs}")
    if not (parts and steps and envs) or min(parts, steps, envs) < 1 or (steps * envs) % parts == 0:
        return
    samples = steps * envs
    fewer = next(n for n in range(parts, 0, -1) if samples % n == 0)
    more = next((n for n in range(parts, min(samples, 16 * parts) + 1) if samples % n == 0), fewer)
    fitting = " or ".join(f"algo.num_minibatches={n}" for n in sorted({fewer, more}))
    yield Problem(
        "algo.num_minibatches",
        f"must divide algo.rollout_steps x env.num_envs = {steps} x {envs} = {samples}, got {parts}",
        f"write {fitting}",
    )


def unavailable(cfg: Mapping[str, Any]) -> Iterator[tuple[str, Any, Sequence[Any]]]:
    """Yield (key, value, the values instead) for each shared setting that the chosen agent has not.

    A module of `rl_platform.agents` may have `ONLY`: key → the values that it has, its own choice first.
    """
    agent = cfg.get("agent") or {}
    only = getattr(registry.load("agent", agent["name"]), "ONLY", {}) if agent else {}
    for key, values in only.items():
        node, name = _holder(cfg, key)
        if name in node and node[name] not in values:
            yield key, node[name], values


def _holder(cfg: Mapping[str, Any], key: str) -> tuple[Any, str]:
    """The section that a dotted key is in, empty where there is none, and the key's name there."""
    *path, name = key.split(".")
    node: Any = cfg
    for part in path:
        node = node.get(part) or {}
    return node, name


def settle(checked: dict[str, Any], typed: Collection[str]) -> Iterator[Problem]:
    """Give each setting that the agent has not one that it has; yield those that were typed."""
    for key, given, values in list(unavailable(checked)):
        if key in typed:
            allowed = " or ".join(shown(value) for value in values)
            message = f"agent={checked['agent']['name']} has {allowed} only, got {shown(given)}"
            yield Problem(key, message, f"write {key}={shown(values[0])}, or leave it out")
        node, name = _holder(checked, key)
        node[name] = values[0]


def changes(cfg: Mapping[str, Any]) -> str:
    """Say in a line what `settle` does to a configuration; empty where that is nothing."""
    told = [f"{key} {shown(given)} → {shown(values[0])}" for key, given, values in unavailable(cfg)]
    return f"agent={cfg['agent']['name']} has not all of these settings: {', '.join(told)}" if told else ""


def _library(agent: Mapping[str, Any], ranks: Any) -> Iterator[Problem]:
    """Whether the library that an agent is of (`LIBRARY`) is there, and is asked for what it can do."""
    library = getattr(registry.load("agent", agent["name"]), "LIBRARY", None) if agent else None
    if library is None:
        return
    if importlib.util.find_spec(library) is None:
        yield Problem(
            "agent", f"{agent['name']} needs the package {library}", registry.installation(agent["name"])
        )
    if isinstance(ranks, int) and ranks > 1:
        told = f"agent={agent['name']} trains on one rank, got {ranks}"
        yield Problem("launcher.num_processes", told, "write launcher=local, or agent=ppo")


def _algos(agent: str) -> Sequence[str] | None:
    """The algorithms that an agent can do with; None: it does not say."""
    return getattr(registry.load("agent", agent), "ALGOS", None)


def _pruning(checked: Mapping[str, Any]) -> Iterator[Problem]:
    """A sweeper that ends settings early needs evaluations that are logged."""
    pruner = (checked.get("sweeper") or {}).get("pruner", "none")
    every, logged = checked.get("eval_interval", 0), checked.get("log_interval", 1)
    if pruner == "none" or min(every, logged) < 0:
        return
    if every == 0:
        message = f"{pruner} looks at evaluations while training, and eval_interval is 0"
        yield Problem("sweeper.pruner", message, "write eval_interval=10")
    elif every % max(1, logged):
        message = (
            f"{pruner} looks at evaluations that are logged, and eval_interval={every} is no multiple of"
        )
        yield Problem("sweeper.pruner", f"{message} log_interval={logged}", "write log_interval=1")


def ranks_problem(num_envs: int, ranks: int) -> Problem | None:
    """Whether environments can be shared out evenly over ranks."""
    if ranks < 1:
        return Problem("launcher.num_processes", f"must be at least 1, got {ranks}")
    if num_envs % ranks == 0:
        return None
    near = sorted({max(ranks, num_envs // ranks * ranks), -(-num_envs // ranks) * ranks})
    fewer = [n for n in range(1, min(ranks, num_envs) + 1) if num_envs % n == 0][-1]
    return Problem(
        "env.num_envs",
        f"must be a multiple of the number of ranks, {ranks}, got {num_envs}",
        f"write {' or '.join(f'env.num_envs={n}' for n in near)}, or take {fewer} rank{'s' * (fewer > 1)}",
    )
