"""LovaszSoftmaxLoss against its definition in numpy."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import monai_jdt.losses as losses
from tests.losses.generated import generator, some
from tests.losses.strategies import as_array
from tests.oracles import companions
from tests.present import present

seeds = st.integers(0, 10**6)


@pytest.mark.parametrize("options", [{}, {"per_image": True}, {"classes": "all"}, {"classes": [1, 2]}, {"include_background": False}])
@given(seed=seeds, masked=st.booleans(), ignored=st.booleans())
def test_lovasz_equals_its_definition(options: dict[str, Any], seed: int, masked: bool, ignored: bool) -> None:
    x, _, _, mask = some(seed, 2, 3, 2, 4)
    index = torch.randint(0, 3, (2, 1, 2, 4), generator=generator(seed))
    options = {**options, **({"ignore_index": 2} if ignored else {})}
    counted = mask if masked else None
    got = losses.LovaszSoftmaxLoss(to_onehot_y=True, **options)(x, index, counted)
    expected = companions.lovasz_softmax(as_array(x), as_array(index), as_array(mask) if masked else None, **options)
    assert got.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    if not ignored:
        dense = torch.nn.functional.one_hot(index[:, 0], 3).movedim(-1, 1)
        assert torch.equal(losses.LovaszSoftmaxLoss(**options)(x, dense, counted), got)


def test_lovasz_is_the_jaccard_loss_of_sure_predictions() -> None:
    """Logits of +-1000: errors 0 and 1. Foreground {0, 1, 2}, wrong on {0, 3}: 1 - 2 / 4; background {3, 4}: 1 - 1 / 3."""
    index = torch.tensor([[[1, 1, 1, 0, 0]]])
    predicted = torch.tensor([[0, 1, 1, 1, 0]])
    x = 1000 * (2.0 * torch.nn.functional.one_hot(predicted, 2).movedim(-1, 1) - 1)
    assert losses.LovaszSoftmaxLoss(to_onehot_y=True)(x, index).item() == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert losses.LovaszSoftmaxLoss(to_onehot_y=True, include_background=False)(x, index).item() == pytest.approx(1 / 2)


def test_lovasz_refuses_soft_labels_and_ignores_poison() -> None:
    x, label, _, mask = some(0, 2, 3, 6)
    with pytest.raises(ValueError, match=r"target.*(hard|soft)"):
        losses.LovaszSoftmaxLoss()(x, label)
    index = torch.randint(0, 3, (2, 1, 6))
    loss = losses.LovaszSoftmaxLoss(to_onehot_y=True)
    results = []
    for filler in (0.0, math.nan, math.inf):
        leaf = torch.where(mask, x, filler).requires_grad_()
        value = loss(leaf, index, mask)
        value.backward()
        results.append((value.detach(), present(leaf.grad)))
    for value, gradient in results[1:]:
        assert torch.equal(value, results[0][0])
        assert torch.equal(gradient, results[0][1])
    nothing = x.clone().requires_grad_()
    value = loss(nothing, index, torch.zeros_like(mask))
    value.backward()
    assert value.item() == 0
    assert (present(nothing.grad) == 0).all()


def test_lovasz_gradcheck_and_half() -> None:
    x, _, _, _ = some(7, 1, 3, 5)
    index = torch.tensor([[[0, 1, 2, 1, 0]]])
    loss = losses.LovaszSoftmaxLoss(to_onehot_y=True)
    assert torch.autograd.gradcheck(lambda v: loss(v, index), (x.requires_grad_(),))
    half = torch.randn(1, 2, 70, 70, 20, dtype=torch.float16, requires_grad=True)
    value = loss(half, (half.detach()[:, :1] > 1).long())
    value.backward()
    assert value.dtype is torch.float32
    assert value.isfinite()
    assert present(half.grad).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_lovasz_in_half_precision(dtype: torch.dtype) -> None:
    x = torch.randn(2, 2, 8, 8).to(dtype)
    index = torch.randint(0, 2, (2, 1, 8, 8))
    lovasz = losses.LovaszSoftmaxLoss(to_onehot_y=True)
    assert lovasz(x, index).item() == pytest.approx(lovasz(x.double(), index).item(), rel=2e-6)


def test_lovasz_of_points_is_that_of_one_image_of_them() -> None:
    x, index = torch.randn(20, 3), torch.randint(0, 3, (20, 1))
    loss = losses.LovaszSoftmaxLoss(to_onehot_y=True)
    as_image = loss(x.T[None].contiguous(), index.T[None].contiguous())
    assert loss(x, index).item() == pytest.approx(as_image.item(), rel=1e-6)
