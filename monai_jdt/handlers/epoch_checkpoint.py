"""A training that goes on after its last complete epoch."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from monai.utils import optional_import
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from monai_jdt.inferers.module_modes import unwrapped
from monai_jdt.training.checkpoints import TrainingCheckpoint, drop_useless_checkpoints, set_aside, write_checkpoint
from monai_jdt.training.draws import ranks_here
from monai_jdt.validation import error_sentence

if TYPE_CHECKING:
    from monai.engines import SupervisedTrainer

logger = logging.getLogger(__name__)
_Events, _ = optional_import("ignite.engine", name="Events")

#: The state of mixed precision's scaler, which the trainer makes when it starts.
_SCALER = "scaler"


class EpochCheckpoint:
    """Write the state of a training after each epoch, and start from such a state.

    For the last place among a trainer's handlers, so that an epoch is complete when it is written: the learning rate is set and the
    validation done. Rank 0 writes, all ranks read.

    A training that begins anew where an unfinished one left its checkpoint moves that one into the folder `earlier`, and says so.

    With another number of epochs, the scheduler is taken through the epochs that are done, so that the learning rate from here on is
    that of a training which was to have the new number from its beginning.

    Args:
        folder: for `last.pt` and `last.previous.pt`.
        states: what goes on, by name: modules, optimizers, schedulers, or anything with `state_dict` and `load_state_dict`. None is
            left out.
        resumed: the checkpoint to start from; None: the beginning.
        settings: what must be the same when the training goes on, as text.
        training_id: of the training, kept when it goes on. :class:`BestWeightsWriter` compares it.

    Example:
        >>> EpochCheckpoint("models", {"network": network, "optimizer": optimizer}).attach(trainer)  # doctest: +SKIP
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        states: Mapping[str, Any],
        resumed: TrainingCheckpoint | None = None,
        settings: Mapping[str, str] | None = None,
        training_id: str = "",
    ) -> None:
        self.folder = os.fspath(folder)
        self.states: dict[str, Any] = {
            name: unwrapped(held) if isinstance(held, torch.nn.Module) else held for name, held in states.items() if held is not None
        }
        self.resumed = resumed
        self.settings = dict(settings or {})
        self.training_id = training_id

    def attach(self, engine: SupervisedTrainer) -> None:
        """Restore when the trainer starts, write at the end of each epoch."""
        engine.add_event_handler(_Events.STARTED, self.restore)
        engine.add_event_handler(_Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: SupervisedTrainer) -> None:
        """Write the state after the engine's epoch."""
        if ranks_here()[0] > 0:
            return
        states = {name: held.state_dict() for name, held in self.states.items()}
        if engine.scaler is not None:
            states[_SCALER] = engine.scaler.state_dict()
        state = engine.state
        done = TrainingCheckpoint(state.epoch, state.max_epochs, state.iteration, states, self.settings, self.training_id)
        write_checkpoint(self.folder, done)

    def restore(self, engine: SupervisedTrainer) -> None:
        """Put the engine and all states where the checkpoint has them.

        Args:
            engine: the trainer, which has started and done nothing yet.

        Raises:
            ValueError: the ranks do not have the same checkpoint, or it holds other states.
        """
        found, self.resumed = self.resumed, None  # its tensors are needed once
        self._check_ranks(engine, 0 if found is None else found.epoch)
        if found is None:
            if ranks_here()[0] == 0 and (moved := set_aside(self.folder)):
                logger.warning(
                    "%s held an unfinished training. It is now in %s, and goes on with --ckpt_dir %s --resume true",
                    self.folder,
                    moved,
                    moved,
                )
            return
        if ranks_here()[0] == 0:
            drop_useless_checkpoints(self.folder, found.training_id)
        missing = sorted(set(self.states) ^ set(found.states) - {_SCALER})
        if missing:
            fix = "train with the same files and keys, or begin anew"
            raise ValueError(
                error_sentence(f"{self.folder}, resume", f"states of {', '.join(self.states)}", ", ".join(found.states), fix)
            )
        scheduler: Any = self.states.get("lr_scheduler")
        replayed = found.epochs != engine.state.max_epochs and _follows_epochs(scheduler)
        rates = _rates_after(scheduler, found.epoch) if replayed else None
        for name, held in self.states.items():
            if not (replayed and held is scheduler):
                held.load_state_dict(found.states[name])
        if rates is not None:
            for group, rate in zip(scheduler.optimizer.param_groups, rates, strict=True):
                group["lr"] = rate
        if engine.scaler is not None and found.states.get(_SCALER):
            engine.scaler.load_state_dict(found.states[_SCALER])
        engine.state.epoch, engine.state.iteration = found.epoch, found.iteration
        logger.info("the training goes on after epoch %d of %d", found.epoch, engine.state.max_epochs)

    def _check_ranks(self, engine: SupervisedTrainer, epoch: int) -> None:
        """Ranks that began in different epochs would wait for each other for ever."""
        if ranks_here()[1] == 1:
            return
        own = torch.tensor([epoch, -epoch], device=engine.state.device)
        dist.all_reduce(own, op=dist.ReduceOp.MAX)
        last, first = int(own[0]), -int(own[1])
        if last != first:
            fix = "give a folder that all nodes share"
            raise ValueError(
                error_sentence(f"ckpt_dir {self.folder}", "the same checkpoint on all ranks", f"epochs {first} and {last}", fix)
            )


def _follows_epochs(scheduler: Any) -> bool:
    """Return whether the learning rate follows from the number of the epoch, not from what was measured."""
    return isinstance(scheduler, LRScheduler) and not isinstance(scheduler, ReduceLROnPlateau)


def _rates_after(scheduler: Any, epochs: int) -> list[float]:
    """Take a new scheduler through epochs, and return its learning rates then."""
    # a scheduler that is stepped before its optimizer warns: the steps were done in another process
    scheduler.optimizer._opt_called = True
    for _ in range(epochs):
        scheduler.step()
    return list(scheduler.get_last_lr())
