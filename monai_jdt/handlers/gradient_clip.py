"""Gradients whose norm is limited before each step of the optimizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from monai.engines import IterationEvents

from monai_jdt.training.accumulated_steps import place_in_step
from monai_jdt.validation import check_number, error_sentence

if TYPE_CHECKING:
    from monai.engines import SupervisedTrainer


class GradientClip:
    """Scale the gradient of each step so that its norm, over all weights, is at most `norm`.

    With mixed precision the gradients are first divided by the scaler's factor. A gradient that is not finite is left to the scaler,
    which skips the step.

    Args:
        norm: > 0.
        accumulate: batches of a step; the norm is that of their mean gradient.

    Raises:
        TypeError: `norm` is no number.
        ValueError: `norm` is not > 0.

    Example:
        >>> GradientClip(12.0).attach(trainer)  # doctest: +SKIP
    """

    def __init__(self, norm: float, accumulate: int = 1) -> None:
        self.norm = check_number("norm", norm, 0)
        if self.norm == 0:
            raise ValueError(error_sentence("norm", "a number > 0", "0", "norm=12; with 0 nothing is learnt"))
        self.accumulate = accumulate

    def attach(self, engine: Any) -> None:
        """Clip between the trainer's backward pass and its step."""
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: SupervisedTrainer) -> None:
        """Clip if a step follows."""
        place, size = place_in_step(engine.state.iteration, engine.state.epoch_length, self.accumulate)
        if place < size - 1:
            return
        if engine.scaler is not None:
            engine.scaler.unscale_(engine.optimizer)
        torch.nn.utils.clip_grad_norm_([w for group in engine.optimizer.param_groups for w in group["params"]], self.norm)
