"""What ranks are, what each has of the whole, how they agree; whole trainings: test_distributed_run.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from rl_platform import agreement, config, distributed, place, sharding
from rl_platform.assemble import build_env
from rl_platform.errors import UserError
from rl_platform.models.distributions import Categorical, Distribution, Gaussian
from tests.test_resume import differences

ROOT = Path(__file__).resolve().parent.parent
TORCHRUN = {
    "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "10.0.0.1",
    "MASTER_PORT": "29500", "TORCHELASTIC_USE_AGENT_STORE": "True",
}  # fmt: skip
SRUN = {
    "SLURM_JOB_ID": "17", "SLURM_STEP_ID": "0", "SLURM_PROCID": "2", "SLURM_NTASKS": "4",
    "SLURM_LOCALID": "0", "SLURM_STEP_NODELIST": "localhost", "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
}  # fmt: skip


def test_a_process_by_itself_has_no_place() -> None:
    assert place.find({}) is None
    assert place.find({"RANK": "0", "WORLD_SIZE": "1"}) is None
    batch_script = {name: value for name, value in SRUN.items() if name != "SLURM_STEP_NODELIST"}
    assert place.find(batch_script) is None
    assert place.find(SRUN | {"SLURM_NTASKS": "1"}) is None


def test_torchruns_variables() -> None:
    found = place.find(SRUN | TORCHRUN)
    assert found is not None
    assert (found.rank, found.world_size, found.local_rank, found.local_world_size) == (3, 4, 1, 2)
    assert (found.address, found.port, found.hosted) == ("10.0.0.1", 29500, True)


def test_the_variables_of_a_slurm_step() -> None:
    found = place.find(SRUN)
    assert found is not None
    assert (found.rank, found.world_size, found.local_rank, found.local_world_size) == (2, 4, 0, 2)
    assert (found.address, found.hosted) == ("localhost", False)
    next_job = place.find(SRUN | {"SLURM_JOB_ID": "18"})
    assert next_job is not None
    assert 1024 < found.port != next_job.port < 32768


def test_missing_variables_are_told() -> None:
    with pytest.raises(UserError, match="MASTER_ADDR"):
        place.find({name: value for name, value in TORCHRUN.items() if name != "MASTER_ADDR"})


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("n1", "n1"), ("n1,n2", "n1"), ("gpu[03-05,9],login", "gpu03"), ("a[7]-x", "a7-x"), ("a-b2", "a-b2")],
)
def test_the_first_of_slurms_nodes(nodes: str, first: str) -> None:
    assert place.first_host(nodes) == first


@pytest.mark.parametrize(
    ("num_envs", "ranks", "told"),
    [
        (64, 3, "write env.num_envs=63 or env.num_envs=66, or take 2 ranks"),
        (2, 4, "write env.num_envs=4, or take 2 ranks"),
        (8, 0, "launcher.num_processes: must be at least 1"),
    ],
)
def test_environments_that_cannot_be_shared_out_are_told(num_envs: int, ranks: int, told: str) -> None:
    assert told in str(agreement.ranks_problem(num_envs, ranks))
    overrides = [
        "env=cartpole",
        "launcher=distributed",
        f"launcher.num_processes={ranks}",
        f"env.num_envs={num_envs}",
    ]
    with pytest.raises(UserError) as caught:
        config.compose([*overrides, "algo.num_minibatches=1"])
    assert told in str(caught.value)


def whole_state(num_envs: int = 6) -> dict[str, Any]:
    def rows(*shape: int) -> torch.Tensor:
        return torch.rand(num_envs, *shape)

    return {
        "iteration": 3,
        "algo": {"model": {"weight": torch.rand(num_envs, 2)}, "envs": {"discounted": rows()}},
        "obs": {"policy": rows(4)},
        "env": {
            "physics": {"state": rows(9), "expanded": {"body_mass": rows(3)}},
            "log": {"running": torch.rand(3, num_envs), "totals": torch.zeros(num_envs)},
            "common_step": 12,
        },
    }


@pytest.mark.parametrize("ranks", [1, 2, 3, 6])
def test_a_state_that_is_taken_apart_is_put_together_again(ranks: int) -> None:
    state = whole_state()
    size = 6 // ranks
    parts = [sharding.part(state, rank * size, size, 6) for rank in range(ranks)]
    assert parts[-1]["env"]["physics"]["state"].shape == (size, 9)
    assert parts[-1]["env"]["log"]["running"].shape == (3, size)
    assert parts[-1]["algo"]["model"]["weight"].shape == (6, 2)
    assert differences(sharding.join(parts), state) == []


def test_sums_over_ended_episodes_are_counted_once() -> None:
    state = whole_state()
    state["env"]["log"]["totals"] = torch.ones(6)
    parts = [sharding.part(state, start, 3, 6) for start in (0, 3)]
    assert torch.equal(sharding.join(parts)["env"]["log"]["totals"], torch.ones(6))


def test_environments_are_the_same_in_one_piece_and_in_two() -> None:
    """With all that an environment may remember from step to step."""
    term = "{scale:1.0,noise:0.01,history_steps:3,delay_steps:[1,2]}"
    memory = ["env.action_delay_steps=[0,2]", f"env.observations.policy.joint_pos={term}"]
    cfg = config.compose(["env=cartpole", "env.num_envs=4", *memory])
    action = torch.linspace(-1.0, 1.0, 4)[:, None]

    def stepped(num_envs: int, env_offset: int) -> dict[str, Any]:
        env = build_env(cfg, num_envs=num_envs, seed=1, num_threads=1, training=True, env_offset=env_offset)
        rows = slice(env_offset, env_offset + num_envs)
        env.reset()
        for _ in range(3):
            obs = env.step(action[rows])[0]
        return {"env": env.state_dict(), "obs": obs, "algo": {}}

    whole, parts = stepped(4, 0), [stepped(2, 0), stepped(2, 2)]
    assert differences(sharding.join(parts), whole | {"algo": {"envs": {}}}) == []
    for number, own in enumerate(parts):
        taken = sharding.part(whole, 2 * number, 2, 4)
        for state in (taken, own):
            state["env"]["log"]["totals"] = state["algo"] = None
        assert differences(taken, own) == []


@pytest.mark.parametrize("ranks", [2, 4])
def test_the_noise_of_actions_does_not_depend_on_sharding(ranks: int) -> None:
    size = 8 // ranks
    shards = [distributed.Shard(start, size, 8) for start in range(0, 8, size)]

    def generator() -> torch.Generator:
        return torch.Generator().manual_seed(5)

    distributions: list[Distribution] = [Gaussian(3, "log", 0.5, 0.1, 1.0), Categorical(5)]
    for distribution in distributions:
        out = torch.randn(8, distribution.outputs)
        parts = [distribution.noise(shard.of(out), generator(), shard) for shard in shards]
        assert torch.equal(torch.cat(parts), distribution.noise(out, generator()))


AGREE = """
import os, torch
from rl_platform import distributed, place
from rl_platform.algos.ppo import LOSSES
from rl_platform.errors import RankLostError
from rl_platform.models.normalize import Normalizer, ReturnScale
from rl_platform.tensor_math import batch_moments
from tests.fakes import PointMass, small_ppo

torch.set_grad_enabled(False)
here = place.find()
torch.manual_seed(0)
rewards, done, x = torch.rand(5, 8), torch.rand(5, 8) < 0.2, torch.randn(12, 3)
reference = rewards.clone()
alone = ReturnScale(8, 0.9, torch.device("cpu"))
alone.update_and_scale_(reference, done)
single = Normalizer(3)
single.update(x)
whole = small_ppo(PointMass(8), normalize_advantage="minibatch", num_minibatches=1)
torch.manual_seed(1)
columns = {"policy_obs": torch.randn(32, 3), "action": torch.randn(32, 2), "mean": torch.randn(32, 2),
           "log_prob": torch.randn(32), "advantage": torch.randn(32), "return": torch.randn(32),
           "value": torch.randn(32)}
shared = {"log_std": torch.zeros(2)}
expected = whole._losses(columns | shared)
order, sizes = small_ppo(PointMass(8), num_minibatches=8)._shuffle()

with distributed.group(here, "cpu"):
    rank = distributed.rank()
    own = distributed.shard(4)
    rows = slice(0, 9) if rank == 0 else slice(9, 12)  # ranks may have different numbers of samples
    mine = rewards[:, own.start : own.start + 4].clone()
    scale = ReturnScale(4, 0.9, torch.device("cpu"))
    scale.update_and_scale_(mine, done[:, own.start : own.start + 4])
    torch.testing.assert_close(mine, reference[:, own.start : own.start + 4])
    pooled = Normalizer(3)
    pooled.update(x[rows])
    for name in ("count", "mean", "m2"):
        torch.testing.assert_close(getattr(pooled, name), getattr(single, name))
    torch.testing.assert_close(distributed.standardize(x[rows, 0]), (x[:, 0] - x[:, 0].mean())[rows]
                               / (x[:, 0].std(correction=0) + 1e-8))
    ppo = small_ppo(PointMass(4), num_minibatches=8)
    # the ranks' parts of each minibatch are together what one rank would have
    part, counts = ppo._shuffle()
    everyones = distributed.everyones((part.tolist(), counts))
    for k, minibatch in enumerate(order.split(sizes)):
        ids = []
        for r, (rows_of_rank, counts_of_rank) in enumerate(everyones):
            begin = sum(counts_of_rank[:k])
            for row in rows_of_rank[begin : begin + counts_of_rank[k]]:
                ids.append(row // 4 * 8 + row % 4 + 4 * r)
        assert sorted(ids) == sorted(minibatch.tolist())
    # losses and gradients too, also where a rank has none of a minibatch's samples
    ppo = small_ppo(PointMass(4), normalize_advantage="minibatch", num_minibatches=1)
    ppo.minibatch = 32
    for rows in ((slice(0, 22), slice(22, 32)), (slice(0, 32), slice(0, 0))):
        losses = ppo._losses({name: column[rows[rank]] for name, column in columns.items()} | shared)
        for name in LOSSES:
            torch.testing.assert_close(losses[name], expected[name], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(ppo.vector.grad, whole.vector.grad, rtol=1e-4, atol=1e-6)
    assert distributed.totals([1.0, rank]) == [2.0, 1.0]
    states = distributed.gather({"x": torch.full((2,), float(rank)), "n": rank})
    assert (states is None) == (rank > 0)
    if states is not None:
        assert [state["n"] for state in states] == [0, 1] and states[1]["x"].tolist() == [1.0, 1.0]
    print("agreed", rank)
"""


def in_ranks(script: str, ranks: int, folder: Path) -> list[subprocess.CompletedProcess[str]]:
    """Run a script on some ranks; each with what it printed."""
    import torch.distributed as dist

    store = dist.TCPStore("127.0.0.1", 0, None, True, wait_for_workers=False)
    file = folder / "ranks.py"
    file.write_text(script)
    env = (
        os.environ
        | TORCHRUN
        | {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks), "PYTHONPATH": str(ROOT)}
    )
    env |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "GLOO_SOCKET_IFNAME": "lo"}
    processes = [
        subprocess.Popen(
            [sys.executable, str(file)], env=env | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(ranks)
    ]  # fmt: skip
    try:
        printed = [process.communicate(timeout=300)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return [
        subprocess.CompletedProcess([], p.returncode, out) for p, out in zip(processes, printed, strict=True)
    ]


@pytest.mark.slow
def test_gradients_losses_and_normalisers_of_two_ranks_are_those_of_one(tmp_path: Path) -> None:
    for rank, done in enumerate(in_ranks(AGREE, 2, tmp_path)):
        assert done.returncode == 0, done.stdout
        assert f"agreed {rank}" in done.stdout
