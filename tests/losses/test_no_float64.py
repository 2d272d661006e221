"""Float32 inputs make no float64 tensor, which Apple's MPS does not have: in values, gradients, value checks and errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import monai_jdt.losses as losses
from monai_jdt import value_checks
from monai_jdt.functional import thresholded_dice as thresholded
from monai_jdt.functional.lovasz import lovasz_extension
from monai_jdt.handlers.progress import mean_loss
from monai_jdt.metrics import ThresholdedDice
from monai_jdt.raters import fuse_average, fuse_intersection, fuse_majority, fuse_union, region_votes
from tests.losses.strategies import without_warning
from tests.present import present, tensor_of


class WithoutFloat64(TorchDispatchMode):
    """A device without float64: an operation that makes such a tensor raises, as on MPS. A single number is the CPU's."""

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for made in tree_leaves(result):
            if isinstance(made, torch.Tensor) and made.dtype is torch.float64 and made.ndim > 0:
                raise TypeError(f"{func}: this device has no float64")
        return result


N, C, SPACE = 2, 3, (4, 5)
SOFT = torch.rand(N, C, *SPACE, generator=torch.Generator().manual_seed(0))
SOFT_CLASSES = SOFT / SOFT.sum(1, keepdim=True)
LOGITS = torch.randn(N, C, *SPACE, generator=torch.Generator().manual_seed(1))
INDEX = (torch.arange(N * 20) % C).reshape(N, 1, *SPACE)
ONE_HOT = torch.nn.functional.one_hot(INDEX[:, 0], C).movedim(-1, 1).float()
VOTES = (torch.arange(N * 4 * 20) % 5 % C).reshape(N, 4, *SPACE)
MASK = INDEX > 0
WEIGHTS = torch.tensor([1.0, 0.0, 2.0, 1.0])

#: Without a pixel term, and with each: the presets are JDTLoss with other constants.
FAMILY = ("JDTLoss", "JDTCELoss", "JDTFocalLoss")
FORMS: dict[str, tuple[dict[str, Any], tuple[torch.Tensor, ...], dict[str, Any]]] = {
    "dense": ({"sigmoid": True}, (SOFT,), {}),
    "dense, masked": ({"softmax": True, "classes": "present"}, (SOFT_CLASSES, MASK), {}),
    "bytes": ({"sigmoid": True, "ignore_index": 255}, (ONE_HOT.byte(),), {}),
    "half": ({"softmax": True, "label_smoothing": 0.1}, (SOFT_CLASSES.half(),), {}),
    "index": ({"softmax": True, "to_onehot_y": True, "ignore_index": 1, "weight": [0.1, 2.0, 3.0]}, (INDEX,), {}),
    "float index": ({"softmax": True, "to_onehot_y": True, "average": "image"}, (INDEX.float(), MASK), {}),
    "regions": ({"sigmoid": True, "regions": [[1], [1, 2], [2]], "batch": True}, (INDEX.to(torch.int16),), {}),
    "votes": ({"softmax": True, "votes": True, "average": "class"}, (VOTES,), {"rater_weights": WEIGHTS}),
    "votes, regions": ({"sigmoid": True, "votes": True, "regions": [[1], [1, 2], [2]], "ignore_index": 0}, (VOTES,), {}),
    "powers": ({"sigmoid": True, "gamma": 1.5, "log_loss": True, "norm": 2, "alpha": 0.5, "beta": 0.5}, (SOFT,), {}),
    "averages": ({"softmax": True, "average": {"dataset": 0.2, "image": 0.3, "class": 0.5}}, (SOFT_CLASSES,), {}),
    "pooled": ({"softmax": True, "classes": "pooled", "include_background": False}, (SOFT_CLASSES,), {}),
}


def options_of(name: str, options: dict[str, Any]) -> dict[str, Any]:
    options = dict(options)
    if name in ("JDTCELoss", "JDTFocalLoss") and "regions" not in options:
        options.pop("norm", None)
    return without_warning(name, options)


def assert_runs(loss: Callable[..., torch.Tensor], *arguments: Any, **named: Any) -> None:
    """Forward and backward, everything checked."""
    leaf = LOGITS.clone().requires_grad_()
    with value_checks("on"), WithoutFloat64():
        loss(leaf, *arguments, **named).backward()
    assert present(leaf.grad).isfinite().all()


def test_the_mode_refuses_float64() -> None:
    with WithoutFloat64(), pytest.raises(TypeError, match="no float64"):
        LOGITS.double()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("backend", ["eager", "chunked"])
def test_family(name: str, form: str, backend: str) -> None:
    options, arguments, named = FORMS[form]
    assert_runs(getattr(losses, name)(**options_of(name, options), backend=backend), *arguments, **named)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_inputs(dtype: torch.dtype) -> None:
    leaf = LOGITS.to(dtype).requires_grad_()
    with value_checks("on"), WithoutFloat64():
        losses.JDTCELoss(softmax=True, to_onehot_y=True)(leaf, INDEX, MASK).backward()
        losses.LovaszSoftmaxLoss(to_onehot_y=True)(leaf, INDEX, MASK).backward()
    assert present(leaf.grad).isfinite().all()


@pytest.mark.parametrize("options", [{}, {"per_image": True}, {"classes": "all"}, {"classes": [1]}, {"ignore_index": 2}])
def test_lovasz(options: dict[str, Any]) -> None:
    assert_runs(losses.LovaszSoftmaxLoss(to_onehot_y=True, **options), INDEX, MASK)
    assert_runs(losses.LovaszSoftmaxLoss(**options), ONE_HOT)


@pytest.mark.parametrize("label", [SOFT_CLASSES, None])
def test_distillation(label: torch.Tensor | None) -> None:
    assert_runs(losses.DistillationLoss(softmax=True, temperature=2.0), label, LOGITS.flip(0), MASK)


@pytest.mark.parametrize("form", ["dense", "index", "votes"])
def test_deep_supervision(form: str) -> None:
    options, arguments, named = FORMS[form]
    small = LOGITS[..., :2, :2].clone().requires_grad_()
    loss = losses.SoftDeepSupervisionLoss(losses.JDTCELoss(**options))
    with value_checks("on"), WithoutFloat64():
        loss([LOGITS.clone().requires_grad_(), small], *arguments, **named).backward()
    assert present(small.grad).isfinite().all()


@pytest.mark.parametrize("name", ["JaccardDistance", "DiceDistance"])
@pytest.mark.parametrize("options", [{}, {"dim": 1}, {"smooth": 1e-3}])
def test_distances(name: str, options: dict[str, Any]) -> None:
    x, y = SOFT.clone().requires_grad_(), SOFT.flip(0).requires_grad_()
    with value_checks("on"), WithoutFloat64():
        getattr(losses, name)(**options)(x, y).backward()
    with value_checks("on"), WithoutFloat64(), pytest.raises(ValueError, match="x: expected numbers >= 0"):
        getattr(losses, name)(**options)(x - 5, torch.full_like(x, -1.0))


BAD: dict[str, tuple[dict[str, Any], torch.Tensor, tuple[torch.Tensor, ...]]] = {
    "label above 1": ({"sigmoid": True}, SOFT * 255, ()),
    "bytes above 1": ({"sigmoid": True}, ONE_HOT.byte() * 255, ()),
    "wide integers": ({"sigmoid": True}, ONE_HOT.long() * -(1 << 40), (MASK,)),
    "NaN": ({"sigmoid": True}, SOFT * float("nan"), ()),
    "infinite half": ({"sigmoid": True}, SOFT.half() * float("inf"), ()),
    "no sum of 1": ({"softmax": True}, SOFT, (MASK,)),
    "index out of range": ({"softmax": True, "to_onehot_y": True}, INDEX + 7, ()),
    "no whole index": ({"softmax": True, "to_onehot_y": True}, INDEX + 0.5, ()),
    "negative region": ({"sigmoid": True, "regions": [[1], [2], [3]]}, INDEX - 5, ()),
    "votes out of range": ({"softmax": True, "votes": True}, VOTES + 9, ()),
    "no whole votes": ({"softmax": True, "votes": True}, VOTES + 0.25, ()),
    "logits as probabilities": ({}, SOFT, ()),
    "activation": ({"other_act": torch.tanh}, SOFT, ()),
    "a mask that is a weight": ({"sigmoid": True}, SOFT, (SOFT[:, :1],)),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_values_are_refused(case: str) -> None:
    options, target, others = BAD[case]
    with value_checks("on"), WithoutFloat64(), pytest.raises(ValueError, match="expected"):
        losses.JDTLoss(**options, backend="eager")(LOGITS, target, *others)


def test_wrong_hard_labels_are_refused() -> None:
    with value_checks("on"), WithoutFloat64():
        with pytest.raises(ValueError, match="hard label"):
            losses.LovaszSoftmaxLoss()(LOGITS, SOFT_CLASSES)
        with pytest.raises(ValueError, match="rater_weights"):
            losses.JDTLoss(softmax=True, votes=True)(LOGITS, VOTES, rater_weights=-WEIGHTS)


def test_metric_on_a_device_without_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thresholded, "wide_dtype", lambda device: torch.float32)
    metric = ThresholdedDice()
    with value_checks("on"), WithoutFloat64():
        metric(y_pred=SOFT, y=SOFT.flip(0))
        metric(y_pred=list(SOFT), y=list(SOFT.flip(0)))
        found = tensor_of(metric.aggregate())
    monkeypatch.undo()
    metric.reset()
    metric(y_pred=SOFT, y=SOFT.flip(0))
    assert found.dtype is torch.float32
    torch.testing.assert_close(found.double(), tensor_of(metric.aggregate()), rtol=1e-6, atol=0)
    assert thresholded.wide_dtype(torch.device("mps")) is torch.float32
    assert thresholded.wide_dtype(torch.device("cuda")) is torch.float64


def test_progress_and_fusions() -> None:
    with WithoutFloat64():
        assert mean_loss([{"loss": torch.tensor([0.5, 1.0])}, {"loss": 0.25}]) == 0.5
        for fuse in (fuse_average, fuse_majority, fuse_intersection, fuse_union, region_votes):
            fuse(VOTES[0], [1, [1, 2]])


def test_lovasz_of_many_voxels() -> None:
    """The gradient is a difference of neighbouring Jaccard indices, which are the same number in float32 here."""
    g = torch.Generator().manual_seed(0)
    errors, foreground = torch.rand(1 << 20, generator=g), torch.rand(1 << 20, generator=g) < 0.01
    counted = torch.ones_like(foreground)
    found = []
    for leaf in (errors.clone().requires_grad_(), errors.double().requires_grad_()):
        value = lovasz_extension(leaf, foreground, counted)
        value.backward()
        found.append((value.detach().double(), present(leaf.grad).double()))
    torch.testing.assert_close(*found, rtol=1e-6, atol=0)
    # without foreground: the largest error
    assert lovasz_extension(errors, ~counted, counted) == errors.max()
