"""The vector environment: many episodes of one task side by side; `step` is the MDP in order."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from rl_platform import chosen
from rl_platform.envs import trial
from rl_platform.envs.delays import ActionDelay
from rl_platform.envs.happenings import Happenings
from rl_platform.envs.log import EpisodeLog, describe
from rl_platform.envs.observations import ObservationGroups
from rl_platform.envs.randomness import EnvRandom
from rl_platform.envs.recorded_step import Outcome, RecordedOutcome, lasting
from rl_platform.envs.starts import Starts
from rl_platform.envs.terms import Measures, Task, bind
from rl_platform.errors import UserError
from rl_platform.physics.base import Physics
from rl_platform.recorded import CudaGraph, Recorded, Recording
from rl_platform.timing import PhaseTimer

if TYPE_CHECKING:
    from rl_platform.envs.base import Page, Viewer
    from rl_platform.envs.render import OffscreenRenderer

Observations = dict[str, torch.Tensor]


class Env:
    """`num_envs` episodes of a task, stepped together; a finished one restarts in the same step.

    It works in PyTorch's inference mode, which has a fifth less to do for each call: what it returns can be
    read, copied and computed with, but has to be cloned before autograd may keep it.

    On a GPU a step never waits for the device: episodes restart by a mask instead of ids, and whether all was
    finite is told by `check`. (It does with events or commands within an episode, and with cameras.) What
    comes before and after the physics is recorded there as CUDA graphs: tensors that last keep their places.

    Attributes:
        num_envs: number of environments here; the global index of the first is `env_offset`.
        observation_dims: columns of each observation group, "policy" and perhaps "critic".
        image_shapes: (height, width, 3) of each group of pictures, which are uint8; see `Cameras`.
        action_dim, action_low, action_high: the action's size and its finite bounds `(action_dim,)`.
        step_dt: control period in s.
        max_episode_steps: steps until an episode is truncated.
        physics, random, memory, commands: what term functions and events may use.
        action, last_action: this step's and the previous one's `(num_envs, action_dim)`.
        episode_length: steps taken in each episode, `(num_envs,)` int64.
        training: false in evaluation and play, where no event may make the task easier.
        dtype: of observations and rewards as they are returned; terms may compute in more precision.
        reward_sums: each reward term's sum over the running episodes, `(terms, num_envs)` float64, live.
        common_step: steps taken by every environment since training began: the curriculum's clock.
    """

    num_choices: int | None = None
    exact_resume = True

    def __init__(
        self,
        config: Any,
        task: Task,
        physics: Physics,
        *,
        seed: int,
        env_offset: int = 0,
        training: bool = True,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Put `task` with the numbers of `config` on simulations made from `task.scene(config)`."""
        self.config, self.task, self.physics, self.training = config, task, physics, training
        self.num_envs, self.device, self.dtype = physics.num_envs, physics.device, dtype
        self.step_dt = config.timestep * config.substeps
        self.max_episode_steps = math.ceil(config.episode_length_s / self.step_dt - 1e-9)
        self.timer = PhaseTimer()
        self.random = EnvRandom(self.num_envs, env_offset, self.device, physics.dtype)
        self.all_ids = torch.arange(self.num_envs, device=self.device)
        self._all_of_them = torch.ones(self.num_envs, dtype=torch.bool, device=self.device)
        self.common_step = 0
        # by a mask episodes restart without waiting to know how many ended; a camera is waited for anyway
        self._by_mask = chosen.runs_behind(self.device) and not config.cameras
        self._watch = trial.Watch(self.device)
        self._unchecked = False  # whether there was a step since `check`
        self._build_actions()
        self._build_terms()
        self._starts = Starts(self, env_offset)
        self._read = task.reader(self)
        self._start_episodes(self.all_ids)
        self._state = self._read()
        self._try_terms()
        self._groups = ObservationGroups(self, self._state)
        self.observation_dims, self.image_shapes = self._groups.dims, self._groups.image_shapes
        self._before: Callable[[dict[str, torch.Tensor]], list[torch.Tensor]] = self._apply
        self._after: Callable[[], Outcome] = self._outcome
        if self.device.type == "cuda":
            self.record(partial(CudaGraph, self.device))
        self.reset(seed)

    def record(self, recording: Callable[[], Recording]) -> None:
        """Let what comes before and after the physics be recordings, where a step does not wait."""
        if not self._by_mask or not self.task.recorded or self._happenings.within_episodes:
            return
        parts = "what comes before the physics in a step", "what follows the physics in a step"
        held = partial(lasting, self, self._read)
        self._before = Recorded(self._apply, recording, parts[0], held)
        self._after = RecordedOutcome(self._outcome, recording, parts[1], held)

    def _build_actions(self) -> None:
        self.actions = self.task.actions(self)
        self.action_dim = sum(term.dim for term in self.actions.values())
        self.action_low = torch.cat([term.low for term in self.actions.values()])
        self.action_high = torch.cat([term.high for term in self.actions.values()])
        self.action = torch.zeros(self.num_envs, self.action_dim, device=self.device)
        self.last_action = self.action.clone()
        steps = self.config.action_delay_steps
        self._action_delay = None
        if steps[1] > 0:
            low, high = self.action_low, self.action_high
            self._action_delay = ActionDelay(self.random, low, high, steps, self.num_envs)

    def _build_terms(self) -> None:
        config, task, n = self.config, self.task, self.num_envs
        self.memory = {k: torch.zeros(n, size, device=self.device) for k, size in task.memory.items()}
        self.episode_length = torch.zeros(n, dtype=torch.int64, device=self.device)
        self._rewards = bind("rewards", task.rewards, config.rewards)
        self._reward_columns = tuple(f"reward term {name}" for name in self._rewards)
        self._terminations = bind("terminations", task.terminations, config.terminations)
        self._curriculum = bind("curriculum", task.curriculum, config.curriculum)
        self._happenings = Happenings(self)
        self.commands, self.event_due = self._happenings.commands, self._happenings.event_due
        self.reward_weights = {name: float(own["weight"]) for name, (_, own, _) in self._rewards.items()}
        self._reward_scale = self.step_dt if task.reward_rates else 1.0
        self._weights_known: tuple[float, ...] = ()
        self._weights = torch.empty(len(self._rewards), 1, dtype=self.dtype, device=self.device)
        ends = ("time_out", *self._terminations, "diverged")
        length_s = self.max_episode_steps * self.step_dt
        self._log = EpisodeLog(self, tuple(self._rewards), ends, tuple(task.metrics), length_s)
        self._log.reports_success = task.success is not None
        self.reward_sums = self._log.sums

    def _try_terms(self) -> None:
        """Tell a term that fails, or has a wrong shape, before the first step."""
        sections = {"reward": self._rewards, "termination": self._terminations, "metric": self.task.metrics}
        if self.task.success is not None:
            sections["success"] = {"success": self.task.success}
        for section, table in sections.items():
            trial.one_value_each(section, table, self._state, self.num_envs)

    @torch.inference_mode()
    def reset(self, seed: int | None = None) -> Observations:
        """Start a new episode everywhere, with `seed` the random streams anew too."""
        if seed is not None:
            self.random.seed(seed)
            self._starts.seed(seed)
            if not self.training:
                self.common_step = 0
        self._start_episodes(self.all_ids)
        self._log.forget(self.all_ids)
        self._state = self._read()
        first = self._measure_first(self.all_ids)
        return self._groups.show(self.all_ids, first, first=True)

    @torch.inference_mode()
    def step(
        self, action: torch.Tensor
    ) -> tuple[Observations, torch.Tensor, torch.Tensor, torch.Tensor, dict[str, Any]]:
        """Take one control step everywhere.

        Args:
            action: `(num_envs, action_dim)`; clipped to `action_low … action_high`.

        Returns:
            obs: the observation after the step; of a new episode where one ended.
            reward: `(num_envs,)`, the sum of the terms' shares.
            terminated, truncated: `(num_envs,)` bool.
            info: `final_obs` (the last observation of the episodes that ended; elsewhere obs),
                `rewards` (each term's share), `metrics` (computed when they are asked for: before the next
                step), `success` (None if the task knows none), all before the restart.

        Raises:
            NonFiniteError: an action, a reward or an observation is NaN or infinite, with its name. On a
                device that runs behind `check` raises it.
        """
        with self.timer("simulation"):
            if self._by_mask:
                self._prepare()
            self._before({"action": action})
            self.physics.step(self.config.substeps)
        with self.timer("terms"):
            self._count()
            return self._after()

    def _prepare(self) -> None:
        """See to what a step that neither waits nor asks Python could not."""
        if self._starts.look():
            self._state = self._read()  # what tells this step from the last one has seen the starts
        self.random.settle()

    def _apply(self, given: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        """Hand each action term its columns of the `action`; what is left is nothing."""
        action = given["action"]
        if self._by_mask:
            self._watch.add(("the policy's action",) * self.action_dim, action)
        elif not math.isfinite(action.sum()):
            trial.raise_if_bad("the policy's action", action)
        self.last_action.copy_(self.action)
        torch.clamp(action, self.action_low, self.action_high, out=self.action)
        applied = self._action_delay.apply(self.action) if self._action_delay else self.action
        start = 0
        for term in self.actions.values():
            term.apply(applied[:, start : start + term.dim])
            start += term.dim
        return []

    def _count(self) -> None:
        """Count the step; ask the curriculum."""
        self._unchecked = True
        self.episode_length += 1
        self.common_step += 1
        if self.training:  # what is evaluated stays the same
            for function, _, parameters in self._curriculum.values():
                function(self, **parameters)
        weights = tuple(self.reward_weights.values())
        if weights != self._weights_known:
            self._weights_known = weights
            each = torch.tensor(weights, dtype=self.dtype)
            self._weights.copy_(each[:, None] * self._reward_scale)

    def _outcome(self) -> Outcome:
        """What the step came to, as `step` returns it; ended episodes restart."""
        self._state = state = self._read()
        if self.task.remember is not None:
            self.task.remember(self, state)
        shares = self._reward_shares(state)
        terminated, truncated, done, ends = self._ends(state)
        self._log.add(shares)
        metrics = Measures(self.task.metrics, state)
        success = self.task.success(state) if self.task.success is not None else None
        reward = shares.sum(0)
        if due := self._happenings.due(done):
            metrics.read()
            self._happenings.happen(due)
            self._state = self._read()
        final_obs = obs = self._observe(self.all_ids)
        self._check_finite(reward, shares, obs)
        which = done if self._by_mask else done.nonzero()[:, 0]
        if self._by_mask or len(which):
            self._log.end(which, ends, metrics, success)
            first = self._restart(which)
            obs = {group: chosen.replaced(rows, which, first[group]) for group, rows in final_obs.items()}
        info = {
            "final_obs": final_obs,
            "rewards": dict(zip(self._rewards, shares, strict=True)),
            "metrics": metrics,
            "success": success,
        }
        return obs, reward, terminated, truncated, info

    def _reward_shares(self, state: Any) -> torch.Tensor:
        """Each term's share, weight · term, times step_dt where terms are rates; `(terms, num_envs)`."""
        terms = [function(state, **parameters) for function, _, parameters in self._rewards.values()]
        return torch.stack(terms).to(self.dtype).mul_(self._weights)

    def _ends(self, state: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, tuple[torch.Tensor, ...]]:
        """Return terminated, truncated, either, and why: bools for each reason, in the log's order."""
        time_out = self.episode_length >= self.max_episode_steps
        reasons = [function(state, **p) for function, _, p in self._terminations.values()]
        terminated = diverged = self.physics.diverged
        for reason in reasons:
            terminated = terminated | reason
        done = terminated | time_out
        return terminated, done ^ terminated, done, (time_out, *reasons, diverged)

    def _restart(self, which: torch.Tensor) -> Observations:
        """Start new episodes amid running ones, by ids or a mask; return their first observations."""
        first = self._starts.put(which)
        self._reset_actions(which)
        self._state = self._read()
        return self._groups.show(which, first, first=True)

    def draw_start(self, env_ids: torch.Tensor, random: EnvRandom) -> Observations:
        """Put these environments at new starts drawn from `random`; return what is measured there."""
        own, state = self.random, self._state
        self.random = random
        self._place(env_ids)
        self._state = self._read()
        first = self._measure_first(env_ids)
        self.random, self._state = own, state
        return first

    def _measure_first(self, env_ids: torch.Tensor) -> Observations:
        """What is measured at starts; a NaN there is told before a policy sees it."""
        first = self._groups.measure(self._state, env_ids)
        if not all(math.isfinite(values.sum()) for values in first.values()):
            self._groups.raise_if_bad(self._state)
        return first

    def forget_starts(self) -> None:
        """Make the starts anew that were made ahead: for a curriculum that changes events or commands."""
        self._starts.forget()

    def _start_episodes(self, env_ids: torch.Tensor) -> None:
        self._place(env_ids)
        self._reset_actions(env_ids)

    def everyone(self, env_ids: torch.Tensor) -> torch.Tensor:
        """A mask instead of the ids of all environments, where episodes restart by one."""
        return self._all_of_them if self._by_mask and len(env_ids) == self.num_envs else env_ids

    def _reset_actions(self, which: torch.Tensor) -> None:
        for term in self.actions.values():
            term.reset(which)
        if self._action_delay:
            self._action_delay.reset(which)

    def _place(self, env_ids: torch.Tensor) -> None:
        """Reset the simulations, run the events, draw the commands, clear what an episode remembers."""
        self.physics.reset(env_ids)
        self._happenings.start(env_ids)
        for memory in (*self.memory.values(), self.action, self.last_action, self.episode_length):
            memory.index_fill_(0, env_ids, 0)

    def _observe(self, env_ids: torch.Tensor) -> Observations:
        """What is seen of some environments amid their episodes."""
        return self._groups.show(env_ids, self._groups.measure(self._state, env_ids), first=False)

    def _check_finite(self, reward: torch.Tensor, shares: torch.Tensor, obs: Observations) -> None:
        """Raise a `NonFiniteError` that names the first term and environment with a NaN or an infinity."""
        if self._by_mask:
            self._watch.add(self._reward_columns, shares.t())
            for names, values in zip(self._groups.columns, self._groups.newest(obs), strict=True):
                self._watch.add(names, values)
            return
        if all(math.isfinite(values.sum()) for values in (reward, *self._groups.newest(obs))):
            return
        for name, share in zip(self._rewards, shares, strict=True):
            trial.raise_if_bad(f"reward term {name}", share[:, None])
        self._groups.raise_if_bad(self._state)

    @torch.inference_mode()
    def randomize_episode_lengths(self) -> None:
        """Let the episodes end at different times: each starts at a random step of its length.

        What is left of them is not counted in `episode_log`.
        """
        start = self.random.uniform(self.all_ids, 1)[:, 0] * self.max_episode_steps
        self.episode_length.copy_(start)
        self._log.leave_out_running()

    def check(self) -> None:
        """See `VectorEnv`."""
        if self._unchecked:
            self._unchecked = False
            self.physics.check()
            self._watch.look()

    def episode_log(self) -> dict[str, float]:
        """Return means over the episodes that ended since the last call; empty if none did.

        Raises:
            UserError, NonFiniteError: as `check` does.
        """
        self.check()
        return self._log.pop()

    @property
    def observation_columns(self) -> list[str]:
        """The term that each column of the group "policy" shows, with its age in steps where it has one."""
        return self._groups.shown_columns("policy")

    @property
    def action_columns(self) -> list[str]:
        """The term that each column of an action belongs to."""
        return [name for name, term in self.actions.items() for _ in range(term.dim)]

    def describe(self) -> str:
        """Return the task's tables as text."""
        return describe(self)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that an exact continuation needs."""
        return {
            "physics": self.physics.state_dict(),
            "random": self.random.state_dict(),
            "starts": self._starts.state_dict(),
            "actions": {name: term.state_dict() for name, term in self.actions.items()},
            "log": self._log.state_dict(),
            "histories": self._groups.state_dict(),
            "action_delay": self._action_delay.state_dict() if self._action_delay else {},
            "common_step": self.common_step,
            "reward_weights": dict(self.reward_weights),
            **{name: value.clone() for name, value in self.episode_tensors().items()},
        }

    @torch.inference_mode()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict` of the same task and number of environments."""
        self.physics.load_state_dict(state["physics"])
        self.random.load_state_dict(state["random"])
        if "starts" in state:  # not in runs of before 2026-11-25
            self._starts.load_state_dict(state["starts"])
        for name, term in self.actions.items():
            term.load_state_dict(state["actions"][name])
        self._log.load_state_dict(state["log"])
        self._groups.load_state_dict(state["histories"])
        if self._action_delay:
            self._action_delay.load_state_dict(state["action_delay"])
        self.common_step = state["common_step"]
        self.reward_weights = dict(state["reward_weights"])
        for name, value in self.episode_tensors().items():
            value.copy_(state[name])
        self._state = self._read()

    def episode_tensors(self) -> dict[str, torch.Tensor]:
        """What belongs to the running episodes beside their simulations; zero at a start, or drawn there."""
        own = {"action": self.action, "last_action": self.last_action, "episode_length": self.episode_length}
        groups = {"memory": self.memory, "command_age": self._happenings.command_age}
        zero = own | {f"{group}/{k}": v for group, tensors in groups.items() for k, v in tensors.items()}
        return zero | self.drawn_at_start()

    def drawn_at_start(self) -> dict[str, torch.Tensor]:
        """Those of the episodes' tensors that a start draws: commands, and when events happen."""
        groups = {"command": self.commands, "event_due": self.event_due}
        return {f"{group}/{k}": v for group, tensors in groups.items() for k, v in tensors.items()}

    def renderer(self, width: int, height: int, camera: str | None) -> OffscreenRenderer:
        """Open a drawing context; see `OffscreenRenderer`."""
        from rl_platform.envs.render import OffscreenRenderer  # OpenGL, which training does without

        return OffscreenRenderer(self, width, height, camera)

    def viewer(self, page: Page | None = None) -> Viewer:
        """Open a window on the first environment; see `NativeViewer` and `WebViewer`."""
        if page is not None:
            try:
                from rl_platform.envs.web_viewer import WebViewer
            except ImportError as error:  # experimental in MuJoCo, and perhaps not for every system
                raise UserError(f"MuJoCo's web viewer does not load here ({error}): play --video") from error
            return WebViewer(self, page)
        from rl_platform.envs.viewer import NativeViewer

        return NativeViewer(self)

    def close(self) -> None:
        """Close the cameras; the simulations go with the object."""
        self._groups.close()
