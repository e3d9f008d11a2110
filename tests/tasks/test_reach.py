from __future__ import annotations

import math

import pytest
import torch

from tests.envs.test_every_env import make


def test_commands_point_down_within_their_box() -> None:
    env = make("reach", 256)
    goal = env.commands["ee_pose"]
    low, high = torch.tensor([0.35, -0.2, 0.15]), torch.tensor([0.65, 0.2, 0.5])
    assert ((goal[:, :3] >= low) & (goal[:, :3] <= high)).all()
    # at the start the tool points down, not turned but for the noise of its joints
    turned = env._state.orientation_error
    assert turned.max() < math.radians(90.0) + 0.4
    assert turned.max() > math.radians(75.0)


@pytest.mark.parametrize(("shift", "turn", "whole", "near"), [
    (0.0, 0.0, True, True), (0.018, 0.0, True, True), (0.022, 0.0, False, False), (0.0, 0.16, True, True),
    (0.0, 0.19, False, True),
])  # fmt: skip
def test_success_is_the_pose_held_for_half_a_second(
    shift: float, turn: float, whole: bool, near: bool
) -> None:
    env = make("reach", 1, 3, "env.events.reset_robot.joint_noise=0.0")
    for _ in range(14):
        tool = env._state.tool_pos[0]
        # half a turn about x, which points the tool down, and then the yaw
        quaternion = torch.tensor([0.0, math.cos(turn / 2), math.sin(turn / 2), 0.0])
        env.commands["ee_pose"][0] = torch.cat([tool + torch.tensor([shift, 0.0, 0.0]), quaternion])
        info = env.step(torch.zeros(1, 7))[4]
    assert env._state.orientation_error.item() == pytest.approx(turn, abs=5e-3)
    assert (info["success"].item(), bool(info["metrics"]["success_2cm"])) == (whole, near)
