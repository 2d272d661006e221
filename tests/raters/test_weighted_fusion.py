"""Fusions with weights, and the laws that every fusion has."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from monai_jdt.raters import (
    dice_weights,
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

REGIONS = [(1, 4), (1, 2, 4), (4,)]
BY_RATER = [fuse_weighted, fuse_majority, fuse_dice_weighted, fuse_intersection, fuse_union, fuse_staple, fuse_multilabel_staple]


def draw(seed, raters=3, shape=(5, 6)):
    """Raters who mostly agree, so that estimations have one answer."""
    rng = np.random.default_rng(seed)
    truth = rng.choice([0, 1, 2, 4], size=shape)
    other = rng.choice([0, 1, 2, 4], size=(raters, *shape))
    return torch.from_numpy(np.where(rng.random((raters, *shape)) < 0.25, other, truth).astype(np.int16))


def paper_weights(votes, regions, no_overlap):
    """The recipe, in loops: each rater's Dice with the majority."""
    votes = votes.numpy()
    majority = [sum(np.isin(v, g).astype(int) for v in votes) >= len(votes) // 2 + 1 for g in regions]
    scores = []
    for rater in votes:
        marked = [np.isin(rater, g) for g in regions]
        common = sum((a & m).sum() for a, m in zip(marked, majority, strict=True))
        total = sum(a.sum() + m.sum() for a, m in zip(marked, majority, strict=True))
        scores.append(2 * common / total if common else no_overlap)
    return np.array(scores) / np.sum(scores) if np.sum(scores) else np.full(len(votes), 1 / len(votes))


@pytest.mark.parametrize("raters", [1, 2, 5])
def test_weighted_average_is_the_weighted_mean(raters):
    votes, weights = draw(raters, raters), np.random.default_rng(1).random(raters) + 0.1
    expected = np.stack([np.average(np.isin(votes.numpy(), g), axis=0, weights=weights) for g in REGIONS])
    label = fuse_weighted(votes, REGIONS, weights.tolist())
    assert label.dtype == torch.float32
    np.testing.assert_allclose(label.numpy(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("paper_compatible", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_dice_weights_are_the_recipes(seed, paper_compatible):
    votes = draw(seed, 4)
    votes[2] = 0
    weights = dice_weights(votes, REGIONS, paper_compatible=paper_compatible)
    expected = paper_weights(votes, REGIONS, float(paper_compatible))
    np.testing.assert_allclose(weights.numpy(), expected, rtol=1e-12)
    assert bool(weights[2] > 0) is paper_compatible
    mean = np.stack([np.average(np.isin(votes.numpy(), g), axis=0, weights=expected) for g in REGIONS])
    label = fuse_dice_weighted(votes, REGIONS, paper_compatible=paper_compatible)
    np.testing.assert_allclose(label.numpy(), mean, rtol=0, atol=1e-6)


def test_blocks_of_voxels_do_not_show():
    votes = torch.from_numpy(np.random.default_rng(0).integers(0, 2, (3, 140_001)).astype(np.uint8))
    np.testing.assert_allclose(dice_weights(votes, [1]).numpy(), paper_weights(votes, [(1,)], 0.0), rtol=1e-12)
    expected = np.average(votes.numpy(), axis=0, weights=[1, 2, 4])
    np.testing.assert_allclose(fuse_weighted(votes, [1], [1, 2, 4])[0].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("paper_compatible", [False, True])
def test_nobody_agrees_with_anybody(paper_compatible):
    votes = torch.tensor([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])
    assert dice_weights(votes, [1], paper_compatible=paper_compatible).tolist() == pytest.approx([1 / 3] * 3)
    assert fuse_dice_weighted(votes, [1], [1, 1, 0], paper_compatible=paper_compatible).tolist() == [[0.5, 0.5, 0, 0]]


def test_background_is_not_judged_by_and_classes_sum_to_one():
    votes = draw(7, 4)
    classes = [0, 1, 2, 4]
    assert torch.equal(dice_weights(votes, classes), dice_weights(votes, [1, 2, 4]))
    sums = fuse_dice_weighted(votes, classes).sum(0)
    np.testing.assert_allclose(sums.numpy(), 1, atol=1e-6)
    tc, wt, et = fuse_dice_weighted(votes, REGIONS)
    assert bool(((tc <= wt) & (et <= tc)).all())


@given(seed=st.integers(0, 10_000), raters=st.integers(2, 5))
@pytest.mark.parametrize("fuse", BY_RATER)
def test_order_of_raters_changes_nothing(fuse, seed, raters):
    votes = draw(seed, raters)
    order = np.random.default_rng(seed).permutation(raters).tolist()
    np.testing.assert_allclose(fuse(votes[order], [1, 2]).numpy(), fuse(votes, [1, 2]).numpy(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("fuse", BY_RATER)
def test_uniform_weights_are_no_weights_and_one_rater_is_that_rater(fuse):
    votes = draw(3, 4)
    assert torch.equal(fuse(votes, REGIONS, [0.3] * 4), fuse(votes, REGIONS))
    for rater in range(4):
        alone = fuse(votes[rater : rater + 1], REGIONS)
        np.testing.assert_allclose(alone.numpy(), fuse_average(votes[rater : rater + 1], REGIONS).numpy(), atol=1e-6)
    assert torch.equal(fuse_weighted(votes, REGIONS), fuse_average(votes, REGIONS))


@pytest.mark.parametrize("fuse", BY_RATER)
def test_a_missing_rater_is_not_read(fuse):
    votes = draw(4, 3)
    padded = torch.cat([votes, torch.full_like(votes[:1], 99)])
    assert torch.equal(fuse(padded, REGIONS, torch.tensor([1.0, 1, 1, 0])), fuse(votes, REGIONS))


def test_intersection_and_union():
    votes = draw(5, 3)
    for c, group in enumerate(REGIONS):
        marked = np.isin(votes.numpy(), group)
        np.testing.assert_array_equal(fuse_intersection(votes, REGIONS)[c].numpy(), marked.all(0))
        np.testing.assert_array_equal(fuse_union(votes, REGIONS)[c].numpy(), marked.any(0))
    empty = torch.cat([votes, torch.zeros_like(votes[:1])])
    assert fuse_intersection(empty, REGIONS).sum() == 0
    assert torch.equal(fuse_union(empty, REGIONS), fuse_union(votes, REGIONS))


def test_a_random_rater_is_a_rater_drawn_by_weight():
    votes = draw(6, 3)
    alone = [fuse_average(votes[r : r + 1], REGIONS) for r in range(3)]
    generator = torch.Generator().manual_seed(1)
    drawn = [fuse_random(votes, REGIONS, [1, 0, 3], seed=generator) for _ in range(400)]
    shares = [sum(torch.equal(label, other) for label in drawn) / 400 for other in alone]
    assert shares[1] == 0
    assert shares[0] == pytest.approx(0.25, abs=0.08)  # sd .022
    assert sum(shares) == 1
    assert torch.equal(fuse_random(votes, REGIONS, seed=5), fuse_random(votes, REGIONS, seed=5))


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
def test_wrong_weights(fuse, weights, words):
    with pytest.raises(ValueError, match=f"rater_weights: expected {words}"):
        fuse(draw(0, 3), REGIONS, weights)


@pytest.mark.parametrize("fuse", [*BY_RATER, fuse_random])
def test_wrong_votes(fuse):
    with pytest.raises(TypeError, match="integer dtype"):
        fuse(torch.zeros(2, 3), [1])
    with pytest.raises(ValueError, match="at least one rater"):
        fuse(torch.zeros(0, 3, dtype=torch.uint8), [1])
    with pytest.raises(ValueError, match="at least one region"):
        fuse(torch.zeros(2, 3, dtype=torch.uint8), [])


@pytest.mark.parametrize("raters", [8, 9, 300])
def test_many_raters(raters):
    votes = draw(8, raters, (5, 5))
    weights = np.random.default_rng(0).random(raters)
    weights[3] = 0
    expected = np.stack([np.average(np.isin(votes.numpy(), g), axis=0, weights=weights) for g in REGIONS])
    np.testing.assert_allclose(fuse_weighted(votes, REGIONS, weights.tolist()).numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(dice_weights(votes, REGIONS).numpy(), paper_weights(votes, REGIONS, 0.0), rtol=1e-9)


def test_a_value_that_the_dtype_cannot_hold_is_nowhere():
    votes = torch.tensor([[0, 1], [44, 1]], dtype=torch.uint8)  # 300 wrapped to a byte would be 44
    assert fuse_average(votes, [300, -1]).sum() == 0
