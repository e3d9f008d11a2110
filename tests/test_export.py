from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch

import run
from rl_platform import export
from rl_platform.assemble import load_run
from rl_platform.errors import UserError
from rl_platform.run_dir import RunDir

SHORT = (
    "max_iterations=2", "total_env_steps=null", "env.num_envs=8", "eval.episodes=2", "eval.num_envs=2",
    "video=false", "logger=none", "algo.rollout_steps=8", "algo.num_minibatches=2",
)  # fmt: skip
LIFT = (
    "env=lift",
    "env.observations.policy.tool_pos={scale:1.0,noise:0.0,history_steps:2,delay_steps:null}",
    "agent.normalize_obs=true",
)
RUNS = {
    "lift": LIFT,
    "discrete": ("env=gymnasium", "env.id=CartPole-v1"),
    "half_cheetah": ("env=half_cheetah",),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of each kind, hardly trained."""
    folder = tmp_path_factory.mktemp("runs")
    runs = {}
    for name, words in RUNS.items():
        assert run.main([*words, "agent=ppo", *SHORT, f"output_dir={folder / name}"]) == 0
        runs[name] = next((folder / name).rglob("run.json")).parent
    return runs


@pytest.mark.parametrize("name", sorted(RUNS))
@pytest.mark.parametrize("form", ["onnx", "torchscript"])
def test_the_file_acts_as_the_policy_does(
    trained: dict[str, Path], name: str, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = trained[name]
    assert run.main(["export", str(path), "--format", form]) == 0
    told = capsys.readouterr().out
    file = path / "exported" / ("policy_2.onnx" if form == "onnx" else "policy_2.pt")
    assert f"{file}: obs (batch, " in told
    loaded = load_run(RunDir.open(path), None, num_envs=3, device="cpu", num_threads=1)
    low, high = loaded.env.action_low, loaded.env.action_high
    for rows in (1, 5):
        obs = 10.0 * torch.randn(rows, loaded.env.observation_dims["policy"])
        expected = loaded.agent.policy({"policy": obs}).clamp(low, high)
        torch.testing.assert_close(play(file, obs), expected, rtol=1e-4, atol=1e-5)
    snippet = textwrap.dedent(told.partition("of those sizes:\n")[2])
    names: dict[str, Any] = {"obs": obs.numpy()}
    exec(snippet, names)  # what is told works as it stands
    torch.testing.assert_close(torch.as_tensor(names["action"]), expected, rtol=1e-4, atol=1e-5)
    loaded.env.close()


def play(file: Path, obs: torch.Tensor) -> torch.Tensor:
    """What somebody without this platform does."""
    if file.suffix == ".pt":
        return torch.from_numpy(torch.jit.load(file)(obs).numpy())
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (action,) = session.run(["action"], {"obs": obs.numpy()})
    return torch.from_numpy(action)


def test_what_each_column_is_stands_beside_it(trained: dict[str, Path]) -> None:
    assert run.main(["export", str(trained["lift"]), "--format", "torchscript"]) == 0
    told = json.loads((trained["lift"] / "exported" / "policy_2.json").read_text())
    columns = told["obs"]["columns"]
    assert told["obs"]["shape"] == ["batch", len(columns)]
    assert columns[:8] == ["fingers"] * 2 + ["tool_pos[t-1]"] * 3 + ["tool_pos"] * 3
    assert told["obs"]["terms"]["fingers"] == {"scale": 25.0, "noise": 0.0}
    assert told["action"]["columns"] == ["arm"] * 3 + ["gripper"]
    assert told["action"]["low"] == [-1.0] * 4
    assert told["action"]["terms"]["arm"]["mode"] == "relative_ee_pose"
    assert told["control_period_s"] == pytest.approx(0.04)
    assert (told["env"], told["iteration"]) == ("lift", 2)
    assert told["trained_with"] == {"action_delay_steps": [0, 0]}


def test_a_discrete_action_is_called_one(trained: dict[str, Path]) -> None:
    assert run.main(["export", str(trained["discrete"]), "--format", "torchscript"]) == 0
    told = json.loads((trained["discrete"] / "exported" / "policy_2.json").read_text())
    assert told["action"]["values"] == "one of 2 choices, a whole number in one column"
    assert "terms" not in told["obs"]


def test_a_file_in_the_way_is_told(trained: dict[str, Path], tmp_path: Path) -> None:
    loaded = load_run(RunDir.open(trained["lift"]), None, num_envs=3, device="cpu", num_threads=1)
    (tmp_path / "exported").touch()
    with pytest.raises(UserError, match="exported is a file"):
        export.export(loaded, tmp_path / "exported", "torchscript")
    loaded.env.close()


def test_a_file_that_acts_differently_is_not_written(
    trained: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_run(RunDir.open(trained["lift"]), None, num_envs=3, device="cpu", num_threads=1)

    def wrong(module: Any, example: Any) -> tuple[bytes, Any]:
        return b"", lambda obs: module(obs) + 0.01

    monkeypatch.setitem(export.FORMATS, "onnx", (".onnx", wrong))
    with pytest.raises(UserError, match=r"differ by up to 0\.01: not written"):
        export.export(loaded, tmp_path / "exported", "onnx")
    assert not list(tmp_path.rglob("policy*"))
    loaded.env.close()


def test_without_the_extra_it_is_told_how_to_get_it(
    trained: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert run.main(["export", str(trained["lift"])]) == 2
    told = capsys.readouterr().err
    assert "pip install -c constraints.txt -e '.[export]'" in told
    assert "--format torchscript" in told
