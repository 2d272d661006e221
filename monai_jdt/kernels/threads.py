"""The threads that a compiled CPU kernel shares its tasks among: as many as torch has, the caller's being one.

Threads take tasks one by one, since another program may hold one of them up. Not for tasks of many torch operations: their threads
would hand the interpreter to and fro more often than they compute.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from threading import Lock

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


def share_out(tasks: int, work: Callable[[Iterator[int]], None]) -> None:
    """Run `work` on every thread; each is given the numbers of the tasks that fall to it, one by one.

    Args:
        tasks: how many there are, numbered from 0. Each number is given once.
        work: sets up what a thread needs, and does the tasks that it is given.
    """
    numbers = iter(range(tasks))
    lock = Lock()

    def drawn() -> Iterator[int]:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            yield number

    helpers = min(torch.get_num_threads(), tasks) - 1
    started = [_helpers(helpers).submit(work, drawn()) for _ in range(helpers)] if helpers > 0 else []
    try:
        work(drawn())
        for other in started:
            # one that waits behind another caller's work has nothing left to do
            if not other.cancel():
                other.result()
    finally:
        # after an error or an interrupt, what is left is nobody's, and what is under way writes to memory that must outlive it
        for _ in drawn():
            pass
        wait([other for other in started if not other.cancel()])
