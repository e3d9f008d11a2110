"""A platform for training robot policies: Hydra, MuJoCo, PyTorch."""

from rl_platform import opengl

opengl.choose_backend()  # before anything imports MuJoCo
