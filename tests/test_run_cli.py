"""`run.py` as a user types it. Training itself is replaced by a stand-in that notes how it was called."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

import run
from rl_platform.errors import NonFiniteError, UserError
from rl_platform.run_dir import RunDir

ROOT = Path(__file__).resolve().parent.parent
Calls = list[tuple[DictConfig, RunDir]]


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> types.SimpleNamespace:
    """In an empty directory, a stand-in for `rl_platform.train`; `then` is what a training does."""
    monkeypatch.chdir(tmp_path)
    stand_in = types.SimpleNamespace(calls=[], then=lambda cfg: 0)

    def train(cfg: DictConfig, run_dir: RunDir) -> int:
        stand_in.calls.append((cfg, run_dir))
        run_dir.begin()
        run_dir.save_config(cfg)
        status: int = stand_in.then(cfg)
        run_dir.update_state(state="finished")
        return status

    module = types.ModuleType("rl_platform.train")
    module.train = train  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "rl_platform.train", module)
    return stand_in


def run_py(*argv: str, cwd: Path, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run `python run.py` in a process of its own."""
    command = [sys.executable, *options, str(ROOT / "run.py"), *argv]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    "argv",
    [
        ["--help"],
        ["list", "envs"],
        ["env=lift", "agent=ppo", "--cfg", "job", "--resolve"],
        ["env=lift", "+algo.gama=1"],
    ],
)
def test_what_needs_no_torch_does_not_import_it(argv: list[str], tmp_path: Path) -> None:
    done = run_py(*argv, cwd=tmp_path, options=("-X", "importtime"))
    imported = {
        line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "import time:" in line
    }
    assert {"rl_platform", "rl_platform.commands"} <= imported
    assert not imported & {"torch", "mujoco", "matplotlib", "wandb", "tensorboard", "gymnasium"}


def test_the_whole_configuration_is_printed(tmp_path: Path) -> None:
    done = run_py("seed=7", "--cfg", "job", "algo.gamma=0.5", "--resolve", cwd=tmp_path)
    assert done.returncode == 0
    cfg = OmegaConf.create(done.stdout)
    assert isinstance(cfg, DictConfig)
    assert (cfg.seed, cfg.algo.gamma, cfg.env.name) == (7, 0.5, "lift")
    assert "hydra" not in cfg
    assert list(tmp_path.iterdir()) == []


def test_a_part_of_the_configuration_is_printed(train: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--cfg", "job", "-p", "algo.gamma", "algo.gamma=0.5"]) == 0
    assert capsys.readouterr().out == "0.5\n"
    assert run.main(["--cfg", "job", "-p", "nothing"]) == 2
    assert run.main(["--cfg", "hydra", "-p", "hydra.job"]) == 0
    assert "override_dirname" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["env=lfit"], "did you mean env=lift?"),
        (["-m", "seed=1,2", "algo.gamma=0.9,1.5"], "algo.gamma: must be in [0, 1], got 1.5"),
        (["resume=nowhere"], "nowhere"),
        (["device=0"], "write device=cuda:0"),
    ],
)
def test_a_refused_command_leaves_nothing_behind(argv: list[str], told: str, tmp_path: Path) -> None:
    """In a process of its own: the exit status, no traceback, no directory."""
    done = run_py(*argv, cwd=tmp_path)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["--env", "lift"], "write env=lift"),
        (["--env=lift"], "write env=lift"),
        (["--num-envs", "64"], "write env.num_envs=64"),
        (["--seed", "3", "env=lift"], "write seed=3"),
        (["--lr=1"], "did you mean algo.learning_rate=1?"),
        (["--task", "Isaac-Cartpole-v0"], "did you mean env=cartpole?"),
        (["--headless", "lift_object"], "lift_object is called lift_isaac here"),
        (["--headless", "lift_object"], "write headless=true"),
        (["--headless", "--distributed", "lift_object"], "write env=lift_isaac"),
        (["--distributed", "lift_object"], "write launcher=distributed launcher.num_processes=N"),
        (["--headless", "--num_envs", "4", "lift_object"], "write env=lift_isaac"),
        (["--headless", "1"], "write headless=true"),
        (["--headless=false"], "write headless=false"),
        (["--video", "lift_object"], "write video_interval=50: in iterations"),
        (["--video", "lift_object"], "write env=lift_isaac"),
        (["--video", "false"], "write video=false"),
        (["--resume"], "write resume=RUN: a run directory"),
        (["--resume", "outputs/x"], "write resume=outputs/x"),
        (["resume=true"], "write resume=RUN, a run directory"),
        (["--use_last_checkpoint"], "python run.py play RUN plays the last one"),
        (["--logdir", "outputs"], "python -m tensorboard.main --logdir outputs"),
        (["--enable_cameras"], "leave it out: pictures are rendered"),
        (["--real-time"], "python run.py play RUN --viewer native or web"),
        (["--keep_all_info"], "leave it out: all that an environment tells is logged"),
        (
            ["--livestream", "2"],
            "write headless=false; a trained policy: python run.py play RUN --viewer web",
        ),
        (["--cpu", "lift_object"], "write device=cpu"),
        (["--wandb"], "write logger=[tensorboard,wandb]"),
        (["--ml_framework", "torch"], "leave it out: it is PyTorch"),
        (["--config", "x.json"], "files of your own are options: --config-dir DIR"),
        (["--agent_cfg_path", "x.json"], "files of your own are options: --config-dir DIR"),
        (["--action_scale", "0.1", "env=cartpole"], "write env.actions.cart.scale=0.1"),
        (["--task", "Isaac-Velocity-Rough-v0"], "write env=NAME; there are ant, cartpole"),
        (["--algo", "what"], "write algo=NAME"),
        (["--normalize_input"], "did you mean agent.normalize_obs=true?"),
        (["render", "RUN"], "write play RUN"),
        (["watch", "RUN"], "write play RUN"),
        (["test", "RUN"], "write play RUN"),
        (["tune"], "write -m … sweeper=optuna"),
        (["list", "tasks"], "did you mean envs?"),
        (["list", "env"], "did you mean envs?"),
        (["list", "logger"], "did you mean loggers?"),
        (["list", "nothing"], "there are envs, agents"),
        (["eval", "RUN", "--headless"], "leave it out: there is a window with play --viewer native only"),
        (["play", "RUN", "--real-time"], "leave it out: play --viewer native and --viewer web"),
        (["eval", "RUN", "--livestream", "2"], "write play RUN --viewer web"),
        (["play", "RUN", "--enable_cameras"], "leave it out: pictures are rendered"),
        (["play", "RUN", "--video_length", "200"], "write play RUN --video --steps N"),
        (["play", "--task", "Isaac-Cartpole-v0", "--num_envs", "2"], "without a policy: play env=NAME"),
        (["--env", "Ant-v5"], "did you mean env=ant?"),
        (["--distributed"], "write launcher=distributed"),
        (["eval", "RUN", "num_envs=4"], "write --num-envs 4"),
        (["play", "RUN", "--num_envs", "4", "--use_last_checkpoint"], "RUN: there is no such run"),
        (["eval", "RUN", "--checkpoint", "somewhere/checkpoints/model_7.pt"], "RUN: there is no such run"),
        (["eval", "RUN", "--checkpoint", "somewhere/model.pt"], "must be last, best or an iteration"),
        (["-x"], "settings are written key=value"),
        (["env", "=", "lift"], "no blanks around its ="),
        (["lift"], "write env=lift"),
        (["lst", "runs"], "did you mean list?"),
        (["resume", "outputs/x"], "write resume=…"),
        (["num_env=4"], "did you mean env.num_envs=4 or eval.num_envs=4?"),
        (["list", "envs", "--config-dir", "nowhere"], "there is no such directory"),
        (["--cfg", "jobs"], "invalid choice"),
        (["-m", "resume=x"], "leave out -m"),
        (["-m", "seed=1,2", "--cfg", "job"], "--cfg shows one run"),
        (["help", "env=lfit"], "did you mean env=lift?"),
        (["help", "envs"], "the groups are env, agent"),
    ],
)
def test_slips_of_the_tongue(
    train: Any, capsys: pytest.CaptureFixture[str], argv: list[str], told: str
) -> None:
    assert run.main(argv) == 2
    assert told in capsys.readouterr().err
    assert train.calls == []


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"], ["help"], ["--help", "-m"]])
def test_help(train: Any, capsys: pytest.CaptureFixture[str], argv: list[str]) -> None:
    assert run.main(argv) == 0
    assert "Train robot policies" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "command"),
    [
        (
            ["--task", "Isaac-Lift-Cube-Franka-v0", "--headless", "--num_envs", "4096", "seed=3"],
            "seed=3 env=lift_isaac headless=true env.num_envs=4096",
        ),
        (["--env=lift", "--video"], "env=lift video_interval=50"),
        (["--headless", "lift_object"], "headless=true env=lift_isaac"),
        (["--env=lift", "--distributed"], None),  # on how many processes?
        (["--env=lift", "--keep_all_info"], None),
        (["--env=lift", "algo.gama=1"], None),  # looked at when the flags are right
        (["--env=lift", "zzz=1"], None),
    ],
)
def test_settings_written_as_flags_are_told_as_one_command(
    train: Any, capsys: pytest.CaptureFixture[str], argv: list[str], command: str | None
) -> None:
    assert run.main(argv) == 2
    told = capsys.readouterr().err
    found = re.search(r"\nAll at once: .*run\.py (.*)\n", told)
    assert (found and found[1]) == command


def test_help_on_an_option_shows_its_file(train: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["help", "algo=ppo", "logger=wandb"]) == 0
    out = capsys.readouterr().out
    assert "gamma: " in out
    assert "project: " in out


def test_help_on_a_task_shows_what_it_is_trained_with(train: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["env=lift", "--help"]) == 0
    task, ppo, gpu = capsys.readouterr().out.split("# ---- conf/")[1:]
    assert task.startswith("env/lift.yaml: type its keys with env. before them")
    assert ppo.startswith("tuned/lift_ppo.yaml: with algo=ppo these come before the above")
    assert "num_envs: 256" in ppo
    assert gpu.startswith("tuned/lift_ppo_gpu.yaml: with algo=ppo where a GPU simulates")


@pytest.mark.parametrize("word", [[], ["train"]])
def test_a_run_is_trained_in_a_directory_of_its_own(train: Any, tmp_path: Path, word: list[str]) -> None:
    assert run.main([*word, "env=lift", "agent=ppo", "seed=-1", "max_iterations=3"]) == 0
    ((cfg, run_dir),) = train.calls
    assert cfg.max_iterations == 3
    assert cfg.seed >= 0
    assert cfg.resume is None
    assert run_dir.path.parent == Path("outputs/lift/ppo")
    assert run_dir.path.name.endswith(f"_s{cfg.seed}")
    state = run_dir.read_state()
    assert [state[key] for key in ("env", "agent", "algo", "seed")] == ["lift", "ppo", "ppo", cfg.seed]
    assert run_dir.load_config() == cfg
    assert Path.cwd() == tmp_path
    assert not list(tmp_path.rglob(".hydra")) + list(tmp_path.rglob("*.log"))


@pytest.mark.parametrize(
    ("argv", "extra"),
    [
        (["-m", "env=cartpole", "sweeper=optuna", "algo.learning_rate=interval(1e-4,1e-2)"], "optuna"),
        (["env=cartpole", "launcher=slurm"], "slurm"),
        (["env=cartpole", "env.physics=warp"], "gpu"),
    ],
)
def test_an_extra_that_is_missing_is_told_before_anything_is_made(
    train: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    argv: list[str],
    extra: str,
) -> None:
    find = importlib.util.find_spec
    optional = ("optuna", "submitit", "mujoco_warp")
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, package=None: None if name in optional else find(name, package),
    )
    assert run.main(argv) == 2
    assert f"pip install -c constraints.txt -e '.[{extra}]'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_two_runs_never_share_a_directory(train: Any) -> None:
    for _ in range(5):
        assert run.main(["seed=1"]) == 0
    assert len({run_dir.path for _, run_dir in train.calls}) == 5


def test_the_exit_status_is_that_of_the_training(train: Any, capsys: pytest.CaptureFixture[str]) -> None:
    train.then = lambda cfg: 130
    assert run.main([]) == 0  # the help page
    assert run.main(["env=lift"]) == 130

    def refuse(cfg: DictConfig) -> int:
        raise UserError("the disk is full")

    def nan(cfg: DictConfig) -> int:
        raise NonFiniteError("reward 'reaching' is nan")

    def interrupt(cfg: DictConfig) -> int:
        raise KeyboardInterrupt

    for then, status, told in ((refuse, 2, "the disk is full"), (nan, 1, "is nan"), (interrupt, 130, "")):
        train.then = then
        assert run.main(["env=lift"]) == status
        assert told in capsys.readouterr().err


@pytest.fixture
def old_run(train: Any) -> Path:
    """A run that has ended."""
    assert run.main(["env=lift", "env.num_envs=16", "max_iterations=5"]) == 0
    path = train.calls.pop()[1].path
    return Path(path)


def test_a_run_is_resumed_with_its_own_configuration(train: Any, old_run: Path) -> None:
    overrides = ["max_iterations=9", "eval.episodes=8", "logger=none", "device=cpu"]
    assert run.main([f"resume={old_run}", *overrides]) == 0
    ((cfg, run_dir),) = train.calls
    assert run_dir.path == old_run
    assert (cfg.max_iterations, cfg.env.num_envs, cfg.eval.episodes) == (9, 16, 8)
    assert cfg.logger == {}
    assert cfg.resume == str(old_run)


def test_a_resumed_run_may_be_given_other_loggers_and_their_keys(train: Any, old_run: Path) -> None:
    overrides = ["logger=[files,wandb]", "logger.wandb.mode=offline", "max_iterations=9"]
    assert run.main([f"resume={old_run}", *overrides]) == 0
    ((cfg, _),) = train.calls
    assert set(cfg.logger) == {"files", "wandb"}
    assert cfg.logger.wandb.mode == "offline"
    assert cfg.max_iterations == 9


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("env=lift", "a resumed run keeps its env"),
        ("env.num_envs=64", "a resumed run keeps its env"),
        ("agent.actor.hidden_sizes=[8]", "a resumed run keeps its agent"),
        ("algo.gamma=0.5", "a resumed run keeps its algo"),
        ("seed=3", "a resumed run keeps its seed"),
        ("max_iteration=9", "did you mean max_iterations=9?"),
        ("max_iterations=-1", "max_iterations: must be at least 1, got -1"),
        ("max_iterations=x", "max_iterations: must be a whole number or null, got x"),
        ("logger=wnb", "did you mean logger=wandb?"),
        ("max_iterations=1,2", "one value for each key"),
        ("logger=[]", "logger"),
        ("what", "is no command and no key=value"),
    ],
)
def test_what_a_resumed_run_may_not_change(
    train: Any, old_run: Path, capsys: pytest.CaptureFixture[str], override: str, told: str
) -> None:
    before = (old_run / "config.yaml").read_text()
    assert run.main([f"resume={old_run}", override]) == 2
    assert told in capsys.readouterr().err
    assert train.calls == []
    assert (old_run / "config.yaml").read_text() == before


def test_a_finished_run_is_not_trained_again_without_a_higher_limit(
    train: Any, old_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    RunDir.open(old_run).update_state(iteration=5, env_steps=1920)
    assert run.main([f"resume={old_run}"]) == 2
    told = capsys.readouterr().err
    assert "is finished: max_iterations=5 reached" in told
    assert told.rstrip().endswith(f"resume={old_run} max_iterations=10")
    assert run.main([f"resume={old_run}", "max_iterations=6"]) == 0


def test_a_typed_limit_takes_the_place_of_a_runs_own(train: Any, old_run: Path) -> None:
    assert run.main([f"resume={old_run}", "total_env_steps=4000"]) == 0
    cfg = train.calls[-1][0]
    assert (cfg.max_iterations, cfg.total_env_steps, cfg.stop_after_s) == (None, 4000, None)


def test_a_wall_time_is_of_one_sitting(train: Any, old_run: Path) -> None:
    assert run.main([f"resume={old_run}", "stop_after_s=8"]) == 0
    cfg = train.calls[-1][0]
    assert (cfg.max_iterations, cfg.stop_after_s) == (5, 8.0), "what the run was to come to stays"


def test_a_checkpoint_that_is_gone_is_told_with_those_that_there_are(
    train: Any, old_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    RunDir.open(old_run).save_checkpoint({"iteration": 4, "env_steps": 9}, 4)
    assert run.main([f"resume={old_run}/checkpoints/model_3.pt"]) == 2
    assert "There is no checkpoint" in (told := capsys.readouterr().err)
    assert "This run has last, 4." in told


def test_a_run_that_reached_its_score_is_not_trained_again_before_that_is_taken_away(
    train: Any, old_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = RunDir.open(old_run)
    cfg = run_dir.load_config()
    cfg.score_to_win, cfg.max_iterations = 20.0, 100
    run_dir.save_config(cfg)
    run_dir.update_state(iteration=5, env_steps=1920)
    run_dir.summary_json.write_text('{"stopped_by": "score_to_win=20 reached: mean return 21"}')
    assert run.main([f"resume={old_run}"]) == 2
    assert capsys.readouterr().err.rstrip().endswith(f"resume={old_run} score_to_win=null")
    assert run.main([f"resume={old_run}", "score_to_win=null"]) == 0


def test_going_on_from_an_earlier_checkpoint_keeps_what_came_after(
    train: Any, old_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = RunDir.open(old_run)
    for iteration in (2, 4, 5):
        directory.save_checkpoint({"iteration": iteration, "env_steps": 100 * iteration}, iteration)
    directory.save_checkpoint({"iteration": 1, "env_steps": 100}, 1, best=True)
    directory.update_state(iteration=5, env_steps=500)
    directory.metrics_jsonl.write_text('{"env_steps": 500}\n')
    earlier = old_run / "checkpoints" / "model_2.pt"

    assert run.main([f"resume={earlier}"]) == 0
    cfg, resumed = train.calls[-1]
    assert cfg.resume == str(old_run)
    assert resumed.load_checkpoint()["iteration"] == 2, "whoever opens the run goes on from there"
    assert resumed.load_checkpoint("best")["iteration"] == 1
    aside = old_run / "after_2"
    assert f"{aside} now: last.pt, model_4.pt, model_5.pt" in capsys.readouterr().out
    assert {path.name for path in aside.iterdir()} == {"model_4.pt", "model_5.pt", "last.pt", "metrics.jsonl"}

    later = aside / "model_5.pt"
    assert RunDir.open(later).load_checkpoint()["iteration"] == 5, "it can still be played"
    assert run.main([f"resume={later}"]) == 2, "the limit of 5 iterations is reached there"
    assert run.main([f"resume={later}", "max_iterations=7"]) == 0
    assert resumed.load_checkpoint()["iteration"] == 5
    assert run.main([f"resume={earlier}"]) == 0
    assert (old_run / "after_2_2").is_dir(), "nothing that was put aside is overwritten"


def test_keys_that_came_after_a_run_are_filled_in(
    train: Any, old_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = old_run / "config.yaml"
    cfg = RunDir.open(old_run).load_config()
    del cfg.algo["bounds_loss_coef"], cfg.env.events["start_grasped"], cfg["headless"]
    OmegaConf.save(cfg, path)
    assert run.main([f"resume={old_run}", "max_iterations=9"]) == 0
    ((cfg, _),) = train.calls
    assert (cfg.algo.bounds_loss_coef, cfg.headless) == (0.0, True)
    assert cfg.env.events.start_grasped == {"probability": 0.1}
    assert (cfg.env.num_envs, cfg.algo.gamma) == (16, 0.95), "what the run does know stays"
    told = capsys.readouterr().err
    assert "headless=True" in told
    assert "algo.bounds_loss_coef=0.0" in told


def test_resuming_shows_its_configuration(
    train: Any, old_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.main([f"resume={old_run}", "max_iterations=9", "--cfg", "job"]) == 0
    assert "max_iterations: 9" in capsys.readouterr().out
    assert train.calls == []


def test_options_of_ones_own_are_listed_and_shown(
    train: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own" / "env").mkdir(parents=True)
    (tmp_path / "own" / "env" / "juggle.yaml").write_text("# Juggle three balls.\nname: my.juggle\n")
    own = ["--config-dir", str(tmp_path / "own")]
    for argv in (["list", "envs"], ["help"], ["--help"]):
        assert run.main([*argv, *own]) == 0
        assert re.search(r"juggle +Juggle three balls\.", capsys.readouterr().out)
        assert run.main([*own, *argv]) == 0, "the flag may come before the command"
        assert re.search(r"juggle +Juggle three balls\.", capsys.readouterr().out)
    assert run.main(["help", "env=juggle", *own]) == 0
    assert "name: my.juggle" in capsys.readouterr().out


def test_list_shows_options_and_runs(
    train: Any, old_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = RunDir.open(old_run)
    run_dir.update_state(iteration=5, env_steps=12345)
    run_dir.summary_json.write_text(json.dumps({"eval": {"success_rate": 0.987}}))
    assert run.main(["list"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"envs\n(  .*\n)*  lift +\w", out)
    assert re.search(r"agents\n(  .*\n)*  ppo +\w", out)
    assert re.search(r"loggers\n(  .*\n)*  wandb +\w", out)
    line = out.splitlines()[-1].split()
    assert line[:6] == ["finished", "lift", "ppo", "42", "5", "12,345"]
    assert line[6:8] == ["98.7", "%"]
    assert line[-1] == str(old_run)
    (tmp_path / "outputs" / "lost").mkdir()
    (tmp_path / "outputs" / "lost" / "run.json").touch()  # after a power failure
    assert run.main(["list", "runs"]) == 0
    lost, other = capsys.readouterr().out.splitlines()[-2:]
    assert lost.split()[0] == "lost"
    assert other.split()[0] == "finished", "one that is lost does not hide the others"
    shutil.rmtree(tmp_path / "outputs" / "lost")
    assert run.main(["list", "runs", "nowhere"]) == 0
    assert "none" in capsys.readouterr().out
    assert run.main(["list", "runs", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["runs"]
    assert (row["state"], row["success_rate"], row["run"]) == ("finished", 0.987, str(old_run))


def test_list_says_why_a_run_failed(train: Any, old_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    RunDir.open(old_run).update_state(state="failed", error="reward dial has the shape (3,)\nand more")
    assert run.main(["list", "runs"]) == 0
    table, why = capsys.readouterr().out.splitlines()[-2:]
    assert "dial" not in table
    assert why == f"  {old_run} failed: reward dial has the shape (3,) …"
    assert run.main(["list", "runs", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"][0]["error"].endswith("and more")


def test_a_killed_run_is_not_called_running(
    train: Any, old_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = json.loads((old_run / "run.json").read_text()) | {"state": "running"}
    (old_run / "run.json").write_text(json.dumps(text))
    assert run.main(["list", "runs"]) == 0
    assert "killed" in capsys.readouterr().out


def test_a_reader_that_stops_early_is_no_error(tmp_path: Path) -> None:
    command = f"{sys.executable} {ROOT / 'run.py'} --help | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stderr == ""


def test_run_py_works_from_any_directory(tmp_path: Path) -> None:
    """The configuration is that of the clone; the outputs go where the user is."""
    done = run_py("list", "algos", cwd=tmp_path)
    assert done.returncode == 0
    assert "ppo" in done.stdout
