"""What starts runs: each module with a `Config` is a choice of `launcher=`; see `rl_platform/multirun.py`.

`hydra_plugins/` beside this file makes Hydra launchers of them. Nothing of the platform imports this
package by itself: Hydra finds the plugins, `rl_platform/registry.py` the configurations.
"""
