"""The thresholded Dice score against loops, ITK's overlap filter, and arithmetic."""

from builtins import TypeError, ValueError
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import SimpleITK
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor

from monai_jdt import value_checks
from monai_jdt.functional.metric_labels import label_rule
from monai_jdt.functional.thresholded_dice import (
    THRESHOLD_PRESETS,
    BothEmpty,
    ThresholdComparison,
    ThresholdRule,
    threshold_rule,
    thresholded_dice,
)
from monai_jdt.raters import fuse_average
from tests.metrics.rater_cases import KINDS, rater_case
from tests.oracles import rater_metrics as oracle

QUBIQ = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]


def loops(p: list[int], m: list[int], thresholds: list[float], comparison: str = ">", both_empty: str = "undefined") -> float:
    """Voxel by voxel, threshold by threshold, for one image and class of whole numbers of hundredths."""
    scores = []
    for t in thresholds:
        t = round(100 * t)
        tp = in_p = in_m = 0
        for a, b in zip(p, m, strict=True):
            a_marked, b_marked = (a > t, b > t) if comparison == ">" else (a >= t, b >= t)
            tp += a_marked and b_marked
            in_p += a_marked
            in_m += b_marked
        if in_p + in_m:
            scores.append(2 * tp / (in_p + in_m))
        elif both_empty != "undefined":
            scores.append({"one": 1, "zero": 0}[both_empty])
    return sum(scores) / len(scores) if scores else float("nan")


def rows(values: list[int]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)[None, None] / 100


hundredths = st.lists(st.integers(0, 100), min_size=6, max_size=6)


@given(
    p=hundredths,
    m=hundredths,
    thresholds=st.lists(st.integers(1, 99), min_size=1, max_size=5, unique=True).map(lambda ts: [t / 100 for t in ts]),
    comparison=st.sampled_from([">", ">="]),
    both_empty=st.sampled_from(["one", "zero", "undefined"]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_it_is_what_loops_over_whole_hundredths_count(
    p: list[int], m: list[int], thresholds: list[float], comparison: str, both_empty: str, dtype: torch.dtype
) -> None:
    rule = threshold_rule(thresholds, comparison, both_empty)
    got = float(thresholded_dice(rows(p).to(dtype), rows(m).to(dtype), rule))
    assert got == pytest.approx(loops(p, m, thresholds, comparison, both_empty), abs=1e-12, nan_ok=True)


def test_itks_filter_gives_the_same_at_each_threshold() -> None:
    rng = np.random.default_rng(0)
    p, m = rng.random((2, 3, 7, 6, 5)), rng.integers(0, 6, (2, 3, 7, 6, 5)) / 5
    expected = np.zeros((2, 3))
    for n, c in np.ndindex(2, 3):
        for t in QUBIQ:
            overlap = SimpleITK.LabelOverlapMeasuresImageFilter()
            overlap.Execute(*(SimpleITK.GetImageFromArray((values[n, c] > t).astype(np.uint8)) for values in (p, m)))
            expected[n, c] += overlap.GetDiceCoefficient() / len(QUBIQ)
    got = thresholded_dice(torch.from_numpy(p), torch.from_numpy(m))
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(
        thresholded_dice(torch.from_numpy(p), torch.from_numpy(m), include_background=False).numpy(), expected[:, 1:], rtol=1e-12
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", sorted(THRESHOLD_PRESETS))
def test_a_share_of_raters_that_is_the_threshold_is_at_it(name: str, dtype: torch.dtype) -> None:
    # .3 in float32 is more than .3 in float64: a comparison in float64 would count 3 of 10 raters as more than .3
    met = 0
    for raters in range(1, 21):
        for votes in range(raters + 1):
            for threshold in THRESHOLD_PRESETS[name].thresholds:
                share = torch.tensor([[votes / raters]], dtype=dtype)
                everywhere = torch.ones(1, 1, dtype=dtype)
                exact = Fraction(votes, raters) - Fraction(round(100 * threshold), 100)
                if abs(exact) < 0.01 and exact and dtype is torch.bfloat16:
                    continue  # two numbers nearer than this dtype can tell apart
                for comparison, marked in ((">", exact > 0), (">=", exact >= 0)):
                    rule = ThresholdRule((threshold,), ThresholdComparison(comparison), BothEmpty.ZERO)
                    assert float(thresholded_dice(everywhere, share, rule)) == float(marked)
                met += exact == 0
    assert met > 3


@pytest.mark.parametrize("raters", [2, 3, 5, 6, 7, 10])
def test_averages_of_this_package_and_means_of_torch_meet_the_threshold_exactly(raters: int) -> None:
    # voxel k is marked by k of the raters
    votes = (torch.arange(raters)[:, None] < torch.arange(raters + 1)).to(torch.uint8)
    averages = [fuse_average(votes[..., None], [1])[0, :, 0], votes.to(torch.float32).mean(0)]
    for average in averages:
        for threshold in QUBIQ:
            above = sum(10 * k > round(10 * threshold) * raters for k in range(raters + 1))
            rule = ThresholdRule((threshold,))
            # against a map that marks everything: Dice = 2 a / (a + n)
            dice = float(thresholded_dice(torch.ones(1, 1, raters + 1), average[None, None], rule))
            assert dice == pytest.approx(2 * above / (above + raters + 1), abs=1e-12)


def test_the_presets_are_the_published_thresholds() -> None:
    assert list(THRESHOLD_PRESETS["qubiq"].thresholds) == QUBIQ
    assert THRESHOLD_PRESETS["mrnet"].thresholds == (0.1, 0.3, 0.5, 0.7, 0.9)
    np.testing.assert_allclose(THRESHOLD_PRESETS["curvas-pdacvi"].thresholds, np.linspace(0.1, 0.8, 6), rtol=1e-15)
    for name, preset in THRESHOLD_PRESETS.items():
        assert threshold_rule(name) == preset
        assert (preset.comparison, preset.both_empty) == (ThresholdComparison.ABOVE, BothEmpty.ONE)


def test_arguments_override_a_preset_and_numbers_have_their_own_rule() -> None:
    rule = threshold_rule("qubiq", ">=", "zero")
    assert (rule.comparison, rule.both_empty) == (ThresholdComparison.AT_LEAST, BothEmpty.ZERO)
    assert threshold_rule(np.array([0.2, 0.7])) == ThresholdRule((0.2, 0.7), ThresholdComparison.ABOVE, BothEmpty.UNDEFINED)
    assert threshold_rule([1.0], comparison=">=").thresholds == (1.0,)


@pytest.mark.parametrize(
    ("both_empty", "expected"),
    # above .2: one voxel in the prediction, none in the label: 0; above .6: empty in both
    [("one", 0.5), ("zero", 0.0), ("undefined", 0.0)],
)
def test_both_empty_at_one_threshold(both_empty: str, expected: float) -> None:
    p, m = torch.tensor([[[0.5, 0.1]]]), torch.tensor([[[0.1, 0.0]]])
    assert float(thresholded_dice(p, m, threshold_rule([0.2, 0.6], both_empty=both_empty))) == expected


@pytest.mark.parametrize(("both_empty", "expected"), [("one", 1.0), ("zero", 0.0), ("undefined", float("nan"))])
@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (2, 3, 0, 4)])
def test_both_empty_at_every_threshold(both_empty: str, expected: float, shape: tuple[int, ...]) -> None:
    scores = thresholded_dice(torch.zeros(shape), torch.zeros(shape), threshold_rule("qubiq", both_empty=both_empty))
    np.testing.assert_array_equal(scores.numpy(), np.full((2, 3), expected))


@given(m=hundredths, both_empty=st.sampled_from(["one", "undefined"]))
def test_a_label_against_itself_is_one(m: list[int], both_empty: str) -> None:
    score = float(thresholded_dice(rows(m), rows(m), threshold_rule("qubiq", both_empty=both_empty)))
    assert score == 1 or (both_empty == "undefined" and max(m) <= 10 and np.isnan(score))


@given(p=hundredths, m=hundredths, seed=st.integers(0, 9))
def test_swapping_the_maps_and_permuting_voxels_change_nothing(p: list[int], m: list[int], seed: int) -> None:
    order = np.random.default_rng(seed).permutation(6)
    score = float(thresholded_dice(rows(p), rows(m)))
    assert float(thresholded_dice(rows(m), rows(p))) == score
    assert float(thresholded_dice(rows(p)[..., order], rows(m)[..., order])) == score


@pytest.mark.parametrize("block", [1, 7, 40, 10**6])
def test_cutting_into_other_blocks_changes_nothing(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    p, m = torch.rand(2, 3, 5, 13), torch.rand(2, 3, 5, 13)
    expected = thresholded_dice(p, m)
    monkeypatch.setattr("monai_jdt.functional.thresholded_dice._BLOCK", block)
    assert torch.equal(thresholded_dice(p, m), expected)


def test_hard_maps_of_any_dtype_give_the_dice_score() -> None:
    p, m = torch.tensor([[[1, 1, 0, 0]]]), torch.tensor([[[1, 0, 0, 0]]])
    for dtype in (torch.bool, torch.uint8, torch.uint16, torch.int64, torch.float16, torch.float32):
        for comparison in (">", ">="):
            # 2 * 1 / (2 + 1)
            assert float(thresholded_dice(p.to(dtype), m.to(dtype), threshold_rule("mrnet", comparison))) == pytest.approx(2 / 3)


def test_counts_beyond_two_to_the_24_are_exact() -> None:
    # float32 cannot count past 16777216: it would not see the one voxel that differs
    voxels = 2**24 + 3
    p = torch.ones(1, 1, voxels, dtype=torch.bool)
    m = p.clone()
    m[..., 0] = False
    score = thresholded_dice(p, m, ThresholdRule((0.5,)))
    assert float(score) == 2 * (voxels - 1) / (2 * voxels - 1)


@pytest.mark.parametrize("shape", [(0, 2, 4), (2, 3), (1, 2, 5), (1, 2, 3, 4, 5), (1, 1, 2, 2, 2, 2)])
def test_shapes(shape: tuple[int, ...]) -> None:
    p = torch.rand(shape)
    scores = thresholded_dice(p, p)
    assert scores.shape == shape[:2]
    assert scores.dtype == torch.float64
    assert bool((scores == 1).all())


def test_meta_tensors_views_and_gradients_go_in_a_plain_tensor_comes_out() -> None:
    p, m = torch.rand(2, 2, 4, 6), torch.rand(2, 2, 4, 6)
    expected = thresholded_dice(p, m)
    kept = p.clone(), m.clone()
    assert 0 < float(expected.min()) < 1
    for a, b in (
        (MetaTensor(p), MetaTensor(m)),
        (p.clone().requires_grad_(), m),
        (p.transpose(2, 3), m.transpose(2, 3)),
        (p.to(memory_format=torch.channels_last), m),
    ):
        scores = thresholded_dice(a, b)
        assert type(scores) is torch.Tensor
        assert not scores.requires_grad
        assert torch.equal(scores, expected)
    assert torch.equal(p, kept[0])
    assert torch.equal(m, kept[1])


@pytest.mark.parametrize(("kind", "seed"), [(kind, seed) for kind in KINDS for seed in (0, 1)])
def test_votes_are_their_weighted_mean(kind: str, seed: int) -> None:
    """The mean is made by loops, where anybody speaks; there alone the dense maps are compared."""
    case = rater_case(kind, seed)
    reading = label_rule(True, case.regions, case.ignored)
    for rule in (threshold_rule("qubiq"), threshold_rule([0.25, 0.5, 1.0], ">=")):
        got = thresholded_dice(case.prob, case.votes, rule, reading, rater_weights=case.weights)
        for image in range(2):
            p, _, votes = case.image(image)
            for channel, group in enumerate(case.groups):
                mean = oracle.mean_label(votes, case.weights_of(image), group, case.ignored)
                there = [v for v, share in enumerate(mean) if share is not None]
                if not there:  # of nothing it is not known that it is empty
                    assert got[image, channel].isnan()
                    continue
                maps = torch.tensor(p[channel, there]), torch.tensor([mean[v] for v in there], dtype=torch.float64)
                # float32, to which the thresholds are rounded
                expected = thresholded_dice(maps[0].float()[None, None], maps[1][None, None], rule)
                np.testing.assert_array_equal(got[image, channel].numpy(), expected[0, 0].numpy())


def test_the_share_of_votes_meets_a_threshold_exactly() -> None:
    for raters in (3, 5, 10):
        votes = (torch.arange(raters)[:, None] < torch.arange(raters + 1))[None].to(torch.uint8)
        for threshold in QUBIQ:
            above = sum(10 * k > round(10 * threshold) * raters for k in range(raters + 1))
            dice = thresholded_dice(torch.ones(1, 1, raters + 1), votes, ThresholdRule((threshold,)), label_rule(True))
            assert dice.item() == pytest.approx(2 * above / (above + raters + 1), abs=1e-12)


P = torch.full((2, 2, 4), 0.5)


@pytest.mark.parametrize(
    ("p", "m", "error", "says"),
    [
        (P, P[:, :, :3], ValueError, r"y: expected shape \(2, 2, 4\), the shape of y_pred, got \(2, 2, 3\)"),
        (P, P[:, :1], ValueError, "make one channel for each class"),
        (P, P[:1], ValueError, "got"),
        (torch.tensor([0.5]), torch.tensor([0.5]), ValueError, r"y_pred: expected shape \(N, C, \*spatial\)"),
        (P - 3, P, ValueError, r"y_pred: expected values in \[0, 1\], got -2.5 to -2.5\. Fix: apply sigmoid"),
        (P, P * 6, ValueError, r"y: expected values in \[0, 1\], got 3 to 3\. Fix: divide"),
        (torch.where(P > 0, torch.nan, P), P, ValueError, "y_pred: .* got nan"),
        (P, P.to("meta"), ValueError, "y: expected a tensor on cpu, where y_pred is, got meta"),
        (P, P.numpy(), TypeError, "y: expected a torch.Tensor, got ndarray"),
        (P.to(torch.complex64), P, TypeError, "y_pred: expected real numbers"),
    ],
)
def test_maps_that_do_not_fit_are_refused(p: torch.Tensor, m: torch.Tensor, error: type[TypeError | ValueError], says: str) -> None:
    with pytest.raises(error, match=says):
        thresholded_dice(p, m)


def test_one_channel_without_the_background_is_refused() -> None:
    with pytest.raises(ValueError, match="include_background=False: expected at least 2 channels, got 1"):
        thresholded_dice(P[:, :1], P[:, :1], include_background=False)


def test_where_values_are_not_read_nan_is_not_marked() -> None:
    p = torch.tensor([[[float("nan"), 0.9]]])
    with value_checks("off"):
        # above .5: one voxel against two, 2 * 1 / (1 + 2)
        assert float(thresholded_dice(p, torch.ones(1, 1, 2), ThresholdRule((0.5,)))) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (
            {"thresholds": "lidc"},
            ValueError,
            r"thresholds: expected one of \['curvas-pdacvi', 'mrnet', 'qubiq'\] or numbers, got 'lidc'",
        ),
        ({"thresholds": 0.5}, TypeError, "thresholds: expected a name or a sequence of numbers, got float 0.5"),
        ({"thresholds": []}, ValueError, "thresholds: expected at least one number"),
        ({"thresholds": [0.5, 0.2, 0.5]}, ValueError, "each once"),
        ({"thresholds": [0.5, 1.0]}, ValueError, r"in \[0, 1\) for comparison '>', got 1, which marks nothing. Fix: .*comparison='>='"),
        ({"thresholds": [0.0], "comparison": ">="}, ValueError, r"in \(0, 1\] for comparison '>=', got 0, which marks everything"),
        ({"thresholds": [50]}, ValueError, "thresholds: expected a finite number >= 0 and <= 1, got 50"),
        ({"thresholds": [-0.1]}, ValueError, "thresholds: "),
        ({"thresholds": [float("nan")]}, ValueError, "thresholds: "),
        ({"thresholds": ["a"]}, TypeError, "thresholds: expected a number"),
        ({"thresholds": [True]}, TypeError, "thresholds: expected a number"),
        ({"comparison": "<"}, ValueError, r"comparison: expected one of '>', '>=', got '<'"),
        ({"both_empty": 1}, ValueError, r"both_empty: expected one of 'one', 'zero', 'undefined', got 1"),
    ],
)
def test_rules_that_make_no_sense_are_refused(arguments: dict[str, Any], error: type[ValueError], says: str) -> None:
    with pytest.raises(error, match=says):
        threshold_rule(**arguments)
