"""Promise 2: large volumes in float32 are those in float64; half precisions give finite float32 and lose no gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import monai_jdt.losses as losses
from tests.losses.strategies import COMPOUND, OVERLAP
from tests.present import present

SMOOTH: dict[str, Any] = {"smooth_nr": 1e-5, "smooth_dr": 1e-5}


def small_lesion(n: int, size: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    """Soft label of two classes, .9 % foreground in a ball; logits that miss some of it: the table of the peers' drift."""
    axis = torch.linspace(-1, 1, size)
    radius = (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2).sqrt()
    foreground = torch.sigmoid((0.2576 - radius) * 40)  # 4/3 pi .2576^3 / 8 = .9 %
    label = torch.stack([1 - foreground, foreground])[None].expand(n, -1, -1, -1, -1)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn((n, 1, size, size, size), generator=generator)
    logit = torch.logit(foreground.clamp(1e-6, 1 - 1e-6)) * 0.9 + noise
    return torch.cat([-logit / 2, logit / 2], 1).to(dtype), label.contiguous()


def direct(name: str, logits: torch.Tensor, label: torch.Tensor, softmax: bool) -> float:
    """The definition in float64, whole tensors at once (the loops of the norm form would take hours)."""
    x, t = logits.double(), label.double()
    p = torch.softmax(x, 1) if softmax else torch.sigmoid(x)
    axes = (2, 3, 4)
    a, b, s = {"JaccardMetricLoss": (1, 1, 5e-6), "DiceSemimetricLoss": (0.5, 0.5, 5e-6)}.get(name, (0.3, 0.7, 1e-5))
    distance, excess = (p - t).abs().sum(axes), (p - t).sum(axes)
    fp, fn = (distance + excess) / 2, (distance - excess) / 2
    tp = t.sum(axes) - fn
    overlap = ((a * fp + b * fn) / (tp + a * fp + b * fn + s)).mean()
    if name not in COMPOUND:
        return overlap.item()
    if softmax:
        by_class = -t * torch.log_softmax(x, 1)
        pixel = by_class.sum(1).mean() if name == "JDTCELoss" else (by_class * (p - t) ** 2).sum(1).mean()
    else:
        bce = torch.nn.functional.binary_cross_entropy_with_logits(x, t, reduction="none")
        pixel = bce.mean() if name == "JDTCELoss" else (bce * (p - t) ** 2).mean()
    return (0.75 * overlap + 0.25 * pixel).item()


def made(name: str, softmax: bool) -> torch.nn.Module:
    costs: dict[str, Any] = {} if name in ("JaccardMetricLoss", "DiceSemimetricLoss") else {"alpha": 0.3, "beta": 0.7}
    return getattr(losses, name)(softmax=softmax, sigmoid=not softmax, **costs, **SMOOTH)


@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize("size", [96, pytest.param(192, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", OVERLAP + COMPOUND)
def test_float32_is_float64_to_a_millionth(name: str, size: int, softmax: bool) -> None:
    logits, label = small_lesion(1, size)
    expected = direct(name, logits, label, softmax)
    assert made(name, softmax)(logits, label).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", OVERLAP + COMPOUND)
def test_half_inputs_are_exact_on_the_rounded_values(name: str, dtype: torch.dtype) -> None:
    """The work is done in float32, so that only the rounding of the inputs is left; and that is in both."""
    logits, label = small_lesion(1, 64, dtype)
    label = label.to(dtype)
    got = made(name, True)(logits, label)
    assert got.dtype is torch.float32
    assert got.item() == pytest.approx(direct(name, logits, label, True), rel=2e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", OVERLAP + COMPOUND)
@pytest.mark.parametrize(
    "options", [{"softmax": True}, {"sigmoid": True}, {"softmax": True, "batch": True}, {"softmax": True, "norm": 2}]
)
def test_half_precision_is_finite(name: str, dtype: torch.dtype, options: dict[str, Any]) -> None:
    """64^3 of .5 sum to more than float16 holds (65504)."""
    logits = torch.zeros(1, 2, 48, 48, 48, dtype=dtype).requires_grad_()
    label = torch.full((1, 2, 48, 48, 48), 0.5, dtype=dtype)
    label[:, 0, :24], label[:, 1, :24] = 1, 0
    loss = getattr(losses, name)(**options)(logits, label)
    loss.backward()
    assert loss.dtype is torch.float32
    assert loss.isfinite()
    assert present(logits.grad).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", OVERLAP + COMPOUND)
def test_autocast(name: str, dtype: torch.dtype) -> None:
    """Under autocast the loss of the same logits is the same: nothing in it drops to half precision."""
    logits, label = small_lesion(1, 32, dtype)
    outside = made(name, True)(logits, label)
    with torch.autocast("cpu", dtype):
        inside = made(name, True)(logits, label)
    assert inside.dtype is torch.float32
    assert inside.item() == pytest.approx(outside.item(), rel=1e-6)


@pytest.mark.parametrize("name", OVERLAP)
def test_smoothing_survives_half_precision(name: str) -> None:
    """1e-8 is 0 in float16: an empty pair would be 0 / 0."""
    p = torch.zeros(1, 1, 8, dtype=torch.float16, requires_grad=True)
    loss = getattr(losses, name)(smooth_nr=1e-8, smooth_dr=1e-8)(p, torch.zeros(1, 1, 8, dtype=torch.float16))
    loss.backward()
    assert loss.item() == 0
    assert present(p.grad).isfinite().all()


@pytest.mark.parametrize("size", [64, pytest.param(128, marks=pytest.mark.long)])
@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize("name", OVERLAP + COMPOUND)
def test_grad_scaler(name: str, softmax: bool, size: int) -> None:
    """GradScaler's 65536 in float16: every gradient that float32 has above 1e-7 arrives, and none overflows.

    1e-7 * 65536 = .0066, far above the smallest float16; what must not happen is that the gradient is cast before it is scaled
    (1e-7 is two of float16's smallest steps of 6e-8).
    """
    logits, label = small_lesion(2, size, torch.float16)
    half = logits.requires_grad_()
    (made(name, softmax)(half, label) * 65536).backward()
    full = logits.detach().float().requires_grad_()
    made(name, softmax)(full, label).backward()
    large = present(full.grad).abs() > 1e-7
    assert present(half.grad).isfinite().all()
    assert large.any()
    unscaled = present(half.grad).float() / 65536
    assert (unscaled[large] != 0).all()
    # And they are right: float16 has 11 bits.
    torch.testing.assert_close(unscaled[large], present(full.grad)[large], rtol=2e-3, atol=0)


@pytest.mark.parametrize("name", OVERLAP)
@pytest.mark.parametrize("log_loss", [False, True])
def test_small_losses_keep_their_digits(name: str, log_loss: bool) -> None:
    """Near the label, p = t + 2^-14: as 1 - score the loss of 1e-4 would keep three digits of float32's seven."""
    t = torch.full((1, 1, 4, 4), 0.5)
    loss = getattr(losses, name)(log_loss=log_loss)
    p = t + 2.0**-14
    assert loss(p, t).item() == pytest.approx(loss(p.double(), t.double()).item(), rel=1e-6)
