"""The GPU's benchmark, as far as it goes without one."""

from __future__ import annotations

import pytest
import torch

from benchmarks import gpu


def test_without_a_gpu_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "benchmarks.gpu: this machine has no CUDA device; nothing was measured (--smoke tries the code)"
    ]


def test_what_no_time_is_left_for_is_not_begun() -> None:
    table = gpu.Table(budget_s=10.0)
    table.add("short", 5, lambda: "1")
    table.add("long", 60, lambda: pytest.fail("begun"))
    assert table.rows[0] == ("short", "1")
    assert table.rows[1][1].startswith(gpu.NOT_MEASURED)


@pytest.mark.slow
def test_in_miniature_every_row_has_its_figures(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("mujoco_warp", reason="MuJoCo Warp is not installed: pip install -e '.[gpu]'")
    assert gpu.main(["--smoke"]) == 0
    out = capsys.readouterr().out
    assert gpu.NOT_MEASURED not in out
    for num_envs in (4, 8):
        assert f"| cartpole, {num_envs} environments | bare " in out
        assert f"| cartpole, {num_envs} environments, training | " in out


@pytest.mark.slow
def test_sizes_are_measured_with_a_margin(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("mujoco_warp", reason="MuJoCo Warp is not installed: pip install -e '.[gpu]'")
    assert gpu.main(["--sizes", "walker12", "--num-envs", "4", "--steps", "10"]) == 0
    out = capsys.readouterr().out
    assert "walker12: at most {nconmax: " in out
    room = int(out.split("env.warp={nconmax: ")[1].split(",")[0])
    assert room % 8 == 0
    assert room > 0
