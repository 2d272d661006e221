"""Learning from a label and from a teacher: two JDT compounds, averaged in one step."""

from __future__ import annotations

from dataclasses import replace

import torch

from monai_jdt.checks import check_input, check_mask, check_teacher, check_teacher_values, plain_tensor
from monai_jdt.definitions import Activation, Backend, LabelReading, LossRecipe, PixelRule, PixelTerm
from monai_jdt.functional.jdt import checked_sums
from monai_jdt.functional.overlap import combine
from monai_jdt.kernels.labels import spoken_voxels


def distillation_loss(
    input: torch.Tensor,
    target: torch.Tensor | None,
    teacher_logits: torch.Tensor,
    recipe: LossRecipe,
    mask: torch.Tensor | None = None,
    *,
    lambda_label: float,
    lambda_teacher: float,
    temperature: float,
    rater_weights: torch.Tensor | None = None,
    weight: torch.Tensor | None = None,
    backend: Backend = Backend.AUTO,
) -> torch.Tensor:
    """`lambda_label * L(input, target) + lambda_teacher * L(input, teacher)`.

    L is `lambda_jdt` JDT plus `lambda_pixel` times cross-entropy for the label, or T^2 KL(teacher / T || input / T) for the teacher,
    whose JDT term is taken at T = 1.

    Args:
        input: logits of the student, `(N, C, *S)`.
        target: label in the recipe's form, or None for the teacher's half alone.
        teacher_logits: as `input`; they get no gradient.
        recipe: a compound with cross-entropy.
        mask: which voxels count, for both halves.
        lambda_label: weight of the label's half.
        lambda_teacher: weight of the teacher's half.
        temperature: T > 0.
        rater_weights: for votes.
        weight: class weight.
        backend: which kernel sums over the voxels.

    Returns:
        A scalar. Voxels that `target` marks as ignored are ignored in both halves.

    Raises:
        TypeError: as :func:`monai_jdt.functional.jdt_loss`.
        ValueError: likewise, and teacher logits of another shape.
    """
    input = plain_tensor("input", input)
    teacher_logits = plain_tensor("teacher_logits", teacher_logits).detach()
    check_input(input, recipe.voxels)
    check_teacher(input, teacher_logits)
    if mask is not None:
        mask = plain_tensor("mask", mask)
        check_mask(input, mask, recipe.voxels)
    if target is None and rater_weights is not None:
        raise ValueError("rater_weights: expected None where target is None, since they weigh the target's raters, got weights")
    terms = []
    if target is None and recipe.averaging.sync:
        # Other ranks may have labels. This one adds nothing to their half, but to add nothing takes part in the sum.
        dense = replace(recipe.voxels, label=LabelReading())
        nowhere = torch.zeros_like(input[:, :1], dtype=torch.bool)
        sums, _ = checked_sums(input, torch.zeros_like(input), dense, nowhere, weight=weight, backend=backend)
        terms.append((lambda_label, sums, recipe))
    elif target is not None:
        sums, _ = checked_sums(input, target, recipe.voxels, mask, rater_weights=rater_weights, weight=weight, backend=backend)
        terms.append((lambda_label, sums, recipe))
        raters = None if rater_weights is None else plain_tensor("rater_weights", rater_weights)
        spoken = spoken_voxels(plain_tensor("target", target), recipe.voxels, raters)
        if spoken is not None:
            mask = spoken if mask is None else mask.to(torch.bool) & spoken

    counted = None if mask is None else mask.to(torch.bool)
    check_teacher_values(teacher_logits, counted)
    wide = teacher_logits.to(torch.promote_types(teacher_logits.dtype, torch.float32))
    voxels = replace(recipe.voxels, label=LabelReading(), pixel=PixelRule(PixelTerm.DIVERGENCE))
    teacher = _soft(wide, recipe, counted)
    if temperature == 1:
        sums, overlap_weight = checked_sums(input, teacher, voxels, mask, weight=weight, backend=backend)
        terms.append((lambda_teacher, sums, replace(recipe, voxels=voxels)))
    else:
        overlap = replace(voxels, pixel=None)
        sums, _ = checked_sums(input, teacher, overlap, mask, backend=backend)
        terms.append((lambda_teacher, sums, replace(recipe, voxels=overlap, lambda_pixel=0.0)))
        cooled = input.to(torch.promote_types(input.dtype, torch.float32)) / temperature
        sums, overlap_weight = checked_sums(
            cooled, _soft(wide / temperature, recipe, counted), voxels, mask, weight=weight, backend=backend
        )
        by_pixel = replace(recipe, voxels=voxels, lambda_jdt=0.0, lambda_pixel=temperature**2 * recipe.lambda_pixel)
        terms.append((lambda_teacher, sums, by_pixel))
    return combine(terms, overlap_weight)


def _soft(logits: torch.Tensor, recipe: LossRecipe, counted: torch.Tensor | None) -> torch.Tensor:
    """The teacher's probabilities; at voxels that do not count any label does."""
    if counted is not None:
        logits = torch.where(counted, logits, 0.0)
    return torch.softmax(logits, 1) if recipe.voxels.activation is Activation.SOFTMAX else torch.sigmoid(logits)
