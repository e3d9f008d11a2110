"""MuJoCo Warp: all simulations on one GPU, or on Warp's CPU device, where it is slow but the same code.

What differs from `cpu.py`: float32; model and contacts live on the device; a control step is one CUDA graph;
contacts and constraints go into buffers of fixed size.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import mujoco
import mujoco_warp as mjw
import torch
import warp as wp

from rl_platform import chosen
from rl_platform.errors import UserError
from rl_platform.physics import warp_ahead, warp_kernels
from rl_platform.physics.base import check_is_pose

wp.config.log_level = wp.LOG_WARNING  # nothing about kernels that are loaded

# What a continuation needs, in `mjData`'s names.
_STATE = (
    "time", "qpos", "qvel", "act", "ctrl", "qacc_warmstart", "qfrc_applied", "xfrc_applied",
    "eq_active", "mocap_pos", "mocap_quat",
)  # fmt: skip
# What `set_const` derives from other fields of the model: each simulation has its own once those differ.
_DERIVED_CONSTANTS: tuple[str, ...] = (
    "body_subtreemass", "body_invweight0", "dof_invweight0", "actuator_acc0", "tendon_length0",
    "tendon_invweight0",
)  # fmt: skip
_OVERFLOWS = {
    mjw.OverflowType.NEFC: ("njmax", "constraint rows in one environment"),
    mjw.OverflowType.NJMAX_NNZ: ("njmax", "constraint rows in one environment"),
    mjw.OverflowType.BROADPHASE: (
        "nconmax",
        "pairs near each other, on average over the environments",
    ),
    mjw.OverflowType.NARROWPHASE: ("nconmax", "contacts, on average over the environments"),
    mjw.OverflowType.CCD: ("nconmax", "contacts of convex shapes, on average over the environments"),
}
_ANY_OVERFLOW = int(functools.reduce(operator.or_, _OVERFLOWS))


class WarpPhysics:
    """The `Physics` contract over `mujoco_warp`: zero-copy float32 tensors on the simulation's device.

    `reset`, `forward` and `put_rows` take ids, or a mask (`chosen.py`): then nothing waits for the device.
    On a GPU contacts are ordered by who comes first, so that results have other last bits in every run.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        num_envs: int,
        device: str | torch.device = "cuda",
        *,
        nconmax: int | None = None,
        njmax: int | None = None,
        iterations: int | None = None,
        current: bool = True,
        poses_only: bool = False,
    ) -> None:
        """Make `num_envs` simulations of `model`.

        Args:
            model: of all of them.
            num_envs: how many.
            device: "cpu", "cuda" or "cuda:N".
            nconmax: contacts that there is room for, times `num_envs`; None: `mujoco_warp` guesses.
            njmax: constraint rows that there is room for in each simulation; None: `mujoco_warp` guesses.
            iterations: of the solver at most; None: the model's. All simulations wait for the slowest.
            current: see `CpuPhysics`.
            poses_only: see `CpuPhysics`.

        Raises:
            UserError: the model has something that MuJoCo Warp cannot simulate.
        """
        self.model = model
        self.num_envs = num_envs
        self.device = torch.device(device)
        self.dtype = torch.float32
        self._current, self._poses_only = current, poses_only
        self._device = wp.get_device(str(device))
        with wp.ScopedDevice(self._device):
            try:
                self._model = mjw.put_model(model)
                self._data = mjw.make_data(model, nworld=num_envs, nconmax=nconmax, njmax=njmax)
            except NotImplementedError as error:
                raise UserError(f"MuJoCo Warp cannot simulate this model: {error}") from error
            self._model.opt.warn_overflow = 0  # `check` tells
            self._model.opt.iterations = iterations or self._model.opt.iterations
            self._mask = wp.zeros(num_envs, dtype=bool)
            self._diverged = wp.zeros(num_envs, dtype=bool)
            self._overflow = wp.zeros(num_envs, dtype=int)
        self.diverged = wp.to_torch(self._diverged)
        self._chosen = wp.to_torch(self._mask)
        self._tensors: dict[str, torch.Tensor] = {}
        self._expanded: dict[str, torch.Tensor] = {}
        self._own_constants = False
        # all that makes a simulation what it is, in the order in which it came into use
        self._in_use: list[torch.Tensor] = []
        self._graphs: dict[tuple[str, int], Any] = {}
        for name in _STATE:
            self.data(name)
        with self._on_torchs_stream():
            warp_ahead.load(self._device, lambda: self._reset(self._mask), lambda: self._step(1))
        self.reset(torch.ones(num_envs, dtype=torch.bool, device=self.device))
        self._run("forward", self._forward)

    def data(self, name: str) -> torch.Tensor:
        """Return the live `(num_envs, …)` float32 tensor of an `mjData` field.

        Fields of the state (`qpos`, `ctrl` …) may be written to; the others are outputs, which
        the next call overwrites.

        Raises:
            AttributeError, ValueError: MuJoCo Warp has no such field, or it is a derived one and no pose
                although the task has said `poses_only`.
        """
        if name not in self._tensors:
            if name not in _STATE:
                check_is_pose(name, self._poses_only)
            if name == "cfrc_ext" and not self._model.opt.run_rne_postconstraint:
                self._model.opt.run_rne_postconstraint = True
                self._graphs.clear()
            self._tensors[name] = _rows(getattr(self._data, name))
            self._in_use.append(self._tensors[name])
        return self._tensors[name]

    def expand(self, name: str) -> torch.Tensor:
        """Give a model field a value per environment; return them, live, `(num_envs, …)`.

        Raises:
            UserError: MuJoCo Warp has one value of this field for all simulations.
        """
        if name not in self._expanded:
            self._expanded[name] = self._expand(name)
        return self._expanded[name]

    def _expand(self, name: str) -> torch.Tensor:
        holder = self._model.opt if name.startswith("opt.") else self._model
        field = name.removeprefix("opt.")
        spec = {f.name: getattr(f.type, "shape", ()) for f in dataclasses.fields(holder)}.get(field)
        if not spec or spec[0] != "*":
            raise UserError(
                f"MuJoCo Warp cannot have {name} differ between environments; write env.physics=cpu"
            )
        shared = getattr(holder, field)
        own = wp.empty((self.num_envs, *shared.shape[1:]), dtype=shared.dtype, device=self._device)
        wp.to_torch(own).copy_(wp.to_torch(shared).expand_as(wp.to_torch(own)))
        setattr(holder, field, own)
        self._graphs.clear()  # they know the shared array
        self._in_use.append(_rows(own))
        return self._in_use[-1]

    def set_const(self, env_ids: torch.Tensor) -> None:
        """Recompute the constants derived from expanded fields; those of other environments stay the same."""
        if not self._own_constants:
            self._own_constants = True
            names = _DERIVED_CONSTANTS
            names += ("geom_aabb", "geom_rbound") if "geom_size" in self._expanded else ()
            for name in names:
                if name not in self._expanded and getattr(self._model, name).size:
                    self._expand(name)
        self._run("set_const", lambda: mjw.set_const(self._model, self._data))

    def step(self, substeps: int) -> None:
        """Advance every simulation by `substeps` time steps.

        One that then has a NaN, an infinity or a number beyond 1e10 in its state is put back to the model's
        initial state and named in `diverged`; the others are untouched by it.
        """
        self._run("step", lambda: self._step(substeps), substeps)

    def _step(self, substeps: int) -> None:
        data = self._data
        for _ in range(substeps):
            mjw.step(self._model, data)
        # kept until `check`: resets clear the simulation's own
        wp.launch(warp_kernels.collect, self.num_envs, [data.overflow, _ANY_OVERFLOW], [self._overflow])
        state = [data.qpos, data.qvel, data.act, data.qacc_warmstart]
        wp.launch(warp_kernels.find_diverged, self.num_envs, state, [self._diverged])
        self._reset(self._diverged)
        if self._current:
            self._forward()

    def _forward(self) -> None:
        """Bring derived fields up to date: all of them, what depends on position and velocity, or poses."""
        model, data = self._model, self._data
        if not self._current:
            mjw.forward(model, data)
            return
        if self._poses_only:
            mjw.kinematics(model, data)
            return
        mjw.fwd_kinematics(model, data)
        mjw.transmission(model, data)
        mjw.sensor_pos(model, data)
        mjw.fwd_velocity(model, data)
        mjw.sensor_vel(model, data)

    def _reset(self, mask: wp.array) -> None:
        model, data = self._model, self._data
        fields = [
            data.qpos,
            data.qvel,
            data.act,
            data.ctrl,
            data.qacc_warmstart,
            data.qfrc_applied,
            data.time,
        ]
        wp.launch(warp_kernels.reset_state, self.num_envs, [mask, model.qpos0], fields)
        wp.launch(
            warp_kernels.reset_bodies,
            (self.num_envs, model.nbody),
            [mask, model.body_mocapid, model.body_pos, model.body_quat],
            [data.xfrc_applied, data.mocap_pos, data.mocap_quat],
        )
        if model.neq:
            size = (self.num_envs, model.neq)
            wp.launch(warp_kernels.reset_equalities, size, [mask, model.eq_active0], [data.eq_active])

    def forward(self, env_ids: torch.Tensor) -> None:
        """Make the derived fields of these simulations current after a write to their state."""
        if self._current:
            self._run("forward", self._forward)  # the others' are, and stay what they are
            return
        self._choose(env_ids)
        before = {name: values.clone() for name, values in self._derived().items()}
        self._run("forward", self._forward)
        for name, values in self._derived().items():
            values.copy_(chosen.replaced(before[name], self._chosen, values))

    def reset(self, env_ids: torch.Tensor) -> None:
        """Put these simulations back to the model's initial state; `forward` has to follow."""
        self._choose(env_ids)
        self._run("reset", lambda: self._reset(self._mask))

    def _choose(self, env_ids: torch.Tensor) -> None:
        """Write down for the device which environments are meant."""
        if chosen.is_mask(env_ids):
            self._chosen.copy_(env_ids)
        else:
            self._chosen.zero_().index_fill_(0, env_ids, True)

    def check(self) -> None:
        """Look, which waits for the device, whether a buffer was too small since the last call.

        Raises:
            UserError: it was; the results are wrong from then on.
        """
        flags = wp.to_torch(self._overflow)
        if not bool(flags.any()):
            return
        env_id = int(flags.ne(0).nonzero()[0])
        told = int(flags[env_id])
        flags.zero_()
        wp.to_torch(self._data.overflow).zero_()
        for flag, (key, what) in _OVERFLOWS.items():
            if told & int(flag):
                limit = self._data.njmax if key == "njmax" else self._data.naconmax // self.num_envs
                raise UserError(
                    f"env.warp.{key}: more than {limit} {what}, first seen in environment {env_id}; "
                    f"write env.warp.{key}={2 * limit}"
                )

    def rows(self, env_ids: torch.Tensor) -> list[torch.Tensor]:
        """Return a copy of what these simulations are: state, derived fields, and a model of their own."""
        return [values[env_ids] for values in self._in_use]

    def put_rows(self, which: torch.Tensor, rows: list[torch.Tensor]) -> None:
        """Make these simulations what `rows` says; derived fields are current without a `forward`."""
        for values, own in zip(self._in_use, rows, strict=False):
            chosen.put(values, which, own)
        if len(rows) < len(self._in_use):  # another field was asked for since
            self.forward(which)

    def buffer_use(self) -> dict[str, int]:
        """Return how much of `nconmax` and of `njmax` the last step took; it waits for the device."""
        data = self._data
        contacts = max(int(data.nacon.numpy()[0]), int(data.ncollision.numpy()[0]))
        return {"nconmax": -(-contacts // self.num_envs), "njmax": int(data.nefc.numpy().max())}

    def mj_model(self, env_id: int) -> mujoco.MjModel:
        """Return the model of one environment, with its own values of the expanded fields."""
        if not self._expanded:
            return self.model
        model = copy.deepcopy(self.model)
        for name, values in self._expanded.items():
            holder = model.opt if name.startswith("opt.") else model
            field = getattr(holder, name.removeprefix("opt."))
            field[:] = values[env_id].reshape(field.shape).cpu().numpy()
        if self._own_constants:
            mujoco.mj_setConst(model, mujoco.MjData(model))
        return model

    def mj_data(self, env_id: int) -> mujoco.MjData:
        """Return one simulation as a current `MjData`, to render it or to look at it."""
        model = self.mj_model(env_id)
        data = mujoco.MjData(model)
        for name in _STATE:
            values = self.data(name)[env_id].cpu().numpy()
            if name == "time":
                data.time = float(values)
            else:
                getattr(data, name)[:] = values
        mujoco.mj_forward(model, data)
        return data

    def state_dict(self) -> dict[str, Any]:
        """Return the integration state, the expanded model fields and the derived fields in use, copied."""
        return {
            "state": {name: self.data(name).clone() for name in _STATE},
            "expanded": {name: values.clone() for name, values in self._expanded.items()},
            "derived": {name: values.clone() for name, values in self._derived().items()},
            "own_constants": self._own_constants,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`.

        Raises:
            ValueError: it was saved with another model, number of environments or kind of physics.
        """
        saved = state["state"]
        if not isinstance(saved, dict):
            raise ValueError("saved by env.physics=cpu, which another kind of physics cannot continue")
        for name in _STATE:
            if saved[name].shape != self.data(name).shape:
                raise ValueError(f"saved {name} has shape {saved[name].shape}, here {self.data(name).shape}")
        for name, values in saved.items():
            self.data(name).copy_(values)
        for name, values in state["expanded"].items():
            self.expand(name).copy_(values)
        if state["own_constants"]:
            self.set_const(torch.arange(self.num_envs, device=self.device))
        self._run("forward", self._forward)
        for name, values in state["derived"].items():
            self.data(name).copy_(values)

    def _derived(self) -> dict[str, torch.Tensor]:
        return {name: values for name, values in self._tensors.items() if name not in _STATE}

    def _run(self, name: str, launch: Callable[[], None], variant: int = 0) -> None:
        """Do what `launch` launches; on a GPU as a graph from the second time on.

        The first time loads the kernels, which compiles those that this machine has never seen.
        """
        with self._on_torchs_stream():
            if not self._device.is_cuda:
                launch()
                return
            key = (name, variant)
            if key not in self._graphs:
                self._graphs[key] = None
                launch()
                return
            if self._graphs[key] is None:
                # launches go to the current stream; torch's own, the null stream, cannot be captured
                with (
                    wp.ScopedStream(wp.Stream(self._device), sync_enter=False) as stream,
                    wp.ScopedCapture(stream=stream) as capture,
                ):
                    launch()
                self._graphs[key] = capture.graph
            wp.capture_launch(self._graphs[key])

    @contextmanager
    def _on_torchs_stream(self) -> Iterator[None]:
        """Launch in the order of torch's own work, so that neither waits for the other on the host."""
        if not self._device.is_cuda:
            with wp.ScopedDevice(self._device):
                yield
            return
        stream = wp.stream_from_torch(torch.cuda.current_stream(self.device))
        with wp.ScopedDevice(self._device), wp.ScopedStream(stream, sync_enter=False):
            yield


def _rows(array: wp.array) -> torch.Tensor:
    """Share an array's memory; matrices in rows of nine, as `mjData` has them."""
    values = wp.to_torch(array)
    return values.flatten(-2) if array.dtype is wp.mat33 else values
