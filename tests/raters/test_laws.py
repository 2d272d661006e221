"""The laws that every fusion has."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from monai_jdt.raters import (
    fuse_average,
    fuse_dice_weighted,
    fuse_intersection,
    fuse_majority,
    fuse_multilabel_staple,
    fuse_random,
    fuse_staple,
    fuse_union,
    fuse_weighted,
)
from tests.raters.stacks import REGIONS, draw

BY_RATER = [fuse_weighted, fuse_majority, fuse_dice_weighted, fuse_intersection, fuse_union, fuse_staple, fuse_multilabel_staple]


@given(seed=st.integers(0, 10_000), raters=st.integers(2, 5))
@pytest.mark.parametrize("fuse", BY_RATER)
def test_order_of_raters_changes_nothing(fuse: Callable, seed: int, raters: int) -> None:
    votes = draw(seed, raters)
    order = np.random.default_rng(seed).permutation(raters).tolist()
    np.testing.assert_allclose(fuse(votes[order], [1, 2]).numpy(), fuse(votes, [1, 2]).numpy(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("fuse", BY_RATER)
def test_uniform_weights_are_no_weights_and_one_rater_is_that_rater(fuse: Callable) -> None:
    votes = draw(3, 4)
    assert torch.equal(fuse(votes, REGIONS, [0.3] * 4), fuse(votes, REGIONS))
    for rater in range(4):
        alone = fuse(votes[rater : rater + 1], REGIONS)
        np.testing.assert_allclose(alone.numpy(), fuse_average(votes[rater : rater + 1], REGIONS).numpy(), atol=1e-6)
    assert torch.equal(fuse_weighted(votes, REGIONS), fuse_average(votes, REGIONS))


@pytest.mark.parametrize("fuse", BY_RATER)
def test_a_missing_rater_is_not_read(fuse: Callable) -> None:
    votes = draw(4, 3)
    padded = torch.cat([votes, torch.full_like(votes[:1], 99)])
    assert torch.equal(fuse(padded, REGIONS, torch.tensor([1.0, 1, 1, 0])), fuse(votes, REGIONS))


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ([1.0, 1.0], "one weight for each of 3 raters, got shape \\(2,\\)"),
        ([1.0, -1.0, 1.0], "finite numbers >= 0"),
        ([1.0, float("nan"), 1.0], "finite numbers >= 0"),
        ([0.0, 0.0, 0.0], "at least one rater with a weight > 0"),
    ],
)
@pytest.mark.parametrize("fuse", [*BY_RATER, fuse_random])
def test_wrong_weights(fuse: Callable, weights: list[float], words: str) -> None:
    with pytest.raises(ValueError, match=f"rater_weights: expected {words}"):
        fuse(draw(0, 3), REGIONS, weights)


@pytest.mark.parametrize("fuse", [*BY_RATER, fuse_random])
def test_wrong_votes(fuse: Callable) -> None:
    with pytest.raises(TypeError, match="integer dtype"):
        fuse(torch.zeros(2, 3), [1])
    with pytest.raises(ValueError, match="at least one rater"):
        fuse(torch.zeros(0, 3, dtype=torch.uint8), [1])
    with pytest.raises(ValueError, match="at least one region"):
        fuse(torch.zeros(2, 3, dtype=torch.uint8), [])
