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
    assert "| cartpole, 8 environments, training | " in out
    for name in ("cartpole, 4 environments, 3 seeds", "cartpole, device=cpu, 3 seeds"):
        assert f"| {name} | 95 % after never, never, never s; final " in out
    assert "| the same success on both (95 % intervals) | " in out
    assert "| cartpole, 4 environments | 95 % after never of " in out


@pytest.mark.slow
def test_only_the_wanted_rows_are_measured(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("mujoco_warp", reason="MuJoCo Warp is not installed: pip install -e '.[gpu]'")
    assert gpu.main(["--smoke", "--rows", "humanoid"]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| cartpole")]
    assert len(rows) == 1
    assert rows[0].startswith("| cartpole, 4 environments | 95 % after never of ")


@pytest.mark.parametrize(("other", "told"), [((0.9, 0.96), "yes"), ((0.8, 0.93), "NO")])
def test_whether_two_intervals_agree(other: tuple[float, float], told: str) -> None:
    assert gpu.agreement({"GPU": (0.95, 0.99), "CPU": other}).startswith(f"{told}: GPU 95.0 to 99.0 %, CPU ")
    assert gpu.agreement({"GPU": (0.95, 0.99)}).startswith(gpu.NOT_MEASURED)


@pytest.mark.slow
def test_sizes_are_measured_with_a_margin(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("mujoco_warp", reason="MuJoCo Warp is not installed: pip install -e '.[gpu]'")
    assert gpu.main(["--sizes", "walker12", "--num-envs", "4", "--steps", "10"]) == 0
    out = capsys.readouterr().out
    assert "walker12: at most {nconmax: " in out
    room = int(out.split("env.warp={nconmax: ")[1].split(",")[0])
    assert room % 8 == 0
    assert room > 0
