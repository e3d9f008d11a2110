"""What many environments reserve."""

from __future__ import annotations

import subprocess

from tests.envs.test_every_env import make


def test_a_simulation_reserves_no_more_than_it_may_use() -> None:
    env = make("lift", 4)
    assert env.physics.model.narena <= 2**20


def test_processes_can_be_started_beside_thousands_of_simulations() -> None:
    env = make("lift", 4096)
    assert env.num_envs == 4096
    # with preexec_fn a process is started by fork, as ffmpeg is, which accounts for all memory once more
    done = subprocess.run(["true"], preexec_fn=lambda: None, check=False)
    assert done.returncode == 0
