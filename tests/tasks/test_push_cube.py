from __future__ import annotations

import math

import pytest
import torch

from rl_platform.envs.env import Env
from rl_platform.tasks import push_cube
from tests.envs.test_every_env import make


def put_cube(env: Env, x: float, y: float) -> None:
    joint = env.physics.model.joint("cube").qposadr[0]
    pose = torch.tensor([x, y, 0.05, 1.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    env.physics.data("qpos")[:, joint : joint + 7] = pose
    env.physics.data("qvel")[:] = 0.0


def test_goals_are_in_their_box_or_at_the_least_distance() -> None:
    env = make("push_cube", 256)
    distance = env._state.goal_distance
    assert distance.min() >= 0.15 - 1e-6
    far = distance > 0.151
    low, high = torch.tensor([0.2, -0.3]), torch.tensor([0.8, 0.3])
    assert ((env._state.goal >= low) & (env._state.goal <= high))[far].all()
    assert far.float().mean() > 0.7


def test_every_cube_can_be_pushed_to_its_goal() -> None:
    env = make("push_cube", 512)
    cube, goal = env._state.cube_pos[:, :2], env._state.goal
    assert push_cube.out_of_reach(cube, goal).max() < 1e-6
    # the ranges are EmbodiChain's, ± 0.2 and ± 0.3 m
    assert ((cube - torch.tensor([0.5, 0.0])).abs().max(0).values > 0.19).all()
    assert ((goal - torch.tensor([0.5, 0.0])).abs().max(0).values > 0.28).all()


@pytest.mark.parametrize(
    ("cube", "goal", "beyond"),
    [
        ((0.5, 0.0), (0.3, 0.0), 0.0),
        ((0.7, 0.0), (0.4, 0.0), 0.7 + push_cube.BEHIND - 0.8),  # the hand does not get behind it
        ((0.3, 0.0), (0.8, 0.0), 0.3 - (0.3 - push_cube.BEHIND)),  # the base is in the way
        ((0.2, -0.3), (0.2, 0.3), 0.3 - 0.2),  # on the way, the hand would come too close to the base
    ],
)
def test_how_far_out_of_reach_a_push_is(
    cube: tuple[float, float], goal: tuple[float, float], beyond: float
) -> None:
    measured = push_cube.out_of_reach(torch.tensor(cube), torch.tensor(goal)).item()
    assert measured == pytest.approx(beyond, abs=1e-6)


def test_the_hand_reaches_the_ring_and_no_farther() -> None:
    env = make("push_cube", 6, 3, "env.events.reset_robot.joint_noise=0.0", "env.episode_length_s=20.0")
    near, far = push_cube.REACH
    inside, outside = [near, 0.5, far], [near - 0.06, near - 0.12, far + 0.06]
    target = torch.tensor([[radius, 0.0, 0.05] for radius in inside + outside])
    env._terminations = {}
    for _ in range(120):
        put_cube(env, 0.5, 1.2)
        move = (target - env._state.tool_pos) / 0.08
        env.step(move.clamp(-0.5, 0.5))
    error = (env._state.tool_pos - target).norm(dim=1)
    assert error[:3].max() < 0.005
    assert error[3:].min() > 0.03


def test_the_place_behind_is_opposite_to_the_goal() -> None:
    env = make("push_cube", 1)
    put_cube(env, 0.5, 0.1)
    env.commands["goal"][:] = torch.tensor([0.5, 0.3])
    env.step(torch.zeros(1, 3))
    place = env._state.tool_pos + env._state.to_behind
    torch.testing.assert_close(place, torch.tensor([[0.5, 0.1 - push_cube.BEHIND, 0.05]]), atol=2e-3, rtol=0)


def test_rewards() -> None:
    env = make("push_cube", 1)
    put_cube(env, 0.5, 0.1)
    env.commands["goal"][:] = torch.tensor([0.5, 0.25])
    info = env.step(torch.full((1, 3), 0.5))[4]
    gaussian = math.exp(-(0.15**2) / (2 * 0.2**2))
    assert info["rewards"]["goal_tracking"].item() == pytest.approx(4.0 * gaussian * 0.04, rel=1e-3)
    assert info["rewards"]["success"].item() == 0.0
    # EmbodiChain's norm of the change of the action, which was zero before
    assert info["rewards"]["action_rate"].item() == pytest.approx(-0.05 * math.sqrt(0.75) * 0.04)


def test_success_is_half_a_second_near_the_goal() -> None:
    env = make("push_cube", 1)
    env.commands["goal"][:] = torch.tensor([0.5, 0.1])
    put_cube(env, 0.5, 0.19)
    seen = [bool(env.step(torch.zeros(1, 3))[4]["success"]) for _ in range(15)]
    assert seen == [step * 0.04 >= 0.5 for step in range(1, 16)]


def test_a_cube_pushed_out_of_reach_ends_the_episode() -> None:
    env = make("push_cube", 1)
    put_cube(env, 0.5, 0.51)
    assert env.step(torch.zeros(1, 3))[2].tolist() == [True]


def test_a_pushed_cube_slides_and_does_not_tip() -> None:
    env = make("push_cube", 1, 3, "env.events.reset_robot.joint_noise=0.0")
    put_cube(env, 0.5, 0.2)
    tool = env._state.tool_pos
    for target in ((0.5, 0.0, 0.2), (0.5, 0.0, 0.05), (0.5, 0.2, 0.05)):
        for _ in range(25):
            move = (torch.tensor([target]) - tool) / 0.08
            env.step(move.clamp(-0.3, 0.3))
            tool = env._state.tool_pos
    assert env._state.cube_pos[0, 1] > 0.27
    assert env._state.cube_mat[0, 2, 2] > 0.99
