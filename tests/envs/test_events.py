"""What can be randomised at an episode's start and within it."""

from __future__ import annotations

import pytest
import torch

from rl_platform.errors import UserError
from tests.envs.test_every_env import make

STILL = "env.events.reset_robot={joint_noise:0.0,velocity_noise:0.0}"


def test_gains_and_gravity_are_each_environments_own() -> None:
    env = make(
        "walker12", 32, 3, "env.events.servo_gains={range:[0.5,1.5]}", "env.events.gravity={range:[9.0,10.0]}"
    )
    gain, bias = env.physics.expand("actuator_gainprm"), env.physics.expand("actuator_biasprm")
    factor = gain[:, :, 0] / 40.0
    assert factor.min() >= 0.5
    assert factor.max() <= 1.5
    assert factor.std(0).min() > 0.1
    assert factor.std(1).min() > 0.1
    torch.testing.assert_close(bias[:, :, 1], -gain[:, :, 0])
    torch.testing.assert_close(bias[:, :, 2], -1.0 * factor)
    gravity = env.physics.expand("opt.gravity")[:, 2]
    assert gravity.min() >= -10.0
    assert gravity.max() <= -9.0
    assert gravity.std() > 0.1


def test_gravity_is_what_falls() -> None:
    env = make("walker12", 2, 3, STILL, "env.events.gravity={range:[5.0,5.0]}")
    env.physics.data("qpos")[:, 2] = 3.0
    env.physics.forward(torch.arange(2))
    env.step(torch.zeros(2, 12))
    fallen = env.physics.data("qvel")[:, 2]
    assert fallen.tolist() == pytest.approx([-5.0 * env.step_dt] * 2, rel=0.05)


def test_pushes_come_again_within_an_episode_at_times_of_their_own() -> None:
    env = make("walker12", 64, 3, STILL, "env.events.push={velocity:1.0,every_s:[0.2,0.4]}")
    kicked, jumps, before = [], [], env.physics.data("qvel")[:, :2].clone()
    for _ in range(50):
        due = env.event_due["push"] == 1
        env.step(torch.zeros(64, 12))
        now = env.physics.data("qvel")[:, :2].clone()
        jumps.append((now - before).norm(dim=1))
        kicked.append(due)
        before = now
    pushes, jump = torch.stack(kicked).sum(0), torch.stack(jumps)
    assert jump[torch.stack(kicked)].median() > 0.5
    assert jump[~torch.stack(kicked)].median() < 0.1
    # a second has two to five pushes, 0.2 to 0.4 s apart
    assert pushes.min() >= 2
    assert pushes.max() <= 5
    assert len(torch.stack(kicked).nonzero()[:, 0].unique()) > 20


def test_repeated_events_go_on_after_a_resume() -> None:
    override = "env.events.push={velocity:1.0,every_s:[0.1,0.3]}"
    env, other = make("walker12", 4, 3, override), make("walker12", 4, 9, override)
    for _ in range(10):
        env.step(torch.zeros(4, 12))
    other.load_state_dict(env.state_dict())
    for _ in range(20):
        assert torch.equal(
            env.step(torch.zeros(4, 12))[0]["policy"], other.step(torch.zeros(4, 12))[0]["policy"]
        )


def test_a_misspelt_setting_of_an_event_is_named() -> None:
    with pytest.raises(UserError, match="evry_s"):
        make("walker12", 1, 3, "env.events.push={velocity:1.0,evry_s:[0.1,0.3]}")
