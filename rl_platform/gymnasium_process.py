"""One environment of Gymnasium's, made and guarded where it runs: perhaps in a process of its own.

Nothing heavy is imported here: there can be a hundred such processes.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import re
import signal
import threading
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import load_env_creator

from rl_platform.errors import MissingPackageError, UserError

_SIGNALS = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2")  # that ask a run to stop
_SUCCESS = ("is_success", "success")  # by these names environments tell it in their info
_DEFAULT_FPS = 30.0


def _signals() -> list[signal.Signals]:
    """Those of them that this system has."""
    return [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]


@contextlib.contextmanager
def deaf_to_signals() -> Iterator[None]:
    """Ignore them for a moment: a program that is started here ignores them for as long as it runs."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread can say so
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass(frozen=True)
class Recipe:
    """How to make an environment.

    Attributes:
        id: registered with Gymnasium.
        module: is imported first, so that it can register environments; None for none.
        kwargs: of its constructor.
        max_episode_steps: None for what is registered.
        metrics: names in its info.
        render_mode: None, "rgb_array" or "human".
        trainer_pid: the process that asks for it.
    """

    id: str
    module: str | None
    kwargs: Mapping[str, Any]
    max_episode_steps: int | None
    metrics: tuple[str, ...]
    render_mode: str | None
    trainer_pid: int

    def make(self, index: int) -> GuardedEnv:
        """Make environment `index`.

        Raises:
            UserError: it cannot be made, or its observations or actions are of a kind that is not supported.
        """
        if os.getpid() != self.trainer_pid:
            # A signal to all processes of a job asks the trainer to stop; it closes the environments.
            for number in _signals():
                signal.signal(number, signal.SIG_IGN)
            os.environ.setdefault("OMP_NUM_THREADS", "1")
        import_module(self.module)
        options: dict[str, Any] = dict(self.kwargs)
        if self.max_episode_steps is not None:
            options["max_episode_steps"] = self.max_episode_steps
        if self.render_mode is not None:
            options["render_mode"] = self.render_mode
        try:
            env = gymnasium.make(self.id, disable_env_checker=True, **options)
        except gymnasium.error.DependencyNotInstalled as error:
            raise UserError(f"env.id={self.id} needs a package that is not installed: {error}") from error
        except Exception as error:
            raise UserError(_not_made(self, error)) from error
        return GuardedEnv(env, self, index)


class GuardedEnv(gymnasium.Wrapper):
    """Observations as a vector of float32, an info of a few numbers, and errors with their traceback.

    What an info holds besides can be anything, and would have to travel between processes.
    """

    def __init__(self, env: gymnasium.Env, recipe: Recipe, index: int) -> None:
        """Guard `env`.

        Raises:
            UserError: its observations or actions are of a kind that is not supported.
        """
        super().__init__(env)
        self._recipe, self._index, self._steps = recipe, index, 0
        check_action_space(recipe.id, env.action_space)
        self._source = env.observation_space
        size = flat_size(recipe.id, env.observation_space)
        self.observation_space = spaces.Box(-np.inf, np.inf, (size,), np.float32)

    @property
    def facts(self) -> dict[str, Any]:
        """What the trainer wants to know: `max_episode_steps` (or None), `step_dt` in s, `render_modes`."""
        spec, metadata = self.env.spec, self.env.metadata
        fps = metadata.get("render_fps") or 0.0
        dt = 1.0 / fps if fps > 0 else getattr(self.env.unwrapped, "dt", 1.0 / _DEFAULT_FPS)
        return {
            "max_episode_steps": spec.max_episode_steps if spec else None,
            "step_dt": float(dt),
            "render_modes": list(metadata.get("render_modes") or ()),
        }

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode."""
        self._steps = 0
        try:
            observation, _ = self.env.reset(seed=seed, options=options)
            return self._flat(observation), {}
        except Exception as error:
            raise UserError(self._told("reset", error)) from error

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Take a step; the info has `success` if the environment tells it, and the metrics."""
        self._steps += 1
        try:
            observation, reward, terminated, truncated, info = self.env.step(action)
            told = self._numbers(info, bool(terminated or truncated))
            return self._flat(observation), float(reward), bool(terminated), bool(truncated), told
        except UserError:
            raise
        except Exception as error:
            raise UserError(self._told(f"step {self._steps}", error)) from error

    def render(self) -> Any:
        """Return a picture.

        Raises:
            MissingPackageError: a package that it draws with is not installed.
            UserError: drawing failed.
        """
        try:
            return self.env.render()
        except gymnasium.error.DependencyNotInstalled as error:
            raise MissingPackageError(
                f"no video: env.id={self._recipe.id} draws with a missing package: {error}",
                re.findall(r"`pip install ([^`]+)`", str(error)),
            ) from error
        except Exception as error:
            raise UserError(f"no video: {self._told('render', error)}") from error

    def _flat(self, observation: Any) -> np.ndarray:
        """A copy: the environment may go on to write into its own."""
        if not isinstance(self._source, spaces.Box):
            observation = spaces.flatten(self._source, observation)
        vector = np.array(observation, dtype=np.float32).reshape(-1)
        if vector.shape != self.observation_space.shape:
            raise ValueError(
                f"an observation has {vector.size} numbers, and its space {self._source} has "
                f"{self.observation_space.shape}"
            )
        return vector

    def _numbers(self, info: Mapping[str, Any], ended: bool) -> dict[str, Any]:
        told: dict[str, Any] = {}
        for name in _SUCCESS:
            if name in info:
                told["success"] = bool(np.asarray(info[name]).all())
                break
        for name in self._recipe.metrics:
            if name in info:
                told[f"metrics/{name}"] = float(np.asarray(info[name]).item())
            elif ended:
                raise UserError(
                    f"env.metrics: the info of {self._recipe.id} has no {name} at an episode's end; "
                    f"it has {', '.join(map(str, info)) or 'nothing'}"
                )
        return told

    def _told(self, when: str, error: Exception) -> str:
        """Name the environment and the moment; the traceback without this file's own frame."""
        last = error.__traceback__.tb_next if error.__traceback__ else None
        trace = "".join(traceback.format_exception(error.with_traceback(last)))
        return f"env.id={self._recipe.id}: environment {self._index} failed in {when}:\n{trace.rstrip()}"


def import_module(name: str | None) -> None:
    """Import the user's module that registers environments; None: nothing.

    Raises:
        UserError: there is no such module, or it fails.
    """
    if name is None:
        return
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise UserError(
                f"there is no module {error.name} on Python's path: install your package, or put the "
                "directory that holds it into PYTHONPATH"
            ) from error
        raise UserError(f"importing {name} failed: {error}") from error
    except Exception as error:
        raise UserError(f"importing {name} failed:\n{traceback.format_exc().rstrip()}") from error


def check_action_space(name: str, space: gymnasium.Space) -> None:
    """Let pass one discrete choice, or numbers with finite bounds.

    Raises:
        UserError: any other kind of action.
    """
    if isinstance(space, spaces.Discrete):
        return
    if not isinstance(space, spaces.Box) or not np.issubdtype(space.dtype, np.floating):
        raise UserError(
            f"env.id={name}: its actions are {space}; supported are Discrete, and Box of floats. Wrap the "
            "environment where you register it"
        )
    if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
        raise UserError(
            f"env.id={name}: its actions {space} have no finite bounds, which the policy's [-1, 1] could be "
            "scaled to. Wrap the environment in gymnasium.wrappers.RescaleAction where you register it, or "
            "give its Box bounds"
        )


def flat_size(name: str, space: gymnasium.Space) -> int:
    """How many numbers an observation is; Dict, Tuple and discrete ones as FlattenObservation has them.

    Raises:
        UserError: images, or a space without a fixed size.
    """
    for key, part in _parts(space):
        if isinstance(part, spaces.Box) and (
            len(part.shape) >= 3 or (part.dtype == np.uint8 and len(part.shape) == 2)
        ):
            where = f" in {key}" if key else ""
            raise UserError(
                f"env.id={name}: its observation is an image{where}, {part.shape}: "
                "images are not supported yet"
            )
    if not space.is_np_flattenable:
        raise UserError(
            f"env.id={name}: its observation {space} has no fixed size, so that it cannot be flattened"
        )
    return int(spaces.flatdim(space))


def _parts(space: gymnasium.Space, key: str = "") -> list[tuple[str, gymnasium.Space]]:
    """The leaves of Dict and Tuple spaces, with their keys."""
    if isinstance(space, spaces.Dict):
        named = [(str(k), part) for k, part in space.spaces.items()]
    elif isinstance(space, spaces.Tuple):
        named = [(str(i), part) for i, part in enumerate(space.spaces)]
    else:
        return [(key, space)]
    return [leaf for k, part in named for leaf in _parts(part, f"{key}.{k}" if key else k)]


def _not_made(recipe: Recipe, error: Exception) -> str:
    given = ", ".join(f"{k}: {v}" for k, v in recipe.kwargs.items())
    head = f"env.id={recipe.id} cannot be made with env.kwargs={{{given}}}"
    if isinstance(error, TypeError) and "argument" in str(error):
        return f"{head}: {str(error).partition(' was raised from')[0]}\n{_constructor(recipe)}".rstrip()
    trace = "".join(traceback.format_exception(error)).rstrip()
    return f"{head}:\n{trace}"


def _constructor(recipe: Recipe) -> str:
    """One line: which arguments the constructor takes; empty if that cannot be found out."""
    try:
        entry = gymnasium.spec(recipe.id.rpartition(":")[2]).entry_point
        creator = load_env_creator(entry) if isinstance(entry, str) else entry
        parameters = inspect.signature(creator).parameters if creator else {}
    except Exception:
        return ""
    names = [name for name in parameters if name not in ("self", "render_mode")]
    return f"    → its constructor takes {', '.join(names) or 'no arguments'}"
