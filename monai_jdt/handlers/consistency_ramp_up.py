"""The weight of what is learnt from a teacher, raised over the first epochs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from monai.utils import optional_import

from monai_jdt.teachers import SemiSupervisedLoss
from monai_jdt.validation import check_int, check_number, error_sentence

if TYPE_CHECKING:
    from ignite.engine import Engine

_Events, _ = optional_import("ignite.engine", name="Events")


class ConsistencyRampUp:
    r"""Set a loss's `weight` at the start of each epoch: :math:`w \exp(-5 (1 - e / E)^2)` in epoch e = 1, 2, ..., and w from E on.

    The weight follows from the number of the epoch alone, so that a training that is resumed has the same.

    Args:
        loss: whose weight is set.
        epochs: E >= 0; 0: w from the start.
        weight: w >= 0; None: the weight that the loss has now.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: `epochs` or `weight` below 0.

    References:
        Laine and Aila, Temporal ensembling, ICLR 2017, arXiv:1610.02242. Tarvainen and Valpola, arXiv:1703.01780.

    Example:
        >>> ConsistencyRampUp(loss, epochs=20).attach(trainer)  # doctest: +SKIP
    """

    def __init__(self, loss: SemiSupervisedLoss, epochs: int, weight: float | None = None) -> None:
        self.loss = loss
        self.epochs = check_int("epochs", epochs)
        if self.epochs < 0:
            raise ValueError(error_sentence("epochs", "a whole number >= 0", str(epochs)))
        self.weight = loss.weight if weight is None else check_number("weight", weight, 0)

    def attach(self, engine: Engine) -> None:
        """Set the weight at the start of each epoch of a trainer."""
        engine.add_event_handler(_Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Set the weight for the engine's epoch."""
        self.loss.weight = self.weight_at(engine.state.epoch)

    def weight_at(self, epoch: int) -> float:
        """Return the weight in an epoch.

        Args:
            epoch: from 1.
        """
        left = max(1 - epoch / self.epochs, 0.0) if self.epochs else 0.0
        return self.weight * math.exp(-5 * left**2)
