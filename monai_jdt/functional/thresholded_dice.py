"""The Dice score of two probability maps, averaged over the thresholds at which both are cut."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch

from monai_jdt.functional.metric_labels import (
    DENSE,
    DenseLabel,
    LabelRule,
    RaterStack,
    as_rows,
    read_metric_label,
    read_prediction,
    wide_dtype,
)
from monai_jdt.functional.undefined import mean_of_defined
from monai_jdt.validation import check_bool, check_choice, check_number, check_sequence, error_sentence


class ThresholdComparison(Enum):
    """Which voxels a threshold marks: those above it, or those at it as well."""

    ABOVE = ">"
    AT_LEAST = ">="


class BothEmpty(Enum):
    """The Dice score at a threshold at which neither map has a voxel: 1, 0, or undefined and left out of the mean."""

    ONE = "one"
    ZERO = "zero"
    UNDEFINED = "undefined"


@dataclass(frozen=True)
class ThresholdRule:
    """How two probability maps are cut and compared. :func:`threshold_rule` makes one from plain arguments.

    Args:
        thresholds: different numbers; in [0, 1) for `ABOVE`, in (0, 1] for `AT_LEAST`: any other would mark nothing or everything.
        comparison: whether a voxel at the threshold is marked.
        both_empty: the score where neither map has a marked voxel.

    Raises:
        TypeError: a threshold that is no number.
        ValueError: no threshold, one out of range, or one twice.
    """

    thresholds: tuple[float, ...]
    comparison: ThresholdComparison = ThresholdComparison.ABOVE
    both_empty: BothEmpty = BothEmpty.UNDEFINED

    def __post_init__(self) -> None:
        above = self.comparison is ThresholdComparison.ABOVE
        for threshold in self.thresholds:
            check_number("thresholds", threshold, 0, high=1)
            if threshold == (1 if above else 0):
                what, other = ("nothing", "'>='") if above else ("everything", "'>'")
                expected = f"numbers in {'[0, 1)' if above else '(0, 1]'} for comparison {self.comparison.value!r}"
                got, fix = f"{threshold:g}, which marks {what}", f"leave it out, or pass comparison={other}"
                raise ValueError(error_sentence("thresholds", expected, got, fix))
        if not self.thresholds or len(set(self.thresholds)) < len(self.thresholds):
            raise ValueError(error_sentence("thresholds", "at least one number, each once", str(list(self.thresholds))))


#: The thresholds of published evaluations. All of them mark what is above a threshold, and call two empty maps a perfect match:
#: CURVAS-PDACVI by a rule of its own, the two others by adding a small number to numerator and denominator.
THRESHOLD_PRESETS = {
    # The QUBIQ challenge (MICCAI 2020, 2021), as its participants' code has it.
    "qubiq": ThresholdRule((0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9), both_empty=BothEmpty.ONE),
    # Ji et al., Learning calibrated medical image segmentation via multi-rater agreement modeling, CVPR 2021.
    "mrnet": ThresholdRule((0.1, 0.3, 0.5, 0.7, 0.9), both_empty=BothEmpty.ONE),
    # The CURVAS-PDACVI challenge (MICCAI 2025), whose code has linspace(0.1, 0.8, 6).
    "curvas-pdacvi": ThresholdRule((0.1, 0.24, 0.38, 0.52, 0.66, 0.8), both_empty=BothEmpty.ONE),
}


def threshold_rule(
    thresholds: str | Iterable[float] = "qubiq",
    comparison: str | ThresholdComparison | None = None,
    both_empty: str | BothEmpty | None = None,
) -> ThresholdRule:
    """The rule that a metric's arguments describe.

    Args:
        thresholds: a name in `THRESHOLD_PRESETS`, or numbers.
        comparison: ">" or ">="; None: that of the preset, ">" for numbers.
        both_empty: "one", "zero" or "undefined"; None: that of the preset ("one" in all of them), "undefined" for numbers.

    Raises:
        TypeError: thresholds that are neither a name nor numbers.
        ValueError: an unknown name, or thresholds that :class:`ThresholdRule` refuses.

    Example:
        >>> threshold_rule("mrnet", both_empty="zero").thresholds
        (0.1, 0.3, 0.5, 0.7, 0.9)
    """
    numbers: tuple[float, ...]
    default_comparison, default_empty = ThresholdComparison.ABOVE, BothEmpty.UNDEFINED
    if isinstance(thresholds, str):
        if thresholds not in THRESHOLD_PRESETS:
            raise ValueError(error_sentence("thresholds", f"one of {sorted(THRESHOLD_PRESETS)} or numbers", repr(thresholds)))
        preset = THRESHOLD_PRESETS[thresholds]
        numbers, default_comparison, default_empty = preset.thresholds, preset.comparison, preset.both_empty
    else:
        given = check_sequence("thresholds", thresholds, "a name or a sequence of numbers")
        numbers = tuple(check_number("thresholds", number, 0, high=1) for number in given)
    return ThresholdRule(
        numbers,
        default_comparison if comparison is None else check_choice("comparison", comparison, ThresholdComparison),
        default_empty if both_empty is None else check_choice("both_empty", both_empty, BothEmpty),
    )


def thresholded_dice(
    y_pred: Any,
    y: Any,
    rule: ThresholdRule = THRESHOLD_PRESETS["qubiq"],
    reading: LabelRule = DENSE,
    *,
    rater_weights: Any = None,
    include_background: bool = True,
) -> torch.Tensor:
    r"""The mean over thresholds t of the Dice score of two maps cut at t: :math:`\frac1T \sum_t \mathrm{Dice}(p > t,\ m > t)`.

    With :math:`P_t, M_t` the voxels of one image and class that the comparison marks,
    :math:`\mathrm{Dice} = 2 |P_t \cap M_t| / (|P_t| + |M_t|)`. Voxels are counted in int64 and divided in float64 (on Apple's
    MPS, which has no float64, in float32).

    Each map is compared with the threshold *rounded to the map's own dtype*. So 3 of 10 raters, .3 in any floating point dtype, are
    at the threshold .3 and not above it, although .3 in float32 is a little more than .3 in float64. This holds for labels that are
    correctly rounded quotients, which `FuseRatersd`, a mean of 0 and 1, and votes without weights are; a label that was computed in
    another dtype than the one it comes in may fall on either side of a threshold that it meets exactly.

    Args:
        y_pred: probabilities p, `(N, C, *S)` or `(N, C)`, in [0, 1]; bool and whole numbers are taken as 0 and 1.
        y: the soft label m, such as the mean of the raters, of the same shape; with `reading.votes` a rater stack `(N, R, *S)`, whose
            weighted mean is the label.
        rule: thresholds, comparison, and the score where both are empty.
        reading: how the label is read. Ignored voxels are in neither map.
        rater_weights: for votes: `(N, R)` or `(R,)`, 0 = missing; None: 1 each.
        include_background: False leaves channel 0 out.

    Returns:
        `(N, C)`, or `(N, C - 1)` without the background; float64 (MPS: float32) in [0, 1]. NaN (undefined) where both maps are empty at
        every threshold and the rule says `BothEmpty.UNDEFINED`, and where all voxels are ignored. An image without voxels is empty in
        both.

    Raises:
        TypeError: no tensors, or complex numbers.
        ValueError: shapes or devices that differ, one channel without the background, votes that are no class, or values outside
            [0, 1] (NaN among them). Values are read where `monai_jdt.value_checks` allows it; elsewhere a NaN is a voxel that is not
            marked.

    References:
        The QUBIQ challenge (quantification of uncertainties in biomedical image quantification), https://qubiq.grand-challenge.org.

    Example:
        >>> p = torch.tensor([[[0.9, 0.6, 0.2, 0.0]]])
        >>> m = torch.tensor([[[1.0, 0.4, 0.4, 0.0]]])
        >>> # above .1: 3 voxels in both, Dice 1; above .5: {0, 1} and {0}, 2/3; above .8: {0} in both, 1
        >>> thresholded_dice(p, m, threshold_rule([0.1, 0.5, 0.8]))
        tensor([[0.8889]], dtype=torch.float64)
    """
    prob = read_prediction(y_pred, check_bool("include_background", include_background))
    label, first = read_metric_label(prob, y, reading, rater_weights), 0 if include_background else 1
    rows = as_rows(prob)[:, first:]
    if isinstance(label, DenseLabel) and label.ignore_index is None:
        both, size = _count_marked(rows, label.values[:, first:], rule)
    else:
        both, size = _count_by_class(rows, label, first, rule)
    dice = (2 * both).to(wide_dtype(size.device)) / size
    dice = torch.where(size > 0, dice, _EMPTY_SCORE[rule.both_empty])
    return torch.where(_is_ignored(label, rows), math.nan, mean_of_defined(dice, 0))


#: Voxels compared at once.
_BLOCK = 1 << 16

_EMPTY_SCORE = {BothEmpty.ONE: 1.0, BothEmpty.ZERO: 0.0, BothEmpty.UNDEFINED: math.nan}


def _is_ignored(label: DenseLabel | RaterStack, rows: torch.Tensor) -> torch.Tensor:
    """Return which images have voxels of which none counts, bool `(N, 1)`: their maps were not compared, and are not two empty ones."""
    masks = [label.counted(image) if rows.shape[2] > 0 else None for image in range(len(rows))]
    return torch.tensor([[mask is not None and not bool(mask.any())] for mask in masks], device=rows.device).reshape(-1, 1).bool()


def _count_by_class(
    rows: torch.Tensor, label: DenseLabel | RaterStack, first: int, rule: ThresholdRule
) -> tuple[torch.Tensor, torch.Tensor]:
    """Count as :func:`_count_marked`, one image and class at a time, and no ignored voxel."""
    both = torch.zeros(len(rule.thresholds), *rows.shape[:2], dtype=torch.int64, device=rows.device)
    size = torch.zeros_like(both)
    for image in range(rows.shape[0]):
        for channel in range(rows.shape[1]):
            if isinstance(label, DenseLabel):  # in its own dtype, to which thresholds are rounded
                m, counted = label.values[image, first + channel], label.counted(image)
            else:
                m, counted = label.soft(image, first + channel)
            p = rows[image, channel]
            if counted is not None:
                p, m = p[counted], m[counted]
            of_class = _count_marked(p[None, None], m[None, None], rule)
            both[:, image, channel], size[:, image, channel] = (count[:, 0, 0] for count in of_class)
    return both, size


def _count_marked(prob: torch.Tensor, label: torch.Tensor, rule: ThresholdRule) -> tuple[torch.Tensor, torch.Tensor]:
    """For each threshold, image and class, `(T, N, C)` int64: the voxels marked in both maps, and those of each map added up."""
    both = torch.zeros(len(rule.thresholds), *prob.shape[:2], dtype=torch.int64, device=prob.device)
    size = torch.zeros_like(both)
    # every threshold reads the same voxels, which on a CPU should still be in its cache
    voxels = max(_BLOCK // max(prob.shape[0] * prob.shape[1], 1), 1) if prob.device.type == "cpu" else max(prob.shape[2], 1)
    for p, m in zip(prob.split(voxels, -1), label.split(voxels, -1), strict=True):
        for row, threshold in enumerate(rule.thresholds):
            marked, in_label = _cut(p, threshold, rule.comparison), _cut(m, threshold, rule.comparison)
            both[row] += torch.count_nonzero(marked & in_label, -1)
            size[row] += torch.count_nonzero(marked, -1) + torch.count_nonzero(in_label, -1)
    return both, size


def _cut(values: torch.Tensor, threshold: float, comparison: ThresholdComparison) -> torch.Tensor:
    rounded = torch.tensor(threshold, dtype=values.dtype, device=values.device)
    return values > rounded if comparison is ThresholdComparison.ABOVE else values >= rounded
