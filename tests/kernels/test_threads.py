"""Tasks shared among threads: each once, and nothing under way when an error or an interrupt comes out."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import torch

from monai_jdt.kernels import threads
from monai_jdt.kernels.threads import share_out


@pytest.mark.parametrize("wanted", [1, 2, 3])
def test_each_task_is_done_once(wanted: int) -> None:
    torch.set_num_threads(wanted)
    done: list[int] = []
    names = set()

    def work(numbers: Iterator[int]) -> None:
        for number in numbers:
            time.sleep(0.002)
            done.append(number)
            names.add(threading.current_thread().name)

    share_out(20, work)
    assert sorted(done) == list(range(20))
    assert len(names) <= wanted
    assert threading.current_thread().name in names
    assert torch.get_num_threads() == wanted


def test_an_error_of_a_thread_is_the_callers() -> None:
    torch.set_num_threads(2)

    def work(numbers: Iterator[int]) -> None:
        for number in numbers:
            if number == 5:
                raise ZeroDivisionError("task 5")

    with pytest.raises(ZeroDivisionError, match="task 5"):
        share_out(9, work)


def test_an_interrupt_ends_what_is_under_way_first() -> None:
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
        share_out(50, work)
    before = len(done)
    assert before < 10
    time.sleep(0.2)
    assert len(done) == before
