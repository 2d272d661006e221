"""The matrix of raters and models: means over cases by hand, and raters that are told apart only by name."""

from __future__ import annotations

import math

import pytest

from monai_jdt.report.case_study import CaseStudy
from monai_jdt.report.model_as_rater import agreement_matrix, mean_without_nan
from monai_jdt.report.rated_cases import RatedCase


def study(pairs: dict) -> CaseStudy:
    return CaseStudy({}, {"cord": pairs}, {}, "volume_ml", None)


def case(name: str, raters: tuple[str, ...], named: bool) -> RatedCase:
    return RatedCase(name, name, name, raters, raters, named)


STUDIES = {
    "a": study({(0, 1): 0.8, (0, 2): 0.6, (1, 2): 0.4, (0, "net"): 0.9, (1, "net"): 0.7, (2, "net"): 0.5}),
    "b": study({(0, 1): 0.2, (0, "net"): 1.0, (1, "net"): math.nan}),
}


def test_raters_without_names_are_one_row() -> None:
    cases = {"a": case("a", ("r1", "r2", "r3"), False), "b": case("b", ("r1", "r2"), False)}
    matrix = agreement_matrix(STUDIES, cases, ["net"], "cord")
    assert matrix.names == ("a rater", "net")
    (raters, model), (again, alone) = matrix.cells
    assert raters is not None
    assert model is not None
    # a case counts once: (.6 + .2) / 2, and (.7 + 1) / 2
    assert (raters.mean, raters.cases) == (pytest.approx(0.4), 2)
    assert model.mean == pytest.approx(0.85)
    assert again == model
    assert alone is None


def test_named_raters_have_rows_of_their_own() -> None:
    cases = {"a": case("a", ("Anna", "Ben", "net"), True), "b": case("b", ("Ben", "Cara"), True)}
    matrix = agreement_matrix(STUDIES, cases, ["net"], "cord")
    # a rater who is called as a model is another one
    assert matrix.names == ("Anna", "Ben", "Cara", "net", "net")
    cells = {(a, b): matrix.cells[a][b] for a in range(5) for b in range(5)}
    assert cells[0, 1].mean == pytest.approx(0.8)  # type: ignore[union-attr]
    assert cells[1, 4].mean == pytest.approx((0.7 + 1.0) / 2)  # type: ignore[union-attr]
    assert math.isnan(cells[2, 4].mean)  # type: ignore[union-attr]
    assert cells[0, 2] is None
    assert cells[3, 4].mean == pytest.approx(0.5)  # type: ignore[union-attr]


def test_means_leave_undefined_values_out() -> None:
    assert mean_without_nan([0.5, math.nan, 1.0]) == 0.75
    assert math.isnan(mean_without_nan([math.nan]))
