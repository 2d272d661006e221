"""A loss is called under `torch.set_default_device` or `with torch.device(...)`: it works where its tensors are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

import monai_jdt.losses as losses
from tests.losses.strategies import COMPOUND, OVERLAP
from tests.losses.test_companions import callables

WEIGHT = [1.0, 20.0, 3.0]
#: Arguments of a loss beside its activation, by what they make it read.
READINGS = {
    "dense": {"softmax": True, "weight": WEIGHT, "label_smoothing": 0.1},
    "indices": {"softmax": True, "to_onehot_y": True, "ignore_index": 2, "classes": [0, 2]},
    "votes": {"sigmoid": True, "votes": True, "ignore_index": 7, "classes": "present", "batch": True},
    "votes of regions": {"sigmoid": True, "votes": True, "regions": [[1], [1, 2], [0]], "average": {"image": 0.5, "dataset": 0.5}},
}


def tensors_of(reading: str, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Input, target, mask and rater weights."""
    logits, mask = torch.randn(2, 3, 3, 13).to(dtype), torch.rand(2, 1, 3, 13) < 0.8
    if reading == "dense":
        return logits, torch.randn(2, 3, 3, 13).softmax(1), mask, None
    raters = 4 if "votes" in reading else 1
    return logits, torch.randint(0, 3, (2, raters, 3, 13)), mask, torch.tensor([1.0, 0.25, 0.0, 0.7]) if raters > 1 else None


def value_and_gradient(loss: torch.nn.Module, given: Sequence[Any], **options: Any) -> list[torch.Tensor]:
    """Of the input, or of the first of several heads."""
    first, *rest = given
    leaf = (first[0] if isinstance(first, list) else first).clone().requires_grad_()
    value = loss([leaf, *first[1:]] if isinstance(first, list) else leaf, *rest, **options)
    return [value.detach(), *torch.autograd.grad(value, leaf)]


def assert_same_under_a_default_device(loss: torch.nn.Module, given: Sequence[Any], **options: Any) -> None:
    expected = value_and_gradient(loss, given, **options)
    with torch.device("meta"):
        inside = value_and_gradient(loss, given, **options)
    after = value_and_gradient(loss, given, **options)
    assert all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(expected, inside, after, strict=True))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("name", OVERLAP + COMPOUND)
def test_a_default_device_changes_no_bit(name: str, reading: str, dtype: torch.dtype) -> None:
    loss = getattr(losses, name)(**READINGS[reading])
    *given, rater_weights = tensors_of(reading, dtype)
    assert_same_under_a_default_device(loss, given, rater_weights=rater_weights)


@pytest.mark.parametrize("name", callables())
def test_a_default_device_changes_no_bit_of_a_companion(name: str) -> None:
    assert_same_under_a_default_device(*callables()[name])


def test_every_loss_is_called_here() -> None:
    tested = {*OVERLAP, *COMPOUND, *(name.split()[0] for name in callables())}
    assert tested == {name for name in losses.__all__ if isinstance(getattr(losses, name), type)}
