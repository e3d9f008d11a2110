"""Several ranks on this machine: started, watched, ended together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from rl_platform import clock, place
from rl_platform.errors import exit_status
from rl_platform.run_dir import RunDir
from rl_platform.signals import StopSignal

_POLL_S = 0.05
# Since a rank ended by an error: until the others, which mostly notice by themselves, are asked to end, and
# until they are killed.
_ASK_S, _KILL_S = 5.0, 15.0
_TAIL = 40  # lines of a rank's log that are shown
_ROOT = Path(__file__).resolve().parent.parent


def log_path(run_path: Path, rank: int) -> Path:
    """Where a rank above 0 writes what it prints."""
    return run_path / "logs" / f"rank_{rank}.log"


def open_log(run_path: Path, rank: int) -> IO[bytes]:
    """Open that file to be appended to."""
    path = log_path(run_path, rank)
    path.parent.mkdir(exist_ok=True)
    return open(path, "ab")


def run_ranks(run_path: Path | str, num_processes: int, env: Mapping[str, str] | None = None) -> int:
    """Train a run's directory on `num_processes` ranks of this machine, and wait for them.

    Each is `python -m rl_platform.job RUN` on its share of this process's processors. Signals that ask for a
    stop are handed on: the run saves a checkpoint and is `preempted`. When a rank ends by an error, its last
    words are printed, the others end within 15 s, and the run is `failed`; checkpoints stay as they are. If
    this process is killed, the ranks stop as by SIGTERM.

    Args:
        run_path: of a run that is queued, or that goes on from its last checkpoint.
        num_processes: ranks.
        env: variables for the ranks besides this process's own.

    Returns:
        The exit status: rank 0's; after an error that of the rank which failed first.

    Raises:
        UserError: there is no such run.
    """
    run_dir = RunDir.open(run_path)
    group = _Ranks(run_dir, num_processes, env or {})
    with StopSignal(on_abort=group.abort) as stop:
        try:
            return group.wait(stop)
        finally:
            group.kill()


class _Ranks:
    """The processes of one run."""

    def __init__(self, run_dir: RunDir, size: int, env: Mapping[str, str]) -> None:
        """Start them."""
        import torch.distributed as dist

        self._run_dir = run_dir
        # Kept here, so that what a rank says of its end outlives every rank; any free port.
        self._store = dist.TCPStore("127.0.0.1", 0, None, True, wait_for_workers=False)
        common = {
            "WORLD_SIZE": str(size),
            "LOCAL_WORLD_SIZE": str(size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(self._store.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            "TORCHELASTIC_RESTART_COUNT": "0",
            place.LAUNCHER_PID: str(os.getpid()),
            clock.STARTED: repr(clock.command_start()),
            "PYTHONSAFEPATH": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")])),
        }
        if any(name == "lo" for _, name in socket.if_nameindex()):
            common["GLOO_SOCKET_IFNAME"] = "lo"  # a machine's own name may not resolve
        self._log_starts = {r: _size(log_path(run_dir.path, r)) for r in range(1, size)}
        self._processes: list[subprocess.Popen[bytes]] = []
        try:
            for rank in range(size):
                self._processes.append(self._start(rank, dict(os.environ) | common | dict(env)))
        except BaseException:
            self.kill()
            raise

    def _start(self, rank: int, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start one; those above 0 print into their logs. The terminal's ^C reaches this process alone."""
        command = [sys.executable, "-m", "rl_platform.job", str(self._run_dir.path)]
        own = dict(env) | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        if rank == 0:
            return subprocess.Popen(command, env=own, stdin=subprocess.DEVNULL, process_group=0)
        with open_log(self._run_dir.path, rank) as log:
            return subprocess.Popen(
                command, env=own, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0
            )

    def wait(self, stop: StopSignal) -> int:
        """Wait until all have ended; return the exit status."""
        handed_on = False
        while None in (codes := [process.poll() for process in self._processes]) and not any(codes):
            if stop.received is not None and not handed_on:
                self._send(stop.received)
                handed_on = True
            time.sleep(_POLL_S)
        self._end_all()
        status = self._processes[0].returncode
        if status >= 0 and self._run_dir.read_state()["state"] in ("finished", "preempted", "cancelled"):
            return status  # whatever became of a rank that had nothing left to do
        return self._failed(codes)

    def _failed(self, codes: list[int | None]) -> int:
        """Say what happened and write it down; return the exit status.

        `codes`: of the ranks that ended first; None of the others.
        """
        from rl_platform import distributed

        told = distributed.failure(distributed.shared(self._store, 0))
        # who said so first; else who was killed (a negative status), since the others only lost it
        bad = sorted((code, rank) for rank, code in enumerate(codes) if code)
        first = told.rank if told else bad[0][1] if bad else 0
        code = self._processes[first].returncode
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit status {code}"
        what = f"rank {first} {how}"
        if first > 0:
            what += f"; its log is {log_path(self._run_dir.path, first)}"
            print(self._last_words(first), file=sys.stderr)
        print(what, file=sys.stderr, flush=True)
        if told is None or self._run_dir.read_state()["state"] != "failed":
            self._run_dir.update_state(state="failed", error=f"{what}: {told.text}" if told else what)
        return 128 - code if code < 0 else code or 1

    def _last_words(self, rank: int) -> str:
        """The end of what a rank printed in this sitting."""
        with open(log_path(self._run_dir.path, rank), "rb") as log:
            log.seek(self._log_starts[rank])
            lines = log.read().decode(errors="replace").splitlines()
        return "\n".join(f"[rank {rank}] {line}" for line in lines[-_TAIL:])

    def _end_all(self) -> None:
        """Wait for the ranks to end by themselves, ask those that do not, kill those that still do not."""
        begin, asked = time.monotonic(), False
        while any(process.poll() is None for process in self._processes):
            since = time.monotonic() - begin
            if since > _KILL_S:
                self.kill()
            elif since > _ASK_S and not asked:
                self._send(signal.SIGTERM)
                asked = True
            time.sleep(_POLL_S)

    def _send(self, number: int) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(number)

    def abort(self) -> None:
        """After a second SIGINT: hand that on as well; the ranks end at once."""
        self._send(signal.SIGINT)

    def kill(self) -> None:
        """Kill what is left."""
        self._send(signal.SIGKILL)
        for process in self._processes:
            process.wait()


def main(argv: Sequence[str]) -> int:
    """`python -m rl_platform.ranks RUN N`: train on N ranks; return the exit status."""
    path, size = argv
    return exit_status(lambda: run_ranks(path, int(size)))


def redirect_output(run_path: Path, rank: int) -> IO[str]:
    """Let this process print into its log from now on; return where it printed errors before."""
    before = os.fdopen(os.dup(2), "w")
    sys.stdout.flush()
    sys.stderr.flush()
    with open_log(run_path, rank) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    return before


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
