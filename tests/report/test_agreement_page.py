"""The page on raters of very few and of very many."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monai_jdt.report.agreement_page import write_agreement_page


def rows_of(cases: int, raters: int) -> list[dict[str, Any]]:
    """Rows of cases with random sizes and overlaps; the first case has a rater who marked nothing."""
    rng = np.random.default_rng(0)
    names = [f"rater <{number}>" for number in range(raters)]
    rows: list[dict[str, Any]] = []
    for number in range(cases):
        start = {"case": f"case <{number}>", "patient": f"p{number}", "other": "", "note": ""}
        rows.append({**start, "region": "", "rater": "", "score": "raters", "value": raters})
        sizes = rng.lognormal(number % 7, 0.2, raters)
        sizes[0] *= number > 0
        rows += [{**start, "region": "r", "rater": n, "score": "volume_ml", "value": s} for n, s in zip(names, sizes, strict=True)]
        rows += [
            {**start, "region": "r", "rater": one, "other": two, "score": "dice", "value": rng.random()}
            for one, two in combinations(names, 2)
        ]
    return rows


@pytest.mark.parametrize(
    ("cases", "raters", "said"), [(0, 0, "no raters"), (1, 1, "1 rater per case"), (1, 2, "2 raters"), (2, 17, "17 raters")]
)
def test_few_cases_and_few_or_many_raters(tmp_path: Path, cases: int, raters: int, said: str) -> None:
    write_agreement_page(rows_of(cases, raters), tmp_path / "a.html", title="list", named=True, failures={})
    page = (tmp_path / "a.html").read_text()
    assert said in page
    assert "rater <" not in page
    assert ">nan" not in page
    assert ("Mean Dice of each two raters" in page) == (raters > 1)


def test_many_cases_stay_small(tmp_path: Path) -> None:
    sizes = {}
    for cases in (400, 2000):
        write_agreement_page(rows_of(cases, 3), tmp_path / "a.html", title="list", named=False, failures={})
        sizes[cases] = (tmp_path / "a.html").stat().st_size
    assert sizes[2000] < 2**19 < 2**20 > sizes[400]
