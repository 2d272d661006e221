"""A metric is called under `torch.set_default_device` or `with torch.device(...)`: it works where its tensors are."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import monai_jdt.metrics
from monai_jdt.functional.expected_overlap import ExpectedScore, best_empty_level, best_expected_mask, expected_overlap
from tests.metrics.rater_cases import rater_case
from tests.metrics.test_image_scores import BY_SAMPLES, OWN

#: Every metric and the options that make it allocate elsewhere.
METRICS: dict[str, list[dict[str, Any]]] = {
    "DisagreementCorrelation": [{}, {"uncertainty": "entropy"}],
    "ExpectedOverlap": [{}, {"expected": "jaccard"}],
    "FineGrainedOverlap": [{"average": average, "discretize": "argmax"} for average in ("dataset", "image", "class")],
    "GeneralizedEnergyDistance": [{}, {"diagonal": False}],
    "LesionWiseOverlap": [{}],
    "RaterAgreement": [{"kind": kind} for kind in ("pairwise_dice", "pairwise_jaccard", "fleiss_kappa")],
    "RaterBrierScore": [{"part": part} for part in ("total", "distance", "spread")],
    "RaterCalibrationError": [
        *({"level": "dataset", "kind": kind, "against": against} for kind in ("ece", "mce") for against in ("mean", "raters")),
        *({"level": "image", "inside": "box", "binning": binning} for binning in ("width", "mass")),
    ],
    "RaterDice": [{"kind": kind} for kind in ("mean", "max", "max_reverse", "match")],
    "RaterNLL": [{}, {"classwise": True}],
    "SoftDice": [{}],
    "SoftJaccard": [{}],
    "ThresholdedDice": [{}],
    "VolumeCRPS": [{"kind": kind} for kind in ("empirical", "gaussian", "curvas")],
}


def test_every_metric_is_called_here() -> None:
    assert set(METRICS) == set(monai_jdt.metrics.__all__)


def scores_of(name: str, options: dict[str, Any]) -> list[torch.Tensor]:
    """The scores of a batch and of a list with weights, their means, and the mean of no call."""
    with torch.device("cpu"):
        # `OWN` has the level of a metric whose level is an option here
        case, own = rater_case("classes", 0), {key: value for key, value in OWN.get(name, {}).items() if key not in options}
    metric = getattr(monai_jdt.metrics, name)(**own, **options)
    assert math.isnan(metric.aggregate())
    y_pred, y = (case.samples, case.votes) if name in BY_SAMPLES else (case.prob, case.votes)
    scores = []
    if name == "RaterAgreement":
        scores += [metric(case.votes)]
    elif name in ("FineGrainedOverlap", "ExpectedOverlap", "LesionWiseOverlap"):
        label = torch.stack([(case.votes[:, 0] == c).int() for c in range(3)], 1)
        scores += [metric((y_pred > 0.3).int() if name == "LesionWiseOverlap" else y_pred, label)]
    else:
        scores += [metric(y_pred, y), metric(list(y_pred), list(y), [[1, 1, 0, 1], [0, 1, 1, 1]])]
    assert metric([], []) is not None
    return [*scores, metric.aggregate()]


@pytest.mark.parametrize(("name", "options"), [(name, options) for name, each in METRICS.items() for options in each])
def test_a_default_device_changes_no_bit(name: str, options: dict[str, Any]) -> None:
    expected = scores_of(name, options)
    with torch.device("meta"):
        inside = scores_of(name, options)
    for score, other in zip(expected, inside, strict=True):
        torch.testing.assert_close(other, score, rtol=0, atol=0, equal_nan=True)


def test_a_default_device_changes_no_bit_of_the_expected_overlap() -> None:
    prob = torch.rand(3, 2, 40, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 0.01, 0.3])[:, None, None]

    def results() -> list[torch.Tensor]:
        mask, score = best_expected_mask(prob, ExpectedScore.DICE)
        level, best = best_empty_level(score.flatten(), score.flatten() * 0.9, score.flatten() < 0.5)
        return [mask, score, expected_overlap(prob, mask, ExpectedScore.JACCARD), torch.as_tensor([level, best], device="cpu")]

    expected = results()
    with torch.device("meta"):
        inside = results()
    for value, other in zip(expected, inside, strict=True):
        torch.testing.assert_close(other, value, rtol=0, atol=0)
