"""Dice and IoU of sets of voxels: counts that are exact, and the rule for two empty sets."""

from __future__ import annotations

from enum import Enum

import torch

from monai_jdt.checks import can_read_values
from monai_jdt.functional.metric_labels import RaterStack
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
        first, second = first & counted, second & counted
    both = int(torch.count_nonzero(first & second))
    sizes = int(torch.count_nonzero(first)) + int(torch.count_nonzero(second))
    if sizes == 0:
        return empty
    return 2 * both / sizes if kind is SetOverlap.DICE else both / (sizes - both)


def read_samples(y_pred: torch.Tensor, votes: torch.Tensor, include_background: bool) -> torch.Tensor:
    """Return binary samples `(N, M, C, V)`, bool, from samples or from one prediction.

    Args:
        y_pred: samples `(N, M, C, *S)`, or one prediction `(N, C, *S)`; 0 and 1.
        votes: `(N, R, *S)`: its number of dimensions tells which of the two `y_pred` is.
        include_background: False leaves channel 0 out, and then there must be two.

    Raises:
        TypeError: no tensors.
        ValueError: another number of dimensions, no sample, other values than 0 and 1, or one channel without the background.
    """
    samples = plain_tensor("y_pred", y_pred).detach()
    votes = plain_tensor("y", votes)
    dimensions = votes.ndim
    if samples.ndim == dimensions:
        samples = samples[:, None]
    if samples.ndim != dimensions + 1 or samples.ndim < 3 or samples.shape[1] == 0:
        expected = "samples (N, M, C, *S), or one prediction (N, C, *S), for votes (N, R, *S)"
        raise ValueError(error_sentence("y_pred", expected, f"shape {tuple(y_pred.shape)}"))
    if (samples.shape[0], samples.shape[3:]) != (votes.shape[0], votes.shape[2:]):
        expected = f"votes ({samples.shape[0]}, R, {', '.join(map(str, samples.shape[3:]))}), the images and space of y_pred"
        raise ValueError(error_sentence("y", expected, f"shape {tuple(votes.shape)}"))
    if not include_background and samples.shape[2] == 1:
        fix = "leave it out, since the one channel is the foreground"
        raise ValueError(error_sentence("include_background=False", "at least 2 channels", "1", fix))
    if samples.dtype is not torch.bool:
        if can_read_values(samples) and not bool(((samples == 0) | (samples == 1)).all()):
            got, fix = "other values", "cut probabilities by AsDiscrete, or draw samples of them"
            raise ValueError(error_sentence("y_pred", "0 and 1 in every sample", got, fix))
        samples = samples > 0.5
    return samples.flatten(3) if samples.ndim > 3 else samples[..., None]


def pair_speaks(stack: RaterStack, image: int, first: int, second: int) -> torch.Tensor | None:
    """Return where two raters both say something; None: everywhere."""
    one, other = stack.speaks(image, first), stack.speaks(image, second)
    return None if one is None or other is None else one & other


def anybody_speaks(stack: RaterStack, image: int) -> torch.Tensor | None:
    """Return where any rater that is there says something; None: everywhere."""
    spoken = [stack.speaks(image, rater) for rater in stack.raters(image)]
    masks = [mask for mask in spoken if mask is not None]
    return torch.stack(masks).any(0) if masks else None
