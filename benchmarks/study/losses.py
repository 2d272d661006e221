"""Losses that the study compares and that the package does not have: sums of two, a fixed denominator, a schedule of two."""

from __future__ import annotations

from collections.abc import Sequence

import torch


class SumOfLosses(torch.nn.Module):
    """A weighted sum of losses of the same logits and label.

    Args:
        losses: each is called with logits and label.
        weights: one for each.
    """

    def __init__(self, losses: Sequence[torch.nn.Module], weights: Sequence[float]) -> None:
        super().__init__()
        self.losses = torch.nn.ModuleList(losses)
        self.weights = tuple(weights)

    def forward(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Return the sum."""
        parts = [weight * loss(logits, label) for loss, weight in zip(self.losses, self.weights, strict=True)]
        return torch.stack([part.reshape(()) for part in parts]).sum()


class FixedDenominatorLoss(torch.nn.Module):
    r"""The squared error of a class over twice the label's own squared sum, :math:`\sum (p - t)^2 / (2 \sum t^2)`, mean over classes.

    The denominator does not depend on the prediction, so that it has no part in the gradient: for voxels that look alike the loss is
    smallest at the mean of their labels. Sums are those of the batch.

    Args:
        eps: added to the denominator, voxels.
    """

    def __init__(self, eps: float = 1.0) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Return the loss of logits `(N, C, *S)`, after a softmax."""
        axes = [axis for axis in range(logits.ndim) if axis != 1]
        error = (logits.softmax(1) - label).square().sum(axes)
        return (error / (2 * label.square().sum(axes) + self.eps)).mean()


class ScheduledLoss(torch.nn.Module):
    """Goes from one loss to another in a straight line over a training. It counts the calls in training, one for each step.

    Args:
        first: at the first step.
        last: from `steps` on.
        steps: of the training.
    """

    taken: torch.Tensor

    def __init__(self, first: torch.nn.Module, last: torch.nn.Module, steps: int) -> None:
        super().__init__()
        self.first, self.last, self.steps = first, last, steps
        # a buffer: a training that goes on goes on with the schedule
        self.register_buffer("taken", torch.zeros((), dtype=torch.int64))

    def forward(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Return the loss of this step."""
        share = min(int(self.taken) / max(self.steps, 1), 1.0)
        self.taken += int(logits.requires_grad)
        return (1 - share) * self.first(logits, label) + share * self.last(logits, label)
