"""Promise 9: compile in one graph, export, vmap, meta tensors, functional gradients; no wait for the device; MetaTensors."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import monai.data
import pytest
import torch
import torch._dynamo.testing
from torch.utils._python_dispatch import TorchDispatchMode

import monai_jdt.losses as losses
from monai_jdt.checks import value_checks
from tests.losses.strategies import COMPOUND, OVERLAP, without_warning
from tests.present import present

ALL = OVERLAP + COMPOUND
X = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
SOFT = torch.softmax(torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(1)), 1)
INDEX = SOFT.argmax(1, keepdim=True)
VOTES = torch.randint(0, 3, (2, 4, 4, 5), generator=torch.Generator().manual_seed(2))
MASK = torch.rand(2, 1, 4, 5, generator=torch.Generator().manual_seed(3)) < 0.7

#: What takes different paths: form, activation, averages, powers, masks.
WAYS: dict[str, tuple[dict[str, Any], tuple[torch.Tensor, ...]]] = {
    "soft softmax": ({"softmax": True}, (SOFT,)),
    "masked sigmoid": ({"sigmoid": True, "average": {"dataset": 0.2, "image": 0.3, "class": 0.5}, "classes": "both"}, (SOFT, MASK)),
    "index": (
        {"softmax": True, "to_onehot_y": True, "ignore_index": 2, "classes": "present", "weight": [1.0, 20.0, 3.0]},
        (INDEX, MASK),
    ),
    "votes": ({"softmax": True, "votes": True, "label_smoothing": 0.1, "gamma": 1.5, "log_loss": True}, (VOTES,)),
    "regions": ({"sigmoid": True, "regions": [[1], [1, 2], [2]], "batch": True, "norm": 2}, (INDEX,)),
    "pooled": (
        {"sigmoid": True, "classes": "pooled", "include_background": False, "reduction": "sum"},
        (SOFT, MASK.expand(2, 3, 4, 5)),
    ),
    "dense ignored": ({"softmax": True, "ignore_index": -1, "classes": [0, 2]}, (SOFT.masked_fill(MASK, -1),)),
}
CASES = [pytest.param(name, way, id=f"{name}-{way}") for name in ALL for way in WAYS]


def made(name: str, way: str) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    options, given = WAYS[way]
    return getattr(losses, name)(**without_warning(name, options)), given


def value_and_gradient(
    loss: Callable[..., torch.Tensor], given: Sequence[torch.Tensor], x: torch.Tensor = X
) -> tuple[torch.Tensor, torch.Tensor]:
    leaf = x.detach().clone().requires_grad_()
    value = loss(leaf, *given)
    value.backward()
    return value.detach(), present(leaf.grad)


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize(("name", "way"), CASES)
def test_compile_in_one_graph(name: str, way: str) -> None:
    loss, given = made(name, way)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(value_and_gradient(compiled, given), value_and_gradient(loss, given), rtol=1e-5, atol=1e-7)


@pytest.mark.long
@pytest.mark.parametrize(("name", "way"), CASES)
def test_compile_with_inductor(name: str, way: str) -> None:
    loss, given = made(name, way)
    compiled = torch.compile(loss, fullgraph=True)
    torch.testing.assert_close(value_and_gradient(compiled, given), value_and_gradient(loss, given), rtol=1e-5, atol=1e-6)


def test_compile_with_inductor_once() -> None:
    loss, given = made("JDTCELoss", "index")
    compiled = torch.compile(loss, fullgraph=True)
    torch.testing.assert_close(value_and_gradient(compiled, given), value_and_gradient(loss, given), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["JDTCELoss"])
def test_compile_for_any_size(name: str) -> None:
    """Dynamic shapes: one graph for all sizes, and no break at another one."""
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    loss = getattr(losses, name)(softmax=True, to_onehot_y=True, ignore_index=255)
    compiled = torch.compile(loss, fullgraph=True, dynamic=True, backend=counter)
    for n, a, b in ((2, 4, 5), (3, 6, 7), (4, 8, 3), (5, 2, 9)):
        x, index = torch.randn(n, 3, a, b), torch.randint(0, 3, (n, 1, a, b))
        torch.testing.assert_close(compiled(x, index), loss(x, index))
    assert counter.frame_count <= 2


@pytest.mark.parametrize(("name", "way"), CASES)
def test_export(name: str, way: str) -> None:
    loss, given = made(name, way)
    program = torch.export.export(loss, (X, *given))
    torch.testing.assert_close(program.module()(X, *given), loss(X, *given))


def test_export_with_a_free_batch_and_space() -> None:
    loss, given = made("JDTCELoss", "index")
    n, d = torch.export.Dim("n", min=2, max=64), torch.export.Dim("d", min=2, max=64)
    shape = {0: n, 2: d}
    program = torch.export.export(loss, (X, *given), dynamic_shapes={"input": shape, "target": shape, "mask": shape})
    bigger = (torch.randn(4, 3, 6, 5), torch.randint(0, 3, (4, 1, 6, 5)), torch.rand(4, 1, 6, 5) < 0.5)
    torch.testing.assert_close(program.module()(*bigger), loss(*bigger))


@pytest.mark.parametrize(("name", "way"), CASES)
def test_vmap_over_the_batch(name: str, way: str) -> None:
    """Each image by itself, as in per-sample gradients; the gradients too."""
    loss, given = made(name, way)
    singles = [value_and_gradient(loss, [g[i : i + 1] for g in given], X[i : i + 1]) for i in range(2)]

    def one(x: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        return loss(x[None], *(r[None] for r in rest))

    torch.testing.assert_close(torch.vmap(one)(X, *given), torch.stack([value for value, _ in singles]))
    gradients = torch.vmap(torch.func.grad(one))(X, *given)
    torch.testing.assert_close(gradients, torch.cat([gradient for _, gradient in singles]))


@pytest.mark.parametrize(("name", "way"), CASES)
def test_meta_tensors(name: str, way: str) -> None:
    """Shapes and dtypes without numbers, as when a model is planned."""
    loss, given = made(name, way)
    x = X.to("meta").requires_grad_()
    value = copy.deepcopy(loss).to("meta")(x, *(g.to("meta") for g in given))
    value.backward()
    assert value.is_meta
    assert value.shape == ()
    assert value.dtype is torch.float32
    assert present(x.grad).shape == X.shape


class Waits(TorchDispatchMode):
    """Counts the operations that wait for a device: reading a number, and shapes that depend on values."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = str(func)
        boolean_index = name.startswith(("aten.index.", "aten.index_put")) and any(
            i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1]
        )
        waiting = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal.default", "unique", "bincount")
        if boolean_index or any(word in name for word in waiting):
            self.seen.append(name)
        return func(*args, **(kwargs or {}))


def test_the_counter_counts() -> None:
    with Waits() as waits:
        x = torch.rand(4)
        x[x > 0.5].sum().item()
        bool(x.any())
    assert len(waits.seen) >= 3


@pytest.mark.parametrize(("name", "way"), CASES)
def test_no_wait_for_the_device(name: str, way: str) -> None:
    loss, given = made(name, way)
    x = X.clone().requires_grad_()
    with value_checks("off"), Waits() as waits:
        loss(x, *given).backward()
    assert waits.seen == []


def test_no_wait_for_the_device_with_rater_weights() -> None:
    loss = losses.JDTCELoss(softmax=True, votes=True, ignore_index=255)
    x = X.clone().requires_grad_()
    with value_checks("off"), Waits() as waits:
        loss(x, VOTES, MASK, rater_weights=torch.rand(2, 4)).backward()
    assert waits.seen == []


@pytest.mark.parametrize("name", ALL)
def test_metatensors_in_plain_tensor_out(name: str) -> None:
    for way in WAYS:
        loss, given = made(name, way)
        expected, gradient = value_and_gradient(loss, given)
        leaf = X.clone().requires_grad_()
        value = loss(monai.data.MetaTensor(leaf), *(monai.data.MetaTensor(g) for g in given))
        value.backward()
        assert type(value) is torch.Tensor
        assert torch.equal(value, expected)
        assert torch.equal(present(leaf.grad), gradient)


@pytest.mark.parametrize("name", ALL)
def test_memory_layouts(name: str) -> None:
    """Promise 8: crops, transposes, channels_last and expanded batches are the numbers they hold (hole 14)."""
    loss = getattr(losses, name)(softmax=True, average="image")
    expected = loss(X, SOFT, MASK)
    for change in (
        lambda v: v.to(memory_format=torch.channels_last),
        lambda v: v.transpose(2, 3).contiguous().transpose(2, 3),
        lambda v: v.movedim(0, -1).contiguous().movedim(-1, 0),
        lambda v: torch.nn.functional.pad(v.float(), (2, 3, 1, 1), value=7.0)[..., 1:-1, 2:-3].to(v.dtype),
        lambda v: torch.nn.functional.pad(v, (2, 3))[..., 2:-3],
    ):
        x = change(X).detach().requires_grad_()
        got = loss(x, change(SOFT), change(MASK))
        got.backward()
        torch.testing.assert_close(got, expected)
    one = X[:1].expand(3, -1, -1, -1), SOFT[:1].expand(3, -1, -1, -1), MASK[:1].expand(3, -1, -1, -1)
    torch.testing.assert_close(loss(*one), loss(X[:1], SOFT[:1], MASK[:1]))


@pytest.mark.parametrize("name", ALL)
def test_one_to_four_dimensions_and_none(name: str) -> None:
    """The same 24 voxels in any number of dimensions; (N, C) is one voxel for each pair."""
    x, t = torch.randn(2, 3, 24), torch.softmax(torch.randn(2, 3, 24), 1)
    loss = getattr(losses, name)(softmax=True)
    for space in ((24,), (4, 6), (2, 3, 4), (1, 2, 3, 4), (2, 2, 2, 3, 1)):
        torch.testing.assert_close(loss(x.reshape(2, 3, *space), t.reshape(2, 3, *space)), loss(x, t))
    torch.testing.assert_close(loss(x[..., 0], t[..., 0]), loss(x[..., :1], t[..., :1]))
    batch = getattr(losses, name)(softmax=True, batch=True)
    torch.testing.assert_close(batch(x[..., 0], t[..., 0]), batch(x[:, :, :1], t[:, :, :1]))
