"""Losses of a prediction and a :class:`TeacherTarget`, for MONAI's trainer, which hands one target to the loss."""

from __future__ import annotations

import torch
from torch import nn

from monai_jdt.losses import DistillationLoss, JDTLoss
from monai_jdt.teachers.targets import TeacherTarget
from monai_jdt.validation import check_number, error_sentence


class TeacherStudentLoss(nn.Module):
    """Distillation: every image has a label, and a teacher says something of every voxel.

    Args:
        loss: from logits, label and teacher's logits to a number.

    Raises:
        TypeError: `loss` is no :class:`monai_jdt.losses.DistillationLoss`.
        ValueError: at a call, as the loss; or an image without a label, or a teacher that is trusted in places only, for which
            :class:`SemiSupervisedLoss` is.

    Example:
        >>> logits = torch.tensor([[[0.5, -1.0, 2.0]]])
        >>> target = TeacherTarget(torch.sigmoid(logits), logits)
        >>> at_label = TeacherStudentLoss(DistillationLoss(sigmoid=True))(logits, target)
        >>> bool(at_label < TeacherStudentLoss(DistillationLoss(sigmoid=True))(logits + 1, target))
        True
    """

    def __init__(self, loss: DistillationLoss) -> None:
        super().__init__()
        self.loss = _distillation("loss", loss)

    def forward(self, input: torch.Tensor, target: TeacherTarget) -> torch.Tensor:
        """Return the loss.

        Args:
            input: logits of the student, `(N, C, *S)`.
            target: labels and the teacher's logits.
        """
        if target.label is None or (target.labelled is not None and not bool(target.labelled.all())):
            fix = "SemiSupervisedLoss learns from images without labels"
            raise ValueError(error_sentence("target", "a label of every image", "images without one", fix))
        if target.trusted is not None:
            fix = "leave `confidence` out of TeacherPrepareBatch; SemiSupervisedLoss trusts a teacher in places"
            raise ValueError(error_sentence("target.trusted", "None, since one mask is for both halves of the loss", "a mask", fix))
        return self.loss(input, target.label, target.teacher_logits, target.mask, rater_weights=target.rater_weights)


class SemiSupervisedLoss(nn.Module):
    """The loss of the images with a label, plus `weight` times that of all images against the teacher, where it is trusted.

    Args:
        loss: from logits and label to a number, such as :class:`monai_jdt.losses.JDTCELoss`.
        consistency: of student and teacher. Only its teacher half is used, times its `lambda_teacher`.
        weight: >= 0 of the second part. A handler may raise it from epoch to epoch.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: `weight` below 0; at a call, as the losses.

    References:
        Wang et al., arXiv:2303.16296, section on semi-supervised learning. Tarvainen and Valpola, arXiv:1703.01780.

    Example:
        >>> from monai_jdt.losses import JDTCELoss
        >>> loss = SemiSupervisedLoss(JDTCELoss(sigmoid=True), DistillationLoss(sigmoid=True, lambda_teacher=1.0), weight=0.1)
        >>> logits = torch.tensor([[[0.5, -1.0]], [[1.0, 2.0]]])
        >>> target = TeacherTarget(torch.sigmoid(logits), logits, labelled=torch.tensor([True, False]))
        >>> float(loss(logits, target)) == float(JDTCELoss(sigmoid=True)(logits[:1], torch.sigmoid(logits[:1])))  # teacher: no more
        True
    """

    def __init__(self, loss: nn.Module, consistency: DistillationLoss, weight: float = 1.0) -> None:
        super().__init__()
        self.loss = loss
        self.consistency = _distillation("consistency", consistency)
        self.weight = check_number("weight", weight, 0)

    def forward(self, input: torch.Tensor, target: TeacherTarget) -> torch.Tensor:
        """Return the loss.

        Args:
            input: logits of the student, `(N, C, *S)`.
            target: labels of some images and the teacher's logits of all.
        """
        mask = _learnt_from(target.mask, target.trusted)
        total = self.weight * self.consistency(input, None, target.teacher_logits, mask)
        chosen = None if target.labelled is None else target.labelled.nonzero().flatten().tolist()
        # Sums that are added over ranks wait for every rank, so that a rank without labels calls the loss with no image.
        if target.label is None or (chosen == [] and not isinstance(self.loss, JDTLoss)):
            return total
        return total + self._supervised(input, target, chosen)

    def _supervised(self, input: torch.Tensor, target: TeacherTarget, chosen: list[int] | None) -> torch.Tensor:
        def of_labelled(values: torch.Tensor | None) -> torch.Tensor | None:
            return values if values is None or chosen is None or len(chosen) == len(input) else values[chosen]

        extra = {"mask": of_labelled(target.mask), "rater_weights": of_labelled(target.rater_weights)}
        return self.loss(
            of_labelled(input), of_labelled(target.label), **{name: value for name, value in extra.items() if value is not None}
        )


def sums_over_ranks(loss: nn.Module) -> bool:
    """Return whether a loss makes one ratio of all ranks' images: what a consistency loss beside it should have as `sync`.

    Args:
        loss: of this package or any other.

    Example:
        >>> from monai_jdt.losses import JDTCELoss
        >>> sums_over_ranks(JDTCELoss(sigmoid=True)), sums_over_ranks(JDTCELoss(sigmoid=True, sync=True))
        (False, True)
    """
    return isinstance(loss, JDTLoss) and loss.recipe.averaging.sync


def _distillation(name: str, loss: object) -> DistillationLoss:
    if not isinstance(loss, DistillationLoss):
        fix = "DistillationLoss(softmax=True)"
        raise TypeError(error_sentence(name, "a monai_jdt.losses.DistillationLoss", type(loss).__name__, fix))
    return loss


def _learnt_from(mask: torch.Tensor | None, trusted: torch.Tensor | None) -> torch.Tensor | None:
    if mask is None or trusted is None:
        return trusted if mask is None else mask
    return mask.to(torch.bool) & trusted
