"""Several runs as one: their models side by side, on the cases of one list."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from monai_jdt.report.prediction_files import PredictionFolder
from monai_jdt.report.rated_cases import RatedCase
from monai_jdt.report.run_folder import RunModel, RunRecord, read_run, read_scores, read_training
from monai_jdt.validation import error_sentence


@dataclass(frozen=True)
class JoinedModel:
    """A model of a run.

    Args:
        name: differs from those of all other models.
        model: as it was recorded.
        run: the record.
    """

    name: str
    model: RunModel
    run: RunRecord


@dataclass(frozen=True)
class JoinedRuns:
    """The runs of a report.

    Args:
        runs: a name for each, and what was run.
        models: of all runs.
        cases: by name, in the order of the lists.
        regions: the same in every run.
        rows: of all scores, with the models' new names and numbers as values.
        training: run, and rows of epoch, name and value.
        failures: what has no score, and why.
    """

    runs: Mapping[str, RunRecord]
    models: tuple[JoinedModel, ...]
    cases: Mapping[str, RatedCase]
    regions: Mapping[str, tuple[int, ...]]
    rows: tuple[dict[str, Any], ...]
    training: Mapping[str, list[dict[str, str]]]
    failures: Mapping[str, str]


def distinct_folder_names(folders: Sequence[str]) -> list[str]:
    """Return a short name for each folder: its own, or where two folders have one name, the path from where they part.

    Args:
        folders: absolute paths.

    Example:
        >>> distinct_folder_names(["/a/net", "/a/base"]), distinct_folder_names(["/a/1/out", "/a/2/out"])
        (['net', 'base'], ['1/out', '2/out'])
    """
    names = [os.path.basename(folder) for folder in folders]
    if len(set(names)) < len(names):
        names = [os.path.relpath(folder, os.path.commonpath(folders)) for folder in folders]
    return names


def join_runs(folders: Sequence[str | os.PathLike[str]]) -> JoinedRuns:
    """Read runs that are to be compared.

    Args:
        folders: of the runs, at least one.

    Raises:
        ValueError: a folder that is no run or is named twice; runs whose regions differ, or whose cases of one name have other raters.
    """
    places = [os.path.abspath(folder) for folder in folders]
    if len(set(places)) < len(places):
        raise ValueError(error_sentence("runs", "each folder once", "a folder twice", "name it once"))
    names = distinct_folder_names(places)
    runs = {name: read_run(place) for name, place in zip(names, places, strict=True)}
    regions = _same_regions(runs)
    cases = _same_cases(runs)
    given = Counter(model.name for run in runs.values() for model in run.models)
    models: list[JoinedModel] = []
    rows: list[dict[str, Any]] = []
    failures: dict[str, str] = {}
    for name, place in zip(names, places, strict=True):
        run = runs[name]
        renamed = {model.name: model.name if given[model.name] == 1 else f"{name}: {model.name}" for model in run.models}
        models += [JoinedModel(renamed[model.name], model, run) for model in run.models]
        rows += [{**row, "model": renamed.get(row["model"], row["model"]), "value": float(row["value"])} for row in read_scores(place)]
        failures |= {case if len(runs) == 1 else f"{name}: {case}": why for case, why in run.failures.items()}
    training = {name: read_training(place) for name, place in zip(names, places, strict=True)}
    curves = {name: curve for name, curve in training.items() if curve}
    return JoinedRuns(runs, tuple(models), cases, regions, tuple(rows), curves, failures)


def predictions_of(model: JoinedModel) -> dict[str, str]:
    """Return the file of each case that a model has a prediction of.

    Args:
        model: of a run.

    Returns:
        Case to path. Cases without a file are left out: the evaluation has named them.
    """
    if not os.path.isdir(model.model.folder):
        return {}
    folder = PredictionFolder(model.model.folder, [case.plain for case in model.run.cases], model.model.pattern)
    found = {}
    for case in model.run.cases:
        try:
            found[case.name] = folder.path_of(case.plain, case.others)
        except ValueError:
            continue
    return found


def _same_regions(runs: Mapping[str, RunRecord]) -> Mapping[str, tuple[int, ...]]:
    (first, run), *others = runs.items()
    for name, other in others:
        if dict(other.regions) != dict(run.regions):
            expected = f"the regions of {first}, {dict(run.regions)}"
            raise ValueError(error_sentence(name, expected, str(dict(other.regions)), "compare runs with the same regions"))
    return run.regions


def _same_cases(runs: Mapping[str, RunRecord]) -> dict[str, RatedCase]:
    found: dict[str, RatedCase] = {}
    for name, run in runs.items():
        for case in run.cases:
            known = found.setdefault(case.name, case)
            if _who_and_what(known) != _who_and_what(case):
                expected = f"the raters of the other runs in case {case.name!r}"
                raise ValueError(error_sentence(name, expected, "other files, raters or patients", "compare runs on one data list"))
    return found


def _who_and_what(case: RatedCase) -> tuple[Any, ...]:
    """Return what two records of one case have in common. A list may have moved, so of its files the names and sizes."""
    files = [(os.path.basename(file), os.path.getsize(file) if os.path.exists(file) else None) for file in case.files]
    return files, case.patient, tuple(case.raters)
