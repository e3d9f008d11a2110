from __future__ import annotations

import math

import mujoco
import pytest
import torch

from rl_platform.robots import humanoid
from tests.envs.test_every_env import make


def test_isaac_gyms_sizes_and_gears() -> None:
    env = make("humanoid", 2)
    assert env.observation_dims == {"policy": 108}
    assert (env.action_dim, env.max_episode_steps) == (21, 1000)
    assert env.step_dt == pytest.approx(0.0166)
    model = env.physics.model
    gears = {model.actuator(i).name: model.actuator_gear[i, 0] for i in range(model.nu)}
    assert gears == humanoid.GEARS
    assert sorted(set(gears.values())) == [22.5, 45.0, 67.5, 90.0, 135.0]


def test_left_is_right_in_a_mirror() -> None:
    # the same joint angles on both sides: hands and feet are each other's mirror images
    env = make("humanoid", 1)
    model = env.physics.model
    data = mujoco.MjData(model)
    generator = torch.Generator().manual_seed(0)
    for name in humanoid.GEARS:
        if name.startswith("right_"):
            angle = 0.5 * torch.rand(1, generator=generator).item()
            for side in ("right", "left"):
                joint = model.joint(name.replace("right", side))
                data.qpos[joint.qposadr[0]] = angle
    mujoco.mj_kinematics(model, data)
    for part in ("foot", "shin", "lower_arm"):
        right, left = (data.body(f"{side}_{part}").xpos for side in ("right", "left"))
        assert left == pytest.approx(right * [1, -1, 1], abs=1e-9)


def test_it_weighs_on_its_feet() -> None:
    env = make("humanoid", 1, 3, "env.events.reset_robot={joint_noise:0.0,velocity_noise:0.0}")
    for _ in range(15):
        env.step(torch.zeros(1, 21))
    carried = env._state.foot_forces[0, [2, 8]].abs().sum().item()
    weight = 9.81 * env.physics.model.body_mass.sum()
    assert carried == pytest.approx(weight, rel=0.35)  # it is sinking into its knees


def test_rewards() -> None:
    env = make("humanoid", 1, 3, "env.events.reset_robot={joint_noise:0.0,velocity_noise:0.0}")
    env.physics.data("qvel")[0, 0] = 1.0
    action = torch.zeros(1, 21)
    action[0, 5] = 0.5  # a hip, the strongest motor
    info = env.step(action)[4]
    dt, state = env.step_dt, env._state
    speed = env.physics.data("qvel")[0, 0].item()  # the target lies 1000 m along x
    assert info["rewards"]["progress"].item() == pytest.approx(speed * dt, rel=1e-4)
    assert info["rewards"]["alive"].item() == pytest.approx(2 * dt)
    assert info["rewards"]["heading"].item() == pytest.approx(0.5 * dt)
    assert info["rewards"]["action_cost"].item() == pytest.approx(-0.01 * 0.25 * dt)
    expected = -0.05 * abs(0.5 * state.joint_vel[0, 5].item() * 0.1) * dt
    assert info["rewards"]["energy"].item() == pytest.approx(expected, rel=1e-4)


def test_it_knows_where_the_target_is() -> None:
    env = make("humanoid", 1)
    yaw = math.radians(60.0)
    env.physics.data("qpos")[0, 3:7] = torch.tensor([math.cos(yaw / 2), 0.0, 0.0, math.sin(yaw / 2)])
    env.physics.data("qvel")[0] = 0.0
    env.step(torch.zeros(1, 21))
    assert env._state.angles[0].tolist() == pytest.approx([yaw, 0.0, -yaw], abs=0.06)
    assert env._state.heading.item() == pytest.approx(0.5, abs=0.06)


def test_a_fall_ends_the_episode_and_costs() -> None:
    env = make("humanoid", 2)
    lying = torch.tensor([0.3, math.cos(math.pi / 4), 0.0, math.sin(math.pi / 4), 0.0])
    env.physics.data("qpos")[1, 2:7] = lying
    _, _, terminated, _, info = env.step(torch.zeros(2, 21))
    assert terminated.tolist() == [False, True]
    assert info["rewards"]["fall"].tolist() == pytest.approx([0.0, -env.step_dt])
