"""Fine-grained overlap: counts of each image and class, and the averages over data set, images or classes, worst cases among them."""

from __future__ import annotations

import math
from enum import Enum
from typing import Any

import torch

from monai_jdt.checks import can_read_values
from monai_jdt.functional.fast_counts import compiled_counts, compiled_overlap_counts
from monai_jdt.functional.metric_labels import (
    DenseLabel,
    as_rows,
    check_prediction_values,
    held_value,
    read_prediction,
    wide_dtype,
)
from monai_jdt.functional.undefined import UNDEFINED, UndefinedPolicy, mean_of_defined
from monai_jdt.plain_tensors import plain_tensor
from monai_jdt.validation import error_sentence


class FineGrainedKind(Enum):
    """IoU, Dice, or the accuracy of a class: the share of its voxels that are found."""

    IOU = "iou"
    DICE = "dice"
    ACCURACY = "accuracy"


class FineGrainedAverage(Enum):
    """Over what is averaged: see :func:`fine_grained_average`."""

    DATASET = "dataset"
    IMAGE = "image"
    CLASS = "class"


class Discretization(Enum):
    """How probabilities become a mask: the largest channel, or what is above .5."""

    ARGMAX = "argmax"
    THRESHOLD = "threshold"


class BothEmptyScore(Enum):
    """The score of one channel where neither prediction nor label has a voxel: undefined, or 1."""

    UNDEFINED = "undefined"
    ONE = "one"


def overlap_counts(
    y_pred: Any,
    y: Any,
    discretize: Discretization | None = None,
    *,
    ignore_index: int | None = None,
    include_background: bool = True,
) -> torch.Tensor:
    """Count, in each image and class, the voxels of prediction and label, of the prediction, of the label, and those that count.

    Args:
        y_pred: 0 and 1, `(N, C, *S)`; probabilities with `discretize` only.
        y: a hard label of the same shape, 0 and 1. Fuse raters before.
        discretize: how probabilities become 0 and 1; None: they are.
        ignore_index: voxels whose label channels all have the value do not count; None: every voxel does.
        include_background: False leaves channel 0 out, after `discretize`.

    Returns:
        `(N, C, 4)`, or `(N, C - 1, 4)`; int64, exact.

    Raises:
        TypeError: no tensors.
        ValueError: shapes or devices that differ, other values than 0 and 1, or "argmax" of one channel.

    Example:
        >>> overlap_counts(torch.tensor([[[1, 1, 0]]]), torch.tensor([[[1, 0, 0]]])).tolist()
        [[[1, 2, 1, 3]]]
    """
    prob, label = read_prediction(y_pred, include_background), plain_tensor("y", y).detach()
    if label.shape != prob.shape:
        expected, fix = f"shape {tuple(prob.shape)}, the shape of y_pred", "make one channel for each class"
        raise ValueError(error_sentence("y", expected, str(tuple(label.shape)), fix))
    if label.device != prob.device:
        expected = f"a tensor on {prob.device}, where y_pred is"
        raise ValueError(error_sentence("y", expected, str(label.device), "move it there with .to(y_pred.device)"))
    if discretize is Discretization.ARGMAX and prob.shape[1] == 1:
        raise ValueError(error_sentence("discretize", "'threshold' for one channel", "'argmax'", "pass discretize='threshold'"))
    first = 0 if include_background else 1
    rows, truth = (values.reshape(*values.shape[:2], math.prod(values.shape[2:])) for values in (prob, label))
    compiled = compiled_counts(rows, truth) if ignore_index is None else None
    counts = torch.empty(*prob.shape[:2], 4, dtype=torch.int64, device=prob.device)
    largest = None if discretize is None else discretize is Discretization.ARGMAX
    for image in range(prob.shape[0]):  # one by one: what is made on the way is of one image
        found = None if compiled is None else compiled_overlap_counts(compiled, rows[image], truth[image], largest)
        # where a value is illegal, the plain way names it
        counts[image] = _plain_counts(rows[image], truth[image], discretize, ignore_index) if found is None else found
    return counts[:, first:]


def _plain_counts(prob: torch.Tensor, label: torch.Tensor, discretize: Discretization | None, ignore_index: int | None) -> torch.Tensor:
    """Count an image, `(C, V)`, in torch's operations."""
    # a mask is copied to floating point only where it could not hold the ignored value
    rows = prob if prob.dtype is torch.bool else as_rows(prob[None])[0]
    truth = label if ignore_index is None else as_rows(label[None])[0]
    ignored = held_value(ignore_index, truth.dtype)
    counted = None if ignored is None else ~(truth == ignored).all(0)
    if prob.dtype is not torch.bool:
        check_prediction_values(prob[None], DenseLabel(truth[None], ignored))
    true = _ones_of("y", truth, counted)
    if discretize is None:
        found = _ones_of("y_pred", rows, counted)
    else:
        found = _largest_channels(rows) if discretize is Discretization.ARGMAX else rows > 0.5
    counts = torch.empty(len(rows), 4, dtype=torch.int64, device=rows.device)
    counts[:, 3] = truth.shape[-1] if counted is None else torch.count_nonzero(counted)
    for channel, marks in enumerate(zip(found, true, strict=True)):
        predicted, labelled = marks if counted is None else (mark & counted for mark in marks)
        for place, marked in enumerate((predicted & labelled, predicted, labelled)):
            counts[channel, place] = torch.count_nonzero(marked)
    return counts


def _ones_of(name: str, values: torch.Tensor, counted: torch.Tensor | None) -> torch.Tensor:
    """Return where values `(C, V)` are 1, and refuse others than 0 and 1 at counted voxels."""
    if values.dtype is torch.bool:
        return values
    ones = values == 1
    if can_read_values(values):
        # neither 0 nor 1; NaN is not 0
        odd = values.bool() ^ ones
        odd = odd if counted is None else odd & counted
        if bool(odd.any()):
            fix = "fuse the raters to a hard label" if name == "y" else "pass discretize='argmax' or 'threshold'"
            raise ValueError(error_sentence(name, "0 and 1", f"{values[odd][0].item():g}", fix))
    return ones


def _largest_channels(rows: torch.Tensor) -> torch.Tensor:
    """Return where each channel of `(C, V)` is the largest, the first one of equals.

    Torch's argmax over the first axis takes 8 times as long: 340 ms for four channels of 128^3.
    """
    best, free = rows.amax(0), torch.ones(rows.shape[1:], dtype=torch.bool, device=rows.device)
    found = []
    for row in rows:
        found.append((row == best) & free)
        free &= ~found[-1]
    return torch.stack(found)


def overlap_of_counts(counts: torch.Tensor, kind: FineGrainedKind, one_channel: bool, empty: BothEmptyScore) -> torch.Tensor:
    """Return the scores of counts.

    A class that the label does not have is undefined, whatever the prediction: an image's classes are those of its label
    (arXiv:2310.19252). A single channel is judged in every image: where the label is empty, a prediction has IoU and Dice 0. Its
    accuracy is undefined there, since no voxel could be found. Where no voxel counts, nothing is defined.

    Args:
        counts: `(..., 4)` of :func:`overlap_counts`.
        kind: which ratio.
        one_channel: the prediction has one channel.
        empty: the score of a single channel where prediction and label are empty.

    Returns:
        `(...)`, float64 (Apple's MPS: float32), NaN where undefined.
    """
    both, predicted, labelled, counted = counts.to(wide_dtype(counts.device)).unbind(-1)
    if kind is FineGrainedKind.IOU:
        score = both / (predicted + labelled - both)
    elif kind is FineGrainedKind.DICE:
        score = 2 * both / (predicted + labelled)
    else:
        score = both / labelled
    if not one_channel:
        return torch.where(labelled > 0, score, UNDEFINED)
    nothing = (predicted == 0) & (labelled == 0)
    score = torch.where(nothing, 1.0 if empty is BothEmptyScore.ONE else UNDEFINED, score)
    return torch.where(counted > 0, score, UNDEFINED)


def fine_grained_average(
    scores: torch.Tensor,
    average: FineGrainedAverage,
    percents: tuple[int, ...] = (100,),
    policy: UndefinedPolicy = UndefinedPolicy.LEAVE_OUT,
) -> torch.Tensor:
    """Return the mean over an image's classes, for each image, or over a class's images, for each class, and over worst cases.

    Args:
        scores: `(N, C)`; NaN is undefined.
        average: `IMAGE`: the images' means over their classes. `CLASS`: each class's images.
        percents: q of the worst q %: of n defined cases, the `max(1, n * q // 100)` with the lowest scores. Several are averaged.
        policy: `SPREAD`: NaN as soon as one score is NaN.

    Returns:
        The scalar of the data set, NaN where nothing is defined.

    Example:
        >>> scores = torch.tensor([[1.0, 0.0], [0.5, float("nan")]])
        >>> float(fine_grained_average(scores, FineGrainedAverage.IMAGE)), float(fine_grained_average(scores, FineGrainedAverage.CLASS))
        (0.5, 0.375)
    """
    if policy is UndefinedPolicy.SPREAD and bool(scores.isnan().any()):
        return torch.tensor(UNDEFINED, dtype=scores.dtype, device=scores.device)
    cases = mean_of_defined(scores, 1)[:, None] if average is FineGrainedAverage.IMAGE else scores
    columns = [column[~column.isnan()].sort().values for column in cases.unbind(1)]
    means = [
        torch.stack([column[: max(1, len(column) * q // 100)].mean() for q in percents]).mean() for column in columns if len(column) > 0
    ]
    return torch.stack(means).mean() if means else torch.tensor(UNDEFINED, dtype=scores.dtype, device=scores.device)
