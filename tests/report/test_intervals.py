"""Bootstrap intervals over patients."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from monai_jdt.report.intervals import clustered_interval


def test_one_value_per_patient_is_the_usual_bootstrap() -> None:
    values = np.random.default_rng(0).normal(0.7, 0.1, 200)
    mean, low, high = clustered_interval(values.tolist(), [str(n) for n in range(200)])
    assert mean == pytest.approx(values.mean())
    half = 1.96 * values.std(ddof=1) / math.sqrt(200)
    assert (low, high) == pytest.approx((mean - half, mean + half), abs=0.002)


def test_copies_of_a_patient_make_no_interval_narrower() -> None:
    values = np.random.default_rng(1).normal(0.7, 0.1, 50).tolist()
    alone = clustered_interval(values, [str(n) for n in range(50)])
    copied = clustered_interval(values * 10, [str(n) for n in range(50)] * 10)
    assert copied == pytest.approx(alone)


def test_undefined_values_are_left_out() -> None:
    nan = math.nan
    assert clustered_interval([0.5, nan, 0.7], ["a", "b", "c"])[0] == pytest.approx(0.6)
    assert all(math.isnan(number) for number in clustered_interval([nan], ["a"]))
    mean, low, high = clustered_interval([0.2, 0.4], ["a", "a"])
    assert mean == pytest.approx(0.3)
    assert math.isnan(low)
    assert math.isnan(high)
    with pytest.raises(ValueError, match="clusters: expected one for each value"):
        clustered_interval([1.0], [])


def test_blocks_of_draws_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    values, patients = np.random.default_rng(2).normal(0.7, 0.1, 90).tolist(), [str(n // 2) for n in range(90)]
    whole = clustered_interval(values, patients)
    sizes = []
    multinomial = np.random.Generator.multinomial

    class Watched(np.random.Generator):
        def multinomial(self, *given: Any, **options: Any) -> Any:
            drawn = multinomial(self, *given, **options)
            sizes.append(drawn.size)
            return drawn

    monkeypatch.setattr("monai_jdt.report.intervals._NUMBERS_AT_ONCE", 1000)
    monkeypatch.setattr("monai_jdt.report.intervals.np.random.default_rng", lambda seed: Watched(np.random.PCG64(seed)))
    assert clustered_interval(values, patients) == pytest.approx(whole, rel=1e-14)
    assert max(sizes) <= 1000
    assert sum(sizes) == 2000 * 45
