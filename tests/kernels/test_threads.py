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


@pytest.mark.parametrize("wanted", [1, 2, 3])
def test_a_task_is_given_out_after_its_span_is_prepared(wanted: int) -> None:
    torch.set_num_threads(wanted)
    ready: set[int] = set()
    early: list[int] = []
    callers = set()

    def prepare(first: int, last: int) -> None:
        callers.add(threading.current_thread())
        time.sleep(0.01)
        ready.update(range(first, last))

    def work(numbers: Iterator[int]) -> None:
        for number in numbers:
            time.sleep(0.001)
            if number not in ready:
                early.append(number)

    share_out(20, work, prepare)
    assert ready == set(range(20))
    assert not early
    assert callers == {threading.current_thread()}


def test_an_error_while_preparing_ends_what_is_under_way_first() -> None:
    torch.set_num_threads(2)
    running = []

    def prepare(first: int, last: int) -> None:
        if first == 0:
            time.sleep(0.02)
            raise ZeroDivisionError("first span")

    def work(numbers: Iterator[int]) -> None:
        for number in numbers:
            running.append(number)
            time.sleep(0.05)
            running.remove(number)

    with pytest.raises(ZeroDivisionError, match="first span"):
        share_out(50, work, prepare)
    assert not running


def test_a_thread_that_is_done_waits_for_spans_to_come() -> None:
    torch.set_num_threads(3)
    caller, done_by_caller = threading.current_thread(), []

    def work(numbers: Iterator[int]) -> None:
        for number in numbers:
            if threading.current_thread() is caller:
                time.sleep(0.05)
                done_by_caller.append(number)

    # the others have done theirs long before the caller's span is ready
    share_out(15, work, lambda first, last: time.sleep(0.05))
    assert len(done_by_caller) < 5


def test_a_thread_starts_when_the_first_of_its_spans_is_prepared() -> None:
    torch.set_num_threads(2)
    begun, prepared = threading.Event(), []

    def prepare(first: int, last: int) -> None:
        # the second span is prepared when the first is under way
        assert not prepared or begun.wait(10)
        prepared.append((first, last))

    def work(numbers: Iterator[int]) -> None:
        for _ in numbers:
            begun.set()

    share_out(16, work, prepare)
    assert sorted(prepared) == [(first, first + 2) for first in range(0, 16, 2)]
