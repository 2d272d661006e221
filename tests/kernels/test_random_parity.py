"""Every kernel is `eager`, in value and gradient, on random configurations of the losses."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings

from monai_jdt.definitions import Backend
from monai_jdt.kernels.choice import refusal
from monai_jdt.kernels.chunked import chunks
from monai_jdt.kernels.numpy import blocks
from tests.losses.strategies import Configuration, configurations
from tests.present import present

#: By the dtype of the logits: of values, and of gradients relative to the largest.
TOLERANCES = {
    torch.float64: (1e-12, 1e-11),
    torch.float32: (2e-6, 2e-5),
    torch.float16: (2e-6, 2e-3),
    torch.bfloat16: (2e-6, 2e-2),
}
MANY = settings(
    max_examples=4 * present(settings.default).max_examples,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)


def check_parity(configuration: Configuration, kernel: Backend) -> None:
    """Close to `eager`; where a configuration loses digits, no farther from `eager` in float64 than a few times `eager` itself.

    What `eager` loses is looked for at numbers nearby, too: on a single one it may be nothing by luck. In float64, of which nothing
    wider is there, it is what it loses in float32, by the ratio of their precisions and once more times four, since it is not seen on
    the numbers themselves: such as most digits of a slope that is 1e-5 of the terms whose difference it is.
    """
    recipe = configuration.module().recipe.voxels
    assume(refusal(kernel, configuration.input, configuration.target, recipe) is None)
    dtype = configuration.input.dtype
    value, gradient = _value_and_gradient(configuration, "eager", dtype)
    # probabilities stay at most 1
    nearby = [1 - number / 1024 for number in range(9)] if dtype is torch.float64 else [1, 1 + 2**-22, 1 - 2**-22]
    lost = [_lost_by_eager(configuration, dtype, factor) for factor in nearby]
    fast_value, fast_gradient = _value_and_gradient(configuration, kernel.value, dtype)
    assert fast_value.dtype is value.dtype
    assert fast_gradient.dtype is gradient.dtype
    true_value, true_gradient = _value_and_gradient(configuration, "eager", torch.float64)
    close, slopes_close = TOLERANCES[dtype]
    largest = float(true_gradient.abs().max()) if gradient.numel() else 0.0
    for got, true, bound, by_eager in (
        (fast_value, true_value, close * (1 + true_value.abs()), max(each[0] for each in lost)),
        (fast_gradient, true_gradient, slopes_close * largest + torch.finfo(dtype).tiny, max(each[1] for each in lost)),
    ):
        assert ((got.double() - true).abs() <= bound + 4 * by_eager).all(), (got, true, by_eager)


def _lost_by_eager(configuration: Configuration, dtype: torch.dtype, factor: float) -> tuple[float, float]:
    """The largest errors of value and gradient, 0 for none."""
    looked_at = torch.float32 if dtype is torch.float64 else dtype
    got = _value_and_gradient(configuration, "eager", looked_at, factor)
    true = _value_and_gradient(configuration, "eager", torch.float64, factor)
    value, gradient = (float((a.double() - b).abs().max()) if b.numel() else 0.0 for a, b in zip(got, true, strict=True))
    share = 1.0 if dtype is looked_at else 4 * torch.finfo(dtype).eps / torch.finfo(looked_at).eps
    return share * value, share * gradient


def _value_and_gradient(
    configuration: Configuration, backend: str, dtype: torch.dtype, factor: float = 1
) -> tuple[torch.Tensor, torch.Tensor]:
    # in the input's own dtype, so that every dtype is given the same numbers
    x = configuration.input.detach() * factor if factor != 1 else configuration.input.detach()
    x = x.to(dtype, memory_format=torch.preserve_format, copy=True).requires_grad_()
    value = configuration(x, backend=backend)
    (gradient,) = torch.autograd.grad(value.sum(), x)
    return value.detach(), gradient


@MANY
@given(configurations(most=60))
def test_chunks_are_the_definition(monkeypatch: pytest.MonkeyPatch, configuration: Configuration) -> None:
    # several chunks of these few voxels, seen in slices where there are eight
    monkeypatch.setattr(chunks, "_LARGEST", 24)
    monkeypatch.setattr(chunks, "_SMALLEST", 24)
    monkeypatch.setattr(chunks, "_SMALLEST_SLICE", 1)
    check_parity(configuration, Backend.CHUNKED)


@MANY
@given(configurations(most=60))
def test_blocks_of_numpy_are_the_definition(monkeypatch: pytest.MonkeyPatch, configuration: Configuration) -> None:
    monkeypatch.setattr(blocks, "_LARGEST", 24)
    check_parity(configuration, Backend.NUMPY)


@settings(MANY, max_examples=present(settings.default).max_examples // 2)
@given(configurations(most=60))
def test_blocks_of_triton_are_the_definition(configuration: Configuration) -> None:
    check_parity(configuration, Backend.TRITON)


@MANY
@given(configurations(most=60))
def test_loops_of_numba_are_the_definition(configuration: Configuration) -> None:
    check_parity(configuration, Backend.NUMBA)
