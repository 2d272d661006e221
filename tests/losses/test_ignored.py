"""Promise 5 and nothing to count: what is ignored reaches neither value nor gradient, and does not dilute."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings

import monai_jdt.losses as losses
from monai_jdt.checks import value_checks
from tests.losses.strategies import COMPOUND, OVERLAP, Configuration, as_array, configurations, tame, without_warning
from tests.oracles import norm_form
from tests.present import present

RELAXED = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much])
ALL = OVERLAP + COMPOUND
POISON = [math.nan, math.inf, -math.inf, 1e30, 3e38]
AVERAGES: list[dict[str, Any]] = [
    {},
    {"average": "image"},
    {"average": "class"},
    {"average": "dataset"},
    {"batch": True},
    {"classes": "pooled"},
]


def value_and_gradient(
    loss: Callable[..., torch.Tensor], x: torch.Tensor, *rest: torch.Tensor | None, **options: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    x = x.detach().clone().requires_grad_()
    value = loss(x, *rest, **options)
    value.sum().backward()
    return value.detach(), present(x.grad)


def counted_of(configuration: Configuration) -> torch.Tensor:
    """Which (image, channel, voxel) counts, by the oracle."""
    x, target, mask = configuration.arrays()
    arguments = configuration.oracle_arguments()
    weights = arguments.pop("rater_weights")
    own = {k: v for k, v in arguments.items() if not k.startswith(("lambda_", "focal_"))}
    a = norm_form.arguments_of(configuration.loss, own)
    _, speaks = norm_form.read_label(norm_form.as_voxels(target), x.shape[1], a, weights)
    counted = norm_form.voxels_that_count(speaks, mask, x.shape[1])
    return torch.from_numpy(counted.reshape(x.shape))


@RELAXED
@given(configurations(dtypes=(torch.float32, torch.float64, torch.float16), plain_layout=True))
def test_poison_in_ignored_logits(configuration: Configuration) -> None:
    """Whatever stands in logits that do not count, value and gradient are the same, bit for bit, and their own gradient is 0."""
    counted = counted_of(configuration)
    assume((~counted).any())
    clean, clean_gradient = value_and_gradient(configuration, configuration.input)
    assert (clean_gradient[~counted] == 0).all()
    for poison in (math.nan, math.inf, -math.inf):
        dirty = torch.where(counted, configuration.input, torch.tensor(poison, dtype=configuration.input.dtype))
        value, gradient = value_and_gradient(configuration, dirty)
        assert torch.equal(value, clean), poison
        assert torch.equal(gradient, clean_gradient), poison


@RELAXED
@given(configurations(dtypes=(torch.float32,), plain_layout=True))
def test_poison_in_masked_labels(configuration: Configuration) -> None:
    """Labels under the mask: NaN or infinity where the dtype has them, else a value that is no class."""
    assume(configuration.mask is not None)
    target = configuration.target
    under = torch.eq(present(configuration.mask), 0)
    dense = not {"to_onehot_y", "regions", "votes"} & set(configuration.arguments)
    if under.shape[1] > 1 and not dense:
        under = under.all(1, keepdim=True)  # an index or a vote speaks of all channels
    assume(under.any())
    clean, clean_gradient = value_and_gradient(configuration, configuration.input)
    # A voxel whose channels all equal ignore_index is ignored whole, so a channel-wise mask over it may not be poisoned.
    if "ignore_index" in configuration.arguments and dense and under.shape == target.shape:
        under = under & ~(target == configuration.arguments["ignore_index"]).all(1, keepdim=True)
    for poison in (math.nan, math.inf, -math.inf) if target.is_floating_point() else (99,):
        if target.dtype is torch.bool:
            continue
        configuration.target = torch.where(under, torch.tensor(poison, dtype=target.dtype), target)
        value, gradient = value_and_gradient(configuration, configuration.input)
        assert torch.equal(value, clean), poison
        assert torch.equal(gradient, clean_gradient), poison


@pytest.mark.parametrize("poison", POISON)
@pytest.mark.parametrize("name", ALL)
def test_poison_by_each_way_to_ignore(name: str, poison: float) -> None:
    """Hole 6: a NaN times 0 is NaN. Mask of voxels, of channels, index maps, dense sentinels, votes."""
    x = torch.randn(2, 3, 4, 4)
    nowhere = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    nowhere[0, 0, 1] = nowhere[1, 0, :2, 3] = True
    dirty = torch.where(nowhere, poison, x)
    soft = torch.softmax(torch.randn(2, 3, 4, 4), 1)
    index = torch.randint(0, 3, (2, 1, 4, 4))
    make = getattr(losses, name)
    cases = [
        (make(softmax=True), soft, ~nowhere),
        (make(sigmoid=True), soft, ~nowhere),
        (make(softmax=True), torch.where(nowhere, poison, soft), ~nowhere),
        (make(sigmoid=True), torch.where(nowhere, poison, soft), (~nowhere).float()),
        (make(sigmoid=True), torch.where(nowhere, poison, soft), (~nowhere).expand(2, 3, 4, 4)),
        (make(softmax=True, ignore_index=-1), soft.masked_fill(nowhere, -1), None),
        (make(softmax=True, to_onehot_y=True, ignore_index=255), index.masked_fill(nowhere, 255), None),
        (make(softmax=True, to_onehot_y=True), torch.where(nowhere, poison, index.float()), ~nowhere),
        (make(sigmoid=True, regions=[[1], [1, 2], [2]], ignore_index=-1), index.masked_fill(nowhere, -1), None),
        (make(softmax=True, votes=True, ignore_index=9), index.expand(2, 5, 4, 4).masked_fill(nowhere, 9), None),
    ]
    for number, (loss, target, mask) in enumerate(cases):
        clean = value_and_gradient(loss, x, target, mask)
        got = value_and_gradient(loss, dirty, target, mask)
        assert got[0].isfinite(), number
        assert torch.equal(got[0], clean[0]), number
        assert torch.equal(got[1], clean[1]), number
        assert got[1].isfinite().all()


@pytest.mark.parametrize("name", OVERLAP)
@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_poison_with_probabilities_and_other_act(name: str, poison: float) -> None:
    """`other_act` may turn a finite filler into anything, and its derivative too: square root at 0 has slope infinity."""
    t = torch.rand(1, 2, 6)
    mask = torch.tensor([[[1, 1, 0, 1, 0, 1]]]).bool()
    x = torch.rand(1, 2, 6)
    for activation in (None, torch.sqrt, torch.log1p, tame):
        loss = getattr(losses, name)(other_act=activation)
        clean = value_and_gradient(loss, x, t, mask)
        got = value_and_gradient(loss, torch.where(mask, x, poison), t, mask)
        assert torch.equal(got[0], clean[0])
        assert torch.equal(got[1], clean[1])
        assert got[1].isfinite().all()


@pytest.mark.parametrize("name", ALL)
def test_a_nan_that_counts_is_not_hidden(name: str) -> None:
    """The other side: NaN in a voxel that counts makes the loss NaN, it does not disappear."""
    x, t = torch.randn(1, 2, 4), torch.rand(1, 2, 4)
    x[0, 0, 1] = math.nan
    assert getattr(losses, name)(sigmoid=True)(x, t).isnan()
    for classes in ("present", "prob", "both", "pooled"):
        assert getattr(losses, name)(sigmoid=True, classes=classes)(x, t).isnan(), classes


# --- nothing to count ---


@pytest.mark.parametrize("averaging", AVERAGES)
@pytest.mark.parametrize("smooth", [{}, {"smooth_nr": 0.0, "smooth_dr": 0.0}, {"smooth_nr": 0.0, "smooth_dr": 1.0}])
@pytest.mark.parametrize("classes", [{}, {"classes": "present"}, {"classes": "both"}])
@pytest.mark.parametrize("name", ALL)
def test_nothing_to_count_is_zero_with_gradient_zero(
    name: str, averaging: dict[str, Any], smooth: dict[str, Any], classes: dict[str, Any]
) -> None:
    options: dict[str, Any] = {**classes, **smooth, **averaging, "softmax": True}
    loss = getattr(losses, name)(**options)
    soft = torch.softmax(torch.randn(2, 3, 4), 1)
    for x, t, mask in (
        (torch.randn(2, 3, 4), soft, torch.zeros(2, 1, 4).bool()),
        (torch.full((2, 3, 4), math.nan), soft, torch.zeros(2, 1, 4).bool()),
        (torch.randn(0, 3, 4), torch.zeros(0, 3, 4), None),
        (torch.randn(2, 3, 0), torch.zeros(2, 3, 0), None),
        (torch.randn(2, 3, 0, 4), torch.zeros(2, 3, 0, 4), torch.zeros(2, 1, 0, 4).bool()),
        (torch.randn(0, 3), torch.zeros(0, 3), None),
    ):
        x = x.requires_grad_()
        value = loss(x, t, mask)
        value.backward()  # attached to the graph
        assert value.item() == 0
        assert (present(x.grad) == 0).all()
    for power in ({"gamma": 0.5}, {"log_loss": True}, {"gamma": 1.5, "log_loss": True}):
        x = torch.randn(2, 3, 4, requires_grad=True)
        value = getattr(losses, name)(**options, **without_warning(name, power))(x, soft, torch.zeros(2, 1, 4).bool())
        value.backward()
        assert value.item() == 0
        assert (present(x.grad) == 0).all()


@pytest.mark.parametrize("name", OVERLAP)
def test_denominator_zero(name: str) -> None:
    """Empty label, empty prediction, no smoothing: 0 / 0 is no loss, in every average, and has gradient 0 or a finite one."""
    for averaging in AVERAGES:
        p = torch.zeros(2, 3, 4, requires_grad=True)
        power: dict[str, Any]
        for power in ({}, {"gamma": 0.5}, {"log_loss": True}):
            p.grad = None
            value = getattr(losses, name)(smooth_nr=0, smooth_dr=0, **averaging, **power)(p, torch.zeros(2, 3, 4))
            value.backward()
            assert value.item() == 0
            assert (present(p.grad) == 0).all(), (averaging, power)


@pytest.mark.parametrize("averaging", [a for a in AVERAGES if a != {"classes": "pooled"}] + [{"classes": "pooled"}])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("name", ALL)
def test_an_ignored_image_neither_adds_nor_dilutes(name: str, averaging: dict[str, Any], reduction: str) -> None:
    if "average" in averaging and reduction == "sum":
        pytest.skip("refused")
    loss = getattr(losses, name)(softmax=True, reduction=reduction, **averaging)
    x, t = torch.randn(3, 3, 4, dtype=torch.float64), torch.softmax(torch.randn(3, 3, 4, dtype=torch.float64), 1)
    mask = torch.ones(3, 1, 4).bool()
    mask[1] = False
    kept = [0, 2]
    value, gradient = value_and_gradient(loss, x, t, mask)
    alone, alone_gradient = value_and_gradient(loss, x[kept], t[kept])
    assert torch.allclose(value, alone, rtol=1e-12)
    assert torch.allclose(gradient[kept], alone_gradient, rtol=1e-12)
    assert (gradient[1] == 0).all()


@pytest.mark.parametrize("name", ALL)
def test_ignored_voxels_might_as_well_be_cut_away(name: str) -> None:
    """Mask and ignore_index compose, and equal the loss of the voxels that are left."""
    x, index = torch.randn(1, 3, 12, dtype=torch.float64), torch.randint(0, 3, (1, 1, 12))
    mask = torch.rand(1, 1, 12) < 0.7
    index[0, 0, :3] = 255
    left = (mask & (index != 255))[0, 0]
    several: list[dict[str, Any]] = [
        {},
        {"classes": "both"},
        {"average": "class"},
        {"label_smoothing": 0.1},
        {"weight": [1.0, 20.0, 3.0]},
    ]
    for one in several:
        options: dict[str, Any] = {"softmax": True, "to_onehot_y": True, **one}
        whole = getattr(losses, name)(ignore_index=255, **options)(x, index, mask)
        assert torch.allclose(whole, getattr(losses, name)(**options)(x[..., left], index[..., left]), rtol=1e-12)


def test_a_channel_without_a_counted_voxel_is_inactive() -> None:
    """Channel masks: the region that nobody drew in this image is out of the mean, under every `classes`."""
    x, t = torch.randn(2, 3, 4, dtype=torch.float64), torch.rand(2, 3, 4, dtype=torch.float64)
    mask = torch.ones(2, 3, 4)
    mask[0, 1] = 0
    for classes in ("all", "present", "prob", "both", [0, 1, 2]):
        pairs = losses.JDTLoss(sigmoid=True, classes=classes, reduction="none")(x, t, mask)
        assert pairs[0, 1] == 0
        mean = losses.JDTLoss(sigmoid=True, classes=classes)(x, t, mask)
        assert torch.allclose(mean, pairs.sum() / 5, rtol=1e-12)


def test_ignore_index_of_dense_labels_needs_all_channels() -> None:
    """A genuine all-zero or partly marked voxel counts: only a voxel whose channels all equal the marker is ignored."""
    x = torch.rand(1, 2, 3, dtype=torch.float64)
    t = torch.tensor([[[0.0, -1.0, 0.5], [0.0, -1.0, 0.5]]], dtype=torch.float64)
    got = losses.JDTLoss(ignore_index=-1)(x, t)
    assert torch.allclose(got, losses.JDTLoss()(x[..., [0, 2]], t[..., [0, 2]]), rtol=1e-12)


def test_a_partly_marked_voxel_counts() -> None:
    """So its marker is a value out of range, which is an error, and where values are not read, not quietly ignored."""
    x = torch.rand(1, 2, 3, dtype=torch.float64)
    t = torch.tensor([[[0.0, -1.0, 0.5], [0.0, 0.25, 0.5]]], dtype=torch.float64)
    with pytest.raises(ValueError, match=r"target.*\[0, 1\].*-1"):
        losses.JDTLoss(ignore_index=-1)(x, t)
    with value_checks("off"):
        assert torch.equal(losses.JDTLoss(ignore_index=-1)(x, t), losses.JDTLoss()(x, t))


def test_a_rater_who_says_nothing_leaves_the_others() -> None:
    votes = torch.tensor([[[1, 2, 255], [1, 255, 255], [0, 255, 255]]])
    x = torch.randn(1, 3, 3, dtype=torch.float64)
    got = losses.JDTCELoss(softmax=True, votes=True, ignore_index=255)(x, votes)
    label = torch.tensor([[[1 / 3, 0.0], [2 / 3, 0.0], [0.0, 1.0]]], dtype=torch.float64)
    assert torch.allclose(got, losses.JDTCELoss(softmax=True)(x[..., :2], label), rtol=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_all_raters_missing(name: str) -> None:
    x = torch.randn(2, 3, 4, requires_grad=True)
    votes = torch.randint(0, 3, (2, 2, 4))
    loss = getattr(losses, name)(softmax=True, votes=True)
    value = loss(x, votes, rater_weights=torch.zeros(2, 2))
    value.backward()
    assert value.item() == 0
    assert (present(x.grad) == 0).all()
    one = loss(x, votes, rater_weights=torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
    assert torch.allclose(one, loss(x[1:], votes[1:]), rtol=1e-6)


def test_missing_rater_may_hold_anything() -> None:
    """Weight 0: the padding of a stack with NaN or -1 is not read."""
    x = torch.randn(1, 3, 4)
    votes = torch.randint(0, 3, (1, 3, 4)).float()
    weights = torch.tensor([1.0, 1.0, 0.0])
    loss = losses.JDTCELoss(softmax=True, votes=True)
    clean = loss(x, votes[:, :2])
    for padding in (math.nan, -1.0, 255.0):
        votes[:, 2] = padding
        assert torch.allclose(loss(x, votes, rater_weights=weights), clean, rtol=1e-6)


def test_the_unreduced_loss_of_ignored_pairs_is_zero() -> None:
    x, t = torch.rand(2, 2, 3), torch.rand(2, 2, 3)
    mask = torch.tensor([[[0, 0, 0]], [[1, 1, 1]]]).bool()
    for name in OVERLAP:
        pairs = as_array(getattr(losses, name)(reduction="none")(x, t, mask)).reshape(2, 2)
        assert (pairs[0] == 0).all()
        assert (pairs[1] > 0).all()
        np.testing.assert_allclose(pairs[1], as_array(getattr(losses, name)(reduction="none")(x, t)).reshape(2, 2)[1], rtol=1e-6)
