"""Random configurations: a finite loss and a finite gradient, or, where something contradicts itself, the documented error."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monai_jdt.losses import DistillationLoss, SoftDeepSupervisionLoss
from tests.losses.strategies import Configuration, configurations, mistaken_configurations
from tests.present import present

# 10 times the profile: 500 in the short tier, 10,000 in the long one.
MANY = settings(
    max_examples=10 * present(settings.default).max_examples,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@MANY
@given(configurations(most=60))
def test_finite_value_and_gradient(configuration: Configuration) -> None:
    x = configuration.input.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    value = configuration(x)
    value.sum().backward()
    assert value.dtype is (torch.float64 if x.dtype is torch.float64 else torch.float32)
    assert value.isfinite().all()
    assert (value >= 0).all()
    assert present(x.grad).dtype is x.dtype
    # the slope of a logarithm at hardly any overlap may be more than float16 holds; then, and only then, it is infinite there
    wide = configuration.input.detach().double().requires_grad_()
    configuration(wide).sum().backward()
    assert present(x.grad)[present(wide.grad).abs() < 0.99 * torch.finfo(x.dtype).max].isfinite().all()
    assert not present(x.grad).isnan().any()


def assert_finite(value: torch.Tensor, *inputs: torch.Tensor) -> None:
    value.sum().backward()
    assert value.isfinite().all()
    for x in inputs:
        assert present(x.grad).dtype is x.dtype
        assert present(x.grad).isfinite().all()


@settings(MANY, max_examples=2 * present(settings.default).max_examples)
@given(configurations(names=("JDTCELoss",), most=40), st.sampled_from([1.0, 2.0, 0.5]), st.booleans())
def test_distillation_is_finite(configuration: Configuration, temperature: float, labelled: bool) -> None:
    x = configuration.input.detach().clone().requires_grad_()
    teacher = torch.randn(x.shape).to(x.dtype)
    weights: dict[str, Any] = {"rater_weights": configuration.rater_weights} if labelled else {}
    loss = DistillationLoss(**configuration.arguments, temperature=temperature)
    value = loss(x, configuration.target if labelled else None, teacher, configuration.mask, **weights)
    assert value.dtype is (torch.float64 if x.dtype is torch.float64 else torch.float32)
    assert_finite(value, x)


@settings(MANY, max_examples=2 * present(settings.default).max_examples)
# Not float16: at p = t = 0 the slope of a loss that is smoothed by 1e-5 is 1e5, more than float16 holds.
@given(configurations(dtypes=(torch.float64, torch.float32, torch.bfloat16), empty=False, most=40))
def test_deep_supervision_is_finite(configuration: Configuration) -> None:
    x = configuration.input.detach().clone().requires_grad_()
    small = torch.rand((*x.shape[:2], *[max(size // 2, 1) for size in x.shape[2:]])).to(x.dtype).requires_grad_()
    loss = SoftDeepSupervisionLoss(configuration.module())
    weights: dict[str, Any] = {} if configuration.rater_weights is None else {"rater_weights": configuration.rater_weights}
    assert_finite(loss([x, small], configuration.target, configuration.mask, **weights), x, small)


@settings(MANY, max_examples=4 * present(settings.default).max_examples)
@given(mistaken_configurations(most=8))
def test_contradictions_are_refused(drawn: tuple[Configuration, str]) -> None:
    configuration, name = drawn
    with pytest.raises((ValueError, TypeError)) as caught:
        configuration()
    assert any(key in str(caught.value) for key in configuration.arguments), (name, str(caught.value))
