"""Calibration of a probability map against several raters: bins of confidence, and the errors made of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch

from monai_jdt.functional.fast_counts import compiled_bins, compiled_counts
from monai_jdt.functional.metric_labels import VOTES, LabelRule, RaterStack, as_rows, read_prediction, read_rater_stack, wide_dtype
from monai_jdt.functional.undefined import UNDEFINED
from monai_jdt.validation import error_sentence


class CalibrationKind(Enum):
    """The expected, average, or maximum calibration error: the mean over voxels, the mean over non-empty bins, or the largest bin."""

    ECE = "ece"
    ACE = "ace"
    MCE = "mce"


class CalibrationTarget(Enum):
    """What a confidence is held against: the share of raters, or each rater."""

    MEAN = "mean"
    RATERS = "raters"


class Binning(Enum):
    """Bins of equal width in [0, 1], or with as many voxels each, by quantiles of the image's confidences."""

    WIDTH = "width"
    MASS = "mass"


class CalibrationRegion(Enum):
    """All voxels, or those in the joint bounding box of what the raters marked (background aside)."""

    ALL = "all"
    BOX = "box"


@dataclass(frozen=True)
class CalibrationRule:
    """How confidences are binned and compared.

    Args:
        against: the share of raters, or each rater.
        classwise: each channel is a binary problem; False: the largest of all channels; None: True for one channel and regions.
        bins: how many.
        binning: how they are cut.
        inside: which voxels.
    """

    against: CalibrationTarget = CalibrationTarget.MEAN
    classwise: bool | None = None
    bins: int = 15
    binning: Binning = Binning.WIDTH
    inside: CalibrationRegion = CalibrationRegion.ALL


#: 15 bins of equal width against the share of raters: the rule without further settings.
AGAINST_MEAN = CalibrationRule()


def rater_calibration_bins(
    y_pred: Any,
    y: Any,
    how: CalibrationRule = CalibrationRule(),
    rule: LabelRule = VOTES,
    *,
    rater_weights: Any = None,
    include_background: bool = True,
) -> torch.Tensor:
    r"""Sum voxels, confidences and outcomes in bins of confidence: a reliability diagram, and what errors are made of.

    Against the mean, a voxel counts once, and its outcome is the weighted share of raters that agree. Against raters, each
    (voxel, rater) pair counts with the rater's weight, and its outcome is 0 or 1. The weights are divided by the mean weight of the
    image's raters that are there: uniform weights are no weights, also where bins of several images are added.

    Args:
        y_pred: probabilities, `(N, C, *S)` or `(N, C)`, in [0, 1].
        y: votes `(N, R, *S)`.
        how: see :class:`CalibrationRule`.
        rule: regions and the ignored value; `rule.votes` is True.
        rater_weights: `(N, R)` or `(R,)`, 0 = missing; None: 1 each.
        include_background: False leaves channel 0 out, with `classwise` only.

    Returns:
        `(N, C, bins, 3)`, with the largest channel `(N, 1, bins, 3)`: the weight, and the sums of weight times confidence and of
        weight times outcome; float64 (Apple's MPS: float32).

    Raises:
        TypeError: no tensors.
        ValueError: shapes that do not fit, values outside [0, 1], votes that are no class, or contradicting arguments.
    """
    parts, columns = _bins_of_raters(y_pred, y, how, rule, rater_weights, include_background)
    device, dtype = _place(y_pred)
    summed = torch.zeros(len(parts), columns, how.bins, 3, dtype=dtype, device=device)
    for image, row in enumerate(parts):
        for place, column in enumerate(row):
            summed[image, place] = torch.stack([weight * bins for weight, bins in column]).sum(0)
    return summed


def rater_calibration_error(
    y_pred: Any,
    y: Any,
    kind: CalibrationKind = CalibrationKind.ECE,
    how: CalibrationRule = CalibrationRule(),
    rule: LabelRule = VOTES,
    *,
    rater_weights: Any = None,
    include_background: bool = True,
) -> torch.Tensor:
    r"""Score the calibration of each image.

    With :math:`n_b, conf_b, acc_b` the weight, mean confidence and mean outcome of bin b,

    .. math:: ECE = \sum_b \frac{n_b}{\sum_b n_b} |acc_b - conf_b|, \quad ACE = \mathrm{mean}_b |acc_b - conf_b|, \quad
              MCE = \max_b |acc_b - conf_b|

    over the bins that are not empty. Against the mean of the raters, p = m scores 0. Against raters the error of each rater is
    computed by itself and then averaged by their weights, so that it includes the raters' disagreement.

    Args:
        y_pred: as in :func:`rater_calibration_bins`.
        y: as there.
        kind: which error.
        how: as there.
        rule: as there.
        rater_weights: as there.
        include_background: as there.

    Returns:
        `(N, C)`, with the largest channel `(N, 1)`; float64 (Apple's MPS: float32) in [0, 1]; NaN where no voxel counts.

    Raises:
        TypeError: as there.
        ValueError: as there.

    Example:
        >>> p, votes = torch.tensor([[[0.25, 0.25, 0.75]]]), torch.tensor([[[0, 1, 1], [0, 0, 1]]])
        >>> rater_calibration_error(p, votes, how=CalibrationRule(bins=2))  # |1/4 - 1/4| * 2/3 + |1 - 3/4| * 1/3
        tensor([[0.0833]], dtype=torch.float64)
    """
    parts, columns = _bins_of_raters(y_pred, y, how, rule, rater_weights, include_background)
    rows: list[list[float]] = []
    for row in parts:
        rows.append([])
        for column in row:
            errors = [(weight, float(error_of_bins(bins, kind))) for weight, bins in column]
            defined = [(weight, error) for weight, error in errors if not math.isnan(error)]
            mass = sum(weight for weight, _ in defined)
            rows[-1].append(sum(weight * error for weight, error in defined) / mass if mass > 0 else UNDEFINED)
    return torch.tensor(rows, dtype=torch.float64, device="cpu").reshape(len(parts), columns).to(*_place(y_pred))


def error_of_bins(bins: torch.Tensor, kind: CalibrationKind) -> torch.Tensor:
    """Return the calibration error of bins.

    Args:
        bins: `(..., K, 3)` of :func:`rater_calibration_bins`.
        kind: which error.

    Returns:
        `(...)`; NaN where all bins are empty.
    """
    weight, confidence, outcome = bins.unbind(-1)
    filled = weight > 0
    gap = torch.where(filled, (confidence - outcome).abs() / torch.where(filled, weight, 1.0), 0.0)
    nothing = ~filled.any(-1)
    if kind is CalibrationKind.ECE:
        error = (weight * gap).sum(-1) / weight.sum(-1)
    elif kind is CalibrationKind.ACE:
        error = gap.sum(-1) / filled.sum(-1)
    else:
        error = gap.amax(-1)
    return torch.where(nothing, UNDEFINED, error)


def _place(y_pred: Any) -> tuple[torch.device, torch.dtype]:
    return y_pred.device, wide_dtype(y_pred.device)


def _bins_of_raters(
    y_pred: Any, y: Any, how: CalibrationRule, rule: LabelRule, rater_weights: Any, include_background: bool
) -> tuple[list[list[list[tuple[float, torch.Tensor]]]], int]:
    """Return for each image and class the bins and weight of each rater (of the mean: one, of weight 1), and the number of classes."""
    prob = read_prediction(y_pred, include_background)
    separate = prob.shape[1] == 1 or rule.regions is not None
    if how.classwise is False and separate:
        expected = "None or True for one channel or regions"
        raise ValueError(error_sentence("classwise", expected, "False", "leave it out: each channel is a class by itself"))
    by_class = separate if how.classwise is None else how.classwise
    if not by_class and not include_background:
        expected = "True for the largest of all channels"
        raise ValueError(error_sentence("include_background", expected, "False", "pass classwise=True"))
    stack = read_rater_stack(prob, y, rule, rater_weights)
    rows, first = as_rows(prob), 0 if include_background else 1
    channels = range(first, prob.shape[1]) if by_class else [None]
    found = []
    for image in range(prob.shape[0]):
        box = None if how.inside is CalibrationRegion.ALL else _box(stack, image, tuple(prob.shape[2:]), separate)
        found.append([_bins_of_class(rows, stack, image, channel, how, box) for channel in channels])
    return found, len(channels)


def _bins_of_class(
    rows: torch.Tensor, stack: RaterStack, image: int, channel: int | None, how: CalibrationRule, box: torch.Tensor | None
) -> list[tuple[float, torch.Tensor]]:
    """Return weight and bins of each rater, or of their mean. `channel` None is the largest."""
    raters = stack.raters(image)
    if box is None and raters and stack.ignore_index is None and how.binning is Binning.WIDTH:
        compiled = compiled_counts(rows, stack.votes)
        if compiled is not None:
            values = () if channel is None else stack.groups[channel]
            return [
                (mass, compiled_bins(compiled, rows[image], stack.votes[image], weights, channel, values, how.bins))
                for mass, weights in _weights_by_bin_set(stack, image, raters, how)
            ]
    wide = wide_dtype(rows.device)
    if channel is None:
        top, winner = rows[image].max(0)
        confidence, channels = top.to(wide), range(rows.shape[1])
    else:
        winner, confidence, channels = None, rows[image, channel].to(wide), range(channel, channel + 1)

    def outcome_of(read: Any) -> torch.Tensor:
        total = torch.zeros_like(confidence)
        for c in channels:
            agreeing = read(c).to(wide)
            total += agreeing if winner is None else torch.where(winner == c, agreeing, 0.0)
        return total

    given: list[tuple[float, torch.Tensor, torch.Tensor | None]] = []
    if how.against is CalibrationTarget.MEAN:
        if raters:
            given = [(1.0, outcome_of(lambda c: stack.soft(image, c)[0]), stack.counted(image))]
    else:
        weights = [stack.weights[image][rater] for rater in raters]
        for rater, weight in zip(raters, weights, strict=True):
            marked = outcome_of(lambda c, rater=rater: stack.marks(image, rater, c))
            given.append((weight * len(weights) / sum(weights), marked, stack.speaks(image, rater)))
    bins = []
    for weight, outcome, counted in given:
        here = counted if box is None else box if counted is None else box & counted
        bins.append(
            (weight, _binned(confidence if here is None else confidence[here], outcome if here is None else outcome[here], how))
        )
    return bins or [(1.0, torch.zeros(how.bins, 3, dtype=wide, device=rows.device))]


def _weights_by_bin_set(stack: RaterStack, image: int, raters: list[int], how: CalibrationRule) -> list[tuple[float, list[float]]]:
    """Return for each set of bins its weight and the weights of the raters in it: all raters, or each by itself."""
    weights = stack.weights[image]
    if how.against is CalibrationTarget.MEAN:
        return [(1.0, list(weights))]
    mean = sum(weights[rater] for rater in raters) / len(raters)
    return [(weights[rater] / mean, [float(other == rater) for other in range(len(weights))]) for rater in raters]


def _binned(confidence: torch.Tensor, outcome: torch.Tensor, how: CalibrationRule) -> torch.Tensor:
    """Return `(K, 3)`: voxels, summed confidences, summed outcomes. A voxel on an edge belongs to the upper bin, 1 to the last."""
    edges = torch.linspace(0, 1, how.bins + 1, dtype=confidence.dtype, device=confidence.device)[1:-1]
    if how.binning is Binning.MASS and confidence.numel() > 0:
        ordered = confidence.sort().values
        cuts = torch.arange(1, how.bins, device=confidence.device) * len(ordered) // how.bins
        edges = ordered[cuts]  # equal confidences stay in one bin, whatever the order of voxels
    place = torch.bucketize(confidence, edges, right=True)
    bins = torch.zeros(3, how.bins, dtype=confidence.dtype, device=confidence.device)
    for row, values in enumerate((torch.ones_like(confidence), confidence, outcome)):
        bins[row].index_add_(0, place, values)
    return bins.T


def _box(stack: RaterStack, image: int, space: tuple[int, ...], separate: bool) -> torch.Tensor:
    """Return the joint bounding box of what the raters marked, bool `(V,)`. With classes the value 0 is background."""
    marked = torch.zeros(stack.votes.shape[2], dtype=torch.bool, device=stack.votes.device)
    for rater in stack.raters(image):
        for channel in range(0 if separate else 1, len(stack.groups)):
            marked |= stack.marks(image, rater, channel)
    if marked.numel() == 0:
        return marked
    inside = torch.ones(space, dtype=torch.bool, device=marked.device)
    volume = marked.reshape(space)
    for axis in range(len(space)):
        along = volume.movedim(axis, 0).reshape(space[axis], -1).any(1)
        reached = (along.cumsum(0) > 0) & (along.flip(0).cumsum(0).flip(0) > 0)
        inside &= reached.reshape([-1 if a == axis else 1 for a in range(len(space))])
    return inside.flatten() & marked.any()
