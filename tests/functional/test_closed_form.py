"""The closed form of a step against its definition: `combine`, differentiated by autograd, in value and in every slope."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from monai_jdt import losses
from monai_jdt.definitions import (
    Activation,
    ActiveClasses,
    AveragingRule,
    Backend,
    LossRecipe,
    PixelRule,
    PixelTerm,
    RatioRule,
    VoxelRecipe,
)
from monai_jdt.functional import closed_form, jdt_loss, loss_and_slopes
from monai_jdt.functional.overlap import combine
from monai_jdt.kernels.rows import DIFFERENTIABLE_ROWS, Row, named_sums, split_rows
from tests.forced import auto_takes
from tests.present import present

AVERAGINGS: list[dict[str, Any]] = [
    {},
    {"batch": True},
    {"average": (("image", 1.0),)},
    {"average": (("class", 0.5), ("dataset", 0.3), ("image", 0.2))},
]
CLASSES: list[dict[str, Any]] = [
    *[{"classes": each} for each in ActiveClasses if each is not ActiveClasses.LISTED],
    {"classes": ActiveClasses.LISTED, "listed": (2,)},
]
RATIOS: list[dict[str, Any]] = [
    {},
    {"alpha": 0.5, "beta": 0.5, "smooths_double": True},
    {"smooth_nr": 0, "smooth_dr": 0},
    {"alpha": 0.3, "beta": 1.7, "gamma": 0.7, "smooth_nr": 0, "smooth_dr": 1},
    {"log_loss": True},
    {"log_loss": True, "gamma": 1.5, "smooth_nr": 0, "smooth_dr": 0},
    {"alpha": 0, "gamma": 2},
]


def recipes() -> Iterator[LossRecipe]:
    """Every averaging with every choice of classes and every ratio; pixel terms and activations take turns."""
    terms = [None, *PixelTerm]
    for number, (averaging, classes, ratio) in enumerate(product(AVERAGINGS, CLASSES, RATIOS)):
        if classes["classes"] is ActiveClasses.POOLED and "class" in dict(averaging.get("average", ())):
            continue
        term = terms[number % len(terms)]
        voxels = VoxelRecipe(
            activation=(Activation.SOFTMAX, Activation.SIGMOID)[number // 3 % 2],
            include_background=number % 5 > 0,
            pixel=None if term is None else PixelRule(term, 2.0, None),
        )
        yield LossRecipe(
            voxels=voxels,
            ratio=RatioRule(**ratio),
            averaging=AveragingRule(**averaging, **classes),
            lambda_jdt=(0.75, 0.0)[number % 11 == 3],
            lambda_pixel=0.0 if term is None else 0.25,
        )


def sums_of(seed: int, images: int, channels: int) -> torch.Tensor:
    """Rows such as a kernel returns: of some pairs nothing is counted, of some all sums are 0, of some all errors are."""
    draw = np.random.default_rng(seed)
    rows = draw.uniform(0, 9, (len(Row), images, channels))
    rows[: Row.PIXEL] *= draw.integers(0, 2, (Row.PIXEL, images, channels))
    rows[Row.COUNTED] = draw.integers(0, 3, (images, channels))
    rows[: Row.PIXEL_NORM, rows[Row.COUNTED] == 0] = 0
    rows[Row.IN_LABEL], rows[Row.IN_PREDICTION] = draw.integers(0, 2, (2, images, channels))
    rows[Row.PIXEL, 0, 0] = -1e-9  # what rounding leaves of a divergence
    return torch.from_numpy(rows)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kernel", [Backend.NUMBA, Backend.CHUNKED])
def test_value_and_slopes_are_those_of_the_definition(kernel: Backend, weighted: bool) -> None:
    count = 0
    for number, recipe in enumerate(recipes()):
        rows = sums_of(number, 3, 4)
        if recipe.voxels.activation is Activation.SOFTMAX:
            rows[Row.PIXEL : Row.COUNTED, :, 1:] = 0
        weight = torch.linspace(0.5, 2, 4 - recipe.voxels.first_channel, dtype=torch.float64) if weighted else None
        if recipe.averaging.classes is ActiveClasses.POOLED:
            weight = None
        leaf = rows.clone().requires_grad_()
        sums, _ = named_sums(split_rows(leaf, recipe.voxels), recipe.voxels)
        expected = combine([(1.0, sums, recipe)], weight)
        slopes = torch.zeros_like(rows)
        if expected.requires_grad:
            (slopes,) = torch.autograd.grad(expected, leaf)
        active = closed_form._active(rows.numpy(), rows, recipe)
        weights = None if weight is None else weight.numpy()
        got, by_sums = loss_and_slopes.closed_form(kernel, rows.numpy(), active, weights, recipe, torch.float64)
        assert got == pytest.approx(expected.item(), rel=1e-12, abs=1e-300), recipe
        np.testing.assert_allclose(by_sums, slopes[:DIFFERENTIABLE_ROWS].numpy(), rtol=1e-11, atol=1e-13, err_msg=str(recipe))
        count += 1
    assert count > 100


def fast_and_eager(**options: Any) -> tuple[losses.JDTCELoss, losses.JDTCELoss]:
    return losses.JDTCELoss(softmax=True, **options), losses.JDTCELoss(softmax=True, backend="eager", **options)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_hooks_of_the_logits_run_once_in_a_graph_of_the_gradient(reduction: str) -> None:
    logits, label = inputs()
    found = []
    with auto_takes("chunked"):
        for loss in fast_and_eager(reduction=reduction):
            leaf = logits.clone().requires_grad_()
            hooked = leaf * 1
            hooked.register_hook(lambda gradient: 2 * gradient)
            hooked.retain_grad()
            (gradient,) = torch.autograd.grad(loss(hooked, label), leaf, create_graph=True)
            found.append((gradient.detach(), present(hooked.grad).detach()))
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_batched_gradients(reduction: str) -> None:
    logits, label = inputs()
    found = []
    factors = torch.tensor([1.0, 2.0], dtype=torch.float64)
    with auto_takes("chunked"):
        for loss in fast_and_eager(reduction=reduction):
            leaf = logits.clone().requires_grad_()
            found.append(torch.autograd.grad(loss(leaf, label), leaf, factors, is_grads_batched=True)[0])
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-12)
    leaf = logits.clone().requires_grad_()
    value = losses.JDTLoss(softmax=True, backend="chunked", reduction="sum")(leaf, label)
    with pytest.raises(RuntimeError, match=r"no batched gradients.*backend='eager'"):
        torch.autograd.grad(value, leaf, factors, is_grads_batched=True)


def test_batched_gradients_of_half_precision() -> None:
    """By a gradient scaler's factor: the gradient of factor 1 would have no digits in float16."""
    logits, label = (tensor.half() for tensor in inputs())
    factors = torch.tensor([1.0, 2.0**16])
    with auto_takes("chunked"):
        leaf = logits.clone().requires_grad_()
        value = losses.JDTLoss(softmax=True)(leaf, label)
        batched = torch.autograd.grad(value, leaf, factors, is_grads_batched=True, retain_graph=True)[0]
        single = torch.stack([torch.autograd.grad(value, leaf, factor, retain_graph=True)[0] for factor in factors])
    assert single[1].isfinite().all()
    torch.testing.assert_close(batched, single, rtol=2e-3, atol=0)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("kernel", ["numpy", "chunked", "numba"])
def test_limits_are_those_of_the_dtype_of_the_loss(kernel: str, reduction: str) -> None:
    """Sums that float32 can divide by, but not one by them; and no overlap at all under a logarithm."""
    leaf = torch.full((1, 1, 64, 64), -50.0, requires_grad=True)
    unsmoothed: dict[str, Any] = {"smooth_nr": 0, "smooth_dr": 0, "backend": kernel, "reduction": reduction}
    losses.JDTLoss(sigmoid=True, norm=2, **unsmoothed)(leaf, torch.zeros(1, 1, 64, 64)).backward()
    assert torch.equal(present(leaf.grad), torch.zeros_like(leaf))
    half = torch.zeros(1, 1, 64, 64)
    half[..., :32] = 1
    value = losses.JDTLoss(log_loss=True, **unsmoothed)(half, 1 - half)
    assert value.item() == pytest.approx(-np.log(np.finfo(np.float32).tiny), rel=1e-6)


def test_a_class_weight_may_have_a_gradient() -> None:
    logits, label = inputs()
    recipe = LossRecipe(voxels=VoxelRecipe(activation=Activation.SOFTMAX))
    slopes: list[torch.Tensor] = []
    for backend in (Backend.NUMPY, Backend.EAGER):
        weight = torch.ones(3, dtype=torch.float64, requires_grad=True)
        value = jdt_loss(logits.clone().requires_grad_(), label, recipe, weight=weight, backend=backend)
        slopes += torch.autograd.grad(value, weight)
        assert jdt_loss(logits, label, recipe, weight=weight, backend=backend).item() == pytest.approx(value.item(), rel=1e-12)
    torch.testing.assert_close(*slopes, rtol=1e-9, atol=0)


def test_nothing_is_held_after_backward() -> None:
    logits, label = inputs()
    teacher = torch.zeros_like(label)
    held = weakref.ref(teacher)
    loss = losses.DistillationLoss(softmax=True, backend="chunked")(logits.requires_grad_(), label, teacher)
    loss.backward()
    del teacher
    gc.collect()
    assert held() is None
    assert loss.requires_grad


def test_compiled_autograd_sees_an_operator() -> None:
    logits, label = inputs()
    leaf = logits.requires_grad_()
    loss = losses.JDTCELoss(softmax=True, backend="chunked")
    (expected,) = torch.autograd.grad(loss(leaf, label), leaf)
    value = loss(leaf, label)
    torch._dynamo.reset()
    with torch._dynamo.compiled_autograd._enable(torch.compile(backend="eager")):
        value.backward()
    torch.testing.assert_close(present(leaf.grad), expected, rtol=1e-9, atol=1e-12)


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 12, 12, generator=draw, dtype=torch.float64)
    return logits, torch.softmax(torch.randn(2, 3, 12, 12, generator=draw, dtype=torch.float64), 1)


def second_derivative(loss: Any, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    leaf = logits.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(leaf, label), leaf, create_graph=True)
    (twice,) = torch.autograd.grad(gradient.square().sum(), leaf)
    return twice


@pytest.mark.parametrize("options", [{}, {"reduction": "sum"}, {"lambda_jdt": 0.0}])
def test_second_derivatives_on_auto_are_those_of_eager(options: dict[str, Any]) -> None:
    """`auto` takes a fast kernel here, which has none of its own; one that is asked for by name says so."""
    logits, label = inputs()
    loss = losses.JDTCELoss(softmax=True, **options)
    with auto_takes("chunked"):
        got = second_derivative(loss, logits, label)
        assert loss.backend_used == Backend.CHUNKED.value
    expected = second_derivative(losses.JDTCELoss(softmax=True, backend="eager", **options), logits, label)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-15)
    with pytest.raises(RuntimeError, match="no second derivative"):
        second_derivative(losses.JDTCELoss(softmax=True, backend="chunked", **options), logits, label)
