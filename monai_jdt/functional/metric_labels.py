"""The label that a metric compares a prediction with: dense values or a stack of raters, read for one image and one class at a time.

A soft label of all classes, `(N, C, *S)`, is never made of votes: each class is made when it is compared, and given back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from monai_jdt.checks import RANGE_TOLERANCE, can_read_values
from monai_jdt.definitions import regions_of
from monai_jdt.functional.region_members import region_members
from monai_jdt.kernels.labels import ignore_index_as
from monai_jdt.plain_tensors import plain_tensor
from monai_jdt.validation import check_bool, check_int, error_sentence


@dataclass(frozen=True)
class LabelRule:
    """How a metric reads its label. :func:`label_rule` makes one from plain arguments.

    Args:
        votes: the label is a rater stack `(N, R, *S)`; False: dense `(N, C, *S)`.
        regions: the label values of each channel; None: channel c is value c, and a single channel is the value 1.
        ignore_index: votes: that rater says nothing at that voxel; dense: voxels whose channels all have the value. None: no voxel.
    """

    votes: bool = False
    regions: tuple[tuple[int, ...], ...] | None = None
    ignore_index: int | None = None


#: A dense label, and votes of classes: the rules without further settings.
DENSE, VOTES = LabelRule(), LabelRule(votes=True)


def label_rule(votes: bool = False, regions: Any = None, ignore_index: int | None = None) -> LabelRule:
    """Return the rule that a metric's arguments describe.

    Args:
        votes: as in :class:`LabelRule`.
        regions: a sequence of label values for each channel; with `votes` only.
        ignore_index: as in :class:`LabelRule`.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: regions without votes, or an ignored value that a region holds or that a dense label may have.
    """
    groups = regions_of(regions)
    if groups is not None and not check_bool("votes", votes):
        raise ValueError(error_sentence("regions", "None without votes", str(regions), "pass votes=True, or make the channels before"))
    ignored = None if ignore_index is None else check_int("ignore_index", ignore_index)
    if groups is not None and any(ignored in group for group in groups):
        raise ValueError(error_sentence("ignore_index", "a value of no region", str(ignored), "take it out of `regions`"))
    if ignored in (0, 1) and not votes:
        expected, fix = "a value outside [0, 1] with a dense label", "mark ignored voxels with a value that no label has, e.g. 255"
        raise ValueError(error_sentence("ignore_index", expected, str(ignored), fix))
    return LabelRule(check_bool("votes", votes), groups, ignored)


@dataclass(frozen=True, eq=False)
class DenseLabel:
    """A label with a channel for each class.

    Args:
        values: `(N, C, V)`, floating point.
        ignore_index: see :class:`LabelRule`, as :func:`held_value` gives it.
    """

    values: torch.Tensor
    ignore_index: int | None = None

    def counted(self, image: int) -> torch.Tensor | None:
        """Return the counted voxels, bool `(V,)`, or None for all."""
        return None if self.ignore_index is None else ~(self.values[image] == self.ignore_index).all(0)

    def soft(self, image: int, channel: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the label of one class, `(V,)` float64 (MPS: float32), and the counted voxels, None for all."""
        values, counted = self.values[image, channel].to(wide_dtype(self.values.device)), self.counted(image)
        return values if counted is None else torch.where(counted, values, 0.0), counted


@dataclass(frozen=True, eq=False)
class RaterStack:
    """Votes of several raters.

    Args:
        votes: label values `(N, R, V)`.
        weights: for each image R numbers >= 0; 0 = missing.
        groups: the label values of each channel.
        ignore_index: see :class:`LabelRule`, as :func:`held_value` gives it.
    """

    votes: torch.Tensor
    weights: tuple[tuple[float, ...], ...]
    groups: tuple[tuple[int, ...], ...]
    ignore_index: int | None = None

    def raters(self, image: int) -> list[int]:
        """Return the raters that are there: weight > 0, and not ignored at every voxel."""
        given = [rater for rater, weight in enumerate(self.weights[image]) if weight > 0 and self.votes.shape[2] > 0]
        return [rater for rater in given if self.ignore_index is None or bool((self.votes[image, rater] != self.ignore_index).any())]

    def speaks(self, image: int, rater: int) -> torch.Tensor | None:
        """Return where a rater says something, bool `(V,)`, or None for everywhere."""
        return None if self.ignore_index is None else self.votes[image, rater] != self.ignore_index

    def counted(self, image: int) -> torch.Tensor | None:
        """Return where any rater that is there says something, bool `(V,)`, or None for everywhere."""
        raters = self.raters(image)
        if raters and self.ignore_index is None:
            return None
        spoken = torch.zeros(self.votes.shape[2], dtype=torch.bool, device=self.votes.device)
        for rater in raters:
            spoken |= self.votes[image, rater] != self.ignore_index
        return spoken

    def marks(self, image: int, rater: int, channel: int) -> torch.Tensor:
        """Return what a rater put into a channel, bool `(V,)`, False where the rater says nothing."""
        return self.marks_of(image, rater, self.groups[channel])

    def marks_of(self, image: int, rater: int, group: Sequence[int]) -> torch.Tensor:
        """Return where a rater gave one of these values, bool `(V,)`, False where the rater says nothing."""
        values = [value for value in group if value != self.ignore_index]
        if not values:
            return torch.zeros(self.votes.shape[2:], dtype=torch.bool, device=self.votes.device)
        return region_members(self.votes[image, rater], values)

    def soft(self, image: int, channel: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the weighted share of the raters that speak, `(V,)` float64 (MPS: float32), and where any does (None: everywhere)."""
        wide = wide_dtype(self.votes.device)
        share = torch.zeros(self.votes.shape[2], dtype=wide, device=self.votes.device)
        spoken = torch.zeros_like(share)
        for rater in self.raters(image):
            weight = self.weights[image][rater]
            share.add_(self.marks(image, rater, channel).to(wide), alpha=weight)
            speaks = self.speaks(image, rater)
            spoken.add_(1.0 if speaks is None else speaks.to(wide), alpha=weight)
        counted = spoken > 0
        share = torch.where(counted, share / spoken, 0.0)
        return share, None if bool(counted.all()) else counted

    def check_equal_weights(self, what: str) -> None:
        """Refuse raters of different weights, for a score that has no weighted form.

        Args:
            what: the score, for the message.

        Raises:
            ValueError: two weights > 0 of an image differ.
        """
        for weights in self.weights:
            if len({weight for weight in weights if weight > 0}) > 1:
                expected = f"weights that are 0 or all alike for {what}"
                raise ValueError(error_sentence("rater_weights", expected, str(list(weights)), "leave them out, or pass 0 and 1"))


def read_metric_label(prob: torch.Tensor, label: Any, rule: LabelRule, rater_weights: Any = None) -> DenseLabel | RaterStack:
    """Check a label and a prediction against each other, and make the label readable by class.

    The prediction's values are checked here and not before, since the label says which voxels count: at an ignored one the prediction
    may be NaN, as far as it is not read.

    Args:
        prob: the prediction `(N, C, *S)` of :func:`read_prediction`.
        label: `(N, C, *S)`, or with votes `(N, R, *S)`.
        rule: how it is read.
        rater_weights: `(N, R)` or `(R,)`, finite, >= 0, 0 = missing; with votes only. None: 1 each.

    Raises:
        TypeError: no tensor.
        ValueError: shapes or devices that differ, values out of range, or rater weights without votes.
    """
    label = plain_tensor("y", label).detach()
    if label.device != prob.device:
        expected = f"a tensor on {prob.device}, where y_pred is"
        raise ValueError(error_sentence("y", expected, str(label.device), "move it there with .to(y_pred.device)"))
    if rule.votes:
        stack = read_votes(label, rule, prob.shape[1], rater_weights, like=prob)
        check_prediction_values(prob, stack)
        return stack
    if rater_weights is not None:
        raise ValueError(error_sentence("rater_weights", "None without votes", "weights", "pass votes=True and a rater stack"))
    if label.shape != prob.shape:
        fix = "make one channel for each class" if label.ndim == prob.ndim and label.shape[1] != prob.shape[1] else None
        raise ValueError(error_sentence("y", f"shape {tuple(prob.shape)}, the shape of y_pred", str(tuple(label.shape)), fix))
    rows = as_rows(label)
    ignored = held_value(rule.ignore_index, rows.dtype)
    if can_read_values(rows):
        checked = rows if ignored is None else rows.movedim(1, -1)[~(rows == ignored).all(1)]
        check_unit_range("y", checked, "divide votes by the number of raters, or pass votes=True for a rater stack")
    dense = DenseLabel(rows, ignored)
    check_prediction_values(prob, dense)
    return dense


def read_rater_stack(prob: torch.Tensor, votes: Any, rule: LabelRule, rater_weights: Any = None) -> RaterStack:
    """Check votes and a prediction against each other, for a score that needs raters.

    Args:
        prob: as in :func:`read_metric_label`.
        votes: `(N, R, *S)`.
        rule: with votes.
        rater_weights: as there.

    Raises:
        TypeError: as there.
        ValueError: as there, or a rule without votes.
    """
    stack = read_metric_label(prob, votes, rule, rater_weights)
    if not isinstance(stack, RaterStack):
        raise ValueError(error_sentence("rule", "votes=True", "a dense label", "pass label_rule(votes=True)"))
    return stack


def read_votes(
    votes: Any, rule: LabelRule, channels: int, rater_weights: Any = None, like: torch.Tensor | None = None, name: str = "y"
) -> RaterStack:
    """Check a rater stack.

    Args:
        votes: `(N, R, *S)`, whole numbers of any real dtype.
        rule: regions and the ignored value.
        channels: C, of the prediction.
        rater_weights: as in :func:`read_metric_label`.
        like: a prediction `(N, C, *S)` whose images and space the stack must have; None: nothing to compare.
        name: the argument's, for messages.

    Raises:
        TypeError: no tensor.
        ValueError: shapes that differ, no rater, values that are no class, or weights that are not R finite numbers >= 0.
    """
    stack = plain_tensor(name, votes).detach()
    if stack.ndim < 2 or stack.shape[1] == 0:
        raise ValueError(error_sentence(name, "votes (N, R, *S) of at least one rater", f"shape {tuple(stack.shape)}"))
    if like is not None and (stack.shape[0], stack.shape[2:]) != (like.shape[0], like.shape[2:]):
        expected = f"votes ({like.shape[0]}, R, {', '.join(map(str, like.shape[2:]))}), the images and space of y_pred"
        raise ValueError(error_sentence(name, expected, f"shape {tuple(stack.shape)}"))
    if rule.regions is not None and len(rule.regions) != channels:
        raise ValueError(error_sentence("regions", f"{channels} regions, one for each channel", str(len(rule.regions))))
    groups = rule.regions or (((1,),) if channels == 1 else tuple((c,) for c in range(channels)))
    rows = stack.reshape(*stack.shape[:2], math.prod(stack.shape[2:]))
    ignored = held_value(rule.ignore_index, rows.dtype)
    weights = _weights_of_images(rater_weights, stack.shape[0], stack.shape[1])
    if can_read_values(rows):
        _check_votes(name, rows, weights, groups if rule.regions is None and channels > 1 else None, ignored)
    return RaterStack(rows, weights, groups, ignored)


def held_value(ignore_index: int | None, dtype: torch.dtype) -> int | None:
    """Return the ignored value as a label of that dtype holds it, or None where it cannot.

    torch wraps a number that it compares with whole numbers of few bytes: uint8's 255 would equal -1, and its 44 equal 300.

    Args:
        ignore_index: the value; None stays None.
        dtype: the label's.

    Example:
        >>> held_value(-1, torch.uint8), held_value(300, torch.uint8), held_value(255, torch.uint8)
        (None, None, 255)
    """
    if ignore_index is None:
        return None
    if dtype is torch.bool:
        low, high = 0.0, 1.0
    else:
        span = torch.finfo(dtype) if dtype.is_floating_point else torch.iinfo(dtype)
        low, high = span.min, span.max
    return ignore_index_as(ignore_index, dtype) if low <= ignore_index <= high else None


def _weights_of_images(rater_weights: Any, images: int, raters: int) -> tuple[tuple[float, ...], ...]:
    if rater_weights is None:
        return ((1.0,) * raters,) * images
    weights = torch.as_tensor(rater_weights, device="cpu").detach().to("cpu", torch.float64)
    if weights.shape not in ((raters,), (images, raters)):
        expected = f"shape ({raters},) or ({images}, {raters}), one weight for each rater"
        raise ValueError(error_sentence("rater_weights", expected, str(tuple(weights.shape))))
    if not (weights.isfinite() & (weights >= 0)).all():
        raise ValueError(error_sentence("rater_weights", "finite numbers >= 0", str(weights.tolist())))
    return tuple(tuple(row) for row in weights.expand(images, raters).tolist())


def _check_votes(
    name: str,
    rows: torch.Tensor,
    weights: Sequence[Sequence[float]],
    groups: Sequence[tuple[int, ...]] | None,
    ignore_index: int | None,
) -> None:
    """Refuse fractions, and with classes (not regions) a value that is not a class."""
    for image, of_image in enumerate(weights):
        for rater, weight in enumerate(of_image):
            values = rows[image, rater]
            if weight == 0 or values.numel() == 0 or values.dtype is torch.bool:
                continue
            if values.is_floating_point() and not bool((values == values.round()).all()):
                fraction = values[values != values.round()][0].item()
                raise ValueError(error_sentence(name, "whole label values", f"{fraction:g}", "pass mode='nearest' for votes"))
            if groups is None:
                continue
            wrong = values < 0
            if values.is_floating_point() or len(groups) <= torch.iinfo(values.dtype).max:  # else it wraps, and no value is too large
                wrong |= values >= len(groups)
            wrong &= values != ignore_index if ignore_index is not None else True
            if bool(wrong.any()):
                got, expected = values[wrong][0].item(), f"label values from 0 to {len(groups) - 1}, the channels of y_pred"
                raise ValueError(error_sentence(name, expected, f"{got:g}", "pass `regions`, or `ignore_index`"))


def read_prediction(y_pred: Any, include_background: bool) -> torch.Tensor:
    """Check the shape of probabilities `(N, C, *S)` and return them plain and without a graph.

    Their values are checked with the label, by :func:`read_metric_label`.

    Args:
        y_pred: values in [0, 1]; bool and whole numbers are 0 and 1.
        include_background: False leaves channel 0 out.

    Raises:
        TypeError: no tensor.
        ValueError: fewer than two dimensions, or one channel without the background.
    """
    prob = plain_tensor("y_pred", y_pred).detach()
    if prob.ndim < 2:
        fix = "add the dimensions that are missing"
        raise ValueError(error_sentence("y_pred", "shape (N, C, *spatial)", str(tuple(prob.shape)), fix))
    check_background(include_background, prob.shape[1])
    return prob


def check_background(include_background: bool, channels: int) -> None:
    """Refuse to leave out the only channel.

    Args:
        include_background: False leaves channel 0 out.
        channels: C.

    Raises:
        ValueError: one channel without the background.
    """
    if not include_background and channels == 1:
        fix = "leave it out, since the one channel is the foreground"
        raise ValueError(error_sentence("include_background=False", "at least 2 channels", "1", fix))


def check_prediction_values(prob: torch.Tensor, label: DenseLabel | RaterStack) -> None:
    """Refuse predictions outside [0, 1] at counted voxels, NaN among them, unless values must not be read.

    Args:
        prob: `(N, C, *S)`.
        label: says which voxels count.

    Raises:
        ValueError: a value is out of range by more than rounding.
    """
    if not can_read_values(prob):
        return
    fix = "apply sigmoid or softmax to logits"
    try:
        check_unit_range("y_pred", prob, fix)  # one pass, which is all where nothing is wrong
    except ValueError:
        rows = as_rows(prob)
        masks = [label.counted(image) for image in range(len(rows))]
        if all(mask is None for mask in masks):
            raise
        counted = [values if mask is None else values[:, mask] for values, mask in zip(rows, masks, strict=True)]
        check_unit_range("y_pred", torch.cat(counted, 1), fix)


def check_unit_range(name: str, values: torch.Tensor, fix: str) -> None:
    """Refuse values outside [0, 1], NaN among them.

    Args:
        name: the argument's, for the message.
        values: any shape.
        fix: for the message.

    Raises:
        ValueError: a value is out of range by more than rounding.
    """
    if values.numel() == 0 or values.dtype is torch.bool:
        return
    low, high = (float(bound) for bound in torch.aminmax(values))
    # `not in range` rather than `out of range`: a comparison with NaN is False
    if not (low >= -RANGE_TOLERANCE and high <= 1 + RANGE_TOLERANCE):
        raise ValueError(error_sentence(name, "values in [0, 1]", f"{low:g} to {high:g}", fix))


def as_rows(values: torch.Tensor) -> torch.Tensor:
    """Return `(N, C, *S)` as floating point `(N, C, V)`."""
    values = values.reshape(*values.shape[:2], math.prod(values.shape[2:]))
    return values if values.is_floating_point() else values.to(torch.float32)


def wide_dtype(device: torch.device) -> torch.dtype:
    """Return the dtype of sums and scores: float64, except on Apple's MPS, which has none."""
    return torch.float32 if device.type == "mps" else torch.float64
