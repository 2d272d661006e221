"""When does which loss help on images of several raters? The study of docs/study.md, resumable.

    python -m benchmarks.study OUT --data FOLDER [--sets lidc2d,...] [--cells TEXT] [--seeds 0,1,2,3,4] [--workers 2]

Runs that are in OUT are not repeated. All cells of a seed come before the next seed, so that an interrupted study has whole seeds.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from benchmarks.study.cells import CELLS, SEEDS
from benchmarks.study.run import Run, perform
from benchmarks.study.sets import SETS

Result = TypeVar("Result")


def main() -> None:
    """Do the runs that are not done."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.study", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--cells", default="", help="those whose name contains this text; empty: all")
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)), help="which, separated by commas")
    arguments = parser.parse_args()
    lists = sets_of(parser, arguments)
    cells = [cell for cell in CELLS if cell.set in lists and arguments.cells in cell.name]
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    perform_all([Run(cell, seed, lists[cell.set], arguments.out, {}) for seed in seeds for cell in cells], arguments.workers, perform)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the trials have, too."""
    parser.add_argument("out", type=Path, help="folder of the runs")
    parser.add_argument("--data", type=Path, help="folder of lidc/lidc2d.npz, lidc/lidc3d.npz and chase_db1; phantoms need none")
    parser.add_argument("--sets", default=",".join(SETS), help="which, separated by commas")
    parser.add_argument("--workers", type=int, default=1, help="runs at a time, each on one thread")


def sets_of(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> dict[str, tuple[Path, ...]]:
    """Return the data lists of the sets that are named. Files that are not there are written."""
    names = arguments.sets.split(",")
    unknown = sorted(set(names) - set(SETS))
    if unknown:
        parser.error(f"--sets: expected some of {', '.join(SETS)}, got {', '.join(unknown)}")
    return {name: tuple(SETS[name].lists(arguments.data, arguments.out / "data" / name.replace(" ", "_"))) for name in names}


def perform_all(runs: Sequence[Run], workers: int, action: Callable[[Run], Result]) -> list[Result]:
    """Do all runs, some at a time, with the time left. One that fails does not end the others.

    Raises:
        SystemExit: at the end, if one has failed.
    """
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes and of what they start
    found: dict[int, Result] = {}
    failed = []
    with ThreadPoolExecutor(workers) as pool:
        outcomes = {pool.submit(_in_process, action, run): number for number, run in enumerate(runs)}
        for future in tqdm(as_completed(outcomes), desc="runs", total=len(runs), disable=None, smoothing=0):
            number = outcomes[future]
            result, error = future.result()
            if error:
                failed.append(f"{runs[number].cell.slug}, seed {runs[number].seed}: {error}")
                tqdm.write(failed[-1])
            else:
                found[number] = result
    if failed:
        raise SystemExit(f"{len(failed)} of {len(runs)} runs failed; the first: {failed[0]}")
    return [found[number] for number in range(len(runs))]


def _in_process(action: Callable[[Run], Any], run: Run) -> tuple[Any, str]:
    """Do a run in a process of its own, which leaves nothing to the next. Return its result, and why it failed."""
    context = get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(there, action, run))
    process.start()
    there.close()
    try:
        outcome: tuple[Any, str] = here.recv()
    except EOFError:
        process.join()
        return None, f"its process ended with exit code {process.exitcode} before a result"
    process.join()
    return outcome


def _send(there: Connection, action: Callable[[Run], Any], run: Run) -> None:
    """Send the result of a run, or why it failed. A bundle ends with SystemExit."""
    try:
        there.send((action(run), ""))
    except (Exception, SystemExit) as error:
        there.send((None, f"{type(error).__name__}: {error}"))


if __name__ == "__main__":
    main()
