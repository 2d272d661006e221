"""Raters weighted by their Dice with the majority, against the published recipe in loops."""

import numpy as np
import pytest
import torch

from monai_jdt.raters import (
    dice_weights,
    fuse_dice_weighted,
    fuse_weighted,
)
from tests.raters.stacks import REGIONS, draw, paper_weights


@pytest.mark.parametrize("paper_compatible", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_dice_weights_are_the_recipes(seed: int, paper_compatible: bool) -> None:
    votes = draw(seed, 4)
    votes[2] = 0
    weights = dice_weights(votes, REGIONS, paper_compatible=paper_compatible)
    expected = paper_weights(votes, REGIONS, float(paper_compatible))
    np.testing.assert_allclose(weights.numpy(), expected, rtol=1e-12)
    assert bool(weights[2] > 0) is paper_compatible
    mean = np.stack([np.average(np.isin(votes.numpy(), g), axis=0, weights=expected) for g in REGIONS])
    label = fuse_dice_weighted(votes, REGIONS, paper_compatible=paper_compatible)
    np.testing.assert_allclose(label.numpy(), mean, rtol=0, atol=1e-6)


def test_blocks_of_voxels_do_not_show() -> None:
    votes = torch.from_numpy(np.random.default_rng(0).integers(0, 2, (3, 140_001)).astype(np.uint8))
    np.testing.assert_allclose(dice_weights(votes, [1]).numpy(), paper_weights(votes, [(1,)], 0.0), rtol=1e-12)
    expected = np.average(votes.numpy(), axis=0, weights=[1, 2, 4])
    np.testing.assert_allclose(fuse_weighted(votes, [1], [1, 2, 4])[0].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("paper_compatible", [False, True])
def test_nobody_agrees_with_anybody(paper_compatible: bool) -> None:
    votes = torch.tensor([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])
    assert dice_weights(votes, [1], paper_compatible=paper_compatible).tolist() == pytest.approx([1 / 3] * 3)
    assert fuse_dice_weighted(votes, [1], [1, 1, 0], paper_compatible=paper_compatible).tolist() == [[0.5, 0.5, 0, 0]]


def test_background_is_not_judged_by_and_classes_sum_to_one() -> None:
    votes = draw(7, 4)
    classes = [0, 1, 2, 4]
    assert torch.equal(dice_weights(votes, classes), dice_weights(votes, [1, 2, 4]))
    sums = fuse_dice_weighted(votes, classes).sum(0)
    np.testing.assert_allclose(sums.numpy(), 1, atol=1e-6)
    tc, wt, et = fuse_dice_weighted(votes, REGIONS)
    assert bool(((tc <= wt) & (et <= tc)).all())
