"""The metric is the function of the tests of `functional`, image by image; an oracle adds up all labels of a few voxels."""

from __future__ import annotations

import itertools

import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.handlers import from_engine

from monai_jdt.handlers import MeanExpectedOverlap
from monai_jdt.metrics import ExpectedOverlap
from tests.present import tensor_of


def expectation(prob: torch.Tensor, mask: torch.Tensor, kind: str) -> float:
    """The mean over all labels, each with its probability; 1 where mask and label are empty."""
    total = 0.0
    for label in itertools.product((0, 1), repeat=prob.numel()):
        chance, both, size = 1.0, 0, 0
        for p, m, y in zip(prob.flatten().tolist(), mask.flatten().tolist(), label, strict=True):
            chance *= p if y else 1 - p
            both, size = both + (m and y), size + m + y
        union = size - both
        total += chance * (1.0 if size == 0 else 2 * both / size if kind == "dice" else both / union)
    return total


@pytest.mark.parametrize("kind", ["dice", "jaccard"])
def test_scores_are_the_expectations_of_each_image_and_class(kind: str) -> None:
    prob = torch.rand(2, 3, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mask = (prob > 0.5).double()
    mask[0, 1] = 0
    metric = ExpectedOverlap(expected=kind)
    scores = metric(prob, mask)
    oracle = torch.tensor([[expectation(prob[n, c], mask[n, c], kind) for c in range(3)] for n in range(2)], dtype=torch.float64)
    torch.testing.assert_close(scores, oracle, rtol=0, atol=1e-9)
    torch.testing.assert_close(metric.aggregate(), oracle.mean(), rtol=0, atol=1e-9)
    without = ExpectedOverlap(include_background=False, expected=kind)([MetaTensor(p) for p in prob], list(mask))
    torch.testing.assert_close(without, oracle[:, 1:], rtol=0, atol=1e-9)


def test_empty_masks_score_as_the_rule_says() -> None:
    nothing = torch.zeros(1, 1, 4)
    assert ExpectedOverlap()(nothing, nothing).item() == 1
    assert ExpectedOverlap(both_empty="zero")(nothing, nothing).item() == 0
    assert tensor_of(ExpectedOverlap().aggregate()).isnan()


def test_the_handler_keeps_the_score_of_each_image() -> None:
    engine = Engine(lambda engine, batch: [{"prob": torch.tensor([[0.5, 0.5]]), "mask": torch.tensor([[1.0, 0.0]])}])
    MeanExpectedOverlap(output_transform=from_engine(["prob", "mask"])).attach(engine, "expected_dice")
    engine.run([0, 1])
    # labels 00, 01, 10, 11 score 0, 0, 1 and 2/3
    assert engine.state.metrics["expected_dice"] == pytest.approx(5 / 12)
    assert engine.state.metric_details["expected_dice"].shape == (2, 1)  # type: ignore[attr-defined]
