"""The threads that a CPU kernel shares its tasks among: as many as torch has.

Threads take tasks one by one, since another program may hold one of them up. Torch's own threads wait for each other after every
operation, which on a shared machine costs several times the work; so an operation of torch runs on one thread here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from threading import Barrier, Lock

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


def _threads(wanted: int) -> ThreadPoolExecutor:
    global _pool, _pool_size
    with _pool_lock:
        if _pool is None or _pool_size < wanted:
            of_torch = torch.get_num_threads()
            all_there = Barrier(wanted)
            # the old one's threads end when nobody holds it any more
            _pool, _pool_size = ThreadPoolExecutor(wanted, "monai_jdt", lambda: torch.set_num_threads(1)), wanted
            for started in [_pool.submit(all_there.wait) for _ in range(wanted)]:
                started.result()
            # the number is a thread's own, but what it is set to last is what new threads begin with
            torch.set_num_threads(of_torch)
        return _pool


def share_out(tasks: int, work: Callable[[Iterator[int]], None], *, on_caller: bool = True) -> None:
    """Run `work` on every thread; each is given the numbers of the tasks that fall to it, one by one.

    Args:
        tasks: how many there are, numbered from 0. Each number is given once.
        work: sets up what a thread needs, and does the tasks that it is given.
        on_caller: the caller's thread is one of them. False: it waits, since its operations of torch would run on all of torch's.
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

    def unrecorded() -> None:
        # whether autograd records is each thread's own matter
        with torch.no_grad():
            work(drawn())

    wanted = min(torch.get_num_threads(), tasks)
    others = wanted - 1 if on_caller or wanted == 1 else wanted
    started = [_threads(others).submit(unrecorded) for _ in range(others)] if others > 0 else []
    try:
        if others < wanted:
            unrecorded()
        for other in started:
            # one that waits behind another caller's work has nothing left to do
            if others == wanted or not other.cancel():
                other.result()
    finally:
        # after an error or an interrupt, what is left is nobody's, and what is under way writes to memory that must outlive it
        for _ in drawn():
            pass
        wait([other for other in started if not other.cancel()])
