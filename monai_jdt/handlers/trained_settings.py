"""Settings that must be the same at inference as in training: written beside the weights, and compared before these are used."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from monai.utils import optional_import

from monai_jdt.data.files.atomic import whole_file
from monai_jdt.data.problems import DataProblem, DataProblemError

if TYPE_CHECKING:
    from ignite.engine import Engine

_Events, _ = optional_import("ignite.engine", name="Events")


class TrainedSettingsWriter:
    """Write settings of a training as a JSON file beside its weights, after each validation.

    A weights file does not hold how the training images were normalised. `model.json` beside `model.pt` does: the bundles'
    `inference.yaml` takes its defaults from there. The file is written after the validation that has saved the
    weights, so that a training that ends before its first validation leaves the file of the weights that are there.

    Args:
        path: the file; it is replaced as a whole.
        settings: what JSON can hold.

    Example:
        >>> TrainedSettingsWriter("models/model.json", {"normalize": "ct"}).attach(evaluator)  # doctest: +SKIP
    """

    def __init__(self, path: str | os.PathLike[str], settings: Mapping[str, Any]) -> None:
        self.path = os.fspath(path)
        self.settings = dict(settings)

    def attach(self, engine: Engine) -> None:
        """Write after each run of the evaluator."""
        engine.add_event_handler(_Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Write the file."""
        with whole_file(self.path) as draft, open(draft, "w", encoding="utf-8") as file:
            json.dump(self.settings, file, indent=2)


def check_trained_settings(weights: str | os.PathLike[str], settings: Mapping[str, Any], names: Sequence[str]) -> None:
    """Compare settings with those that a training wrote beside its weights.

    Args:
        weights: the checkpoint; `model.json` beside `model.pt` is read. Without that file there is nothing to compare.
        settings: the settings of this run.
        names: which of them must be equal.

    Raises:
        DataProblemError: for the first setting that differs.
    """
    path = os.path.splitext(os.fspath(weights))[0] + ".json"
    if not os.path.isfile(path):
        return
    with open(path, encoding="utf-8") as file:
        trained = json.load(file)
    for name in names:
        # through JSON, which has no tuples
        given = json.loads(json.dumps(settings[name]))
        if name in trained and trained[name] != given:
            expected = f"{trained[name]!r}, as {os.fspath(weights)} was trained"
            raise DataProblemError([DataProblem(name, expected, repr(given), f"--{name} {json.dumps(trained[name])}")])
