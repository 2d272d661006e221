"""A network that is sure and right: values with all their digits near a perfect fit, and divergences that are never negative."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from monai_jdt.definitions import Activation, Backend, LabelForm, LabelReading, PixelRule, PixelTerm, VoxelRecipe
from monai_jdt.kernels.choice import refusal
from monai_jdt.kernels.eager import distance, sure_of
from monai_jdt.kernels.labels import read_label
from monai_jdt.kernels.registry import KERNELS
from monai_jdt.losses import DiceSemimetricLoss, DistillationLoss, JDTCELoss, JDTFocalLoss, JDTLoss

HERE = [
    kernel
    for kernel in (Backend.EAGER, *KERNELS)
    if refusal(kernel, torch.zeros(1, 2, 3), torch.zeros(1, 2, 3), VoxelRecipe(activation=Activation.SOFTMAX)) is None
]
LOSSES: dict[str, tuple[type, dict[str, Any]]] = {
    "JDT": (JDTLoss, {}),
    "norm 2": (JDTLoss, {"norm": 2}),
    "Dice": (DiceSemimetricLoss, {}),
    "CE": (JDTCELoss, {"lambda_jdt": 1.0, "lambda_ce": 1.0}),
    "focal": (JDTFocalLoss, {}),
}


@pytest.fixture(params=HERE, ids=lambda kernel: kernel.value)
def kernel(request: pytest.FixtureRequest) -> Backend:
    return request.param


def sure(activation: str, channels: int, margin: float, voxels: int = 5000) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits that are right by a margin, and the hard label."""
    if activation == "softmax":
        index = torch.randint(0, channels, (1, 1, voxels))
        label = torch.zeros(1, channels, voxels).scatter_(1, index, 1.0)
        return label * margin + 0.3 * torch.randn(1, channels, voxels), label
    label = (torch.rand(1, channels, voxels) < 0.3).float()
    return (2 * label - 1) * margin + 0.3 * torch.randn(1, channels, voxels), label


def step(make: type, options: dict[str, Any], logits: torch.Tensor, label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    logits = logits.clone().requires_grad_()
    value = make(**options)(logits, label)
    return value.detach(), torch.autograd.grad(value, logits)[0]


@pytest.mark.parametrize("margin", [8, 12, 16, 20, 30])
@pytest.mark.parametrize(("activation", "channels"), [("sigmoid", 1), ("sigmoid", 3), ("softmax", 2), ("softmax", 4)])
@pytest.mark.parametrize("name", LOSSES)
def test_near_a_perfect_fit(kernel: Backend, name: str, activation: str, channels: int, margin: float) -> None:
    if kernel is Backend.TRITON and (margin not in (12, 20) or channels == 3):
        return  # the interpreter is slow
    make, own = LOSSES[name]
    options: dict[str, Any] = {**own, activation: True, "smooth_nr": 0.0, "smooth_dr": 0.0}
    logits, label = sure(activation, channels, margin, 400 if kernel is Backend.TRITON else 5000)
    value, slope = step(make, {**options, "backend": kernel.value}, logits, label)
    exact, exact_slope = step(make, {**options, "backend": "eager"}, logits.double(), label.double())
    assert float(value) == pytest.approx(float(exact), rel=1e-6)
    assert float((slope - exact_slope).abs().max() / exact_slope.abs().max()) < 2e-5


def test_a_sure_teacher_and_a_sure_student() -> None:
    """Soft labels near 1, whose rest has digits that the label's dtype gives it."""
    logits = torch.randn(1, 1, 2000) + 9
    label = torch.sigmoid(logits + 0.5 * torch.randn(1, 1, 2000))
    options: dict[str, Any] = {"sigmoid": True, "smooth_nr": 0.0, "smooth_dr": 0.0}
    for kernel in HERE:
        value, _ = step(JDTLoss, {**options, "backend": kernel.value}, logits, label)
        exact, _ = step(JDTLoss, {**options, "backend": "eager"}, logits.double(), label.double())
        assert float(value) == pytest.approx(float(exact), rel=1e-6)


@pytest.mark.parametrize(("z", "t"), [(-16.0, 0.0), (16.0, 1.0), (-30.0, 0.0), (16.0, 0.999), (0.0, 0.5)])
def test_binary_cross_entropy_of_one_voxel(kernel: Backend, z: float, t: float) -> None:
    logits, label = torch.full((1, 1, 1), z), torch.full((1, 1, 1), t)
    options: dict[str, Any] = {"sigmoid": True, "lambda_jdt": 0.0, "lambda_ce": 1.0}
    value, slope = step(JDTCELoss, {**options, "backend": kernel.value}, logits, label)
    wide = logits.double()
    exact = torch.nn.functional.softplus(-wide, threshold=50) * label.double()
    exact = exact + torch.nn.functional.softplus(wide, threshold=50) * (1 - label.double())
    assert float(value) == pytest.approx(float(exact), rel=1e-6)
    assert float(slope) == pytest.approx(float(torch.sigmoid(wide) - label.double()), rel=1e-4, abs=6e-8)


def test_equal_numbers_are_a_tie_in_the_definition() -> None:
    """A label that torch has made of the same logits: the loss is 0 and so is the gradient."""
    logits = 6 * torch.randn(1, 3, 4000)
    for activation, label in (("softmax", torch.softmax(logits, 1)), ("sigmoid", torch.sigmoid(logits))):
        value, slope = step(JDTLoss, {activation: True, "backend": "eager"}, logits, label)
        assert float(value) < 1e-7
        assert float(slope.abs().sum()) < 1e-7


def test_what_is_left_is_taken_where_it_is_known() -> None:
    logits = torch.tensor([[[20.0, 0.2, -3.0], [0.0, 0.0, 0.0]]])
    p = torch.softmax(logits, 1)
    t = torch.tensor([[[1.0, 0.5, 0.0], [0.0, 0.5, 1.0]]])
    exact = torch.softmax(logits.double(), 1) - t.double()
    got = distance(p, t, sure_of(logits, p, Activation.SOFTMAX))
    torch.testing.assert_close(got.double(), exact, rtol=2e-6, atol=0)
    assert sure_of(logits, p, Activation.NONE) is None


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("spread", [0.5, 3.0, 12.0])
def test_the_divergence_of_equals_is_not_negative(kernel: Backend, activation: str, spread: float) -> None:
    for seed in range(1 if kernel is Backend.TRITON else 20):
        source = torch.Generator().manual_seed(seed)
        logits = (spread * torch.randn(1, 3, 300, generator=source)).requires_grad_()
        options: dict[str, Any] = {activation: True, "lambda_label": 0.0, "lambda_jdt": 0.0, "lambda_ce": 1.0, "backend": kernel.value}
        value = DistillationLoss(**options)(logits, None, logits.detach())
        assert 0 <= float(value) < 1e-6
        value.backward()
        assert logits.grad is not None
        assert float(logits.grad.abs().max()) < 1e-6


@pytest.mark.parametrize("raters", [1, 2, 3, 7, 16, 33])
@pytest.mark.parametrize("layout", ["contiguous", "raters last", "every second"])
def test_raters_who_agree_have_exactly_one(raters: int, layout: str) -> None:
    """However many they are, and in whatever order their weights are added."""
    votes = torch.randint(0, 3, (2, 1, 50)).expand(2, raters, 50).contiguous()
    if layout == "raters last":
        votes = votes.transpose(1, 2).contiguous().transpose(1, 2)
    if layout == "every second":
        votes = torch.stack([votes, votes], -1).flatten(2)[..., ::2]
    recipe = VoxelRecipe(Activation.SOFTMAX, None, LabelReading(LabelForm.VOTES), pixel=PixelRule(PixelTerm.CROSS_ENTROPY))
    shares, labelled = read_label(votes, 3, recipe, torch.rand(2, raters) + 0.01)
    assert labelled is not None
    assert labelled.all()
    assert torch.equal(shares, (votes[:, :1] == torch.arange(3).reshape(1, 3, 1)).float())


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("kernel", [Backend.NUMPY, Backend.CHUNKED], ids=lambda kernel: kernel.value)
def test_a_gradient_of_saturated_voxels_keeps_its_digits(kernel: Backend, activation: str) -> None:
    """Not near the label, but p (1 - p) is small: a rounding of p near 1 would be 1e-4 of the gradient."""
    options: dict[str, Any] = {activation: True, "smooth_nr": 0.0}
    for seed in range(20):
        source = torch.Generator().manual_seed(seed)
        logits = torch.tensor([[4.1, -5.1]]) + 0.5 * torch.randn(1, 2, generator=source)
        label = torch.softmax(torch.randn(1, 2, generator=source), 1).double()
        found = []
        for backend, leaf in ((kernel.value, logits.clone()), ("eager", logits.double())):
            value = JDTLoss(**options, backend=backend)(leaf.requires_grad_(), label)
            found.append(torch.autograd.grad(value, leaf)[0].double())
        assert float((found[0] - found[1]).abs().max()) < 5e-6 * float(found[1].abs().max())


@pytest.mark.parametrize(("weight", "logit"), [(1.0, 7.0), (10.0, 7.0), (1000.0, 10.0)])
@pytest.mark.parametrize("kernel", [Backend.NUMPY, Backend.CHUNKED], ids=lambda kernel: kernel.value)
def test_a_class_weight_does_not_hide_that_digits_are_missing(kernel: Backend, weight: float, logit: float) -> None:
    logits, label = logit + 0.01 * torch.randn(1, 2, 500), torch.ones(1, 2, 500)
    found = []
    for backend, leaf in ((kernel.value, logits.clone()), ("eager", logits.double())):
        loss = JDTCELoss(sigmoid=True, lambda_jdt=0, lambda_ce=1, weight=[weight, weight], backend=backend)
        found.append(torch.autograd.grad(loss(leaf.requires_grad_(), label), leaf)[0].double())
    assert float((found[0] - found[1]).abs().max()) < 1e-6 * float(found[1].abs().max())
