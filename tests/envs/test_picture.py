from __future__ import annotations

import mujoco
import numpy as np

from rl_platform.envs.picture import Picture
from tests.envs.test_every_env import every_env, make, random_actions


@every_env
def test_the_picture_is_the_simulation_with_looks(name: str) -> None:
    env = make(name)
    env.reset()
    picture = Picture(env)
    assert picture.model.ngeom > env.physics.model.ngeom
    for action in random_actions(env, 5):
        env.step(action)
    for env_id in (0, 4):
        data = picture.show(env_id)
        for field in ("qpos", "qvel", "ctrl", "mocap_pos", "xpos", "site_xpos"):
            shown, simulated = getattr(data, field), env.physics.data(field)[env_id].numpy()
            np.testing.assert_array_equal(shown, simulated)


@every_env
def test_what_is_simulated_has_nothing_that_is_only_drawn(name: str) -> None:
    model: mujoco.MjModel = make(name).physics.model
    assert (model.geom_contype | model.geom_conaffinity).all()
    assert model.nlight == model.nmat == 0
