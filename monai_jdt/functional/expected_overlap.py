r"""The mask with the best expected Dice or Jaccard score of a probability map, and what a mask is expected to score.

A threshold of .5 is best for accuracy, not for Dice, whatever the loss. Let the label Y of an image and class be drawn voxel by voxel,
each independently with its probability p. For a mask S of k voxels,

.. math::
    E\,\mathrm{Dice}(S, Y) = E\,\frac{2 |S \cap Y|}{k + |Y|}, \qquad
    E\,\mathrm{Jaccard}(S, Y) = \sum_{j \in S} p_j \; E\,\frac{1}{k + |Y \setminus S|}.

The best S of k voxels has the k largest p (Dai and Li, RankSEG, JMLR 2023), so that a search over k is a search over all masks.

Two forms compute the expectations. The *exact* form uses, for a sum X of independent voxels,
:math:`E\,1/(a + X) = \int_0^1 s^{a-1} \prod_i (1 - p_i + p_i s)\, ds`, by Gauss-Legendre quadrature. The *fast* form expands to second
order around the means.
"""

from __future__ import annotations

import math
from enum import Enum

import numpy as np
import torch

from monai_jdt.checks import RANGE_TOLERANCE, can_read_values
from monai_jdt.plain_tensors import plain_tensor
from monai_jdt.validation import check_bool, check_choice, check_number, error_sentence


class ExpectedScore(Enum):
    """The score whose expectation a mask maximises."""

    DICE = "dice"
    JACCARD = "jaccard"


class EmptyMatch(Enum):
    """The score of an empty mask where the label is empty too."""

    ONE = "one"
    ZERO = "zero"


#: Up to so many voxels with p > 0 in an image and class, the search is exact: 8 ms on one core for this many.
EXACT_VOXELS = 2048
#: Gauss-Legendre nodes in each interval, whose lengths double. 8 leave errors below 1e-10 (tests/functional/test_expected_overlap.py).
_NODES = 8
#: The integrand is below exp(-40) of its start there.
_DECAY = 40.0


def best_expected_mask(
    prob: torch.Tensor,
    score: str | ExpectedScore = "dice",
    *,
    softmax: bool = False,
    both_empty: str | EmptyMatch = "one",
    empty_below: float = 0.0,
    exact: bool | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The mask of each image and class that has the best expected score, and that score.

    With `softmax` the channels exclude each other, and channel 0 is the background. Each other channel is decided by itself. A voxel
    that several channels claim goes to the one with the largest p, and a voxel that none claims to the background.

    Real voxels are not independent, and the expectations say nothing about an image as a whole: that nothing is there in half of the
    images that look like this one, for example. `empty_below` is for that. Choose it by :func:`best_empty_level` on validation data.

    Args:
        prob: p, `(N, C, *S)`, floating point, in [0, 1].
        score: "dice" or "jaccard".
        softmax: whether the channels are classes that exclude each other, or regions, each by itself.
        both_empty: "one": an empty mask of an empty label scores 1, so that an empty mask can be the best. "zero": it scores 0.
        empty_below: in [0, 1]; a channel whose mask is expected to score less stays empty. With `softmax` its voxels are background.
        exact: True: the exact form, whose time grows with the voxels times 100 to 200; False: the fast form; None: the exact one for
            at most `EXACT_VOXELS` voxels with p > 0.

    Returns:
        The mask, bool `(N, C, *S)`, and the expected score of each channel's mask, `(N, C)` in float64 (float32 on Apple's MPS); of the
        background NaN with `softmax`. The expected score needs no label: it is a confidence in the case.

    Raises:
        TypeError: no tensor, or no floating point.
        ValueError: values outside [0, 1], one channel with `softmax`, an unknown name.

    References:
        Dai and Li, RankSEG: a consistent ranking-based framework for segmentation, JMLR 24(224), 2023.

    Example:
        >>> p = torch.tensor([[[0.9, 0.45, 0.4, 0.05]]])
        >>> mask, expected = best_expected_mask(p)
        >>> mask.int().tolist(), round(float(expected), 3)
        ([[[1, 1, 1, 0]]], 0.696)
    """
    score, both_empty = check_choice("score", score, ExpectedScore), check_choice("both_empty", both_empty, EmptyMatch)
    prob = _checked(prob)
    first = 1 if check_bool("softmax", softmax) else 0
    if first and prob.shape[1] == 1:
        raise ValueError(error_sentence("softmax", "False for one channel", "True", "softmax=False, or add the background channel"))
    check_number("empty_below", empty_below, 0, high=1)
    rows = prob.flatten(2) if prob.ndim > 2 else prob.unsqueeze(-1)
    mask = torch.zeros(rows.shape, dtype=torch.bool, device=prob.device)
    for image in range(rows.shape[0]):
        for channel in range(first, rows.shape[1]):
            order, scores = _prefix_scores(rows[image, channel], score, both_empty, exact)
            mask[image, channel, order[: int(scores.argmax())]] = True
    if first:
        claimed = torch.where(mask[:, 1:], rows[:, 1:], -1.0)
        mask[:, 1:] &= torch.zeros_like(mask[:, 1:]).scatter_(1, claimed.argmax(1, keepdim=True), True)
    expected = expected_overlap(rows, mask, score, both_empty=both_empty, exact=exact)
    doubtful = expected < empty_below
    if bool(doubtful.any()):
        mask &= ~doubtful.unsqueeze(-1)
        expected = torch.where(doubtful, expected_overlap(rows, mask, score, both_empty=both_empty, exact=exact), expected)
    if first:
        mask[:, 0] = ~mask[:, 1:].any(1)
        expected[:, 0] = math.nan
    return mask.reshape(prob.shape), expected


def expected_overlap(
    prob: torch.Tensor,
    mask: torch.Tensor,
    score: str | ExpectedScore = "dice",
    *,
    both_empty: str | EmptyMatch = "one",
    exact: bool | None = None,
) -> torch.Tensor:
    """What a mask is expected to score if every voxel is foreground independently with its probability.

    Args:
        prob: p, `(N, C, *S)`, floating point, in [0, 1].
        mask: bool or 0/1, of the same shape.
        score: "dice" or "jaccard".
        both_empty: "one" or "zero": the score of an empty mask where the label is empty too. An empty mask scores 0 otherwise.
        exact: as in :func:`best_expected_mask`.

    Returns:
        `(N, C)` in [0, 1], float64 (float32 on Apple's MPS).

    Raises:
        TypeError: no tensor, or no floating point.
        ValueError: values outside [0, 1], shapes that differ, an unknown name.

    Example:
        >>> p = torch.tensor([[[0.5, 0.5]]])
        >>> # the four labels 00, 01, 10, 11 score 0, 0, 1 and 2/3
        >>> round(float(expected_overlap(p, torch.tensor([[[1, 0]]]))), 4)
        0.4167
    """
    score, both_empty = check_choice("score", score, ExpectedScore), check_choice("both_empty", both_empty, EmptyMatch)
    prob, mask = _checked(prob), plain_tensor("mask", mask)
    if mask.shape != prob.shape:
        raise ValueError(error_sentence("mask", f"shape {tuple(prob.shape)}, as prob", str(tuple(mask.shape)), "decide it from prob"))
    if mask.dtype is not torch.bool and can_read_values(mask) and not bool(((mask == 0) | (mask == 1)).all()):
        raise ValueError(error_sentence("mask", "0 and 1", "other values", "decide it from prob"))
    mask = mask.to(torch.bool)
    rows = prob.flatten(2) if prob.ndim > 2 else prob.unsqueeze(-1)
    chosen = mask.reshape(rows.shape)
    result = torch.zeros(rows.shape[:2], dtype=_wide(prob.device), device=prob.device)
    for image in range(rows.shape[0]):
        for channel in range(rows.shape[1]):
            inside = rows[image, channel][chosen[image, channel]]
            outside = rows[image, channel][~chosen[image, channel]]
            result[image, channel] = _score_of_split(inside, outside, score, both_empty, exact)
    return result


def best_empty_level(
    expected: torch.Tensor, overlap: torch.Tensor, label_is_empty: torch.Tensor, *, both_empty: str | EmptyMatch = "one"
) -> tuple[float, float]:
    """The `empty_below` that is best on validation data: cases whose expected score is below it get an empty mask.

    Args:
        expected: the expected scores of the cases' masks, `(cases,)`, of :func:`best_expected_mask` with `empty_below=0`.
        overlap: what these masks score against the labels, `(cases,)` in [0, 1], by the same rule: where the label is empty, 0 for a
            mask that marks something, and the score of two empty sets for one that does not.
        label_is_empty: bool `(cases,)`.
        both_empty: "one" or "zero": what an empty mask of an empty label scores.

    Returns:
        The level in [0, 1], and the mean score over the cases with it. Of levels that are equally good, the lowest.

    Raises:
        ValueError: no case, shapes that differ, or an overlap that is NaN.

    Example:
        >>> expected, overlap = torch.tensor([0.2, 0.4, 0.8]), torch.tensor([0.0, 0.3, 0.9])
        >>> level, mean = best_empty_level(expected, overlap, torch.tensor([True, False, False]))
        >>> round(level, 3), round(mean, 3)  # between .2 and .4: (1 + .3 + .9) / 3
        (0.3, 0.733)
    """
    reward = 1.0 if check_choice("both_empty", both_empty, EmptyMatch) is EmptyMatch.ONE else 0.0
    if not expected.shape == overlap.shape == label_is_empty.shape or expected.ndim != 1 or not len(expected):
        got = f"{tuple(expected.shape)}, {tuple(overlap.shape)}, {tuple(label_is_empty.shape)}"
        raise ValueError(
            error_sentence("expected, overlap, label_is_empty", "one number for each case", got, "pass three vectors of one length")
        )
    if bool(overlap.isnan().any()):
        fix = "score two empty sets by the rule `both_empty`"
        raise ValueError(error_sentence("overlap", "numbers in [0, 1]", "NaN", fix))
    empty = label_is_empty.to(torch.bool).cpu()
    order = torch.argsort(expected.double().cpu(), stable=True)
    level = expected.double().cpu()[order]
    kept = overlap.double().cpu()[order]
    emptied = torch.where(empty, reward, 0.0).double()[order]
    # total[i]: the first i cases, those with the lowest expected scores, are emptied
    total = torch.cat([kept.new_zeros(1), (emptied - kept).cumsum(0)]) + kept.sum()
    # a level lies between two different expected scores
    possible = torch.cat([torch.ones(1, dtype=torch.bool, device=level.device), level[1:] > level[:-1], level[-1:] < 1])
    best = int(torch.where(possible, total, -math.inf).argmax())
    if best == 0:
        return 0.0, float(total[0]) / len(level)
    upper = float(level[best]) if best < len(level) else 1.0
    return (float(level[best - 1]) + upper) / 2, float(total[best]) / len(level)


def _prefix_scores(
    prob: torch.Tensor, score: ExpectedScore, both_empty: EmptyMatch, exact: bool | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The order of voxels with p > 0 by p, and the expected scores of the first 0, 1, ... of them."""
    order = torch.argsort(prob, descending=True, stable=True)
    order = order[: int((prob > 0).sum())]
    p = prob[order].to(_wide(prob.device))
    if exact is None:
        exact = len(p) <= EXACT_VOXELS
    nothing = _score_of_nothing(p, both_empty)
    return order, torch.cat([nothing[None], _exact_prefixes(p, score) if exact else _fast_prefixes(p, score)])


def _score_of_nothing(p: torch.Tensor, both_empty: EmptyMatch) -> torch.Tensor:
    return torch.log1p(-p).sum().exp() if both_empty is EmptyMatch.ONE else p.new_zeros(())


def _fast_prefixes(p: torch.Tensor, score: ExpectedScore) -> torch.Tensor:
    """Second order in the numbers of voxels inside (mean a, variance va) and outside (mean b, variance vb) of the first k."""
    k = torch.arange(1, len(p) + 1, dtype=p.dtype, device=p.device)
    a, va = p.cumsum(0), (p * (1 - p)).cumsum(0)
    if not len(p):
        return a
    return _second_order(k, a, va, a[-1] - a, va[-1] - va, score)


def _second_order(
    k: torch.Tensor, a: torch.Tensor, va: torch.Tensor, b: torch.Tensor, vb: torch.Tensor, score: ExpectedScore
) -> torch.Tensor:
    if score is ExpectedScore.DICE:
        size = k + a + b
        return (2 * a / size + 2 * a * (va + vb) / size**3 - 2 * va / size**2).clamp(0, 1)
    size = k + b
    return (a / size + a * vb / size**3).clamp(0, 1)


def _exact_prefixes(p: torch.Tensor, score: ExpectedScore) -> torch.Tensor:
    result = torch.zeros_like(p)
    k = torch.arange(1, len(p) + 1, dtype=p.dtype, device=p.device)
    a = p.cumsum(0)
    for u, weight in _quadrature(len(p) + 1 + float(p.sum()), 1.0):
        logs, factor = _generating(p, u)
        if score is ExpectedScore.DICE:
            by_voxel = (p / factor).cumsum(0)
            result += 2 * weight * (logs.sum() - (k + 1) * u).exp() * by_voxel
        else:
            result += weight * (logs.sum() - logs.cumsum(0) - k * u).exp() * a
    return result.clamp(0, 1)


def _score_of_split(
    inside: torch.Tensor, outside: torch.Tensor, score: ExpectedScore, both_empty: EmptyMatch, exact: bool | None
) -> torch.Tensor:
    """The expected score of a mask that holds the voxels `inside`."""
    k = len(inside)
    inside, outside = inside.to(_wide(inside.device)), outside.to(_wide(outside.device))
    if k == 0:
        return _score_of_nothing(outside, both_empty)
    if exact is None:
        exact = int((inside > 0).sum()) + int((outside > 0).sum()) <= EXACT_VOXELS
    a, b = inside.sum(), outside.sum()
    if not exact:
        spread = [(p * (1 - p)).sum() for p in (inside, outside)]
        return _second_order(a.new_tensor(k), a, spread[0], b, spread[1], score)
    total = a.new_zeros(())
    for u, weight in _quadrature(k + 1 + float(a + b), float(k)):
        outer = _generating(outside, u)[0].sum()
        if score is ExpectedScore.DICE:
            inner, factor = _generating(inside, u)
            total += 2 * weight * (inner.sum() + outer - (k + 1) * u).exp() * (inside / factor).sum()
        else:
            total += weight * (outer - k * u).exp() * a
    return total.clamp(0, 1)


def _generating(p: torch.Tensor, u: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log(f) and f = `1 - p + p s` at s = exp(-u), with all digits for small u, and not 0 for large u and p = 1."""
    s, one_less_s = math.exp(-u), -math.expm1(-u)
    if s > 0.5:
        return torch.log1p(-p * one_less_s), 1 - p * one_less_s
    factor = (1 - p) + p * s
    return factor.log(), factor


def _quadrature(fastest: float, slowest: float) -> list[tuple[float, float]]:
    """Nodes and weights for integrals over u > 0 of smooth functions between exp(-fastest u) and exp(-slowest u).

    The first interval has the width of the fastest decay. Each further one is twice as long as the one before, because what is left
    there varies more slowly.
    """
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    found, start, width = [], 0.0, 1 / fastest
    while start * slowest < _DECAY:
        found += [(start + width * (x + 1) / 2, width * weight / 2) for x, weight in zip(nodes.tolist(), weights.tolist(), strict=True)]
        start, width = start + width, width if start == 0 else 2 * width
    return found


def _wide(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64


def _checked(prob: torch.Tensor) -> torch.Tensor:
    prob = plain_tensor("prob", prob).detach()
    if not prob.is_floating_point():
        raise TypeError(error_sentence("prob", "floating point probabilities", str(prob.dtype), "apply sigmoid or softmax to logits"))
    if prob.ndim < 2:
        raise ValueError(error_sentence("prob", "shape (N, C, *S)", str(tuple(prob.shape)), "add the dimensions that are missing"))
    if prob.numel() and can_read_values(prob):
        low, high = (float(bound) for bound in torch.aminmax(prob))
        # `not in range` rather than `out of range`: NaN is in none
        if not (low >= -RANGE_TOLERANCE and high <= 1 + RANGE_TOLERANCE):
            raise ValueError(error_sentence("prob", "values in [0, 1]", f"{low:g} to {high:g}", "apply sigmoid or softmax to logits"))
    return prob.clamp(0, 1)
