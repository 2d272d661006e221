"""On hard labels the losses are MONAI's own, values and gradients, over its argument grid; on soft labels its `soft_label=True`."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from typing import Any

import monai.losses
import pytest
import torch
from torch import nn

import monai_jdt.losses as losses
from tests.present import present
from tests.versions import needs_monai

SPACES = [(6,), (3, 4), (2, 3, 2)]
ACTIVATIONS = [{"sigmoid": True}, {"softmax": True}, {"other_act": torch.sigmoid}]
GRID = [
    dict(zip(("include_background", "batch", "reduction", "smooth"), values, strict=True))
    for values in itertools.product([True, False], [False, True], ["mean", "sum", "none"], [(1e-5, 1e-5), (0.0, 1e-4), (0.5, 1.0)])
]


def assert_same(ours: nn.Module, theirs: nn.Module, x: torch.Tensor, target: torch.Tensor, rtol: float = 1e-9) -> None:
    """Values and gradients of two losses; the sum of them for reduction "none"."""
    results = []
    for loss in (ours, theirs):
        leaf = x.clone().requires_grad_()
        value = loss(leaf, target)
        value.sum().backward()
        results.append((value.detach(), leaf.grad))
    (value, gradient), (expected, expected_gradient) = results
    assert value.shape == expected.shape
    torch.testing.assert_close(value, expected, rtol=rtol, atol=1e-12)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-6, atol=1e-10 if rtol < 1e-6 else 1e-8)


def hard_label(channels: int, space: tuple[int, ...], form: str) -> tuple[torch.Tensor, dict[str, Any]]:
    index = torch.randint(0, channels, (2, 1, *space))
    if form == "index":
        return index, {"to_onehot_y": True}
    if form == "regions":  # channels that overlap
        return torch.randint(0, 2, (2, channels, *space)).double(), {}
    return torch.nn.functional.one_hot(index[:, 0], channels).movedim(-1, 1).contiguous().double(), {}


def options_of(options: dict[str, Any]) -> dict[str, Any]:
    own = dict(options)
    own["smooth_nr"], own["smooth_dr"] = own.pop("smooth")
    return own


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=["sigmoid", "softmax", "other_act"])
@pytest.mark.parametrize("form", ["index", "one-hot", "regions"])
@pytest.mark.parametrize("soft", [False, True])
def test_dice_loss(activation: dict[str, Any], form: str, soft: bool) -> None:
    """DiceLoss -> DiceSemimetricLoss, DiceLoss(jaccard=True) -> JaccardMetricLoss; MONAI's soft_label=True on top."""
    if form == "regions" and "softmax" in activation:
        pytest.skip("softmax labels sum to 1")
    for drawn, space in zip(GRID, itertools.cycle(SPACES), strict=False):
        target, reading = hard_label(3, space, form)
        x = torch.randn(2, 3, *space, dtype=torch.float64)
        options = {**options_of(drawn), **activation, **reading}
        assert_same(losses.DiceSemimetricLoss(**options), monai.losses.DiceLoss(soft_label=soft, **options), x, target)
        assert_same(losses.JaccardMetricLoss(**options), monai.losses.DiceLoss(jaccard=True, soft_label=soft, **options), x, target)


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("weight", [None, 2.0, [20.0, 1.0, 0.5], [20.0, 1.0]])
@pytest.mark.parametrize(
    "ignore_index", [None, *(pytest.param(marker, marks=needs_monai("1.6.1", "`ignore_index` of DiceLoss")) for marker in (255, 2))]
)
def test_dice_loss_with_weight_squares_and_ignore_index(
    squared: bool, weight: list[float] | float | None, ignore_index: int | None
) -> None:
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    index = torch.randint(0, 3, (2, 1, 4, 5))
    marker: dict[str, Any] = {}
    if ignore_index is not None:
        index[:, :, 1] = ignore_index
        marker = {"ignore_index": ignore_index}
    options: dict[str, Any] = {
        "to_onehot_y": True,
        "squared_pred": squared,
        "softmax": True,
        "include_background": not (isinstance(weight, list) and len(weight) == 2),
    }
    assert_same(
        losses.DiceSemimetricLoss(weight=weight, ignore_index=ignore_index, **options),
        monai.losses.DiceLoss(weight=weight, **marker, **options),
        x,
        index,
        rtol=1e-6,  # MONAI squares the label in float32
    )


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=["sigmoid", "softmax", "other_act"])
@pytest.mark.parametrize("form", ["index", "one-hot", "regions"])
@pytest.mark.parametrize("costs", [{}, {"alpha": 0.3, "beta": 0.7}, {"alpha": 1.0, "beta": 0.25}])
def test_tversky_loss(activation: dict[str, Any], form: str, costs: dict[str, Any]) -> None:
    if form == "regions" and "softmax" in activation:
        pytest.skip("softmax labels sum to 1")
    for drawn, space in zip(GRID, itertools.cycle(SPACES), strict=False):
        target, reading = hard_label(3, space, form)
        x = torch.randn(2, 3, *space, dtype=torch.float64)
        options = {**options_of(drawn), **activation, **reading, **costs}
        assert_same(losses.CompatibleTverskyLoss(**options), monai.losses.TverskyLoss(**options), x, target)


@pytest.mark.parametrize(
    "options", [{}, {"include_background": False}, {"batch": True}, {"reduction": "sum"}, {"weight": [20.0, 1.0, 0.5]}]
)
@pytest.mark.parametrize("lambdas", [(1.0, 1.0), (0.75, 0.25), (0.0, 2.0)])
def test_dice_ce_loss_with_softmax(options: dict[str, Any], lambdas: tuple[float, ...]) -> None:
    """Ours adds its smoothing to tp, MONAI's to 2 tp: half of it."""
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    index = torch.randint(0, 3, (2, 1, 4, 5))
    theirs: dict[str, Any] = dict(options)
    if "weight" in theirs:
        theirs["weight"] = torch.tensor(theirs["weight"], dtype=torch.float64)
    assert_same(
        losses.JDTCELoss(
            softmax=True,
            to_onehot_y=True,
            alpha=0.5,
            beta=0.5,
            lambda_jdt=lambdas[0],
            lambda_ce=lambdas[1],
            smooth_nr=0.5e-5,
            smooth_dr=0.5e-5,
            **options,
        ),
        monai.losses.DiceCELoss(softmax=True, to_onehot_y=True, lambda_dice=lambdas[0], lambda_ce=lambdas[1], **theirs),
        x,
        index,
    )


@pytest.mark.parametrize("weight", [None, 3.0])
def test_dice_ce_loss_with_sigmoid_and_one_channel(weight: float | None) -> None:
    """MONAI's weight there is BCE's pos_weight, which on hard labels is w t + 1 - t; its DiceLoss has none with one channel."""
    x = torch.randn(2, 1, 4, 5, dtype=torch.float64)
    target = torch.randint(0, 2, (2, 1, 4, 5)).double()
    theirs = None if weight is None else torch.tensor([weight], dtype=torch.float64)
    assert_same(
        losses.JDTCELoss(
            sigmoid=True, alpha=0.5, beta=0.5, lambda_jdt=1, lambda_ce=1, weight=weight, smooth_nr=0.5e-5, smooth_dr=0.5e-5
        ),
        monai.losses.DiceCELoss(sigmoid=True, weight=theirs),
        x,
        target,
    )


@pytest.mark.parametrize(
    "options", [{}, {"batch": True}, {"reduction": "none"}, {"include_background": False}, {"smooth_nr": 0.2, "smooth_dr": 0.7}]
)
@pytest.mark.parametrize("activation", [{"sigmoid": True}, {"softmax": True}])
def test_soft_labels_are_those_of_soft_label_true(options: dict[str, Any], activation: dict[str, Any]) -> None:
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    target = torch.softmax(torch.randn(2, 3, 4, 5, dtype=torch.float64), 1)
    options = {**options, **activation}
    assert_same(losses.DiceSemimetricLoss(**options), monai.losses.DiceLoss(soft_label=True, **options), x, target)
    assert_same(
        losses.DiceSemimetricLoss(squared_pred=True, **options),
        monai.losses.DiceLoss(soft_label=True, squared_pred=True, **options),
        x,
        target,
    )
    assert_same(losses.JaccardMetricLoss(**options), monai.losses.DiceLoss(soft_label=True, jaccard=True, **options), x, target)
    costs: dict[str, Any] = {"alpha": 0.3, "beta": 0.7}
    assert_same(
        losses.CompatibleTverskyLoss(**costs, **options), monai.losses.TverskyLoss(soft_label=True, **costs, **options), x, target
    )


def test_one_channel() -> None:
    x, target = torch.randn(2, 1, 4, 5, dtype=torch.float64), torch.randint(0, 2, (2, 1, 4, 5))
    assert_same(losses.DiceSemimetricLoss(sigmoid=True), monai.losses.DiceLoss(sigmoid=True), x, target)
    assert_same(losses.CompatibleTverskyLoss(sigmoid=True), monai.losses.TverskyLoss(sigmoid=True), x, target)
    assert_same(losses.DiceSemimetricLoss(sigmoid=True, weight=[2.0]), monai.losses.DiceLoss(sigmoid=True, weight=[2.0]), x, target)


def test_one_channel_beside_the_background() -> None:
    """There a weight does nothing in MONAI's overlap term, and still weighs voxels in its cross-entropy."""
    x, index = torch.randn(2, 2, 4, 5, dtype=torch.float64), torch.randint(0, 2, (2, 1, 4, 5))
    options: dict[str, Any] = {"softmax": True, "to_onehot_y": True, "include_background": False}
    assert_same(losses.DiceSemimetricLoss(weight=[2.0], **options), monai.losses.DiceLoss(weight=[2.0], **options), x, index)
    assert_same(
        losses.JDTCELoss(alpha=0.5, beta=0.5, lambda_jdt=1, lambda_ce=1, smooth_nr=5e-6, smooth_dr=5e-6, weight=[1.0, 3.0], **options),
        monai.losses.DiceCELoss(weight=torch.tensor([1.0, 3.0], dtype=torch.float64), **options),
        x,
        index,
    )


# --- MONAI's published test cases (its test_dice_loss.py and test_tversky_loss.py) that hold for soft labels ---

X1 = [[[[1.0, -1.0], [-1.0, 1.0]]]]
T1 = [[[[1.0, 0.0], [1.0, 1.0]]]]
X2 = [[[[1.0, -1.0], [-1.0, 1.0]]], [[[1.0, -1.0], [-1.0, 1.0]]]]
T2 = [[[[1.0, 1.0], [1.0, 1.0]]], [[[1.0, 0.0], [1.0, 0.0]]]]
X3 = [[[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]], [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]]
T3 = [[[0.0, 0.0, 1.0]], [[0.0, 1.0, 0.0]]]
T4 = [[[1.0, 0.0, 0.0]], [[1.0, 1.0, 0.0]]]
X4 = [[[-1.0, 0.0, 1.0], [1.0, 0.0, -1.0]], [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]]
SOFT = [[[[0.3, 0.4], [0.7, 0.9]]], [[[1.0, 0.1], [0.5, 0.3]]]]

S6 = {"smooth_nr": 1e-6, "smooth_dr": 1e-6}
S5 = {"smooth_nr": 1e-5, "smooth_dr": 1e-5}
S4 = {"smooth_nr": 1e-4, "smooth_dr": 1e-4}
S0 = {"smooth_nr": 0.0, "smooth_dr": 0.0}
DML, JML, CTL = "DiceSemimetricLoss", "JaccardMetricLoss", "CompatibleTverskyLoss"

PUBLISHED = [
    ("D0", DML, {"sigmoid": True, **S6}, X1, T1, 0.307576),
    ("D1", DML, {"sigmoid": True, **S4}, X2, T2, 0.416657),
    ("D2", DML, {"soft_label": True, **S4}, SOFT, SOFT, 0.0),
    ("D4", DML, {"include_background": False, "to_onehot_y": True, **S0}, X3, T3, 0.0),
    ("D5", DML, {"to_onehot_y": True, "sigmoid": True, **S4}, X4, T4, 0.435050),
    (
        "D6",
        DML,
        {"to_onehot_y": True, "sigmoid": True, "reduction": "none", **S4},
        X4,
        T4,
        [[[0.296529], [0.415136]], [[0.599976], [0.428559]]],
    ),
    ("D7", DML, {"to_onehot_y": True, "softmax": True, **S4}, X4, T4, 0.383713),
    ("D8", DML, {"to_onehot_y": True, "softmax": True, "reduction": "sum", **S4}, X4, T4, 1.534853),
    ("D9", DML, {"sigmoid": True, **S6}, X1, T1, 0.307576),
    ("D10", DML, {"sigmoid": True, "squared_pred": True, **S5}, X1, T1, 0.178337),
    ("D11", JML, {"sigmoid": True, **S5}, X1, T1, 0.470451),
    ("T0", CTL, {"sigmoid": True, **S6}, X1, T1, 0.307576),
    ("T1", CTL, {"sigmoid": True, **S4}, X2, T2, 0.416657),
    ("T2", CTL, {"soft_label": True, **S4}, SOFT, SOFT, 0.0),
    ("T4", CTL, {"include_background": False, "to_onehot_y": True, **S0}, X3, T3, 0.0),
    ("T5", CTL, {"include_background": False, "to_onehot_y": True, "smooth_nr": 0.0, "smooth_dr": 1e-3}, X3, T3, 0.000999),
    ("T6", CTL, {"to_onehot_y": True, "sigmoid": True, **S4}, X4, T4, 0.435050),
    ("T7", CTL, {"to_onehot_y": True, "sigmoid": True, "batch": True, **S4}, X4, T4, 0.422979),
    ("T8", CTL, {"to_onehot_y": True, "sigmoid": True, "reduction": "sum", **S4}, X4, T4, 1.74013),
    ("T9", CTL, {"to_onehot_y": True, "softmax": True, **S4}, X4, T4, 0.383713),
    (
        "T10",
        CTL,
        {"to_onehot_y": True, "softmax": True, "reduction": "none", **S4},
        X4,
        T4,
        [[0.210961, 0.295339], [0.599952, 0.428547]],
    ),
    ("T11", CTL, {"sigmoid": True, "alpha": 0.3, "beta": 0.7, **S6}, X1, T1, 0.3589),
    ("T12", CTL, {"sigmoid": True, "alpha": 0.7, "beta": 0.3, **S6}, X1, T1, 0.247366),
]


@pytest.mark.parametrize(("row", "name", "options", "x", "target", "expected"), PUBLISHED, ids=[case[0] for case in PUBLISHED])
def test_published_cases(
    row: str,
    name: str,
    options: dict[str, Any],
    x: list[Any],
    target: list[Any],
    expected: list[Any] | float,
) -> None:
    got = getattr(losses, name)(**options)(torch.tensor(x), torch.tensor(target))
    torch.testing.assert_close(got, torch.tensor(expected), rtol=1e-4 if row.startswith("T") else 1e-5, atol=1e-6, check_dtype=False)


@pytest.mark.parametrize("activation", [torch.tanh, torch.nn.LogSoftmax(1)])
def test_published_cases_outside_the_unit_interval_are_refused(activation: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """MONAI's cases with tanh and log_softmax give predictions below 0, where the overlap is not defined."""
    with pytest.raises(ValueError, match=r"other_act.*\[0, 1\]"):
        losses.DiceSemimetricLoss(other_act=activation, to_onehot_y=True)(torch.tensor(X4), torch.tensor(T4))


# --- ten steps of training with the loss exchanged ---


def losses_and_gradients(loss: nn.Module, target: torch.Tensor) -> list[tuple[float, list[torch.Tensor]]]:
    torch.manual_seed(1)
    net = torch.nn.Sequential(torch.nn.Conv3d(2, 6, 3, padding=1), torch.nn.PReLU(), torch.nn.Conv3d(6, 3, 3, padding=1))
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    images = torch.randn(2, 2, 8, 8, 8, generator=torch.Generator().manual_seed(2))
    trace = []
    for _ in range(10):
        optimiser.zero_grad()
        value = loss(net(images), target)
        value.backward()
        trace.append((value.item(), [present(p.grad).clone() for p in net.parameters()]))
        optimiser.step()
    return trace


INDEX = torch.randint(0, 3, (2, 1, 8, 8, 8), generator=torch.Generator().manual_seed(3))
REGIONS = torch.stack([INDEX[:, 0] > 1, INDEX[:, 0] > 0, INDEX[:, 0] == 1], 1).float()
HALF = {"smooth_nr": 0.5e-5, "smooth_dr": 0.5e-5}
EXCHANGES: list[tuple[str, str, dict[str, Any], dict[str, Any], dict[str, Any], torch.Tensor]] = [
    ("DiceLoss", DML, {"to_onehot_y": True, "softmax": True}, {}, {}, INDEX),
    ("DiceLoss", DML, {"sigmoid": True, "squared_pred": True, "smooth_nr": 0, "smooth_dr": 1e-5}, {}, {}, REGIONS),
    ("DiceLoss", DML, {"sigmoid": True, "batch": True, "include_background": False}, {}, {}, REGIONS),
    ("TverskyLoss", CTL, {"to_onehot_y": True, "softmax": True, "alpha": 0.3, "beta": 0.7}, {}, {}, INDEX),
    (
        "DiceCELoss", "JDTCELoss", {"to_onehot_y": True, "softmax": True}, {},
        {"alpha": 0.5, "beta": 0.5, "lambda_jdt": 1, "lambda_ce": 1, **HALF}, INDEX,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("theirs", "ours", "shared", "for_theirs", "for_ours", "target"), EXCHANGES)
def test_ten_steps_with_the_loss_exchanged(
    theirs: str, ours: str, shared: dict[str, Any], for_theirs: dict, for_ours: dict[str, Any], target: torch.Tensor
) -> None:
    expected = losses_and_gradients(getattr(monai.losses, theirs)(**shared, **for_theirs), target)
    got = losses_and_gradients(getattr(losses, ours)(**shared, **for_ours), target)
    for (value, gradients), (value_expected, gradients_expected) in zip(got, expected, strict=True):
        assert value == pytest.approx(value_expected, rel=1e-4)
        for g, g_expected in zip(gradients, gradients_expected, strict=True):
            assert (g - g_expected).norm() <= 1e-4 * g_expected.norm()


# --- deep supervision ---


@pytest.mark.parametrize("mode", ["exp", "same", "two"])
def test_deep_supervision_on_heads_of_equal_size(mode: str) -> None:
    """At full size there is nothing to shrink: MONAI's DeepSupervisionLoss."""
    target = torch.randint(0, 3, (2, 1, 4, 4))
    heads = [torch.randn(2, 3, 4, 4, dtype=torch.float64) for _ in range(6)]
    dice: dict[str, Any] = {"to_onehot_y": True, "softmax": True}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = monai.losses.DeepSupervisionLoss(monai.losses.DiceLoss(**dice), weight_mode=mode)(heads, target)
    for given in (heads, tuple(heads), torch.stack(heads, 1)):
        got = losses.SoftDeepSupervisionLoss(losses.DiceSemimetricLoss(**dice), weight_mode=mode)(given, target)
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=0, check_dtype=False)  # MONAI casts to float32
