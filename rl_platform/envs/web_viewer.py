"""An environment in a browser, through MuJoCo's own web viewer: no display and no GPU is needed here."""

from __future__ import annotations

import contextlib
import io
import logging
import socket
import threading
from typing import Any

import mujoco
import numpy as np
import torch
from mujoco.experimental.dear_imgui import dear_imgui as imgui
from mujoco.experimental.studio import (
    launch_thread,
    messages,
    plugin,
    sim,
    viewer_app,
    viewer_protocol,
    web_viewer,
)

from rl_platform.envs.base import Controls, Page
from rl_platform.envs.env import Env
from rl_platform.envs.picture import Picture
from rl_platform.errors import UserError

_BESIDE_THE_OPTIONS = imgui.Vec2(225, 60)  # pixels


class WebViewer:
    """A page that shows an environment; what its user does there is in `controls`.

    Pausing, speed, single steps and resets are passed on, and so are forces: a body that is dragged in the
    page is pulled in the simulation. Other changes made in the page are seen there alone.

    Attributes:
        controls: what the page's user asks for.
        invitation: where browsers find it.
    """

    def __init__(self, env: Env, page: Page, env_id: int = 0) -> None:
        """Serve environment `env_id` as `page` says.

        Raises:
            UserError: the port is taken.
        """
        self._picture, self._env_id = Picture(env), env_id
        self._applied = env.physics.data("xfrc_applied")
        data = self._picture.show(env_id)
        self._asked = _Asked()
        self._notes = _Notes()
        self.controls = self._asked.controls
        self._handle, port = _launch(self._picture.model, page, self._asked, self._notes)
        self._handle.model, self._handle.data = self._picture.model, data  # which the page has already
        self.invitation = _invitation(page.host, port)

    def draw(self, notes: str = "") -> None:
        """Show the present state, and `notes` beside it."""
        self._notes.text = notes
        self._handle.sync(self._picture.model, self._picture.show(self._env_id))
        if self._asked.force is not None:
            force = torch.from_numpy(self._asked.force).reshape(self._applied.shape[1:])
            self._applied[self._env_id] = force.to(self._applied)
            if not self._asked.force.any():
                self._asked.force = None

    def is_open(self) -> bool:
        """Whether nobody has chosen "Quit" in the page."""
        return bool(self._handle.is_running())

    def close(self) -> None:
        """Stop serving the page."""
        self._handle.close()


class _Asked(plugin.SimPlugin):
    """Hears what the page's user does.

    Attributes:
        controls: of the playing.
        force: `(nbody · 6,)` on the bodies, to be passed on; None: none is, nor has one to be taken back.
    """

    def __init__(self) -> None:
        self.controls = Controls()
        self.force: np.ndarray | None = None

    @messages.handler
    def _on_pace(self, told: messages.StepControlSnapshot) -> bool:
        self.controls.paused = told.pause_state != sim.PauseState.UNPAUSED
        self.controls.speed = told.speed / 100
        return True

    @messages.handler
    def _on_single_step(self, _: messages.SingleStepEvent) -> bool:
        self.controls.step_once = True
        return True

    @messages.handler
    def _on_reset(self, _: messages.ResetEvent) -> bool:
        self.controls.restart = True
        return True

    @messages.handler
    def _on_push(self, told: messages.PerturbSnapshot) -> bool:
        if told.state.any() or self.force is not None:
            self.force = told.state
        return True

    @messages.handler
    def _on_edited_state(self, _: messages.StateEvent) -> bool:
        return True  # the episode goes on as it is

    @messages.handler
    def _on_other_model(self, _: messages.LoadModelEvent) -> bool:
        return True  # a file dropped on the page is not this task


class _Notes(plugin.ViewerPlugin):
    """Lines of text beside the scene."""

    text = ""

    @messages.handler
    def _on_gui(self, _: messages.BuildGuiEvent) -> None:
        if self.text:
            imgui.SetNextWindowPos(_BESIDE_THE_OPTIONS, int(imgui.Cond.FirstUseEver))
            if imgui.Begin("Episode"):
                imgui.Text(self.text)
            imgui.End()


def _launch(model: mujoco.MjModel, page: Page, *plugins: Any) -> tuple[Any, int]:
    """Start serving; return MuJoCo's handle of the page, and its port.

    MuJoCo would listen to the whole network, and says so in a box of its own.
    """
    logging.getLogger("WebServer").setLevel(logging.WARNING)  # not a line for each browser that comes
    config = viewer_protocol.ViewerConfig(title="rl_platform", gfx="web", http_port=page.port or 0)
    shown = viewer_app.ViewerAppConfig(show_inspector=False)
    on_page, here = plugin.split_plugins([viewer_app.ViewerApp(shown), *plugins])
    started = threading.Event()
    ports: list[int] = []

    class Server(web_viewer.WebViewer):
        _host = property(lambda _: page.host, lambda _, value: None)

    def serve(endpoint: Any) -> None:
        server = Server(config, endpoint, model=model, plugins=on_page)
        ports.append(server._http_sock.getsockname()[1])
        started.set()
        viewer_protocol.run_viewer_loop(server)

    with contextlib.redirect_stdout(io.StringIO()):
        handle = launch_thread.launch_thread(serve, sim_plugins=here)
        try:
            while not started.wait(0.05):
                handle.is_running()  # raises what went wrong
        except (RuntimeError, OSError) as error:
            raise UserError(_why_not(page, error)) from error
    return handle, ports[0]


def _invitation(host: str, port: int) -> str:
    name = socket.gethostname()
    if host in ("127.0.0.1", "localhost", "::1"):
        return (
            f"Open http://localhost:{port} in a browser.\n"
            f"On another machine, the same after: ssh -L {port}:localhost:{port} {name}"
        )
    return (
        f"Open http://{name}:{port} in a browser.\n"
        f"Whoever reaches port {port} of {host} can look on and take over: there is no password."
    )


def _why_not(page: Page, error: Exception) -> str:
    if page.port is None:
        return f"no page for a browser at {page.host}: {error}"
    return f"no page for a browser at {page.host}:{page.port} ({error}); another --port, or none, may be free"
