"""Lesion by lesion: boxes whose scores are counted by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_jdt.functional.lesion_wise_overlap import LesionRule, LesionScore, lesion_wise_overlap
from monai_jdt.metrics import LesionWiseOverlap

SHAPE = (40, 20, 20)


def boxes(*starts: tuple[int, int, int], edge: int = 4) -> torch.Tensor:
    """A volume with cubes of 64 voxels at these places."""
    found = torch.zeros(1, 1, *SHAPE)
    for x, y, z in starts:
        found[..., x : x + edge, y : y + edge, z : z + edge] = 1
    return found


def both(mask: torch.Tensor, reference: torch.Tensor, rule: LesionRule | None = None) -> list[float]:
    return [lesion_wise_overlap(mask, reference, score, rule=rule).item() for score in LesionScore]


FIRST, SECOND = (2, 2, 2), (20, 2, 2)


@pytest.mark.parametrize(
    ("mask", "reference", "dice", "hd95"),
    [
        (boxes(FIRST, SECOND), boxes(FIRST, SECOND), 1, 0),
        # half of the second lesion: 2 * 32 / 96; its surface is 2 away
        (boxes(FIRST, (20, 2, 4)) * boxes(FIRST, SECOND), boxes(FIRST, SECOND), (1 + 2 / 3) / 2, 2 / 2),
        # a lesion that is missed, a component that is none
        (boxes(FIRST), boxes(FIRST, SECOND), 1 / 2, 374 / 2),
        (boxes(FIRST, SECOND), boxes(FIRST), 1 / 2, 374 / 2),
        (boxes(), boxes(FIRST), 0, 374),
        (boxes(FIRST), boxes(), 0, 374),
        (boxes(), boxes(), 1, 0),
        # gaps of 5 voxels close when both sides grow by 3: one lesion
        (boxes(FIRST), boxes(FIRST, (11, 2, 2)), 2 * 64 / 192, 9),
        # a gap of 7 does not
        (boxes(FIRST), boxes(FIRST, (13, 2, 2)), 1 / 2, 374 / 2),
        # a component 2 voxels from a lesion belongs to it
        (boxes(FIRST, (8, 2, 2)), boxes(FIRST), 2 * 64 / 192, 6),
        # 27 mm3 are too small to count, but what touches them is no invention
        (boxes(FIRST, SECOND), boxes(FIRST) + boxes(SECOND, edge=3), 1, 0),
    ],
)
def test_scores_that_can_be_counted(mask: Any, reference: Any, dice: float, hd95: float) -> None:
    assert both(mask, reference) == pytest.approx([dice, hd95])


def test_the_rule_of_another_challenge() -> None:
    rule = LesionRule(dilation=1, smallest=2, penalty=10)
    small = boxes(FIRST) + boxes(SECOND, edge=3)
    # 27 mm3 count now: 2 * 27 / 91
    assert lesion_wise_overlap(boxes(FIRST, SECOND), small, rule=rule).item() == pytest.approx((1 + 2 * 27 / 91) / 2)
    # a gap of 2 closes when both sides grow by 1, one of 3 does not
    assert both(boxes(FIRST), boxes(FIRST, (8, 2, 2)), rule)[0] == pytest.approx(2 * 64 / 192)
    assert both(boxes(FIRST), boxes(FIRST, (9, 2, 2)), rule) == pytest.approx([1 / 2, 10 / 2])


def test_voxels_have_a_size() -> None:
    reference, moved = boxes(FIRST), boxes((2, 2, 4))
    # 64 voxels of .5 mm3 are below 50 mm3, so that nothing is there
    assert lesion_wise_overlap(boxes(), reference, spacing=[(1, 1, 0.5)]).item() == 1
    affine = torch.diag(torch.tensor([1.0, 1, 3, 1]))
    metric = LesionWiseOverlap(kind="hd95")
    metric([MetaTensor(moved[0], affine=affine)], [reference[0]])
    assert metric.get_buffer().item() == pytest.approx(2 * 3)
    assert LesionWiseOverlap(kind="hd95")(moved, reference).item() == pytest.approx(2)


def test_each_image_and_class_has_its_score() -> None:
    mask, reference = torch.cat([boxes(FIRST), boxes(SECOND)], 1), torch.cat([boxes(FIRST), boxes(FIRST)], 1)
    masks, references = torch.cat([mask, mask.flip(1)]), torch.cat([reference, reference])
    np.testing.assert_allclose(lesion_wise_overlap(masks, references), [[1, 0], [0, 1]])
    np.testing.assert_allclose(LesionWiseOverlap(include_background=False)(masks, references), [[0], [1]])


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match=r"y_pred, y: expected two tensors of one shape \(N, C, X, Y, Z\)"):
        lesion_wise_overlap(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4))
    volume = torch.zeros(1, 1, 4, 4, 4)
    with pytest.raises(ValueError, match=r"y_pred: expected masks of 0 and 1, got 0\.5"):
        lesion_wise_overlap(volume + 0.5, volume)
    with pytest.raises(ValueError, match="y: expected masks of 0 and 1, got nan"):
        lesion_wise_overlap(volume, volume * float("nan"))
    with pytest.raises(ValueError, match="spacing: expected three lengths"):
        lesion_wise_overlap(volume, volume, spacing=[(1.0, 2.0)])
    wrongs: tuple[dict[str, Any], ...] = ({"dilation": 0}, {"smallest": -1}, {"penalty": -1}, {"kind": "hd"})
    for wrong in wrongs:
        with pytest.raises(ValueError, match=f"{next(iter(wrong))}: expected"):
            LesionWiseOverlap(**wrong)
