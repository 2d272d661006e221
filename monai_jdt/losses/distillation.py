"""A loss for a student that learns from labels and from a teacher, or from a teacher alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from typing_extensions import Unpack

from monai_jdt.definitions import PixelRule, PixelTerm
from monai_jdt.functional.distillation import distillation_loss, prepare_distillation
from monai_jdt.losses._options import SharedOptions, with_full_signature
from monai_jdt.losses.jdt import JDTLoss
from monai_jdt.validation import check_number


@with_full_signature(JDTLoss.__init__)
class DistillationLoss(JDTLoss):
    r"""``lambda_label`` * label half + ``lambda_teacher`` * teacher half.

    The label half is ``lambda_jdt`` * JDT(student, label) + ``lambda_ce`` * cross-entropy(student, label). The teacher half is
    ``lambda_jdt`` * JDT(student, teacher) at temperature 1 + ``lambda_ce`` * :math:`T^2\, KL(q_T \,\|\, p_T)`, where :math:`q_T` and
    :math:`p_T` are the teacher's and the student's probabilities from logits divided by T. The teacher is never trained.
    With ``target=None`` the teacher half alone remains, still times ``lambda_teacher``: unlabelled data, or an EMA teacher.

    Args:
        include_background: see :class:`JDTLoss`, as for all others.
        to_onehot_y: `target` holds class indices.
        sigmoid: apply a sigmoid to student and teacher. One of sigmoid and softmax is needed.
        softmax: apply a softmax to student and teacher.
        other_act: refused, since the divergence is computed from logits.
        lambda_label: weight of the label half, >= 0.
        lambda_teacher: weight of the teacher half, >= 0.
        temperature: T > 0.
        lambda_jdt: weight of the JDT term in each half, >= 0.
        lambda_ce: weight of the cross-entropy or divergence in each half, >= 0.
        alpha: cost of false positives, >= 0.
        beta: cost of false negatives, >= 0.
        **options: the other keyword arguments of :class:`JDTLoss`; ``reduction`` is "mean" or "sum". ``label_smoothing`` concerns the
            label half only; ``ignore_index`` and ``mask`` take a voxel out of both halves.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: as :class:`JDTLoss`; no sigmoid or softmax; ``reduction="none"``; ``temperature`` not above 0.

    References:
        Distillation with JDT losses: arXiv:2302.05666, arXiv:2303.16296; temperature: Hinton et al., arXiv:1503.02531.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[[0.5, -1.0, 2.0]]])
        >>> abs(float(DistillationLoss(sigmoid=True)(logits, None, teacher_logits=logits))) < 1e-6  # nothing left to learn
        True
    """

    def __init__(
        self,
        include_background: bool = True,
        to_onehot_y: bool = False,
        sigmoid: bool = False,
        softmax: bool = False,
        other_act: Callable[[torch.Tensor], torch.Tensor] | None = None,
        *,
        lambda_label: float = 0.5,
        lambda_teacher: float = 0.5,
        temperature: float = 1.0,
        lambda_jdt: float = 0.75,
        lambda_ce: float = 0.25,
        alpha: float = 1.0,
        beta: float = 1.0,
        **options: Unpack[SharedOptions],
    ) -> None:
        super().__init__(include_background, to_onehot_y, sigmoid, softmax, other_act, alpha=alpha, beta=beta, **options)
        voxels = replace(self.recipe.voxels, pixel=PixelRule(PixelTerm.CROSS_ENTROPY))
        self.recipe = replace(self.recipe, voxels=voxels, lambda_jdt=lambda_jdt, lambda_pixel=lambda_ce)
        self.lambda_label = check_number("lambda_label", lambda_label, 0)
        self.lambda_teacher = check_number("lambda_teacher", lambda_teacher, 0)
        self.temperature = check_number("temperature", temperature, 0, strict=True)

    def forward(  # type: ignore[override]
        self,
        input: torch.Tensor,
        target: torch.Tensor | None,
        teacher_logits: torch.Tensor,
        mask: torch.Tensor | None = None,
        *,
        rater_weights: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the loss.

        Args:
            input: logits of the student, ``(N, C, *S)`` or ``(N, C)``.
            target: label, or None for the teacher half alone.
            teacher_logits: logits of the teacher, shaped as `input`.
            mask: which voxels count; None: all.
            rater_weights: for ``votes``, ``(N, R)`` or ``(R,)``.

        Returns:
            A scalar.

        Raises:
            TypeError: an argument that is no tensor, or of the wrong kind of dtype.
            ValueError: shapes, devices or values that do not fit.
        """
        inputs = prepare_distillation(
            input,
            target,
            teacher_logits,
            self.recipe,
            mask,
            rater_weights=rater_weights,
            weight=self.class_weight,
            backend=self.backend,
        )
        self._remember(inputs.kernel)
        return distillation_loss(
            inputs,
            self.recipe,
            labelled=target is not None,
            lambda_label=self.lambda_label,
            lambda_teacher=self.lambda_teacher,
            temperature=self.temperature,
        )

    def extra_repr(self) -> str:
        """Return the settings that are not the defaults."""
        own = f"lambda_label={self.lambda_label}, lambda_teacher={self.lambda_teacher}, temperature={self.temperature}"
        return f"{own}, {super().extra_repr()}"
