"""The threads that a compiled CPU kernel shares its tasks among: as many as torch has, the caller's being one.

Threads take tasks one by one, since another program may hold one of them up: each from spans of neighbours of its own, then from
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


#: So many spans of a thread are prepared one after another, so that it need not wait for all of them.
_PIECES = 4


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
    pieces = 1 if prepare is None else _PIECES
    spans: list[list[list[int]]] = [[] for _ in range(threads)]
    all_known = False
    changed = Condition()

    def taken_by(thread: int) -> int | None:
        """A task of one's own, or of another's; None if there is none and never will be."""
        with changed:
            while True:
                for span in spans[thread]:
                    if span[0] < span[1]:
                        span[0] += 1
                        return span[0] - 1
                longest = max((span for theirs in spans for span in theirs), key=lambda span: span[1] - span[0], default=[0, 0])
                if longest[0] < longest[1]:
                    longest[1] -= 1
                    return longest[1]
                if all_known:
                    return None
                changed.wait()

    def drawn(thread: int) -> Iterator[int]:
        while (number := taken_by(thread)) is not None:
            yield number

    started: list[Future] = []
    try:
        for thread in range(threads - 1, -1, -1):
            for piece in range(thread * pieces, (thread + 1) * pieces):
                span = [tasks * piece // (threads * pieces), tasks * (piece + 1) // (threads * pieces)]
                if prepare is not None and span[0] < span[1]:
                    prepare(*span)
                with changed:
                    spans[thread].append(span)
                    all_known = piece == pieces - 1
                    changed.notify_all()
                if thread > 0 and piece == thread * pieces:
                    started.append(_helpers(threads - 1).submit(work, drawn(thread)))
        work(drawn(0))
        for other in started:
            # one that waits behind another caller's work has nothing left to do
            if not other.cancel():
                other.result()
    finally:
        # after an error or an interrupt, what is left is nobody's, and what is under way writes to memory that must outlive it
        with changed:
            for span in [span for theirs in spans for span in theirs]:
                span[0] = span[1]
            all_known = True
            changed.notify_all()
        wait([other for other in started if not other.cancel()])
