"""Observation groups that are pictures."""

from __future__ import annotations

import pytest
import torch

from rl_platform.envs.env import Env
from rl_platform.envs.render import RenderingError
from rl_platform.errors import UserError
from tests.envs.test_every_env import make, random_actions

FRONT = "env.cameras={front:{camera:front,width:48,height:32}}"


@pytest.fixture(scope="module")
def env() -> Env:
    try:
        return make("push_cube", 3, 3, "env.episode_length_s=0.2", FRONT)
    except UserError as error:
        if isinstance(error.__cause__, RenderingError):
            pytest.skip(str(error))
        raise


def test_pictures_are_a_group_beside_the_state(env: Env) -> None:
    obs = env.reset(1)
    assert env.image_shapes == {"front": (32, 48, 3)}
    assert set(obs) == {"policy", "front"}
    assert set(env.observation_dims) == {"policy"}
    assert obs["front"].shape == (3, 32, 48, 3)
    assert obs["front"].dtype == torch.uint8
    assert obs["front"].float().std() > 10.0
    assert not torch.equal(obs["front"][0], obs["front"][1])  # cubes and goals differ


def test_pictures_show_the_present_and_final_obs_the_last(env: Env) -> None:
    env.reset(1)
    for action in random_actions(env, env.max_episode_steps):
        obs, *_, truncated, info = env.step(action)
    assert truncated.all()
    assert not torch.equal(obs["front"], info["final_obs"]["front"])
    renderer = env.renderer(48, 32, "front")
    now = torch.stack([torch.from_numpy(renderer.frame(i).copy()) for i in range(3)])
    renderer.close()
    assert torch.equal(obs["front"], now)


def test_a_saved_environment_goes_on_with_the_same_pictures(env: Env) -> None:
    env.reset(1)
    actions = random_actions(env, 6)
    for action in actions[:3]:
        env.step(action)
    saved = env.state_dict()
    expected = [env.step(action)[0]["front"] for action in actions[3:]]
    env.reset(7)
    env.load_state_dict(saved)
    assert all(torch.equal(env.step(a)[0]["front"], b) for a, b in zip(actions[3:], expected, strict=True))


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("env.cameras={policy:{camera:front,width:8,height:8}}", "cameras.policy: .*choose another"),
        ("env.cameras={front:{camera:front,width:8}}", "cameras.front: must be .*height"),
        ("env.cameras={front:{camera:front,width:0,height:8}}", "cameras.front.width: .*at least 1"),
        ("env.cameras={front:{camera:rear,width:8,height:8}}", "cameras.front: .*rear.*front"),
    ],
)
def test_mistakes_are_named(override: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        make("push_cube", 1, 3, override)
