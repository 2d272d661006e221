"""Labels of a chunk, as :mod:`monai_jdt.kernels.labels` reads them, in memory that is used again.

On a CPU, torch compares and multiplies numbers ten times faster than it makes choices, or turns bools into numbers.
"""

from __future__ import annotations

import torch

from monai_jdt.definitions import LabelForm, LabelReading, VoxelRecipe
from monai_jdt.kernels.chunked.scratch import Scratch
from monai_jdt.kernels.kernel_input import KernelInput
from monai_jdt.kernels.labels import labelled_voxels, read_label

#: Whole numbers below it are exact in float32. No class number is as large; a larger value of a region falls back to `read_label`.
_EXACT = 2**24
#: Label values that :func:`dense_label_in_chunks` reads at a time: a few temporaries of them stay near the cores.
_CHUNK = 2**17


def read_chunk_label(
    label: torch.Tensor, channels: int, recipe: VoxelRecipe, rater_weights: torch.Tensor | None, scratch: Scratch
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Dense label values before label smoothing, and the voxels that say anything.

    Args:
        label: `(n, C, v)`, `(n, 1, v)` or `(n, R, v)`, by the recipe's label form.
        channels: C.
        recipe: the loss.
        rater_weights: for votes, `(n, R)` or `(1, R)`.
        scratch: gives memory; the values are in "label", or are the label itself.

    Returns:
        As :func:`monai_jdt.kernels.labels.read_label`; the values may be anything where the label says nothing.
    """
    if recipe.label.form is LabelForm.DENSE:
        values = label if label.dtype == scratch.dtype else scratch.take("label", label.shape).copy_(label)
        return values, labelled_voxels(label, recipe)
    if recipe.label.form is LabelForm.INDEX:
        read = _classes_of(label, channels, recipe.label, scratch)
    else:
        assert rater_weights is not None
        read = _shares_of(label, channels, recipe.label, rater_weights.expand(label.shape[0], -1), scratch)
    if read is not None:
        return read
    values, labelled = read_label(label, channels, recipe, rater_weights, scratch.dtype)
    # Logits of a chunk without a mask are read where they lie, and torch rounds the last few numbers of a row otherwise than the rest:
    # one label in two forms has one gradient, bit for bit, only if both or neither come with a mask.
    if recipe.label.ignore_index is None and labelled is not None and bool(labelled.all()):
        labelled = None
    return values, labelled


def dense_label_in_chunks(given: KernelInput) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return :func:`monai_jdt.kernels.labels.read_label` of a label on the CPU, without temporaries of the label's size.

    Args:
        given: the label, the logits for their shape, and the recipe.

    Returns:
        The values, `(N, C, V)` in the dtype of the sums, and bool `(N, 1, V)`, or None for everywhere.
    """
    images, channels, voxels = given.logits.shape
    values = torch.empty((images, channels, voxels), dtype=given.dtype, device="cpu")
    labelled: torch.Tensor | None = None
    scratch, size = Scratch(given.dtype, channels), max(_CHUNK // channels, 1)
    for image in range(images):
        here = slice(image, image + 1)
        weights = None if given.rater_weights is None else given.rater_weights[here]
        for start in range(0, voxels, size):
            there = slice(start, start + size)
            read, says = read_chunk_label(given.label[here, :, there], channels, given.recipe, weights, scratch)
            values[here, :, there] = read
            if says is not None:
                if labelled is None:
                    labelled = torch.ones((images, 1, voxels), dtype=torch.bool, device="cpu")
                labelled[here, :, there] = says
    return values, labelled


def _classes_of(
    label: torch.Tensor, channels: int, reading: LabelReading, scratch: Scratch
) -> tuple[torch.Tensor, torch.Tensor | None] | None:
    """Return the channels of class indices `(n, 1, v)` as 0 or 1, `(n, C, v)`, and bool where they are not ignored (None: everywhere).

    None if a value is not a valid class. The caller then falls back to `read_label`, which marks it by NaN.
    """
    read = _one_answer(label, channels, reading, "label", scratch)
    if read is None:
        return None
    members, speaks = read
    return members, None if speaks is None else speaks > 0


def _shares_of(
    votes: torch.Tensor, channels: int, reading: LabelReading, weights: torch.Tensor, scratch: Scratch
) -> tuple[torch.Tensor, torch.Tensor | None] | None:
    """Return each channel's share of the raters that speak, `(n, C, v)`, and bool where any does (None: everywhere).

    None if a vote is not a valid class. The caller then falls back to `read_label`.

    Args:
        votes: `(n, R, v)`, class values, any dtype.
        channels: C.
        reading: how values become channels.
        weights: `(n, R)`. A rater whose weight is not above 0, NaN included, is missing.
        scratch: memory; the share is in "label".
    """
    weights = torch.where(weights > 0, weights, 0.0)
    share = total = None
    for rater in range(votes.shape[1]):
        weight = weights[:, rater].reshape(-1, 1, 1)
        if not weight.any():
            # a missing rater's map may hold anything, invalid classes too
            continue
        read = _one_answer(votes[:, rater : rater + 1], channels, reading, "label" if share is None else "label_other", scratch)
        if read is None:
            return None
        members, speaks = read
        if speaks is not None:
            weight = speaks.mul_(weight)
        if share is None or total is None:
            share = members.mul_(weight)
            total = scratch.take("label_total", weight.shape).copy_(weight)
        else:
            share.addcmul_(members, weight)
            total += weight
    if share is None or total is None:
        share = scratch.take("label", torch.Size((votes.shape[0], channels, votes.shape[2]))).zero_()
        total = torch.zeros_like(weights[:, :1]).unsqueeze(2)
    if reading.ignore_index is None and bool(total.all()):
        return share.div_(total), None
    labelled = (total > 0).expand(-1, -1, votes.shape[2])
    # Where no rater speaks the share is 0 already; the total becomes 1 there, so that 0 / 0 does not make it NaN.
    return share.div_(total.add_(torch.eq(total, 0, out=scratch.take("label_value", total.shape)))), labelled


def _one_answer(
    label: torch.Tensor, channels: int, reading: LabelReading, name: str, scratch: Scratch
) -> tuple[torch.Tensor, torch.Tensor | None] | None:
    """Return, 0 or 1, the channels of each value `(n, 1, v)` of one rater or of class indices, `(n, C, v)`, and where it speaks.

    None where not every value that speaks is a whole number that may be a class, and where float32 does not tell. The second result is
    None without an ignore marker.

    Args:
        label: `(n, 1, v)`, any dtype.
        channels: C.
        reading: how values become channels.
        name: the memory of the channels. Two raters need two.
        scratch: memory; "label_value", "label_speaks" and "label_match" are written over.
    """
    marker = reading.ignore_index
    if label.dtype is torch.float64 is not scratch.dtype or (marker is not None and abs(marker) >= _EXACT):
        # rounded to float32, 1.00000001 would become class 1, and 16777217 the marker 16777216
        return None
    value = scratch.take("label_value", label.shape).copy_(label)
    speaks = None
    if marker is not None:
        speaks = torch.ne(value, marker, out=scratch.take("label_speaks", label.shape))
        # ignored voxels get the value 0, which passes the checks below
        value *= speaks
    if label.is_floating_point() and not torch.equal(torch.round(value, out=scratch.take("label_match", label.shape)), value):
        return None
    lowest, highest = torch.aminmax(value)
    # one channel takes the values 0 and 1
    largest = _EXACT - 1 if reading.regions is not None else max(channels - 1, 1)
    # written so that NaN, which is in neither bound, is refused
    if not (lowest >= 0 and highest <= largest):
        return None
    members = scratch.take(name, torch.Size((label.shape[0], channels, label.shape[2])))
    if reading.regions is None:
        torch.eq(value, scratch.class_numbers, out=members)
        return members, speaks
    for channel, region in enumerate(reading.regions):
        member = members[:, channel : channel + 1]
        torch.eq(value, region[0], out=member)
        for number in region[1:]:
            torch.maximum(member, torch.eq(value, number, out=scratch.take("label_match", label.shape)), out=member)
    return members, speaks
