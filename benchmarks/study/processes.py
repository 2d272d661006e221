"""Runs in processes of their own, some at a time.

Not in `__main__`: a new process does not import the main module of a package, and would not find what it is to call.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from tqdm import tqdm

from benchmarks.study.run import Run

Result = TypeVar("Result")


def perform_all(runs: Sequence[Run], workers: int, action: Callable[[Run], Result]) -> list[Result]:
    """Do all runs, some at a time, with the time left. One that fails does not end the others.

    Raises:
        SystemExit: at the end, if one has failed.
    """
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes and of what they start
    found: dict[int, Result] = {}
    failed = []
    alive: set[BaseProcess] = set()
    pool = ThreadPoolExecutor(workers)
    try:
        outcomes = {pool.submit(_in_process, action, run, alive): number for number, run in enumerate(runs)}
        for future in tqdm(as_completed(outcomes), desc="runs", total=len(runs), disable=None, smoothing=0):
            number = outcomes[future]
            result, error = future.result()
            if error:
                failed.append(f"{runs[number].cell.slug}, seed {runs[number].seed}: {error}")
                tqdm.write(failed[-1])
            else:
                found[number] = result
    finally:
        # after an interruption: no other run, and an end of those at hand
        pool.shutdown(wait=False, cancel_futures=True)
        for process in list(alive):
            process.terminate()
    if failed:
        raise SystemExit(f"{len(failed)} of {len(runs)} runs failed; the first: {failed[0]}")
    return [found[number] for number in range(len(runs))]


def _in_process(action: Callable[[Run], Any], run: Run, alive: set[BaseProcess]) -> tuple[Any, str]:
    """Do a run in a process of its own, which leaves nothing to the next. Return its result, and why it failed.

    Args:
        action: what to do.
        run: with what.
        alive: where the process is while it runs.
    """
    context = get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(there, action, run))
    process.start()
    alive.add(process)
    there.close()
    try:
        outcome: tuple[Any, str] = here.recv()
    except EOFError:
        process.join()
        return None, f"its process ended with exit code {process.exitcode} before a result"
    finally:
        process.join()
        alive.discard(process)
    return outcome


def _send(there: Connection, action: Callable[[Run], Any], run: Run) -> None:
    """Send the result of a run, or why it failed. A bundle ends with SystemExit."""
    try:
        there.send((action(run), ""))
    except (Exception, SystemExit) as error:
        there.send((None, f"{type(error).__name__}: {error}"))
