"""Hydra launchers: thin shells over the modules of `launchers/`; Hydra imports them at each start."""
