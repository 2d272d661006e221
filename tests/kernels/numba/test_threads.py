"""Tasks shared among threads: each once, and nothing under way when an error or an interrupt comes out."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from monai_jdt.kernels.numba import threads
from monai_jdt.kernels.numba.threads import share_out

#: By the pool of helpers, and by torch's own threads, where torch brings a library that can be asked.
BOTH_WAYS = pytest.mark.parametrize("at_once", [False, True])


@BOTH_WAYS
@pytest.mark.parametrize("wanted", [1, 2, 3])
def test_each_task_is_done_once(wanted: int, at_once: bool) -> None:
    torch.set_num_threads(wanted)
    done: list[int] = []
    names = set()

    def work(numbers: Iterator[int]) -> None:
        for number in numbers:
            time.sleep(0.002)
            done.append(number)
            names.add(threading.current_thread().name)

    share_out(20, work, at_once)
    assert sorted(done) == list(range(20))
    assert len(names) <= wanted
    assert threading.current_thread().name in names
    assert torch.get_num_threads() == wanted


@BOTH_WAYS
def test_an_error_of_a_thread_is_the_callers(at_once: bool) -> None:
    torch.set_num_threads(2)

    def work(numbers: Iterator[int]) -> None:
        for number in numbers:
            if number == 5:
                raise ZeroDivisionError("task 5")

    with pytest.raises(ZeroDivisionError, match="task 5"):
        share_out(9, work, at_once)


@BOTH_WAYS
def test_an_interrupt_ends_what_is_under_way_first(at_once: bool) -> None:
    torch.set_num_threads(2)
    threads._forget_pool()
    done, caller = [], threading.current_thread()

    def work(numbers: Iterator[int]) -> None:
        for number in numbers:
            if threading.current_thread() is caller:
                time.sleep(0.02)
                raise KeyboardInterrupt
            time.sleep(0.05)
            done.append(number)

    with pytest.raises(KeyboardInterrupt):
        share_out(50, work, at_once)
    before = len(done)
    assert before < 10
    time.sleep(0.2)
    assert len(done) == before


def test_without_a_new_thread_the_caller_does_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the interpreter is shutting down, or the system has no more threads: some of them, or none, can be started."""
    torch.set_num_threads(4)
    for can_start in (0, 1):
        threads._forget_pool()
        pool = threads._helpers(3)
        calls: list[object] = []

        def submit(
            function: Callable[..., Any],
            *arguments: object,
            right: Callable[..., Any] = pool.submit,
            calls: list[object] = calls,
            can_start: int = can_start,
        ) -> Any:
            calls.append(function)
            if len(calls) > can_start:
                raise RuntimeError("cannot schedule new futures after interpreter shutdown")
            return right(function, *arguments)

        monkeypatch.setattr(pool, "submit", submit)
        done: list[int] = []
        share_out(20, done.extend)
        assert sorted(done) == list(range(20))
        assert len(calls) == can_start + 1
    threads._forget_pool()


def test_a_helper_that_begins_late_finds_nothing_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits behind the work of another caller, whose memory may be gone when it begins."""
    torch.set_num_threads(2)
    threads._forget_pool()
    gate, done = threading.Event(), []
    blocking = threads._helpers(1).submit(gate.wait)

    def work(numbers: Iterator[int]) -> None:
        done.append((threading.current_thread().name, list(numbers)))

    share_out(6, work)
    assert [sorted(numbers) for _, numbers in done] == [list(range(6))]
    gate.set()
    blocking.result()
    time.sleep(0.05)
    assert all(not numbers for _, numbers in done[1:])


AFTER_THE_MAIN_THREAD = """
import atexit, threading
import torch
from monai_jdt.kernels.numba.threads import share_out

torch.set_num_threads(3)

def share(when):
    done = []
    share_out(9, done.extend)
    print(when, sorted(done) == list(range(9)))

def late():
    threading.main_thread().join()
    share("thread")

threading.Thread(target=late).start()
atexit.register(share, "atexit")
"""


def test_after_the_main_thread_has_ended() -> None:
    done = subprocess.run([sys.executable, "-c", AFTER_THE_MAIN_THREAD], capture_output=True, text=True)
    assert done.stdout.split() == ["thread", "True", "atexit", "True"], done.stderr
