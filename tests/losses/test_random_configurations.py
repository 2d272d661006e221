"""Random configurations: a finite loss and a finite gradient, or, where something contradicts itself, the documented error."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings

from tests.losses.strategies import configurations, mistaken_configurations

# 10 times the profile: 500 in the short tier, 10,000 in the long one.
MANY = settings(
    max_examples=10 * settings.default.max_examples,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@MANY
@given(configurations(most=60))
def test_finite_value_and_gradient(configuration):
    x = configuration.input.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    value = configuration(x)
    value.sum().backward()
    assert value.dtype is (torch.float64 if x.dtype is torch.float64 else torch.float32)
    assert value.isfinite().all()
    assert (value >= 0).all()
    assert x.grad.dtype is x.dtype
    assert x.grad.isfinite().all()


@settings(MANY, max_examples=4 * settings.default.max_examples)
@given(mistaken_configurations(most=8))
def test_contradictions_raise(drawn):
    configuration, name = drawn
    with pytest.raises((ValueError, TypeError)) as caught:
        configuration()
    assert any(key in str(caught.value) for key in configuration.arguments), (name, str(caught.value))
