"""Any environment that is registered with Gymnasium, as a `VectorEnv` of ours: env=gymnasium."""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import time
from collections.abc import Iterator
from functools import partial
from multiprocessing import forkserver
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from rl_platform.envs.base import Controls, Observations, Page
from rl_platform.envs.log import EpisodeLog
from rl_platform.errors import NonFiniteError, UserError
from rl_platform.gymnasium_process import Recipe, deaf_to_signals
from rl_platform.timing import PhaseTimer

MAX_PROCESSES = 128
_CLOSE_S = 3.0  # until a process that does not end by itself is killed
_SILENT = 100  # above every level of Gymnasium's logger


class Workers(AsyncVectorEnv):
    """A process for each environment; none outlives the trainer, whatever happens.

    They are started by a small server, not forked off the trainer: they share neither its threads' locks
    nor its open files, and notice when it is gone. They ignore the signals that ask it to stop.
    """

    def __init__(self, env_fns: list[Any]) -> None:
        """Start the processes. Raises what making an environment does."""
        self.parent_pipes, self.processes = [], []
        try:
            super().__init__(env_fns, context=_start_method(), autoreset_mode=AutoresetMode.SAME_STEP)
        except BaseException:
            _end(self.processes)
            self.closed = True
            raise

    def close_extras(self, timeout: float | None = None, terminate: bool = False) -> None:
        """Ask the processes to end, and end those that do not."""
        for pipe in self.parent_pipes:
            with contextlib.suppress(OSError, AttributeError):  # closed, broken, or None after an error
                pipe.send(("close", None))
        _end(self.processes, 0.0 if terminate else _CLOSE_S)
        for pipe in self.parent_pipes:
            if pipe is not None:
                pipe.close()

    def dead(self) -> str:
        """Say which processes are gone, and how."""
        time.sleep(0.1)  # the pipe breaks a little before the process is gone
        codes = {i: process.exitcode for i, process in enumerate(self.processes) if not process.is_alive()}
        told = [f"{i} ({_how(code)})" for i, code in codes.items()]
        return f"the process of environment {', '.join(told)} ended" if told else "a process does not answer"


def _start_method() -> str:
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return "spawn"
    server: Any = multiprocessing.get_context("forkserver")
    # Nothing of ours or the user's: the server does not have this process's sys.path yet.
    server.set_forkserver_preload(["gymnasium.vector"])
    with deaf_to_signals():  # if it ended before the trainer, its children would seem to have ended too
        forkserver.ensure_running()
    return "forkserver"


def _end(processes: list[Any], patience_s: float = 0.0) -> None:
    deadline = time.monotonic() + patience_s
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
    for process in processes:
        if process.is_alive():
            process.kill()
    for process in processes:
        process.join()


def _how(code: int | None) -> str:
    return f"killed by signal {-code}" if code is not None and code < 0 else f"exit status {code}"


@atexit.register
def _end_all() -> None:
    """Before multiprocessing waits for them: it asks by a signal that they ignore."""
    _end([p for p in multiprocessing.active_children() if p.name.startswith(f"Worker<{Workers.__name__}>")])


class GymnasiumEnv:
    """`num_envs` environments of one id; the group `policy` holds the flattened observation.

    Continuous actions are in [-1, 1], scaled to the environment's bounds. Its reward is taken as it is.
    The state of the simulations cannot be saved: a resumed run starts new episodes.

    Attributes:
        exact_resume: false.
        max_episode_steps: None if the environment has no limit that Gymnasium knows.
    """

    exact_resume = False

    def __init__(
        self, config: Any, *, num_envs: int, seed: int, device: str = "cpu", env_offset: int = 0
    ) -> None:
        """Make the environments.

        Args:
            config: of `tasks/gymnasium.py`.
            num_envs: how many here; the global index of the first is `env_offset`.
            seed: with the global index, of each environment.
            device: of the tensors.
            env_offset: global index of the first.

        Raises:
            UserError: an environment cannot be made, or is of a kind that is not supported.
        """
        self.config, self.num_envs, self.device = config, num_envs, torch.device(device)
        self.timer = PhaseTimer()
        self._offset, self._seed, self._steps, self._seeds_due = env_offset, seed, 0, True
        self._build(render_mode=None)
        facts = self._venv.get_attr("facts")[0]
        self.step_dt: float = facts["step_dt"]
        self.max_episode_steps: int | None = facts["max_episode_steps"]
        self._render_modes = facts["render_modes"]
        self.observation_dims = {"policy": int(self._venv.single_observation_space.shape[0])}  # type: ignore[index]
        self._read_actions(self._venv.single_action_space)
        self._all_ids = torch.arange(num_envs, device=self.device)
        names = tuple(config.metrics)
        self._log = EpisodeLog(self, ("reward",), ("time_out", "terminated"), names, length_s=1.0)
        self._log.reports_success = False  # until an environment does

    def _build(self, render_mode: str | None) -> None:
        config = self.config
        recipe = Recipe(
            config.id,
            config.import_,
            config.kwargs,
            config.max_episode_steps,
            tuple(config.metrics),
            render_mode,
            os.getpid(),
        )
        makers = [partial(recipe.make, self._offset + i) for i in range(self.num_envs)]
        apart = config.vectorization == "async" and 1 < self.num_envs <= MAX_PROCESSES
        self._venv: Workers | SyncVectorEnv
        with self._errors_named():
            if apart and render_mode is None:
                self._venv = Workers(makers)
            else:
                self._venv = SyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP)

    def _read_actions(self, space: gymnasium.Space) -> None:
        self._action_space = space
        self.num_choices: int | None = None
        if isinstance(space, spaces.Discrete):
            self.action_dim, self.num_choices = 1, int(space.n)
            self.action_low = torch.zeros(1, device=self.device)
            self.action_high = self.action_low + (self.num_choices - 1)
            return
        assert isinstance(space, spaces.Box)
        self.action_dim = int(np.prod(space.shape))
        self.action_high = torch.ones(self.action_dim, device=self.device)
        self.action_low = -self.action_high

    def reset(self, seed: int | None = None) -> Observations:
        """Start new episodes everywhere, with `seed` the random streams anew too."""
        if seed is not None:
            self._seed, self._steps, self._seeds_due = seed, 0, True
        seeds = [self._seed_of(i) for i in range(self.num_envs)] if self._seeds_due else None
        self._seeds_due = False
        self._log.forget(self._all_ids)
        with self._errors_named():
            rows, _ = self._venv.reset(seed=seeds)  # type: ignore[arg-type]
        obs = self._tensor(rows)
        self._check_finite(obs, torch.zeros(self.num_envs))
        return {"policy": obs}

    def _seed_of(self, i: int) -> int:
        """A hash of the seed, the global index, and where a resumed run goes on."""
        words = np.random.SeedSequence((self._seed, self._offset + i, self._steps))
        return int(words.generate_state(1)[0] >> 1)

    def step(
        self, action: torch.Tensor
    ) -> tuple[Observations, torch.Tensor, torch.Tensor, torch.Tensor, dict[str, Any]]:
        """Take one step everywhere; see `VectorEnv`."""
        with self.timer("simulation"):
            if not torch.isfinite(action).all():
                env_id = int((~torch.isfinite(action)).any(1).nonzero()[0])
                raise NonFiniteError(f"the policy's action is not finite in environment {env_id}", env_id)
            with self._errors_named():
                rows, rewards, ended, cut, told = self._venv.step(self._for_environments(action))
        with self.timer("terms"):
            self._steps += 1
            final = obs = self._tensor(rows)
            reward, terminated = self._tensor(rewards), self._tensor(ended, torch.bool)
            truncated = self._tensor(cut, torch.bool) & ~terminated
            done_ids = (terminated | truncated).nonzero()[:, 0]
            if len(done_ids):
                last = np.stack(told["final_obs"][done_ids.cpu().numpy()])
                final = obs.index_copy(0, done_ids, self._tensor(last))
            self._check_finite(final, reward)
            metrics = {name: self._column(told, f"metrics/{name}") for name in self.config.metrics}
            success = self._success(told)
            self._log.add(reward[None])
            if len(done_ids):
                self._log.end(done_ids, (truncated, terminated), metrics, success)
            info = {
                "final_obs": {"policy": final},
                "rewards": {"reward": reward},
                "metrics": metrics,
                "success": success,
            }
        return {"policy": obs}, reward, terminated, truncated, info

    def _for_environments(self, action: torch.Tensor) -> np.ndarray:
        """Scale [-1, 1] to the environment's bounds, or count choices from where it does."""
        values, space = action.detach().cpu().numpy(), self._action_space
        if isinstance(space, spaces.Discrete):
            return values[:, 0].astype(np.int64) + space.start
        assert isinstance(space, spaces.Box)
        unit = (np.clip(values, -1.0, 1.0).reshape(self.num_envs, *space.shape) + 1.0) / 2.0
        return (space.low + unit * (space.high - space.low)).astype(space.dtype)

    def _tensor(self, values: np.ndarray, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """A copy: Gymnasium may write into its own."""
        return torch.tensor(values, dtype=dtype, device=self.device)

    def _column(self, told: dict[str, Any], name: str) -> torch.Tensor:
        """What the environments say by this name, of the episode that ended where one did; else 0."""
        values = np.zeros(self.num_envs, np.float32)
        for part in (told, told.get("final_info", {})):
            if name in part:
                mask = part[f"_{name}"]
                values[mask] = part[name][mask]
        return self._tensor(values)

    def _success(self, told: dict[str, Any]) -> torch.Tensor | None:
        """`(num_envs,)` bool; None as long as no environment has ever said whether it succeeded."""
        if "success" in told or "success" in told.get("final_info", {}):
            self._log.reports_success = True
        return self._column(told, "success").bool() if self._log.reports_success else None

    def _check_finite(self, obs: torch.Tensor, reward: torch.Tensor) -> None:
        for name, values in (("reward", reward[:, None]), ("observation policy", obs)):
            if not torch.isfinite(values).all():
                env_id = int((~torch.isfinite(values)).any(1).nonzero()[0])
                raise NonFiniteError(
                    f"{name} of {self.config.id} is not finite in environment {env_id}: "
                    f"{values[env_id].tolist()}",
                    env_id,
                )

    @contextlib.contextmanager
    def _errors_named(self) -> Iterator[None]:
        """Say which environment's process died; what Gymnasium would print of errors is in them already."""
        level, gymnasium.logger.min_level = gymnasium.logger.min_level, _SILENT
        try:
            yield
        except (EOFError, OSError) as error:
            venv = getattr(self, "_venv", None)
            what = venv.dead() if isinstance(venv, Workers) else f"its processes did not start: {error!r}"
            raise UserError(f"env.id={self.config.id}: {what}; what it printed is above.") from error
        finally:
            gymnasium.logger.min_level = level

    def randomize_episode_lengths(self) -> None:
        """Nothing: how far an episode is belongs to the environment."""

    def check(self) -> None:
        """Nothing: each step has looked at what it returned."""

    def episode_log(self) -> dict[str, float]:
        """Return means over the episodes that ended since the last call; empty if none did."""
        return self._log.pop()

    def describe(self) -> str:
        """Return what the environment is made of as text."""
        limit = "no limit" if self.max_episode_steps is None else f"{self.max_episode_steps} steps"
        how = "one process each" if isinstance(self._venv, Workers) else "in this process"
        actions = f"scaled from [-1, 1] to {self._action_space}"
        if self.num_choices:
            actions = f"one of {self.num_choices}"
        arguments = "".join(f"\n    {name:<36} {value}" for name, value in self.config.kwargs.items())
        return (
            f"Control {1 / self.step_dt:.4g} Hz, episode {limit}; environments {how}\n"
            f"  Actions\n    {actions}\n"
            f"  Observations: policy ({self.observation_dims['policy']})"
            + (f"\n  Arguments{arguments}" if arguments else "")
        )

    def renderer(self, width: int, height: int, camera: str | None) -> _Frames:
        """Make the environments anew so that they draw themselves, in their own size; reset them then.

        Raises:
            UserError: they cannot draw.
        """
        self._draw("rgb_array")
        return _Frames(self._venv)

    def viewer(self, page: Page | None = None) -> _Window:
        """Make the environments anew so that they open windows; reset them then.

        Raises:
            UserError: they cannot, or a page in a browser was asked for.
        """
        if page is not None:
            raise UserError(
                f"env.id={self.config.id} cannot be shown in a browser, only in a window of its own, "
                "which needs a display (play --viewer native), or as a video (play --video)"
            )
        self._draw("human")
        return _Window()

    def _draw(self, render_mode: str) -> None:
        if render_mode == "human" and self.num_envs > 1:
            raise UserError(f"env.id={self.config.id}: a window shows one environment, not {self.num_envs}")
        if render_mode not in self._render_modes:
            what = "no video" if render_mode == "rgb_array" else "no window"
            modes = ", ".join(self._render_modes) or "none"
            raise UserError(
                f"{what}: env.id={self.config.id} has no render mode {render_mode} (it has {modes})"
            )
        self.close()
        self._build(render_mode)
        self._seeds_due = True

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs to start new episodes."""
        return {"seed": self._seed, "steps": self._steps, "log": self._log.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next reset start episodes that the run has not seen."""
        self._seed, self._steps, self._seeds_due = state["seed"], state["steps"], True
        self._log.load_state_dict(state["log"])

    def close(self) -> None:
        """End the processes."""
        self._venv.close()


class _Frames:
    """Pictures of environments in this process."""

    def __init__(self, venv: Any) -> None:
        self._envs = venv.envs

    def frame(self, env_id: int = 0) -> np.ndarray:
        """Draw one environment as it is now, `(height, width, 3)` uint8."""
        return np.asarray(self._envs[env_id].render())

    def close(self) -> None:
        """Nothing: the environments keep what they draw with until they are closed."""


class _Window:
    """The environment's own window: it draws by itself at each step."""

    invitation = ""

    def __init__(self) -> None:
        self.controls = Controls()

    def draw(self, notes: str = "") -> None:
        """Nothing."""

    def is_open(self) -> bool:
        """Nobody can ask the environment."""
        return True

    def close(self) -> None:
        """Nothing: it goes with the environment."""
