"""Find the temperature that calibrates a network, on the cases of a validation."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import torch
from monai.utils import optional_import
from monai.utils.dist import string_list_all_gather

from monai_jdt.functional.temperature import nll_slopes, temperature_of_slopes
from monai_jdt.handlers.case_figure import decollated
from monai_jdt.validation import check_bool

if TYPE_CHECKING:
    from ignite.engine import Engine

_Events, _ = optional_import("ignite.engine", name="Events")
_idist, _ = optional_import("ignite.distributed")

logger = logging.getLogger(__name__)


class TemperatureSearch:
    """Log the temperature by which the logits of an evaluator's cases should be divided, so that the raters' votes are most probable.

    All voxels of all cases count alike. No case is kept, and one with an infinite logit or NaN is left out. On these cases the
    temperature looks better than it is: use it on others.

    Args:
        softmax: whether the channels exclude each other and the first one is the background, which the label has not.
        logits_key: key of the logits `(C, *S)`.
        label_key: key of the raters' mean on the same grid, `(C, *S)`, with `softmax` `(C - 1, *S)`.

    Example:
        >>> TemperatureSearch(softmax=True).attach(evaluator)  # doctest: +SKIP
    """

    def __init__(self, softmax: bool = False, logits_key: str = "logits", label_key: str = "average") -> None:
        self.softmax = check_bool("softmax", softmax)
        self.logits_key = logits_key
        self.label_key = label_key
        self.temperature: float | None = None
        self._slopes: torch.Tensor | None = None
        self._cases = 0

    def attach(self, engine: Engine) -> None:
        """Look at each item of the evaluator, after its postprocessing, and log the temperature when it has run through."""
        engine.add_event_handler(_Events.STARTED, self._forget)
        engine.add_event_handler(_Events.ITERATION_COMPLETED, self._look)
        engine.add_event_handler(_Events.COMPLETED, self)

    def _forget(self, _: Engine) -> None:
        self._slopes, self._cases = None, 0

    def _look(self, engine: Engine) -> None:
        for item in decollated(engine):
            logits, label = (torch.as_tensor(item[key]) for key in (self.logits_key, self.label_key))
            if not bool(logits.isfinite().all()):
                logger.warning("temperature: a case is left out, since a logit of it is NaN or infinite")
                continue
            label = label.to(logits.device, torch.float32)
            if self.softmax:
                label = torch.cat([(1 - label.sum(0, keepdim=True)).clamp(0, 1), label])
            slopes = nll_slopes(logits[None], label[None], softmax=self.softmax)
            self._slopes = slopes if self._slopes is None else self._slopes + slopes
            self._cases += 1

    def __call__(self, engine: Engine) -> None:
        """Log the best temperature of the cases that all processes have seen, and keep it as `temperature`."""
        # as text, which can be gathered from all processes, one without a case among them
        seen = [json.dumps([self._cases, *self._slopes.tolist()])] if self._slopes is not None else [""]
        parts = [json.loads(text) for text in string_list_all_gather(seen) if text]
        if not parts:
            return
        cases, *slopes = torch.tensor(parts, dtype=torch.float64, device="cpu").sum(0).tolist()
        self.temperature = temperature_of_slopes(torch.tensor(slopes, dtype=torch.float64, device="cpu"))
        if _idist.get_rank() == 0:
            logger.info("temperature %.3g makes the raters' votes on these %d cases most probable", self.temperature, cases)
