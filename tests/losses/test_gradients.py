"""Gradients: of the oracle, by differences; consistent to second order; one half at ties; in the input's dtype."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings

import monai_jdt.losses as losses
from tests.losses.strategies import COMPOUND, FREE, OVERLAP, Configuration, configurations, tame, without_warning
from tests.oracles import norm_form
from tests.present import present

RELAXED = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
ACTIVATIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "sigmoid": {"sigmoid": True},
    "softmax": {"softmax": True},
    "other": {"other_act": tame},
}
CASES = [(name, kind) for name in OVERLAP + COMPOUND for kind in ACTIVATIONS if name in OVERLAP or kind in ("sigmoid", "softmax")]


@RELAXED
@given(configurations(dtypes=(torch.float64,), empty=False, most=6))
def test_gradient_is_that_of_the_oracle(configuration: Configuration) -> None:
    """Ties included. Only probabilities of exactly 0 are left out: the difference would look outside [0, 1]; and roots at 0."""
    # of one channel, class indices and the votes of one rater have that shape, too
    whole = {"to_onehot_y", "votes", "regions"} & {key for key, value in configuration.arguments.items() if value}
    alike = configuration.input.shape == configuration.target.shape and not whole
    # classes and shares of a few raters are multiples of 1/12
    x = configuration.input
    apart = (x - (configuration.target.double() if alike else (12 * x).round() / 12)).abs()
    # a difference that steps over a tie nearby is not the slope on this side of it
    assume(not ((apart > 0) & (apart < 1e-4)).any())
    same = bool((apart == 0).any())
    # with a cost of 0 the loss is 0 away from the label, too
    free = 0 in (configuration.arguments.get("alpha"), configuration.arguments.get("beta"))
    assume(not ((same or free) and configuration.arguments.get("gamma", 1.0) < 1))
    x = configuration.input.clone().requires_grad_()
    configuration(x).sum().backward()
    expected = configuration.oracle_gradient()
    inside = (configuration.input.numpy() != 0) | any(key in configuration.arguments for key in ("sigmoid", "softmax", "other_act"))
    scale = max(np.abs(expected).max(initial=0), 1.0)
    # Where a root (gamma < 1) or a logarithm without smoothing is steep, the difference itself is worth less.
    np.testing.assert_allclose(present(x.grad).numpy()[inside], expected[inside], rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize(("name", "kind"), CASES)
@pytest.mark.parametrize("power", [{}, {"gamma": 1.5, "log_loss": True}, {"norm": 2}])
def test_gradcheck_and_gradgradcheck(name: str, kind: str, power: dict[str, Any]) -> None:
    rng = np.random.default_rng(3)
    x = torch.from_numpy(rng.uniform(0.05, 0.95, (2, 3, 2))).requires_grad_()
    t = torch.from_numpy(rng.dirichlet([1, 1, 1], (2, 2))).movedim(-1, 1)
    costs: dict[str, Any] = {"alpha": 0.3, "beta": 0.7} if name in FREE and power.get("norm") != 2 else {}
    power = without_warning(name, power)
    loss = getattr(losses, name)(**ACTIVATIONS[kind], **costs, **power, classes="present", average={"dataset": 0.4, "image": 0.6})
    mask = torch.tensor([[[1, 0]], [[1, 1]]]).bool()
    assert torch.autograd.gradcheck(lambda v: loss(v, t, mask), (x,))
    assert torch.autograd.gradgradcheck(lambda v: loss(v, t, mask), (x,), fast_mode=True)


@pytest.mark.parametrize("name", FREE)
def test_half_a_gradient_at_ties(name: str) -> None:
    """p = t everywhere: tp, fp and fn move by 1/2, 1/2, -1/2 a voxel, so dl/dp = (a/2 - b/2) / T, T = sum t."""
    if name in COMPOUND:
        pytest.skip("takes logits")
    t = torch.tensor([[[0.3, 0.7, 1.0, 0.5]]], dtype=torch.float64)
    p = t.clone().requires_grad_()
    getattr(losses, name)(alpha=0.3, beta=0.7, smooth_nr=0, smooth_dr=0)(p, t).backward()
    expected = (0.3 / 2 - 0.7 / 2) / 2.5
    assert torch.allclose(present(p.grad), torch.full_like(p, expected), rtol=1e-12)
    # The mean of the slopes on both sides, of another program.
    differences = norm_form.gradient("JDTLoss", t.numpy(), t.numpy(), alpha=0.3, beta=0.7, smooth_nr=0, smooth_dr=0)
    np.testing.assert_allclose(present(p.grad).numpy(), differences, rtol=1e-5)


@pytest.mark.parametrize("gamma", [0.5, 0.75, 1.5, 2.5])
@pytest.mark.parametrize("log_loss", [False, True])
@pytest.mark.parametrize("name", OVERLAP)
def test_powers_are_finite_at_the_optimum(name: str, gamma: float, log_loss: bool) -> None:
    """Hole 4: a loss that rounds below 0 has no fractional power, and the root has no slope at 0."""
    t = torch.rand(2, 2, 6)
    t[0, 0] = 0
    for p in (t.clone(), t + 1e-7, t - 1e-7):
        p = p.clamp(0, 1).requires_grad_()
        loss = getattr(losses, name)(gamma=gamma, log_loss=log_loss)(p, t)
        loss.backward()
        assert loss.isfinite()
        assert loss >= 0
        assert present(p.grad).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", OVERLAP + COMPOUND)
def test_dtypes_and_targets(name: str, dtype: torch.dtype) -> None:
    """The gradient has the input's dtype; the target gets none, also where it asks for one."""
    x = torch.randn(2, 3, 4).to(dtype).requires_grad_()
    t = torch.rand(2, 3, 4).requires_grad_()
    loss = getattr(losses, name)(sigmoid=True)(x, t)
    loss.backward()
    assert loss.dtype is (torch.float64 if dtype is torch.float64 else torch.float32)
    assert present(x.grad).dtype is dtype
    assert present(x.grad).abs().sum() > 0
    assert t.grad is None


def test_saturated_logits_keep_finite_gradients() -> None:
    for name in OVERLAP + COMPOUND:
        for size in (50.0, 1e4, 1e38):
            x = torch.tensor([[[size, -size, size], [-size, size, size]]], requires_grad=True)
            activation: dict[str, Any]
            for activation in ({"sigmoid": True}, {"softmax": True}):
                x.grad = None
                loss = getattr(losses, name)(**activation)(x, torch.tensor([[[0.0, 1.0, 0.3], [1.0, 0.0, 0.7]]]))
                loss.backward()
                assert present(x.grad).isfinite().all(), (name, size, activation)
