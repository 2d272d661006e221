"""Ratios of sums too small to divide by: values as before, and no gradient that is infinite or NaN."""

from __future__ import annotations

import pytest
import torch

from monai_jdt.definitions.recipes import RatioRule
from monai_jdt.functional.overlap import ratio_loss
from monai_jdt.losses import JDTLoss

TINY = torch.finfo(torch.float32).tiny


def plain_ratio_loss(tp: torch.Tensor, fp: torch.Tensor, fn: torch.Tensor, log_loss: bool) -> torch.Tensor:
    """The formula where nothing is 0 or subnormal, alpha and beta .5 and .25."""
    cost = 0.5 * fp + 0.25 * fn
    everything = tp + cost + 0.0
    loss = cost / everything
    far = loss > 0.5
    score = torch.where(far, tp / everything, 1.0).clamp_min(TINY)
    return torch.where(far, -torch.log(score), -torch.log1p(-torch.where(far, 0.0, loss))) if log_loss else loss


@pytest.mark.parametrize("log_loss", [False, True])
def test_sums_that_can_be_divided_by_keep_every_bit(log_loss: bool) -> None:
    sums = torch.rand(3, 400, generator=torch.Generator().manual_seed(0)) * 10.0 ** torch.linspace(-37, 30, 400)
    rule = RatioRule(alpha=0.5, beta=0.25, smooth_nr=0, smooth_dr=0, log_loss=log_loss)
    results = []
    for plain in (False, True):
        leaf = sums.clone().requires_grad_()
        tp, fp, fn = leaf
        value = plain_ratio_loss(tp, fp, fn, log_loss) if plain else ratio_loss(tp, fp, fn, rule)
        results.append((value.detach(), *torch.autograd.grad(value.sum(), leaf)))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


@pytest.mark.parametrize("log_loss", [False, True])
def test_subnormal_sums_have_their_value_and_no_gradient(log_loss: bool) -> None:
    # tp, fp, fn; the ratios are 1, 1, 1/2 and, for nothing at all, 0
    rows = torch.tensor([[0.0, 0.0, 2e-41, 0.0], [2e-41, 0.0, 2e-41, 0.0], [0.0, 2e-41, 0.0, 0.0]]).requires_grad_()
    tp, fp, fn = rows
    value = ratio_loss(tp, fp, fn, RatioRule(alpha=1, beta=1, smooth_nr=0, smooth_dr=0, log_loss=log_loss))
    nothing = -torch.log(torch.tensor(TINY)).item() if log_loss else 1.0
    half = -torch.log(torch.tensor(0.5)).item() if log_loss else 0.5
    torch.testing.assert_close(value, torch.tensor([nothing, nothing, half, 0.0]), rtol=1e-3, atol=0)
    (gradient,) = torch.autograd.grad(value.sum(), rows)
    assert torch.equal(gradient, torch.zeros_like(rows))


@pytest.mark.parametrize("log_loss", [False, True])
def test_far_logits_of_an_empty_label_have_no_gradient(log_loss: bool) -> None:
    logits = torch.linspace(-60, -40, 81).repeat_interleave(4).reshape(81, 1, 4).requires_grad_()
    loss = JDTLoss(sigmoid=True, norm=2, smooth_nr=0, smooth_dr=0, log_loss=log_loss)
    value = loss(logits, torch.zeros(81, 1, 4))
    (gradient,) = torch.autograd.grad(value, logits)
    assert torch.isfinite(gradient).all()
