"""The weights of the best validation, in one file that a worse one never replaces."""

from __future__ import annotations

import logging
import math
import os
from typing import TYPE_CHECKING, Any

import torch
from monai.utils import is_scalar, optional_import

from monai_jdt.inferers.module_modes import unwrapped
from monai_jdt.training.checkpoints import save_tensors

if TYPE_CHECKING:
    from monai.engines import Evaluator
    from torch import nn

logger = logging.getLogger(__name__)
_Events, _ = optional_import("ignite.engine", name="Events")

#: The entry of a state dict's metadata with the score. `load_state_dict` ignores entries that it does not know.
_SCORE = "monai_jdt_score"

#: Likewise, with the id of the training.
_TRAINING = "monai_jdt_training"


class BestWeightsWriter:
    """Write a network's state dict after each validation whose key metric is the best so far.

    The file holds its score, in the metadata of the state dict, so that the two cannot differ: whenever a training is killed, it goes
    on with the score of the file that is there. MONAI's `CheckpointSaver` begins with no best score, and its first validation replaces
    what is there. The file is a plain state dict all the same, without the names of wrappers. It is replaced as a whole.

    The evaluator's `metric_cmp_fn` says what is better. An undefined score (NaN) is worse than any other.

    Args:
        path: the file; folders are made.
        network: in a wrapper such as DistributedDataParallel or not.
        resumed: the training goes on: the file there counts. False: the first validation replaces it.
        training_id: of the training, kept when it goes on: a file of another training does not count.

    Example:
        >>> BestWeightsWriter("models/model.pt", network).attach(evaluator)  # doctest: +SKIP
    """

    def __init__(self, path: str | os.PathLike[str], network: nn.Module, resumed: bool = False, training_id: str = "") -> None:
        self.path = os.fspath(path)
        self.network = network
        self.training_id = training_id
        self.best, self.best_epoch = _score_of(self.path, training_id) if resumed else (None, -1)

    def attach(self, engine: Evaluator) -> None:
        """Write after each run of the evaluator, before handlers of its end."""
        if self.best is not None:
            engine.state.best_metric, engine.state.best_metric_epoch = self.best, self.best_epoch
        engine.add_event_handler(_Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Evaluator) -> None:
        """Write if the evaluator's key metric is the best."""
        score: Any = engine.state.metrics[engine.state.key_metric_name]
        if not is_scalar(score):
            logger.warning("%s is not written: the key metric %s is no single number", self.path, engine.state.key_metric_name)
            return
        score = float(score)
        if self.best is not None and not math.isnan(self.best) and (math.isnan(score) or not engine.metric_cmp_fn(score, self.best)):
            return
        self.best, self.best_epoch = score, engine.state.epoch
        weights = unwrapped(self.network).state_dict()
        known = {_SCORE: [score, engine.state.epoch], _TRAINING: self.training_id}
        weights._metadata.setdefault("", {}).update(known)  # type: ignore[attr-defined]
        save_tensors(self.path, weights)


def _score_of(path: str, training_id: str) -> tuple[float | None, int]:
    """Return score and epoch of a training's weights file, or None and -1 without a file of that training that holds them."""
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
        known = held._metadata[""]
        score, epoch = known[_SCORE]
    except FileNotFoundError:
        return None, -1
    except Exception as error:  # a file of someone else, or a damaged one
        logger.warning("%s: the score of these weights is not known (%s); the next validation replaces them", path, error)
        return None, -1
    if known.get(_TRAINING, "") != training_id:
        logger.info("%s holds the weights of another training; the next validation replaces them", path)
        return None, -1
    return float(score), int(epoch)
