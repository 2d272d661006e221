"""Laws that hold for every label, loss and activation: zero only at the label, smallest at it, and what must change nothing."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import monai_jdt.losses as losses
from tests.losses.strategies import COMPOUND, FREE, OVERLAP, Configuration, configurations, without_warning
from tests.present import present

RELAXED = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much])
ALL = OVERLAP + COMPOUND
TENTHS = [i / 10 for i in range(1, 10)]


def loss_of(name: str, **arguments: Any) -> torch.nn.Module:
    return getattr(losses, name)(**arguments)


# --- promise 1: smallest at the label ---


@pytest.mark.parametrize("weight", [None, 20.0])
@pytest.mark.parametrize("norm", [1, 2])
@pytest.mark.parametrize("name", ALL)
def test_minimum_at_the_label_alone_sigmoid(name: str, norm: int, weight: float | None) -> None:
    """One voxel: the smallest loss is at the label, for .1 ... .9; in float64 so that focal's flat floor shows."""
    arguments: dict[str, Any] = {"sigmoid": True, "norm": norm, "weight": weight}
    if name in FREE and norm == 1:
        arguments.update(alpha=0.3, beta=0.7)
    loss = loss_of(name, **arguments)
    for t in TENTHS:
        costs = {p: loss(voxel(math.log(p / (1 - p))), voxel(t)).item() for p in predictions_around(t)}
        assert min(costs, key=costs.__getitem__) == t


def voxel(value: float) -> torch.Tensor:
    return torch.full((1, 1, 1), value, dtype=torch.float64)


def predictions_around(t: float) -> list[float]:
    """Every twentieth, and two neighbours of t; t itself is among them."""
    return sorted({*(i / 20 for i in range(1, 20)), t - 0.01, t + 0.01, t})


def company(t: float, p: float, rest: int, activation: str) -> tuple[torch.Tensor, torch.Tensor]:
    """20 voxels of label t that share a prediction, 10 sure voxels of class 1, `rest` of background; (logits, label)."""
    label = torch.cat([torch.full((20,), t), torch.ones(10), torch.zeros(rest)]).double()
    prob = torch.cat([torch.full((20,), p), torch.full((10,), 0.999), torch.full((rest,), 0.001)]).double()
    if activation == "sigmoid":
        return torch.logit(prob).reshape(1, 1, -1), label.reshape(1, 1, -1)
    if activation == "sigmoid of two":
        return torch.stack([torch.logit(1 - prob), torch.logit(prob)])[None], torch.stack([1 - label, label])[None]
    return torch.stack([torch.log1p(-prob), torch.log(prob)])[None], torch.stack([1 - label, label])[None]


@pytest.mark.parametrize("activation", ["sigmoid", "sigmoid of two", "softmax"])
@pytest.mark.parametrize(
    "extra", [{}, {"weight": [1.0, 20.0]}, {"average": "image", "classes": "present"}, {"log_loss": True, "gamma": 1.5}]
)
@pytest.mark.parametrize("name", ALL)
def test_minimum_at_the_label_in_company(name: str, activation: str, extra: dict[str, Any]) -> None:
    extra = dict(extra)
    if activation == "sigmoid" and "weight" in extra:
        extra["weight"] = [20.0]
    key = "softmax" if activation == "softmax" else "sigmoid"
    loss = loss_of(name, **{key: True}, **without_warning(name, extra))
    for t in TENTHS:
        costs = {p: loss(*company(t, p, 70, activation)).item() for p in predictions_around(t)}
        assert min(costs, key=costs.__getitem__) == t


@pytest.mark.parametrize("weight", [None, [1.0, 20.0, 5.0]])
@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
@pytest.mark.parametrize("name", ALL)
def test_no_nearby_or_distant_prediction_is_better_than_the_label(name: str, activation: str, weight: list[float] | None) -> None:
    """A whole soft label of three channels against 60 other predictions, and 60 in a shrinking neighbourhood."""
    t = torch.from_numpy(np.random.default_rng(0).dirichlet([0.6] * 3, (2, 8))).movedim(-1, 1).clamp(1e-4, 1 - 1e-4)
    if activation == "softmax":
        t = t / t.sum(1, keepdim=True)
    at_label = torch.log(t) if activation == "softmax" else torch.logit(t)
    loss = loss_of(name, **{activation: True}, weight=weight)
    best = loss(at_label, t).item()
    for seed in range(60):
        move = torch.randn(t.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        assert loss(at_label + move, t).item() > best
        assert loss(at_label + move * 0.1 ** (1 + seed / 20), t).item() > best


@pytest.mark.parametrize("name", [name for name in ALL if name != "JDTFocalLoss"])
@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_descent_finds_the_label(name: str, activation: str) -> None:
    """Adam from random logits ends near the label (focal is too flat for that: judged by values above)."""
    t = torch.from_numpy(np.random.default_rng(1).dirichlet([2.0] * 3, (1, 12))).movedim(-1, 1)
    x = torch.randn(t.shape, dtype=torch.float64, requires_grad=True)
    loss, optimiser = loss_of(name, **{activation: True}), torch.optim.Adam([x], lr=0.1)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimiser, 0.99)
    for _ in range(500):
        optimiser.zero_grad()
        loss(x, t).backward()
        optimiser.step()
        schedule.step()
    p = torch.softmax(x, 1) if activation == "softmax" else torch.sigmoid(x)
    assert (p - t).abs().mean() < 0.01


# --- promise 3: zero if and only if equal ---

numbers = st.floats(0, 1, width=32)


@given(st.lists(st.tuples(numbers, numbers), min_size=2, max_size=8), st.sampled_from(OVERLAP), st.sampled_from([1, 2]))
def test_zero_iff_equal(pairs: list[tuple[float, float]], name: str, norm: int) -> None:
    p, t = torch.tensor(pairs, dtype=torch.float64).T.reshape(2, 1, 1, -1)
    loss = loss_of(name, norm=norm)
    assert loss(t, t).item() == 0
    assert loss(p, p.float()).item() == 0
    value = loss(p, t).item()
    assert value >= 0
    if norm == 1 or (p - t).abs().max() > 1e-100:  # squares of less underflow
        assert (value == 0) == torch.equal(p, t)


@RELAXED
@given(configurations(dtypes=(torch.float32, torch.float16), names=OVERLAP))
def test_never_below_zero(configuration: Configuration) -> None:
    assert (configuration() >= 0).all()


@pytest.mark.parametrize("costs", [(1.0, 0.0), (0.0, 1.0), (0.9, 0.1)])
def test_one_sided_costs_do_not_round_below_zero(costs: tuple[float, ...]) -> None:
    """A loss taken as 1 - score is -2e-5 here in float32 (PEERS: alpha = 1, beta = 0 near the label)."""
    t = torch.rand(1, 1, 64, 64, 64)
    for p in (t, (t + 1e-6).clamp(0, 1), (t - 1e-6).clamp(0, 1)):
        value = losses.CompatibleTverskyLoss(alpha=costs[0], beta=costs[1], gamma=1.5)(p, t)
        assert value.isfinite()
        assert value >= 0


@pytest.mark.parametrize("name", COMPOUND)
def test_compounds_are_not_below_their_value_at_the_label(name: str) -> None:
    t = torch.from_numpy(np.random.default_rng(0).dirichlet([0.5] * 3, (2, 5))).movedim(-1, 1).clamp(1e-6)
    t = t / t.sum(1, keepdim=True)
    loss = loss_of(name, softmax=True)
    floor = loss(torch.log(t), t).item()
    if name == "JDTCELoss":  # its floor is the label's entropy: .25 of the mean over voxels
        assert floor == pytest.approx(-0.25 * (t * t.log()).sum(1).mean().item(), rel=1e-9)
    else:
        assert abs(floor) < 1e-12  # softmax(log t) is t up to rounding
    for seed in range(20):
        assert loss(torch.randn(t.shape, generator=torch.Generator().manual_seed(seed)).double(), t).item() >= floor


# --- what must change nothing ---


@RELAXED
@given(configurations(dtypes=(torch.float64,), plain_layout=True), st.randoms(use_true_random=False))
def test_permuting_voxels(configuration: Configuration, random: Random) -> None:
    assume(configuration.input.ndim > 2)
    order = list(range(configuration.input.flatten(2).shape[2]))
    random.shuffle(order)
    before = configuration()
    configuration.input, configuration.target = configuration.input.flatten(2)[..., order], configuration.target.flatten(2)[..., order]
    configuration.mask = None if configuration.mask is None else configuration.mask.flatten(2)[..., order]
    assert torch.allclose(configuration().flatten(), before.flatten(), rtol=1e-9, atol=1e-9)


@RELAXED
@given(configurations(dtypes=(torch.float64,), plain_layout=True), st.randoms(use_true_random=False))
def test_permuting_images(configuration: Configuration, random: Random) -> None:
    assume(configuration.arguments.get("reduction") != "none")
    order = list(range(configuration.input.shape[0]))
    random.shuffle(order)
    before = configuration()
    configuration.input, configuration.target = configuration.input[order], configuration.target[order]
    configuration.mask = None if configuration.mask is None else configuration.mask[order]
    if configuration.rater_weights is not None and configuration.rater_weights.ndim == 2:
        configuration.rater_weights = configuration.rater_weights[order]
    assert torch.allclose(configuration(), before, rtol=1e-9, atol=1e-9)


@RELAXED
@given(configurations(dtypes=(torch.float64,)))
def test_a_weight_of_one_is_no_weight(configuration: Configuration) -> None:
    assume(configuration.arguments.get("classes") != "pooled")
    configuration.arguments = {k: v for k, v in configuration.arguments.items() if k != "weight"}
    channels = configuration.input.shape[1]
    if configuration.loss in OVERLAP and not configuration.arguments.get("include_background", True):
        channels -= 1
    # A mean by sum w_v and one by the number of voxels differ by as much as rounded labels do not sum to 1.
    tolerance = 2e-2 if configuration.target.dtype in (torch.float16, torch.bfloat16, torch.float32) else 1e-9
    for weight in (1.0, [1.0] * channels):
        a, b = configuration(weight=weight), configuration()
        assert torch.allclose(a, b, rtol=tolerance if configuration.loss in COMPOUND else 1e-12, atol=1e-9)


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=max(present(settings.default).max_examples // 4, 10))
@given(data=st.data())
def test_rater_order_and_uniform_rater_weights(name: str, data: st.DataObject) -> None:
    seed = data.draw(st.integers(0, 999))
    generator = torch.Generator().manual_seed(seed)
    votes = torch.randint(0, 3, (2, 4, 5), generator=generator)
    x = torch.randn(2, 3, 5, generator=generator, dtype=torch.float64)
    weights = torch.rand(2, 4, generator=generator, dtype=torch.float64)
    order = data.draw(st.permutations(range(4)))
    loss = loss_of(name, softmax=True, votes=True)
    plain = loss(x, votes)
    assert torch.allclose(loss(x, votes[:, order]), plain, rtol=1e-12)
    assert torch.allclose(loss(x, votes[:, order], rater_weights=weights[:, order]), loss(x, votes, rater_weights=weights), rtol=1e-12)
    for uniform in (torch.ones(4), torch.full((2, 4), 0.3), torch.full((4,), 7.0, dtype=torch.float64)):
        assert torch.allclose(loss(x, votes, rater_weights=uniform), plain, rtol=1e-12)
    # A rater of weight 0 is missing: the stack without it.
    absent = torch.tensor([1.0, 0.0, 1.0, 1.0])
    assert torch.allclose(loss(x, votes, rater_weights=absent), loss(x, votes[:, [0, 2, 3]]), rtol=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_votes_are_the_mean_of_their_one_hots(name: str) -> None:
    votes = torch.randint(0, 3, (2, 4, 5))
    x = torch.randn(2, 3, 5, dtype=torch.float64)
    mean = torch.nn.functional.one_hot(votes, 3).double().mean(1).movedim(-1, 1)
    for key in ("sigmoid", "softmax"):
        assert torch.allclose(loss_of(name, votes=True, **{key: True})(x, votes), loss_of(name, **{key: True})(x, mean), rtol=1e-12)


@given(st.integers(0, 999), st.floats(0, 2), st.floats(0.01, 2))
def test_swapping_prediction_and_label_swaps_the_costs(seed: int, alpha: float, beta: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    p, t = torch.rand(2, 2, 3, 4, generator=generator, dtype=torch.float64)
    for name in ("JDTLoss", "CompatibleTverskyLoss"):
        ahead, behind = loss_of(name, alpha=alpha, beta=beta)(p, t), loss_of(name, alpha=beta, beta=alpha)(t, p)
        assert torch.allclose(ahead, behind, rtol=1e-12)


@given(st.integers(0, 999), st.sampled_from(OVERLAP))
def test_a_voxel_twice_or_an_image_twice_changes_nothing(seed: int, name: str) -> None:
    """Without smoothing the ratio has no unit."""
    p, t = torch.rand(2, 2, 3, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    loss = loss_of(name, smooth_nr=0, smooth_dr=0)
    assert torch.allclose(loss(p.repeat(1, 1, 2), t.repeat(1, 1, 2)), loss(p, t), rtol=1e-12)
    for average in (None, "image", "class", "dataset"):
        loss = loss_of(name, smooth_nr=0, smooth_dr=0, average=average)
        assert torch.allclose(loss(p.repeat(2, 1, 1), t.repeat(2, 1, 1)), loss(p, t), rtol=1e-12)


# --- promise 6: index map, one-hot of any dtype and one rater's votes are one label ---

HARD = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.float64, torch.float32, torch.float16, torch.bfloat16)


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
@pytest.mark.parametrize("name", ALL)
def test_forms_of_a_hard_label(name: str, activation: str, ignored: bool) -> None:
    index = torch.randint(0, 3, (2, 1, 4, 5))
    x = torch.randn(2, 3, 4, 5)
    dense = torch.nn.functional.one_hot(index[:, 0], 3).movedim(-1, 1).contiguous()
    options: dict[str, Any] = {activation: True, "weight": [1.0, 20.0, 3.0], "classes": "present", "label_smoothing": 0.1}
    if ignored:
        options["ignore_index"] = 100  # fits into every dtype, and bfloat16 holds it exactly
        nowhere = torch.rand(2, 1, 4, 5) < 0.3
        index, dense = index.masked_fill(nowhere, 100), dense.masked_fill(nowhere, 100)

    def value_and_gradient(label: torch.Tensor, **form: Any) -> tuple[torch.Tensor, torch.Tensor]:
        leaf = x.clone().requires_grad_()
        value = loss_of(name, **options, **form)(leaf, label)
        value.backward()
        return value, present(leaf.grad)

    value, gradient = value_and_gradient(dense.float())
    forms: list[tuple[torch.Tensor, dict[str, Any]]] = [(dense.to(d), {}) for d in (*HARD, *(() if ignored else (torch.bool,)))]
    forms += [(index.to(d), {"to_onehot_y": True}) for d in HARD]
    forms += [(index.to(d), {"votes": True}) for d in HARD]
    if activation == "sigmoid":
        forms += [(index.to(d), {"regions": [[0], [1], [2]]}) for d in HARD]
    for label, form in forms:
        got = value_and_gradient(label, **form)
        assert torch.equal(got[0], value), (label.dtype, form)
        assert torch.equal(got[1], gradient), (label.dtype, form)


def test_label_smoothing_is_a_smoothed_label() -> None:
    t = torch.from_numpy(np.random.default_rng(0).dirichlet([1.0] * 3, (2, 5))).movedim(-1, 1)
    x = torch.randn(2, 3, 5, dtype=torch.float64)
    for name in ALL:
        for key, middle in (("softmax", 1 / 3), ("sigmoid", 1 / 2)):
            smoothed = loss_of(name, **{key: True}, label_smoothing=0.2)(x, t)
            assert torch.allclose(smoothed, loss_of(name, **{key: True})(x, 0.8 * t + 0.2 * middle), rtol=1e-12), name


def test_activity_is_judged_before_label_smoothing() -> None:
    """An absent class stays absent (PEERS: the reference's threshold is passed between e = .02 and .05 with three classes)."""
    t = torch.zeros(1, 3, 4, dtype=torch.float64)
    t[:, 0, :2] = t[:, 1, 2:] = 1
    x = torch.randn(1, 3, 4, dtype=torch.float64)
    for e in (0.02, 0.05, 0.5):
        pairs = losses.JDTLoss(softmax=True, classes="present", label_smoothing=e, reduction="none")(x, t)
        assert pairs[0, 2] == 0
        assert (pairs[0, :2] > 0).all()


def test_spellings_of_monai() -> None:
    p, t = torch.rand(2, 3, 4), torch.rand(2, 3, 4)
    assert torch.equal(losses.DiceSemimetricLoss(squared_pred=True)(p, t), losses.DiceSemimetricLoss(norm=2)(p, t))
    assert torch.equal(losses.DiceSemimetricLoss(soft_label=True)(p, t), losses.DiceSemimetricLoss()(p, t))
    assert torch.equal(losses.JDTLoss(classes="label")(p, t), losses.JDTLoss(classes="present")(p, t))


def test_presets_are_members_of_the_family() -> None:
    """The presets' smoothing is half, so that 2 tp + s is tp + s / 2."""
    p, t = torch.rand(2, 3, 4, dtype=torch.float64), torch.rand(2, 3, 4, dtype=torch.float64)
    for name, cost in (("JaccardMetricLoss", 1.0), ("DiceSemimetricLoss", 0.5)):
        family = losses.JDTLoss(alpha=cost, beta=cost, smooth_nr=0.5, smooth_dr=1.0)
        assert torch.allclose(loss_of(name, smooth_nr=1.0, smooth_dr=2.0)(p, t), family(p, t), rtol=1e-12)
    family = losses.JDTLoss(alpha=0.3, beta=0.7)(p, t)
    assert torch.equal(losses.CompatibleTverskyLoss(alpha=0.3, beta=0.7)(p, t), family)
    assert math.isclose(losses.CompatibleTverskyLoss()(p, t).item(), losses.JDTLoss(alpha=0.5, beta=0.5)(p, t).item())


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64])
def test_wide_unsigned_labels(dtype: torch.dtype) -> None:
    """Label files are often uint16; torch has few operations for it, and the label is the same."""
    index, x = torch.randint(0, 3, (2, 1, 5)), torch.randn(2, 3, 5)
    index[0, 0, 1] = 7
    hot = torch.nn.functional.one_hot(torch.randint(0, 3, (2, 5)), 3).movedim(-1, 1)
    mask = torch.rand(2, 1, 5) < 0.7
    cases: list[tuple[torch.Tensor, dict[str, Any]]] = [
        (index, {"to_onehot_y": True, "ignore_index": 7}),
        (index.expand(2, 2, 5), {"votes": True, "ignore_index": 7}),
        (hot, {}),
        (hot, {"ignore_index": 7}),
    ]
    for label, options in cases:
        loss = losses.JDTCELoss(softmax=True, **options)
        assert torch.equal(loss(x, label.to(dtype), mask), loss(x, label, mask)), options


@pytest.mark.parametrize("scale", [1e-60, 1e-38, 1e-7, 1e7, 1e38])
def test_scale_of_rater_weights(scale: float) -> None:
    """They are renormalised, so that their unit does not matter."""
    votes, x = torch.randint(0, 3, (2, 4, 5)), torch.randn(2, 3, 5)
    weights = torch.tensor([1.0, 2.0, 0.0, 2.5], dtype=torch.float64)
    loss = losses.JDTCELoss(softmax=True, votes=True)
    expected = loss(x, votes, rater_weights=weights)
    torch.testing.assert_close(loss(x, votes, rater_weights=weights * scale), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize(("dtype", "marker"), [(torch.uint8, 256), (torch.uint8, 258), (torch.int8, -255), (torch.int16, 65537)])
def test_a_marker_that_the_dtype_cannot_hold_marks_nothing(dtype: torch.dtype, marker: int) -> None:
    """256 is 0 in uint8, 65537 is 1 in int16: a comparison that wraps would ignore a class."""
    index, x = torch.randint(0, 3, (2, 1, 9)), torch.randn(2, 3, 9)
    forms: list[tuple[dict[str, Any], torch.Tensor]] = [({"to_onehot_y": True}, index), ({"votes": True}, index.expand(2, 2, 9))]
    for options, label in forms:
        expected = losses.JDTCELoss(softmax=True, **options)(x, label)
        assert torch.equal(losses.JDTCELoss(softmax=True, ignore_index=marker, **options)(x, label.to(dtype)), expected)
    hot = torch.nn.functional.one_hot(index[:, 0], 3).movedim(-1, 1)
    expected = losses.JDTCELoss(softmax=True)(x, hot)
    assert torch.equal(losses.JDTCELoss(softmax=True, ignore_index=marker)(x, hot.to(dtype)), expected)
