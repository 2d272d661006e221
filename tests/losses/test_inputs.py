"""Tensors of any origin: inference mode, subclasses, and what is no tensor at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_jdt import value_checks
from monai_jdt.definitions import Backend
from monai_jdt.functional import inputs as prepared
from monai_jdt.kernels import choice
from monai_jdt.losses import (
    DiceDistance,
    DistillationLoss,
    JaccardDistance,
    JDTCELoss,
    JDTLoss,
    LovaszSoftmaxLoss,
    SoftDeepSupervisionLoss,
)
from tests.present import present

X = torch.randn(2, 3, 4, 4)
SOFT = torch.softmax(torch.randn(2, 3, 4, 4), 1)
INDEX = torch.randint(0, 3, (2, 1, 4, 4))
VOTES = torch.randint(0, 3, (2, 4, 4, 4))
MASK = torch.rand(2, 1, 4, 4) > 0.3
RATERS = torch.rand(2, 4)
FORMS: dict[str, tuple[dict[str, Any], torch.Tensor, dict[str, torch.Tensor]]] = {
    "dense": ({}, SOFT, {}),
    "index": ({"to_onehot_y": True}, INDEX, {}),
    "votes": ({"votes": True}, VOTES, {"rater_weights": RATERS}),
}


def inferred(value: torch.Tensor) -> torch.Tensor:
    """The same numbers, made under inference mode."""
    with torch.inference_mode():
        return value.clone()


def kept(value: torch.Tensor) -> torch.Tensor:
    return value


# --- inference mode ---


@pytest.mark.parametrize("mask", [MASK, MASK.float()], ids=["bool", "float"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kernel", ["eager", "numpy", "chunked", "numba"])
def test_tensors_of_inference_mode_are_tensors(kernel: str, form: str, mask: torch.Tensor) -> None:
    if kernel == "numba":
        pytest.importorskip("numba")
    options, target, extra = FORMS[form]
    for kind in (JDTLoss, JDTCELoss, DistillationLoss):
        teacher = (SOFT,) if kind is DistillationLoss else ()
        results = []
        for change in (kept, inferred):
            with torch.inference_mode(change is inferred):
                loss = kind(softmax=True, weight=[1.0, 0.3, 2.0], backend=kernel, **options)
            x = X.clone().requires_grad_()
            value = loss(x, change(target), *map(change, teacher), change(mask), **{name: change(each) for name, each in extra.items()})
            value.backward()
            results.append((value.detach(), x.grad))
        assert all(map(torch.equal, *results)), kind


def test_tensors_of_inference_mode_in_the_other_losses() -> None:
    x = X.clone().requires_grad_()
    heads = [x, x[..., ::2, ::2]]
    SoftDeepSupervisionLoss(JDTLoss(softmax=True, votes=True))(
        heads, inferred(VOTES), inferred(MASK), rater_weights=inferred(RATERS)
    ).backward()
    SoftDeepSupervisionLoss(torch.nn.BCEWithLogitsLoss())(heads, inferred(SOFT)).backward()
    LovaszSoftmaxLoss(to_onehot_y=True)(x, inferred(INDEX), inferred(MASK)).backward()
    for distance in (JaccardDistance(), DiceDistance()):
        distance(x.sigmoid(), inferred(SOFT)).backward()
        distance(inferred(SOFT), x.sigmoid()).backward()
    assert present(x.grad).isfinite().all()
    assert present(x.grad).abs().sum() > 0


def test_inference_mode_copies_nothing_where_nothing_is_kept_for_backward() -> None:
    label = inferred(SOFT)
    with torch.no_grad():
        assert prepared.prepare(X, label, JDTLoss(softmax=True).recipe.voxels).label.data_ptr() == label.data_ptr()


# --- subclasses ---


class Marked(torch.Tensor):
    """A subclass without anything of its own, as `tv_tensors.Mask`."""


class Counting(torch.Tensor):
    """A subclass with its own rule for functions."""

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return super().__torch_function__(function, types, args, kwargs or {})


SUBCLASSES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "Marked": lambda t: t.as_subclass(Marked),
    "Counting": lambda t: t.as_subclass(Counting),
    "MetaTensor": MetaTensor,
    "Parameter": lambda t: torch.nn.Parameter(t, requires_grad=False),
    "Buffer": torch.nn.Buffer,
}


@pytest.mark.parametrize("name", SUBCLASSES)
def test_a_subclass_is_its_data(name: str) -> None:
    make = SUBCLASSES[name]
    loss = JDTLoss(sigmoid=True)
    x = make(X.clone()).requires_grad_()
    value = loss(x, make(SOFT.clone()), make(MASK.clone()) if name != "Parameter" else MASK)
    value.backward()
    assert type(value) is torch.Tensor
    assert torch.equal(value, loss(X, SOFT, MASK))
    assert x.grad is not None
    with pytest.raises(ValueError, match=r"target.*255"):
        loss(X, make(torch.full_like(X, 255)))
    if name in ("Marked", "Counting", "MetaTensor"):
        with pytest.raises(torch._dynamo.exc.Unsupported, match=f"target: expected a plain tensor under torch.compile, got {name}"):
            torch.compile(loss, fullgraph=True, backend="eager")(X, make(SOFT.clone()))


def test_the_kernel_is_chosen_once_and_after_the_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = []

    def counted(*args: Any) -> Backend:
        chosen.append(choice.choose_kernel(*args))
        return chosen[-1]

    monkeypatch.setattr(prepared, "choose_kernel", counted)
    JDTCELoss(softmax=True)(X, SOFT)
    assert len(chosen) == 1
    DistillationLoss(softmax=True, temperature=2.0)(X, SOFT, X)
    assert len(chosen) == 2
    with pytest.raises(ValueError, match="target"):
        JDTLoss(softmax=True, backend="numba")(X.double(), SOFT[:1])
    assert len(chosen) == 2


def test_wide_unsigned_labels_run_on_the_fast_kernels() -> None:
    pytest.importorskip("numba")
    loss = JDTLoss(softmax=True, to_onehot_y=True, backend="numba")
    for dtype in (torch.uint16, torch.uint32):
        assert torch.equal(loss(X, INDEX.to(dtype)), loss(X, INDEX))


# --- integer labels of few bits ---


@pytest.mark.parametrize(("dtype", "channels"), [(torch.int8, 129), (torch.uint8, 257), (torch.int16, 40000)])
def test_channel_numbers_are_compared_wide(dtype: torch.dtype, channels: int) -> None:
    x, label = torch.randn(1, channels, 3), torch.full((1, 1, 3), 7, dtype=dtype)
    forms: list[dict[str, Any]] = [{"to_onehot_y": True}, {"votes": True}]
    for options in forms:
        loss = JDTLoss(softmax=True, **options)
        assert torch.equal(loss(x, label), loss(x, label.long()))
    if dtype.is_signed:
        with pytest.raises(ValueError, match=f"0 to {channels - 1}, got -7"):
            JDTLoss(softmax=True, to_onehot_y=True)(x, -label)


def test_regions_that_the_labels_dtype_cannot_hold_are_refused() -> None:
    loss = JDTLoss(sigmoid=True, regions=[[1], [300, 400], [2]])
    with pytest.raises(ValueError, match=r"regions: .*torch.uint8.*\[300, 400\]"):
        loss(X, INDEX.to(torch.uint8))
    assert loss(X, INDEX.to(torch.int16)).isfinite()


@pytest.mark.parametrize("votes", [False, True])
def test_an_ignored_value_is_in_no_region(votes: bool) -> None:
    with pytest.raises(ValueError, match=r"ignore_index: .* got 255"):
        JDTLoss(sigmoid=True, votes=votes, regions=[[1], [255]], ignore_index=255)


# --- no tensors ---


@pytest.mark.parametrize("loss", [JDTLoss(softmax=True), JDTCELoss(softmax=True), LovaszSoftmaxLoss()], ids=lambda x: type(x).__name__)
def test_heads_and_lists_in_the_wrong_place_are_refused(loss: JDTLoss | JDTCELoss | LovaszSoftmaxLoss) -> None:
    for heads in ([X, X], (X, X), {"out": X, "aux": X}):
        with pytest.raises(TypeError, match=r"input: expected a torch.Tensor, got \w+ of 2. Fix: .*SoftDeepSupervisionLoss\(loss\)"):
            loss(heads, SOFT)
    with pytest.raises(TypeError, match=r"target: .*list of 2. Fix: pass the label at full resolution"):
        loss(X, [SOFT, SOFT])
    with pytest.raises(TypeError, match=r"target: .*None. Fix: .*DistillationLoss"):
        loss(X, None)
    for name, given in (("input", (X.numpy(), SOFT)), ("target", (X, SOFT.numpy()))):
        with pytest.raises(TypeError, match=rf"{name}: .*ndarray. Fix: pass torch.as_tensor\({name}\)"):
            loss(*given)


def test_heads_are_any_sequence_but_no_mapping(own_sequence: Callable[..., Sequence[torch.Tensor]]) -> None:
    loss = SoftDeepSupervisionLoss(JDTLoss(softmax=True))
    assert torch.equal(loss(own_sequence(X, X), SOFT), loss([X, X], SOFT))
    with pytest.raises(TypeError, match=r"input: .*dict of 2. Fix: pass list\(input.values\(\)\)"):
        loss({"out": X, "aux": X}, SOFT)
    with pytest.raises(TypeError, match=r"target: .*list of 2"):
        loss([X, X], [SOFT, SOFT])
    with pytest.raises(TypeError, match=r"input\[1\]: .*ndarray"):
        loss([X, np.zeros((2, 3, 4, 4))], SOFT)


@pytest.mark.parametrize(
    "loss",
    [JDTLoss(), JDTCELoss(softmax=True), LovaszSoftmaxLoss(), SoftDeepSupervisionLoss(JDTLoss()), JaccardDistance()],
    ids=lambda x: type(x).__name__,
)
def test_script_is_refused_by_name(loss: Any) -> None:
    for module in (loss, torch.nn.Sequential(torch.nn.Linear(1, 1), loss)):
        with pytest.raises(TypeError, match=rf"torch.jit.script: .*{type(loss).__name__}. Fix: .*torch.export.*torch.jit.trace"):
            torch.jit.script(module)


# --- deep supervision keeps the backend ---


def test_deep_supervision_runs_every_head_on_the_named_kernel() -> None:
    small = X[..., ::2, ::2].clone().requires_grad_()
    loss = SoftDeepSupervisionLoss(JDTLoss(softmax=True, backend="eager"))
    with value_checks("off"):
        (slope,) = torch.autograd.grad(loss([X, small], SOFT), small, create_graph=True)
    slope.square().sum().backward()  # a second derivative, which the other kernels do not have
    assert loss.backend_used == "eager"
    chunked = SoftDeepSupervisionLoss(JDTLoss(softmax=True, backend="chunked"))
    (slope,) = torch.autograd.grad(chunked([X, small], SOFT), small, create_graph=True)
    assert chunked.backend_used == "chunked"
    with pytest.raises(RuntimeError, match="backend='eager'"):
        slope.square().sum().backward()
    for heads in ([X], [small.detach()], [X, small]):
        with pytest.raises(ValueError, match=r"backend: .*numba"):  # not installed, or not for float64
            SoftDeepSupervisionLoss(JDTLoss(softmax=True, backend="numba"))([head.double() for head in heads], SOFT)
    mixed = SoftDeepSupervisionLoss(JDTLoss(softmax=True))
    mixed([torch.randn(1, 2, 512, 512), torch.randn(1, 2, 4, 4)], torch.full((1, 2, 512, 512), 0.5))
    first, second = present(mixed.backend_used).split(", ")
    assert first in ("numba", "numpy", "chunked")
    assert second == "eager"


# --- raters of weight 0 ---


def test_an_image_without_raters_is_ignored_and_a_batch_of_them_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    from monai_jdt.checks import values

    loss = JDTLoss(softmax=True, votes=True)
    weights = RATERS.clone()
    weights[1] = 0
    assert torch.allclose(loss(X, VOTES, rater_weights=weights), loss(X[:1], VOTES[:1], rater_weights=RATERS[:1]))
    values._log_no_rater.cache_clear()
    for _ in range(2):
        assert loss(X, VOTES, rater_weights=torch.zeros(4)) == 0
    assert [record.message for record in caplog.records if "rater_weights" in record.message] == [caplog.records[-1].message]
    assert "every rater" in caplog.records[-1].message
