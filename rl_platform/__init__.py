"""A platform for training robot policies: Hydra, MuJoCo, PyTorch."""
