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
from time import perf_counter

import torch

from monai_jdt.kernels.numba.torch_team import Team, team_of_torch

#: Seconds by which torch's threads may end after the caller, if that is also longer than the caller worked. Then a thread was kept from
#: its core by another program, and some calls are left to the pool, whose helpers nobody waits for before they have begun: the fewest
#: after a thread that comes late once, twice as many each time that the next call finds one late again, up to the most.
_LATE, _FEWEST_BY_POOL, _MOST_BY_POOL = 0.001, 4, 256

_pool: ThreadPoolExecutor | None = None
_pool_size = 0
_pool_lock = Lock()
_left_to_pool = 0
_next_left = _FEWEST_BY_POOL


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


def share_out(tasks: int, work: Callable[[Iterator[int]], None], at_once: bool = False) -> None:
    """Run `work` on every thread. Each thread gets the numbers of its tasks one by one.

    After an error or an interrupt the tasks that are left are dropped; it comes out once no task is under way any more.

    Args:
        tasks: how many there are, numbered from 0. Each number is given once.
        work: sets up what a thread needs, and does the tasks that it is given.
        at_once: the tasks are short. Then torch's own threads do them, where they can be asked: they are awake. But the caller waits
            for each of them, so that they are left alone for a while where one comes late.
    """
    global _left_to_pool, _next_left
    threads = min(torch.get_num_threads(), tasks)
    if threads <= 1:
        work(iter(range(tasks)))
        return
    spans = _Spans(tasks, threads)
    team = team_of_torch() if at_once else None
    if team is None or _left_to_pool > 0:
        _left_to_pool -= team is not None
        _by_pool(spans, work)
    elif _by_team(team, spans, work) > _LATE:
        _left_to_pool, _next_left = _next_left, min(2 * _next_left, _MOST_BY_POOL)
    else:
        _next_left = _FEWEST_BY_POOL


class _Spans:
    """The tasks that are left, one span of neighbours for each thread.

    Args:
        tasks: how many there are.
        threads: how many share them.
    """

    def __init__(self, tasks: int, threads: int) -> None:
        self._left = [[tasks * k // threads, tasks * (k + 1) // threads] for k in range(threads)]
        #: guards the spans, and what the threads tell one another
        self.changed = Condition()
        self.tasks, self.threads, self.done = tasks, threads, 0

    def drawn(self, thread: int) -> Iterator[int]:
        """Yield task numbers from the front of a thread's own span, then from the end of the longest.

        A thread so keeps to neighbours in memory, and a span that another thread still works on is taken from its far end.
        """
        own = self._left[thread]
        while True:
            with self.changed:
                longest = max(self._left, key=lambda span: span[1] - span[0])
                if own[0] < own[1]:
                    own[0] += 1
                    number = own[0] - 1
                elif longest[0] < longest[1]:
                    longest[1] -= 1
                    number = longest[1]
                else:
                    return
            yield number
            with self.changed:
                self.done += 1

    def drop(self) -> None:
        """Leave no task. The caller holds `changed`."""
        for span in self._left:
            span[0] = span[1]


def _by_team(team: Team, spans: _Spans, work: Callable[[Iterator[int]], None]) -> float:
    """Share out among torch's own threads.

    Returns:
        Seconds that the caller waited for the others; 0 if it worked longer than that.
    """
    errors: list[BaseException] = []
    ended = begun = perf_counter()

    def take_part(member: int) -> None:
        nonlocal ended
        try:
            work(spans.drawn(member))
            if member == 0:
                ended = perf_counter()
        except BaseException as error:
            errors.append(error)
            with spans.changed:
                spans.drop()

    team(spans.threads, take_part)
    if errors:
        raise errors[0]
    if spans.done < spans.tasks:
        # a second interrupt, between the lines above that keep the first one
        raise KeyboardInterrupt
    waited = perf_counter() - ended
    return waited if waited > ended - begun else 0.0


def _by_pool(spans: _Spans, work: Callable[[Iterator[int]], None]) -> None:
    """Share out among the caller's thread and a pool of helpers.

    Where no thread can be started (the interpreter is shutting down, the system has no more), the others do its share.
    """
    changed = spans.changed
    at_work: set[int] = set()
    errors: list[BaseException] = []

    def help_out(helper: int) -> None:
        with changed:
            at_work.add(helper)
        try:
            work(spans.drawn(helper))
        except BaseException as error:
            errors.append(error)
        finally:
            with changed:
                at_work.discard(helper)
                changed.notify_all()

    started: list[Future] = []
    try:
        for helper in range(1, spans.threads):
            try:
                started.append(_helpers(spans.threads - 1).submit(help_out, helper))
            except RuntimeError:
                # no new thread: the interpreter is shutting down, or the system has no more
                break
        work(spans.drawn(0))
    finally:
        # After an error or an interrupt: drop the remaining tasks, then wait for running ones, which still write into this call's
        # memory. A helper that has not begun, since another caller's work is before it, finds nothing left to do.
        with changed:
            spans.drop()
            changed.wait_for(lambda: not at_work)
        for future in started:
            future.cancel()
    if errors:
        raise errors[0]
