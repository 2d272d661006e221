"""Frozen records of the arguments of a loss, which refuse contradictions when they are built.

A loss class turns its arguments, MONAI's flags among them, into one :class:`LossRecipe`. Nothing further down sees a flag.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from monai_jdt.definitions.enums import Activation, ActiveClasses, LabelForm, PixelTerm
from monai_jdt.validation import check_bool, check_int, check_name, check_number, error_sentence

#: What `reduction` may be.
REDUCTIONS = ("mean", "sum", "none")


def _store(record: object, **values: object) -> None:
    """Replace fields of a frozen record by what the checks returned: Python's numbers, where numpy's or fractions were given."""
    for name, value in values.items():
        object.__setattr__(record, name, value)


@dataclass(frozen=True)
class LabelReading:
    """How a kernel reads a label.

    Args:
        form: dense, index or votes.
        regions: for index and votes, the label values of each channel; None means channel c is value c.
        ignore_index: the value of voxels (or, for votes, of single answers) that say nothing.
        smoothing: e of label smoothing, in [0, 1].
    """

    form: LabelForm = LabelForm.DENSE
    regions: tuple[tuple[int, ...], ...] | None = None
    ignore_index: int | None = None
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        _store(self, smoothing=check_number("label_smoothing", self.smoothing, 0, high=1))
        if self.regions is not None and self.form is LabelForm.DENSE:
            fix = "pass class indices or votes, of which regions are made"
            raise ValueError(error_sentence("regions", "None with a dense label", f"{[list(r) for r in self.regions]}", fix))
        if self.ignore_index is not None:
            _store(self, ignore_index=check_int("ignore_index", self.ignore_index))
            if not -(2**63) <= self.ignore_index < 2**63:
                raise ValueError(error_sentence("ignore_index", "a value of int64", str(self.ignore_index)))
            if self.form is LabelForm.DENSE and 0 <= self.ignore_index <= 1:
                expected = "a value outside [0, 1] with a dense label, in which 0 and 1 are legal values"
                fix = "write -1 or 255 into all channels of an ignored voxel, or pass a mask, or class indices with to_onehot_y=True"
                raise ValueError(error_sentence("ignore_index", expected, str(self.ignore_index), fix))
            if any(self.ignore_index in region for region in self.regions or ()):
                fix = "leave ignore_index out, or take that value out of the regions"
                expected = "a value that is in no region, since a voxel cannot be ignored and belong to one"
                raise ValueError(error_sentence("ignore_index", expected, str(self.ignore_index), fix))


@dataclass(frozen=True)
class PixelRule:
    """The voxel-wise term of a compound loss.

    Args:
        term: cross-entropy, focal or divergence.
        focal_gamma: exponent of |p - t| in the focal term, >= 1.
        focal_alpha: weight of the foreground in the focal term, in [0, 1]; None: 1 everywhere.
    """

    term: PixelTerm
    focal_gamma: float = 2.0
    focal_alpha: float | None = None

    def __post_init__(self) -> None:
        _store(self, focal_gamma=check_number("focal_gamma", self.focal_gamma, 1))
        if self.focal_alpha is not None:
            _store(self, focal_alpha=check_number("focal_alpha", self.focal_alpha, 0, high=1))


@dataclass(frozen=True)
class VoxelRecipe:
    """All that the one step over voxels has to know (see `monai_jdt.kernels`).

    Args:
        activation: how logits become predictions.
        other_act: the callable of `Activation.OTHER`.
        label: how the label is read.
        include_background: False leaves channel 0 out of the overlap sums (never out of the pixel term).
        norm: 1 or 2, the power in the overlap sums.
        threshold: a class is in a label or a prediction if its largest value there is above it.
        pixel: the pixel term, or None.
    """

    activation: Activation = Activation.NONE
    other_act: Callable[[torch.Tensor], torch.Tensor] | None = None
    label: LabelReading = LabelReading()
    include_background: bool = True
    norm: int = 1
    threshold: float = 0.01
    pixel: PixelRule | None = None

    def __post_init__(self) -> None:
        if (self.activation is Activation.OTHER) != (self.other_act is not None):
            got = f"{self.other_act!r} with {self.activation}"
            raise ValueError(error_sentence("other_act", "a callable with Activation.OTHER, else None", got))
        check_bool("include_background", self.include_background)
        if self.norm not in (1, 2) or isinstance(self.norm, bool):
            raise ValueError(error_sentence("norm", "1 or 2", repr(self.norm)))
        _store(self, norm=int(self.norm), threshold=check_number("threshold", self.threshold, 0))
        if self.label.regions is not None and self.activation is Activation.SOFTMAX:
            fix = "pass sigmoid=True: regions may overlap"
            raise ValueError(error_sentence("regions", "None with softmax=True", f"{[list(r) for r in self.label.regions]}", fix))
        normalised = self.activation in (Activation.SIGMOID, Activation.SOFTMAX)
        if self.label.smoothing > 0 and not normalised:
            fix = "pass sigmoid=True or softmax=True, which say where the mass goes"
            raise ValueError(error_sentence("label_smoothing", "0 without sigmoid or softmax", f"{self.label.smoothing:g}", fix))
        if self.pixel is not None and not normalised:
            fix = "pass logits, with softmax=True for cross-entropy over the classes, or sigmoid=True for binary cross-entropy"
            raise ValueError(error_sentence("sigmoid, softmax", "one of them True in a compound loss", "neither", fix))

    @property
    def first_channel(self) -> int:
        """The first channel of the overlap sums."""
        return 0 if self.include_background else 1


@dataclass(frozen=True)
class RatioRule:
    """From overlap sums to a loss per pair.

    `l = (a fp + b fn + dr - nr) / (tp + a fp + b fn + dr)`, then `-log(1 - l)`, then `** gamma`.

    Args:
        alpha: a, the cost of false positives, >= 0.
        beta: b, the cost of false negatives, >= 0; not both 0.
        gamma: exponent, > 0.
        log_loss: take `-log(1 - l)`.
        smooth_nr: nr, in [0, dr].
        smooth_dr: dr, >= 0.
        smooths_double: nr and dr belong to `2 tp`, as in MONAI's DiceLoss, so that half of each is used.
    """

    alpha: float = 1.0
    beta: float = 1.0
    gamma: float = 1.0
    log_loss: bool = False
    smooth_nr: float = 1e-5
    smooth_dr: float = 1e-5
    smooths_double: bool = False

    def __post_init__(self) -> None:
        _store(self, alpha=check_number("alpha", self.alpha, 0), beta=check_number("beta", self.beta, 0))
        if self.alpha == 0 and self.beta == 0:
            raise ValueError(error_sentence("alpha, beta", "at least one > 0", "0 and 0, with which no error costs anything"))
        _store(self, gamma=check_number("gamma", self.gamma, 0, strict=True))
        check_bool("log_loss", self.log_loss)
        _store(self, smooth_nr=check_number("smooth_nr", self.smooth_nr, 0), smooth_dr=check_number("smooth_dr", self.smooth_dr, 0))
        if self.smooth_nr > self.smooth_dr:
            got = f"{self.smooth_nr:g}, with which the loss falls below 0"
            raise ValueError(error_sentence("smooth_nr", f"at most smooth_dr = {self.smooth_dr:g}", got))


@dataclass(frozen=True)
class AveragingRule:
    """From a loss per pair to what the caller gets.

    Args:
        average: weights of the data set, image and class averages; None: the mean over active pairs.
        classes: which pairs are active.
        listed: the channel numbers of `ActiveClasses.LISTED`.
        batch: sums are added over the batch first.
        reduction: "mean", "sum" or "none".
        sync: sums are added over ranks of torch.distributed.
        group: the name of the process group whose ranks `sync` adds; "": all.
    """

    average: tuple[tuple[str, float], ...] | None = None
    classes: ActiveClasses = ActiveClasses.ALL
    listed: tuple[int, ...] = ()
    batch: bool = False
    reduction: str = "mean"
    sync: bool = False
    group: str = ""

    def __post_init__(self) -> None:
        check_name("reduction", self.reduction, REDUCTIONS)
        check_bool("batch", self.batch)
        check_bool("sync", self.sync)
        if self.group and not self.sync:
            raise ValueError(error_sentence("group", "sync=True, which sums over the group", "sync=False", "pass sync=True as well"))
        if self.average is not None:
            if self.batch:
                fix = "leave batch out: the average says what is summed first"
                raise ValueError(error_sentence("average", "None with batch=True", f"{dict(self.average)}", fix))
            if self.reduction != "mean":
                raise ValueError(error_sentence("average", f"None with reduction={self.reduction!r}", f"{dict(self.average)}"))
            if self.classes is ActiveClasses.POOLED and any(name == "class" for name, _ in self.average):
                expected = "no 'class' part with classes='pooled', which leaves one class only"
                raise ValueError(error_sentence("average", expected, f"{dict(self.average)}"))
        if self.sync and self.reduction != "mean":
            expected = f"False with reduction={self.reduction!r}, which has no one value over ranks"
            raise ValueError(error_sentence("sync", expected, "True"))

    @property
    def sync_group(self) -> str | None:
        """The name of the group whose sums are added, or None without `sync`."""
        return self.group if self.sync else None


@dataclass(frozen=True)
class LossRecipe:
    """A whole loss: `lambda_jdt * overlap + lambda_pixel * pixel`.

    Args:
        voxels: the step over voxels.
        ratio: sums to a loss per pair.
        averaging: pairs to the result.
        lambda_jdt: weight of the overlap term, >= 0.
        lambda_pixel: weight of the pixel term, >= 0.
        spatial_ones: `reduction="none"` keeps one 1 for each spatial dimension, as MONAI's DiceLoss does.
    """

    voxels: VoxelRecipe = VoxelRecipe()
    ratio: RatioRule = RatioRule()
    averaging: AveragingRule = AveragingRule()
    lambda_jdt: float = 1.0
    lambda_pixel: float = 0.0
    spatial_ones: bool = False

    def __post_init__(self) -> None:
        if self.voxels.norm == 2 and self.ratio.alpha != self.ratio.beta:
            got = f"alpha={self.ratio.alpha:g}, beta={self.ratio.beta:g}"
            fix = "use norm=1: squared sums of false positives and of false negatives can each be negative"
            raise ValueError(error_sentence("norm", "alpha = beta with norm=2", got, fix))
        _store(self, lambda_jdt=check_number("lambda_jdt", self.lambda_jdt, 0))
        focal = self.voxels.pixel is not None and self.voxels.pixel.term is PixelTerm.FOCAL
        _store(self, lambda_pixel=check_number("lambda_focal" if focal else "lambda_ce", self.lambda_pixel, 0))
        if self.voxels.pixel is not None and self.averaging.reduction == "none":
            expected = "'mean' or 'sum' in a compound loss, whose terms have different shapes"
            raise ValueError(error_sentence("reduction", expected, "'none'"))
