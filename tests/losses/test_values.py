"""Every loss equals the oracle, a different program, in every configuration that is allowed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike

import monai_jdt.losses as losses
from tests.losses.strategies import COMPOUND, OVERLAP, Configuration, as_array, configurations
from tests.oracles import norm_form
from tests.present import present

RELAXED = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
MANY = settings(RELAXED, max_examples=5 * present(settings.default).max_examples)


def assert_close(loss: torch.Tensor, oracle: ArrayLike, rel: float, gamma: float = 1.0) -> None:
    got, expected = as_array(loss), np.asarray(oracle)
    assert got.shape == expected.shape
    # Near 0 there is an absolute error too: a probability near 1 is rounded to 6e-8 (1e-16), times weights of up to 20 and pairs;
    # a root magnifies it.
    np.testing.assert_allclose(got, expected, rtol=rel, atol=(rel / 2) ** min(gamma, 1.0))


@MANY
@given(configurations(dtypes=(torch.float64,)))
def test_float64_equals_the_oracle(configuration: Configuration) -> None:
    got = configuration()
    assert got.dtype is torch.float64
    assert_close(got, configuration.oracle(), 1e-9, configuration.arguments.get("gamma", 1.0))


@MANY
@given(configurations(dtypes=(torch.float32, torch.float16, torch.bfloat16)))
def test_smaller_dtypes_equal_the_oracle_on_the_rounded_input(configuration: Configuration) -> None:
    got = configuration()
    assert got.dtype is torch.float32
    assert_close(got, configuration.oracle(), 1e-5, configuration.arguments.get("gamma", 1.0))


@pytest.mark.parametrize("name", OVERLAP + COMPOUND)
@RELAXED
@given(data=st.data())
def test_each_loss_equals_the_oracle(name: str, data: st.DataObject) -> None:
    """The same by loss, so that each gets its own number of examples."""
    configuration = data.draw(configurations(names=(name,), dtypes=(torch.float64,), empty=False, most=12))
    assert_close(configuration(), configuration.oracle(), 1e-9, configuration.arguments.get("gamma", 1.0))


# --- numbers by hand, which hold oracle and package alike ---


def one(*values: float) -> torch.Tensor:
    return torch.tensor([[values]], dtype=torch.float64)


BY_HAND = [
    # p, t, arguments, expected
    # tp = .3 + .2 = .5, fp = .2, fn = .4: (.3 * .2 + .7 * .4) / (.5 + .34)
    (one(0.5, 0.2), one(0.3, 0.6), {"alpha": 0.3, "beta": 0.7}, 0.34 / 0.84),
    # (.34 + .2 - .1) / (.5 + .34 + .2)
    (one(0.5, 0.2), one(0.3, 0.6), {"alpha": 0.3, "beta": 0.7, "smooth_nr": 0.1, "smooth_dr": 0.2}, 0.44 / 1.04),
    # tp = .15 + .12 = .27, fp = .25 + .04 - .27 = .02, fn = .09 + .36 - .27 = .18: .2 / .47
    (one(0.5, 0.2), one(0.3, 0.6), {"norm": 2}, 0.2 / 0.47),
    # score .5 / .84
    (one(0.5, 0.2), one(0.3, 0.6), {"alpha": 0.3, "beta": 0.7, "log_loss": True}, math.log(0.84 / 0.5)),
    (one(0.5, 0.2), one(0.3, 0.6), {"alpha": 0.3, "beta": 0.7, "log_loss": True, "gamma": 2.0}, math.log(0.84 / 0.5) ** 2),
    (one(0.5, 0.2), one(0.3, 0.6), {"alpha": 0.3, "beta": 0.7, "gamma": 0.5}, math.sqrt(0.34 / 0.84)),
    (one(0.5, 0.2), one(0.3, 0.6), {"alpha": 0.3, "beta": 0.7, "weight": 20.0, "gamma": 0.5}, math.sqrt(0.34 / 0.84)),  # one class
]


@pytest.mark.parametrize(("p", "t", "arguments", "expected"), BY_HAND)
def test_arithmetic_by_hand(p: torch.Tensor, t: torch.Tensor, arguments: dict[str, Any], expected: float) -> None:
    arguments = {"smooth_nr": 0.0, "smooth_dr": 0.0, **arguments}
    assert norm_form.jdt("JDTLoss", p.numpy(), t.numpy(), **arguments) == pytest.approx(expected, rel=1e-12)
    assert float(losses.JDTLoss(**arguments)(p, t)) == pytest.approx(expected, rel=1e-12)


#: Two images of two classes, one voxel each, t = 1: p = 1 - l gives the pair the Jaccard loss l. Image 0: .1, .4; image 1: .2, .8.
PAIRS = torch.tensor([[0.9, 0.6], [0.8, 0.2]], dtype=torch.float64)
#: The second class of the second image is absent in the label, so that its loss is 1 for any p > 0.
LABELS = torch.tensor([[1.0, 1.0], [1.0, 0.0]], dtype=torch.float64)

AVERAGES = [
    ({}, (0.1 + 0.4 + 0.2 + 1) / 4),
    ({"classes": "present"}, (0.1 + 0.4 + 0.2) / 3),
    ({"classes": "present", "average": "image"}, ((0.1 + 0.4) / 2 + 0.2) / 2),
    ({"classes": "present", "average": "class"}, ((0.1 + 0.2) / 2 + 0.4) / 2),
    # class 0: tp 1.7, fn .3 -> .3 / 2; class 1: tp .6, fn .4, fp .2 -> .6 / 1.2
    ({"classes": "present", "average": "dataset"}, (0.15 + 0.5) / 2),
    ({"batch": True}, (0.15 + 0.5) / 2),
    (
        {"classes": "present", "average": {"dataset": 0.2, "image": 0.3, "class": 0.5}},
        0.2 * 0.325 + 0.3 * 0.225 + 0.5 * 0.275,
    ),
    # The threshold lies above the .2 of the second image's second class.
    ({"classes": "prob", "threshold": 0.5}, (0.1 + 0.4 + 0.2) / 3),
    ({"classes": "both", "threshold": 0.1}, (0.1 + 0.4 + 0.2 + 1) / 4),
    ({"classes": [1]}, (0.4 + 1) / 2),
    # image 0: tp 1.5, fn .5; image 1: tp .8, fn .2, fp .2
    ({"classes": "pooled"}, (0.5 / 2 + 0.4 / 1.2) / 2),
    ({"classes": "pooled", "batch": True}, 0.9 / 3.2),
    ({"classes": "pooled", "average": "dataset"}, 0.9 / 3.2),
    ({"classes": "present", "reduction": "sum"}, 0.1 + 0.4 + 0.2),
    ({"weight": [1.0, 20.0]}, (0.1 + 20 * 0.4 + 0.2 + 20 * 1) / 4),
    ({"weight": [20.0], "include_background": False, "classes": "present"}, 0.4),  # one class has none to be weighed against
    # Nothing is above the threshold.
    ({"classes": "present", "threshold": 1.5}, 0.0),
]


@pytest.mark.parametrize(("arguments", "expected"), AVERAGES)
def test_averages_by_hand(arguments: dict[str, Any], expected: float) -> None:
    arguments = {"smooth_nr": 0.0, "smooth_dr": 0.0, **arguments}
    assert norm_form.jdt("JDTLoss", PAIRS.numpy(), LABELS.numpy(), **arguments) == pytest.approx(expected, rel=1e-12)
    assert float(losses.JDTLoss(**arguments)(PAIRS, LABELS)) == pytest.approx(expected, rel=1e-12)


def test_smoothing_stands_beside_2_tp_in_the_presets_of_dice_loss() -> None:
    p, t = one(0.5, 0.2), one(0.3, 0.6)  # tp .5, fp .2, fn .4
    given: dict[str, Any] = {"smooth_nr": 0.1, "smooth_dr": 0.2}
    assert float(losses.DiceSemimetricLoss(**given)(p, t)) == pytest.approx(1 - (2 * 0.5 + 0.1) / (2 * 0.5 + 0.6 + 0.2), rel=1e-12)
    assert float(losses.JaccardMetricLoss(**given)(p, t)) == pytest.approx(1 - (2 * 0.5 + 0.1) / (2 * (0.5 + 0.6) + 0.2), rel=1e-12)
    assert float(losses.CompatibleTverskyLoss(**given)(p, t)) == pytest.approx(1 - (0.5 + 0.1) / (0.5 + 0.3 + 0.2), rel=1e-12)
    assert float(losses.JDTLoss(**given)(p, t)) == pytest.approx(1 - (0.5 + 0.1) / (0.5 + 0.6 + 0.2), rel=1e-12)


@pytest.mark.parametrize("name", OVERLAP)
@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("space", [(), (3,), (2, 3), (2, 2, 2)])
def test_shape_of_the_unreduced_loss(name: str, batch: bool, space: tuple[int, ...]) -> None:
    x, t = torch.rand(2, 3, *space), torch.rand(2, 3, *space)
    ones = (1,) * len(space) if name in ("DiceSemimetricLoss", "JaccardMetricLoss") else ()
    assert getattr(losses, name)(reduction="none", batch=batch)(x, t).shape == ((3, *ones) if batch else (2, 3, *ones))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_logarithm_of_no_overlap_is_finite(dtype: torch.dtype) -> None:
    """Score 0 without smoothing: the logarithm stops somewhere, instead of inf."""
    p, t = torch.zeros(1, 1, 3, dtype=dtype, requires_grad=True), torch.ones(1, 1, 3, dtype=dtype)
    loss = losses.JDTLoss(log_loss=True, smooth_nr=0)(p, t)
    loss.backward()
    assert 50 < loss.item() < 1000
    assert present(p.grad).isfinite().all()


def test_votes_by_hand() -> None:
    """Three raters: 1, 0, 255 at one voxel; weights 3, 1, 5 make 3/4 of those who speak; the second voxel has nobody."""
    votes = torch.tensor([[[1, 255], [0, 255], [255, 255]]])
    p = torch.tensor([[[0.5, 0.9]]], dtype=torch.float64)
    loss = losses.JDTLoss(votes=True, ignore_index=255, smooth_nr=0, smooth_dr=0)
    weighted = loss(p, votes, rater_weights=torch.tensor([3.0, 1.0, 5.0]))
    assert float(weighted) == pytest.approx(0.25 / 0.75, rel=1e-12)  # tp .5, fn .25
    assert float(loss(p, votes)) == 0  # label .5
    silent = loss(p, votes, rater_weights=torch.tensor([[0.0, 2.0, 5.0]]))
    assert float(silent) == 1  # the rater who says 0 is alone: tp 0, fp .5


def test_regions_by_hand() -> None:
    """Values 1, 2, 4, 0 in the BraTS regions TC = {1, 4}, WT = {1, 2, 4}, ET = {4}."""
    index = torch.tensor([[[1, 2, 4, 0]]])
    label = torch.tensor([[[1, 0, 1, 0], [1, 1, 1, 0], [0, 0, 1, 0]]])
    logits = torch.randn(1, 3, 4, dtype=torch.float64)
    regions = [[1, 4], [1, 2, 4], [4]]
    for name in OVERLAP + COMPOUND:
        loss = getattr(losses, name)
        got = loss(sigmoid=True, regions=regions)(logits, index)
        assert torch.equal(got, loss(sigmoid=True)(logits, label))
        assert torch.equal(got, loss(sigmoid=True, regions=regions, votes=True)(logits, index.expand(1, 2, 4)))


def test_weights_of_the_pixel_term_by_hand() -> None:
    """Softmax over two classes of equal logits: CE log 2 each; weights do not move a mean of equal numbers, but they do a sum."""
    zeros = torch.zeros(1, 2, 2, dtype=torch.float64)
    t = torch.tensor([[[0.3, 1.0], [0.7, 0.0]]], dtype=torch.float64)
    only: dict[str, Any] = {"lambda_jdt": 0.0, "lambda_ce": 1.0, "weight": [1.0, 20.0]}
    assert float(losses.JDTCELoss(softmax=True, **only)(zeros, t)) == pytest.approx(math.log(2), rel=1e-12)
    # w_v = .3 + .7 * 20 = 14.3 and 1
    summed = losses.JDTCELoss(softmax=True, reduction="sum", **only)(zeros, t)
    assert float(summed) == pytest.approx(15.3 * math.log(2), rel=1e-12)
    # Sigmoid: channels weigh 1 and 20, mean over 2 channels x 2 voxels.
    assert float(losses.JDTCELoss(sigmoid=True, **only)(zeros, t)) == pytest.approx((2 + 40) / 4 * math.log(2), rel=1e-12)
    # One channel: 20 t + 1 - t = 6.7 and 20.
    only["weight"] = [20.0]
    assert float(losses.JDTCELoss(sigmoid=True, **only)(zeros[:, :1], t[:, :1])) == pytest.approx(
        (6.7 + 20) / 2 * math.log(2), rel=1e-12
    )


@pytest.mark.parametrize("key", ["sigmoid", "softmax"])
@pytest.mark.parametrize("name", COMPOUND)
def test_a_compound_without_background_drops_the_first_weight(name: str, key: str) -> None:
    """In the overlap term only: the pixel term sees channel 0, with its weight."""
    x, t = torch.randn(2, 3, 5, dtype=torch.float64), torch.softmax(torch.randn(2, 3, 5, dtype=torch.float64), 1)
    options: dict[str, Any] = {key: True, "include_background": False}
    pixel = "lambda_ce" if name == "JDTCELoss" else "lambda_focal"
    overlap = getattr(losses, name)(weight=[7.0, 20.0, 3.0], lambda_jdt=1.0, **{pixel: 0.0}, **options)(x, t)
    assert overlap.item() == pytest.approx(losses.JDTLoss(weight=[20.0, 3.0], **options)(x, t).item(), rel=1e-12)
    rest = [
        getattr(losses, name)(weight=[7.0, 20.0, 3.0], lambda_jdt=0.0, **{key: True}, include_background=b)(x, t) for b in (True, False)
    ]
    assert torch.equal(*rest)
