"""What only a CUDA device can show: `pytest -m gpu` on a machine that has one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import run
from rl_platform.recorded import Recorded
from rl_platform.run_dir import RunDir
from tests.algos.helpers import NUM_ENVS, observations, small_ppo, weights
from tests.envs.test_every_env import random_actions
from tests.envs.test_warp import NAMES, make

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
SHORT = (
    "max_iterations=4", "total_env_steps=null", "env.num_envs=64", "eval.episodes=16", "eval.num_envs=16",
    "video=false", "logger=files", "algo.rollout_steps=8", "algo.num_minibatches=4",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_step_never_waits_and_comes_to_what_the_cpu_does(name: str) -> None:
    ours, reference = make(name, "warp", device="cuda", num_envs=32), make(name, "cpu", num_envs=32)
    actions = random_actions(reference, 40)
    for step, action in enumerate(actions):
        moved = action.cuda()
        # starts are made at every 16th step, and constants, graphs and kernels within the first ones
        torch.cuda.set_sync_debug_mode("error" if step > 3 and step % 16 else "default")
        try:
            found = ours.step(moved)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        if step < 5:
            expected = reference.step(action)
            for group, rows in expected[0].items():
                torch.testing.assert_close(found[0][group].cpu(), rows, rtol=0.02, atol=0.02)
            torch.testing.assert_close(found[1].cpu(), expected[1], rtol=0.02, atol=0.02)
    ours.check()


@pytest.mark.parametrize(
    "changes", [{}, {"std_type": "state_dependent", "recompute_advantage": True}, {"lr_schedule": "linear"}]
)
def test_a_cuda_graph_learns_what_the_step_does(changes: dict[str, Any]) -> None:
    recorded, plain = (small_ppo(device="cuda", **changes) for _ in range(2))
    steps = [step for step in plain.minibatch_steps if isinstance(step, Recorded)]
    assert len(steps) == 2
    plain.minibatch_steps = [step._work for step in steps]
    never = torch.zeros(NUM_ENVS, dtype=torch.bool, device="cuda")
    for iteration in range(6):
        for ppo in (recorded, plain):
            for t in range(ppo.rollout_steps):
                seen = {g: rows.cuda() for g, rows in observations(100 * iteration + t).items()}
                action = ppo.act(seen)
                ppo.observe(-action.square().sum(-1), never, never, seen)
            ppo.update(seen)
        torch.testing.assert_close(weights(recorded), weights(plain), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("physics", ["warp", "cpu"])
def test_a_run_trains_is_resumed_and_evaluated(tmp_path: Path, physics: str) -> None:
    where = ["env=lift", "agent=ppo", "device=cuda", f"env.physics={physics}", f"output_dir={tmp_path}"]
    assert run.main([*where, *SHORT]) == 0
    path = next(tmp_path.rglob("run.json")).parent
    assert run.main([f"resume={path}", "max_iterations=6"]) == 0
    assert RunDir(path).load_checkpoint()["iteration"] == 6
    assert run.main(["eval", str(path), "--episodes", "16"]) == 0
    assert run.main(["eval", str(path), "--episodes", "16", "--device", "cpu"]) == 0
