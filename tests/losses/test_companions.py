"""Promises 9 and 10 for the losses beside the JDT family: compile, export, meta tensors, no wait for the device, state."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import monai_jdt.losses as losses
from monai_jdt.checks import value_checks
from tests.losses.generated import some


def callables() -> dict[str, tuple[torch.nn.Module, tuple[Any, ...]]]:
    """name -> (module, its arguments)."""
    x, label, teacher, mask = (v.float() if v.is_floating_point() else v for v in some(0, 2, 3, 4, 4))
    index = label.argmax(1, keepdim=True)
    heads = [x, torch.randn(2, 3, 2, 2)]
    return {
        "DistillationLoss": (
            losses.DistillationLoss(softmax=True, temperature=2.0, weight=[1.0, 20.0, 3.0]),
            (x, label, teacher, mask),
        ),
        "DistillationLoss unlabelled": (losses.DistillationLoss(sigmoid=True), (x, None, teacher)),
        "SoftDeepSupervisionLoss": (losses.SoftDeepSupervisionLoss(losses.JDTCELoss(softmax=True)), (heads, label, mask)),
        "SoftDeepSupervisionLoss of indices": (
            losses.SoftDeepSupervisionLoss(losses.JDTLoss(softmax=True, to_onehot_y=True, ignore_index=2)),
            (heads, index),
        ),
        "LovaszSoftmaxLoss": (losses.LovaszSoftmaxLoss(to_onehot_y=True, ignore_index=2, per_image=True), (x, index, mask)),
        "JaccardDistance": (losses.JaccardDistance(), (x.exp(), teacher.exp())),
        "DiceDistance": (losses.DiceDistance(dim=(1, 2)), (x.exp(), teacher.exp())),
    }


NAMES = list(callables())


@pytest.mark.parametrize("name", NAMES)
def test_companions_compile_and_export(name: str) -> None:
    module, given = callables()[name]
    expected = module(*given)
    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(module, fullgraph=True, backend="aot_eager")(*given), expected)
    torch.testing.assert_close(torch.export.export(module, given).module()(*given), expected)
    torch._dynamo.reset()


@pytest.mark.parametrize("name", NAMES)
def test_companions_do_not_wait_for_the_device(name: str) -> None:
    seen = []

    class Waits(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            if any(word in str(func) for word in ("_local_scalar_dense", "nonzero", "masked_select")):
                seen.append(str(func))
            return func(*args, **(kwargs or {}))

    module, given = callables()[name]
    leaf = (given[0][0] if isinstance(given[0], list) else given[0]).clone().requires_grad_()
    first = [leaf, *given[0][1:]] if isinstance(given[0], list) else leaf
    with value_checks("off"), Waits():
        module(first, *given[1:]).backward()
    assert seen == []


@pytest.mark.parametrize("name", NAMES)
def test_companions_state(name: str) -> None:
    module, given = callables()[name]
    before = copy.deepcopy(module.state_dict())
    copies = copy.deepcopy(given)
    expected = module(*given)
    assert before.keys() == module.state_dict().keys()
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(other(*given), expected)
    for original, kept in zip(given, copies, strict=True):
        for a, b in zip(original, kept, strict=True) if isinstance(original, list) else [(original, kept)]:
            assert a is None or torch.equal(a, b)


@pytest.mark.parametrize("name", NAMES)
def test_companions_on_meta_tensors(name: str) -> None:
    module, given = callables()[name]

    def meta(v: Any) -> Any:
        return [meta(e) for e in v] if isinstance(v, list) else None if v is None else v.to("meta")

    assert module.to("meta")(*(meta(v) for v in given)).is_meta


@pytest.mark.parametrize("name", [n for n in NAMES if not n.startswith(("Soft", "Jaccard", "Dice"))])
def test_companions_of_nothing(name: str) -> None:
    module, given = callables()[name]
    for cut in (lambda v: v[:0], lambda v: v[..., :0]):
        x = cut(given[0]).clone().requires_grad_()
        value = module(x, *(None if v is None else cut(v) for v in given[1:]))
        value.backward()
        assert value.item() == 0
        assert x.grad is not None
