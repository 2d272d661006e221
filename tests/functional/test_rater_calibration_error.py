"""Calibration errors against loops over voxels and raters, analytic values, and the metric's two levels."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.handlers import from_engine

from monai_jdt.functional.metric_labels import label_rule
from monai_jdt.functional.rater_calibration_error import (
    CalibrationRule,
    CalibrationTarget,
    rater_calibration_bins,
    rater_calibration_error,
)
from monai_jdt.handlers import RaterCalibrationErrorHandler
from monai_jdt.metrics import RaterCalibrationError
from tests.metrics.rater_cases import KINDS, RaterCase, rater_case
from tests.oracles import rater_metrics as oracle
from tests.present import tensor_of


def metric_of(case: RaterCase, **options: Any) -> RaterCalibrationError:
    return RaterCalibrationError(regions=case.regions, ignore_index=case.ignored, bins=4, **options)


def pairs_of(case: RaterCase, image: int, channel: int | None, against: str, inside: str) -> list[oracle.Weighted]:
    p, _, votes = case.image(image)
    weights, groups, shape = case.weights_of(image), case.groups, tuple(case.prob.shape[2:])
    foreground = groups[1:] if case.prob.shape[1] > 1 and case.regions is None else groups
    voxels: Sequence[int] = range(votes.shape[1])
    if inside == "box":
        voxels = oracle.bounding_box(votes, weights, foreground, case.ignored, shape)
    return oracle.calibration_pairs(p, votes, weights, groups, case.ignored, channel, against, voxels)


def channels_of(case: RaterCase, classwise: bool | None) -> Sequence[int | None]:
    separate = classwise or case.regions is not None or case.prob.shape[1] == 1
    return range(case.prob.shape[1]) if separate else [None]


def mean_over_raters(weighted: list[oracle.Weighted], kind: str, mass: bool) -> float:
    errors = [(weight, oracle.calibration_error([(1.0, pairs)], 4, kind, mass)) for weight, pairs in weighted]
    defined = [(weight, error) for weight, error in errors if not math.isnan(error)]
    total = sum(weight for weight, _ in defined)
    return sum(weight * error for weight, error in defined) / total if total else math.nan


# every second kind has weights and a missing rater
@pytest.mark.parametrize(("name", "seed"), [(name, number % 2) for number, name in enumerate(KINDS)])
@pytest.mark.parametrize("against", ["mean", "raters"])
@pytest.mark.parametrize("inside", ["all", "box"])
def test_errors_of_images_and_of_the_data_set(name: str, seed: int, against: str, inside: str) -> None:
    case = rater_case(name, seed)
    for kind in ("ece", "ace", "mce"):
        # one channel and regions are judged by class anyway
        for classwise in (None, True) if "classes" in name else (None,):
            channels = channels_of(case, classwise)
            options: dict[str, Any] = {"kind": kind, "against": against, "classwise": classwise, "inside": inside}
            for binning in ("width", "mass"):
                metric = metric_of(case, level="image", binning=binning, **options)
                expected = [
                    [mean_over_raters(pairs_of(case, image, c, against, inside), kind, binning == "mass") for c in channels]
                    for image in range(2)
                ]
                np.testing.assert_allclose(metric(case.prob, case.votes, case.weights).numpy(), expected, rtol=1e-6, atol=1e-9)
            pooled = metric_of(case, reduction="none", **options)
            pooled(case.prob[:1], case.votes[:1], None if case.weights is None else case.weights[:1])
            pooled(list(case.prob[1:]), list(case.votes[1:]), None if case.weights is None else list(case.weights[1:]))
            every = [[*pairs_of(case, 0, c, against, inside), *pairs_of(case, 1, c, against, inside)] for c in channels]
            whole = [oracle.calibration_error(weighted, 4, kind, False) for weighted in every]
            np.testing.assert_allclose(tensor_of(pooled.aggregate()).numpy(), whole, rtol=1e-6, atol=1e-9)


def test_the_mean_of_the_raters_is_calibrated_and_calibrated_draws_nearly() -> None:
    case = rater_case("classes", 0)
    mean = torch.stack([(case.votes == c).double().mean(1) for c in range(3)], 1)
    for level in ("dataset", "image"):
        metric = RaterCalibrationError(level=level, bins=50)
        metric(mean, case.votes)
        assert tensor_of(metric.aggregate()).item() == pytest.approx(0, abs=1e-12)
    # outcomes drawn with probability p: |acc - conf| of a bin has mean sqrt(2 / pi) sd, sd = sqrt(p (1 - p) / n)
    generator = torch.Generator().manual_seed(0)
    p = torch.rand(1, 1, 200_000, generator=generator, dtype=torch.float64)
    votes = (torch.rand(1, 1, 200_000, generator=generator) < p).int()
    error = rater_calibration_error(p, votes).item()
    assert error < 3 * math.sqrt(2 / math.pi * 0.25 / (200_000 / 15))
    # p^2 for p: E|p - p^2| = 1/2 - 1/3; p^2 is below p everywhere, so that bins do not cancel
    assert rater_calibration_error(p**2, votes).item() == pytest.approx(1 / 6, abs=0.003)


@pytest.mark.parametrize(("shape", "raters"), [((40_000,), 3), ((200, 200), 1), ((40, 50, 20), 2)])
def test_classes_that_are_calibrated_and_that_are_not(shape: tuple[int, ...], raters: int) -> None:
    """Raters drawn from the prediction itself, and a prediction that is surer than it may be by a known amount."""
    generator = torch.Generator().manual_seed(0)
    classes, voxels = 3, 40_000
    p = torch.rand(1, classes, *shape, generator=generator, dtype=torch.float64).log().neg()  # Dirichlet(1)
    p = p / p.sum(1, keepdim=True)
    u = torch.rand(1, raters, *shape, generator=generator)
    votes = (u[:, :, None] > p.cumsum(1)[:, None, : classes - 1]).sum(2)
    # a bin of n voxels is off by at most sqrt(2 / pi) sqrt(.25 / (n raters)) in the mean; over 15 bins, by Cauchy and Schwarz:
    noise = math.sqrt(2 / math.pi) * math.sqrt(15 * 0.25 / (voxels * raters))
    for how in (CalibrationRule(), CalibrationRule(classwise=True)):
        assert rater_calibration_error(p, votes, how=how).max().item() < 2 * noise
    # the winner has 1/2 more of what is missing to 1: the error is half of the mean of that, in bins that do not cancel
    top = p.max(1, keepdim=True)
    sure = torch.where(p == top.values, (1 + p) / 2, p / 2)
    assert rater_calibration_error(sure, votes).item() == pytest.approx((1 - top.values).mean().item() / 2, abs=2 * noise)


def test_order_of_voxels_changes_nothing_and_ties_stay_together() -> None:
    p = torch.tensor([[[0.2, 0.2, 0.2, 0.2, 0.7, 0.7]]])
    votes = torch.tensor([[[1, 0, 0, 1, 1, 0]]])
    for binning in ("width", "mass"):
        metric = RaterCalibrationError(bins=3, binning=binning, level="image", kind="mce")
        scores = {
            metric(p[..., order], votes[..., order]).item() for order in (torch.arange(6), torch.arange(5, -1, -1), torch.randperm(6))
        }
        assert len(scores) == 1
        assert scores.pop() == pytest.approx(0.3)  # |.5 - .2|; the other bin |.5 - .7|


def test_nothing_to_calibrate_is_undefined_in_the_right_shape() -> None:
    votes = torch.zeros(0, 2, 4, dtype=torch.int64)
    for channels, classwise, columns in ((1, None, 1), (2, None, 1), (2, True, 2)):
        p, how = torch.zeros(0, channels, 4), CalibrationRule(classwise=classwise, bins=5)
        assert rater_calibration_error(p, votes, how=how).shape == (0, columns)
        assert rater_calibration_bins(p, votes, how).shape == (0, columns, 5, 3)
    metric = RaterCalibrationError()
    metric(torch.zeros(0, 1, 4), votes)
    assert math.isnan(tensor_of(metric.aggregate()))
    for inside in ("all", "box"):
        for against in ("mean", "raters"):
            for level in ("dataset", "image"):
                metric = RaterCalibrationError(inside=inside, against=against, level=level)
                metric(torch.zeros(2, 3, 4, 0), torch.zeros(2, 2, 4, 0, dtype=torch.int64))
                assert math.isnan(tensor_of(metric.aggregate()))


def test_uniform_weights_of_each_image_are_no_weights_in_pooled_bins() -> None:
    case = rater_case("binary silent", 0)
    for inside in ("all", "box"):
        plain, weighted = (metric_of(case, against="raters", inside=inside) for _ in range(2))
        plain(case.prob, case.votes)
        weighted(case.prob, case.votes, torch.tensor([[2.0] * 4, [0.1] * 4]))
        assert tensor_of(weighted.aggregate()).item() == pytest.approx(tensor_of(plain.aggregate()).item(), rel=1e-12)
    # one rater of weight 3 and one of 1 count 1.5 and .5 of a voxel
    p, how = torch.full((1, 1, 1), 0.5), CalibrationRule(CalibrationTarget.RATERS, bins=1)
    bins = rater_calibration_bins(p, torch.tensor([[[1], [0]]]), how, rater_weights=[3.0, 1.0])
    assert bins.flatten().tolist() == pytest.approx([2, 1, 1.5])


def test_bins_are_a_reliability_diagram() -> None:
    p, votes = torch.tensor([[[0.1, 0.3, 1.0, 0.5]]]), torch.tensor([[[0, 1, 1, 7], [0, 0, 1, 7]]])
    bins = rater_calibration_bins(p, votes, CalibrationRule(bins=2), label_rule(True, None, 7))
    torch.testing.assert_close(bins, torch.tensor([[[[2, 0.4, 0.5], [1, 1.0, 1.0]]]], dtype=torch.float64), rtol=1e-6, atol=0)


def test_an_empty_run_the_handler_and_wrong_arguments() -> None:
    assert tensor_of(RaterCalibrationError().aggregate()).isnan().all()
    case = rater_case("classes", 0)
    handler = RaterCalibrationErrorHandler(classwise=True, output_transform=from_engine(["pred", "votes"]))
    engine = Engine(lambda _, batch: batch)
    handler.attach(engine, "sce")
    engine.run([[{"pred": p, "votes": v}] for p, v in zip(case.prob, case.votes, strict=True)])
    metric = RaterCalibrationError(classwise=True)
    metric(case.prob, case.votes)
    assert engine.state.metrics["sce"] == pytest.approx(tensor_of(metric.aggregate()).item())
    for arguments, words in (
        ({"binning": "mass"}, "binning: expected 'width' with level='dataset', got 'mass'"),
        ({"bins": 0}, "bins: expected a whole number >= 1, got 0"),
        ({"reduction": "mean_batch"}, "reduction: expected 'mean', 'sum' or 'none' for scores of a data set"),
        ({"kind": "sce"}, "kind: expected one of 'ece', 'ace', 'mce', got 'sce'"),
    ):
        with pytest.raises(ValueError, match=words):
            RaterCalibrationError(**arguments)
    with pytest.raises(ValueError, match="classwise: expected None or True for one channel or regions"):
        RaterCalibrationError(classwise=False)(case.prob[:, :1], case.votes)
    with pytest.raises(ValueError, match="include_background: expected True for the largest of all channels"):
        RaterCalibrationError(False)(case.prob, case.votes)
