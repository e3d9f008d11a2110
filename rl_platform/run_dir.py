"""The directory of a run: where everything is that it writes, and what it tells of itself."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, Self

from rl_platform import atomic, checkpoint, provenance, yaml_text
from rl_platform.checkpoint import CheckpointError
from rl_platform.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

__all__ = ["CheckpointError", "RunDir", "is_run", "list_runs"]

State = Literal["queued", "running", "preempted", "cancelled", "failed", "finished"]
_FORMAT = 1  # of run.json; a later platform may have to know
_MARKER = "run.json"
_STOP = "stop"  # what somebody else asks of the process that trains, wherever that is
_WHY_NO_OTHERS = "(When it was trained, keep_checkpoints said how many numbered ones stay.)"
_LOCK = ".lock"  # held by the process that trains; the system lets go of it when that process dies


class RunDir:
    """A folder that holds `run.json`.

    Nothing in it is ever half-written: files take their place in one step, except the logs, which
    grow line by line.

    Attributes:
        path: as the user gave it, so that messages are as short as what was typed.
        chosen: the checkpoint file by which the run was opened, if it was; else None.
    """

    def __init__(self, path: Path, chosen: Path | None = None) -> None:
        """Use `create` or `open`."""
        self.path, self.chosen = path, chosen
        self._keep: int | None = None
        self._lock: IO[bytes] | None = None
        self._checked = False

    @classmethod
    def create(cls, parent: Path, name: str, cfg: Any = None, **fields: Any) -> Self:
        """Make a new directory for a run that is `queued`.

        Nothing is forced to the disk yet: a sweep makes hundreds, and nothing is lost with them.

        Args:
            parent: of the directory.
            name: of the directory.
            cfg: its complete configuration, see `save_config`; None if that comes later.
            fields: further ones of `run.json`, such as `seed=`.

        Raises:
            UserError: there is one of this name already, or it cannot be made here.
        """
        path = Path(parent) / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir()
            for folder in ("checkpoints", "videos", "plots"):
                (path / folder).mkdir()
        except FileExistsError as error:
            raise UserError(
                f"{path} exists already, and runs are never overwritten; choose a run_name."
            ) from error
        except OSError as error:
            raise UserError(f"The run directory {path} cannot be made: {error.strerror}.") from error
        run = cls(path)
        run._save_diff("git.diff", forced=False)
        if cfg is not None:
            run.save_config(cfg, forced=False)
        state = {"format": _FORMAT, "state": "queued", "created": _now()}
        run._write_state(state | provenance.describe() | fields, forced=False)
        return run

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Open a run that exists, by its directory or by a checkpoint in it.

        Raises:
            UserError: this is not a run.
        """
        path = Path(path)
        if path.suffix == ".pt":
            run = next((folder for folder in path.parents if (folder / _MARKER).is_file()), None)
            if run is not None and not path.is_file():
                raise UserError(
                    f"There is no checkpoint {path}. This run has {cls(run)._choices()}. {_WHY_NO_OTHERS}"
                )
            if run is not None:
                return cls(run, chosen=path)
        if not is_run(path):
            raise UserError(_not_a_run(path))
        return cls(path)

    @property
    def run_json(self) -> Path:
        """State, command, git, versions, host."""
        return self.path / _MARKER

    @property
    def config_yaml(self) -> Path:
        """The complete configuration."""
        return self.path / "config.yaml"

    @property
    def metrics_jsonl(self) -> Path:
        """One line a log step."""
        return self.path / "metrics.jsonl"

    @property
    def summary_json(self) -> Path:
        """The result."""
        return self.path / "summary.json"

    @property
    def checkpoints(self) -> Path:
        """Directory of `model_<iteration>.pt`, `last.pt` and `best.pt`."""
        return self.path / "checkpoints"

    @property
    def videos(self) -> Path:
        """Directory of the videos."""
        return self.path / "videos"

    @property
    def plots(self) -> Path:
        """Directory of the figures and their data."""
        return self.path / "plots"

    @property
    def sweep(self) -> str | None:
        """Name of the sweep that the run is a job of, as the pattern in `conf/config.yaml` has it."""
        parent = self.path.resolve().parent
        return parent.name if parent.parent.name == "sweeps" else None

    @property
    def job_log(self) -> Path:
        """What the run printed, if a launcher started it."""
        return self.path / "job.log"

    @property
    def slurm_job(self) -> str | None:
        """SLURM's name of the job that was submitted for the run, None without.

        Not in `run.json`: that belongs to whoever trains, and the job may begin while this is written.
        """
        try:
            return (self.path / "slurm_job").read_text().strip() or None
        except FileNotFoundError:
            return None

    @slurm_job.setter
    def slurm_job(self, job: str | None) -> None:
        (self.path / "slurm_job").write_text(f"{job or ''}\n")

    def read_state(self) -> dict[str, Any]:
        """Return what `run.json` says.

        Raises:
            UserError: it cannot be read.
        """
        try:
            return json.loads(self.run_json.read_bytes())
        except (OSError, ValueError) as error:
            raise UserError(f"{self.run_json} cannot be read: {error}") from error

    def said(self) -> dict[str, Any]:
        """Return what `run.json` says; empty if it cannot be read."""
        try:
            return self.read_state()
        except UserError:
            return {}

    def update_state(self, **fields: Any) -> None:
        """Change fields of `run.json`, such as `iteration=`, `env_steps=`, `error=`.

        Any `state=` but `running` says that this process is done with the run. What was asked of a run that
        has ended (`request_stop`) is not for those who resume it.

        Raises:
            CheckpointError: the disk did not take it; `run.json` is as it was.
        """
        self._write_state(self.read_state() | fields)
        if fields.get("state") in ("finished", "failed", "cancelled"):
            (self.path / _STOP).unlink(missing_ok=True)
        if self._lock is not None and fields.get("state", "running") != "running":
            self._lock.close()
            self._lock = None

    def begin(self) -> None:
        """Mark the run as `running` in this process; a resumed one keeps a list of where it went on.

        Raises:
            UserError: another process trains in this directory, or it cannot be written to.
        """
        self._lock = _lock(self.path / _LOCK)
        state = self.read_state()
        here = provenance.describe()
        if state["state"] == "queued":  # the command and the code are those of whoever made the run
            here = {key: here[key] for key in ("host", "cpu", "cpus", "pid", "job_id", "versions")}
        else:
            resumes = [*state.get("resumes", []), here | {"at": _now(), "iteration": state.get("iteration")}]
            self._save_diff(f"git_{len(resumes)}.diff")
            here = {"resumes": resumes} | {key: here[key] for key in ("pid", "host", "job_id")}
        self._write_state(state | here | {"state": "running", "error": None})

    def wait_again(self) -> None:
        """Mark a run that has ended, however it did, as one that somebody will start again."""
        if self.read_state()["state"] != "queued":
            self.update_state(state="preempted", error=None)
        self.slurm_job = None

    def is_live(self) -> bool:
        """Whether a process is training here now.

        A run that was killed cannot say so itself: its state stays `running`.
        """
        path = self.path / _LOCK
        if not os.access(path, os.R_OK):
            return False
        taken = _is_taken(path)
        return _process_lives(self.read_state()) if taken is None else taken

    def read_summary(self) -> dict[str, Any]:
        """Return `summary.json`, with the final evaluation as `eval`; empty if there is none to be read."""
        try:
            found = json.loads(self.summary_json.read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) and isinstance(found.get("eval"), dict) else {}

    def writer_lives(self) -> bool:
        """Whether the process that wrote `run.json` is there: one that failed may still be saying why."""
        return _process_lives(self.said())

    @contextmanager
    def held(self) -> Iterator[None]:
        """Be the only process that writes here.

        Raises:
            UserError: another process trains in this directory, or it cannot be written to.
        """
        with _lock(self.path / _LOCK):
            yield

    def request_stop(self, reason: str) -> None:
        """Ask whoever trains here to end after the iteration in hand, as at a limit: evaluated, `finished`.

        A file, not a signal: it gets to any machine that shares the disk.
        """
        atomic.write_text(self.path / _STOP, reason)

    def take_stop_request(self) -> str | None:
        """Return why somebody wants the training to end, and forget it; None if nobody does."""
        path = self.path / _STOP
        if not path.exists():
            return None
        reason = path.read_text(encoding="utf-8")
        path.unlink()
        return reason

    def save_config(self, cfg: Any, forced: bool = True) -> None:
        """Write the complete configuration, every interpolation resolved.

        Args:
            cfg: OmegaConf's, or plain dicts, lists and values.
            forced: see `atomic.write_bytes`.
        """
        atomic.write_text(self.config_yaml, yaml_text.dump(cfg), forced)
        self._keep = None

    def load_config(self) -> DictConfig:
        """Read the configuration.

        Raises:
            UserError: there is none, or it cannot be read.
        """
        from omegaconf import DictConfig, OmegaConf
        from yaml import YAMLError

        try:
            cfg = OmegaConf.load(self.config_yaml)
        except (OSError, YAMLError) as error:
            raise UserError(f"{self.config_yaml} cannot be read: {error}") from error
        if not isinstance(cfg, DictConfig):
            raise UserError(f"{self.config_yaml} is not a run's configuration.")
        return cfg

    def read_metrics(self) -> list[dict[str, Any]]:
        """Return the rows of metrics.jsonl; none if there is no such file.

        What a killed run or a full disk left of a line does not count.
        """
        try:
            lines = self.metrics_jsonl.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        rows = []
        for line in lines:
            with suppress(ValueError):
                row = json.loads(line)
                if isinstance(row, dict) and "env_steps" in row:
                    rows.append(row)
        return rows

    def save_checkpoint(self, payload: dict[str, Any], iteration: int, best: bool = False) -> Path:
        """Write a checkpoint.

        Args:
            payload: tensors and plain Python values; whatever `weights_only=True` loads.
            iteration: iterations done.
            best: write `best.pt` alone; else `model_<iteration>.pt`, which becomes `last.pt` too, and
                the numbered ones before the last `keep_checkpoints` of the configuration go.

        Returns:
            The file.

        Raises:
            CheckpointError: the disk did not take it; earlier checkpoints are intact.
            TypeError: the payload could not be read again.
        """
        if not self._checked:
            checkpoint.check_payload(payload)
            atomic.remove_temporaries(self.checkpoints)
            self._checked = True
        if best:
            return checkpoint.save_best(self.checkpoints, payload)
        if self._keep is None:
            self._keep = self.load_config().keep_checkpoints
        return checkpoint.save(self.checkpoints, payload, iteration, self._keep)

    def load_checkpoint(
        self, which: str | int | Path | None = None, say: Callable[[str], None] = checkpoint.to_stderr
    ) -> dict[str, Any]:
        """Read a checkpoint, its tensors on the CPU.

        Args:
            which: "last", "best", an iteration (a number in a string too) or a file. None: `chosen`, or
                "last".
            say: is told if `last.pt` is damaged and an earlier one is used. Any other choice is what
                the user asked for, so that nothing else replaces it.

        Raises:
            CheckpointError: there is no such checkpoint, or it is damaged.
        """
        which = which if which is not None else self.chosen or "last"
        if which == "last":
            return checkpoint.load_last(self.checkpoints, say)
        path = self._checkpoint_path(which)
        try:
            return checkpoint.load(path)
        except CheckpointError as error:
            why = "" if path.exists() else f" {_WHY_NO_OTHERS}"
            raise CheckpointError(f"{error} This run has {self._choices()}.{why}") from error

    def _checkpoint_path(self, which: str | int | Path) -> Path:
        if which == "best":
            return self.checkpoints / checkpoint.BEST
        if str(which).isdecimal():
            return checkpoint.numbered(self.checkpoints, int(str(which)))
        return Path(str(which))

    def _choices(self) -> str:
        """The checkpoints by the names that `--checkpoint` takes."""
        names = ("last", "best")
        found = [name for name in names if (self.checkpoints / f"{name}.pt").exists()]
        return ", ".join([*found, *map(str, checkpoint.iterations(self.checkpoints))]) or "none"

    def _save_diff(self, name: str, forced: bool = True) -> None:
        if text := provenance.diff():
            atomic.write_text(self.path / name, text, forced)

    def _write_state(self, state: dict[str, Any], forced: bool = True) -> None:
        text = json.dumps(state | {"updated": _now()}, indent=2, ensure_ascii=False)
        try:
            atomic.write_text(self.run_json, text + "\n", forced)
        except OSError as error:
            raise CheckpointError(f"{self.run_json} could not be written: {error.strerror}.") from error


def is_run(path: Path) -> bool:
    """Whether a folder is a run's."""
    return (path / _MARKER).is_file()


def list_runs(root: Path | str) -> list[RunDir]:
    """Find every run below a directory, the oldest first. Runs inside a run's own directory do not count."""
    runs = [RunDir(path) for path in _find(Path(root))]
    return sorted(runs, key=lambda run: (str(run.said().get("created", "")), run.path))


def _find(directory: Path) -> Iterator[Path]:
    try:
        entries = list(os.scandir(directory))
    except OSError:
        return  # not there, not ours, or gone since it was listed
    if any(entry.name == _MARKER for entry in entries):
        yield directory
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _find(Path(entry.path))


def _lock(path: Path) -> IO[bytes]:
    """Take a lock, which closing the file gives back; where there are no locks, do without.

    Raises:
        UserError: another process has it, or this one may not write here.
    """
    try:
        file = open(path, "ab")  # noqa: SIM115 - the caller closes it
    except OSError as error:
        raise UserError(f"{path.parent} cannot be written to: {error.strerror}.") from error
    for patience in (True, True, True, False):
        try:
            _flock(file, exclusive=True)
        except BlockingIOError as error:
            if not patience:
                file.close()
                raise UserError(f"{path.parent} is being trained by another process.") from error
            time.sleep(0.02)  # it may be somebody who only looks whether it is taken
        except OSError:
            break
        else:
            break
    return file


def _is_taken(path: Path) -> bool | None:
    """Whether a process has the lock; None where there are no locks."""
    with open(path, "rb") as file:
        try:
            _flock(file, exclusive=False)
        except BlockingIOError:
            return True
        except OSError:
            return None
    return False


def _flock(file: IO[bytes], exclusive: bool) -> None:
    """Lock a file without waiting; NFS wants it open for writing if the lock is exclusive.

    Raises:
        BlockingIOError: another process has it.
        OSError: there are no locks here.
    """
    try:
        import fcntl
    except ImportError as error:  # on Windows
        raise OSError("no flock") from error
    fcntl.flock(file, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)


def _process_lives(said: Mapping[str, Any]) -> bool:
    """Whether the process that wrote `run.json` is there, as far as this machine can see."""
    if said.get("host") != socket.gethostname() or os.name != "posix":
        return False
    try:
        os.kill(int(said["pid"]), 0)
    except PermissionError:
        return True
    except (OSError, KeyError, ValueError):
        return False
    return True


def _not_a_run(path: Path) -> str:
    if not path.exists():
        return f"{path}: there is no such run. `python run.py list runs` shows those that there are."
    inside = list_runs(path)
    if inside:
        return f"{path} holds {len(inside)} runs; name one of them, for example the newest, {inside[-1].path}"
    return f"{path} is not a run: it holds no {_MARKER}."


def _now() -> str:
    """The time in UTC, ISO 8601, to the microsecond: it sorts."""
    return datetime.now(UTC).isoformat(timespec="microseconds")
