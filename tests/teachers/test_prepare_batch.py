"""What a teacher says of a batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from monai_jdt.teachers import TeacherPrepareBatch
from tests.present import present


def batch() -> dict[str, Any]:
    source = torch.Generator().manual_seed(0)
    return {
        "image": torch.randn(3, 2, 6, generator=source),
        "label": torch.rand(3, 2, 6, generator=source),
        "weak": torch.randn(3, 2, 6, generator=source),
        "mask": torch.rand(3, 1, 6, generator=source) > 0.5,
        "labelled": [True, False, True],
        "rater_weights": torch.ones(3, 4),
    }


def test_the_teacher_runs_without_gradient_and_keeps_its_modes() -> None:
    teacher = nn.Sequential(nn.Dropout(0.9), nn.Conv1d(2, 2, 1)).train()
    image, target = TeacherPrepareBatch(teacher)(batch())
    assert not target.teacher_logits.requires_grad
    assert torch.equal(target.teacher_logits, teacher[1](image).detach())  # nothing dropped
    assert all(module.training for module in teacher.modules())
    assert target.labelled is not None
    assert target.labelled.tolist() == [True, False, True]
    assert target.mask is not None
    assert target.rater_weights is not None
    assert target.trusted is None


def test_the_teacher_may_see_other_images_of_the_same_place() -> None:
    image, target = TeacherPrepareBatch(nn.Identity(), teacher_image_key="weak")(batch())
    assert torch.equal(image, batch()["image"])
    assert torch.equal(target.teacher_logits, batch()["weak"])
    with pytest.raises(ValueError, match=r"batchdata\['strong'\]: expected images in the place of \(3, 2, 6\), got no such key"):
        TeacherPrepareBatch(nn.Identity(), teacher_image_key="strong")(batch())
    with pytest.raises(ValueError, match=r"got shape \(3, 2, 5\)"):
        TeacherPrepareBatch(nn.Identity(), teacher_image_key="weak")({**batch(), "weak": torch.ones(3, 2, 5)})


def test_only_sure_voxels_are_trusted() -> None:
    logits = batch()["image"]
    _, by_class = TeacherPrepareBatch(nn.Identity(), softmax=True, confidence=0.8)(batch())
    assert torch.equal(present(by_class.trusted), (logits.softmax(1) >= 0.8).any(1, keepdim=True))
    _, by_channel = TeacherPrepareBatch(nn.Identity(), sigmoid=True, confidence=0.7)(batch())
    p = logits.sigmoid()
    assert torch.equal(present(by_channel.trusted), (p >= 0.7) | (1 - p >= 0.7))


def test_autocast_is_the_trainers() -> None:
    teacher = nn.Conv1d(2, 2, 1)
    assert TeacherPrepareBatch(teacher)(batch())[1].teacher_logits.dtype is torch.float32
    assert TeacherPrepareBatch(teacher, amp=True)(batch())[1].teacher_logits.dtype is torch.bfloat16


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="sigmoid, softmax: expected one of them True with confidence"):
        TeacherPrepareBatch(nn.Identity(), confidence=0.9)
    with pytest.raises(ValueError, match="confidence: expected"):
        TeacherPrepareBatch(nn.Identity(), sigmoid=True, confidence=0.4)
    with pytest.raises(KeyError, match="expected the key 'picture', got the keys image"):
        TeacherPrepareBatch(nn.Identity(), image_key="picture")(batch())
    with pytest.raises(TypeError, match="batchdata: expected a dictionary"):
        TeacherPrepareBatch(nn.Identity())([torch.ones(1)])  # type: ignore[arg-type]
