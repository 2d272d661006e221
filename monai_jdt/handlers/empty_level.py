"""Find the level below which a mask should stay empty, on the cases of a validation."""

from __future__ import annotations

import json
import logging
import math
from typing import TYPE_CHECKING

import torch
from monai.utils import optional_import
from monai.utils.dist import string_list_all_gather

from monai_jdt.functional.expected_overlap import ExpectedScore, best_empty_level
from monai_jdt.functional.set_overlap import SetOverlap, set_overlap
from monai_jdt.handlers.case_figure import decollated
from monai_jdt.validation import check_choice

if TYPE_CHECKING:
    from ignite.engine import Engine

_Events, _ = optional_import("ignite.engine", name="Events")
_idist, _ = optional_import("ignite.distributed")

logger = logging.getLogger(__name__)


class EmptyLevelSearch:
    """Log the `empty_below` of :class:`monai_jdt.transforms.DecideMaskd` that is best on an evaluator's cases.

    The masks must have been decided with `empty_below=0`. All channels have one level. It is best for the mean over cases and channels
    of the Dice or Jaccard score with a reference, 1 where both are empty. On these cases it looks better than it is: use it on others.

    Args:
        expected: "dice" or "jaccard", what the masks were decided for.
        mask_key: key of the masks `(C, *S)`.
        expected_key: key of their expected scores `(C,)`, which `DecideMaskd` keeps with `expected_postfix`.
        reference_key: key of the masks that they are compared with.

    Example:
        >>> EmptyLevelSearch("dice").attach(evaluator)  # doctest: +SKIP
    """

    def __init__(
        self,
        expected: str | ExpectedScore = "dice",
        mask_key: str = "pred",
        expected_key: str = "pred_expected",
        reference_key: str = "majority",
    ) -> None:
        self.expected = check_choice("expected", expected, ExpectedScore)
        self.mask_key = mask_key
        self.expected_key = expected_key
        self.reference_key = reference_key
        self.level: float | None = None
        self._found: list[tuple[float, float, bool]] = []

    def attach(self, engine: Engine) -> None:
        """Look at each item of the evaluator, after its postprocessing, and log the level when it has run through."""
        engine.add_event_handler(_Events.STARTED, lambda _: self._found.clear())
        engine.add_event_handler(_Events.ITERATION_COMPLETED, self._look)
        engine.add_event_handler(_Events.COMPLETED, self)

    def _look(self, engine: Engine) -> None:
        kind = SetOverlap.DICE if self.expected is ExpectedScore.DICE else SetOverlap.IOU
        for item in decollated(engine):
            scores = item[self.expected_key].tolist()
            masks, references = (torch.as_tensor(item[key]) > 0.5 for key in (self.mask_key, self.reference_key))
            for score, mask, reference in zip(scores, masks, references, strict=True):
                overlap = set_overlap(mask.flatten(), reference.flatten(), kind, 1.0)
                self._found.append((score, overlap, not bool(reference.any())))

    def __call__(self, engine: Engine) -> None:
        """Log the best level of the cases that all processes have seen, and keep it as `level`."""
        # as text, which can be gathered from all processes, however many cases each has
        seen = [json.dumps(entry) for entry in self._found]
        found = [tuple(json.loads(text)) for text in string_list_all_gather(seen or [""]) if text]
        if not found:
            return
        expected, overlap, empty = (torch.tensor(column) for column in zip(*found, strict=True))
        self.level, best = best_empty_level(expected, overlap, empty)
        if _idist.get_rank() > 0:
            return
        now = math.fsum(entry[1] for entry in found) / len(found)
        text = "empty_below %.3g is best for these %d masks: mean %s with the majority %.4f, with 0 %.4f"
        logger.info(text, self.level, len(found), self.expected.value.capitalize(), best, now)
