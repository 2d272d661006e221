"""The labels of metrics: ignored values in narrow dtypes and dense labels, and predictions at ignored voxels."""

from typing import Any

import numpy as np
import pytest
import torch

from monai_jdt.functional.disagreement_correlation import disagreement_correlation
from monai_jdt.functional.fine_grained_overlap import Discretization, overlap_counts
from monai_jdt.functional.generalized_energy_distance import generalized_energy_distance
from monai_jdt.functional.metric_labels import held_value, label_rule
from monai_jdt.functional.rater_agreement import AgreementKind, rater_agreement
from monai_jdt.functional.rater_brier_score import BrierPart, rater_brier_score
from monai_jdt.functional.rater_calibration_error import rater_calibration_error
from monai_jdt.functional.rater_dice import rater_dice
from monai_jdt.functional.rater_nll import rater_nll
from monai_jdt.functional.soft_overlap import OverlapKind, soft_overlap
from monai_jdt.functional.thresholded_dice import THRESHOLD_PRESETS, threshold_rule, thresholded_dice
from monai_jdt.functional.volume_crps import volume_crps
from monai_jdt.metrics import FineGrainedOverlap, SoftDice, ThresholdedDice
from tests.metrics.rater_cases import rater_case

NAN = float("nan")


def test_an_ignored_value_that_bytes_cannot_hold_ignores_nothing() -> None:
    votes, p = torch.tensor([[[0, 255, 255], [255, 255, 0], [255, 0, 255]]]), torch.rand(1, 1, 3)
    spread = rater_brier_score(p, votes.to(torch.uint8), BrierPart.SPREAD, label_rule(True, [[255]], -1))
    assert spread.item() == pytest.approx(2 / 9)  # 2 of 3 raters at each voxel: 2/3 * 1/3
    kappa = {
        rater_agreement(votes.to(dtype), 1, AgreementKind.FLEISS_KAPPA, label_rule(True, [[255]], -1)).item()
        for dtype in (torch.uint8, torch.int16, torch.int64, torch.float16, torch.float32)
    }
    assert len(kappa) == 1
    fortyfour = torch.tensor([[[44, 1, 0]]], dtype=torch.uint8)
    marked = thresholded_dice(torch.tensor([[[1.0, 0, 0]]]), fortyfour, THRESHOLD_PRESETS["mrnet"], label_rule(True, [[44]], 300))
    assert marked.item() == 1


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.bool, torch.float16, torch.bfloat16])
def test_held_values_are_those_that_a_tensor_of_the_dtype_keeps(dtype: torch.dtype) -> None:
    kept = {torch.bool: lambda v: v in (0, 1), torch.float16: lambda v: abs(v) <= 65504, torch.bfloat16: lambda v: True}
    for value in (-1, 0, 1, 44, 127, 128, 255, 300, 999, 40_000, 100_000):
        if dtype in kept:
            held = value if kept[dtype](value) else None
            if held is not None:
                held = int(torch.tensor(value).to(dtype).item())
        else:
            info = np.iinfo(str(dtype).removeprefix("torch."))
            held = value if info.min <= value <= info.max else None
        assert held_value(value, dtype) == held
    assert held_value(None, dtype) is None


def test_a_value_that_would_wrap_to_the_ignored_one_is_no_class() -> None:
    votes = torch.tensor([[[0, 1, 255]]], dtype=torch.uint8)
    with pytest.raises(ValueError, match="y: expected label values from 0 to 1, the channels of y_pred, got 255"):
        rater_brier_score(torch.full((1, 2, 3), 0.5), votes, rule=label_rule(True, None, -1))
    # 300 classes: no byte is too large, though 300 wraps to 44
    many = rater_brier_score(torch.zeros(1, 300, 3), votes, rule=label_rule(True))
    assert many[0, [0, 1, 255]].tolist() == pytest.approx([1 / 3] * 3)


def test_a_dense_labels_ignored_value_is_none_of_its_values() -> None:
    for value in (0, 1):
        for build in (label_rule, FineGrainedOverlap, SoftDice, ThresholdedDice):
            with pytest.raises(ValueError, match=rf"ignore_index: expected a value outside \[0, 1\] with a dense label, got {value}"):
                build(ignore_index=value)
    assert label_rule(True, None, 0).ignore_index == 0
    assert FineGrainedOverlap(ignore_index=255).ignore_index == 255
    # bytes of 255 are no ignored voxels where -1 is, but are no label either
    with pytest.raises(ValueError, match="y: expected values in"):
        SoftDice(ignore_index=-1)(torch.rand(1, 1, 2), torch.tensor([[[255, 1]]], dtype=torch.uint8))


@pytest.mark.parametrize("bad", [NAN, float("inf"), -3.0])
def test_predictions_at_ignored_voxels_reach_no_score_and_elsewhere_are_refused(bad: Any) -> None:
    case = rater_case("classes silent", 0)
    rule = label_rule(True, None, 7)
    somebody = (case.votes != 7).any(1, keepdim=True)
    assert not somebody.all()
    spoilt = torch.where(somebody, case.prob, bad)
    sampled = torch.where(somebody[:, None], case.samples.float(), bad)
    by_probability = {
        "soft dice": lambda p: soft_overlap(p, case.votes, OverlapKind.DICE, rule),
        "thresholded": lambda p: thresholded_dice(p, case.votes, THRESHOLD_PRESETS["qubiq"], rule),
        "brier": lambda p: rater_brier_score(p, case.votes, rule=rule),
        "nll": lambda p: rater_nll(p, case.votes, rule=rule),
        "nll of channels": lambda p: rater_nll(p, case.votes, True, rule=rule),
        "calibration": lambda p: rater_calibration_error(p, case.votes, rule=rule),
        "correlation": lambda p: disagreement_correlation(p, case.votes, rule=rule),
        "crps": lambda p: volume_crps(p, case.votes, rule=rule),
    }
    by_samples = {
        "rater dice": lambda s: rater_dice(s, case.votes, rule=rule),
        "energy": lambda s: generalized_energy_distance(s, case.votes, rule=rule),
    }
    for scores, clean, dirty in ((by_probability, case.prob, spoilt), (by_samples, case.samples, sampled)):
        for name, score in scores.items():
            torch.testing.assert_close(score(dirty), score(clean), rtol=0, atol=0, equal_nan=True, msg=name)
            with pytest.raises(ValueError, match="y_pred: expected"):
                score(torch.where(torch.rand(dirty.shape) < 0.5, bad, clean.float()))


def test_predictions_at_ignored_voxels_of_dense_labels() -> None:
    p, m = torch.rand(2, 2, 6), torch.rand(2, 2, 6).round()
    ignored, spoilt = m.clone(), p.clone()
    ignored[:, :, 4:], spoilt[:, :, 4:] = 255, NAN
    rule = label_rule(False, None, 255)
    for score in (
        lambda p, m, rule: soft_overlap(p, m, OverlapKind.JACCARD, rule),
        lambda p, m, rule: thresholded_dice(p, m, THRESHOLD_PRESETS["qubiq"], rule),
        lambda p, m, rule: overlap_counts(p, m, Discretization.ARGMAX, ignore_index=rule.ignore_index),
    ):
        part = score(p[..., :4], m[..., :4], label_rule())
        torch.testing.assert_close(score(spoilt, ignored, rule), part, rtol=1e-12, atol=0, equal_nan=True)
        with pytest.raises(ValueError, match=r"y_pred: expected values in \[0, 1\], got nan"):
            score(spoilt, m, label_rule())


def test_an_ignored_image_has_no_thresholded_score_whatever_two_empty_maps_score() -> None:
    rule = threshold_rule("qubiq")  # two empty maps score 1
    p = torch.rand(1, 1, 4)
    assert thresholded_dice(p, torch.full((1, 1, 4), -1.0), rule, label_rule(False, None, -1)).isnan().all()
    assert thresholded_dice(p, torch.full((1, 2, 4), 7), rule, label_rule(True, None, 7)).isnan().all()
    metric = ThresholdedDice(votes=True)
    assert metric(p, torch.ones(1, 2, 4, dtype=torch.int64), [0.0, 0.0]).isnan().all()
