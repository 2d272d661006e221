"""The course of a training as a table: loss and validation metrics of each epoch."""

from __future__ import annotations

import csv
import os
from typing import TYPE_CHECKING, Any

import torch
from monai.utils import optional_import

from monai_jdt.data.files.atomic import whole_file

if TYPE_CHECKING:
    from ignite.engine import Engine

_Events, _ = optional_import("ignite.engine", name="Events")
_idist, _ = optional_import("ignite.distributed")

_COLUMNS = ("epoch", "name", "value")


class TrainingTableWriter:
    """Write the metrics of a trainer and its evaluator as a CSV file with the columns `epoch, name, value`.

    The file is replaced as a whole after each epoch and each validation, so that a training that is killed leaves a table of the epochs
    before. A training that starts at a later epoch keeps the rows of earlier ones.

    Args:
        path: the file; folders are made.
        validator: the evaluator whose metrics are written too, or None.

    Example:
        >>> TrainingTableWriter("eval/training.csv", evaluator).attach(trainer)  # after EpochLoss  # doctest: +SKIP
    """

    def __init__(self, path: str | os.PathLike[str], validator: Engine | None = None) -> None:
        self.path = os.fspath(path)
        self.validator = validator
        self._rows: list[tuple[int, str, float]] | None = None

    def attach(self, engine: Engine) -> None:
        """Write after each epoch of the trainer, and after each run of the evaluator."""
        engine.add_event_handler(_Events.EPOCH_COMPLETED, self)
        if self.validator is not None:
            self.validator.add_event_handler(_Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Write the table with the metrics of the engine's epoch."""
        epoch = engine.state.epoch
        if self._rows is None:
            self._rows = [row for row in self._rows_of_file() if row[0] < epoch]
        found = {name: number for name, value in engine.state.metrics.items() if (number := _number(value)) is not None}
        # a validation that is repeated replaces its numbers
        self._rows = [row for row in self._rows if row[0] != epoch or row[1] not in found]
        self._rows += [(epoch, name, number) for name, number in found.items()]
        if _idist.get_rank() > 0:
            return
        with whole_file(self.path) as draft, open(draft, "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([_COLUMNS, *self._rows])

    def _rows_of_file(self) -> list[tuple[int, str, float]]:
        try:
            with open(self.path, encoding="utf-8", newline="") as file:
                return [(int(row["epoch"]), row["name"], float(row["value"])) for row in csv.DictReader(file)]
        except (OSError, KeyError, TypeError, ValueError):  # none, or no table of this kind: it is replaced
            return []


def _number(value: Any) -> float | None:
    """Return a metric with one element as a number, None for others."""
    try:
        tensor = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        return None
    return float(tensor) if tensor.numel() == 1 else None
