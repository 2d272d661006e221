"""The loss and its slopes in one program on the device, against the definition, and how few launches a step has with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.present import present

pytest.importorskip("triton")

from monai_jdt.definitions import Activation, ActiveClasses, AveragingRule, Backend, LossRecipe, VoxelRecipe
from monai_jdt.functional import closed_form, jdt_loss, loss_and_slopes
from monai_jdt.functional.overlap import combine
from monai_jdt.kernels import operators, trial
from monai_jdt.kernels.rows import DIFFERENTIABLE_ROWS, Row, named_sums, split_rows
from monai_jdt.kernels.triton import launch as triton_launch
from monai_jdt.kernels.triton import loss as triton_loss_module
from monai_jdt.kernels.triton.loss import MOST_PAIRS, fits_one_program, triton_loss
from monai_jdt.losses import JDTCELoss, JDTLoss
from tests.functional.test_closed_form import recipes, sums_of

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

pytestmark = pytest.mark.usefixtures("poisoned_memory")


def by_definition(rows: torch.Tensor, recipe: LossRecipe, weight: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    leaf = rows.double().requires_grad_()
    sums, _ = named_sums(split_rows(leaf, recipe.voxels), recipe.voxels)
    expected = combine([(1.0, sums, recipe)], None if weight is None else weight.double())
    slopes = torch.zeros_like(leaf)
    if expected.requires_grad:
        (slopes,) = torch.autograd.grad(expected, leaf)
    return expected.detach(), slopes[:DIFFERENTIABLE_ROWS]


@pytest.mark.parametrize("part", range(2))
def test_value_and_slopes_are_those_of_the_definition(part: int) -> None:
    """Every averaging, choice of classes and ratio; and weights in turns, one for all or one for each class."""
    count = 0
    for number, recipe in enumerate(recipes()):
        if number % 2 != part:
            continue
        rows = sums_of(number, 3, 5).float()
        if recipe.voxels.activation is Activation.SOFTMAX:
            rows[Row.PIXEL : Row.COUNTED, :, 1:] = 0
        weights = (None, torch.linspace(0.5, 2, 5 - recipe.voxels.first_channel), torch.tensor(1.7))
        weight = None if recipe.averaging.classes is ActiveClasses.POOLED else weights[number // 2 % 3]
        expected, slopes = by_definition(rows, recipe, weight)
        settings = closed_form.triton_settings(recipe, 5)
        got, by_sums = triton_loss(rows.to(DEVICE), None if weight is None else weight.to(DEVICE), settings)
        if not recipe.ratio.log_loss or recipe.ratio.smooth_dr > 0:  # the least argument of a logarithm is a dtype's
            assert got.item() == pytest.approx(expected.item(), rel=1e-6, abs=1e-30), recipe
        np.testing.assert_allclose(by_sums.cpu().numpy(), slopes.numpy(), rtol=2e-6, atol=1e-9, err_msg=str(recipe))
        count += 1
    assert count > 50


def test_limits_are_those_of_float32() -> None:
    """No overlap at all under a logarithm, and sums that one cannot divide by."""
    unsmoothed = JDTLoss(log_loss=True, smooth_nr=0, smooth_dr=0).recipe
    rows = torch.ones(len(Row), 1, 1, device=DEVICE)
    rows[Row.TP] = 0
    value, slopes = triton_loss(rows, None, closed_form.triton_settings(unsmoothed, 1))
    assert value.item() == pytest.approx(-np.log(np.finfo(np.float32).tiny), rel=1e-6)
    assert not slopes.any()
    rows[: Row.PIXEL] = 1e-40
    plain = JDTLoss(smooth_nr=0, smooth_dr=0).recipe
    value, slopes = triton_loss(rows, None, closed_form.triton_settings(plain, 1))
    assert value.item() == pytest.approx(2 / 3, rel=1e-5)
    assert not slopes.any()
    rows[: Row.PIXEL] = 0
    value, slopes = triton_loss(rows, None, closed_form.triton_settings(plain, 1))
    assert value.item() == 0
    assert not slopes.any()


@pytest.mark.parametrize("counted", [True, False])
def test_nan_is_seen_where_it_counts(counted: bool) -> None:
    rows = torch.ones(len(Row), 2, 3, device=DEVICE)
    rows[: Row.PIXEL, 1, 2] = float("nan")
    rows[Row.COUNTED, 1, 2] = float(counted)
    value, slopes = triton_loss(rows, None, closed_form.triton_settings(JDTLoss(log_loss=True, gamma=1.5).recipe, 3))
    assert bool(value.isnan()) is counted
    assert bool(slopes[Row.TP, 1, 2].isnan()) is counted
    assert slopes[: Row.PIXEL, 0].isfinite().all()


@pytest.mark.parametrize("shape", [(0, 3), (2, 3)])
def test_an_empty_batch_costs_nothing(shape: tuple[int, int]) -> None:
    logits = torch.zeros(*shape, 0 if shape[0] else 4, device=DEVICE, requires_grad=True)
    value = JDTCELoss(softmax=True, backend="triton")(logits, torch.zeros_like(logits))
    value.backward()
    assert value.item() == 0
    assert present(logits.grad).shape == logits.shape


def test_a_listed_channel_must_be_in_the_overlap() -> None:
    logits = torch.zeros(1, 3, 4, device=DEVICE)
    with pytest.raises(ValueError, match="channel numbers 1 to 2"):
        JDTLoss(softmax=True, include_background=False, classes=[0], backend="triton")(logits, logits.softmax(1))


@pytest.mark.parametrize("options", [{}, {"average": {"dataset": 0.2, "image": 0.3, "class": 0.5}, "weight": [1.0, 2.0, 0.5]}])
def test_a_step_is_that_of_eager(options: dict[str, Any]) -> None:
    logits, label = torch.randn(2, 3, 5, 7, device=DEVICE), torch.randn(2, 3, 5, 7, device=DEVICE).softmax(1)
    found = []
    for backend in ("triton", "eager"):
        leaf = logits.clone().requires_grad_()
        value = JDTCELoss(softmax=True, backend=backend, **options).to(DEVICE)(leaf, label)
        (value * 3).backward()
        found.append((value.detach(), present(leaf.grad)))
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-7)
    assert JDTCELoss(softmax=True, backend="triton", **options).to(DEVICE)(logits, label).item() == found[0][0].item()


def test_many_pairs_are_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fits_one_program(2, 1024)
    assert not fits_one_program(MOST_PAIRS + 1, 1)
    recipe = LossRecipe(voxels=VoxelRecipe(Activation.SIGMOID), averaging=AveragingRule(batch=True))
    logits, label = torch.randn(9, 1, 1, device=DEVICE), torch.rand(9, 1, 1, device=DEVICE)
    monkeypatch.setattr(triton_loss_module, "MOST_PAIRS", 8)
    monkeypatch.setattr(triton_loss_module, "triton_loss", lambda *given: pytest.fail("one program for all pairs"))
    found = [jdt_loss(logits, label, recipe, backend=backend).item() for backend in (Backend.TRITON, Backend.EAGER)]
    assert found[0] == pytest.approx(found[1], rel=1e-5)


class Launches(TorchDispatchMode):
    """Counts what would be launched on a device: operators of torch that do more than make memory or look at it in another way."""

    FREE = (
        "promote_types",
        "empty",
        "empty_like",
        "empty_strided",
        "new_empty",
        "detach",
        "view",
        "_unsafe_view",
        "unsqueeze",
        "expand",
        "slice",
    )

    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
        name = function.overloadpacket.__name__
        if name not in self.FREE:
            self.names[name] += 1
        return function(*arguments, **(keywords or {}))


class Counted:
    """In a kernel's place: a launch is counted, and does nothing."""

    def __init__(self, name: str, names: Counter[str]) -> None:
        self.name, self.names = name, names

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        def launch(*arguments: Any, **settings: Any) -> None:
            self.names[self.name] += 1

        return launch


def test_a_step_has_few_launches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three forward and one backward, beside the one that autograd starts with; votes make their weights in each direction."""
    torch.use_deterministic_algorithms(False)  # which fills what is empty
    logits = torch.randn(2, 3, 4, 4, device=DEVICE)
    soft, votes = logits.softmax(1), torch.zeros(2, 3, 4, 4, dtype=torch.uint8, device=DEVICE)
    mask = torch.ones(2, 1, 4, 4, dtype=torch.bool, device=DEVICE)
    weight = torch.tensor([1.0, 2.0, 0.5])
    index = torch.zeros(2, 1, 4, 4, dtype=torch.int64, device=DEVICE)
    options: dict[str, Any] = {"softmax": True, "backend": "triton"}
    average: dict[str, Any] = {"average": {"dataset": 0.2, "image": 0.3, "class": 0.5}, "classes": "both"}
    steps = {
        "soft": (JDTCELoss(**options), (soft,), 3, 2),
        "mask, weight": (JDTCELoss(weight=weight, include_background=False, **options), (soft, mask), 3, 2),
        "averages": (JDTCELoss(**average, **options), (soft,), 3, 2),
        "index": (JDTCELoss(to_onehot_y=True, ignore_index=255, **options), (index,), 3, 2),
        "votes": (JDTCELoss(votes=True, **options), (votes,), 4, 3),
    }
    for loss, (label, *given), _, _ in steps.values():
        # a kernel's trial comes before its first use
        loss.to(DEVICE)(logits.clone().requires_grad_(), label, *given).backward()
    with monkeypatch.context() as patch:
        # The mode below would itself be noticed, and an interpreted kernel calls torch.
        patch.setattr(closed_form, "is_observed", lambda: False)
        patch.setattr(operators, "is_observed", lambda: False)
        patch.setattr(closed_form, "can_read_values", lambda *tensors: False)
        for name, (loss, (label, *given), forward, backward) in steps.items():
            leaf = logits.clone().requires_grad_()
            with patch.context() as inner:
                counts = Launches()
                for module, kernels in (
                    (triton_launch, ("sums_kernel", "total_kernel", "gradient_kernel")),
                    (triton_loss_module, ("loss_kernel",)),
                ):
                    for kernel in kernels:
                        inner.setattr(module, kernel, Counted(kernel, counts.names))
                with counts:
                    value = loss(leaf, label, *given)
                    assert counts.names.total() == forward, (name, counts.names)
                    value.backward()
                    assert counts.names.total() == forward + backward, (name, counts.names)


def test_the_closed_form_of_a_cpu_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the host would wait for the device."""
    assert closed_form.loss_kernel_agrees(torch.device(DEVICE))
    monkeypatch.setattr(loss_and_slopes, "closed_form", None)
    monkeypatch.setattr(closed_form, "closed_form", None)
    monkeypatch.setattr(closed_form, "combine", None)
    logits = torch.randn(1, 3, 6, device=DEVICE, requires_grad=True)
    JDTLoss(softmax=True, backend="triton")(logits, logits.detach().softmax(1)).backward()
    assert present(logits.grad).isfinite().all()


def test_predictions_below_zero_have_the_slopes_of_the_definition() -> None:
    """Where nobody checks values, as on a GPU, everything may be a number below 0, by which one can divide."""
    rows = torch.ones(len(Row), 2, 3)
    rows[Row.TP] = -5
    recipe = JDTLoss().recipe
    expected, slopes = by_definition(rows, recipe, None)
    got, by_sums = triton_loss(rows.to(DEVICE), None, closed_form.triton_settings(recipe, 3))
    assert got.item() == pytest.approx(expected.item(), rel=1e-6)
    assert slopes[: Row.PIXEL].all()
    np.testing.assert_allclose(by_sums.cpu().numpy(), slopes.numpy(), rtol=2e-6)


def test_the_program_may_first_be_used_under_a_default_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_verdicts", {})
    logits = torch.randn(2, 3, 4, 4, device=DEVICE)
    label = torch.randn(2, 3, 4, 4, device=DEVICE).softmax(1)
    with torch.device("meta"):
        got = JDTCELoss(softmax=True, backend="triton")(logits, label)
    assert set(trial._verdicts.values()) == {""}
    assert torch.equal(got, JDTCELoss(softmax=True, backend="triton")(logits, label))


@pytest.mark.parametrize("fault", ["wrong slopes", "wrong value", "NaN", "raises"])
def test_a_program_that_fails_on_a_device_is_not_used(
    fault: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(trial, "_verdicts", {})
    right = triton_loss_module.triton_loss

    def broken(*arguments: Any) -> Any:
        if fault == "raises":
            raise RuntimeError("PassManager::run failed")
        value, slopes = right(*arguments)
        return {
            "wrong slopes": (value, slopes * 1.001),
            "wrong value": (value + 0.001, slopes),
            "NaN": (value * float("nan"), slopes),
        }[fault]

    logits = torch.randn(2, 3, 4, 4, device=DEVICE)
    label = torch.randn(2, 3, 4, 4, device=DEVICE).softmax(1)
    expected = JDTCELoss(softmax=True, backend="eager")(logits, label)
    assert closed_form.loss_kernel_agrees(logits.device)
    trial._verdicts.clear()
    monkeypatch.setattr(triton_loss_module, "triton_loss", broken)
    assert torch.allclose(JDTCELoss(softmax=True, backend="triton")(logits, label), expected)
    assert trial._verdicts["their program for (N, C) sums", logits.device]
    assert "program for (N, C) sums" in caplog.text
    trial._verdicts.clear()
    monkeypatch.setenv("MONAI_JDT_KERNEL_TRIAL", "off")
    assert closed_form.loss_kernel_agrees(logits.device)
    assert trial._verdicts == {}
