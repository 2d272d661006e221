"""When does which loss help on images of several raters? The study of docs/study.md, resumable.

    python -m benchmarks.study OUT --data FOLDER [--sets lidc2d,...] [--cells TEXT] [--seeds 0,1,2,3,4] [--workers 2] [--kept]

Runs that are in OUT are not repeated. All cells of a seed come before the next seed, so that an interrupted study has whole seeds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.study.cells import CELLS, SEEDS
from benchmarks.study.processes import perform_all
from benchmarks.study.results import read_kept
from benchmarks.study.run import Run, perform
from benchmarks.study.sets import SETS


def main() -> None:
    """Do the runs that are not done."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.study", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--cells", default="", help="those whose name contains this text; empty: all")
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)), help="which, separated by commas")
    parser.add_argument("--kept", action="store_true", help="do not repeat the runs of benchmarks/study/kept")
    arguments = parser.parse_args()
    lists = sets_of(parser, arguments)
    cells = [cell for cell in CELLS if cell.set in lists and arguments.cells in cell.name]
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    runs = [Run(cell, seed, lists[cell.set], arguments.out, {}) for seed in seeds for cell in cells]
    if not runs:
        parser.error(f"--cells: expected a part of a cell's name in the tables, such as {CELLS[0].name!r}, got {arguments.cells!r}")
    if arguments.kept:
        kept, every = {result.about: result.run["settings"] for result in read_kept()}, len(runs)
        # with other settings it is another run
        runs = [run for run in runs if run.about not in kept or kept[run.about] != run.settings()]
        print(f"{every - len(runs)} of {every} runs are kept")
    perform_all(runs, arguments.workers, perform)


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
    try:
        return {name: tuple(SETS[name].lists(arguments.data, arguments.out / "data" / name.replace(" ", "_"))) for name in names}
    except FileNotFoundError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
