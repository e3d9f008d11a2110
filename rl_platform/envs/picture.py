"""What an environment looks like: its scene with the looks that the simulated one goes without."""

from __future__ import annotations

import mujoco
import numpy as np

from rl_platform.envs.env import Env

_STATE = int(mujoco.mjtState.mjSTATE_INTEGRATION)


class Picture:
    """A model to draw, and one environment's present state in it.

    Attributes:
        model: the task's scene with its looks; the state has the simulated model's layout.
        data: the state last shown.
    """

    def __init__(self, env: Env) -> None:
        """Build the scene of `env` once more, dressed."""
        self._physics = env.physics
        self.model = env.task.scene(env.config, looks="menagerie").compile()
        self.data = mujoco.MjData(self.model)
        self._state = np.empty(mujoco.mj_stateSize(self.model, _STATE))

    def show(self, env_id: int) -> mujoco.MjData:
        """Bring `data` to the present state of environment `env_id` and return it."""
        simulated = self._physics.mj_data(env_id)
        mujoco.mj_getState(self._physics.mj_model(env_id), simulated, self._state, _STATE)
        mujoco.mj_setState(self.model, self.data, self._state, _STATE)
        mujoco.mj_forward(self.model, self.data)
        return self.data
