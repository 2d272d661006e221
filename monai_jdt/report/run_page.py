"""The report of one or several runs: one HTML page with scores, charts and slices, which needs no network."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from monai_jdt.data.case_runner import run_cases
from monai_jdt.report.case_slices import BYTES_OF_PAGE, MOST_BYTES, MOST_SLICES
from monai_jdt.report.case_study import CaseStudy, StudiedCase, StudiedPrediction, study_case
from monai_jdt.report.colours import DIFFERENCE_MAP, PROBABILITY_MAP, rater_style
from monai_jdt.report.evaluation_page import evaluation_summary, paired_comparison
from monai_jdt.report.evaluation_rows import EVALUATION_SCORES
from monai_jdt.report.joined_runs import JoinedRuns, join_runs, predictions_of
from monai_jdt.report.model_as_rater import agreement_matrix, mean_without_nan
from monai_jdt.report.pages import write_page
from monai_jdt.report.rated_cases import RatedCase
from monai_jdt.report.run_charts import MAIN_SCORE, charts_of_region, training_charts
from monai_jdt.report.shown_paths import shown_paths
from monai_jdt.validation import check_int, error_sentence

#: Cases with pictures. A page of 100 stays below 50 MB.
MOST_CASES = 100
_DISAGREEMENT_MAP = "viridis"
_WORST = 20
_DECISIONS = {
    "threshold": "the threshold .5",
    "expected_dice": "the best expected Dice",
    "expected_jaccard": "the best expected Jaccard score",
}


def write_run_report(
    folders: Sequence[str | os.PathLike[str]],
    dest: str | os.PathLike[str],
    *,
    most_cases: int = MOST_CASES,
    workers: int = 1,
    scheduler: str | None = None,
    progress: bool = True,
) -> dict[str, str]:
    """Write the report of runs. Models are compared with the first model of the first run, in the same cases.

    Scores come from the runs' tables. Images, raters and predictions are read again, once for each case. Without them the page has the
    scores alone.

    Args:
        folders: of the runs: see :mod:`monai_jdt.report.run_folder`.
        dest: the HTML file, written as a whole.
        most_cases: how many cases have pictures, the worst first.
        workers: processes that read cases.
        scheduler: the address of a Dask scheduler, instead of processes here.
        progress: whether to show a progress bar.

    Returns:
        What could not be read, by case.

    Raises:
        ValueError: see :func:`monai_jdt.report.joined_runs.join_runs`; fewer than 0 cases.
    """
    if check_int("most_cases", most_cases) < 0:
        raise ValueError(error_sentence("most_cases", "a whole number of at least 0", str(most_cases)))
    runs = join_runs(folders)
    models = [model.name for model in runs.models]
    main = _main_scores(runs, models)
    order = sorted(runs.cases, key=lambda name: (math.isnan(main[name]), main[name]))
    work = _work_of(runs, order, most_cases)
    most_bytes = max((case.most_bytes for case in work), default=0)
    outcomes = list(
        run_cases(
            study_case, work, [case.name for case in work], what="report", workers=workers, scheduler=scheduler, progress=progress
        )
    )
    studies = {outcome.name: outcome.result for outcome in outcomes if outcome.result is not None}
    unread = {outcome.name: outcome.failure for outcome in outcomes if outcome.failure is not None}
    unread |= {name: "; ".join(study.problems) for name, study in studies.items() if study.problems}
    viewed = [
        {"name": name, "main": main[name], "json": _script_json(_viewed_case(runs, runs.cases[name], study))}
        for name, study in studies.items()
        if study.slices is not None
    ]
    places = [os.path.dirname(run.datalist) for run in runs.runs.values()] + [os.fspath(folder) for folder in folders]
    _write_report_page(runs, models, studies, viewed, main, unread, most_bytes, dest, places)
    return unread


def _write_report_page(
    runs: JoinedRuns,
    models: Sequence[str],
    studies: Mapping[str, CaseStudy],
    viewed: Sequence[Mapping[str, Any]],
    main: Mapping[str, float],
    unread: Mapping[str, str],
    most_bytes: int,
    dest: str | os.PathLike[str],
    places: Sequence[str],
) -> None:
    # imported late, as everything that takes long and `--help` does not need
    from plotly.offline import get_plotlyjs

    scored = {row["case"] for row in runs.rows}
    maps = {kind: _colours_of(name, levels) for kind, (name, levels) in _MAPS.items()}
    write_page(
        "report.html",
        dest,
        title=", ".join(dict.fromkeys(_base_name(run.datalist) for run in runs.runs.values())),
        runs=runs.runs,
        regions=runs.regions,
        models=models,
        decisions=_DECISIONS,
        base=_base_name,
        cases=len(scored),
        patients=len({row["patient"] for row in runs.rows}),
        raters=_raters_text(runs.cases[name] for name in runs.cases if name in scored),
        labels={score: label for score, (label, _) in EVALUATION_SCORES.items()},
        summary=evaluation_summary(runs.rows),
        comparison=paired_comparison(runs.rows, models[0]),
        named=all(case.named for case in runs.cases.values()),
        matrices={region: agreement_matrix(studies, runs.cases, models, region) for region in runs.regions},
        charts={region: charts_of_region(runs.rows, studies, models, region) for region in runs.regions},
        training=training_charts(runs.training),
        worst={region: _worst_of_region(runs, models[0], region) for region in runs.regions},
        viewed=viewed,
        numbers={case["name"]: number for number, case in enumerate(viewed)},
        most_slices=MOST_SLICES,
        most_kilobytes=most_bytes // 1000,
        failures={case: shown_paths(failure, places) for case, failure in {**runs.failures, **unread}.items()},
        settings={name: {key: shown_paths(value, places) for key, value in run.settings.items()} for name, run in runs.runs.items()},
        colour_maps=_script_json(maps),
        gradients={kind: ", ".join("rgb({}, {}, {})".format(*colour) for colour in colours[::10]) for kind, colours in maps.items()}
        | {"share": ", ".join("rgb({}, {}, {})".format(*colour) for colour in maps["probability"][::10])},
        plotly=get_plotlyjs(),
    )


#: Colour map and number of levels of each kind of picture: percentages, and for differences -100 to 100.
_MAPS = {"probability": (PROBABILITY_MAP, 101), "disagreement": (_DISAGREEMENT_MAP, 101), "difference": (DIFFERENCE_MAP, 201)}


def _main_scores(runs: JoinedRuns, models: Sequence[str]) -> dict[str, float]:
    """Return for each case the mean over regions of the first model's main score, or of the first model that has one."""
    found: dict[tuple[str, str], list[float]] = {}
    for row in runs.rows:
        if row["score"] == MAIN_SCORE:
            found.setdefault((row["case"], row["model"]), []).append(row["value"])
    scores = {}
    for name in runs.cases:
        means = [mean_without_nan(found[name, model]) for model in models if (name, model) in found]
        scores[name] = next((mean for mean in means if not math.isnan(mean)), math.nan)
    return scores


def _work_of(runs: JoinedRuns, order: Sequence[str], most_cases: int) -> list[StudiedCase]:
    """Return the cases that any model has a score of, the worst first."""
    scored = {(row["case"], row["model"]) for row in runs.rows}
    files = {model.name: predictions_of(model) for model in runs.models}
    channel_dims = {case.name: run.channel_dim for run in reversed(list(runs.runs.values())) for case in run.cases}
    cases = [name for name in order if any((name, model.name) in scored for model in runs.models)]
    most_bytes = min(MOST_BYTES, BYTES_OF_PAGE // max(min(len(cases), most_cases), 1))
    work: list[StudiedCase] = []
    for name in cases:
        models = [model for model in runs.models if (name, model.name) in scored]
        predictions = [
            StudiedPrediction(
                model.name,
                files[model.name].get(name, model.model.folder),
                model.model.kind,
                model.run.decision,
                model.run.empty_below,
                model.run.exclusive,
            )
            for model in models
        ]
        case = runs.cases[name]
        limit = most_bytes if len(work) < most_cases else 0
        studied = tuple(predictions), channel_dims[name], limit, case.foreground
        work.append(StudiedCase(name, case.files, case.image, runs.regions, *studied))
    return work


def _viewed_case(runs: JoinedRuns, case: RatedCase, study: CaseStudy) -> dict[str, Any]:
    styles = [rater_style(number, len(case.raters)) for number in range(len(case.raters))]
    raters = [
        {
            "name": name,
            "color": style["color"],
            "width": style["linewidth"] + 0.3,
            "dash": [] if style["linestyle"] == "solid" else list(style["linestyle"][1]),
        }
        for name, style in zip(case.raters, styles, strict=True)
    ]
    scores: dict[str, dict[str, list[tuple[str, float]]]] = {}
    for row in runs.rows:
        if row["case"] == case.name and (row["score"] in EVALUATION_SCORES or row["score"] == "dice"):
            label = f"Dice with {row['rater']}" if row["rater"] else EVALUATION_SCORES[row["score"]][0]
            scores.setdefault(row["region"], {}).setdefault(row["model"], []).append((label, row["value"]))
    return {"name": case.name, "raters": raters, "scores": scores, "slices": study.slices}


def _worst_of_region(runs: JoinedRuns, model: str, region: str) -> list[tuple[str, float]]:
    values = [
        (row["case"], row["value"])
        for row in runs.rows
        if row["score"] == MAIN_SCORE and row["region"] == region and row["model"] == model
    ]
    return sorted(values, key=lambda entry: (math.isnan(entry[1]), entry[1]))[:_WORST]


def _raters_text(cases: Any) -> str:
    numbers = [len(case.raters) for case in cases]
    if not numbers:
        return "no scores"
    low, high = min(numbers), max(numbers)
    return f"{low if low == high else f'{low} to {high}'} rater{'s' * (high != 1)} per case"


def _base_name(path: str) -> str:
    return os.path.basename(os.path.normpath(path))


def _colours_of(name: str, levels: int) -> list[tuple[int, ...]]:
    from matplotlib import colormaps

    found = np.round(255 * colormaps[name](np.linspace(0, 1, levels))[:, :3]).astype(int)
    return [tuple(colour) for colour in found.tolist()]


def _script_json(content: Any) -> str:
    """Return JSON that can stand in a script element: a name such as `</script>` does not end it."""
    return json.dumps(_without_infinity(content), allow_nan=False).replace("<", "\\u003c")


def _without_infinity(content: Any) -> Any:
    """Return content that JSON can hold: NaN is null, which the viewer shows as a dash, and an infinite score is text."""
    if isinstance(content, Mapping):
        return {name: _without_infinity(value) for name, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_without_infinity(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None if math.isnan(content) else "\u221e" if content > 0 else "\u2212\u221e"
    return content
