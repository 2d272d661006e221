"""One step of the optimizer for several batches, whose gradients are averaged."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from monai.engines import IterationEvents
from monai.utils.enums import CommonKeys
from torch.nn.parallel import DistributedDataParallel

from monai_jdt.validation import check_int, error_sentence

if TYPE_CHECKING:
    from monai.engines import SupervisedTrainer


class AccumulatedSteps:
    """An `iteration_update` for :class:`monai.engines.SupervisedTrainer`: a step after every `count` batches, and at an epoch's end.

    The gradient of a step is the mean of its batches' gradients. Where an epoch ends with fewer than `count` batches, it is the mean
    of those. MONAI 1.6 has `accumulation_steps`, which divides by `count` there, too, and MONAI 1.5 has none. Mixed precision scales,
    checks and steps once for each step of the optimizer. With DistributedDataParallel, gradients are exchanged once for each step.

    A batch's loss is of that batch alone: a ratio over a batch, as of `batch=True`, is not that of a batch `count` times as large.

    Args:
        count: batches of a step, >= 1.

    Raises:
        TypeError: `count` is no whole number.
        ValueError: `count` below 1.

    Example:
        >>> SupervisedTrainer(..., iteration_update=AccumulatedSteps(4))  # doctest: +SKIP
    """

    def __init__(self, count: int) -> None:
        self.count = check_int("count", count)
        if self.count < 1:
            raise ValueError(error_sentence("count", "a whole number >= 1", str(count)))

    def __call__(self, engine: Any, batchdata: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """Do what the trainer does in an iteration.

        Args:
            engine: the trainer, a :class:`monai.engines.SupervisedTrainer`.
            batchdata: a batch.
        """
        if batchdata is None:
            raise ValueError(error_sentence("batchdata", "a batch", "None"))
        batch = engine.prepare_batch(batchdata, engine.state.device, engine.non_blocking, **engine.to_kwargs)
        inputs, targets, args, kwargs = batch if len(batch) == 4 else (*batch, (), {})
        place, size = place_in_step(engine.state.iteration, engine.state.epoch_length, self.count)
        output = engine.state.output = {CommonKeys.IMAGE: inputs, CommonKeys.LABEL: targets}
        engine.network.train()
        if place == 0:
            engine.optimizer.zero_grad(set_to_none=engine.optim_set_to_none)
        steps = place == size - 1
        with _without_exchange(engine.network) if not steps else nullcontext():
            with torch.autocast("cuda", **engine.amp_kwargs) if engine.scaler is not None else nullcontext():
                output[CommonKeys.PRED] = engine.inferer(inputs, engine.network, *args, **kwargs)
                engine.fire_event(IterationEvents.FORWARD_COMPLETED)
                output[CommonKeys.LOSS] = engine.loss_function(output[CommonKeys.PRED], targets).mean()
                engine.fire_event(IterationEvents.LOSS_COMPLETED)
            share = output[CommonKeys.LOSS] / size
            (share if engine.scaler is None else engine.scaler.scale(share)).backward()
        engine.fire_event(IterationEvents.BACKWARD_COMPLETED)
        if steps:
            _step(engine)
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output


def _step(engine: SupervisedTrainer) -> None:
    if engine.scaler is None:
        engine.optimizer.step()
    else:
        engine.scaler.step(engine.optimizer)
        engine.scaler.update()


def place_in_step(iteration: int, epoch_length: int, count: int) -> tuple[int, int]:
    """Return the place of a batch among those of its step, from 0, and their number.

    Args:
        iteration: of the trainer, from 1, over all epochs.
        epoch_length: iterations of an epoch.
        count: batches of a step.

    Example:
        >>> [place_in_step(iteration, 5, 2) for iteration in (1, 2, 5, 6)]
        [(0, 2), (1, 2), (0, 1), (0, 2)]
    """
    within = (iteration - 1) % epoch_length
    first = within - within % count
    return within - first, min(count, epoch_length - first)


def _without_exchange(network: torch.nn.Module) -> AbstractContextManager[None]:
    return network.no_sync() if isinstance(network, DistributedDataParallel) else nullcontext()
