from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rl_platform import clock
from rl_platform.signals import Interrupted, StopSignal


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 0), ("SIGUSR1", 0), ("SIGUSR2", 0)])
def test_a_signal_is_a_flag_with_an_exit_code(name: str, code: int) -> None:
    number = getattr(signal, name)
    before = signal.getsignal(number)
    with StopSignal() as stop:
        assert not stop
        stop.check()
        os.kill(os.getpid(), number)
        assert stop
        assert stop.received == number
        assert stop.exit_code == code
        with pytest.raises(Interrupted, match=name):
            stop.check()
    assert signal.getsignal(number) == before


def test_the_second_interrupt_ends_the_process_at_once(tmp_path: Path) -> None:
    script = f"""
import os, signal, time
from pathlib import Path
from rl_platform.signals import StopSignal
with StopSignal(on_abort=lambda: Path({str(tmp_path / "said")!r}).write_text("last words")):
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
"""
    assert subprocess.run([sys.executable, "-c", script], timeout=30, check=False).returncode == 130
    assert (tmp_path / "said").read_text() == "last words"


def test_outside_the_main_thread_it_catches_nothing() -> None:
    before = signal.getsignal(signal.SIGTERM)

    def work() -> None:
        with StopSignal() as stop:
            assert not stop

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) == before


def test_the_command_starts_with_its_process_and_the_next_job_with_itself() -> None:
    script = """
import time
begin = time.monotonic()
time.sleep(0.5)
from rl_platform import clock
first, second = clock.command_start(), clock.command_start()
assert first < begin, (first, begin)
assert begin - first < 5
assert second > begin + 0.5
"""
    subprocess.run([sys.executable, "-c", script], timeout=30, check=True)


@pytest.mark.parametrize("content", ["", "1 (a) S 2", "1 (a b) c) " + "0 " * 30])
def test_where_the_start_cannot_be_read_the_import_stands_in(tmp_path: Path, content: str) -> None:
    stat = tmp_path / "stat"
    stat.write_text(content)
    assert clock.process_start(stat) <= time.monotonic()
    assert clock.process_start(tmp_path / "absent") == clock.process_start(stat)
