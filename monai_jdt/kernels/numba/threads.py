"""The threads that a compiled CPU kernel shares its tasks among: as many as torch has, the caller's being one.

Threads take tasks one by one, since another program may hold one of them up: each from a span of neighbours of its own, then from
the end of the longest one left. Not for tasks of many torch operations: their threads would hand the interpreter to and fro more often
than they compute.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Condition, Lock

import torch

_pool: ThreadPoolExecutor | None = None
_pool_size = 0
_pool_lock = Lock()


def _forget_pool() -> None:
    """Drop the pool in a forked child, which has the parent's pool but none of its threads, and perhaps its lock, held."""
    global _pool, _pool_size, _pool_lock
    _pool, _pool_size, _pool_lock = None, 0, Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def _helpers(wanted: int) -> ThreadPoolExecutor:
    """Return a pool of at least so many threads, besides the caller's. All calls of the process share it."""
    global _pool, _pool_size
    with _pool_lock:
        if _pool is None or _pool_size < wanted:
            # the old one's threads end when nobody holds it any more
            _pool, _pool_size = ThreadPoolExecutor(wanted, "monai_jdt"), wanted
        return _pool


def share_out(tasks: int, work: Callable[[Iterator[int]], None]) -> None:
    """Run `work` on every thread. Each thread gets the numbers of its tasks one by one.

    Where no thread can be started (the interpreter is shutting down, the system has no more), the others do its share.
    Long, since its inner functions share the spans, the lock and the errors.

    Args:
        tasks: how many there are, numbered from 0. Each number is given once.
        work: sets up what a thread needs, and does the tasks that it is given.
    """
    threads = min(torch.get_num_threads(), tasks)
    if threads <= 1:
        work(iter(range(tasks)))
        return
    spans = [[tasks * k // threads, tasks * (k + 1) // threads] for k in range(threads)]
    #: guards what the threads share: spans, helpers at work, and their errors
    changed = Condition()
    at_work: set[int] = set()
    errors: list[BaseException] = []

    def drawn(own: list[int]) -> Iterator[int]:
        """Yield task numbers from the front of one's own span, then from the end of the longest.

        A thread so keeps to neighbours in memory, and a span that another thread still works on is taken from its far end.
        """
        while True:
            with changed:
                longest = max(spans, key=lambda span: span[1] - span[0])
                if own[0] < own[1]:
                    own[0] += 1
                    number = own[0] - 1
                elif longest[0] < longest[1]:
                    longest[1] -= 1
                    number = longest[1]
                else:
                    return
            yield number

    def help_out(helper: int) -> None:
        with changed:
            at_work.add(helper)
        try:
            work(drawn(spans[helper]))
        except BaseException as error:
            errors.append(error)
        finally:
            with changed:
                at_work.discard(helper)
                changed.notify_all()

    started: list[Future] = []
    try:
        for helper in range(1, threads):
            try:
                started.append(_helpers(threads - 1).submit(help_out, helper))
            except RuntimeError:
                # no new thread: the interpreter is shutting down, or the system has no more
                break
        work(drawn(spans[0]))
    finally:
        # After an error or an interrupt: drop the remaining tasks, then wait for running ones, which still write into this call's
        # memory. A helper that has not begun, since another caller's work is before it, finds nothing left to do.
        with changed:
            for span in spans:
                span[0] = span[1]
            changed.wait_for(lambda: not at_work)
        for future in started:
            future.cancel()
    if errors:
        raise errors[0]
