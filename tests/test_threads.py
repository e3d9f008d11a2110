from __future__ import annotations

import os
import threading

import pytest
import torch

from rl_platform.threads import ThreadsOfTwo, available_threads


def where_and_how() -> tuple[str, int, bool]:
    return threading.current_thread().name, torch.get_num_threads(), torch.is_grad_enabled()


def test_the_two_pieces_run_at_once_on_half_of_the_processors_each() -> None:
    before = torch.get_num_threads()
    both = threading.Barrier(2)
    threads = ThreadsOfTwo(4)
    with threads:
        other = threads.beside(lambda: (both.wait(10), where_and_how())[1])
        both.wait(10)  # would break if the other had to come first
        assert torch.get_num_threads() == 2
        name, each, gradients = other()
    assert name != threading.current_thread().name
    assert each == 2
    assert not gradients
    assert torch.get_num_threads() == before


def test_on_one_processor_they_take_turns_on_the_same_thread() -> None:
    threads = ThreadsOfTwo(1)
    with threads:
        assert torch.get_num_threads() == 1
        assert threads.beside(where_and_how)()[0] == threading.current_thread().name


def test_an_error_beside_is_raised_where_the_result_is_asked_for() -> None:
    def fail() -> None:
        raise ZeroDivisionError("beside")

    threads = ThreadsOfTwo(2)
    with threads:
        result = threads.beside(fail)
        with pytest.raises(ZeroDivisionError, match="beside"):
            result()


def test_available_threads_are_those_of_the_process_unless_asked() -> None:
    assert available_threads(3) == 3
    if hasattr(os, "sched_getaffinity"):
        assert available_threads(None) == len(os.sched_getaffinity(0))
