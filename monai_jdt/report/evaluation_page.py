"""A page on predictions against raters: scores with intervals, and several prediction folders compared case by case."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from monai_jdt.report.evaluation_rows import EVALUATION_SCORES
from monai_jdt.report.intervals import Estimate, clustered_interval
from monai_jdt.report.pages import write_page
from monai_jdt.report.shown_paths import shown_paths

#: Cases on the list of the worst.
_WORST = 20


@dataclass(frozen=True)
class Comparison:
    """The paired difference of a model to the first one.

    Args:
        difference: model minus first, a mean over the cases that both have.
        better: in how many of these cases the model is better.
        worse: in how many it is worse.
    """

    difference: Estimate
    better: int
    worse: int


def evaluation_summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, Estimate]]]:
    """Return by region, score and model: the mean over cases, with an interval by a bootstrap over patients.

    Args:
        rows: of :func:`monai_jdt.report.evaluation_rows.evaluation_rows`, of all models and cases.
    """
    values = _by_score(rows)
    return {
        region: {
            score: {model: _paired_estimate(label, by_case) for model, by_case in values[region][score].items()}
            for score, (label, _) in EVALUATION_SCORES.items()
            if score in values[region]
        }
        for region in values
    }


def paired_comparison(rows: Sequence[Mapping[str, Any]], first: str) -> dict[str, dict[str, dict[str, Comparison]]]:
    """Return by region, score and other model: its differences to the first model in the same cases.

    Args:
        rows: of :func:`monai_jdt.report.evaluation_rows.evaluation_rows`, of all models and cases.
        first: the model that others are compared with. A score that it lacks is left out.
    """
    values = _by_score(rows)
    found: dict[str, dict[str, dict[str, Comparison]]] = {}
    for region, scores in values.items():
        for score, (label, more_is_better) in EVALUATION_SCORES.items():
            by_model = scores.get(score, {})
            for model in [name for name in by_model if name != first and first in by_model and more_is_better is not None]:
                base, own = by_model[first], by_model[model]
                differences = {case: own[case] - base[case] for case in own if case in base}
                gains = [value if more_is_better else -value for value in differences.values()]
                comparison = Comparison(
                    _paired_estimate(label, differences), sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains)
                )
                found.setdefault(region, {}).setdefault(score, {})[model] = comparison
    return found


def write_evaluation_page(
    rows: Sequence[Mapping[str, Any]],
    models: Sequence[str],
    dest: str | os.PathLike[str],
    *,
    title: str,
    failures: Mapping[str, str],
    note: str = "",
    folders: Sequence[str] = (),
) -> None:
    """Write the page, one HTML file that needs no network.

    Args:
        rows: of :func:`monai_jdt.report.evaluation_rows.evaluation_rows`, of all models and cases.
        models: their names; the others are compared with the first.
        dest: the file; it is written as a whole.
        title: the list's name.
        failures: case to what went wrong.
        note: a sentence below the title.
        folders: of the list and of the page. Paths of failures are shown relative to them, all others as file names.
    """
    values = _by_score(rows)
    worst = {region: _worst_cases(scores.get("dice_raters", {}).get(models[0], {})) for region, scores in values.items()}
    write_page(
        "evaluation.html",
        dest,
        title=title,
        note=note,
        models=models,
        cases=len({row["case"] for row in rows}),
        patients=len({row["patient"] for row in rows}),
        labels={score: label for score, (label, _) in EVALUATION_SCORES.items()},
        summary=evaluation_summary(rows),
        comparison=paired_comparison(rows, models[0]),
        worst=worst,
        failures={case: shown_paths(failure, folders) for case, failure in failures.items()},
    )


def _by_score(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, dict[tuple[str, str], float]]]]:
    """Region, score, model, (case, patient) to the value."""
    found: dict[str, dict[str, dict[str, dict[tuple[str, str], float]]]] = {}
    for row in rows:
        if row["score"] in EVALUATION_SCORES:
            of_model = found.setdefault(row["region"], {}).setdefault(row["score"], {}).setdefault(row["model"], {})
            of_model[row["case"], row["patient"]] = float(row["value"])
    return found


def _paired_estimate(label: str, values: Mapping[tuple[str, str], float]) -> Estimate:
    mean, low, high = clustered_interval(list(values.values()), [patient for _, patient in values])
    return Estimate(label, mean, low, high, sum(not math.isnan(value) for value in values.values()))


def _worst_cases(values: Mapping[tuple[str, str], float]) -> list[tuple[str, float]]:
    """Return the cases with the lowest scores, undefined ones last."""
    order = sorted(values.items(), key=lambda entry: math.inf if math.isnan(entry[1]) else entry[1])
    return [(case, value) for (case, _), value in order[:_WORST]]
