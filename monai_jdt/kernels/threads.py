"""The threads that a compiled CPU kernel shares its tasks among: as many as torch has, the caller's being one.

Threads take tasks one by one, since another program may hold one of them up: each from a span of neighbours of its own, then from
the end of the longest one left. Not for tasks of many torch operations: their threads would hand the interpreter to and fro more often
than they compute.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import Condition, Lock

import torch

_pool: ThreadPoolExecutor | None = None
_pool_size = 0
_pool_lock = Lock()


def _forget_pool() -> None:
    """In a forked child, which has the parent's pool but none of its threads."""
    global _pool, _pool_size, _pool_lock
    _pool, _pool_size, _pool_lock = None, 0, Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def _helpers(wanted: int) -> ThreadPoolExecutor:
    """The threads besides the caller's."""
    global _pool, _pool_size
    with _pool_lock:
        if _pool is None or _pool_size < wanted:
            # the old one's threads end when nobody holds it any more
            _pool, _pool_size = ThreadPoolExecutor(wanted, "monai_jdt"), wanted
        return _pool


def share_out(tasks: int, work: Callable[[Iterator[int]], None], prepare: Callable[[int, int], None] | None = None) -> None:
    """Run `work` on every thread; each is given the numbers of the tasks that fall to it, one by one.

    Args:
        tasks: how many there are, numbered from 0. Each number is given once.
        work: sets up what a thread needs, and does the tasks that it is given.
        prepare: called by this thread with the first task of a span and the one after its last, before any of them is given out.
    """
    threads = max(min(torch.get_num_threads(), tasks), 1)
    spans: list[list[int]] = []
    all_known = False
    changed = Condition()

    def taken_from(own: list[int]) -> int | None:
        """A task of one's own span, or of another's; None if there is none and never will be."""
        with changed:
            while True:
                if own[0] < own[1]:
                    own[0] += 1
                    return own[0] - 1
                longest = max(spans, key=lambda span: span[1] - span[0], default=own)
                if longest[0] < longest[1]:
                    longest[1] -= 1
                    return longest[1]
                if all_known:
                    return None
                changed.wait()

    def drawn(own: list[int]) -> Iterator[int]:
        while (number := taken_from(own)) is not None:
            yield number

    started: list[Future] = []
    try:
        for k in range(threads - 1, -1, -1):
            own = [tasks * k // threads, tasks * (k + 1) // threads]
            if prepare is not None:
                prepare(*own)
            with changed:
                spans.append(own)
                all_known = k == 0
                changed.notify_all()
            if k > 0:
                started.append(_helpers(threads - 1).submit(work, drawn(own)))
            else:
                work(drawn(own))
        for other in started:
            # one that waits behind another caller's work has nothing left to do
            if not other.cancel():
                other.result()
    finally:
        # after an error or an interrupt, what is left is nobody's, and what is under way writes to memory that must outlive it
        with changed:
            for span in spans:
                span[0] = span[1]
            all_known = True
            changed.notify_all()
        wait([other for other in started if not other.cancel()])
