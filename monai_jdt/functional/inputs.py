"""The tensors of one call, checked and made plain once, with the kernel that will sum over them."""

from __future__ import annotations

from typing import NamedTuple

import torch

from monai_jdt.checks import (
    can_read_values,
    check_class_weight,
    check_input,
    check_label_values,
    check_mask,
    check_mask_values,
    check_predictions,
    check_rater_weight_values,
    check_rater_weights,
    check_target,
    check_teacher,
)
from monai_jdt.definitions import Backend, LabelForm, VoxelRecipe, VoxelSums
from monai_jdt.functional.ranks import check_own_parts
from monai_jdt.kernels.choice import choose_kernel
from monai_jdt.kernels.chunked.labels import dense_label_in_chunks
from monai_jdt.kernels.eager import eager_voxel_sums
from monai_jdt.kernels.labels import labelled_voxels, read_label, vote_counts
from monai_jdt.kernels.operators import KernelCall, fast_voxel_sums
from monai_jdt.plain_tensors import is_observed, kept_for_backward, plain_tensor


class Inputs(NamedTuple):
    """What one step over voxels needs. All tensors are plain, on one device, and fit each other.

    Args:
        logits: `(N, C, *S)` or `(N, C)`, floating point. The only tensor with a gradient.
        label: in the recipe's form.
        voxels: what to sum.
        mask: bool, `(N, 1, *S)` or `(N, C, *S)`, True = counts; None: all.
        rater_weights: for votes, `(N, R)` or `(R,)`; None: 1 each.
        class_weight: `()` or `(C,)`, in the dtype of the sums; None: 1.
        kernel: which kernel sums; never `Backend.AUTO`.
        teacher_logits: shaped as `logits`; None without a teacher.
        automatic: whether `auto` chose the kernel, so that second derivatives are there: those of the eager kernel.
    """

    logits: torch.Tensor
    label: torch.Tensor
    voxels: VoxelRecipe
    mask: torch.Tensor | None
    rater_weights: torch.Tensor | None
    class_weight: torch.Tensor | None
    kernel: Backend
    teacher_logits: torch.Tensor | None = None
    automatic: bool = False

    @property
    def counted(self) -> torch.Tensor | None:
        """The voxels that count, by mask and label together: bool, `(N, 1, *S)` or `(N, C, *S)`, or None for all."""
        return _both(self.mask, labelled_voxels(self.label, self.voxels, self.rater_weights))

    @property
    def overlap_weight(self) -> torch.Tensor | None:
        """The class weight of the overlap term.

        With a pixel term, `class_weight` has an entry for the background too. A single class has no other to be weighed against, as
        in MONAI.
        """
        first = self.voxels.first_channel
        if self.class_weight is None or self.logits.shape[1] - first == 1:
            return None
        return self.class_weight[first:] if self.voxels.pixel is not None and self.class_weight.ndim == 1 else self.class_weight

    def dense_label(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the label as values `(N, C, *S)` in the dtype of the sums, and the voxels that count, as `counted`."""
        dtype = torch.promote_types(self.logits.dtype, torch.float32)
        if self.label.device.type == "cpu" and self.voxels.label.form is not LabelForm.DENSE and not is_observed():
            call = KernelCall.of(Backend.CHUNKED, self.voxels, self.logits, self.label, None, self.rater_weights)
            label, labelled = dense_label_in_chunks(call.given)
            space = self.label.shape[2:]
            labelled = None if labelled is None else labelled.reshape(*labelled.shape[:2], *space)
            return label.reshape(*label.shape[:2], *space), _both(self.mask, labelled)
        label, labelled = read_label(self.label, self.logits.shape[1], self.voxels, self.rater_weights, dtype)
        return label, _both(self.mask, labelled)

    def vote_counts(self) -> torch.Tensor | None:
        """Return how many votes each channel has, `(N, C, *S)`, unsigned 8-bit: of R raters, or of a class index as the only one.

        None where that is not the whole label (a marker, a mask, weights, regions, an invalid class), where values must not be
        read, and off the CPU.
        """
        reading, label = self.voxels.label, self.label
        simple = reading.form is not LabelForm.DENSE and reading.regions is None and reading.ignore_index is None and self.mask is None
        if not simple or label.device.type != "cpu" or label.is_floating_point() or label.shape[1] > 255 or is_observed():
            return None
        if self.logits.dtype is torch.float64 or (self.rater_weights is not None and bool((self.rater_weights != 1).any())):
            return None
        return vote_counts(label, self.logits.shape[1])

    def check_values(self) -> None:
        """Check the label's values. Do nothing where values must not be read.

        Raises:
            ValueError: as :func:`monai_jdt.checks.check_label_values`.
        """
        check_label_values(self.logits, self.label, self.mask, self.rater_weights, self.voxels)


def _both(mask: torch.Tensor | None, labelled: torch.Tensor | None) -> torch.Tensor | None:
    if mask is None or labelled is None:
        return labelled if mask is None else mask
    return mask & labelled


def prepare(
    input: torch.Tensor,
    target: torch.Tensor,
    voxels: VoxelRecipe,
    mask: torch.Tensor | None = None,
    *,
    rater_weights: torch.Tensor | None = None,
    weight: torch.Tensor | None = None,
    teacher_logits: torch.Tensor | None = None,
    backend: Backend = Backend.AUTO,
    sync_group: str | None = None,
) -> Inputs:
    """Check the tensors of a call, make them plain, and choose the kernel. Every loss starts here.

    One sequence for all arguments, since each step needs what the one before has checked; half of its lines are this text.

    Args:
        input: logits or probabilities, `(N, C, *S)` or `(N, C)`, floating point.
        target: label, in the form that the recipe names, on the same device. It gets no gradient.
        voxels: what will be summed.
        mask: bool or 0/1, `(N, 1, *S)`, or `(N, C, *S)` with sigmoid; True = counts.
        rater_weights: `(N, R)` or `(R,)` for votes, >= 0, 0 = missing.
        weight: `()` or one for each class: of the channels in the overlap, or of all channels with a pixel term.
        teacher_logits: as `input`, for distillation. They get no gradient.
        backend: which kernel sums; see :func:`monai_jdt.kernels.choice.choose_kernel`.
        sync_group: the group over which the sums will be added; None for none.

    Returns:
        The checked tensors. The label's values are not checked yet: :func:`voxel_sums` does that, since some kernels check in passing.

    Raises:
        TypeError: an argument that is no tensor, or of the wrong kind of dtype.
        ValueError: shapes or devices that do not fit, a mask or rater weights with wrong values (where values are checked), a
            DTensor over ranks that are added, or a `backend` that cannot run.
    """
    check_own_parts(sync_group, input=input, target=target, mask=mask, rater_weights=rater_weights, teacher_logits=teacher_logits)
    gathered = hasattr(input, "full_tensor") and not hasattr(target, "full_tensor")
    input = plain_tensor("input", input)
    check_input(input, voxels)
    if teacher_logits is not None:
        teacher_logits = kept_for_backward(plain_tensor("teacher_logits", teacher_logits).detach())
        check_teacher(input, teacher_logits)
    target = kept_for_backward(plain_tensor("target", target).detach())
    try:
        check_target(input, target, voxels)
    except ValueError as error:
        if not gathered:
            raise
        fix = "pass the target of all ranks, or input.to_local() with sync=True"
        raise ValueError(f"{error} Here input is a DTensor, which is gathered. Fix: {fix}.") from None
    if mask is not None:
        mask = plain_tensor("mask", mask)
        check_mask(input, mask, voxels)
        check_mask_values(mask)
        mask = kept_for_backward(mask.to(torch.bool))
    if rater_weights is not None:
        rater_weights = kept_for_backward(plain_tensor("rater_weights", rater_weights).detach())
        check_rater_weights(input, target, rater_weights, voxels)
        check_rater_weight_values(rater_weights)
    if weight is not None:
        if input.is_meta:  # where shapes alone are asked for, the loss need not have been moved
            weight = weight.to(input.device)
        check_class_weight(input, weight, voxels)
        weight = kept_for_backward(weight.to(torch.promote_types(input.dtype, torch.float32)))
    kernel = choose_kernel(backend, input, target, voxels, mask, rater_weights, weight, teacher_logits)
    return Inputs(input, target, voxels, mask, rater_weights, weight, kernel, teacher_logits, backend is Backend.AUTO)


def voxel_sums(inputs: Inputs) -> VoxelSums:
    """Check the label's values, and sum over voxels.

    Args:
        inputs: from :func:`prepare`.

    Returns:
        The sums, in the dtype of the loss.

    Raises:
        ValueError: label values that do not fit, or predictions outside [0, 1], where values are checked.
    """
    tensors = (inputs.logits, inputs.label, inputs.voxels, inputs.mask, inputs.rater_weights, inputs.class_weight)
    if inputs.kernel is Backend.EAGER:
        inputs.check_values()
        return eager_voxel_sums(*tensors)
    sums, suspect = fast_voxel_sums(inputs.kernel, *tensors, eager_twice=inputs.automatic)
    # On a CPU the kernel itself checks values while it sums; only where it finds something is the full check worth its time.
    readable = can_read_values(inputs.logits, inputs.label, inputs.mask, inputs.rater_weights)
    if readable and (inputs.logits.device.type != "cpu" or bool(suspect.any())):
        inputs.check_values()
        check_predictions(inputs.logits.detach(), inputs.counted, inputs.voxels)
    return sums
