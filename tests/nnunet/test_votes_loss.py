"""The loss on nnU-Net's target: a channel of the fused label, then one for each rater."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from monai_jdt.losses import JDTCELoss, SoftDeepSupervisionLoss
from monai_jdt.nnunet.raw_dataset import MISSING
from monai_jdt.nnunet.votes_loss import VotesLoss

SOFTMAX: dict[str, Any] = {"softmax": True, "include_background": False, "votes": True, "backend": "eager"}


def target_of(votes: torch.Tensor, fused: int = 0) -> torch.Tensor:
    return torch.cat([torch.full_like(votes[:, :1], fused), votes], 1)


@pytest.fixture
def votes() -> torch.Tensor:
    return torch.randint(0, 3, (2, 3, 4, 4, 4)).to(torch.int16)


def test_the_fused_label_is_not_looked_at(votes: torch.Tensor) -> None:
    loss, logits = VotesLoss(JDTCELoss(**SOFTMAX)), torch.randn(2, 3, 4, 4, 4)
    expected = JDTCELoss(**SOFTMAX)(logits, votes)
    assert loss(logits, target_of(votes, 0)) == expected
    assert loss(logits, target_of(votes, 2)) == expected


def test_a_missing_rater_is_no_vote_for_background(votes: torch.Tensor) -> None:
    loss, logits = VotesLoss(JDTCELoss(**SOFTMAX)), torch.randn(2, 3, 4, 4, 4)
    less = votes.clone()
    less[:, 1] = MISSING
    less[:, 1, :2] = 0  # what augmentation writes outside of the image
    expected = JDTCELoss(**SOFTMAX)(logits, votes[:, [0, 2]])
    assert float(loss(logits, target_of(less))) == pytest.approx(float(expected), rel=1e-6)


def test_a_case_without_any_rater_counts_nothing(votes: torch.Tensor) -> None:
    loss = VotesLoss(JDTCELoss(**SOFTMAX))
    logits = torch.randn(2, 3, 4, 4, 4, requires_grad=True)
    votes[0] = MISSING
    value = loss(logits, target_of(votes))
    assert float(value.detach()) == pytest.approx(float(JDTCELoss(**SOFTMAX)(logits[1:], votes[1:])), rel=1e-6)
    (gradient,) = torch.autograd.grad(value, logits)
    assert not gradient[0].any()
    assert gradient[1].any()


def test_heads_without_weight_are_left_out(votes: torch.Tensor) -> None:
    heads = [torch.randn(2, 3, 4, 4, 4), torch.randn(2, 3, 2, 2, 2), torch.full((2, 3, 1, 1, 1), float("nan"))]
    value = VotesLoss(JDTCELoss(**SOFTMAX), [0.75, 0.25, 0.0])(heads, target_of(votes))
    expected = SoftDeepSupervisionLoss(JDTCELoss(**SOFTMAX), weights=[0.75, 0.25])(heads[:2], votes)
    assert float(value) == pytest.approx(float(expected), rel=1e-6)
