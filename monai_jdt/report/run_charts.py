"""The charts of a report, by plotly: each answers one question, and says in a sentence how it is read."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from monai_jdt.data.names import one_line
from monai_jdt.functional.rater_calibration_error import CalibrationKind, error_of_bins
from monai_jdt.report.case_study import CaseStudy
from monai_jdt.report.colours import MODEL_COLOURS
from monai_jdt.report.intervals import clustered_interval
from monai_jdt.report.model_as_rater import mean_without_nan

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

#: The score by which cases are compared and sorted.
MAIN_SCORE = "dice_raters"
_UNITS = {"volume_ml": "ml", "area_cm2": "cm\u00b2", "volume_voxels": "voxels"}
_GREY = "#767676"


@dataclass(frozen=True)
class Chart:
    """A chart of the page.

    Args:
        title: what it shows.
        caption: how to read it.
        figure: plotly's JSON.
    """

    title: str
    caption: str
    figure: str


def charts_of_region(
    rows: Sequence[Mapping[str, Any]], studies: Mapping[str, CaseStudy], models: Sequence[str], region: str
) -> list[Chart]:
    """Return the charts of a region. One that would be empty is left out.

    Args:
        rows: scores of all models and cases, with numbers as values.
        studies: by case.
        models: their names; the others are compared with the first.
        region: which.
    """
    scores = _scores_by_model(rows, region)
    found = [
        _differences(scores, models),
        _reliability(studies, models, region),
        _beside_raters(studies, models, region),
        _sizes(studies, models, region),
        _confidence(scores, models),
    ]
    return [chart for chart in found if chart is not None]


def training_charts(training: Mapping[str, Sequence[Mapping[str, str]]]) -> list[Chart]:
    """Return the curves of trainings: losses in one chart, all other names in another.

    Args:
        training: run to its rows of epoch, name and value.
    """
    charts = []
    for title, losses in (("Loss by epoch", True), ("Validation by epoch", False)):
        figure = _empty_figure("epoch", "loss" if losses else "value")
        for number, (run, rows) in enumerate(training.items()):
            names = [name for name in dict.fromkeys(row["name"] for row in rows) if ("loss" in name.lower()) == losses]
            for index, name in enumerate(names):
                points = [(float(row["epoch"]), float(row["value"])) for row in rows if row["name"] == name]
                figure.add_scatter(
                    x=[epoch for epoch, _ in points],
                    y=_rounded([value for _, value in points]),
                    name=_shown_name(name if len(training) == 1 else f"{run}: {name}"),
                    mode="lines+markers" if len(points) < 30 else "lines",
                    line={
                        "color": _colour(number if len(training) > 1 else index),
                        "dash": _DASHES[index % 4 if len(training) > 1 else 0],
                    },
                )
        if figure.data:
            charts.append(Chart(title, "As the training wrote it into training.csv.", _json_of(figure)))
    return charts


_DASHES = ("solid", "dash", "dot", "dashdot")


def _scores_by_model(rows: Sequence[Mapping[str, Any]], region: str) -> dict[str, dict[str, dict[str, tuple[float, str]]]]:
    """Score, model, case to the value and the patient."""
    found: dict[str, dict[str, dict[str, tuple[float, str]]]] = {}
    for row in rows:
        if row["region"] == region and not row["rater"]:
            found.setdefault(row["score"], {}).setdefault(row["model"], {})[row["case"]] = (row["value"], row["patient"])
    return found


def _differences(scores: Mapping[str, Mapping[str, Mapping[str, tuple[float, str]]]], models: Sequence[str]) -> Chart | None:
    by_model = scores.get(MAIN_SCORE, {})
    if models[0] not in by_model:
        return None
    base = by_model[models[0]]
    figure = _empty_figure("", "difference of Dice")
    for number, model in enumerate(models[1:], 1):
        pairs = {
            case: (value - base[case][0], patient)
            for case, (value, patient) in by_model.get(model, {}).items()
            if case in base and not math.isnan(value - base[case][0])
        }
        if not pairs:
            continue
        mean, low, high = clustered_interval([value for value, _ in pairs.values()], [patient for _, patient in pairs.values()])
        figure.add_box(
            x=[_shown_name(model)] * len(pairs),
            y=_rounded([value for value, _ in pairs.values()]),
            text=[_shown_name(case) for case in pairs],
            hovertemplate="%{text}: %{y:+.3f}<extra></extra>",
            hoveron="points",
            boxpoints="all",
            pointpos=0,
            jitter=0.6,
            marker={"color": _colour(number), "size": 4, "opacity": 0.5},
            line={"color": _GREY, "width": 1},
            fillcolor="rgba(0,0,0,0)",
            showlegend=False,
        )
        bounds = (
            {} if math.isnan(low) else {"error_y": {"array": [high - mean], "arrayminus": [mean - low], "thickness": 3, "width": 12}}
        )
        figure.add_scatter(
            x=[_shown_name(model)],
            y=[mean],
            mode="markers",
            marker={"symbol": "diamond", "size": 12, "color": "black"},
            hovertemplate=f"mean {mean:+.3f} [{low:+.3f}, {high:+.3f}]<extra></extra>",
            showlegend=False,
            **bounds,
        )
    if not figure.data:
        return None
    # plotly would take models "1" and "2" for numbers, and "2024-01-01" for a date
    figure.update_xaxes(type="category")
    figure.add_hline(y=0, line={"color": _GREY, "width": 1})
    caption = (
        f"The mean Dice with the raters. Each dot is a case, above 0 if the model is better than {models[0]}. "
        "Diamond: mean, with its 95 % interval."
    )
    return Chart(f"Difference to {models[0]}, case by case", caption, _json_of(figure))


def _reliability(studies: Mapping[str, CaseStudy], models: Sequence[str], region: str) -> Chart | None:
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.78, 0.22], vertical_spacing=0.04)
    _style(figure)
    for number, model in enumerate(models):
        found = [_bins_of(study, model, region) for study in studies.values() if model in study.bins]
        if not found:
            continue
        bins = np.sum(found, axis=0)
        weight, confidence, outcome = bins[bins[:, 0] > 0].T
        error = float(error_of_bins(torch.from_numpy(bins), CalibrationKind.ECE))
        hover = [f"{count:,.0f} voxels" for count in weight]
        line = {"color": _colour(number)}
        figure.add_scatter(
            x=_rounded(confidence / weight),
            y=_rounded(outcome / weight),
            name=_shown_name(f"{model}: ECE {error:.4f}"),
            text=hover,
            hovertemplate="predicted %{x:.3f}, raters %{y:.3f}, %{text}<extra></extra>",
            mode="lines+markers",
            line=line,
            row=1,
            col=1,
        )
        shares = _rounded(weight / weight.sum(), 7)
        figure.add_scatter(
            x=_rounded(confidence / weight),
            y=shares,
            mode="lines+markers",
            line=line,
            marker={"size": 4},
            showlegend=False,
            row=2,
            col=1,
        )
    if not figure.data:
        return None
    figure.add_scatter(
        x=[0, 1],
        y=[0, 1],
        mode="lines",
        line={"color": _GREY, "dash": "dot", "width": 1},
        showlegend=False,
        hoverinfo="skip",
        row=1,
        col=1,
    )
    figure.update_yaxes(title="share of raters", range=[-0.02, 1.02], row=1, col=1)
    figure.update_yaxes(title="of voxels", type="log", tickformat=".0e", nticks=4, row=2, col=1)
    figure.update_xaxes(range=[-0.02, 1.02])
    figure.update_xaxes(title="predicted probability", row=2, col=1)
    figure.update_layout(height=440)
    caption = (
        "Voxels of all cases in 15 bins of the predicted probability. On the dotted line the prediction is the share of raters. "
        "Below: the share of voxels in each bin. ECE is the mean distance, most of it from background."
    )
    return Chart("Reliability", caption, _json_of(figure))


def _bins_of(study: CaseStudy, model: str, region: str) -> np.ndarray:
    return study.bins[model][list(study.pairs).index(region)]


def _beside_raters(studies: Mapping[str, CaseStudy], models: Sequence[str], region: str) -> Chart | None:
    figure = _empty_figure("mean Dice of two raters", "mean Dice of a model with the raters")
    above: list[str] = []
    for number, model in enumerate(models):
        x: list[float] = []
        y: list[float] = []
        names: list[str] = []
        for name, study in studies.items():
            pairs = study.pairs[region]
            among = mean_without_nan([dice for (a, b), dice in pairs.items() if isinstance(a, int) and isinstance(b, int)])
            own = mean_without_nan([dice for (a, b), dice in pairs.items() if isinstance(a, int) and b == model])
            if not math.isnan(among + own):
                x, y, names = [*x, among], [*y, own], [*names, name]
        if x:
            above.append(f"{model} in {sum(b > a for a, b in zip(x, y, strict=True))} of {len(x)} cases")
            hover = "%{text}: raters %{x:.3f}, model %{y:.3f}<extra></extra>"
            figure.add_scatter(**_dots(x, y, names, model, number), hovertemplate=hover)
    if not figure.data:
        return None
    _add_diagonal(figure, 0, 1)
    caption = "Each dot is a case. Above the dotted line the model agrees with the raters better than they agree with each other: "
    return Chart("Is the model within the raters' spread?", f"{caption}{', '.join(above)}.", _json_of(figure))


def _sizes(studies: Mapping[str, CaseStudy], models: Sequence[str], region: str) -> Chart | None:
    marked = {name: study for name, study in studies.items() if any(size > 0 for size in _rater_sizes(study, region))}
    units = {study.unit for study in marked.values()}
    if len(units) != 1:
        return None
    unit = _UNITS[units.pop()]
    figure = _empty_figure(f"mean of the raters, {unit}", f"raters and models, {unit}")
    means: list[float] = []
    low: list[float] = []
    high: list[float] = []
    inside: list[str] = []
    names = list(marked)
    for study in marked.values():
        sizes = _rater_sizes(study, region)
        means, low, high = [*means, float(np.mean(sizes))], [*low, min(sizes)], [*high, max(sizes)]
    # nothing marked is 0, which a logarithmic axis has no place for
    least = min((size for study in marked.values() for size in study.sizes[region].values() if size > 0), default=1.0) / 2
    x, y = _range_lines(means, [max(size, least) for size in low], high)
    figure.add_scatter(
        x=x, y=y, mode="lines", line={"color": "#BBBBBB", "width": 3}, name="smallest to largest rater", hoverinfo="skip"
    )
    for number, model in enumerate(models):
        found = [(n, marked[name].sizes[region][model]) for n, name in enumerate(names) if model in marked[name].sizes[region]]
        if found:
            inside.append(f"{model} in {sum(low[n] <= size <= high[n] for n, size in found)} of {len(found)} cases")
            points = ([means[n] for n, _ in found], [max(size, least) for _, size in found], [names[n] for n, _ in found])
            hover = "%{text}: raters %{x:.4g}, model %{y:.4g}<extra></extra>"
            figure.add_scatter(**_dots(*points, model, number), hovertemplate=hover)
    _add_diagonal(figure, min(means), max(means))
    figure.update_xaxes(type="log")
    figure.update_yaxes(type="log")
    caption = f"A bar spans the raters of a case, a dot is a model's mask. It is within the bar: {', '.join(inside)}."
    if any(size == 0 for study in marked.values() for size in study.sizes[region].values()):
        caption += f" Nothing marked is drawn at {least:.2g} {unit}."
    return Chart("Size against the raters' spread", caption, _json_of(figure))


def _rater_sizes(study: CaseStudy, region: str) -> list[float]:
    return [size for who, size in study.sizes[region].items() if isinstance(who, int)]


def _range_lines(x: Sequence[float], low: Sequence[float], high: Sequence[float]) -> tuple[list[float | None], list[float | None]]:
    """Return one broken line for all ranges: 200 traces would take the browser seconds."""
    across: list[float | None] = []
    up: list[float | None] = []
    for place, bottom, top in zip(x, low, high, strict=True):
        across += [*_rounded([place, place], 6), None]
        up += [*_rounded([bottom, top], 6), None]
    return across, up


def _confidence(scores: Mapping[str, Mapping[str, Mapping[str, tuple[float, str]]]], models: Sequence[str]) -> Chart | None:
    figure = _empty_figure("expected Dice, without a label", "mean Dice with the raters")
    for number, model in enumerate(models):
        expected, reached = (scores.get(score, {}).get(model, {}) for score in ("expected_dice", MAIN_SCORE))
        both = [case for case in expected if case in reached and not math.isnan(expected[case][0] + reached[case][0])]
        if both:
            x, y = [expected[case][0] for case in both], [reached[case][0] for case in both]
            varied = len(both) > 2 and np.std(x) > 0 and np.std(y) > 0
            label = f"{model}: correlation {np.corrcoef(x, y)[0, 1]:.2f}" if varied else model
            hover = "%{text}: expected %{x:.3f}, reached %{y:.3f}<extra></extra>"
            figure.add_scatter(**_dots(x, y, both, label, number), hovertemplate=hover)
    if not figure.data:
        return None
    _add_diagonal(figure, 0, 1)
    caption = "Each dot is a case: what its probabilities promise, and what its mask reaches. A useful one rises with the other."
    return Chart("Confidence of each case", caption, _json_of(figure))


def _dots(x: Sequence[float], y: Sequence[float], names: Sequence[str], label: str, number: int) -> dict[str, Any]:
    return {
        "x": _rounded(x, 6),
        "y": _rounded(y, 6),
        "text": [_shown_name(name) for name in names],
        "name": _shown_name(label),
        "mode": "markers",
        "marker": {"color": _colour(number), "size": 6, "opacity": 0.65, "symbol": ("circle", "diamond", "square", "x")[number % 4]},
    }


def _empty_figure(across: str, up: str) -> Figure:
    from plotly.graph_objects import Figure

    figure = Figure()
    _style(figure)
    figure.update_layout(xaxis_title=across, yaxis_title=up)
    return figure


def _style(figure: Figure) -> None:
    figure.update_layout(
        template="simple_white",
        height=400,
        margin={"l": 60, "r": 10, "t": 10, "b": 50},
        font={"family": "system-ui, sans-serif", "size": 13},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0, "xanchor": "left"},
        hovermode="closest",
    )


def _add_diagonal(figure: Figure, low: float, high: float) -> None:
    line = {"color": _GREY, "dash": "dot", "width": 1}
    figure.add_scatter(x=[low, high], y=[low, high], mode="lines", line=line, showlegend=False, hoverinfo="skip")


def _json_of(figure: Figure) -> str:
    """Return JSON that can stand in a script element."""
    return str(figure.to_json()).replace("<", "\\u003c")


def _colour(number: int) -> str:
    return MODEL_COLOURS[number % len(MODEL_COLOURS)]


def _shown_name(text: str) -> str:
    """Return text that plotly shows as it is: it reads a few HTML tags."""
    return html.escape(one_line(text), quote=False)


def _rounded(values: Any, digits: int = 5) -> list[float]:
    return [float(f"{value:.{digits}g}") for value in np.asarray(values, dtype=np.float64)]
