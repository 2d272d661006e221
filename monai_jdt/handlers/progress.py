"""A progress bar that shows the loss, for a bundle's list of handlers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from monai.utils import optional_import

from monai_jdt.progress_bar import shows_progress

if TYPE_CHECKING:
    from ignite.engine import Engine

_ignite_handlers, _ = optional_import("ignite.handlers")
_Events, _ = optional_import("ignite.engine", name="Events")


class LossProgressBar:
    """Ignite's progress bar of an epoch with the loss of the last iteration.

    In a log there is no bar: each of its states would be a line. :class:`EpochLoss` gives the log the loss of each epoch.

    Args:
        loss_key: key of the loss in the trainer's output.
        tqdm_kwargs: further arguments of `tqdm`, e.g. `disable=True`.

    Example:
        >>> LossProgressBar().attach(trainer)  # doctest: +SKIP
    """

    def __init__(self, loss_key: str = "loss", **tqdm_kwargs: Any) -> None:
        self.loss_key = loss_key
        tqdm_kwargs["disable"] = not shows_progress(not tqdm_kwargs.get("disable", False))
        self.bar = _ignite_handlers.ProgressBar(**tqdm_kwargs)

    def attach(self, engine: Engine) -> None:
        """Show the bar while the engine runs."""
        self.bar.attach(engine, output_transform=lambda output: {"loss": mean_loss(output, self.loss_key)})


class EpochLoss:
    """Put the mean loss of each epoch among the trainer's metrics, where MONAI's log and TensorBoard handlers find it.

    Args:
        name: name of the metric. The trackers have the loss of each step as `train_loss`, and one name would be one curve.
        loss_key: key of the loss in the trainer's output.

    Example:
        >>> EpochLoss().attach(trainer)  # before the handlers that log  # doctest: +SKIP
    """

    def __init__(self, name: str = "train_mean_loss", loss_key: str = "loss") -> None:
        self.name = name
        self.loss_key = loss_key
        self._losses: list[float] = []

    def attach(self, engine: Engine) -> None:
        """Follow the engine's iterations."""
        engine.add_event_handler(_Events.EPOCH_STARTED, lambda _: self._losses.clear())
        engine.add_event_handler(_Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(_Events.EPOCH_COMPLETED, self)

    def _add(self, engine: Engine) -> None:
        self._losses.append(mean_loss(engine.state.output, self.loss_key))

    def __call__(self, engine: Engine) -> None:
        """Write the mean over the iterations of the epoch."""
        engine.state.metrics[self.name] = sum(self._losses) / max(len(self._losses), 1)


def mean_loss(output: Any, loss_key: str = "loss") -> float:
    """Return the loss in an engine's output.

    Args:
        output: what an iteration returned: the loss itself, a dictionary with it, or a list of such dictionaries (MONAI's
            trainers decollate a batch into one dictionary per case; each holds the loss of the batch).
        loss_key: the key of the loss.

    Returns:
        The loss as a number, its mean where it has several elements. NaN and infinity are kept.

    Example:
        >>> mean_loss([{"loss": torch.tensor(0.25)}, {"loss": torch.tensor(0.25)}])
        0.25
    """
    entries = output if isinstance(output, (list, tuple)) else [output]
    losses = [entry[loss_key] if isinstance(entry, dict) else entry for entry in entries]
    tensors = [torch.as_tensor(loss) for loss in losses]
    # float32 at least. Not float64 for all: Apple's MPS has none
    return float(torch.stack([loss.to(torch.promote_types(loss.dtype, torch.float32)).mean() for loss in tensors]).mean())
