from __future__ import annotations

from pathlib import Path

import pytest
import torch

import run
from rl_platform import nan_dump
from rl_platform.assemble import build_env
from rl_platform.commands.play import _actions
from rl_platform.config import compose
from rl_platform.errors import NonFiniteError
from rl_platform.run_dir import RunDir


def test_a_task_can_be_watched_before_it_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["env.episode_length_s=0.1", "--steps", "8", "--num_envs=2"]
    assert run.main(["play", "env=cartpole", *words, "--video", "look.mp4"]) == 0
    assert "look.mp4  (8 steps, 0.1 s)\n2 episodes ended" in capsys.readouterr().out
    assert (tmp_path / "look.mp4").stat().st_size > 1000
    assert run.main(["play", "env=cartpole", "--actions", "zero", *words, "--video"]) == 0
    assert len(list((tmp_path / "outputs").glob("cartpole_zero_*.mp4"))) == 1, "no video is overwritten"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["env=cartpol"], "did you mean env=cartpole?"),
        (["env=cartpole", "env.num_env=4"], "did you mean env.num_envs=4"),
        (["env=cartpole", "--checkpoint", "best"], "are of a run"),
        (["env=cartpole", "--use_last_checkpoint"], "are of a run"),
        (["lift"], "to watch the task, write env=lift"),
        (["--video", "somewhere"], "somewhere: there is no such run"),
        (["--video", "a.mp4"], "required: RUN|env=NAME"),
        (["env=cartpole", "--video", "--port", "8080"], "--host and --port are of --viewer web"),
        (["env=cartpole", "--viewer", "web", "--port", "80800"], "must be from 1 to 65535, got 80800"),
        (["somewhere", "num_envs=4"], "came after it: num_envs=4\n    → write --num-envs 4"),
        (["somewhere", "device=cuda"], "→ write --device cuda"),
        (["somewhere", "elsewhere"], "options with dashes, such as --num-envs 4"),
    ],
)
def test_what_cannot_be_watched_is_told(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.main(["play", *words]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_random_actions_are_within_the_bounds_and_belong_to_a_seed(env_id: str) -> None:
    cfg = compose(["env=gymnasium", f"env.id={env_id}", "env.vectorization=sync"])
    env = build_env(cfg, num_envs=64, seed=0, num_threads=1)
    env.reset(0)
    first, again, other = (_actions(env, "random", seed)({}) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    if env.num_choices is not None:
        assert set(first.flatten().tolist()) == {0.0, 1.0}
    else:
        assert (first >= env.action_low).all()
        assert (first <= env.action_high).all()
        assert (first.max() - first.min()) > 0.8 * (env.action_high - env.action_low).max()
    env.step(first)
    env.close()


def test_a_nan_before_the_first_checkpoint_can_be_replayed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg = compose(["env=cartpole", "env.num_envs=2"])
    run_dir = RunDir.create(tmp_path, "a", cfg)
    env = build_env(cfg, num_envs=2, seed=0, num_threads=1)
    error = NonFiniteError("observation policy/x is not finite in environment 1: [nan]", 1)
    nan_dump.save(run_dir, env.state_dict(), [torch.zeros(2, 1)], error)
    assert run.main(["play", str(run_dir.path), "--replay", str(run_dir.path / "nan_dump.pt")]) == 0
    out = capsys.readouterr().out
    assert "recorded: observation policy/x" in out
    assert "environment 1, 1 steps from the iteration's start" in out
