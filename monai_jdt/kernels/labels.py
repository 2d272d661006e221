"""The three forms of a label read as one: dense values, and which voxels say anything."""

from __future__ import annotations

import numpy as np
import torch

from monai_jdt.definitions import LabelForm, LabelReading, VoxelRecipe


def read_label(
    label: torch.Tensor,
    channels: int,
    recipe: VoxelRecipe,
    rater_weights: torch.Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Dense label values before label smoothing, and the voxels that say anything.

    A class value that is no class becomes NaN, never another class, so that the loss shows it where values are not checked.

    Args:
        label: `(N, C, *S)`, `(N, 1, *S)` or `(N, R, *S)`, by the recipe's label form; any real dtype.
        channels: C.
        recipe: the loss.
        rater_weights: for votes, `(N, R)` or `(R,)`, >= 0, 0 = missing; None: 1 each.
        dtype: of the result.

    Returns:
        values `(N, C, *S)` in [0, 1], and bool `(N, 1, *S)`, True where the label says something, or None for everywhere.
    """
    reading = recipe.label
    if reading.form is LabelForm.DENSE:
        return label.to(dtype), labelled_voxels(label, recipe)
    if reading.form is LabelForm.INDEX:
        label = _comparable(label)
        labelled = labelled_voxels(label, recipe)
        member, legal = _membership(label, channels, reading), _is_legal(label, channels, reading)
        if labelled is not None:
            legal = legal | ~labelled
        # a choice for each voxel, not for each class: on a CPU, torch makes choices one by one
        return member.to(dtype) + torch.where(legal, 0.0, float("nan")).to(dtype), labelled
    return _read_votes(label, channels, recipe, rater_weights, dtype)


def vote_counts(votes: torch.Tensor, channels: int) -> torch.Tensor | None:
    """Return how many raters vote for each channel, `(N, C, *S)`, unsigned 8-bit, or None if a vote is an invalid class.

    By numpy, whose comparison of bytes is eighteen times as fast as torch's.

    Args:
        votes: whole numbers on the CPU, `(N, R, *S)`, of at most 255 raters.
        channels: C.
    """
    answers = votes.numpy()
    if answers.size > 0 and (answers.min() < 0 or answers.max() > max(channels - 1, 1)):
        return None
    answers = answers.astype(np.uint8 if channels <= 256 else np.int64, copy=False)
    counts = np.empty((votes.shape[0], channels, *votes.shape[2:]), np.uint8)
    for channel in range(channels):
        wanted, count = answers.dtype.type(1 if channels == 1 else channel), counts[:, channel]
        np.equal(answers[:, 0], wanted, out=count.view(bool))
        for rater in range(1, answers.shape[1]):
            count += np.equal(answers[:, rater], wanted).view(np.uint8)
    return torch.from_numpy(counts)


def labelled_voxels(label: torch.Tensor, recipe: VoxelRecipe, rater_weights: torch.Tensor | None = None) -> torch.Tensor | None:
    """Return bool `(N, 1, *S)`, where a label says anything, without reading what, or None for everywhere.

    Args:
        label: in the recipe's form.
        recipe: the loss.
        rater_weights: for votes, as in :func:`read_label`.
    """
    marker = recipe.label.ignore_index
    if recipe.label.form is LabelForm.VOTES:
        labelled = torch.ones_like(label, dtype=torch.bool) if marker is None else _comparable(label) != marker
        if rater_weights is not None:
            labelled = labelled & (_spread(relative_weights(rater_weights, label, torch.float32), label) > 0)
        return labelled.any(1, keepdim=True)
    return None if marker is None else (_comparable(label) != marker).any(1, keepdim=True)


def _read_votes(
    votes: torch.Tensor, channels: int, recipe: VoxelRecipe, rater_weights: torch.Tensor | None, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """The weighted share of raters for each channel, among the raters that speak at a voxel.

    All raters at once, and channel by channel: in a compiled or exported graph the number of raters may change, that of channels does
    not. No tensor holds raters times channels.
    """
    weights = _spread(relative_weights(rater_weights, votes, dtype), votes)
    # in one layout, since the order in which torch adds depends on it: raters who agree must have exactly 1
    votes = _comparable(votes).contiguous()
    speaks = (weights > 0).expand(votes.shape)
    if recipe.label.ignore_index is not None:
        speaks = speaks & (votes != recipe.label.ignore_index)
    weights = torch.where(speaks, weights, 0.0).contiguous()
    total = weights.sum(1, keepdim=True)
    shares = [torch.where(_in_channel(votes, c, channels, recipe.label), weights, 0.0).sum(1, keepdim=True) for c in range(channels)]
    labelled = total > 0
    # a vote that is no class makes every channel NaN
    wrong = (speaks & ~_is_legal(votes, channels, recipe.label)).any(1, keepdim=True)
    share = torch.cat(shares, 1) / torch.where(labelled, total, 1.0)
    return share + torch.where(wrong, float("nan"), 0.0).to(dtype), labelled


def relative_weights(rater_weights: torch.Tensor | None, votes: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The weights with the largest of an image 1, so that their scale cannot overflow a sum.

    Args:
        rater_weights: `(N, R)` or `(R,)`, >= 0; None: 1 each.
        votes: `(N, R, *S)`.
        dtype: of the result.

    Returns:
        `(N, R)`.
    """
    if rater_weights is None:
        return torch.ones(votes.shape[:2], dtype=dtype, device=votes.device)
    weights = rater_weights.to(torch.promote_types(rater_weights.dtype, dtype)).expand(votes.shape[0], votes.shape[1])
    largest = weights.amax(1, keepdim=True)
    return (weights / torch.where(largest > 0, largest, 1.0)).to(dtype)


def _spread(weights: torch.Tensor, votes: torch.Tensor) -> torch.Tensor:
    """`(N, R, 1, ...)`, for products with votes."""
    return weights.reshape(*weights.shape, *[1] * (votes.ndim - 2))


def _comparable(label: torch.Tensor) -> torch.Tensor:
    """A narrow integer dtype would wrap the number it is compared with."""
    return label if label.is_floating_point() else label.to(torch.int64)


def _is_legal(value: torch.Tensor, channels: int, reading: LabelReading) -> torch.Tensor:
    """Bool, whether each value may occur: a whole number, and a class where no regions are given."""
    legal = value >= 0
    if value.is_floating_point():
        legal = legal & (value == value.round())
    return legal if reading.regions is not None else legal & (value <= max(channels - 1, 1))


def _in_channel(value: torch.Tensor, channel: int, channels: int, reading: LabelReading) -> torch.Tensor:
    """Bool, whether each value belongs to a channel: one channel holds value 1, several hold 0 to C - 1."""
    if reading.regions is not None:
        return any_of(value, reading.regions[channel])
    return value == (1 if channels == 1 else channel)


def _membership(value: torch.Tensor, channels: int, reading: LabelReading) -> torch.Tensor:
    """For values `(N, 1, *S)`: bool `(N, C, *S)`, which channels each value belongs to."""
    if reading.regions is not None or channels == 1:
        return torch.cat([_in_channel(value, channel, channels, reading) for channel in range(channels)], 1)
    return value == torch.arange(channels, device=value.device).reshape(1, channels, *[1] * (value.ndim - 2))


#: Binary digits of a number in each dtype.
_DIGITS = {torch.bfloat16: 8, torch.float16: 11, torch.float32: 24, torch.float64: 53}


def ignore_index_as(marker: int | None, dtype: torch.dtype) -> int | None:
    """A marker as a label of that dtype holds it: bfloat16 makes 1000 of 999.

    Args:
        marker: a whole number; None stays None.
        dtype: the label's.
    """
    digits = _DIGITS.get(dtype)
    if marker is None or digits is None:
        return marker
    step = 2 ** max(abs(marker).bit_length() - digits, 0)
    # to the nearest, and to the even one of two, as dtypes do
    return round(marker / step) * step


def any_of(value: torch.Tensor, wanted: tuple[int, ...]) -> torch.Tensor:
    """Return whether each value is one of the wanted, by comparisons, so that nothing is copied to the device.

    Args:
        value: any shape.
        wanted: at least one number.
    """
    found = value == wanted[0]
    for other in wanted[1:]:
        found = found | (value == other)
    return found
