"""The closed form of a step against its definition: `combine`, differentiated by autograd, in value and in every slope."""

from __future__ import annotations

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
from monai_jdt.functional import closed_form
from monai_jdt.functional.overlap import combine
from monai_jdt.kernels.rows import DIFFERENTIABLE_ROWS, Row, named_sums, split_rows
from tests.forced import auto_takes

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
def test_value_and_slopes_are_those_of_the_definition(weighted: bool) -> None:
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
        got, by_sums = closed_form._value_and_slopes(
            rows.numpy(), active, recipe, None if weight is None else weight.numpy(), torch.float64, sloped=True
        )
        assert by_sums is not None
        assert got == pytest.approx(expected.item(), rel=1e-12, abs=1e-300), recipe
        np.testing.assert_allclose(by_sums, slopes[:DIFFERENTIABLE_ROWS].numpy(), rtol=1e-11, atol=1e-13, err_msg=str(recipe))
        count += 1
    assert count > 100


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
