"""`python run.py play RUN`: watch a run's policy, in a window or as a video."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rl_platform.commands.arguments import at_least_one, run_parser
from rl_platform.errors import NonFiniteError, UserError
from rl_platform.opengl import has_display

if TYPE_CHECKING:
    from rl_platform.assemble import LoadedRun
    from rl_platform.run_dir import RunDir


def main(arguments: Sequence[str]) -> int:
    """Play, and say how the episodes ended."""
    options = _parse(arguments)
    from rl_platform.assemble import load_run
    from rl_platform.run_dir import RunDir

    run_dir = RunDir.open(options.run)
    dump = _load_dump(options.replay) if options.replay else None
    num_envs = dump["actions"].shape[1] if dump else options.num_envs
    run = load_run(
        run_dir,
        options.checkpoint,
        num_envs=num_envs,
        device=options.device,
        num_threads=options.num_threads,
    )
    seed = run.cfg.eval.seed if options.seed is None else options.seed
    with contextlib.closing(run.env):
        if dump:
            _replay(run, dump)
        elif options.viewer == "native":
            _play_in_window(run, seed, options.steps)
        else:
            _play_to_video(run_dir, run, seed, options)
    return 0


def _parse(arguments: Sequence[str]) -> Any:
    parser = run_parser("play", "Watch a run's policy: in a window if there is a display, else as a video.")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--viewer", choices=["native"], help="native: MuJoCo's own window, in real time")
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
        "--num-envs", type=at_least_one, default=1, help="side by side in a video (default: 1)"
    )
    parser.add_argument(
        "--steps",
        type=at_least_one,
        help="control steps (default: the run's video_length; a window stays until it is closed)",
    )
    parser.add_argument("--camera", help="of the scene (default: its first)")
    parser.add_argument(
        "--width", type=at_least_one, default=640, help="of the video, in pixels (default: 640)"
    )
    parser.add_argument("--height", type=at_least_one, default=480, help="of the video (default: 480)")
    options = parser.parse_args(arguments)
    if options.viewer is None and options.video is None and has_display():
        options.viewer = "native"
    return options


def _play_to_video(run_dir: RunDir, run: LoadedRun, seed: int, options: Any) -> None:
    from rl_platform.envs.render import policy_frames, record_video

    automatic = run_dir.videos / f"play_{run.iteration}.mp4"
    path = options.video if isinstance(options.video, Path) else automatic
    steps = options.steps or run.cfg.video_length
    frames = policy_frames(
        run.env,
        run.agent.policy,
        steps,
        seed=seed,
        width=options.width,
        height=options.height,
        camera=options.camera,
    )
    record_video(path, frames, fps=1.0 / run.env.step_dt)
    print(f"{path}  ({steps} steps, {steps * run.env.step_dt:.1f} s)")
    print(_episodes(run))


def _play_in_window(run: LoadedRun, seed: int, steps: int | None) -> None:
    """Step in real time until the window is closed, or for `steps`."""
    import torch

    viewer = run.env.viewer()
    obs = run.env.reset(seed)
    try:
        for _ in range(steps) if steps else itertools.count():
            if not viewer.is_open():
                break
            due = time.monotonic() + run.env.step_dt
            with torch.no_grad():
                obs = run.env.step(run.agent.policy(obs))[0]
            viewer.draw()
            time.sleep(max(0.0, due - time.monotonic()))
    except KeyboardInterrupt:
        pass
    finally:
        viewer.close()
    print(_episodes(run))


def _episodes(run: LoadedRun) -> str:
    log = run.env.episode_log()
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
    except (OSError, RuntimeError, KeyError, TypeError) as error:
        raise UserError(f"--replay {path}: no dump of a run that met a NaN ({error})") from error
    return dump


def _replay(run: LoadedRun, dump: dict[str, Any]) -> None:
    """Take the recorded steps again, with the terms of the environment that went wrong."""
    env, env_id = run.env, dump["env_id"] or 0
    env.load_state_dict(dump["env"])
    print(f"recorded: {dump['error']}")
    print(f"environment {env_id}, {len(dump['actions'])} steps from the iteration's start:")
    for step, action in enumerate(dump["actions"]):
        before = _state(run, env_id)
        print(f"step {step}: action {[round(number, 4) for number in action[env_id].tolist()]}")
        try:
            _, reward, _, _, info = env.step(action)
        except NonFiniteError as error:
            print(f"  {error}")
            print("The same error again. The state before this step:")
            print(before)
            return
        terms = ", ".join(f"{name} {values[env_id].item():.4g}" for name, values in info["rewards"].items())
        print(f"  reward {reward[env_id].item():.4g} = {terms}")
    print("No error this time: what caused it is not part of the simulation's state.")


def _state(run: LoadedRun, env_id: int) -> str:
    from rl_platform.envs.env import Env
    from rl_platform.envs.transfer import TransferEnv

    env = run.env.env if isinstance(run.env, TransferEnv) else run.env
    assert isinstance(env, Env)  # nobody else's state comes back
    data = env.physics.mj_data(env_id)
    rows = {"qpos": data.qpos, "qvel": data.qvel, "ctrl": data.ctrl}
    return "\n".join(f"  {name} {[round(float(x), 5) for x in values]}" for name, values in rows.items())
