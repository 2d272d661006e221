"""One step of a loss: a fast kernel, and the loss with its slopes by the kernel's sums in closed form.

:mod:`monai_jdt.functional.loss_and_slopes` on a CPU and :mod:`monai_jdt.kernels.triton.loss` on a GPU compute what
:func:`monai_jdt.functional.overlap.combine` defines; tests hold them equal for every recipe. Where torch has to see the operations, and
for sums that are added over ranks, `combine` itself is called.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch

from monai_jdt.checks import can_read_values, check_predictions
from monai_jdt.definitions import (
    Activation,
    ActiveClasses,
    AveragingRule,
    Backend,
    LossRecipe,
    PixelRule,
    PixelTerm,
    VoxelRecipe,
)
from monai_jdt.functional.inputs import Inputs, voxel_sums
from monai_jdt.functional.loss_and_slopes import INTERPRETED_PAIRS, closed_form, loss_numbers
from monai_jdt.functional.overlap import active_pairs, check_listed, combine
from monai_jdt.kernels.operators import GradientOnce, KernelCall, opaque_gradient
from monai_jdt.kernels.rows import Row, named_sums, split_rows
from monai_jdt.kernels.trial import fault_of
from monai_jdt.plain_tensors import is_batched, is_observed

#: What :func:`loss_kernel_agrees` tries: every average, and a pixel term. Tests alone judge what is compiled for another recipe.
_TRIED = LossRecipe(
    voxels=VoxelRecipe(activation=Activation.SOFTMAX, pixel=PixelRule(PixelTerm.CROSS_ENTROPY)),
    averaging=AveragingRule(average=(("dataset", 0.2), ("image", 0.3), ("class", 0.5))),
    lambda_pixel=0.5,
)

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
        and rule.reduction == "mean"
        and not rule.sync
        # before the number of pairs, which a tracer would take for a constant
        and not is_observed()
        and not has_many_pairs(inputs)
        and (inputs.kernel is not Backend.TRITON or loss_kernel_agrees(inputs.logits.device))
    )


def has_many_pairs(inputs: Inputs) -> bool:
    """Return whether there are so many pairs of image and class that torch's operations are faster than the closed form.

    Args:
        inputs: with a fast kernel.
    """
    if inputs.kernel is Backend.TRITON:
        from monai_jdt.kernels.triton.loss import fits_one_program

        return not fits_one_program(*inputs.logits.shape[:2])
    return inputs.kernel is not Backend.NUMBA and inputs.logits.shape[:2].numel() > INTERPRETED_PAIRS


def loss_kernel_agrees(device: torch.device) -> bool:
    """Return whether Triton's program for the loss gives what the loop of a CPU gives. If not, `combine` does its work.

    The first call for a device tries it, under the conditions of :func:`monai_jdt.kernels.trial.fault_of`.

    Args:
        device: of the logits.
    """
    return not fault_of("their program for (N, C) sums", device, lambda: _fault_of_loss_kernel(device))


def _fault_of_loss_kernel(device: torch.device) -> str:
    from monai_jdt.kernels.triton.loss import triton_loss

    shape = (len(Row), 2, 3)
    rows = torch.arange(1, torch.Size(shape).numel() + 1, dtype=torch.float32, device="cpu").reshape(shape)
    value, slopes = closed_form(Backend.NUMPY, rows.numpy(), np.ones((2, 3), bool), None, _TRIED, torch.float32)
    got, by_rows = triton_loss(rows.to(device), None, triton_settings(_TRIED, 3))
    # a NaN is within no distance
    if abs(float(got) - value) <= 1e-5 and np.allclose(by_rows.cpu().numpy(), slopes, rtol=1e-5, atol=1e-9):
        return ""
    return f"the loss is {float(got):.6g} for {value:.6g}, or its slopes differ; please report it"


def closed_form_loss(inputs: Inputs, recipe: LossRecipe, overlap_weight: torch.Tensor | None) -> torch.Tensor:
    """Return the loss of tensors that have been checked.

    Args:
        inputs: prepared for `recipe.voxels`, with a fast kernel.
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
        saved: list[torch.Tensor] = []
        value, slopes = _checked_value_and_slopes(call, inputs, recipe, weight, saved)
        ctx.save_for_backward(*tensors, slopes, *saved)
        # without tensors, which would live on when autograd has freed what it saved
        bare = inputs._replace(teacher_logits=None, **dict.fromkeys(_TENSORS))
        ctx.rest = (bare, recipe, weight)
        return value

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        inputs, recipe, weight = ctx.rest
        every = ctx.saved_tensors
        tensors, slopes, saved = every[: len(_TENSORS)], every[len(_TENSORS)], every[len(_TENSORS) + 1 :]
        dtype = torch.promote_types(tensors[0].dtype, torch.float32)
        if is_batched(upstream):
            # The loss is one number, so that all gradients are multiples of one. Of half precision it would have few digits.
            one = KernelCall.of(inputs.kernel, inputs.voxels, tensors[0].to(dtype), *tensors[1:]).gradient(slopes.to(dtype))
            gradient = (upstream * one).to(tensors[0].dtype)
        elif is_observed():
            gradient = opaque_gradient((slopes * upstream).to(dtype), tensors, inputs.kernel, inputs.voxels)
        elif not torch.is_grad_enabled():
            call = KernelCall.of(inputs.kernel, inputs.voxels, *tensors)
            on_device = inputs.kernel is Backend.TRITON
            gradient = call.gradient(slopes, upstream) if on_device else call.gradient(_slopes_times(slopes, upstream, dtype), *saved)
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
    if slopes.device.type != "cpu":
        return (slopes * upstream.detach()).to(dtype)
    # A gradient scaler's factor may take a slope beyond float32, which is for the scaler to see.
    with np.errstate(over="ignore", invalid="ignore"):
        return torch.from_numpy(
            (slopes.detach().numpy() * upstream.item()).astype(np.float64 if dtype is torch.float64 else np.float32)
        )


def _checked_value_and_slopes(
    call: KernelCall, inputs: Inputs, recipe: LossRecipe, weight: torch.Tensor | None, saved: list[torch.Tensor] | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss, and its slopes by the differentiable rows `(4, N, C)`, in float64, or float32 from Triton.

    The list `saved` gets what the kernel saves for the gradient.
    """
    if call.kernel is Backend.TRITON:
        return _value_and_slopes_on_device(call, inputs, recipe, weight)
    sums = call.sums(saved)
    rows = sums.numpy()
    # The kernel itself checks values while it sums. Only where it finds something is the full check worth its time.
    if rows[Row.MAY_FAIL_CHECK].any() and can_read_values(inputs.logits, inputs.label, inputs.mask, inputs.rater_weights):
        inputs.check_values()
        check_predictions(inputs.logits.detach(), inputs.counted, inputs.voxels)
    active = _active(rows, sums, recipe)
    weights = None if weight is None else weight.detach().numpy()
    value, slopes = closed_form(inputs.kernel, rows, active, weights, recipe, sums.dtype)
    return torch.scalar_tensor(value, dtype=sums.dtype, device="cpu"), torch.from_numpy(slopes)


def _value_and_slopes_on_device(
    call: KernelCall, inputs: Inputs, recipe: LossRecipe, weight: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the same without a wait of the host, unless values are to be checked."""
    from monai_jdt.kernels.triton.loss import triton_loss

    settings = triton_settings(recipe, inputs.logits.shape[1])
    if can_read_values(inputs.logits, inputs.label, inputs.mask, inputs.rater_weights):
        inputs.check_values()
        check_predictions(inputs.logits.detach(), inputs.counted, inputs.voxels)
    return triton_loss(call.sums(), None if weight is None else weight.detach(), settings)


@lru_cache(maxsize=256)
def triton_settings(recipe: LossRecipe, channels: int) -> dict[str, Any]:
    """Return a recipe as the arguments of :func:`monai_jdt.kernels.triton.loss.loss_kernel`.

    Args:
        recipe: which loss, a mean.
        channels: C.

    Raises:
        ValueError: a listed channel that the overlap does not have.
    """
    averaging, first = recipe.averaging, recipe.voxels.first_channel
    listed = averaging.listed if averaging.classes is ActiveClasses.LISTED else ()
    check_listed(averaging, first, channels - 1)
    numbers = loss_numbers(recipe, 0, channels, torch.float32)
    same = ("lambda_jdt", "lambda_pixel", "pair", "dataset", "image", "class_", "alpha", "beta", "gamma", "nr", "dr", "tiny")
    return {
        **{name: getattr(numbers, name) for name in same},
        "FIRST": first,
        "CLASSES": averaging.classes.value,
        "LISTED": sum(number << (16 * place) for place, number in enumerate(listed)),
        "LISTED_COUNT": len(listed),
        "HAS_OVERLAP": numbers.has_overlap,
        "HAS_PIXEL": numbers.has_pixel,
        "PIXEL_FROM_ZERO": numbers.pixel_from_zero,
        "PIXEL_OF_ALL": numbers.pixel_channels == channels,
        "EACH": numbers.pair != 0 or numbers.image != 0 or numbers.class_ != 0,
        "WHOLE": numbers.dataset != 0,
        "LOG_LOSS": numbers.log_loss,
        "POWER": numbers.gamma != 1,
    }


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
