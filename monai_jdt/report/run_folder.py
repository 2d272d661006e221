"""The folder of a run: what was run on what, so that a page can be made of it later, on this machine or another one.

It holds `run.json` (a :class:`RunRecord`), the scores in `evaluation.csv`, and after a training `training.csv`.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from monai_jdt.data.files.atomic import whole_file
from monai_jdt.data.names import with_escapes
from monai_jdt.report.evaluation_rows import EVALUATION_COLUMNS
from monai_jdt.report.rated_cases import RatedCase
from monai_jdt.validation import error_sentence

#: The files of a run's folder.
RUN_FILE, SCORES_FILE, TRAINING_FILE = "run.json", "evaluation.csv", "training.csv"
#: The columns of `training.csv`: losses and validation metrics by epoch.
TRAINING_COLUMNS = ("epoch", "name", "value")
#: The format of `run.json`. A file with other fields needs another number, so that old packages refuse new files.
_FORMAT = 2
_FIX = "write the folder again, by `evaluate` or by the evaluation of a bundle"


def _installed_versions() -> dict[str, str]:
    from monai_jdt import __version__

    return {
        "monai_jdt": __version__,
        "monai": version("monai"),
        "torch": version("torch"),
        "python": platform.python_version(),
    }


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


@dataclass(frozen=True)
class RunModel:
    """The predictions of one model.

    Args:
        name: as in the column "model" of the scores.
        folder: where its predictions are, one file for each case.
        kind: what the numbers are: "auto", "labels" or "probabilities".
        pattern: a prediction's path in the folder, as :class:`monai_jdt.report.prediction_files.PredictionFolder` takes it.
    """

    name: str
    folder: str
    kind: str = "auto"
    pattern: str | None = None


@dataclass(frozen=True)
class RunRecord:
    """What was run.

    Args:
        what: the verb or the bundle, such as "evaluate".
        settings: options or configuration values, as text.
        datalist: the list's file, or the folder of the data.
        cases: the cases that were meant to be scored. Nothing else about a patient is recorded.
        models: at least one.
        regions: name to label values.
        decision: how masks were made of probabilities: "threshold", "expected_dice" or "expected_jaccard".
        section: the part of the list, such as "validation".
        failures: what has no score, and why.
        empty_below: masks that were expected to score less were left empty.
        exclusive: no voxel can be in two regions: see :func:`monai_jdt.report.evaluation_rows.decided_mask`.
        channel_dim: the axis of the channels in the images' files, as :class:`monai_jdt.transforms.LoadVolume` takes it.
        versions: package to version.
        date: ISO 8601, UTC.
    """

    what: str
    settings: Mapping[str, str]
    datalist: str
    cases: tuple[RatedCase, ...]
    models: tuple[RunModel, ...]
    regions: Mapping[str, tuple[int, ...]]
    decision: str = "threshold"
    section: str = "all"
    failures: Mapping[str, str] = field(default_factory=dict)
    empty_below: float = 0.0
    exclusive: bool = False
    channel_dim: str | int | None = None
    versions: Mapping[str, str] = field(default_factory=_installed_versions)
    date: str = field(default_factory=_now)


def write_run(folder: str | os.PathLike[str], record: RunRecord) -> str:
    """Write `run.json` as a whole. A path inside the folder is written relative to it, any other as absolute.

    So a folder with its predictions in it can be moved. Write the scores first: the record has their digest, so that a run that was
    killed between the two files is not taken for the run of an older record.

    Args:
        folder: the run's; it is made.
        record: what was run.

    Returns:
        The path of the file.
    """
    place = os.path.abspath(folder)

    def placed(path: str) -> str:
        path = os.path.abspath(path)
        return os.path.relpath(path, place) if os.path.commonpath([place, path]) == place else path

    path = os.path.join(folder, RUN_FILE)
    content = {"format": _FORMAT, "scores": _digest_of_scores(folder), **asdict(_placed_record(record, placed))}
    with whole_file(path) as draft:
        # a byte of a file's name that is no text becomes JSON's escape of it, which is read back as it was
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        Path(draft).write_text(text, encoding="utf-8", errors="backslashreplace")
    return path


def read_run(folder: str | os.PathLike[str]) -> RunRecord:
    """Read `run.json`.

    Args:
        folder: the run's.

    Returns:
        What was run, with absolute paths. Names of models, cases, patients, raters and regions are those of the scores, in which bytes
        that are no text are escaped.

    Raises:
        ValueError: no such file, no JSON, another format, no model, or scores that were written without this record.
    """
    path = os.path.join(folder, RUN_FILE)
    content = _content_of(path)
    if content.pop("format", None) != _FORMAT:
        raise ValueError(error_sentence(path, f"a run in format {_FORMAT}", "another format", _FIX))
    if content.pop("scores", None) != _digest_of_scores(folder):
        got = f"one of other scores: the run ended early, or {SCORES_FILE} was changed"
        raise ValueError(error_sentence(path, f"the record of the scores in {SCORES_FILE}", got, _FIX))
    try:
        record = RunRecord(
            **{
                **content,
                "cases": tuple(
                    RatedCase(**{**case, **{key: tuple(case[key]) for key in ("files", "raters", "image")}})
                    for case in content["cases"]
                ),
                "models": tuple(RunModel(**model) for model in content["models"]),
                "regions": {name: tuple(values) for name, values in content["regions"].items()},
            }
        )
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(error_sentence(path, "the fields of a run", str(error), _FIX)) from error
    if not record.models:
        raise ValueError(error_sentence(path, "at least one model", "none", _FIX))
    place = os.path.abspath(folder)
    return _with_names_of_scores(_placed_record(record, lambda file: os.path.normpath(os.path.join(place, file))))


def read_scores(folder: str | os.PathLike[str]) -> list[dict[str, str]]:
    """Read the rows of `evaluation.csv`.

    Args:
        folder: the run's.

    Raises:
        ValueError: no such file, or other columns than :data:`monai_jdt.report.evaluation_rows.EVALUATION_COLUMNS`.
    """
    return _rows_of(os.path.join(folder, SCORES_FILE), EVALUATION_COLUMNS)


def read_training(folder: str | os.PathLike[str]) -> list[dict[str, str]]:
    """Read the rows of `training.csv`. There are none without such a file, as after an evaluation alone.

    Args:
        folder: the run's.

    Raises:
        ValueError: other columns than :data:`TRAINING_COLUMNS`.
    """
    path = os.path.join(folder, TRAINING_FILE)
    return _rows_of(path, TRAINING_COLUMNS) if os.path.exists(path) else []


def _rows_of(path: str, columns: tuple[str, ...]) -> list[dict[str, str]]:
    if not os.path.isfile(path):
        raise ValueError(error_sentence(path, "a table of the run", "nothing at that path", _FIX))
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
        found = tuple(reader.fieldnames or ())
    # a run in which every case failed has an empty table
    if found and found != columns:
        raise ValueError(error_sentence(path, f"the columns {', '.join(columns)}", ", ".join(found), _FIX))
    for number, row in enumerate(rows, start=2):
        try:
            float(row["value"])
        except (TypeError, ValueError):
            raise ValueError(error_sentence(path, "a number in column value", f"{row['value']!r} in line {number}", _FIX)) from None
    return rows


def _digest_of_scores(folder: str | os.PathLike[str]) -> str | None:
    """Return the SHA-256 of `evaluation.csv`, or None without that file."""
    path = os.path.join(folder, SCORES_FILE)
    return hashlib.sha256(Path(path).read_bytes()).hexdigest() if os.path.isfile(path) else None


def _content_of(path: str) -> dict[str, Any]:
    if not os.path.isfile(path):
        got = "no such file" if os.path.isdir(os.path.dirname(path) or ".") else "no such folder"
        raise ValueError(error_sentence(path, "the record of a run", got, _FIX))
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:  # no JSON, or no UTF-8
        raise ValueError(error_sentence(path, "JSON", str(error), _FIX)) from error
    if not isinstance(content, dict):
        raise ValueError(error_sentence(path, "an object", type(content).__name__, _FIX))
    return content


def _with_names_of_scores(record: RunRecord) -> RunRecord:
    """Return the record with names as the table has them. Names and patterns of files (`plain`, `others`) stay, or no file is found."""
    cases = tuple(
        replace(case, name=with_escapes(case.name), patient=with_escapes(case.patient), raters=tuple(map(with_escapes, case.raters)))
        for case in record.cases
    )
    models = tuple(replace(model, name=with_escapes(model.name)) for model in record.models)
    regions = {with_escapes(name): values for name, values in record.regions.items()}
    failures = {with_escapes(name): failure for name, failure in record.failures.items()}
    return replace(record, cases=cases, models=models, regions=regions, failures=failures)


def _placed_record(record: RunRecord, change: Callable[[str], str]) -> RunRecord:
    cases = tuple(replace(case, files=tuple(map(change, case.files)), image=tuple(map(change, case.image))) for case in record.cases)
    models = tuple(replace(model, folder=change(model.folder)) for model in record.models)
    return replace(record, datalist=change(record.datalist), cases=cases, models=models)
