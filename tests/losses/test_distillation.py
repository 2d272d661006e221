"""DistillationLoss against a numpy definition; it is smallest where teacher and label agree."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import monai_jdt.losses as losses
from tests.losses.generated import chosen, some
from tests.losses.strategies import as_array
from tests.oracles import companions
from tests.present import present

seeds = st.integers(0, 10**6)
FEW = settings(max_examples=max(present(settings.default).max_examples // 6, 8))  # the oracles' loops are slow


OPTIONS = [
    {},
    {"temperature": 3.0, "lambda_label": 0.3, "lambda_teacher": 0.9},
    {"alpha": 0.3, "beta": 0.7, "lambda_jdt": 0.6, "lambda_ce": 0.4, "average": "image"},
    {"temperature": 0.5, "label_smoothing": 0.2, "classes": "both", "include_background": False},
    {"reduction": "sum", "temperature": 2.0},
    {"norm": 2, "batch": True, "gamma": 1.5},
]


@pytest.mark.parametrize("key", ["sigmoid", "softmax"])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("labelled", [True, False])
@FEW
@given(seed=seeds, masked=st.booleans())
def test_distillation_equals_the_oracle(key: str, options: dict[str, Any], labelled: bool, seed: int, masked: bool) -> None:
    x, label, teacher, mask = some(seed, 2, 3, 2, 2, softmax=key == "softmax")
    options = {key: True, **options}
    counted, target = mask if masked else None, label if labelled else None
    got = losses.DistillationLoss(**options)(x, target, teacher, counted)
    arrays = [None if v is None else as_array(v) for v in (target, counted)]
    expected = companions.distillation(as_array(x), arrays[0], as_array(teacher), arrays[1], **options)
    assert got.item() == pytest.approx(expected, rel=1e-9)


def test_distillation_of_votes_and_indices() -> None:
    """The label half is JDTCELoss, in any form; a voxel that its label ignores is out of both halves."""
    x, _, teacher, mask = some(0, 2, 3, 4)
    votes, index = torch.randint(0, 3, (2, 4, 4)), torch.randint(0, 3, (2, 1, 4))
    index[0, 0, 1] = 255
    weights = torch.tensor([1.0, 0.5, 0.0, 2.0])
    for form, target, extra in (
        ({"votes": True}, votes, {"rater_weights": weights}),
        ({"to_onehot_y": True, "ignore_index": 255}, index, {}),
    ):
        options: dict[str, Any] = {"softmax": True, "weight": [1.0, 20.0, 3.0]}
        got = losses.DistillationLoss(**options, **form)(x, target, teacher, mask, **extra)
        half = losses.JDTCELoss(**options, **form)(x, target, mask, **extra)
        counts = mask & (target != 255).all(1, keepdim=True)
        other = losses.DistillationLoss(**options)(x, None, teacher, counts)
        torch.testing.assert_close(got, 0.5 * half + other, rtol=1e-10, atol=0)
        # Without a mask the label alone says what is out.
        got = losses.DistillationLoss(**options, **form)(x, target, teacher, **extra)
        half = losses.JDTCELoss(**options, **form)(x, target, **extra)
        other = losses.DistillationLoss(**options)(x, None, teacher, (target != 255).all(1, keepdim=True))
        torch.testing.assert_close(got, 0.5 * half + other, rtol=1e-10, atol=0)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("key", ["sigmoid", "softmax"])
def test_distillation_is_smallest_where_teacher_is_label(key: str, temperature: float) -> None:
    """Promise 1, with teacher = label, class weights 1 : 20; and 0 for the teacher half."""
    for t in (i / 10 for i in range(1, 10)):
        p = torch.linspace(0.1, 0.9, 9, dtype=torch.float64) if t != 0.5 else torch.linspace(0.05, 0.95, 19, dtype=torch.float64)
        label = torch.full((1, 2, 3), 1 - t, dtype=torch.float64)
        label[:, 1] = t

        logits = torch.logit if key == "sigmoid" else torch.log

        loss = losses.DistillationLoss(**chosen(key), temperature=temperature, weight=[1.0, 20.0])
        teacher = logits(label)
        shared = [logits(torch.stack([1 - q, q])).reshape(1, 2, 1).expand(1, 2, 3) for q in p]
        values = [loss(x, label, teacher).item() for x in shared]
        assert p[int(np.argmin(values))].item() == pytest.approx(t)
        alone = losses.DistillationLoss(**chosen(key), temperature=temperature)
        assert abs(alone(teacher, None, teacher).item()) < 1e-12


def test_the_teacher_is_not_trained() -> None:
    x, label, teacher, _ = some(1, 2, 3, 4)
    x.requires_grad_(), teacher.requires_grad_(), label.requires_grad_()
    losses.DistillationLoss(softmax=True)(x, label, teacher).backward()
    assert present(x.grad).abs().sum() > 0
    assert teacher.grad is None
    assert label.grad is None


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_poison_in_the_ignored_voxels_of_student_and_teacher(poison: float) -> None:
    x, label, teacher, mask = some(2, 2, 3, 8)
    for key in ("sigmoid", "softmax"):
        results = []
        for filler in (0.0, poison):
            student = torch.where(mask, x, filler).requires_grad_()
            loss = losses.DistillationLoss(**chosen(key), temperature=2.0)
            value = loss(student, torch.where(mask, label, filler), torch.where(mask, teacher, filler), mask)
            value.backward()
            results.append((value.detach(), present(student.grad)))
        assert results[1][0].isfinite()
        assert torch.equal(results[0][0], results[1][0])
        assert torch.equal(results[0][1], results[1][1])


def test_mistakes_in_distillation_are_refused() -> None:
    x, label, teacher, _ = some(3, 2, 3, 4)
    make = losses.DistillationLoss
    for arguments, words in (
        ({"softmax": True, "temperature": 0.0}, "temperature"),
        ({"softmax": True, "lambda_label": -1.0}, "lambda_label"),
        ({"softmax": True, "lambda_teacher": -1.0}, "lambda_teacher"),
        ({"softmax": True, "reduction": "none"}, "reduction"),
        ({}, "softmax"),
    ):
        with pytest.raises(ValueError, match=words):
            make(**arguments)
    with pytest.raises(ValueError, match="teacher_logits"):
        make(softmax=True)(x, label, teacher[:1])
    with pytest.raises(TypeError, match="teacher_logits"):
        make(softmax=True)(x, label, None)
    half = make(softmax=True)(x.half().requires_grad_(), label.half(), teacher.half())
    assert half.dtype is torch.float32


def test_distillation_gradcheck() -> None:
    x, label, teacher, mask = some(4, 2, 2, 3)
    for key in ("sigmoid", "softmax"):
        loss = losses.DistillationLoss(**chosen(key), temperature=2.0, alpha=0.3, beta=0.7)
        leaf = x.clone().requires_grad_()
        assert torch.autograd.gradcheck(lambda v, loss=loss: loss(v, label, teacher, mask), (leaf,))
        assert torch.autograd.gradgradcheck(lambda v, loss=loss: loss(v, label, teacher, mask), (leaf,), fast_mode=True)


@pytest.mark.parametrize("key", ["sigmoid", "softmax"])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("student_dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("teacher_dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_distillation_of_any_dtypes_is_that_of_the_rounded_values(
    key: str, temperature: float, student_dtype: torch.dtype, teacher_dtype: torch.dtype
) -> None:
    x, label, teacher, mask = some(11, 2, 3, 6)
    x, teacher = x.to(student_dtype).requires_grad_(), teacher.to(teacher_dtype)
    for target in (label, None):
        loss = losses.DistillationLoss(**chosen(key), temperature=temperature)
        got = loss(x, target, teacher, mask)
        got.backward()
        assert got.dtype is (torch.float64 if student_dtype is torch.float64 else torch.float32)
        assert present(x.grad).dtype is student_dtype
        assert got.item() == pytest.approx(loss(x.double(), target, teacher.double(), mask).item(), rel=2e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_half_precision_student_that_is_its_teacher_has_nothing_to_learn(dtype: torch.dtype) -> None:
    x = (3 * torch.randn(2, 3, 50)).to(dtype)
    for key in ("sigmoid", "softmax"):
        for temperature in (1.0, 3.0, 7.0):
            assert abs(losses.DistillationLoss(**chosen(key), temperature=temperature)(x, None, x).item()) < 1e-6
