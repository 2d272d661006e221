"""How much the raters of an image agree with each other."""

from __future__ import annotations

import math
from enum import Enum
from itertools import combinations
from typing import Any

import torch

from monai_jdt.functional.metric_labels import VOTES, LabelRule, RaterStack, check_background, read_votes, wide_dtype
from monai_jdt.functional.set_overlap import SetOverlap, pair_speaks, set_overlap


class AgreementKind(Enum):
    """Mean Dice or Jaccard over pairs of raters, or Fleiss' kappa."""

    PAIRWISE_DICE = "pairwise_dice"
    PAIRWISE_JACCARD = "pairwise_jaccard"
    FLEISS_KAPPA = "fleiss_kappa"


_OVERLAPS = {AgreementKind.PAIRWISE_DICE: SetOverlap.DICE, AgreementKind.PAIRWISE_JACCARD: SetOverlap.IOU}


def rater_agreement(
    votes: Any,
    channels: int,
    kind: AgreementKind = AgreementKind.PAIRWISE_DICE,
    rule: LabelRule = VOTES,
    *,
    rater_weights: Any = None,
    include_background: bool = True,
) -> torch.Tensor:
    r"""Score the agreement of raters, in each image.

    **Pairs**: the mean over pairs of raters of Dice or Jaccard, for each channel, over the voxels where both say something. Two raters
    who both marked nothing are left out.

    **Fleiss' kappa** :math:`(\bar P - \bar P_e) / (1 - \bar P_e)`. With :math:`n_{vj}` of :math:`n_v` raters giving voxel v category j,

    .. math:: \bar P = \frac1V \sum_v \frac{\sum_j n_{vj} (n_{vj} - 1)}{n_v (n_v - 1)}, \qquad
              \bar P_e = \sum_j \Big( \frac{\sum_v n_{vj}}{\sum_v n_v} \Big)^2

    over the voxels with :math:`n_v \ge 2`. Categories are the label values, which gives one number for an image; with regions each
    channel has its own kappa of inside and outside. Fleiss, Psychological Bulletin 76(5), 1971.

    Args:
        votes: `(N, R, *S)`.
        channels: number of classes, or of regions. 1: the value 1 against the rest.
        kind: which score.
        rule: regions and the ignored value; `rule.votes` is True.
        rater_weights: `(N, R)` or `(R,)`, 0 = missing, the others alike; None: all are there.
        include_background: False leaves channel 0 out; kappa of label values keeps it as a category.

    Returns:
        `(N, C)`, or `(N, C - 1)`, and `(N, 1)` for kappa of label values; float64 (Apple's MPS: float32). NaN with fewer than two
        raters, where no pair is defined, and for a kappa of votes that are all in one category.

    Raises:
        TypeError: no tensor.
        ValueError: no raters, votes that are no class, unequal weights, or one channel without the background.

    Example:
        >>> votes = torch.tensor([[[1, 1, 0, 0], [1, 0, 0, 0]]])
        >>> rater_agreement(votes, 1)  # 2 * 1 / (2 + 1)
        tensor([[0.6667]], dtype=torch.float64)
        >>> rater_agreement(votes, 1, AgreementKind.FLEISS_KAPPA)  # P = 3/4, Pe = (3/8)^2 + (5/8)^2
        tensor([[0.4667]], dtype=torch.float64)
    """
    stack = read_votes(votes, rule, channels, rater_weights, name="votes")
    stack.check_equal_weights(f"kind {kind.value!r}")
    check_background(include_background, channels)
    first = 0 if include_background else 1
    of_values = kind is AgreementKind.FLEISS_KAPPA and rule.regions is None and len(stack.groups) > 1
    rows: list[list[float]] = []
    for image in range(stack.votes.shape[0]):
        if of_values:
            rows.append([_fleiss_kappa(stack, image, list(stack.groups))])
        elif kind is AgreementKind.FLEISS_KAPPA:
            rows.append([_fleiss_kappa(stack, image, [group]) for group in stack.groups[first:]])
        else:
            rows.append([_pair_overlap(stack, image, channel, _OVERLAPS[kind]) for channel in range(first, len(stack.groups))])
    shape, device = (len(rows), 1 if of_values else len(stack.groups) - first), stack.votes.device
    return torch.tensor(rows, dtype=wide_dtype(device), device=device).reshape(shape)


def _pair_overlap(stack: RaterStack, image: int, channel: int, overlap: SetOverlap) -> float:
    raters = stack.raters(image)
    marked = {rater: stack.marks(image, rater, channel) for rater in raters}
    scores = [
        set_overlap(marked[first], marked[second], overlap, math.nan, pair_speaks(stack, image, first, second))
        for first, second in combinations(raters, 2)
    ]
    defined = [score for score in scores if not math.isnan(score)]
    return sum(defined) / len(defined) if defined else math.nan


def _fleiss_kappa(stack: RaterStack, image: int, groups: list[tuple[int, ...]]) -> float:
    """Return kappa of the groups as categories. A single group is a category against everything else."""
    raters, space = stack.raters(image), stack.votes.shape[2:]
    wide = wide_dtype(stack.votes.device)
    speaking = torch.zeros(space, dtype=torch.int16, device=stack.votes.device)
    for rater in raters:
        speaks = stack.speaks(image, rater)
        speaking += 1 if speaks is None else speaks
    several = speaking >= 2
    pairs = (speaking.to(wide) * (speaking - 1)).clamp(min=1)
    agreeing = torch.zeros(space, dtype=wide, device=stack.votes.device)
    totals, rest = [], speaking.clone()
    for group in groups:
        count = torch.zeros_like(speaking)
        for rater in raters:
            count += stack.marks_of(image, rater, group)
        rest -= count
        agreeing += count.to(wide) * (count - 1)
        totals.append(int(count[several].sum(dtype=torch.int64)))
    if len(groups) == 1:
        agreeing += rest.to(wide) * (rest - 1)
        totals.append(int(rest[several].sum(dtype=torch.int64)))
    votes = sum(totals)
    if votes == 0 or max(totals) == votes:
        return math.nan
    observed = float((agreeing / pairs)[several].mean())
    expected = sum((total / votes) ** 2 for total in totals)
    return (observed - expected) / (1 - expected)
