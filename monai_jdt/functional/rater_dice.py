"""The Dice scores of predictions or samples with each rater, and what is made of them."""

from __future__ import annotations

import math
from enum import Enum
from typing import Any, NoReturn

import torch
from monai.utils import optional_import

from monai_jdt.functional.metric_labels import VOTES, LabelRule, RaterStack, wide_dtype
from monai_jdt.functional.set_overlap import SetOverlap, read_samples, set_overlap
from monai_jdt.validation import error_sentence

_assignment, _ = optional_import("scipy.optimize", name="linear_sum_assignment")


class RaterDiceKind(Enum):
    """What is made of the matrix of Dice scores: see :func:`rater_dice`."""

    MEAN = "mean"
    MAX = "max"
    MAX_REVERSE = "max_reverse"
    MATCH = "match"
    EACH = "each"
    CONSENSUS = "consensus"


class EmptyPair(Enum):
    """The Dice score of two empty sets: undefined and left out, or 1."""

    UNDEFINED = "undefined"
    ONE = "one"


def rater_dice(
    y_pred: Any,
    y: Any,
    kind: RaterDiceKind = RaterDiceKind.MEAN,
    empty: EmptyPair = EmptyPair.UNDEFINED,
    rule: LabelRule = VOTES,
    *,
    rater_weights: Any = None,
    include_background: bool = True,
) -> torch.Tensor:
    r"""Score samples :math:`s_i` by the Dice scores :math:`D_{ri} = \mathrm{Dice}(y_r, s_i)` with each rater, in each image and class.

    ===============  =========================================================================================
    kind             score
    ===============  =========================================================================================
    "mean"           mean over raters, by their weights, and samples
    "max"            mean over samples of the best rater's
    "max_reverse"    mean over raters of the best sample's
    "match"          mean over the min(M, R) pairs of the assignment with the largest sum (Hungarian algorithm)
    "each"           mean of :math:`D_{rr}`: sample r belongs to rater r, for named raters only
    "consensus"      mean over samples of the Dice score with what every rater marked, where the raters agree
    ===============  =========================================================================================

    A rater is compared at the voxels where the rater says something. Two empty sets are undefined and left out of every mean and
    maximum (the assignment counts them as 1, so that empty sets are paired), or count as 1.

    "consensus" is the Dice score of the CURVAS challenge (MICCAI 2024, arXiv:2505.08685): voxels that some raters marked and others did
    not are left out of the prediction, too. Raters who say something at a voxel have to agree there.

    Args:
        y_pred: binary samples `(N, M, C, *S)`, or one prediction `(N, C, *S)`.
        y: votes `(N, R, *S)`.
        kind: a row of the table.
        empty: the score of two empty sets.
        rule: regions and the ignored value; `rule.votes` is True.
        rater_weights: `(N, R)` or `(R,)`, 0 = missing; other unequal weights for "mean" only. None: 1 each.
        include_background: False leaves channel 0 out.

    Returns:
        `(N, C)`, or `(N, C - 1)`; float64 (Apple's MPS: float32); NaN where nothing is defined.

    Raises:
        TypeError: no tensors.
        ValueError: shapes that do not fit, samples that are not binary, votes that are no class, unequal weights, or "each" with
            another number of samples than raters or, in an image where any rater speaks, with a missing rater.

    Example:
        >>> samples = torch.tensor([[[[1, 1, 0]], [[0, 1, 0]]]])  # two samples, one class, three voxels
        >>> votes = torch.tensor([[[1, 1, 0], [0, 0, 1]]])  # two raters: Dice 1 and 2/3, 0 and 0
        >>> rater_dice(samples, votes), rater_dice(samples, votes, RaterDiceKind.MAX)
        (tensor([[0.4167]], dtype=torch.float64), tensor([[0.8333]], dtype=torch.float64))
    """
    samples, stack = read_samples(y_pred, y, rule, rater_weights, include_background)
    if kind is not RaterDiceKind.MEAN:
        stack.check_equal_weights(f"kind {kind.value!r}")
    if kind is RaterDiceKind.EACH and samples.shape[1] != stack.votes.shape[1]:
        _refuse_each(samples.shape[1], stack.votes.shape[1], stack.votes.shape[1])
    channels = range(0 if include_background else 1, samples.shape[2])
    matrix_of = _consensus_row if kind is RaterDiceKind.CONSENSUS else _dice_matrix
    rows = [[_image_score(matrix_of(samples, stack, n, c, empty), stack, n, kind) for c in channels] for n in range(len(samples))]
    return torch.tensor(rows, dtype=wide_dtype(samples.device), device=samples.device).reshape(len(samples), len(channels))


def _refuse_each(samples: int, there: int, raters: int) -> NoReturn:
    expected = "as many samples as raters for kind 'each', and no missing rater"
    raise ValueError(error_sentence("y_pred", expected, f"{samples} samples and {there} of {raters} raters", "use kind 'match'"))


def _dice_matrix(samples: torch.Tensor, stack: RaterStack, image: int, channel: int, empty: EmptyPair) -> list[list[float]]:
    """Return a row for each rater that is there, and a column for each sample, NaN for two empty sets."""
    value = 1.0 if empty is EmptyPair.ONE else math.nan
    return [
        [
            set_overlap(stack.marks(image, rater, channel), sample[channel], SetOverlap.DICE, value, stack.speaks(image, rater))
            for sample in samples[image]
        ]
        for rater in stack.raters(image)
    ]


def _consensus_row(samples: torch.Tensor, stack: RaterStack, image: int, channel: int, empty: EmptyPair) -> list[list[float]]:
    """Return one row: the Dice score of each sample with the raters' consensus, where there is one. No row without a rater."""
    raters = stack.raters(image)
    if not raters:
        return []
    value = 1.0 if empty is EmptyPair.ONE else math.nan
    any_marks = torch.zeros(stack.votes.shape[2], dtype=torch.bool, device=samples.device)
    all_mark = ~any_marks
    for rater in raters:
        marks, speaks = stack.marks(image, rater, channel), stack.speaks(image, rater)
        any_marks |= marks
        all_mark &= marks if speaks is None else marks | ~speaks
    agreed = all_mark | ~any_marks
    counted = stack.counted(image)
    agreed = agreed if counted is None else agreed & counted
    return [[set_overlap(all_mark, sample[channel], SetOverlap.DICE, value, agreed) for sample in samples[image]]]


def _image_score(matrix: list[list[float]], stack: RaterStack, image: int, kind: RaterDiceKind) -> float:
    if not matrix:
        return math.nan
    if kind is RaterDiceKind.EACH and len(matrix) != len(stack.weights[image]):
        _refuse_each(len(matrix[0]), len(matrix), len(stack.weights[image]))
    scores = torch.tensor(matrix, dtype=torch.float64, device="cpu")
    if kind is RaterDiceKind.MEAN:
        weights = torch.tensor([stack.weights[image][rater] for rater in stack.raters(image)], dtype=torch.float64, device="cpu")
        weights = weights[:, None] * ~scores.isnan()
        return float((weights * scores.nan_to_num()).sum() / weights.sum())
    if kind is RaterDiceKind.CONSENSUS:
        return float(scores.nanmean())
    if kind is RaterDiceKind.EACH:
        return float(scores.diagonal().nanmean())
    if kind is RaterDiceKind.MATCH:
        rows, columns = _assignment(scores.nan_to_num(1.0).numpy(), maximize=True)
        return float(scores[torch.from_numpy(rows), torch.from_numpy(columns)].nanmean())
    best = scores.nan_to_num(-1.0).amax(0 if kind is RaterDiceKind.MAX else 1)
    return float(best[best >= 0].mean())
