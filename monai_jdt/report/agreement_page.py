"""A page on the agreement of raters over a list of cases: tables and pictures in one HTML file that needs no network."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from monai_jdt.report.agreement_rows import PAIR_SCORES, SIZES
from monai_jdt.report.intervals import Estimate, clustered_interval
from monai_jdt.report.pages import write_page
from monai_jdt.report.shown_paths import shown_paths

#: Notes on raters, each a row of its own.
_SUSPICIONS = ("marked_nothing", "identical", "mirrored")
_LABELS = {
    "dice": "pairwise Dice",
    "jaccard": "pairwise Jaccard",
    "surface_distance_mm": "mean surface distance, mm",
    "hausdorff95_mm": "95 % Hausdorff distance, mm",
    "surface_distance_px": "mean surface distance, pixels",
    "hausdorff95_px": "95 % Hausdorff distance, pixels",
    "fleiss_kappa": "Fleiss' kappa",
    "staple_sensitivity": "STAPLE sensitivity",
    "staple_specificity": "STAPLE specificity",
    "volume_ml": "volume, ml",
    "area_cm2": "area, cm\u00b2",
    "volume_voxels": "size, voxels",
    "spread": "spread of the size",
}
#: Cases on the page's list of the lowest agreement.
_LOWEST = 20
#: Cases above which the marks of a picture are pixels: those of 10,000 cases take 9 MiB as shapes.
_SHAPES = 500
#: Names in a matrix of raters.
_MATRIX = 20


def agreement_summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Estimate]]:
    """Return by region: each score's mean over cases, with an interval by a bootstrap over patients.

    A case counts once, with the mean over its pairs or raters. The spread of a case's volumes is their standard deviation (ddof 1) over
    their mean; it is undefined with one rater, or where nobody marked anything.

    Args:
        rows: of :func:`monai_jdt.report.agreement_rows.agreement_rows`, of all cases.
    """
    summary: dict[str, list[Estimate]] = {}
    for region in dict.fromkeys(row["region"] for row in rows if row["region"]):
        by_score: dict[str, dict[tuple[str, str], list[float]]] = {}
        for row in rows:
            if row["region"] == region:
                by_score.setdefault(row["score"], {}).setdefault((row["case"], row["patient"]), []).append(float(row["value"]))
        for size in SIZES:
            for case, volumes in by_score.get(size, {}).items():
                by_score.setdefault("spread", {})[case] = [_spread_of(volumes)]
        order = [score for score in _LABELS if score in by_score]
        summary[region] = [_estimate_of_cases(score, by_score[score]) for score in order]
    return summary


def write_agreement_page(
    rows: Sequence[Mapping[str, Any]],
    dest: str | os.PathLike[str],
    *,
    title: str,
    named: bool,
    failures: Mapping[str, str],
    note: str = "",
    folders: Sequence[str] = (),
) -> None:
    """Write the page.

    Args:
        rows: of :func:`monai_jdt.report.agreement_rows.agreement_rows`, of all cases.
        dest: the HTML file; it is written as a whole.
        title: the list's name.
        named: whether a rater's name is the same person in every case. Without names nothing is said of a rater over cases.
        failures: case to what went wrong.
        note: a sentence below the title.
        folders: of the list and of the page. Paths of failures are shown relative to them, all others as file names.
    """
    summary = agreement_summary(rows)
    means = _case_means(rows)
    cases = list(dict.fromkeys(row["case"] for row in rows))
    raters = [int(row["value"]) for row in rows if row["score"] == "raters"]
    write_page(
        "rater_agreement.html",
        dest,
        title=title,
        note=note,
        cases=len(cases),
        patients=len({row["patient"] for row in rows}),
        raters=_range_of(raters),
        summary=summary,
        figures={region: [_pairs_figure(rows, region), _sizes_figure(rows, region)] for region in summary},
        matrices={region: _matrix(rows, region) for region in summary} if named else {},
        missing=_missing(rows) if named else [],
        notes=[row for row in rows if row["score"] in _SUSPICIONS],
        failures={case: shown_paths(failure, folders) for case, failure in failures.items()},
        lowest={region: sorted(values.items(), key=lambda entry: entry[1])[:_LOWEST] for region, values in means.items()},
    )


def _spread_of(volumes: Sequence[float]) -> float:
    mean = float(np.mean(volumes))
    return float(np.std(volumes, ddof=1)) / mean if len(volumes) > 1 and mean > 0 else math.nan


def _estimate_of_cases(score: str, values: Mapping[tuple[str, str], Sequence[float]]) -> Estimate:
    means = [_defined_mean(numbers) for numbers in values.values()]
    estimate = clustered_interval(means, [patient for _, patient in values])
    return Estimate(_LABELS[score], *estimate, cases=sum(not math.isnan(mean) for mean in means))


def _defined_mean(numbers: Sequence[float]) -> float:
    defined = [number for number in numbers if not math.isnan(number)]
    return sum(defined) / len(defined) if defined else math.nan


def _range_of(numbers: Sequence[int]) -> str:
    if not numbers:
        return "no raters"
    low, high = min(numbers), max(numbers)
    if low < high:
        return f"{low} to {high} raters"
    return f"{low} raters" if low != 1 else "1 rater"


def _dice_of_pairs(rows: Sequence[Mapping[str, Any]], region: str) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for row in rows:
        if row["score"] == "dice" and row["region"] == region and not math.isnan(float(row["value"])):
            found.setdefault(row["case"], []).append(float(row["value"]))
    return found


def _case_means(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    regions = dict.fromkeys(row["region"] for row in rows if row["region"])
    return {region: {case: _defined_mean(values) for case, values in _dice_of_pairs(rows, region).items()} for region in regions}


def _matrix(rows: Sequence[Mapping[str, Any]], region: str) -> dict[str, Any]:
    """Mean Dice of each two named raters over the cases that both drew, with the number of cases."""
    found: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if row["score"] == "dice" and row["region"] == region and not math.isnan(float(row["value"])):
            for pair in ((row["rater"], row["other"]), (row["other"], row["rater"])):
                found.setdefault(pair, []).append(float(row["value"]))
    everybody = sorted({name for pair in found for name in pair})
    names = everybody[:_MATRIX]
    cells = [[(_defined_mean(found[a, b]), len(found[a, b])) if (a, b) in found else None for b in names] for a in names]
    return {"names": names, "left_out": len(everybody) - len(names), "rows": list(zip(names, cells, strict=True))}


def _missing(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, int]]:
    """Return each name with the number of cases that it has no drawing in, the most first."""
    there: dict[str, set[str]] = {}
    for row in rows:
        if row["rater"] and row["score"] not in (*PAIR_SCORES, *_SUSPICIONS):
            there.setdefault(row["rater"], set()).add(row["case"])
    cases = len({row["case"] for row in rows})
    counts = [(name, cases - len(drawn)) for name, drawn in there.items()]
    return sorted([(name, count) for name, count in counts if count], key=lambda entry: -entry[1])


def _pairs_figure(rows: Sequence[Mapping[str, Any]], region: str) -> str:
    """Return the Dice of each case's pairs, cases sorted by the mean, as SVG."""
    figure, axes = _small_figure()
    pairs = sorted(_dice_of_pairs(rows, region).values(), key=_defined_mean)
    if pairs:
        width = max(0.6, min(4, 200 / len(pairs)))
        places, pixels = range(1, len(pairs) + 1), len(pairs) > _SHAPES
        lines = axes.vlines(places, [min(p) for p in pairs], [max(p) for p in pairs], color="#56B4E9", linewidth=width)
        lines.set_rasterized(pixels)
        means = [_defined_mean(p) for p in pairs]
        axes.plot(places, means, color="#0072B2", marker="o", markersize=3, linestyle="none", rasterized=pixels)
    axes.set(xlabel="cases, sorted", ylabel="Dice of pairs: lowest, mean, highest", ylim=(-0.02, 1.02))
    axes.xaxis.get_major_locator().set_params(integer=True)
    return _svg_of(figure)


def _sizes_figure(rows: Sequence[Mapping[str, Any]], region: str) -> str:
    """Return each rater's size of a region against the mean of the case's raters, as SVG."""
    figure, axes = _small_figure()
    sizes: dict[str, list[float]] = {}
    label = _LABELS["volume_ml"]
    for row in rows:
        if row["region"] == region and row["score"] in SIZES:
            label = _LABELS[row["score"]]
            sizes.setdefault(row["case"], []).append(float(row["value"]))
    drawn = [values for values in sizes.values() if _defined_mean(values) > 0]
    if drawn:
        # one line for all cases, with a gap after each: a line each takes 10 s of 10,000 cases
        means = [mean for values in drawn for mean in (*[_defined_mean(values)] * len(values), math.nan)]
        each = [value for values in drawn for value in (*values, math.nan)]
        look: dict[str, Any] = {"color": "#D55E00", "marker": "o", "markersize": 3, "linewidth": 0.5, "alpha": 0.7}
        axes.plot(means, each, rasterized=len(drawn) > _SHAPES, **look)
        bounds = [min(map(_defined_mean, drawn)), max(map(_defined_mean, drawn))]
        axes.plot(bounds, bounds, color="#888888", linewidth=0.8)
        axes.set_xscale("log")
        _name_each_tick(axes.xaxis)
        smallest = min(value for values in drawn for value in values if value > 0)
        if all(value > 0 for values in drawn for value in values):
            axes.set_yscale("log")
            _name_each_tick(axes.yaxis)
        else:
            # nothing marked is 0, below all that is logarithmic
            axes.set_yscale("symlog", linthresh=smallest)
            axes.set_ylim(bottom=-smallest / 3)
    axes.set(xlabel=f"mean of the raters: {label}", ylabel=f"each rater: {label}")
    return _svg_of(figure)


def _name_each_tick(axis: Any) -> None:
    """Write 200 and 1000 at a logarithmic axis, where matplotlib writes powers of ten."""
    from matplotlib.ticker import LogFormatter

    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(LogFormatter(minor_thresholds=(1.5, 0.5)))


def _small_figure() -> tuple[Any, Any]:
    # imported late, as everything that takes long and `--help` does not need
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _svg_of(figure: Any) -> str:
    import matplotlib

    buffer = io.StringIO()
    # without a date and with a fixed salt the same rows make the same file
    with matplotlib.rc_context({"svg.hashsalt": "agreement", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", dpi=200, metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
