"""One step of a loss on a CPU: a fast kernel, and the loss with its slopes by the kernel's sums in closed form.

:func:`monai_jdt.functional.overlap.combine` is the definition of what follows on the sums: some forty operations of torch on (N, C),
and as many in backward. Each takes microseconds, whatever its size, and together they take longer than the kernel of a small input.
Here numpy computes the same on a few numbers, in float64, together with the slopes; tests hold the two equal for every recipe. Where
torch has to see the operations, and for sums that are added over ranks, `combine` itself is called.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from monai_jdt.checks import can_read_values, check_predictions
from monai_jdt.definitions import Activation, ActiveClasses, Backend, LossRecipe, PixelTerm, RatioRule
from monai_jdt.functional.inputs import Inputs, voxel_sums
from monai_jdt.functional.overlap import active_pairs, averages_of, combine
from monai_jdt.kernels.operators import GradientOnce, KernelCall, opaque_gradient
from monai_jdt.kernels.rows import DIFFERENTIABLE_ROWS, Row, named_sums, split_rows
from monai_jdt.plain_tensors import is_batched, is_observed

#: The tensors of a step, in the order in which a kernel takes them.
_TENSORS = ("logits", "label", "mask", "rater_weights", "class_weight")


def has_closed_form(inputs: Inputs, recipe: LossRecipe) -> bool:
    """Return whether :func:`closed_form_loss` can compute a loss.

    Args:
        inputs: prepared for `recipe.voxels`.
        recipe: which loss.
    """
    rule = recipe.averaging
    return (
        inputs.kernel is not Backend.EAGER
        and inputs.logits.device.type == "cpu"
        and rule.reduction == "mean"
        and not rule.sync
        and not is_observed()
    )


def closed_form_loss(inputs: Inputs, recipe: LossRecipe, overlap_weight: torch.Tensor | None) -> torch.Tensor:
    """Return the loss of tensors that have been checked.

    Args:
        inputs: prepared for `recipe.voxels`, with a fast kernel of the CPU.
        recipe: which loss, a mean that is not added over ranks.
        overlap_weight: `(C')` or `()`, multiplies the overlap loss of a class; None: 1.

    Returns:
        A scalar, float32, or float64 for float64 logits.

    Raises:
        ValueError: label values that do not fit, or predictions outside [0, 1], where values are checked.
    """
    tensors = (inputs.logits, inputs.label, inputs.mask, inputs.rater_weights, inputs.class_weight)
    if torch.is_grad_enabled() and inputs.logits.requires_grad:
        return _ClosedForm.apply(*tensors, inputs, recipe, overlap_weight)
    call = KernelCall.of(inputs.kernel, inputs.voxels, *tensors)
    value, _ = _checked_value_and_slopes(call, inputs, recipe, overlap_weight, sloped=False)
    return value


class _ClosedForm(torch.autograd.Function):
    """The loss as a function of the logits."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> torch.Tensor:
        *tensors, inputs, recipe, weight = arguments
        call = KernelCall.of(inputs.kernel, inputs.voxels, *tensors)
        value, slopes = _checked_value_and_slopes(call, inputs, recipe, weight, sloped=True)
        assert slopes is not None
        ctx.save_for_backward(*tensors, torch.from_numpy(slopes))
        # without tensors, which would live on when autograd has freed what it saved
        bare = inputs._replace(teacher_logits=None, **dict.fromkeys(_TENSORS))
        ctx.rest = (bare, recipe, weight)
        return value

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        inputs, recipe, weight = ctx.rest
        *tensors, slopes = ctx.saved_tensors
        dtype = torch.promote_types(tensors[0].dtype, torch.float32)
        if is_batched(upstream):
            # the loss is one number, so that all gradients are multiples of one
            one = KernelCall.of(inputs.kernel, inputs.voxels, *tensors).gradient(slopes.to(dtype))
            gradient = (upstream * one).to(tensors[0].dtype)
        elif is_observed():
            gradient = opaque_gradient((slopes * upstream).to(dtype), tensors, inputs.kernel, inputs.voxels)
        elif not torch.is_grad_enabled():
            call = KernelCall.of(inputs.kernel, inputs.voxels, *tensors)
            gradient = call.gradient(_slopes_times(slopes, upstream, dtype))
        elif not inputs.automatic:
            gradient = GradientOnce.apply(_slopes_times(slopes, upstream, dtype), *tensors, inputs.kernel, inputs.voxels)
        else:
            # By an alias: what is hooked to the logits themselves must run once, after this function.
            logits, *others = tensors
            alias = logits.view_as(logits)
            inputs = inputs._replace(kernel=Backend.EAGER, **dict(zip(_TENSORS, (alias, *others), strict=True)))
            loss = combine([(1.0, voxel_sums(inputs), recipe)], weight)
            (gradient,) = torch.autograd.grad(loss, alias, upstream, create_graph=True)
        return (gradient, *[None] * 7)


def _slopes_times(slopes: torch.Tensor, upstream: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    # A gradient scaler's factor may take a slope beyond float32, which is for the scaler to see.
    with np.errstate(over="ignore", invalid="ignore"):
        return torch.from_numpy(
            (slopes.detach().numpy() * upstream.item()).astype(np.float64 if dtype is torch.float64 else np.float32)
        )


def _checked_value_and_slopes(
    call: KernelCall, inputs: Inputs, recipe: LossRecipe, weight: torch.Tensor | None, *, sloped: bool
) -> tuple[torch.Tensor, np.ndarray | None]:
    sums = call.sums()
    rows = sums.numpy().astype(np.float64)
    # The kernel itself checks values while it sums. Only where it finds something is the full check worth its time.
    if rows[Row.MAY_FAIL_CHECK].any() and can_read_values(inputs.logits, inputs.label, inputs.mask, inputs.rater_weights):
        inputs.check_values()
        check_predictions(inputs.logits.detach(), inputs.counted, inputs.voxels)
    active = _active(rows, sums, recipe)
    value, slopes = _value_and_slopes(rows, active, recipe, None if weight is None else weight.detach().numpy(), sums.dtype, sloped)
    return torch.tensor(value, dtype=sums.dtype, device="cpu"), slopes


def _active(rows: np.ndarray, sums: torch.Tensor, recipe: LossRecipe) -> np.ndarray:
    """Return :func:`monai_jdt.functional.overlap.active_pairs` of a kernel's sums."""
    first, classes = recipe.voxels.first_channel, recipe.averaging.classes
    has_voxels = rows[Row.COUNTED, :, first:] > 0
    if classes is ActiveClasses.ALL:
        return has_voxels
    if classes is ActiveClasses.LABEL:
        return has_voxels & (rows[Row.IN_LABEL, :, first:] > 0)
    parts, _ = named_sums(split_rows(sums, recipe.voxels), recipe.voxels)
    return active_pairs(parts, recipe.averaging, first).numpy()


def _value_and_slopes(
    rows: np.ndarray, active: np.ndarray, recipe: LossRecipe, weight: np.ndarray | None, dtype: torch.dtype, sloped: bool
) -> tuple[float, np.ndarray | None]:
    """Return the loss, and its slopes by the differentiable rows, `(4, N, C)`.

    Args:
        rows: of a kernel, `(9, N, C)`.
        active: which pairs take part, `(N, C')` or, pooled, `(N, 1)`.
        recipe: which loss.
        weight: of the classes in the overlap, `(C')` or `()`.
        dtype: of the sums.
        sloped: False leaves the slopes out.
    """
    slopes = np.zeros((DIFFERENTIABLE_ROWS, *rows.shape[1:])) if sloped else None
    value = 0.0
    rule = recipe.voxels.pixel
    with np.errstate(all="ignore"):
        if rule is not None:
            term = rows[Row.PIXEL]
            if rule.term is PixelTerm.DIVERGENCE:
                term = np.maximum(term, 0)  # what rounding has left below
            norm = float(np.add.reduce(rows[Row.PIXEL_NORM], None))
            share = recipe.lambda_pixel / (norm if norm > 0 else 1.0)
            value = share * float(np.add.reduce(term, None))
            if slopes is not None:
                # with softmax, the sum of all channels is in the first
                slopes[Row.PIXEL, :, : 1 if recipe.voxels.activation is Activation.SOFTMAX else None] = share
        if rule is None or recipe.lambda_jdt != 0:
            tiny = float(torch.finfo(dtype).tiny)
            first = recipe.voxels.first_channel
            of_overlap, by_sum = _averaged_overlap(rows[: Row.PIXEL, :, first:], active, recipe, weight, tiny)
            value += recipe.lambda_jdt * of_overlap
            if slopes is not None:
                np.multiply(by_sum, recipe.lambda_jdt, out=slopes[: Row.PIXEL, :, first:])
    return value, slopes


def _averaged_overlap(
    sums: np.ndarray, active: np.ndarray, recipe: LossRecipe, weight: np.ndarray | None, tiny: float
) -> tuple[float, np.ndarray]:
    """Return the average of the overlap losses, and its slopes by tp, fp and fn, `(3, N or 1, C' or 1)`."""
    if recipe.averaging.classes is ActiveClasses.POOLED:
        sums = np.add.reduce(sums, 2, keepdims=True)
    value, slopes = 0.0, np.zeros(())
    for name, share in averages_of(recipe.averaging):
        in_average, counts = sums, active
        if name == "dataset":
            in_average, counts = np.add.reduce(sums, 1, keepdims=True), np.logical_or.reduce(active, 0, keepdims=True)
        loss, by_sum = _ratio(in_average, counts, recipe.ratio, weight, tiny)
        shares = share * _shares(name, counts)
        value += float(np.add.reduce(loss * shares, None))
        slopes = slopes + by_sum * shares
    return value, slopes


def _shares(name: str, active: np.ndarray) -> np.ndarray | float:
    """Return what the loss of each active pair is multiplied by in an average. The loss of the others is 0."""
    if name in ("dataset", "pair"):
        return 1.0 / max(int(np.count_nonzero(active)), 1)
    found = active.sum(0 if name == "class" else 1, keepdims=True)
    return 1.0 / (np.maximum(found, 1) * max(int(np.count_nonzero(found)), 1))


def _ratio(
    sums: np.ndarray, active: np.ndarray, rule: RatioRule, weight: np.ndarray | None, tiny: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return :func:`monai_jdt.functional.overlap.ratio_loss` times the class weight, and its slopes.

    Both are 0 where a pair is inactive.

    With M the cost and D everything, `d (M / D) = ((tp + nr) (a dfp + b dfn) - M dtp) / D^2`.

    Args:
        sums: tp, fp and fn, `(3, ...)`.
        active: which pairs count.
        rule: the constants.
        weight: of the classes.
        tiny: the smallest normal number of the loss's dtype. A logarithm's argument is at least that.
    """
    scale = 0.5 if rule.smooths_double else 1.0
    nr, dr = scale * rule.smooth_nr, scale * rule.smooth_dr
    tp, fp, fn = sums
    cost = rule.alpha * fp + rule.beta * fn
    everything = tp + cost + dr
    if dr <= tiny:
        active = active & (everything != 0)
        # one over it would be infinite in the dtype of the loss
        steepest = np.where(everything < tiny / 4, 0.0, 1.0)
    else:
        steepest = np.ones(())
    loss, score = (cost + (dr - nr)) / everything, (tp + nr) / everything
    steepness = steepest / everything
    chained = loss
    if rule.log_loss:
        floor = np.maximum(score, tiny)
        # Each half is computed where it is exact.
        chained = np.where(loss > 0.5, -np.log(floor), -np.log1p(-np.minimum(loss, 0.5)))
        steepness = np.where(score >= tiny, steepness / floor, 0.0)
    if rule.gamma != 1:
        best = chained == 0
        steepness = np.where(best, 0.0, steepness * rule.gamma * np.where(best, 1.0, chained) ** (rule.gamma - 1))
        chained = chained**rule.gamma
    if weight is not None:
        chained, steepness = chained * weight, steepness * weight
    if not active.all():
        chained, steepness = np.where(active, chained, 0.0), np.where(active, steepness, 0.0)
        loss, score = np.where(active, loss, 0.0), np.where(active, score, 0.0)
    by_error = score * steepness
    return chained, np.stack((-loss * steepness, rule.alpha * by_error, rule.beta * by_error))
