"""What has to be set before anything imports MuJoCo or PyTorch."""

from __future__ import annotations

import os

os.environ.setdefault("MUJOCO_GL", "egl")
# More threads than this make the small tensors of the tests slower.
os.environ.setdefault("OMP_NUM_THREADS", "2")
# A test that forgets to choose a logger must not wait for a server.
os.environ.setdefault("WANDB_MODE", "offline")
