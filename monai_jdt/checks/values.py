"""Value checks: ranges, whole numbers, labels that sum to 1. Each does nothing where values must not be read."""

from __future__ import annotations

import logging
from functools import lru_cache

import torch

from monai_jdt.checks.shapes import largest_of
from monai_jdt.checks.switch import can_read_values
from monai_jdt.definitions import Activation, LabelForm, VoxelRecipe
from monai_jdt.validation import error_sentence

logger = logging.getLogger(__name__)

#: Values this far outside [0, 1] pass: averages and resampling round.
RANGE_TOLERANCE = 1e-3
#: Softmax labels may sum to 1 within this: a bfloat16 label of 4 classes is off by up to 4 * 2**-9 = 8e-3.
SUM_TOLERANCE = 1e-2


def check_mask_values(mask: torch.Tensor) -> None:
    """Check that a mask is 0 or 1 everywhere.

    Args:
        mask: any dtype.

    Raises:
        ValueError: another value.
    """
    if mask.dtype is torch.bool or not can_read_values(mask):
        return
    wrong = (mask != 0) & (mask != 1)
    if bool(wrong.any()):
        value = _first_wrong(mask, wrong)
        raise ValueError(
            error_sentence("mask", "bool, or 0 and 1 only (1 = counts)", f"{value:g}", "pass mask > 0.5; a mask is not a weight")
        )


def check_rater_weight_values(weights: torch.Tensor) -> None:
    """Check that rater weights are finite and not negative. Log once if all are 0.

    Args:
        weights: any shape.

    Raises:
        ValueError: a negative, infinite or NaN weight.
    """
    if weights.numel() == 0 or not can_read_values(weights):
        return
    wrong = ~((weights >= 0) & (weights < float("inf")))
    if bool(wrong.any()):
        raise ValueError(error_sentence("rater_weights", "finite numbers >= 0 (0 = missing)", f"{_first_wrong(weights, wrong):g}"))
    if not bool(weights.any()):
        _log_no_rater()


@lru_cache(maxsize=1)
def _log_no_rater() -> None:
    """Log once: a batch without raters is legal, but a training of such batches learns nothing."""
    logger.warning("rater_weights: every rater of a batch has weight 0 (is missing), so the loss ignores all of its images and is 0")


def check_teacher_values(teacher_logits: torch.Tensor, counted: torch.Tensor | None) -> None:
    """Check that a teacher's logits are finite on the voxels that count.

    Args:
        teacher_logits: `(N, C, *S)` or `(N, C)`.
        counted: bool, `(N, 1, *S)` or `(N, C, *S)`; None: all.

    Raises:
        ValueError: NaN or infinite logits.
    """
    if not can_read_values(teacher_logits, counted):
        return
    wrong = ~torch.isfinite(teacher_logits)
    if counted is not None:
        wrong = wrong & counted
    if bool(wrong.any()):
        got = f"{_first_wrong(teacher_logits, wrong):g} at {int(wrong.sum())} places"
        raise ValueError(error_sentence("teacher_logits", "finite logits", got, "check the teacher"))


def check_label_values(
    logits: torch.Tensor,
    label: torch.Tensor,
    mask: torch.Tensor | None,
    rater_weights: torch.Tensor | None,
    recipe: VoxelRecipe,
) -> None:
    """Check the values of a label on the voxels that count.

    Args:
        logits: `(N, C, *S)` or `(N, C)`.
        label: in the recipe's form.
        mask: which voxels count; None: all.
        rater_weights: for votes, `(N, R)` or `(R,)`; None: 1 each.
        recipe: the loss.

    Raises:
        ValueError: dense values outside [0, 1] or NaN, softmax labels that do not sum to 1, indices that are not whole or are
            not a class.
    """
    if label.numel() == 0 or not can_read_values(logits, label, mask, rater_weights):
        return
    if recipe.label.form is LabelForm.DENSE:
        _check_dense_values(label, mask, recipe)
    else:
        _check_class_values(logits.shape[1], label, mask, rater_weights, recipe)


def _check_dense_values(label: torch.Tensor, mask: torch.Tensor | None, recipe: VoxelRecipe) -> None:
    counted = None if mask is None else mask.to(torch.bool)
    if recipe.label.ignore_index is not None:
        labelled = ~_equals(label, recipe.label.ignore_index).all(1, keepdim=True)
        counted = labelled if counted is None else counted & labelled
    if label.dtype is not torch.bool:
        _check_range(label, counted, recipe)
    if recipe.activation is Activation.SOFTMAX:
        _check_total(label.sum(1, keepdim=True, dtype=torch.float32), counted)


def _check_total(total: torch.Tensor, counted: torch.Tensor | None) -> None:
    low, high = _extremes(total)
    if abs(low - 1) <= SUM_TOLERANCE and abs(high - 1) <= SUM_TOLERANCE:
        return
    wrong = (total - 1).abs() > SUM_TOLERANCE
    if counted is not None:
        wrong = wrong & counted
    if bool(wrong.any()):
        expected = f"softmax labels that sum to 1 over the channels (within {SUM_TOLERANCE:g})"
        fix = "add the background channel, or use sigmoid=True; for the maps of several raters pass votes=True"
        got = f"a sum of {_first_wrong(total, wrong):g} at {int(wrong.sum())} voxels"
        raise ValueError(error_sentence("target", expected, got, fix))


def _check_range(label: torch.Tensor, counted: torch.Tensor | None, recipe: VoxelRecipe) -> None:
    low, high = _extremes(label)
    if low >= -RANGE_TOLERANCE and high <= 1 + RANGE_TOLERANCE:
        return
    wrong = ~((label >= -RANGE_TOLERANCE) & (label <= 1 + RANGE_TOLERANCE))
    if counted is not None:
        wrong = wrong & counted
    if bool(wrong.any()):
        values = label[wrong]
        values = values.to(torch.promote_types(values.dtype, torch.float32))
        worst = values[(values.nan_to_num(float("inf")) - 0.5).abs().argmax()].item()
        fix = "divide a 0/255 mask by 255, apply a sigmoid or softmax to logits"
        if recipe.label.ignore_index is None:
            fix += ", or name the marker of unlabelled voxels by ignore_index or a mask"
        got = f"{worst:g} (and {values.numel() - 1} more values outside)"
        raise ValueError(error_sentence("target", "labels in [0, 1]", got, fix))


def _extremes(values: torch.Tensor) -> tuple[float, float]:
    """The smallest and the largest value, NaN if there is one: one pass without a copy, which most often answers a check."""
    low, high = torch.aminmax(values)
    return float(low), float(high)


def _equals(label: torch.Tensor, value: int) -> torch.Tensor:
    """`label == value` without the wrap-around that a narrow integer dtype gives to a value outside its range."""
    if not label.is_floating_point():
        if label.dtype is torch.bool:
            label = label.to(torch.uint8)
        info = torch.iinfo(label.dtype)
        if not info.min <= value <= info.max:
            return torch.zeros_like(label, dtype=torch.bool)
    return label == value


def _first_wrong(values: torch.Tensor, wrong: torch.Tensor) -> float:
    return values[wrong].flatten()[0].item()


def check_hard_values(logits: torch.Tensor, label: torch.Tensor, mask: torch.Tensor | None, recipe: VoxelRecipe) -> None:
    """Check that a dense label is 0 or 1 on the voxels that count.

    Args:
        logits: `(N, C, *S)` or `(N, C)`.
        label: in the recipe's form; class indices are hard anyway.
        mask: which voxels count; None: all.
        recipe: the loss.

    Raises:
        ValueError: values other than 0 and 1.
    """
    if recipe.label.form is not LabelForm.DENSE or not can_read_values(logits, label, mask):
        return
    wrong = (label != 0) & (label != 1)
    if recipe.label.ignore_index is not None:
        wrong = wrong & ~_equals(label, recipe.label.ignore_index).all(1, keepdim=True)
    if mask is not None:
        wrong = wrong & mask.to(torch.bool)
    if bool(wrong.any()):
        fix = "for soft labels use JaccardMetricLoss or DiceSemimetricLoss; this loss counts right and wrong voxels"
        raise ValueError(error_sentence("target", "a hard label, one-hot with 0 and 1 only", f"{_first_wrong(label, wrong):g}", fix))


def _check_class_values(
    channels: int, label: torch.Tensor, mask: torch.Tensor | None, rater_weights: torch.Tensor | None, recipe: VoxelRecipe
) -> None:
    votes = recipe.label.form is LabelForm.VOTES
    counted = torch.ones_like(label, dtype=torch.bool)
    if recipe.label.ignore_index is not None:
        counted &= ~_equals(label, recipe.label.ignore_index)
    if mask is not None:
        counted &= mask.to(torch.bool).any(1, keepdim=True)
    if rater_weights is not None:
        weights = rater_weights if rater_weights.ndim == 2 else rater_weights[None]
        counted &= (weights > 0).reshape(*weights.shape, *[1] * (label.ndim - 2))
    name = "votes" if votes else "class indices"
    if label.is_floating_point():
        wrong = (label != label.round()) & counted
        if bool(wrong.any()):
            fix = "leave votes=True out for a soft label" if votes else "leave to_onehot_y=True (or regions) out for a soft label"
            raise ValueError(error_sentence("target", f"{name}, whole numbers", f"{_first_wrong(label, wrong):g}", fix))
    if recipe.label.regions is not None:
        wrong, legal = (label < 0) & counted, ">= 0"
    else:
        last = max(channels - 1, 1)
        # A narrow integer dtype would wrap the number it is compared with: 128 is -128 in int8.
        beyond = label > last if label.is_floating_point() or last <= largest_of(label.dtype) else torch.zeros_like(counted)
        wrong, legal = ((label < 0) | beyond) & counted, f"0 to {last}"
    if bool(wrong.any()):
        value = _first_wrong(label, wrong)
        fix = f"name the marker of unlabelled voxels by ignore_index={value:.0f}, or map the values to regions"
        if value in (float("inf"), float("-inf")):
            fix = "check how the label was made"
        raise ValueError(error_sentence("target", f"{name} {legal}", f"{value:.0f} at {int(wrong.sum())} voxels", fix))


def check_non_negative(x: torch.Tensor, y: torch.Tensor) -> None:
    """Check that the vectors of a distance are not negative.

    Args:
        x: one side.
        y: the other.

    Raises:
        ValueError: a negative number.
    """
    for name, values in (("x", x), ("y", y)):
        if not can_read_values(values):
            continue
        wrong = values < 0
        if bool(wrong.any()):
            fix = "map signed vectors to the positive domain first, or pass negative='softplus' or 'sigmoid'"
            raise ValueError(error_sentence(name, "numbers >= 0", f"{_first_wrong(values, wrong):g}", fix))


def check_predictions(prob: torch.Tensor, counted: torch.Tensor | None, recipe: VoxelRecipe) -> None:
    """Check predictions that no sigmoid or softmax made, on the voxels that count.

    NaN passes: it makes the loss NaN, which says more than an error about a range would.

    Args:
        prob: `(N, C, *S)`.
        counted: bool, `(N, 1, *S)` or `(N, C, *S)`; None: all.
        recipe: the loss.

    Raises:
        ValueError: values outside [0, 1].
    """
    if recipe.activation in (Activation.SIGMOID, Activation.SOFTMAX) or prob.numel() == 0 or not can_read_values(prob, counted):
        return
    wrong = (prob < -RANGE_TOLERANCE) | (prob > 1 + RANGE_TOLERANCE)
    if counted is not None:
        wrong = wrong & counted.to(torch.bool)
    if bool(wrong.any()):
        name, fix = "input", "pass sigmoid=True or softmax=True for logits"
        if recipe.activation is Activation.OTHER:
            name, fix = "other_act(input)", "use an activation with values in [0, 1]; the overlap is not defined outside"
        raise ValueError(error_sentence(name, "probabilities in [0, 1]", f"{_first_wrong(prob, wrong):g}", fix))
