"""Learning from a label and from a teacher: two JDT compounds, averaged in one step."""

from __future__ import annotations

from dataclasses import replace

import torch

from monai_jdt.checks import check_teacher_values
from monai_jdt.definitions import Activation, Backend, LabelReading, LossRecipe, PixelRule, PixelTerm
from monai_jdt.functional.inputs import Inputs, prepare
from monai_jdt.functional.jdt import weighted_loss
from monai_jdt.functional.ranks import check_own_parts
from monai_jdt.plain_tensors import plain_tensor
from monai_jdt.validation import error_sentence


def prepare_distillation(
    input: torch.Tensor,
    target: torch.Tensor | None,
    teacher_logits: torch.Tensor,
    recipe: LossRecipe,
    mask: torch.Tensor | None = None,
    *,
    rater_weights: torch.Tensor | None = None,
    weight: torch.Tensor | None = None,
    backend: Backend = Backend.AUTO,
) -> Inputs:
    """Prepare the tensors of a student, with a teacher and perhaps a label, by :func:`monai_jdt.functional.inputs.prepare`.

    Args:
        input: logits of the student, `(N, C, *S)`.
        target: label in the recipe's form, or None for the teacher's half alone.
        teacher_logits: as `input`. They get no gradient.
        recipe: a compound with cross-entropy.
        mask: which voxels count, for both halves.
        rater_weights: for votes.
        weight: class weight.
        backend: which kernel sums over the voxels; one for both halves.

    Returns:
        The checked tensors. Without a target no voxel of theirs counts in the label's half.

    Raises:
        TypeError: as :func:`monai_jdt.functional.jdt_loss`.
        ValueError: likewise, and teacher logits of another shape.
    """
    if target is None and rater_weights is not None:
        raise ValueError(error_sentence("rater_weights", "None with target=None, which has no raters to weigh", "weights"))
    check_own_parts(recipe.averaging.sync_group, input=input, target=target, teacher_logits=teacher_logits)
    teacher_logits = plain_tensor("teacher_logits", teacher_logits)
    dense = replace(recipe.voxels, label=LabelReading())
    return prepare(
        input,
        teacher_logits if target is None else target,
        dense if target is None else recipe.voxels,
        mask,
        rater_weights=rater_weights,
        weight=weight,
        teacher_logits=teacher_logits,
        backend=backend,
        sync_group=recipe.averaging.sync_group,
    )


def distillation_loss(
    inputs: Inputs,
    recipe: LossRecipe,
    *,
    labelled: bool,
    lambda_label: float,
    lambda_teacher: float,
    temperature: float,
) -> torch.Tensor:
    """Return `lambda_label * L(input, target) + lambda_teacher * L(input, teacher)`.

    L is `lambda_jdt` JDT plus `lambda_pixel` times cross-entropy for the label, or T^2 KL(teacher / T || input / T) for the teacher,
    whose JDT term is taken at T = 1.

    Args:
        inputs: from :func:`prepare_distillation`.
        recipe: a compound with cross-entropy.
        labelled: False where there is no target, for the teacher's half alone.
        lambda_label: weight of the label's half.
        lambda_teacher: weight of the teacher's half.
        temperature: T > 0.

    Returns:
        A scalar. Voxels that the target marks as ignored are ignored in both halves.

    Raises:
        ValueError: label values that do not fit, or teacher logits that are not finite, where values are checked.
    """
    teacher_logits = inputs.teacher_logits
    assert teacher_logits is not None
    # Inputs of the teacher's half, but for its label; without a target, `counted` is the mask.
    half = inputs._replace(mask=inputs.counted, rater_weights=None)
    terms = []
    if labelled:
        terms.append((lambda_label, inputs, recipe))
    elif recipe.averaging.sync:
        # Other ranks may have labels. This one has none, and joins the all_reduce with zeros, or the others would hang.
        nowhere = torch.zeros_like(inputs.logits[:, :1], dtype=torch.bool)
        unlabelled = inputs._replace(label=torch.zeros_like(inputs.logits), mask=nowhere)
        terms.append((lambda_label, unlabelled, recipe))

    check_teacher_values(teacher_logits, half.mask)
    wide = teacher_logits.to(torch.promote_types(teacher_logits.dtype, torch.float32))
    voxels = replace(recipe.voxels, label=LabelReading(), pixel=PixelRule(PixelTerm.DIVERGENCE))
    teacher = _soft(wide, recipe, half.mask)
    if temperature == 1:
        taught = half._replace(label=teacher, voxels=voxels)
        terms.append((lambda_teacher, taught, replace(recipe, voxels=voxels)))
    else:
        overlap = replace(voxels, pixel=None)
        taught = half._replace(label=teacher, voxels=overlap, class_weight=None)
        terms.append((lambda_teacher, taught, replace(recipe, voxels=overlap, lambda_pixel=0.0)))
        cooled = inputs.logits.to(torch.promote_types(inputs.logits.dtype, torch.float32)) / temperature
        taught = half._replace(logits=cooled, label=_soft(wide / temperature, recipe, half.mask), voxels=voxels)
        by_pixel = replace(recipe, voxels=voxels, lambda_jdt=0.0, lambda_pixel=temperature**2 * recipe.lambda_pixel)
        terms.append((lambda_teacher, taught, by_pixel))
    return weighted_loss(terms, inputs.overlap_weight)


def _soft(logits: torch.Tensor, recipe: LossRecipe, counted: torch.Tensor | None) -> torch.Tensor:
    """Return the teacher's probabilities. Logits of voxels that do not count are set to 0, since any label will do there."""
    if counted is not None:
        logits = torch.where(counted, logits, 0.0)
    return torch.softmax(logits, 1) if recipe.voxels.activation is Activation.SOFTMAX else torch.sigmoid(logits)
