"""A new run that begins with the networks of another one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import run
from rl_platform.run_dir import RunDir, list_runs

SMALL = [
    "env=cartpole", "env.num_envs=16", "algo.rollout_steps=16", "algo.num_minibatches=2", "num_threads=1",
    "logger=none", "video=false", "eval.episodes=4", "eval.num_envs=4", "max_iterations=2",
]  # fmt: skip


@pytest.fixture
def first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    monkeypatch.chdir(tmp_path)
    return trained("first")


def trained(name: str, *words: str) -> RunDir:
    assert run.main([*SMALL, f"output_dir={name}", *words]) == 0
    return list_runs(name)[-1]


def weights(run_dir: RunDir) -> dict[str, torch.Tensor]:
    return dict(run_dir.load_checkpoint()["algo"]["model"])


def test_it_begins_with_the_networks_and_nothing_else(
    first: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    second = trained("second", f"init_from={first.path}", "stop_after_s=0.001", "seed=5")
    for name, values in weights(first).items():
        assert torch.equal(values, weights(second)[name]), name
    assert second.load_checkpoint()["iteration"] == 0
    assert f"Beginning with the networks of {first.path.resolve()}, iteration 2" in capsys.readouterr().out
    assert Path(second.load_config().init_from).is_absolute(), "a job may run in another directory"

    third = trained("third", f"init_from={first.checkpoints / 'model_2.pt'}", "algo.learning_rate=1e-3")
    assert third.load_checkpoint()["iteration"] == 2
    changed = weights(third)
    assert any(not torch.equal(values, changed[name]) for name, values in weights(first).items())


def test_what_does_not_fit_is_told(first: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    before = len(list_runs("outputs"))
    words = [*SMALL, f"init_from={first.path}"]
    assert run.main([*words, "agent.actor.hidden_sizes=[8]", "agent.critic.activation=tanh"]) == 2
    told = capsys.readouterr().err
    assert "agent.actor.hidden_sizes: is [8], and the run of init_from has [32,32]" in told
    assert "write agent.critic.activation=elu" in told
    assert len(list_runs("outputs")) == before
    assert run.main([*words, "env.observations.policy.joint_vel=null"]) == 2
    assert "its networks are of other sizes than this run's" in capsys.readouterr().err
    assert run.main(["env=reach", f"init_from={first.path}"]) == 2
    assert "is a run of env=cartpole, whose networks do not fit env=reach" in capsys.readouterr().err
    assert run.main([*SMALL, "init_from=nowhere", "output_dir=none"]) == 2
    assert "nowhere: there is no such run" in capsys.readouterr().err
    assert not Path("none").exists()
