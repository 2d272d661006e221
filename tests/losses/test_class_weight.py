"""Class weights: built anywhere, from any sequence, and exact whatever the module is cast to."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import monai_jdt.losses as losses
from tests.present import present

NAMES = ("JDTLoss", "DiceSemimetricLoss", "JDTCELoss", "JDTFocalLoss", "DistillationLoss")
WEIGHT = [0.1, 0.2, 0.7]
LARGE = [70000.0, 257.0, 0.1]
X, SOFT = torch.randn(2, 3, 4), torch.softmax(torch.randn(2, 3, 4), 1)


def value(loss: torch.nn.Module, x: torch.Tensor = X, target: torch.Tensor = SOFT) -> torch.Tensor:
    return loss(x, target, x) if isinstance(loss, losses.DistillationLoss) else loss(x, target)


@pytest.mark.parametrize(
    "weight", [WEIGHT, tuple(WEIGHT), torch.tensor(WEIGHT), np.array(WEIGHT), np.float32(0.5), torch.tensor(2.0), 2]
)
@pytest.mark.parametrize("name", NAMES)
def test_a_loss_is_built_on_meta_and_under_fake_tensors(name: str, weight: Any) -> None:
    kind = getattr(losses, name)
    expected = value(kind(softmax=True, weight=weight))
    with torch.device("meta"):
        loss = kind(softmax=True, weight=weight)
        assert value(loss, torch.randn(2, 3, 4), torch.rand(2, 3, 4)).is_meta
    assert torch.equal(value(loss), expected)
    # to_empty drops what tensors hold, and a module of meta tensors has nothing to lose but the numbers of its constructor
    assert torch.equal(value(loss.to_empty(device="cpu")), expected)
    assert torch.equal(value(loss.to("meta").to_empty(device="cpu")), expected)
    with FakeTensorMode():
        x = torch.randn(2, 3, 4)
        assert value(kind(softmax=True, weight=weight), x, x.sigmoid()).shape == ()


@pytest.mark.parametrize("bad", [[1.0, -1.0], [float("nan")], [[1.0, 2.0]], [], torch.tensor([-1.0]), np.array([np.inf])])
def test_a_bad_weight_is_refused_everywhere(bad: Any) -> None:
    for where in (torch.device("cpu"), torch.device("meta"), FakeTensorMode()):
        with where, pytest.raises(ValueError, match="weight"):
            losses.JDTLoss(softmax=True, weight=bad)


@pytest.mark.parametrize("name", NAMES)
def test_a_cast_does_not_round_a_weight(name: str) -> None:
    kind = getattr(losses, name)
    expected = value(kind(softmax=True, weight=LARGE), X.half(), SOFT.half())
    for cast in (torch.nn.Module.half, torch.nn.Module.bfloat16, torch.nn.Module.double, lambda module: module.to(torch.float16)):
        loss = cast(kind(softmax=True, weight=LARGE))
        for same in (loss, copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
            assert same.class_weight.tolist() == LARGE
            assert torch.equal(value(same, X.half(), SOFT.half()), expected)


def test_a_weight_is_exact_in_float64() -> None:
    """One class of three weighs .1: the loss is that of the class times .1 / 3, to the last digits."""
    x, target = X.double(), SOFT.double()
    pairs = losses.JDTLoss(softmax=True, reduction="none")(x, target)
    got = losses.JDTLoss(softmax=True, weight=[0.1, 0.0, 0.0])(x, target)
    assert abs(got - 0.1 * pairs[:, 0].sum() / 6) < 1e-16


def test_state_dicts_of_either_precision_load() -> None:
    loss = losses.JDTLoss(softmax=True, weight=[1.0, 1.0, 1.0])
    assert present(loss.class_weight).dtype is torch.float32
    loss.load_state_dict({"class_weight": torch.tensor(WEIGHT)})
    assert torch.equal(present(loss.class_weight).float(), torch.tensor(WEIGHT))
    loss.load_state_dict(losses.JDTLoss(softmax=True, weight=WEIGHT).state_dict())
    assert present(loss.class_weight).tolist() == WEIGHT


def test_a_move_that_fails_leaves_the_weight() -> None:
    """As `.to("cuda")` on a machine without a GPU, after which people go on with the CPU."""
    loss = losses.JDTLoss(softmax=True, weight=[1.0, 5.0])

    def fail(tensor: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no such device")

    with pytest.raises(RuntimeError, match="no such device"):
        loss._apply(fail)
    assert loss.class_weight is not None
    assert present(loss.class_weight).tolist() == [1.0, 5.0]
    assert list(loss.state_dict()) == ["class_weight"]


def test_a_loss_without_numbers_can_be_shown() -> None:
    assert "weight=of shape (2,)" in repr(losses.JDTLoss(softmax=True, weight=[1.0, 5.0]).to("meta"))
    assert "weight=[1.0, 5.0]" in repr(losses.JDTLoss(softmax=True, weight=[1.0, 5.0]))


@pytest.mark.parametrize("default", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("backend", ["eager", "numpy", "chunked", "numba"])
def test_the_default_dtype_rounds_no_weight(default: torch.dtype, backend: str) -> None:
    torch.manual_seed(0)
    logits, label = torch.randn(2, 2, 50), torch.randint(2, (2, 1, 50))
    settings: dict[str, Any] = {
        "softmax": True,
        "to_onehot_y": True,
        "lambda_jdt": 0.0,
        "lambda_ce": 1.0,
        "weight": [1.0, 1.01],
        "backend": backend,
    }
    expected = float(losses.JDTCELoss(**settings)(logits, label))
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(default)
        got = float(losses.JDTCELoss(**settings)(logits, label))
    finally:
        torch.set_default_dtype(before)
    assert got == pytest.approx(expected, rel=1e-6)
