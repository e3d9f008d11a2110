"""What the parts of a configuration must agree on: agent and algorithm, sizes, ranks, pruning."""

from __future__ import annotations

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
    if isinstance(ranks, int) and env.get("num_envs"):
        problem = ranks_problem(env["num_envs"], ranks)
        if problem is not None:
            yield problem
    yield from _sizes(env, algo)


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


def only(agent: Mapping[str, Any]) -> Mapping[str, Sequence[Any]]:
    """Shared settings where an agent has less to choose from: key → its values, its own choice first."""
    return getattr(registry.load("agent", agent["name"]), "ONLY", {}) if agent else {}


def settle(checked: dict[str, Any], typed: Collection[str]) -> Iterator[Problem]:
    """Give each setting that the agent has not one that it has; yield those that were typed."""
    for key, values in only(checked.get("agent") or {}).items():
        *path, name = key.split(".")
        node: Any = checked
        for part in path:
            node = node.get(part) or {}
        if name not in node or node[name] in values:
            continue
        if key in typed:
            allowed = " or ".join(shown(value) for value in values)
            message = f"agent={checked['agent']['name']} has {allowed} only, got {shown(node[name])}"
            yield Problem(key, message, f"write {key}={shown(values[0])}, or leave it out")
        node[name] = values[0]


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
