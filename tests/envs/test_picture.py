from __future__ import annotations

import mujoco
import numpy as np
import pytest

from rl_platform.conf_files import CONF_DIR
from rl_platform.envs.picture import Picture
from tests.envs.test_every_env import NAMES, every_env, make, random_actions

# Gymnasium's models have one look, and results are comparable only if nothing is taken out of them.
AS_THEY_ARE = [
    name for name in NAMES if "name: gymnasium_mujoco." in (CONF_DIR / "env" / f"{name}.yaml").read_text()
]


@every_env
def test_the_picture_is_the_simulation_with_looks(name: str) -> None:
    env = make(name)
    env.reset()
    picture = Picture(env)
    if name not in AS_THEY_ARE:
        assert picture.model.ngeom > env.physics.model.ngeom
    for action in random_actions(env, 5):
        env.step(action)
    for env_id in (0, 4):
        data = picture.show(env_id)
        derived = ("xpos", "site_xpos") if env.task.current_fields else ()
        for field in ("qpos", "qvel", "ctrl", "mocap_pos", *derived):
            shown, simulated = getattr(data, field), env.physics.data(field)[env_id].numpy()
            np.testing.assert_array_equal(shown, simulated)


@every_env
def test_what_is_simulated_has_nothing_that_is_only_drawn(name: str) -> None:
    if name in AS_THEY_ARE:
        pytest.skip("the model is simulated as its makers wrote it")
    model: mujoco.MjModel = make(name).physics.model
    assert (model.geom_contype | model.geom_conaffinity).all()
    assert model.nlight == model.nmat == 0
