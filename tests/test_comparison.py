"""Comparisons of made-up runs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

import run
from rl_platform.comparison import as_json, cautions, compare, find_runs, report, table
from rl_platform.config import compose
from rl_platform.errors import UserError
from rl_platform.plots import compared
from rl_platform.run_dir import RunDir

_CFG = {name: compose([f"env={name}", "agent=ppo"]) for name in ("cartpole", "half_cheetah")}


def made(path: Path, name: str, score: float | None, *overrides: str, **changes: Any) -> RunDir:
    """A run of a task that ended with a score, or `failed` without one."""
    said: dict[str, Any] = {"env": "cartpole", "steps": 1000, "cpu": "i8086", "commit": "a", "dirty": False}
    said |= changes
    cfg = OmegaConf.merge(_CFG[said["env"]], OmegaConf.from_dotlist(list(overrides)))
    one = RunDir.create(path, name, cfg)
    git = {"commit": said["commit"], "dirty": said["dirty"]}
    state = "failed" if score is None else "finished"
    one.update_state(state=state, env=said["env"], cpu=said["cpu"], git=git)
    if score is None:
        return one
    key = "success_rate" if said["env"] == "cartpole" else "return_mean"
    rows = [
        {"env_steps": n, "Time/wall_s": n / 100, f"Train/{metric}": n / 1000 * score}
        for n in range(100, said["steps"] + 1, 100)
        for metric in ("success_rate" if key == "success_rate" else "mean_reward",)
    ]
    one.metrics_jsonl.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = {key: score, "episodes": 64, "seed": 12345}
    summary = {"eval": result, "env_steps": said["steps"], "wall_time_s": said["steps"] / 100}
    one.summary_json.write_text(json.dumps(summary))
    return one


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two settings, four seeds each."""
    for seed in (1, 2, 3, 4):
        made(tmp_path, f"a{seed}", 0.9 + seed / 100, f"seed={seed}")
        made(tmp_path, f"b{seed}", 0.5 + seed / 10, f"seed={seed}", "algo.gamma=0.5", f"run_name=b{seed}")
    return tmp_path


def test_runs_that_differ_in_their_seeds_are_one_setting(runs: Path) -> None:
    (found,) = compare(find_runs([runs]))
    best, other = found.rated
    assert [setting.values for setting in found.rated] == [{"algo.gamma": "0.99"}, {"algo.gamma": "0.5"}]
    assert best.scores("success_rate").tolist() == pytest.approx([0.91, 0.92, 0.93, 0.94])
    assert len(other.members) == 4
    assert list(cautions(found)) == []
    lines = table(found).splitlines()
    assert lines[0].split()[:2] == ["gamma", "n"]
    assert lines[1].split()[:3] == ["0.99", "4", "92.5"]
    assert lines[2].endswith("0 % (0 to 0)")


def test_what_is_asked_for_makes_the_settings(runs: Path) -> None:
    (found,) = compare(find_runs([runs]), ["agent"])
    assert [setting.values for setting in found.settings] == [{"agent.name": "ppo"}]
    assert len(found.settings[0].members) == 8
    (found,) = compare(find_runs([runs]), ["seed", "algo.gamma"])
    assert len(found.settings) == 8
    (found,) = compare(find_runs([runs]), ["gamma"])
    assert [setting.values for setting in found.rated] == [{"algo.gamma": "0.99"}, {"algo.gamma": "0.5"}]
    for wrong in ("algo.gama", "gama"):
        with pytest.raises(UserError, match=rf"--by {wrong}: no run has this .* mean algo\.gamma\?"):
            compare(find_runs([runs]), [wrong])
    with pytest.raises(UserError, match=r"--by hidden_sizes: which of agent\.actor\.hidden_sizes, "):
        compare(find_runs([runs]), ["hidden_sizes"])


def test_what_is_switched_off_in_some_runs_makes_a_setting(tmp_path: Path) -> None:
    """A term with numbers against null, and a setting that only some have."""
    on = "env.events.cart_mass.range=[0.5,2.0]"
    made(tmp_path, "off", 0.9, "env.events.cart_mass=null")
    made(tmp_path, "on", 0.8, on)
    made(tmp_path, "seen", 0.7, on, "env.observations.policy.joint_pos.history_steps=3")
    (found,) = compare(find_runs([tmp_path]))
    history = "env.observations.policy.joint_pos.history_steps"
    assert [setting.values for setting in found.rated] == [
        {"env.events.cart_mass": "null", history: "–"},
        {"env.events.cart_mass": "{range: [0.5,2.0]}", history: "–"},
        {"env.events.cart_mass": "{range: [0.5,2.0]}", history: "3"},
    ]


def test_environments_are_not_compared_with_each_other(runs: Path) -> None:
    made(runs, "c1", 4000.0, "seed=1", env="half_cheetah")
    first, second = compare(find_runs([runs]), ["algo.gamma"])
    assert (first.env, first.metric) == ("cartpole", "success_rate")
    assert (second.env, second.metric) == ("half_cheetah", "return_mean")
    assert [setting.label for setting in first.rated] == ["gamma=0.99", "gamma=0.5"]


def test_long_names_become_letters_that_are_explained(runs: Path) -> None:
    keys = ["algo.gamma", "algo.learning_rate", "algo.clip_coef", "agent.actor.hidden_sizes"]
    (found,) = compare(find_runs([runs]), keys)
    assert [setting.label for setting in found.rated] == ["A", "B"]
    told = report(found)
    assert "\n  B: algo.gamma=0.5 algo.learning_rate=" in told
    assert max(map(len, table(found).splitlines())) < 110


def test_what_to_beware_of_is_said(runs: Path) -> None:
    made(runs, "b5", None, "seed=5", "algo.gamma=0.5")
    made(runs, "b6", 0.6, "seed=1", "algo.gamma=0.5", steps=600)
    made(runs, "c1", 0.99, "seed=1", "algo.gamma=0.7", steps=500, cpu="Z80", commit="b", dirty=True)
    made(runs, "c2", math.nan, "seed=2", "algo.gamma=0.7")
    (found,) = compare(find_runs([runs]))
    told = list(cautions(found))
    for words in (
        "gamma=0.5: not counted, for want of a final evaluation: 1 failed",
        "gamma=0.7: not counted, for want of a final evaluation: 1 not finite",
        "fewer than 3 runs, too few to tell luck from merit: gamma=0.7",
        "gamma=0.5: the same seed more than once: 1",
        "gamma=0.5: its runs were trained for 600 to 1000 steps",
        "gamma=0.7: trained for 500 steps, others for 1000",
        "wall times are of different processors",
        "not the same seeds of every setting",
        "runs of different commits",
        "code that was not committed",
    ):
        assert sum(words in caution for caution in told) == 1, words
    assert len(told) == 10


def test_what_differs_besides_is_told(runs: Path) -> None:
    (found,) = compare(find_runs([runs]), ["agent"])
    assert "runs differ in more than what is compared: algo.gamma" in list(cautions(found))
    made(runs, "a5", 0.9, "seed=5", "env.num_envs=7")
    (found,) = compare(find_runs([runs]), ["algo.gamma"])
    assert "runs differ in more than what is compared: env.num_envs" in list(cautions(found))


def test_a_key_that_came_later_is_no_difference(runs: Path) -> None:
    config = runs / "a1" / "config.yaml"
    config.write_text("".join(line for line in config.open() if "noise_correlation" not in line))
    (found,) = compare(find_runs([runs]))
    assert {key for setting in found.settings for key in setting.values} == {"algo.gamma"}


def test_a_run_that_cannot_be_read_is_left_out(runs: Path) -> None:
    (runs / "a1" / "config.yaml").unlink()
    told: list[str] = []
    (found,) = compare(find_runs([runs]), say=told.append)
    assert len(found.rated[0].members) == 3
    assert "a1" in told[0]


def test_without_an_evaluation_there_is_nothing_to_compare(tmp_path: Path) -> None:
    made(tmp_path, "a1", None)
    with pytest.raises(UserError, match=r"None of these runs has a final evaluation: .*\(1 failed\)"):
        compare(find_runs([tmp_path]))
    with pytest.raises(UserError, match="there is no run here"):
        find_runs([tmp_path / "nowhere"])


def test_the_command_prints_draws_and_overwrites_nothing(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (runs / "b2" / "metrics.jsonl").unlink()
    assert run.main(["compare", str(runs / "a1"), str(runs / "a2"), str(runs)]) == 0
    told = capsys.readouterr().out
    assert told.startswith("cartpole: success rate of the final evaluations\n")
    (picture,) = (tmp_path / "outputs" / "compare").glob("*/cartpole.png")
    assert str(picture.relative_to(tmp_path)) in told
    assert "not drawn, for want of logged episodes: 1 run" in told
    assert picture.read_bytes()[:4] == b"\x89PNG"
    lines = picture.with_suffix(".csv").read_text().splitlines()
    assert lines[0] == "setting,seed,run,env_steps,wall_s,Train/success_rate"
    assert len(lines) == 1 + 7 * 10, "each run once, whatever it is named by"
    for taken, why in ((picture.parent, "nothing is overwritten"), (picture, "this is a file")):
        assert run.main(["compare", str(runs), "--out", str(taken)]) == 2
        assert why in capsys.readouterr().err
    assert run.main(["compare", str(runs), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["comparisons"]
    assert found == json.loads(json.dumps(as_json(compare(find_runs([runs]))[0])))
    assert found["settings"][1]["beats_best"] == 0.0


def test_without_curves_the_table_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (made(tmp_path, "a1", 0.5).metrics_jsonl).unlink()
    assert run.main(["compare", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    assert "No curves of cartpole: no run logged Train/success_rate" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_evaluations_on_the_way_are_drawn_where_all_runs_made_some(tmp_path: Path) -> None:
    runs = [made(tmp_path, f"a{seed}", 0.5, f"seed={seed}") for seed in (1, 2, 3)]
    drawn = {}
    for count in (2, 3):
        for one in runs[:count]:
            with one.metrics_jsonl.open("a") as file:
                for n in (1100, 1200):
                    row = {"env_steps": n, "Time/wall_s": n / 100, "Eval/success_rate": 0.5}
                    file.write(json.dumps(row) + "\n")
        path = tmp_path / f"{count}.png"
        assert compared("a title", {"all": runs}, "success_rate", path) == []
        drawn[count] = path.with_suffix(".csv").read_text().splitlines()[0]
    assert drawn[2].endswith(",Train/success_rate")
    assert drawn[3].endswith(",Eval/success_rate")
