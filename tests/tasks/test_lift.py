"""Lift's own terms, success, commands, events and curriculum, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from rl_platform.assemble import build_env
from rl_platform.config import compose
from rl_platform.envs.env import Env
from rl_platform.errors import UserError
from rl_platform.tasks import lift
from tests.envs.test_every_env import make, random_actions


def put_cube(env: Env, env_id: int, position: torch.Tensor) -> None:
    joint = env.physics.model.joint("cube").qposadr[0]
    velocity = env.physics.model.joint("cube").dofadr[0]
    env.physics.data("qpos")[env_id, joint : joint + 3] = position.to(torch.float64)
    env.physics.data("qvel")[env_id, velocity : velocity + 6] = 0.0


def hold(env: Env) -> torch.Tensor:
    """An action that moves nothing, the gripper open."""
    action = torch.zeros(env.num_envs, env.action_dim)
    action[:, -1] = 1.0
    return action


def test_starts_and_goals_are_spread_over_isaac_labs_ranges() -> None:
    env = make("lift", 512)
    cube, goal = env._state.cube_pos, env._state.goal
    in_hand = cube[:, 2] > 0.1
    table = cube[~in_hand]
    for points, ranges in (
        (table, [(0.35, 0.65), (-0.3, 0.3)]),  # training: wider than the task by its margin
        (goal, [(0.4, 0.6), (-0.25, 0.25), (0.25, 0.5)]),
    ):
        for column, (low, high) in enumerate(ranges):
            values = points[:, column]
            assert values.min() >= low
            assert values.max() <= high
            assert values.max() - values.min() > 0.95 * (high - low)
    assert 0.05 < in_hand.float().mean() < 0.16


def test_evaluation_has_all_of_isaac_labs_range_and_no_easier_starts() -> None:
    env = build_env(compose(["env=lift"]), num_envs=512, seed=0, num_threads=1)  # as eval and play do
    assert isinstance(env, Env)
    x, y, z = env._state.cube_pos.unbind(1)
    torch.testing.assert_close(z, torch.full((512,), 0.02))
    for values, low, high in ((x, 0.4, 0.6), (y, -0.25, 0.25)):
        assert low <= values.min() <= low + 0.01
        assert high - 0.01 <= values.max() <= high


def test_a_cube_that_is_hit_costs_its_speed() -> None:
    env = make("lift", 3)
    speed = torch.tensor([[0.0, 0.0, 0.0], [0.3, 0.0, 0.4], [0.3, 0.0, 0.4]])
    state = env._state
    state.cube_vel, state.grasped = speed, torch.tensor([False, False, True])
    torch.testing.assert_close(lift.knocking(state), torch.tensor([0.0, 0.5, 0.0]))


def test_success_is_half_a_second_near_the_goal_up_to_the_end() -> None:
    env = make("lift", 3)
    env.training = False
    env.reset(0)
    steps = math.ceil(lift.HOLD_TIME / env.step_dt)
    for step in range(steps + 2):
        put_cube(env, 0, env.commands["goal"][0])
        put_cube(env, 1, env.commands["goal"][1] if step != steps else torch.tensor([0.5, 0.0, 0.1]))
        *_, info = env.step(hold(env))
        assert info["success"][0] == (step + 1 >= steps)
    assert info["success"].tolist() == [True, False, False]


def test_a_cube_between_closed_fingers_is_grasped_and_rewarded() -> None:
    env = make("lift", 64, 3, "env.events.start_grasped.probability=1.0")
    action = hold(env)
    action[:, -1] = -1.0
    for _ in range(10):
        *_, info = env.step(action)
    state = env._state
    assert state.grasped.all()
    height = (state.cube_pos[:, 2] - 0.02).clamp(0.0, 0.1) / 0.1
    expected = 2.0 * height * env.step_dt
    torch.testing.assert_close(info["rewards"]["lifting"], expected)
    distance = (state.cube_pos - state.goal).norm(dim=1)
    torch.testing.assert_close(info["rewards"]["reaching"], torch.full((64,), 2.0 * env.step_dt))
    torch.testing.assert_close(
        info["rewards"]["goal_tracking"], 6.0 * (1 - torch.tanh(distance / 0.3)) * env.step_dt
    )


def test_a_cube_beside_the_hand_is_not_grasped() -> None:
    env = make("lift", 8)
    env.training = False
    env.reset(0)
    *_, info = env.step(hold(env))
    assert not env._state.grasped.any()
    for term in ("grasping", "lifting", "goal_tracking", "goal_tracking_fine"):
        assert not info["rewards"][term].any()
    distance = (env._state.tool_pos - env._state.cube_pos).norm(dim=1)
    expected = 2.0 * (1 - torch.tanh(distance / 0.2)) * env.step_dt
    torch.testing.assert_close(info["rewards"]["reaching"], expected)


def test_commands_are_resampled_at_their_period() -> None:
    env = make("lift", 4, 3, "env.commands.goal.resampling_time_s=0.4")
    goals = []
    for action in random_actions(env, 25):
        goals.append(env.commands["goal"].clone())
        env.step(action)
    changes = [i for i in range(1, 25) if not torch.equal(goals[i], goals[i - 1])]
    assert changes == [10, 20]


def test_a_goal_drawn_within_an_episode_counts_from_the_next_step_on() -> None:
    env = make("lift", 4, 3, "env.commands.goal.resampling_time_s=0.4")
    actions = random_actions(env, 11)
    for action in actions[:9]:
        env.step(action)
    old = env.commands["goal"].clone()
    obs, _, _, _, info = env.step(actions[9])
    new, cube = env.commands["goal"], env._state.cube_pos
    assert (new != old).any(1).all()
    torch.testing.assert_close(info["metrics"]["position_error"], (old - cube).norm(dim=1))
    torch.testing.assert_close(obs["policy"][:, -3:], 4.0 * (new - cube))
    *_, info = env.step(actions[10])
    torch.testing.assert_close(info["metrics"]["position_error"], (new - env._state.cube_pos).norm(dim=1))


def test_an_episode_keeps_its_last_goal_to_the_end() -> None:
    env = make("lift", 4, 3, "env.commands.goal.resampling_time_s=0.4")
    env.episode_length[:] = torch.tensor([0, 0, env.max_episode_steps - 10, 0])
    for action in random_actions(env, 9):
        env.step(action)
    old = env.commands["goal"].clone()
    *_, truncated, info = env.step(random_actions(env, 1, seed=1)[0])
    assert truncated.tolist() == [False, False, True, False]
    last = info["metrics"]["position_error"]
    ended = info["final_obs"]["policy"][2, -3:] / 4.0
    torch.testing.assert_close(last[2], ended.norm())
    assert (env.commands["goal"] != old).any(1).all()


def test_a_goal_relative_to_the_cube() -> None:
    box = "x:[-0.1,0.1],y:[-0.25,0.25],z:[0.2,0.4]"
    env = make(
        "lift_isaac", 64, 3, f"env.commands.object_pose={{resampling_time_s:5.0,{box},relative_to_cube:true}}"
    )
    offset = env._state.goal - env._state.cube_pos
    assert offset[:, 0].abs().max() <= 0.1 + 1e-5
    assert offset[:, 2].min() >= 0.2 - 1e-5
    assert offset[:, 2].max() <= 0.4 + 1e-5


def test_mass_friction_and_yaw_are_randomised() -> None:
    env = make(
        "lift", 32, 3,
        "env.events.cube_mass={range:[0.05,0.2]}",
        "env.events.cube_friction={range:[0.5,1.5]}",
        "env.events.reset_cube.yaw_deg=[-45.0,45.0]",
    )  # fmt: skip
    body, geom = env.physics.model.body("cube").id, env.physics.model.geom("cube").id
    mass, friction = env.physics.expand("body_mass")[:, body], env.physics.expand("geom_friction")[:, geom, 0]
    for values, low, high in ((mass, 0.05, 0.2), (friction, 0.5, 1.5)):
        assert values.min() >= low
        assert values.max() <= high
        assert values.std() > 0.2 * (high - low)
    nominal = torch.as_tensor(env.physics.model.body_inertia[body]) / env.physics.model.body_mass[body]
    torch.testing.assert_close(env.physics.expand("body_inertia")[:, body], mass[:, None] * nominal)
    yaw = torch.atan2(env._state.cube_mat[:, 1, 0], env._state.cube_mat[:, 0, 0])
    assert yaw.abs().max() <= math.pi / 4 + 1e-5
    assert yaw.std() > 0.3


def test_isaac_labs_initial_lifting_reward() -> None:
    # the cube is dropped 1.5 cm above the threshold and stays above it for two control steps:
    # 15 · 2 · 0.02 s / 5 s = 0.12, which that project's page shows as 0.1050
    env = make("lift_isaac", 16)
    for _ in range(env.max_episode_steps):
        env.step(torch.zeros(16, 8))
    assert env.episode_log()["Episode_Reward/lifting_object"] == pytest.approx(0.12, abs=0.001)


def test_isaac_labs_sizes_and_curriculum() -> None:
    env = make("lift_isaac", 2)
    assert env.observation_dims == {"policy": 36}
    assert (env.action_dim, env.max_episode_steps, env.step_dt) == (8, 250, 0.02)
    assert env.reward_weights["joint_vel"] == env.reward_weights["action_rate"] == -1e-4
    env.common_step = 9999
    env.step(torch.zeros(2, 8))
    assert env.reward_weights["joint_vel"] == -1e-4
    env.step(torch.zeros(2, 8))
    assert env.reward_weights["joint_vel"] == env.reward_weights["action_rate"] == -0.1


def test_a_curriculum_does_not_change_what_is_evaluated() -> None:
    env = build_env(compose(["env=lift_isaac"]), num_envs=2, seed=0, num_threads=1)  # as eval and play do
    env.reset(seed=1)
    first = env.step(torch.ones(2, 8))[1]
    assert isinstance(env, Env)
    env.common_step = 10_000
    env.step(torch.ones(2, 8))
    env.reset(seed=1)
    assert env.common_step == 0
    assert torch.equal(env.step(torch.ones(2, 8))[1], first)
    assert env.reward_weights["action_rate"] == -1e-4


def test_isaac_labs_success_termination() -> None:
    env = make("lift_isaac", 2, 3, "env.terminations.success={threshold:0.05}")
    put_cube(env, 1, env.commands["object_pose"][1])
    _, _, terminated, _, _ = env.step(torch.zeros(2, 8))
    assert terminated.tolist() == [False, True]


def test_a_cube_over_the_edge_is_dropped_unless_it_is_carried_there() -> None:
    env = make("lift", 3)
    for env_id, place in enumerate(((0.5, 0.59, 0.02), (0.5, 0.61, 0.02), (0.5, 0.61, 0.3))):
        put_cube(env, env_id, torch.tensor(place))
    _, _, terminated, truncated, _ = env.step(torch.zeros(3, 4))
    assert terminated.tolist() == [False, True, False]
    assert not truncated.any()
    assert env.episode_log()["Episode_Termination/object_dropped"] == 1.0


@pytest.mark.parametrize(("override", "words"), [
    ("+env.rewards.reching={weight:1.0}", "reaching"),
    ("+env.rewards.reaching.sdt=0.2", "std"),
    ("env.actions.arm.mode=relative_pose", "relative_ee_pose"),
    ("env.robot.start_pose=[0.0]", "must have 9 values"),
])  # fmt: skip
def test_mistakes_in_the_tables_are_named(override: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        compose(["env=lift", override])
