"""`python run.py play RUN`: watch a run's policy, in a window or as a video; `play env=NAME`: a task."""

from __future__ import annotations

import contextlib
import pickle
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rl_platform import conf_files
from rl_platform.commands.arguments import at_least_one, open_run, port, run_parser
from rl_platform.errors import NonFiniteError, UserError
from rl_platform.opengl import has_display

if TYPE_CHECKING:
    from torch import Tensor

    from rl_platform.envs.base import Viewer, VisibleEnv
    from rl_platform.run_dir import RunDir

_LOOK_AGAIN_S = 1 / 30


@dataclass
class Scene:
    """What is played.

    Attributes:
        env: environments.
        policy: from observations to actions `(n, action_dim)`.
        seed: of the episodes.
        steps: control steps in a video.
        video: where it goes unless the command line says otherwise.
    """

    env: VisibleEnv
    policy: Callable[[dict[str, Tensor]], Tensor]
    seed: int
    steps: int
    video: Path


def main(arguments: Sequence[str]) -> int:
    """Play, and say how the episodes ended."""
    options = _parse(arguments)
    of_task = _is_task(options.run[0])
    if of_task and (options.replay or options.checkpoint is not None or options.use_last_checkpoint):
        raise UserError("--replay and checkpoints are of a run: python run.py play RUN …")
    if options.replay:
        _replay(_run_dir(options), options)
        return 0
    scene = _task(options) if of_task else _run(options)
    with contextlib.closing(scene.env):
        if options.viewer:
            _play_in_window(scene, options)
        else:
            _play_to_video(scene, options)
    return 0


def _parse(arguments: Sequence[str]) -> Any:
    parser = run_parser(
        "play",
        "Watch a run's policy, or a task with random actions: in a window, in a browser or as a video "
        "(without --viewer and --video: in a window where there is a display, else as a video).",
        or_task=True,
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--viewer",
        choices=["native", "web"],
        help="in real time; native: in MuJoCo's own window; web: in a browser, here or through ssh",
    )
    where.add_argument(
        "--video",
        type=Path,
        nargs="?",
        const=True,
        metavar="FILE",
        help="write an MP4 (without FILE: RUN/videos/play_<iteration>.mp4)",
    )
    where.add_argument(
        "--replay", type=Path, metavar="FILE", help="a nan_dump.pt: step into its error again, and stop there"
    )
    parser.add_argument(
        "--actions", choices=["random", "zero"], default="random", help="of a task (default: random)"
    )
    parser.add_argument("--num-envs", type=at_least_one, help="side by side in a video (default: 1)")
    parser.add_argument(
        "--steps",
        type=at_least_one,
        help="control steps (default: the run's video_length; a window stays until it is closed)",
    )
    parser.add_argument("--camera", help="of the scene, for a video (default: its first)")
    parser.add_argument(
        "--host",
        help="with --viewer web: the address it listens at (default: this machine's alone; 0.0.0.0, in a "
        "container: all, and whoever reaches the port can look on and take over)",
    )
    parser.add_argument("--port", type=port, help="with --viewer web (default: the first free from 8080)")
    parser.add_argument(
        "--width", type=at_least_one, default=640, help="of the video, in pixels (default: 640)"
    )
    parser.add_argument("--height", type=at_least_one, default=480, help="of the video (default: 480)")
    options = parser.parse_args(_file_after_video(arguments))
    if len(options.run) > 1 and not _is_task(options.run[0]):
        word = options.run[1]
        hint = parser.meant(word) or "\n    → write options with dashes, such as --num-envs 4"
        raise UserError(f"play has one RUN, and this came after it: {word}{hint}")
    if options.viewer is None and options.video is None and has_display():
        options.viewer = "native"
    if options.viewer != "web" and (options.host or options.port):
        raise UserError("--host and --port are of --viewer web, which this is not")
    return options


def _is_task(word: str) -> bool:
    """Whether a task is meant, `env=NAME`, and not a run whose directory has such a name."""
    return "=" in word and not Path(word).exists()


def _file_after_video(words: Sequence[str]) -> list[str]:
    """Let `--video RUN` mean what it says: only a name that ends in .mp4 is the video's."""
    words = list(words)
    place = words.index("--video") + 1 if "--video" in words else len(words)
    if place < len(words) and not words[place].lower().endswith(".mp4"):
        words.append(words.pop(place - 1))
    return words


def _run_dir(options: Any) -> RunDir:
    name = options.run[0]
    if not Path(name).exists() and name in conf_files.options("env", options.config_dir):
        raise UserError(f"{name}: there is no such run; to watch the task, write env={name}")
    return open_run(name)


def _run(options: Any) -> Scene:
    """A run's policy in its own environments."""
    from rl_platform.assemble import load_run

    run_dir = _run_dir(options)
    run = load_run(
        run_dir,
        options.checkpoint,
        num_envs=options.num_envs or 1,
        device=options.device,
        num_threads=options.num_threads,
    )
    seed = run.cfg.eval.seed if options.seed is None else options.seed
    video = run_dir.videos / f"play_{run.iteration}.mp4"
    return Scene(run.env, run.agent.policy, seed, run.cfg.video_length, video)


def _task(options: Any) -> Scene:
    """A task that nobody has learnt, as the command line composes it."""
    from rl_platform import config
    from rl_platform.assemble import build_env
    from rl_platform.composition import Composer
    from rl_platform.threads import available_threads

    words = [*options.run, *([f"device={options.device}"] if options.device else [])]
    cfg = config.check_job(Composer(options.config_dir).compose(words))
    seed = cfg.eval.seed if options.seed is None else options.seed
    threads = available_threads(options.num_threads or cfg.num_threads)
    asked = any(word.startswith("env.num_envs=") for word in options.run)
    num_envs = options.num_envs or (cfg.env.num_envs if asked else 1)
    env = build_env(cfg, num_envs=num_envs, seed=seed, num_threads=threads)
    video = Path(cfg.output_dir, f"{cfg.env.name}_{options.actions}_{time.strftime('%Y-%m-%d_%H-%M-%S')}.mp4")
    return Scene(env, _actions(env, options.actions, seed), seed, cfg.video_length, video)


def _actions(env: VisibleEnv, kind: str, seed: int) -> Callable[[dict[str, Tensor]], Tensor]:
    """A policy that looks at nothing: uniform within the bounds, or zero."""
    import torch

    generator = torch.Generator(env.device).manual_seed(seed)
    low, high = (bound.clamp(-1e6, 1e6) for bound in (env.action_low, env.action_high))

    def act(obs: dict[str, Tensor]) -> Tensor:
        if kind == "zero":
            return torch.zeros(env.num_envs, env.action_dim, device=env.device).clamp(low, high)
        unit = torch.rand(env.num_envs, env.action_dim, device=env.device, generator=generator)
        if env.num_choices is not None:
            return (unit * env.num_choices).floor()
        return low + (high - low) * unit

    return act


def _play_to_video(scene: Scene, options: Any) -> None:
    from rl_platform.envs.render import policy_frames, record_video

    path = options.video if isinstance(options.video, Path) else scene.video
    path.parent.mkdir(parents=True, exist_ok=True)
    steps = options.steps or scene.steps
    print(f"Drawing {steps} frames of {scene.env.num_envs} environments …", file=sys.stderr, flush=True)
    frames = policy_frames(
        scene.env,
        scene.policy,
        steps,
        seed=scene.seed,
        width=options.width,
        height=options.height,
        camera=options.camera,
    )
    record_video(path, frames, fps=1.0 / scene.env.step_dt)
    print(f"{path}  ({steps} steps, {steps * scene.env.step_dt:.1f} s)")
    print(_episodes(scene.env))


def _play_in_window(scene: Scene, options: Any) -> None:
    """Step in real time, or as the window's user wants, until it is closed, or for some steps."""
    from rl_platform.envs.base import Page

    page = Page(options.host or Page.host, options.port) if options.viewer == "web" else None
    viewer = scene.env.viewer(page)
    if viewer.invitation:
        print(f"{viewer.invitation}\nCtrl-C ends.", flush=True)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            _step_in_view(scene, viewer, options.steps)
    finally:
        viewer.close()
    print(_episodes(scene.env))


def _step_in_view(scene: Scene, viewer: Viewer, steps: int | None) -> None:
    """Take steps, each as long as it takes in reality, and show them."""
    import torch

    env, controls, notes, taken = scene.env, viewer.controls, "", 0
    obs = env.reset(scene.seed)
    while viewer.is_open() and (steps is None or taken < steps):
        due = time.monotonic() + env.step_dt / controls.speed
        if controls.restart:
            controls.restart = False
            obs, notes = env.reset(), ""
        elif not controls.paused or controls.step_once:
            controls.step_once = False
            with torch.no_grad():
                obs, reward, _, _, info = env.step(scene.policy(obs))
            notes = _notes(reward, info)
            taken += 1
        viewer.draw(notes)
        while (left := due - time.monotonic()) > 0 and viewer.is_open():
            time.sleep(min(left, _LOOK_AGAIN_S))
            if left > _LOOK_AGAIN_S:
                viewer.draw(notes)  # in slow motion its user is heard between steps too


def _notes(reward: Tensor, info: dict[str, Any]) -> str:
    """The first environment's reward in this step, by its terms."""
    terms = {name: values[0].item() for name, values in info["rewards"].items()}
    return "\n".join(
        f"{value:9.4f}  {name}" for name, value in [("reward", reward[0].item()), *terms.items()]
    )


def _episodes(env: VisibleEnv) -> str:
    log = env.episode_log()
    if not log:
        return "no episode ended"
    count = round(log["Train/episodes"])
    success = ""
    if "Train/success_rate" in log:
        success = f", {round(log['Train/success_rate'] * count)} with success"
    return f"{count} episodes ended{success}; mean return {log['Train/mean_reward']:.3f}"


def _load_dump(path: Path) -> dict[str, Any]:
    """Read what `nan_dump.save` wrote.

    Raises:
        UserError: it is no such file.
    """
    import torch

    try:
        dump = torch.load(path, weights_only=True)
        dump["actions"], dump["env"], dump["env_id"], dump["error"]
    except (OSError, RuntimeError, LookupError, TypeError, ValueError, pickle.UnpicklingError) as error:
        raise UserError(f"--replay {path}: no dump of a run that met a NaN ({error})") from error
    return dump


def _replay(run_dir: RunDir, options: Any) -> None:
    """Take the recorded steps again: the actions are known, so that no policy is needed."""
    from rl_platform.assemble import load_env

    dump = _load_dump(options.replay)
    sizes = {"num_envs": dump["actions"].shape[1], "num_threads": options.num_threads}
    _, env = load_env(run_dir, device=options.device, **sizes)
    with contextlib.closing(env):
        _step_again(env, dump)


def _step_again(env: VisibleEnv, dump: dict[str, Any]) -> None:
    """Print each step of the environment that went wrong, with its terms."""
    env_id = dump["env_id"] or 0
    env.load_state_dict(dump["env"])
    print(f"recorded: {dump['error']}")
    print(f"environment {env_id}, {len(dump['actions'])} steps from the iteration's start:")
    for step, action in enumerate(dump["actions"]):
        before = _state(env, env_id)
        print(f"step {step}: action {[round(number, 4) for number in action[env_id].tolist()]}")
        try:
            _, reward, _, _, info = env.step(action)
            env.check()
        except NonFiniteError as error:
            print(f"  {error}")
            print("The same error again. The state before this step:")
            print(before)
            return
        terms = ", ".join(f"{name} {values[env_id].item():.4g}" for name, values in info["rewards"].items())
        print(f"  reward {reward[env_id].item():.4g} = {terms}")
    print("No error this time: what caused it is not part of the simulation's state.")


def _state(env: VisibleEnv, env_id: int) -> str:
    from rl_platform.envs.env import Env
    from rl_platform.envs.transfer import TransferEnv

    env = env.env if isinstance(env, TransferEnv) else env
    assert isinstance(env, Env)  # nobody else's state comes back
    data = env.physics.mj_data(env_id)
    rows = {"qpos": data.qpos, "qvel": data.qvel, "ctrl": data.ctrl}
    return "\n".join(f"  {name} {[round(float(x), 5) for x in values]}" for name, values in rows.items())
