"""The CPU backend: live views, current derived fields, divergence, threads, resets, randomised models."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
import torch

from rl_platform.physics.cpu import CpuPhysics

PENDULUM = """
<mujoco>
  <option timestep="0.01"/>
  <worldbody>
    <body name="pole" pos="0 0 1">
      <joint name="hinge" axis="0 1 0"/>
      <geom type="capsule" fromto="0 0 0 0 0 -0.5" size="0.02" mass="1"/>
      <site name="tip" pos="0 0 -0.5"/>
    </body>
    <body name="ball" pos="1 0 0.2">
      <freejoint/>
      <geom type="sphere" size="0.1" mass="0.5"/>
    </body>
    <geom type="plane" size="5 5 0.1"/>
  </worldbody>
  <actuator><motor joint="hinge"/></actuator>
</mujoco>
"""


def make(num_envs: int = 8, num_threads: int = 1) -> CpuPhysics:
    return CpuPhysics(mujoco.MjModel.from_xml_string(PENDULUM), num_envs, num_threads)


def test_state_fields_are_live_views() -> None:
    physics = make()
    physics.data("qpos")[3, 0] = 0.7
    physics.forward(torch.tensor([3]))
    assert physics.mj_data(3).qpos[0] == 0.7
    assert physics.data("qpos").dtype == torch.float64


def test_derived_fields_are_current_after_a_step() -> None:
    physics = make()
    tip, qpos = physics.data("site_xpos"), physics.data("qpos")
    physics.data("qvel")[:, 0] = torch.linspace(-3.0, 3.0, 8)
    physics.step(4)
    angle = qpos[:, 0]
    expected = torch.stack([-0.5 * angle.sin(), torch.zeros(8), 1 - 0.5 * angle.cos()], 1)
    torch.testing.assert_close(tip[:, 0], expected, rtol=0, atol=1e-12)


def test_a_step_equals_mujocos_own() -> None:
    physics = make()
    physics.data("ctrl")[:, 0] = torch.linspace(-1.0, 1.0, 8)
    physics.step(50)
    for env_id in (0, 5):
        data = mujoco.MjData(physics.model)
        data.ctrl[0] = float(physics.data("ctrl")[env_id, 0])
        for _ in range(50):
            mujoco.mj_step(physics.model, data)
        np.testing.assert_array_equal(physics.data("qpos")[env_id].numpy(), data.qpos)


@pytest.mark.parametrize("solver", ["PGS", "CG", "Newton"])
def test_searches_that_cannot_pay_are_left_out_with_the_same_bits(solver: str) -> None:
    legs = "".join(
        f'<body pos="{x} 0 -0.1"><joint axis="0 1 0" range="-20 20"/>'
        f'<geom type="capsule" fromto="0 0 0 {x} 0 -0.3" size="0.04"/></body>'
        for x in (-0.2, 0.2)
    )
    model = mujoco.MjModel.from_xml_string(
        f'<mujoco><option solver="{solver}" timestep="0.01"/><worldbody><geom type="plane" size="5 5 0.1"/>'
        f'<body pos="0 0 0.5"><freejoint/><geom type="box" size="0.2 0.1 0.1"/>{legs}</body>'
        "</worldbody></mujoco>"
    )
    physics, data = CpuPhysics(model, 1, 1), mujoco.MjData(model)
    assert physics.model.opt.disableflags != model.opt.disableflags == 0
    data.qvel[:] = [0.5, 0.2, 0.0, 1.0, 2.0, 0.5, 1.0, -1.0]
    physics.data("qvel")[0] = torch.from_numpy(data.qvel)
    contacts = 0
    for _ in range(100):
        physics.step(1)
        mujoco.mj_step(model, data)
        contacts += data.ncon
    assert contacts > 100
    np.testing.assert_array_equal(physics.data("qpos")[0].numpy(), data.qpos)


def test_the_engine_does_not_read_the_clock() -> None:
    physics = make()
    data = mujoco.MjData(physics.model)
    mujoco.mj_step(physics.model, data)
    assert not data.timer.duration.any()


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    states = []
    for threads in (1, 2, 3):
        physics = make(num_envs=31, num_threads=threads)
        physics.data("ctrl")[:, 0] = torch.linspace(-1.0, 1.0, 31)
        physics.step(100)
        states.append(physics.data("qpos").clone())
    assert torch.equal(states[0], states[1])
    assert torch.equal(states[0], states[2])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e20])
def test_a_diverged_environment_is_named_and_leaves_the_others_alone(bad: float) -> None:
    physics, untouched = make(), make()
    physics.data("qvel")[2, 0] = bad
    for simulations in (physics, untouched):
        simulations.step(5)
    assert physics.diverged.nonzero().tolist() == [[2]]
    assert not untouched.diverged.any()
    others = [i for i in range(8) if i != 2]
    assert torch.equal(physics.data("qpos")[others], untouched.data("qpos")[others])
    assert torch.equal(physics.data("qpos")[2], torch.as_tensor(physics.model.qpos0))
    physics.step(5)
    assert not physics.diverged.any()


def test_a_partial_reset_leaves_the_others_alone() -> None:
    physics = make()
    physics.data("qvel")[:, 0] = 1.0
    physics.step(10)
    before = physics.data("qpos").clone()
    ids = torch.tensor([1, 6])
    physics.reset(ids)
    physics.forward(ids)
    assert torch.equal(physics.data("qpos")[ids, 0], torch.zeros(2, dtype=torch.float64))
    others = [0, 2, 3, 4, 5, 7]
    assert torch.equal(physics.data("qpos")[others], before[others])


def test_a_model_field_may_differ_between_environments() -> None:
    physics = make()
    body = physics.model.body("ball").id
    gravity = physics.expand("opt.gravity")
    gravity[4] = torch.tensor([0.0, 0.0, -1.0])
    physics.step(10)
    fallen = physics.data("xpos")[:, body, 2]
    assert fallen[4] > fallen[0]
    assert physics.mj_model(4).opt.gravity[2] == -1.0
    assert physics.mj_model(0).opt.gravity[2] == pytest.approx(-9.81)


def test_a_saved_state_continues_bit_for_bit() -> None:
    physics = make()
    physics.expand("body_mass")[:, 1] = torch.linspace(0.5, 2.0, 8)
    physics.set_const(torch.arange(8))
    physics.data("ctrl")[:, 0] = 1.0
    physics.step(20)
    saved = physics.state_dict()
    physics.step(30)
    other = make()
    other.load_state_dict(saved)
    other.step(30)
    assert torch.equal(physics.data("qpos"), other.data("qpos"))


def test_a_state_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        make(4).load_state_dict(make(8).state_dict())


def test_fields_as_mj_step_leaves_them() -> None:
    """With `current=False` poses lag behind, and forces are those of mj_rnePostConstraint; both are saved."""
    model = mujoco.MjModel.from_xml_string(PENDULUM)
    physics = CpuPhysics(model, 3, 1, current=False)
    fields = {name: physics.data(name) for name in ("xpos", "cvel", "cfrc_ext")}
    physics.data("ctrl")[:, 0] = 0.3
    physics.step(40)
    data = mujoco.MjData(model)
    data.ctrl[0] = 0.3
    mujoco.mj_step(model, data, nstep=40)
    mujoco.mj_rnePostConstraint(model, data)
    for name, values in fields.items():
        np.testing.assert_array_equal(values[1].numpy(), getattr(data, name))
    assert fields["cfrc_ext"].abs().max() > 0.1
    saved, expected = physics.state_dict(), fields["xpos"].clone()
    everyone = torch.arange(3)
    physics.reset(everyone)
    physics.forward(everyone)
    assert not fields["cfrc_ext"].any()
    assert not torch.equal(fields["xpos"], expected)
    physics.load_state_dict(saved)
    assert torch.equal(fields["xpos"], expected)
    assert fields["cfrc_ext"].abs().max() > 0.1


def test_poses_alone_are_the_same_and_the_others_are_refused() -> None:
    model = mujoco.MjModel.from_xml_string(PENDULUM)
    whole, poses = CpuPhysics(model, 4, 1), CpuPhysics(model, 4, 2, poses_only=True)
    for physics in (whole, poses):
        physics.data("xaxis")
        physics.data("qvel")[:, 0] = torch.linspace(-3.0, 3.0, 4)
        physics.step(30)
        physics.data("qpos")[2, 0] = 0.3
        physics.forward(torch.tensor([2]))
        physics.step(30)
    for name in ("qpos", "qvel", "site_xpos", "xmat", "xaxis"):
        assert torch.equal(whole.data(name), poses.data(name)), name
    with pytest.raises(ValueError, match=r"cvel.*poses_only"):
        poses.data("cvel")


@pytest.mark.parametrize("how", [{}, {"current": False}, {"poses_only": True}])
def test_rows_are_all_of_a_simulation(how: dict[str, bool]) -> None:
    model = mujoco.MjModel.from_xml_string(PENDULUM)
    physics, twin = CpuPhysics(model, 5, 1, **how), CpuPhysics(model, 5, 1, **how)
    for simulations in (physics, twin):
        simulations.data("xpos")
        simulations.data("ctrl")[:, 0] = torch.linspace(-1.0, 1.0, 5)
        simulations.step(20)
    ids = torch.tensor([1, 3])
    rows = physics.rows(ids)
    assert rows is not None
    physics.reset(ids)
    physics.forward(ids)
    assert not torch.equal(physics.data("xpos"), twin.data("xpos"))
    physics.put_rows(ids, rows)
    assert torch.equal(physics.data("xpos"), twin.data("xpos"))
    for simulations in (physics, twin):
        simulations.step(20)
    assert torch.equal(physics.data("qpos"), twin.data("qpos"))
    assert torch.equal(physics.data("xpos"), twin.data("xpos"))
    physics.expand("body_mass")
    assert physics.rows(ids) is None
