"""Charts as plotly's JSON: numbers that are known, empty ones left out, and names as text."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from monai_jdt.report.case_study import CaseStudy
from monai_jdt.report.run_charts import Chart, charts_of_region, training_charts


def row(model: str, case: str, score: str, value: float) -> dict[str, Any]:
    return {"model": model, "case": case, "patient": case, "region": "cord", "rater": "", "score": score, "value": value}


def by_title(charts: list[Chart]) -> dict[str, dict[str, Any]]:
    return {chart.title: json.loads(chart.figure) for chart in charts}


def bins(weight: float, confidence: float, outcome: float) -> np.ndarray:
    """One region with one filled bin of 15."""
    found = np.zeros((1, 15, 3))
    found[0, 10] = weight, weight * confidence, weight * outcome
    return found


def study(dice: float, own: float, sizes: tuple[float, float, float]) -> CaseStudy:
    pairs: dict[tuple[int | str, int | str], float] = {(0, 1): dice, (0, "net"): own, (1, "net"): own}
    return CaseStudy(
        {"net": bins(100, 0.7, 0.5)}, {"cord": pairs}, {"cord": {0: sizes[0], 1: sizes[1], "net": sizes[2]}}, "volume_ml", None
    )


STUDIES = {
    "a": study(0.5, 0.6, (1.0, 3.0, 2.0)),
    "b": study(0.8, 0.7, (1.0, 2.0, 5.0)),
    "<i>": study(math.nan, math.nan, (0.0, 0.0, 0.0)),
}


def test_differences_to_the_first_model() -> None:
    rows = [row("net", "a", "dice_raters", 0.5), row("net", "b", "dice_raters", 0.9), row("net", "c", "dice_raters", math.nan)]
    rows += [row("<b>", "a", "dice_raters", 0.7), row("<b>", "b", "dice_raters", 0.8), row("<b>", "c", "dice_raters", 0.1)]
    (chart,) = charts_of_region(rows, {}, ["net", "<b>"], "cord")
    assert "<" not in chart.figure  # nothing in it ends a script, or is a tag
    box, mean = json.loads(chart.figure)["data"]
    assert box["y"] == pytest.approx([0.2, -0.1])
    assert box["text"] == ["a", "b"]
    assert box["x"] == ["&lt;b&gt;"] * 2
    assert mean["y"] == pytest.approx([0.05])
    # models called 1 and 2, or 2024-01-01, are no numbers and no dates
    assert json.loads(chart.figure)["layout"]["xaxis"]["type"] == "category"


def test_reliability_adds_the_voxels_of_all_cases() -> None:
    figure = by_title(charts_of_region([], STUDIES, ["net"], "cord"))["Reliability"]
    curve = figure["data"][0]
    assert (curve["x"], curve["y"]) == ([0.7], [0.5])
    assert curve["name"] == "net: ECE 0.2000"
    assert curve["text"] == ["300 voxels"]


def test_the_model_beside_the_raters() -> None:
    charts = {chart.title: chart for chart in charts_of_region([], STUDIES, ["net"], "cord")}
    chart = charts["Is the model within the raters' spread?"]
    dots = json.loads(chart.figure)["data"][0]
    assert (dots["x"], dots["y"]) == ([0.5, 0.8], [0.6, 0.7])
    assert "net in 1 of 2 cases" in chart.caption
    sizes = charts["Size against the raters' spread"]
    ranges, model, _ = json.loads(sizes.figure)["data"]
    assert ranges["y"] == [1.0, 3.0, None, 1.0, 2.0, None]
    assert (model["x"], model["y"]) == ([2.0, 1.5], [2.0, 5.0])
    assert "net in 1 of 2 cases" in sizes.caption


def test_confidence_against_what_was_reached() -> None:
    rows = [
        row("net", case, score, value)
        for score in ("expected_dice", "dice_raters")
        for case, value in (("a", 0.2), ("b", 0.4), ("c", 0.9))
    ]
    figure = by_title(charts_of_region(rows, {}, ["net"], "cord"))["Confidence of each case"]
    assert figure["data"][0]["name"] == "net: correlation 1.00"


def test_nothing_to_draw() -> None:
    assert charts_of_region([], {}, ["net"], "cord") == []
    assert training_charts({}) == []


def test_training_curves() -> None:
    rows = [
        {"epoch": str(epoch), "name": name, "value": str(epoch / 10)} for name in ("train_loss", "val_mean_dice") for epoch in (1, 2)
    ]
    loss, validation = training_charts({"run": rows})
    assert json.loads(loss.figure)["data"][0]["name"] == "train_loss"
    assert json.loads(validation.figure)["data"][0]["y"] == [0.1, 0.2]
    two = training_charts({"a": rows, "b": rows})
    assert [trace["name"] for trace in json.loads(two[0].figure)["data"]] == ["a: train_loss", "b: train_loss"]
