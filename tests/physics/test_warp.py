"""MuJoCo Warp on its CPU device: the same code as on a GPU, held against the CPU backend.

Warp compiles its kernels when a machine first sees them, half a minute a model: hence the marker.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest
import torch

from rl_platform.errors import UserError
from rl_platform.physics.cpu import CpuPhysics
from tests.physics.test_cpu import PENDULUM

pytest.importorskip("mujoco_warp", reason="MuJoCo Warp is not installed: pip install -e '.[gpu]'")

import warp as wp

from rl_platform.physics import warp_ahead
from rl_platform.physics.warp import WarpPhysics

pytestmark = pytest.mark.slow
NUM_ENVS = 8


def model() -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(PENDULUM)


def make(num_envs: int = NUM_ENVS, **sizes: Any) -> WarpPhysics:
    return WarpPhysics(model(), num_envs, "cpu", **sizes)


def test_a_rehearsal_finds_all_kernels_and_launches_none(monkeypatch: pytest.MonkeyPatch) -> None:
    physics = make()
    physics.data("qvel")[:] = 1.0
    before = physics.data("qpos").clone()
    with warp_ahead.rehearsal() as wanted:
        physics._reset(physics._mask)
        physics._step(1)
    assert torch.equal(physics.data("qpos"), before)
    launched = set()
    load = wp.Module.load

    def listen(module: Any, device: Any, block_dim: Any = None, *more: Any) -> Any:
        launched.add((module, block_dim))
        return load(module, device, block_dim, *more)

    monkeypatch.setattr(wp.Module, "load", listen)
    physics.step(2)
    assert not torch.equal(physics.data("qpos"), before)
    assert launched == set(wanted)
    assert all(any(known == block_dim for _, known in module.execs) for module, block_dim in launched)


def test_what_cannot_be_rehearsed_is_loaded_when_it_is_launched(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise NotImplementedError

    warp_ahead.load(wp.get_device("cpu"), fail)
    physics = make()
    physics.step(1)
    assert torch.isfinite(physics.data("qpos")).all()


def test_a_machine_without_kernels_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    physics = make()
    capsys.readouterr()
    warp_ahead.load(wp.get_device("cpu"), lambda: physics._step(1))
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(wp.config, "kernel_cache_dir", str(tmp_path))
    warp_ahead.load(wp.get_device("cpu"), lambda: physics._step(1))
    told = re.search(r"compiles kernels \((\d+) of (\d+) files\)", capsys.readouterr().err)
    assert told is not None
    assert told[1] == told[2] != "0"


def test_state_fields_are_live_views_in_float32() -> None:
    physics = make()
    assert physics.data("qpos").dtype == physics.dtype == torch.float32
    assert physics.data("xmat").shape == (NUM_ENVS, physics.model.nbody, 9)
    physics.data("qpos")[3, 0] = 0.7
    physics.forward(torch.tensor([3]))
    assert physics.mj_data(3).qpos[0] == pytest.approx(0.7)
    tip = torch.tensor([-0.5 * np.sin(0.7), 0.0, 1 - 0.5 * np.cos(0.7)], dtype=torch.float32)
    torch.testing.assert_close(physics.data("site_xpos")[3, 0], tip)


def test_derived_fields_are_current_after_a_step() -> None:
    physics = make()
    physics.data("qvel")[:, 0] = torch.linspace(-3.0, 3.0, NUM_ENVS)
    physics.step(4)
    angle = physics.data("qpos")[:, 0]
    expected = torch.stack([-0.5 * angle.sin(), torch.zeros(NUM_ENVS), 1 - 0.5 * angle.cos()], 1)
    torch.testing.assert_close(physics.data("site_xpos")[:, 0], expected)


def test_a_rollout_is_that_of_the_cpu() -> None:
    physics, reference = make(), CpuPhysics(model(), NUM_ENVS, 1)
    for simulations in (physics, reference):
        simulations.data("ctrl")[:, 0] = torch.linspace(-1.0, 1.0, NUM_ENVS).to(simulations.dtype)
        simulations.step(50)
    assert reference.data("qpos")[:, 3].std() == 0.0  # the ball lies on the plane everywhere
    for name in ("qpos", "qvel", "xpos", "qacc"):
        expected = reference.data(name).float()
        torch.testing.assert_close(physics.data(name), expected, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e20])
def test_a_diverged_environment_is_named_and_leaves_the_others_alone(bad: float) -> None:
    physics, untouched = make(), make()
    physics.data("qvel")[2, 0] = bad
    for simulations in (physics, untouched):
        simulations.step(5)
    assert physics.diverged.nonzero().tolist() == [[2]]
    assert not untouched.diverged.any()
    others = [i for i in range(NUM_ENVS) if i != 2]
    for name in ("qpos", "qvel", "xpos"):
        assert torch.equal(physics.data(name)[others], untouched.data(name)[others])
    assert torch.equal(physics.data("qpos")[2], torch.as_tensor(physics.model.qpos0, dtype=torch.float32))
    assert torch.isfinite(physics.data("xpos")).all()
    physics.step(5)
    assert not physics.diverged.any()


@pytest.mark.parametrize("by_mask", [False, True])
def test_a_partial_reset_leaves_the_others_alone(by_mask: bool) -> None:
    physics = make()
    physics.data("qvel")[:, 0] = 1.0
    physics.data("ctrl")[:] = 0.5
    physics.data("xfrc_applied")[:, 2, 2] = 0.1
    physics.step(10)
    names = ("time", "qpos", "qvel", "ctrl", "xfrc_applied", "xpos")
    before = {name: physics.data(name).clone() for name in names}
    ids = torch.tensor([1, 6])
    chosen = torch.zeros(NUM_ENVS, dtype=torch.bool).index_fill(0, ids, True) if by_mask else ids
    physics.reset(chosen)
    physics.forward(chosen)
    fresh = make(2)
    others = [0, 2, 3, 4, 5, 7]
    for name, values in before.items():
        assert torch.equal(physics.data(name)[ids], fresh.data(name)), name
        assert torch.equal(physics.data(name)[others], values[others]), name


def test_a_model_field_may_differ_between_environments() -> None:
    physics = make()
    body = physics.model.body("ball").id
    physics.step(1)  # the fields are made anew after a first step
    physics.expand("opt.gravity")[4] = torch.tensor([0.0, 0.0, -1.0])
    physics.step(10)
    fallen = physics.data("xpos")[:, body, 2]
    assert fallen[4] > fallen[0]
    assert physics.mj_model(4).opt.gravity[2] == -1.0
    assert physics.mj_model(0).opt.gravity[2] == pytest.approx(-9.81)


def test_constants_that_depend_on_a_random_field_are_its_environments_own() -> None:
    physics, reference = make(), CpuPhysics(model(), NUM_ENVS, 1)
    everyone = torch.arange(NUM_ENVS)
    for simulations in (physics, reference):
        simulations.expand("body_mass")[:, 1] = torch.linspace(0.5, 2.0, NUM_ENVS).to(simulations.dtype)
        simulations.set_const(everyone)
        simulations.data("ctrl")[:] = 1.0
        simulations.step(30)
    torch.testing.assert_close(physics.data("qpos"), reference.data("qpos").float(), rtol=1e-3, atol=1e-4)
    for name in ("body_subtreemass", "dof_invweight0", "actuator_acc0"):
        ours = physics.expand(name)
        theirs = np.stack([getattr(reference.mj_model(i), name) for i in range(NUM_ENVS)])
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-4, atol=1e-6, err_msg=name)
    assert physics.mj_model(7).body_mass[1] == pytest.approx(2.0)


def test_a_field_that_cannot_differ_is_named() -> None:
    with pytest.raises(UserError, match=r"body_parentid .*env\.physics=cpu"):
        make().expand("body_parentid")


def test_a_saved_state_continues_bit_for_bit() -> None:
    physics = make()
    physics.expand("body_mass")[:, 1] = torch.linspace(0.5, 2.0, NUM_ENVS)
    physics.set_const(torch.arange(NUM_ENVS))
    physics.data("ctrl")[:, 0] = 1.0
    physics.step(20)
    saved, poses = physics.state_dict(), physics.data("xpos").clone()
    physics.step(30)
    other = make()
    other.load_state_dict(saved)
    assert torch.equal(other.data("xpos"), poses)
    other.step(30)
    for name in ("qpos", "qvel", "xpos"):
        assert torch.equal(physics.data(name), other.data(name))


def test_a_state_of_another_size_or_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        make(4).load_state_dict(make(8).state_dict())
    with pytest.raises(ValueError, match=r"env\.physics=cpu"):
        make().load_state_dict(CpuPhysics(model(), NUM_ENVS, 1).state_dict())


def test_too_few_constraint_rows_are_told_with_what_to_write() -> None:
    physics = make(njmax=2)
    physics.step(3)
    physics.check()  # the ball is in the air
    physics.step(40)
    with pytest.raises(UserError, match=r"env\.warp\.njmax: more than 2 .*environment 0.*njmax=4"):
        physics.check()
    physics.reset(torch.arange(NUM_ENVS))
    physics.step(3)
    physics.check()


def test_too_few_contacts_are_told_with_what_to_write() -> None:
    physics = WarpPhysics(_balls(), NUM_ENVS, "cpu", nconmax=1, njmax=64)
    physics.step(40)
    with pytest.raises(UserError, match=r"env\.warp\.nconmax: more than 1 .*write env\.warp\.nconmax=2"):
        physics.check()


def _balls() -> mujoco.MjModel:
    """Three balls that fall onto a plane, in the sizes of the pendulum's model."""
    ball = '<body pos="{} 0 0.11"><freejoint/><geom type="sphere" size="0.1"/></body>'
    bodies = "".join(ball.format(x) for x in (0, 1, 2))
    return mujoco.MjModel.from_xml_string(
        f'<mujoco><worldbody>{bodies}<geom type="plane" size="5 5 0.1"/></worldbody></mujoco>'
    )


def test_fields_as_mj_step_leaves_them() -> None:
    """With `current=False` poses lag behind, forces are those of the last step; a forward asks for them."""
    physics = WarpPhysics(model(), 3, "cpu", current=False)
    fields = {name: physics.data(name) for name in ("xpos", "cvel", "cfrc_ext")}
    physics.data("ctrl")[:, 0] = 0.3
    physics.step(40)
    data = mujoco.MjData(physics.model)
    data.ctrl[0] = 0.3
    mujoco.mj_step(physics.model, data, nstep=40)
    mujoco.mj_rnePostConstraint(physics.model, data)
    for name, values in fields.items():
        np.testing.assert_allclose(values[1].numpy(), getattr(data, name), rtol=1e-3, atol=2e-4)
    before = fields["xpos"].clone()
    physics.reset(torch.tensor([1]))
    physics.forward(torch.tensor([1]))
    assert torch.equal(fields["xpos"][[0, 2]], before[[0, 2]])
    assert not torch.equal(fields["xpos"][1], before[1])
