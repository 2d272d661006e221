"""The weighted share of raters, against numpy's."""

import numpy as np
import pytest
import torch

from monai_jdt.raters import (
    dice_weights,
    fuse_weighted,
)
from tests.raters.stacks import REGIONS, draw, paper_weights


@pytest.mark.parametrize("raters", [1, 2, 5])
def test_weighted_average_is_the_weighted_mean(raters: int) -> None:
    votes, weights = draw(raters, raters), np.random.default_rng(1).random(raters) + 0.1
    expected = np.stack([np.average(np.isin(votes.numpy(), g), axis=0, weights=weights) for g in REGIONS])
    label = fuse_weighted(votes, REGIONS, weights.tolist())
    assert label.dtype == torch.float32
    np.testing.assert_allclose(label.numpy(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("raters", [8, 9, 300])
def test_many_raters(raters: int) -> None:
    votes = draw(8, raters, (5, 5))
    weights = np.random.default_rng(0).random(raters)
    weights[3] = 0
    expected = np.stack([np.average(np.isin(votes.numpy(), g), axis=0, weights=weights) for g in REGIONS])
    np.testing.assert_allclose(fuse_weighted(votes, REGIONS, weights.tolist()).numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(dice_weights(votes, REGIONS).numpy(), paper_weights(votes, REGIONS, 0.0), rtol=1e-9)
