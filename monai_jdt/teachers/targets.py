"""What a batch with a teacher has besides the images, as one target that MONAI's trainer hands to the loss."""

from __future__ import annotations

from typing import NamedTuple

import torch


class TeacherTarget(NamedTuple):
    """Labels and a teacher's logits.

    Args:
        label: in the form that the loss takes, the labels of all images; those of images without a label may be anything.
        teacher_logits: `(N, C, *S)`, without gradient.
        labelled: bool `(N,)` on the CPU, which images have a label; None: all.
        trusted: bool, `(N, 1, *S)` or `(N, C, *S)`, where the teacher is learnt from; None: everywhere.
        mask: bool, `(N, 1, *S)` or `(N, C, *S)`, which voxels count at all; None: all.
        rater_weights: for votes, `(N, R)`.
    """

    label: torch.Tensor | None
    teacher_logits: torch.Tensor
    labelled: torch.Tensor | None = None
    trusted: torch.Tensor | None = None
    mask: torch.Tensor | None = None
    rater_weights: torch.Tensor | None = None
