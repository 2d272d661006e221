"""Reductions: MONAI's wherever a score is defined, NaN where MONAI says 0."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.metrics.utils import do_metric_reduction
from monai.utils import MetricReduction

from monai_jdt.functional.undefined import UndefinedPolicy, mean_of_defined
from monai_jdt.metrics.reduction import metric_reduction_of, reduce_scores

NAN = float("nan")
SCORES = torch.tensor([[0.5, NAN], [1.0, 0.0], [NAN, NAN]], dtype=torch.float64)


@given(
    rows=st.integers(1, 4).flatmap(
        lambda c: st.lists(st.lists(st.sampled_from([NAN, 0.0, 0.25, 1.0]), min_size=c, max_size=c), min_size=1, max_size=4)
    ),
    reduction=st.sampled_from(list(MetricReduction)),
)
def test_it_is_monais_where_something_is_defined(rows: list[list[float]], reduction: MetricReduction) -> None:
    scores = torch.tensor(rows)
    expected, not_nans = do_metric_reduction(scores.clone(), reduction)
    result, number = reduce_scores(scores, reduction)
    assert torch.equal(number.reshape(-1), not_nans.reshape(-1))
    if reduction is not MetricReduction.NONE:
        expected = torch.where(not_nans > 0, expected, NAN)
    torch.testing.assert_close(result.reshape(-1), expected.reshape(-1), equal_nan=True)


@pytest.mark.parametrize(
    ("reduction", "expected", "number"),
    [
        ("mean", 0.5, 2),  # images: .5, (1 + 0) / 2, none
        ("sum", 1.5, 3),
        ("mean_batch", [0.75, 0.0], [2, 1]),
        ("sum_batch", [1.5, 0.0], [2, 1]),
        ("mean_channel", [0.5, 0.5, NAN], [1, 2, 0]),
        ("sum_channel", [0.5, 1.0, NAN], [1, 2, 0]),
    ],
)
def test_undefined_scores_are_left_out(reduction: str, expected: list[float] | float, number: list[int] | int) -> None:
    result, defined = reduce_scores(SCORES, metric_reduction_of(reduction))
    torch.testing.assert_close(result, torch.tensor(expected, dtype=torch.float64), equal_nan=True, rtol=0, atol=1e-15)
    assert defined.tolist() == number


@pytest.mark.parametrize(
    ("reduction", "expected"),
    [
        ("mean", NAN),
        ("sum", NAN),
        ("mean_batch", [NAN, NAN]),
        ("sum_batch", [NAN, NAN]),
        ("mean_channel", [NAN, 0.5, NAN]),
        ("sum_channel", [NAN, 1.0, NAN]),
    ],
)
def test_undefined_scores_spread(reduction: str, expected: list[float] | float) -> None:
    result, _ = reduce_scores(SCORES, metric_reduction_of(reduction), UndefinedPolicy.SPREAD)
    torch.testing.assert_close(result, torch.tensor(expected, dtype=torch.float64), equal_nan=True, rtol=0, atol=1e-15)


@pytest.mark.parametrize("policy", list(UndefinedPolicy))
def test_the_mean_of_nothing_is_undefined(policy: UndefinedPolicy) -> None:
    assert mean_of_defined(torch.zeros(2, 0), 1, policy).isnan().tolist() == [True, True]
    assert mean_of_defined(torch.zeros(0, 2), (0, 1), policy).isnan().item()


def test_the_scores_are_not_written_to() -> None:
    kept = SCORES.clone()
    reduce_scores(SCORES, MetricReduction.MEAN)
    torch.testing.assert_close(SCORES, kept, equal_nan=True)
