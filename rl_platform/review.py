"""Looking at a policy while and after it is trained: evaluations and videos, on their own environments."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rl_platform import seeding
from rl_platform.assemble import build_env
from rl_platform.envs.base import VisibleEnv
from rl_platform.errors import MissingPackageError, UserError
from rl_platform.evaluate import Policy, evaluate
from rl_platform.run_dir import RunDir
from rl_platform.signals import StopSignal
from rl_platform.threads import available_threads


class Reviewer:
    """Evaluates and records the policies of one run.

    Attributes:
        missing: what to give to `pip install`, one after the other, before the task can be drawn; known once
            it was tried.
    """

    def __init__(self, cfg: Any, run_dir: RunDir, stop: StopSignal, say: Callable[[str], None]) -> None:
        """`say`: is told in a line when a video is drawn, or once why there is none."""
        self._cfg, self._run_dir, self._stop, self._say = cfg, run_dir, stop, say
        self._eval_env: VisibleEnv | None = None
        self._video_env: VisibleEnv | None = None
        self._can_draw = True
        self._latest: tuple[int, Path] | None = None  # video
        self.missing: list[str] = []

    def evaluate(self, policy: Policy) -> dict[str, Any]:
        """Play `eval.episodes` episodes from `eval.seed` on; see `evaluate.evaluate`.

        Raises:
            Interrupted: a stop was asked for.
        """
        settings = self._cfg.eval
        if self._eval_env is None:
            self._eval_env = self._build(min(settings.num_envs, settings.episodes))
        return evaluate(self._eval_env, policy, settings.episodes, settings.seed, self._stop.check)

    def metrics(self, policy: Policy) -> dict[str, float]:
        """Evaluate, and return the results as metrics with names such as `Eval/success_rate`."""
        fixed = ("episodes", "seed", "num_envs", "wall_time_s")
        return {
            f"Eval/{name.removeprefix('metrics/')}": float(value)
            for name, value in self.evaluate(policy).items()
            if name not in fixed and not isinstance(value, list)
        }

    def record(self, policy: Policy, iteration: int) -> Path | None:
        """Write `videos/policy_<iteration>.mp4`: one environment, `video_length` steps.

        Nothing is drawn again for the iteration of the video before.

        Returns:
            The file; None if this machine cannot draw, which is said once.

        Raises:
            Interrupted: a stop was asked for.
        """
        from rl_platform.envs.render import policy_frames, record_video

        if self._latest is not None and self._latest[0] == iteration:
            return self._latest[1]
        if not self._can_draw:
            return None
        self._say("Drawing a video of the policy …")
        if self._video_env is None:
            self._video_env = self._build(1)
        env, cfg = self._video_env, self._cfg
        path = self._run_dir.videos / f"policy_{iteration}.mp4"
        try:
            with seeding.undisturbed():
                frames = policy_frames(
                    env, policy, cfg.video_length, seed=cfg.eval.seed, check_stop=self._stop.check
                )
                self._latest = iteration, record_video(path, frames, fps=1.0 / env.step_dt)
                return path
        except UserError as error:
            self._can_draw = False
            self.missing = error.packages if isinstance(error, MissingPackageError) else []
            self._say(str(error))
            return None

    def close(self) -> None:
        """Release the environments."""
        for env in (self._eval_env, self._video_env):
            if env is not None:
                env.close()
        self._eval_env = self._video_env = None

    def _build(self, num_envs: int) -> VisibleEnv:
        cfg = self._cfg
        threads = available_threads(cfg.num_threads)
        return build_env(cfg, num_envs=num_envs, seed=cfg.eval.seed, num_threads=threads)
