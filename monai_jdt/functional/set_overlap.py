"""Dice and IoU of sets of voxels: counts that are exact, and the rule for two empty sets."""

from __future__ import annotations

import math
from enum import Enum
from typing import Any

import torch

from monai_jdt.checks import can_read_values
from monai_jdt.functional.metric_labels import LabelRule, RaterStack, check_background, read_votes
from monai_jdt.plain_tensors import plain_tensor
from monai_jdt.validation import error_sentence


class SetOverlap(Enum):
    """2 |A & B| / (|A| + |B|), or |A & B| / |A or B|."""

    DICE = "dice"
    IOU = "iou"


def set_overlap(
    first: torch.Tensor, second: torch.Tensor, kind: SetOverlap, empty: float, counted: torch.Tensor | None = None
) -> float:
    """Return the overlap of two sets of voxels.

    Args:
        first: bool `(V,)`.
        second: bool `(V,)`.
        kind: Dice or IoU.
        empty: the value for two empty sets.
        counted: bool `(V,)`, the voxels that count; None: all.

    Example:
        >>> a, b = torch.tensor([True, True, False]), torch.tensor([True, False, False])
        >>> set_overlap(a, b, SetOverlap.DICE, 1.0), set_overlap(a, b, SetOverlap.IOU, 1.0)
        (0.6666666666666666, 0.5)
    """
    if counted is not None:
        if not bool(counted.any()):
            return math.nan  # two sets that were never compared are not two empty sets
        first, second = first & counted, second & counted
    both = int(torch.count_nonzero(first & second))
    sizes = int(torch.count_nonzero(first)) + int(torch.count_nonzero(second))
    if sizes == 0:
        return empty
    return 2 * both / sizes if kind is SetOverlap.DICE else both / (sizes - both)


def read_samples(y_pred: Any, y: Any, rule: LabelRule, rater_weights: Any, include_background: bool) -> tuple[torch.Tensor, RaterStack]:
    """Return binary samples `(N, M, C, V)`, bool, from samples or from one prediction, and the votes.

    Args:
        y_pred: samples `(N, M, C, *S)`, or one prediction `(N, C, *S)`; 0 and 1 at the voxels where any rater says something.
        y: votes `(N, R, *S)`: their number of dimensions tells which of the two `y_pred` is.
        rule: how the votes are read.
        rater_weights: `(N, R)` or `(R,)`, 0 = missing; None: 1 each.
        include_background: False leaves channel 0 out, and then there must be two.

    Raises:
        TypeError: no tensors.
        ValueError: another number of dimensions, no sample, other values than 0 and 1, or one channel without the background; votes
            as :func:`~monai_jdt.functional.metric_labels.read_votes`.
    """
    samples = plain_tensor("y_pred", y_pred).detach()
    votes = plain_tensor("y", y)
    dimensions = votes.ndim
    if samples.ndim == dimensions:
        samples = samples[:, None]
    if samples.ndim != dimensions + 1 or samples.ndim < 3 or samples.shape[1] == 0:
        expected = "samples (N, M, C, *S), or one prediction (N, C, *S), for votes (N, R, *S)"
        raise ValueError(error_sentence("y_pred", expected, f"shape {tuple(y_pred.shape)}"))
    if (samples.shape[0], samples.shape[3:]) != (votes.shape[0], votes.shape[2:]):
        expected = f"votes ({samples.shape[0]}, R, {', '.join(map(str, samples.shape[3:]))}), the images and space of y_pred"
        raise ValueError(error_sentence("y", expected, f"shape {tuple(votes.shape)}"))
    check_background(include_background, samples.shape[2])
    samples = samples.flatten(3) if samples.ndim > 3 else samples[..., None]
    stack = read_votes(votes, rule, samples.shape[2], rater_weights)
    if samples.dtype is torch.bool:
        return samples, stack
    if can_read_values(samples):
        _check_binary(samples, stack)
    return samples > 0.5, stack


def _check_binary(samples: torch.Tensor, stack: RaterStack) -> None:
    """Refuse other values than 0 and 1 at the voxels where any rater says something."""
    for image, wrong in enumerate((samples != 0) & (samples != 1)):
        if bool(wrong.any()):
            counted = stack.counted(image)
            if counted is None or bool((wrong & counted).any()):
                got, fix = "other values", "cut probabilities by AsDiscrete, or draw samples of them"
                raise ValueError(error_sentence("y_pred", "0 and 1 in every sample", got, fix))


def pair_speaks(stack: RaterStack, image: int, first: int, second: int) -> torch.Tensor | None:
    """Return where two raters both say something, or None for everywhere."""
    one, other = stack.speaks(image, first), stack.speaks(image, second)
    return None if one is None or other is None else one & other
