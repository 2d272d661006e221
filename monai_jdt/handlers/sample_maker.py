"""Make samples beside the prediction of an evaluator."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from monai.engines.utils import IterationEvents

from monai_jdt.inferers import SampleInferer
from monai_jdt.validation import error_sentence


class SampleMaker:
    """Put samples of each batch into the evaluator's output, beside the prediction that its own inferer makes.

    It runs after the prediction and before the postprocessing, which gets the samples of each item as `(M, C, *S)`. An evaluator that
    needs samples only takes the :class:`~monai_jdt.inferers.SampleInferer` as its `inferer`, and no handler.

    Args:
        inferer: makes the samples.
        key: the output's entry for them.
        image_key: the output's entry for the images.

    Raises:
        TypeError: no :class:`~monai_jdt.inferers.SampleInferer`.
    """

    def __init__(self, inferer: SampleInferer, key: str = "samples", image_key: str = "image") -> None:
        if not isinstance(inferer, SampleInferer):
            raise TypeError(error_sentence("inferer", "a SampleInferer", type(inferer).__name__, "pass one of monai_jdt.inferers"))
        self.inferer, self.key, self.image_key = inferer, key, image_key

    def attach(self, engine: Any) -> None:
        """Run after each forward pass of the engine.

        Args:
            engine: a :class:`monai.engines.SupervisedEvaluator`.
        """
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self)

    def __call__(self, engine: Any) -> None:
        """Make the samples of the batch.

        Args:
            engine: the evaluator.
        """
        images = engine.state.output[self.image_key]
        with torch.autocast(images.device.type, **engine.amp_kwargs) if engine.amp else nullcontext():
            engine.state.output[self.key] = self.inferer(images, engine.network)
