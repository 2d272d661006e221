"""Trials that choose the settings of a set for the baseline, on validation patients. Every loss of the study gets the same settings.

    python -m benchmarks.study.tune OUT --data FOLDER [--sets lidc2d,...] [--workers 2]

The baseline, MONAI's DiceCELoss on the majority, is trained with each learning rate, and with the best one for half and for twice as
many epochs. Seeds are others than those of the study. `OUT/tuning.csv` gets every validation of every trial, and the table that is
printed the last one of each.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.study.__main__ import add_arguments, sets_of
from benchmarks.study.cells import CELLS, EPOCHS, USUAL
from benchmarks.study.processes import perform_all
from benchmarks.study.run import Run, train, write_rows

RATES = (5e-4, 1e-3, 2e-3, 4e-3)
#: Another one than those of the study.
SEED = 100
SCORE = "val_thresholded_dice"
#: How often a trial is validated.
LOOKS = 5


def trial(run: Run) -> list[dict[str, Any]]:
    """Train, unless that is done, and return a row for each validation, the last one's last."""
    table = run.folder / "training" / "eval" / "training.csv"
    done = run.folder / "done"
    if not done.exists():
        train(run)
        done.touch()
    about = {"set": run.cell.set, "learning_rate": run.keys["learning_rate"], "epochs": run.keys["epochs"]}
    with table.open(newline="") as file:
        # a row for each epoch and score
        return [about | {"epoch": row["epoch"], SCORE: row["value"]} for row in csv.DictReader(file) if row["name"] == SCORE]


def trials(name: str, lists: tuple[Path, ...], out: Path, settings: Sequence[Mapping[str, Any]]) -> list[Run]:
    """Return the baseline of a set with each of the settings."""
    cell = next(cell for cell in CELLS if (cell.set, cell.name) == (name, USUAL))
    named = [replace(cell, name=f"trial {' '.join(str(value) for value in keys.values())}") for keys in settings]
    looks = [{"val_interval": max(keys["epochs"] // LOOKS, 1)} for keys in settings]
    return [Run(one, SEED, lists, out, {**keys, **look}) for one, keys, look in zip(named, settings, looks, strict=True)]


def best_of(rows: Sequence[Mapping[str, Any]]) -> float:
    """Return the score at the end of a trial."""
    return float(rows[-1][SCORE])


def main() -> None:
    """Do the trials that are not done."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.study.tune", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    arguments = parser.parse_args()
    found: list[dict[str, Any]] = []
    for name, lists in sets_of(parser, arguments).items():
        if len(lists) > 1:
            print(f"{name}: no trials, since each of its patients is tested in some fold", flush=True)
            continue
        epochs = EPOCHS[name]
        by_rate = trials(name, lists, arguments.out, [{"learning_rate": rate, "epochs": epochs} for rate in RATES])
        tables = perform_all(by_rate, arguments.workers, trial)
        best = max(tables, key=best_of)[-1]["learning_rate"]
        by_epochs = trials(
            name, lists, arguments.out, [{"learning_rate": best, "epochs": number} for number in (epochs // 2, 2 * epochs)]
        )
        tables += perform_all(by_epochs, arguments.workers, trial)
        for table in tables:
            last = table[-1]
            print(f"{name}: learning rate {last['learning_rate']}, {last['epochs']} epochs: {SCORE} {best_of(table):.4f}", flush=True)
            found += table
    write_rows(arguments.out / "tuning.csv", found)


if __name__ == "__main__":
    main()
