"""End a training whose loss is NaN or infinite, and say where it happened."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

from monai.utils import optional_import

from monai_jdt.handlers.progress import mean_loss

if TYPE_CHECKING:
    from ignite.engine import Engine

_Events, _ = optional_import("ignite.engine", name="Events")


class NonFiniteLossError(RuntimeError):
    """The training loss became NaN or infinite. The message is one line."""


class NonFiniteLossStop:
    """Raise at the first iteration whose loss is NaN or infinite.

    Without it a MONAI training goes on to its last epoch with weights of NaN and exit code 0.

    Args:
        loss_key: key of the loss in the trainer's output.
        case_key: key of the case names in the batch; where it is absent, the error names the files under `image_key`.
        image_key: key of the image in the batch.

    Raises:
        NonFiniteLossError: while the engine runs; it names epoch, iteration and the cases of the batch.

    Example:
        >>> NonFiniteLossStop().attach(trainer)  # doctest: +SKIP
    """

    def __init__(self, loss_key: str = "loss", case_key: str = "case", image_key: str = "image") -> None:
        self.loss_key = loss_key
        self.case_key = case_key
        self.image_key = image_key

    def attach(self, engine: Engine) -> None:
        """Watch the loss of each iteration of the engine."""
        engine.add_event_handler(_Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Check the iteration that the engine has just done."""
        loss = mean_loss(engine.state.output, self.loss_key)
        if math.isfinite(loss):
            return
        raise NonFiniteLossError(
            f"the loss is {loss} in epoch {engine.state.epoch}, iteration {engine.state.iteration}; the batch held "
            f"{self._cases(engine.state.batch)}. Fix: look at these images' values, or lower the learning rate"
        )

    def _cases(self, batch: Any) -> str:
        # the trainer may have decollated the batch into one dictionary per case
        items = batch if isinstance(batch, (list, tuple)) else [batch]
        names: list[str] = []
        for item in items:
            if not isinstance(item, dict):
                continue
            found = item.get(self.case_key)
            if found is None:
                found = getattr(item.get(self.image_key), "meta", {}).get("filename_or_obj", [])
            names += [os.fspath(name) for name in ([found] if isinstance(found, (str, os.PathLike)) else found)]
        return "the cases " + ", ".join(dict.fromkeys(names)) if names else "cases without a name"
