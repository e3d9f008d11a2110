"""The page in a browser: what is served, to whom, and what its user's wishes do.

One page for all tests: MuJoCo's library does not survive the end of a process that has had two.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import mujoco
import numpy as np
import pytest
import torch
from mujoco.experimental.studio import messages, sim

import run
from rl_platform.assemble import build_env
from rl_platform.commands import play
from rl_platform.config import compose
from rl_platform.envs.base import Controls, Page
from rl_platform.envs.env import Env
from rl_platform.envs.web_viewer import WebViewer
from rl_platform.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def env() -> Iterator[Env]:
    env = build_env(compose(["env=push_cube"]), num_envs=2, seed=0, num_threads=1)
    assert isinstance(env, Env)
    with contextlib.closing(env):
        yield env


@pytest.fixture(scope="module")
def viewer(env: Env) -> Iterator[WebViewer]:
    env.reset(0)
    viewer = env.viewer(Page(port=free_port()))
    assert isinstance(viewer, WebViewer)
    with contextlib.closing(viewer):
        yield viewer


@pytest.fixture(autouse=True)
def start(env: Env) -> None:
    env.reset(0)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def paused(state: sim.PauseState, speed: float = 100.0) -> messages.StepControlSnapshot:
    return messages.StepControlSnapshot(pause_state=state, speed=speed, noise_scale=0.0, noise_rate=0.0)


def port_of(viewer: WebViewer) -> int:
    return int(viewer.invitation.partition("localhost:")[2].split()[0])


def test_the_scene_with_its_looks_is_served_to_this_machine_alone(viewer: WebViewer, env: Env) -> None:
    port = port_of(viewer)
    assert f"Open http://localhost:{port} in a browser" in viewer.invitation
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as page:
        assert "<canvas" in page.read().decode()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/model") as served:
        size = len(served.read())
    dressed = env.task.scene(env.config, looks="menagerie").compile()
    assert size == mujoco.mj_sizeModel(dressed)
    viewer.draw("some words")
    assert viewer.is_open()
    with socket.socket() as elsewhere:  # 127.0.0.2 is this machine too, and not what is listened at
        assert elsewhere.connect_ex(("127.0.0.2", port)) != 0


def test_a_port_that_is_taken_is_told(viewer: WebViewer, env: Env) -> None:
    port = port_of(viewer)
    with pytest.raises(UserError, match=f"127.0.0.1:{port} .*another --port"):
        WebViewer(env, Page(port=port))


def test_pace_and_resets_are_heard(viewer: WebViewer) -> None:
    hear = viewer._handle.dispatch
    hear(paused(sim.PauseState.NORMAL_PAUSED, 50.0))
    assert (viewer.controls.paused, viewer.controls.speed) == (True, 0.5)
    hear(messages.SingleStepEvent())
    hear(messages.ResetEvent())
    assert (viewer.controls.step_once, viewer.controls.restart) == (True, True)
    hear(paused(sim.PauseState.UNPAUSED))
    assert (viewer.controls.paused, viewer.controls.speed) == (False, 1.0)


def test_a_body_that_is_dragged_is_pulled_in_the_simulation(viewer: WebViewer, env: Env) -> None:
    body = env.physics.model.body("cube").id
    height = env.physics.data("xpos")[:, body, 2]
    still = torch.zeros(2, env.action_dim)
    start = height.clone()

    def drag(newtons: float) -> None:
        force = np.zeros((env.physics.model.nbody, 6))
        force[body, 2] = newtons
        signature = int(mujoco.mjtState.mjSTATE_XFRC_APPLIED)
        viewer._handle.dispatch(messages.PerturbSnapshot(state=force.ravel(), state_sig=signature))
        viewer.draw()

    for _ in range(5):
        drag(50.0)
        env.step(still)
    assert height[0] > start[0] + 0.05
    assert abs(height[1] - start[1]) < 1e-3, "the other environment's is left alone"
    drag(0.0)
    assert not env.physics.data("xfrc_applied").any(), "let go"
    env.physics.data("xfrc_applied")[0, body, 0] = 3.0  # of a task's own
    viewer.draw()
    assert env.physics.data("xfrc_applied")[0, body, 0] == 3.0


def test_what_is_edited_in_the_page_alone_does_not_reach_the_simulation(viewer: WebViewer, env: Env) -> None:
    before = env.physics.data("qpos").clone()
    signature = int(mujoco.mjtState.mjSTATE_QPOS)
    state = np.zeros(env.physics.model.nq)
    viewer._handle.dispatch(messages.StateEvent(state=state, state_sig=signature))
    viewer._handle.dispatch(messages.LoadModelEvent(path="another.xml"))
    viewer.draw()
    assert torch.equal(env.physics.data("qpos"), before)


class ScriptedViewer:
    """Its user resets after the third step, pauses at the fifth and takes one step while paused."""

    invitation = ""

    def __init__(self, env: Env) -> None:
        self.env, self.controls = env, Controls(speed=1e6)
        self.notes: list[str] = []
        self.seen: list[int] = []

    def draw(self, notes: str = "") -> None:
        self.notes.append(notes)
        self.seen.append(int(self.env.episode_length[0]))
        draws = len(self.seen)
        self.controls.restart = draws == 3
        self.controls.paused = 6 <= draws < 10
        self.controls.step_once = draws == 8

    def is_open(self) -> bool:
        return True

    def close(self) -> None:
        pass


def test_playing_keeps_to_what_the_user_wants() -> None:
    env = build_env(compose(["env=cartpole"]), num_envs=1, seed=0, num_threads=1)
    assert isinstance(env, Env)
    zero = torch.zeros(1, env.action_dim)
    viewer = ScriptedViewer(env)
    with contextlib.closing(env):
        scene = play.Scene(env, lambda obs: zero, seed=0, steps=1, video=Path())
        play._step_in_view(scene, viewer, steps=8)
    assert viewer.seen == [1, 2, 3, 0, 1, 2, 2, 2, 3, 3, 4, 5]
    assert viewer.notes[3] == ""
    assert viewer.notes[4].splitlines()[0].endswith("  reward")
    assert len(viewer.notes[4].splitlines()) == 1 + len(env.config.rewards)


def shown(*words: str, cwd: Path) -> str:
    command = [sys.executable, str(ROOT / "run.py"), *words]
    clean = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    return subprocess.run(command, cwd=cwd, env=clean, check=True, capture_output=True, text=True).stdout


def test_playing_in_a_browser_says_where(tmp_path: Path) -> None:
    port = free_port()
    words = ["env=cartpole", "env.episode_length_s=0.1", "--viewer", "web", "--port", str(port)]
    told = shown("play", *words, "--steps", "8", cwd=tmp_path)
    assert told.startswith(f"Open http://localhost:{port} in a browser.\nOn another machine")
    assert f"ssh -L {port}:localhost:{port}" in told
    assert "1 episodes ended" in told
    assert "MuJoCo Web Viewer" not in told


def test_training_without_a_display_is_shown_in_a_browser(tmp_path: Path) -> None:
    words = ["env=cartpole", "env.num_envs=64", "headless=false", "max_iterations=1", "video=false"]
    told = shown(*words, "eval.episodes=4", "eval.num_envs=4", cwd=tmp_path)
    assert "Open http://localhost:80" in told


def test_what_a_browser_cannot_show_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["env=gymnasium", "env.id=CartPole-v1", "--viewer", "web"]
    assert run.main(["play", *words]) == 2
    assert "CartPole-v1 cannot be shown in a browser" in capsys.readouterr().err


def test_a_system_without_the_viewer_is_told(env: Env, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rl_platform.envs.web_viewer", None)
    with pytest.raises(UserError, match=r"web viewer does not load here .*play --video"):
        env.viewer(Page())
