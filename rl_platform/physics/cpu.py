"""MuJoCo on the CPU: `mujoco.batch` steps all environments on one pool of threads."""

from __future__ import annotations

import contextlib
import copy
import ctypes
import math
import warnings
from typing import Any

import mujoco
import numpy as np
import torch
from mujoco import _batch as mujoco_library
from mujoco import batch as mujoco_batch

from rl_platform import chosen
from rl_platform.physics.base import check_is_pose

# The engine counts here what it could not integrate; it then resets that simulation by itself.
_BAD_STATE = slice(int(mujoco.mjtWarning.mjWARN_BADQPOS), int(mujoco.mjtWarning.mjWARN_BADQACC) + 1)
# The model's fields that the initial state is made from.
_OF_INITIAL_STATE = {"qpos0", "body_pos", "body_quat"}
_NONE, _ALL = int(mujoco.mjtStage.mjSTAGE_NONE), int(mujoco.mjtStage.mjSTAGE_ACC)
# Position and velocity stages at the new state: makes poses, Jacobians and sensors current.
_POSITION, _CURRENT = int(mujoco.mjtStage.mjSTAGE_POS), int(mujoco.mjtStage.mjSTAGE_VEL)
# What poses do not need of the position stage.
_NO_CONTACTS = int(
    mujoco.mjtDisableBit.mjDSBL_CONTACT
    | mujoco.mjtDisableBit.mjDSBL_CONSTRAINT
    | mujoco.mjtDisableBit.mjDSBL_SENSOR
)
_FEW_GEOMS = 4  # of a body: all pairs are looked at sooner than boxes around them


class CpuPhysics:
    """The `Physics` contract over `mujoco.batch.Batch`: zero-copy float64 views, one thread pool.

    Results are bit-identical at any number of threads.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        num_envs: int,
        num_threads: int,
        *,
        current: bool = True,
        poses_only: bool = False,
    ) -> None:
        """Make `num_envs` simulations of `model`, stepped on `num_threads` threads.

        Args:
            model: of all of them.
            num_envs: how many.
            num_threads: of the simulation.
            current: derived fields describe the state that a step ends with. False leaves them as `mj_step`
                does, where it last evaluated the dynamics, and adds `cfrc_ext` as `mj_rnePostConstraint`
                makes it from there (zero after a reset): what Gymnasium's MuJoCo tasks are defined by.
            poses_only: no derived field but poses (`xpos`, `site_xmat`, `xaxis` …) will be asked for. They
                alone are quickly brought up to date: 3 to 7 % of lift's time, the others take 9 to 12 %.
        """
        self._current, self._poses_only = current, poses_only
        _stop_the_clock()
        model = _without_idle_searches(model)
        # persistent: a step begins with the stages that the one before ended with, instead of once more;
        # otherwise the simulations share a thread's memory, which then stays in the processor's cache
        self._batch = mujoco_batch.Batch(model, num_envs, num_threads, persistent=not poses_only)
        self._kinematics = poses_only and current  # are what is left to compute at the end of a step
        if self._kinematics:
            self._after_step, self._after_write = _NONE, _POSITION
            self._flags = self._batch.expand("opt.disableflags")
            self._whole, self._only_poses = model.opt.disableflags, model.opt.disableflags | _NO_CONTACTS
        else:
            self._after_step, self._after_write = (_CURRENT, _CURRENT) if current else (_NONE, _ALL)
        self.model = model
        self.num_envs = num_envs
        self.device = torch.device("cpu")
        self.dtype = torch.float64
        self.diverged = self._nobody = torch.zeros(num_envs, dtype=torch.bool)
        self._tensors: dict[str, torch.Tensor] = {}
        self._derived: dict[str, torch.Tensor] = {}  # those of them that are no part of the state
        self._expanded: dict[str, torch.Tensor] = {}
        # how often each simulation has had each kind of bad state: now, and when we looked last
        self._bad_states = torch.from_numpy(self._batch.warning[:, _BAD_STATE, 1])
        self._warnings = self._bad_states.clone()
        self._state = torch.from_numpy(self._batch.state)
        self._initial = self._batch.state[0].copy()
        # external forces on the bodies, if asked for, and where they are computed
        self._forces: torch.Tensor | None = None
        self._scratch: Any = None

    def data(self, name: str) -> torch.Tensor:
        """Return the live `(num_envs, …)` float64 tensor of an `mjData` field.

        Fields of the state (`qpos`, `ctrl` …) may be written to; the others are outputs, which
        the next call overwrites.

        Raises:
            AttributeError, ValueError: `mjData` has no such field, it is no array, or a derived field that is
                no pose although the task has said `poses_only`.
        """
        if name not in self._tensors:
            if name == "cfrc_ext" and not self._current:
                self._tensors[name] = self._derived[name] = self._add_forces()
                return self._tensors[name]
            array = self._batch.bind(name)
            self._tensors[name] = _as_tensor(array)
            if array.size and not np.may_share_memory(array, self._batch.state):
                check_is_pose(name, self._poses_only)
                self._derived[name] = self._tensors[name]
                self._forward(None)  # an output is filled by the first call after it was bound
        return self._tensors[name]

    def expand(self, name: str) -> torch.Tensor:
        """Give a model field a value per environment; return them, live, `(num_envs, …)`."""
        if name not in self._expanded:
            self._expanded[name] = _as_tensor(self._batch.expand(name))
        return self._expanded[name]

    def set_const(self, env_ids: torch.Tensor) -> None:
        """Recompute the constants derived from expanded fields (`mj_setConst`)."""
        self._batch.set_const(env_ids.numpy())

    def step(self, substeps: int) -> None:
        """Advance every simulation by `substeps` time steps.

        A simulation that MuJoCo cannot step is put back to its initial state and marked in `diverged`; the
        others are untouched by it.
        """
        raised = np.empty(0, dtype=np.int64)
        try:
            self._batch.step(nstep=substeps, stage=self._after_step)
        except mujoco_batch.SimulationError as error:
            raised = error.ids
        if self._kinematics and self._derived:
            self._forward(None)
        well = torch.equal(self._bad_states, self._warnings) and math.isfinite(self._state.sum())
        if len(raised) or not well:
            failed = (self._bad_states != self._warnings).any(1) | ~self._state.sum(1).isfinite()
            failed[raised] = True
            self._warnings.copy_(self._bad_states)
            self.diverged = failed
            failed_ids = failed.nonzero()[:, 0]
            self.reset(failed_ids)
            self.forward(failed_ids)
        else:
            self.diverged = self._nobody
        if self._forces is not None:
            self._compute_forces(self._forces)

    def check(self) -> None:
        """Nothing: MuJoCo grows its buffers, or names the simulation that it could not step."""

    def _add_forces(self) -> torch.Tensor:
        self._scratch = mujoco.MjData(self.model)
        self._forces = torch.zeros(self.num_envs, self.model.nbody, 6, dtype=torch.float64)
        self._contacts = self._batch.bind("ncon")
        self._applied = self._batch.bind("xfrc_applied")
        return self._forces

    def _compute_forces(self, forces: torch.Tensor) -> None:
        """Contact and other external forces on each body where the dynamics were evaluated last.

        One by one: the engine has them in a step only where a force sensor asks, and then not in the last
        stage of a Runge-Kutta step. Without contacts there is nothing to compute,
        unless forces are applied or an equality holds.
        """
        rows, data, computed = forces.numpy(), self._scratch, self._scratch.cfrc_ext
        get_data, model = self._batch.get_data, self.model
        rows[:] = 0.0
        touched = self._contacts.reshape(-1) > 0
        if self.model.neq or self._applied.any():
            touched[:] = True
        for i in np.flatnonzero(touched).tolist():
            get_data(i, data)
            mujoco.mj_rnePostConstraint(self.mj_model(i) if self._expanded else model, data)
            rows[i] = computed

    def forward(self, env_ids: torch.Tensor) -> None:
        """Make the derived fields of these simulations current after a write to their state."""
        self._forward(env_ids.numpy())

    def _forward(self, ids: np.ndarray | None) -> None:
        if self._kinematics:
            self._flags[:] = self._only_poses
            self._batch.forward(ids, stage=_POSITION)
            self._flags[:] = self._whole
        else:
            self._batch.forward(ids, stage=self._after_write)

    def reset(self, env_ids: torch.Tensor) -> None:
        """Put these simulations back to the model's initial state; `forward` has to follow."""
        ids = env_ids.numpy()
        if self._forces is not None:
            self._forces[env_ids] = 0.0
        if self._bad_states[ids].any() or not _OF_INITIAL_STATE.isdisjoint(self._expanded):
            self._batch.reset(ids, stage=_NONE)
            self._warnings[ids] = 0  # the engine starts counting anew
        else:
            self._batch.state[ids] = self._initial  # the same, without waking the threads

    def rows(self, env_ids: torch.Tensor) -> list[torch.Tensor] | None:
        """Return a copy of what these simulations are, state and derived fields; see `put_rows`.

        None where they have models of their own, which are more than can be copied.
        """
        if self._expanded:
            return None
        return [self._state[env_ids], *(values[env_ids] for values in self._derived.values())]

    def put_rows(self, which: torch.Tensor, rows: list[torch.Tensor]) -> None:
        """Make these simulations what `rows` says; derived fields are current without a `forward`."""
        for values, own in zip((self._state, *self._derived.values()), rows, strict=False):
            chosen.put(values, which, own)
        if len(rows) <= len(self._derived):  # another field was asked for since
            self.forward(which.nonzero()[:, 0] if chosen.is_mask(which) else which)

    def mj_model(self, env_id: int) -> mujoco.MjModel:
        """Return the model of one environment, with its own values of the expanded fields."""
        return self._batch.get_model(env_id) if self._expanded else self.model

    def mj_data(self, env_id: int) -> mujoco.MjData:
        """Return one simulation as a current `MjData`, to render it or to look at it."""
        data = self._batch.get_data(env_id)
        mujoco.mj_forward(self.mj_model(env_id), data)
        return data

    def state_dict(self) -> dict[str, Any]:
        """Return the integration state and the expanded model fields, copied.

        And the derived fields, where the state does not say what they are.
        """
        derived = {} if self._current else self._derived
        return {
            "state": torch.from_numpy(self._batch.state.copy()),
            "expanded": {name: values.clone() for name, values in self._expanded.items()},
            "derived": {name: values.clone() for name, values in derived.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`.

        Raises:
            ValueError: it was saved with another model or number of environments.
        """
        saved = state["state"].numpy()
        if saved.shape != self._batch.state.shape:
            raise ValueError(f"saved simulations have shape {saved.shape}, these {self._batch.state.shape}")
        self._batch.state[:] = saved
        for name, values in state["expanded"].items():
            self.expand(name).copy_(values)
        if state["expanded"]:
            self._batch.set_const()
        if self._current:
            self._forward(None)
        for name, values in state.get("derived", {}).items():
            self.data(name).copy_(values)


def _without_idle_searches(model: mujoco.MjModel) -> mujoco.MjModel:
    """Return the model with what only large ones gain from switched off: faster, and the same bits.

    Where there is one kinematic tree, all contacts are one island: looking for more takes 2 to 5 % of a step.
    Boxes around parts of a body (the midphase) that has a few geoms take 2 to 4 %.
    """
    flags = 0
    if model.ntree == 1:
        flags |= int(mujoco.mjtDisableBit.mjDSBL_ISLAND)
    if model.body_geomnum.max() <= _FEW_GEOMS:
        flags |= int(mujoco.mjtDisableBit.mjDSBL_MIDPHASE)
    lean = copy.copy(model)
    lean.opt.disableflags |= flags
    return lean


def engine_clock() -> ctypes.c_void_p | None:
    """Where the engine keeps the function that it reads the clock with (`mjcb_time`); None: not found."""
    with contextlib.suppress(ValueError):  # Windows does not find the engine's symbols this way
        return ctypes.c_void_p.in_dll(ctypes.CDLL(mujoco_library.__file__), "mjcb_time")
    return None


def _stop_the_clock() -> None:
    """Keep the engine from timing itself.

    MuJoCo's Python package makes it read the clock dozens of times a step, for `MjData.timer`, which nobody
    reads here: 4 to 18 % of a step. A clock of the user's own (`set_mjcb_time`) stays.
    """
    clock = engine_clock()
    if clock is not None and mujoco.get_mjcb_time() is None:
        clock.value = None


def _as_tensor(array: np.ndarray) -> torch.Tensor:
    """Share an array's memory; torch warns of read-only ones, which the contract covers."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
