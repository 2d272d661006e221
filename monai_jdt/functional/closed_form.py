"""One step of a loss on a CPU: a fast kernel, and the loss with its slopes by the kernel's sums in closed form.

:mod:`monai_jdt.functional.loss_and_slopes` computes what :func:`monai_jdt.functional.overlap.combine` defines; tests hold the two
equal for every recipe. Where torch has to see the operations, and for sums that are added over ranks, `combine` itself is called.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from monai_jdt.checks import can_read_values, check_predictions
from monai_jdt.definitions import ActiveClasses, Backend, LossRecipe
from monai_jdt.functional.inputs import Inputs, voxel_sums
from monai_jdt.functional.loss_and_slopes import INTERPRETED_PAIRS, closed_form
from monai_jdt.functional.overlap import active_pairs, combine
from monai_jdt.kernels.operators import GradientOnce, KernelCall, opaque_gradient
from monai_jdt.kernels.rows import Row, named_sums, split_rows
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
        # before the number of pairs, which a tracer would take for a constant
        and not is_observed()
        and not has_many_pairs(inputs)
    )


def has_many_pairs(inputs: Inputs) -> bool:
    """Return whether there are so many pairs of image and class that torch's operations are faster than the closed form.

    Args:
        inputs: with a fast kernel of the CPU.
    """
    return inputs.kernel is not Backend.NUMBA and inputs.logits.shape[:2].numel() > INTERPRETED_PAIRS


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
    value, _ = _checked_value_and_slopes(call, inputs, recipe, overlap_weight)
    return value


class _ClosedForm(torch.autograd.Function):
    """The loss as a function of the logits."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> torch.Tensor:
        *tensors, inputs, recipe, weight = arguments
        call = KernelCall.of(inputs.kernel, inputs.voxels, *tensors)
        value, slopes = _checked_value_and_slopes(call, inputs, recipe, weight)
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
    call: KernelCall, inputs: Inputs, recipe: LossRecipe, weight: torch.Tensor | None
) -> tuple[torch.Tensor, np.ndarray]:
    sums = call.sums()
    rows = sums.numpy()
    # The kernel itself checks values while it sums. Only where it finds something is the full check worth its time.
    if rows[Row.MAY_FAIL_CHECK].any() and can_read_values(inputs.logits, inputs.label, inputs.mask, inputs.rater_weights):
        inputs.check_values()
        check_predictions(inputs.logits.detach(), inputs.counted, inputs.voxels)
    active = _active(rows, sums, recipe)
    weights = None if weight is None else weight.detach().numpy()
    value, slopes = closed_form(inputs.kernel, rows, active, weights, recipe, sums.dtype)
    return torch.scalar_tensor(value, dtype=sums.dtype, device="cpu"), slopes


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
