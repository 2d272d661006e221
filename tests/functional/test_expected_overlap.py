"""Masks with the best expected overlap, against exhaustive search over all masks and all labels."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch

from monai_jdt.functional.expected_overlap import best_empty_level, best_expected_mask, expected_overlap


def all_subsets(n: int) -> np.ndarray:
    return np.array(list(itertools.product([0, 1], repeat=n)), dtype=np.float64)


def exhaustive(p: np.ndarray, score: str, both_empty: float) -> np.ndarray:
    """The expected score of every mask, `(2^n,)`: a sum over all labels."""
    sets = all_subsets(len(p))
    chance = np.prod(np.where(sets == 1, p, 1 - p), axis=1)
    both = sets @ sets.T
    size = sets.sum(1)
    total = size[:, None] + size[None]
    top, bottom = (2 * both, total) if score == "dice" else (both, total - both)
    value = np.where(total == 0, both_empty, top / np.where(bottom == 0, 1, bottom))
    return value @ chance


CASES = [(seed, n, power) for seed, (n, power) in enumerate([*itertools.product([1, 2, 3, 7, 9], [0.3, 1.0, 4.0]), (12, 1.0)])]


@pytest.mark.parametrize("both_empty", ["one", "zero"])
@pytest.mark.parametrize("score", ["dice", "jaccard"])
@pytest.mark.parametrize(("seed", "n", "power"), CASES)
def test_no_mask_is_better(seed: int, n: int, power: float, score: str, both_empty: str) -> None:
    """Up to 12 voxels: all masks, all labels; powers make sure, even and faint probabilities."""
    p = np.random.default_rng(seed).random(n) ** power
    scores = exhaustive(p, score, 1.0 if both_empty == "one" else 0.0)
    prob = torch.from_numpy(p).reshape(1, 1, n)
    mask, expected = best_expected_mask(prob, score, both_empty=both_empty)
    chosen = scores[int("".join(str(int(value)) for value in mask.flatten().tolist()), 2)]
    assert chosen == pytest.approx(scores.max(), abs=1e-10)
    assert float(expected) == pytest.approx(chosen, abs=1e-10)
    # every mask's own expectation
    for row in range(0, 2**n, max(2**n // 16, 1)):
        given = torch.from_numpy(all_subsets(n)[row]).reshape(1, 1, n)
        got = float(expected_overlap(prob, given, score, both_empty=both_empty))
        assert got == pytest.approx(scores[row], abs=1e-10)


@pytest.mark.parametrize("score", ["dice", "jaccard"])
@pytest.mark.parametrize("n", [30, 300, 2000])
def test_the_fast_form_is_near(n: int, score: str) -> None:
    """What is lost by its choice, and how far off its expectation is: within 1 / (k + mean size)."""
    for seed in range(4):
        source = torch.Generator().manual_seed(seed)
        prob = torch.rand(1, 1, n, generator=source, dtype=torch.float64) ** (1 + 2 * seed)
        fast, estimate = best_expected_mask(prob, score, exact=False)
        _, best = best_expected_mask(prob, score, exact=True)
        true = expected_overlap(prob, fast, score, exact=True)
        size = float(fast.sum() + prob.sum())
        assert 0 <= float(best - true) + 1e-12 < 0.1 / size
        assert abs(float(estimate - true)) < 1 / size


def test_drawn_labels_score_what_is_expected() -> None:
    source = torch.Generator().manual_seed(3)
    prob = torch.rand(1, 1, 400, generator=source, dtype=torch.float64) ** 2
    mask, expected = best_expected_mask(prob)
    labels = torch.rand(20000, 400, generator=source, dtype=torch.float64) < prob.reshape(1, -1)
    chosen = mask.reshape(1, -1)
    dice = 2 * (labels & chosen).sum(1) / (labels.sum(1) + chosen.sum())
    assert float(dice.mean()) == pytest.approx(float(expected), abs=4 * float(dice.std()) / math.sqrt(20000))
    # and .5 scores less
    half = expected_overlap(prob, prob > 0.5)
    assert float(expected) > float(half) + 0.02


def test_classes_that_exclude_each_other() -> None:
    prob = torch.tensor([[[0.30, 0.50, 0.05, 0.97], [0.40, 0.30, 0.15, 0.02], [0.30, 0.20, 0.80, 0.01]]])
    mask, expected = best_expected_mask(prob, softmax=True)
    assert mask.sum(1).eq(1).all()
    # the first voxel is claimed by class 1, argmax or not; the last by nobody
    assert mask[0].int().argmax(0).tolist()[0] == 1
    assert mask[0, 0, 3]
    assert expected[:, 0].isnan().all()
    assert expected[:, 1:].isfinite().all()


def test_each_image_and_channel_by_itself() -> None:
    source = torch.Generator().manual_seed(0)
    prob = torch.rand(2, 3, 4, 5, 6, generator=source) ** 3
    mask, expected = best_expected_mask(prob)
    assert mask.shape == prob.shape
    for image, channel in itertools.product(range(2), range(3)):
        alone, value = best_expected_mask(prob[image : image + 1, channel : channel + 1])
        assert torch.equal(alone[0, 0], mask[image, channel])
        assert float(value) == pytest.approx(float(expected[image, channel]), abs=1e-12)
    order = torch.randperm(120, generator=source)
    moved, _ = best_expected_mask(prob.flatten(2)[..., order])
    assert torch.equal(moved, mask.flatten(2)[..., order])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_nothing_and_everything(dtype: torch.dtype) -> None:
    nothing = torch.zeros(1, 2, 3, 3, dtype=dtype)
    mask, expected = best_expected_mask(nothing)
    assert not mask.any()
    assert expected.eq(1).all()
    mask, expected = best_expected_mask(nothing, both_empty="zero")
    assert not mask.any()
    assert expected.eq(0).all()
    mask, expected = best_expected_mask(nothing + 1)
    assert mask.all()
    assert torch.allclose(expected, torch.ones_like(expected), atol=1e-9)
    assert best_expected_mask(torch.zeros(0, 2, 3, dtype=dtype))[0].shape == (0, 2, 3)
    assert best_expected_mask(torch.zeros(1, 2, 0, dtype=dtype))[1].tolist() == [[1.0, 1.0]]


def test_a_level_empties_what_is_doubtful() -> None:
    prob = torch.tensor([[[0.2, 0.15, 0.1, 0.1]], [[0.9, 0.8, 0.1, 0.1]]])
    mask, expected = best_expected_mask(prob, both_empty="zero")
    assert mask.flatten(1).any(1).tolist() == [True, True]
    level = float(expected.mean())
    mask, _ = best_expected_mask(prob, both_empty="zero", empty_below=level)
    assert mask.flatten(1).any(1).tolist() == [False, True]


def dice(mask: list[bool], label: list[bool]) -> float:
    """Dice of two sets of voxels; 1 for two empty ones."""
    total = sum(mask) + sum(label)
    return 1.0 if total == 0 else 2 * sum(m and t for m, t in zip(mask, label, strict=True)) / total


def test_the_level_is_the_best_of_all() -> None:
    """Masks and labels of five voxels, many of them empty: the mean Dice with every level, by sets."""
    for seed in range(30):
        source = np.random.default_rng(seed)
        masks = (source.random((20, 5)) < source.random((20, 1)) - 0.2).tolist()
        labels = (source.random((20, 5)) < source.random((20, 1)) - 0.3).tolist()
        expected = (source.random(20) * 10).round() / 10

        def mean_with_level(level: float, masks: Any = masks, labels: Any = labels, expected: Any = expected) -> float:
            pairs = zip(masks, labels, expected, strict=True)
            return sum(dice(mask if score >= level else [False] * 5, label) for mask, label, score in pairs) / 20

        overlap = torch.tensor([dice(mask, label) for mask, label in zip(masks, labels, strict=True)])
        empty = torch.tensor([not any(label) for label in labels])
        level, reached = best_empty_level(torch.from_numpy(expected), overlap, empty)
        assert mean_with_level(level) == pytest.approx(reached)
        assert reached == pytest.approx(max(mean_with_level(other) for other in np.linspace(0, 1, 101).tolist()))


def test_a_mask_that_is_empty_already_needs_no_level() -> None:
    assert best_empty_level(torch.tensor([0.9, 0.5]), torch.tensor([1.0, 0.5]), torch.tensor([True, False])) == (0.0, 0.75)
    with pytest.raises(ValueError, match="overlap: expected numbers"):
        best_empty_level(torch.tensor([0.9]), torch.tensor([math.nan]), torch.tensor([True]))


@pytest.mark.parametrize("softmax", [True, False])
def test_the_level_is_held_against_the_scores_returned(softmax: bool) -> None:
    source = torch.Generator().manual_seed(2)
    prob = torch.softmax(2 * torch.randn(3, 4, 40, generator=source), 1)
    mask, expected = best_expected_mask(prob, softmax=softmax)
    level = float(expected[:, 1:].median())
    emptied, _ = best_expected_mask(prob, softmax=softmax, empty_below=level)
    for image, channel in itertools.product(range(3), range(1, 4)):
        kept = float(expected[image, channel]) >= level
        assert torch.equal(emptied[image, channel], mask[image, channel] & kept)
    if softmax:
        assert emptied.sum(1).eq(1).all()


def test_bad_arguments_are_named() -> None:
    prob = torch.rand(1, 2, 4)
    mistakes: list[tuple[torch.Tensor, dict[str, Any], str]] = [
        (prob * 3 - 1, {}, "prob: expected values in"),
        (prob.long(), {}, "prob: expected floating point"),
        (prob[0, 0], {}, "prob: expected shape"),
        (prob[:, :1], {"softmax": True}, "softmax: expected"),
        (prob, {"score": "hausdorff"}, "score: expected"),
        (prob, {"both_empty": "nan"}, "both_empty: expected"),
        (prob, {"empty_below": 2.0}, "empty_below"),
    ]
    for bad, arguments, words in mistakes:
        with pytest.raises((TypeError, ValueError), match=words):
            best_expected_mask(bad, **arguments)
    with pytest.raises(ValueError, match="mask: expected 0 and 1"):
        expected_overlap(prob, prob)
    with pytest.raises(ValueError, match="mask: expected shape"):
        expected_overlap(prob, prob[:, :1] > 0.5)
    with pytest.raises(ValueError, match="one number for each case"):
        best_empty_level(torch.rand(3), torch.rand(2), torch.rand(3) > 0.5)
