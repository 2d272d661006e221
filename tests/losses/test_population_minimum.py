"""What many voxels that look alike but have different soft labels are predicted as: the table of docs/which_loss.md."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from monai_jdt.losses import DiceSemimetricLoss, JaccardMetricLoss, JDTCELoss

#: 60 % of 1,000 voxels have the label .25 and 40 % have 1; their mean is .55. Beside them sure foreground and sure background.
ALIKE = torch.cat([torch.full((600,), 0.25), torch.ones(400)]).double()
LABEL = torch.cat([ALIKE, torch.ones(300), torch.zeros(3000)]).reshape(1, 1, -1)
SURE = 30.0
PAGE = Path(__file__).resolve().parents[2] / "docs" / "which_loss.md"

#: What the page says.
MINIMA: list[tuple[type, dict[str, Any], float]] = [
    (JDTCELoss, {"lambda_jdt": 0.0, "lambda_ce": 1.0}, 0.550),
    (JaccardMetricLoss, {}, 0.999),
    (DiceSemimetricLoss, {}, 0.999),
    (JaccardMetricLoss, {"norm": 2}, 0.610),
    (DiceSemimetricLoss, {"norm": 2}, 0.610),
    (JDTCELoss, {}, 0.579),
    (JDTCELoss, {"lambda_jdt": 0.5, "lambda_ce": 0.5}, 0.560),
    (JDTCELoss, {"norm": 2}, 0.602),
]


def minimum(value: Callable[[float], float]) -> float:
    """Return the best of .001, .002, ..., .999: of every 20th, then around the best of them."""
    coarse = min((n / 1000 for n in range(1, 1000, 20)), key=value)
    return min((coarse + n / 1000 for n in range(-20, 21) if 0 < coarse + n / 1000 < 1), key=value)


def loss_of(loss: torch.nn.Module, p: float) -> float:
    logits = torch.full((1, 1, 1000), p).double().logit()
    sure = torch.cat([torch.full((300,), SURE), torch.full((3000,), -SURE)]).double().reshape(1, 1, -1)
    return float(loss(torch.cat([logits, sure], 2), LABEL))


@pytest.mark.parametrize(("make", "options", "expected"), MINIMA)
def test_the_minimum_is_the_pages(make: type, options: dict[str, Any], expected: float) -> None:
    loss = make(sigmoid=True, smooth_nr=0.0, smooth_dr=0.0, backend="eager", **options)
    assert minimum(lambda p: loss_of(loss, p)) == pytest.approx(expected, abs=0.0011)
    shown = f"{expected:.3f}".removeprefix("0")
    assert any(make.__name__ in row and shown in row for row in PAGE.read_text().splitlines())


def test_jdt_is_at_a_quantile() -> None:
    """At least (1 + loss) / 2 of the labels lie at or below the prediction, as the page says. The cross-entropy is at their mean."""
    loss = DiceSemimetricLoss(sigmoid=True, smooth_nr=0.0, smooth_dr=0.0, backend="eager")
    rare = torch.cat([torch.full((900,), 0.25), torch.ones(100)]).double()
    label = torch.cat([rare, torch.ones(300), torch.zeros(3000)]).reshape(1, 1, -1)
    sure = torch.cat([torch.full((300,), SURE), torch.full((3000,), -SURE)]).double().reshape(1, 1, -1)

    def value(p: float) -> float:
        return float(loss(torch.cat([torch.full((1, 1, 1000), p).double().logit(), sure], 2), label))

    best = minimum(value)
    # 90 % of the labels are .25, more than (1 + loss) / 2 of them
    assert best == pytest.approx(0.25, abs=0.0011)
    assert (1 + value(best)) / 2 < 0.9
