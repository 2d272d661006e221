"""Keep one case of the best validation, and draw it when the run is over."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.data.utils import to_affine_nd
from monai.utils import optional_import

from monai_jdt.data.files.volumes import PICTURES
from monai_jdt.validation import error_sentence

if TYPE_CHECKING:
    from ignite.engine import Engine

_Events, _ = optional_import("ignite.engine", name="Events")


class CaseFigureWriter:
    """Draw one case of an evaluator: image, raters, prediction.

    Drawing takes about a second, so it is not done at each validation: the handler keeps the arrays of one case from the
    validation with the best key metric, and :meth:`write` draws them, e.g. as the last step of a bundle's `run`. Attached to
    an evaluator that runs once, it keeps that run's case.

    Args:
        path: the PNG to write; folders are made.
        draw: what draws: :func:`monai_jdt.report.draw_case` or a function of the same arguments.
        case: name of the case; None takes the first one of the evaluator's data.
        regions: names of the channels; None numbers them.
        keys: where the evaluator's items hold what :func:`monai_jdt.report.draw_case` calls `image`, `votes`, `average`,
            `prediction` and `truth`. An item without one of the optional ones (`votes`, `average`, `truth`) is drawn
            without it.
        case_key: key of the case's name.
        draw_kwargs: further arguments of `draw`.

    Example:
        >>> CaseFigureWriter("eval/case.png", draw_case).attach(evaluator)  # doctest: +SKIP
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        draw: Callable[..., Any],
        case: str | None = None,
        regions: Any = None,
        keys: dict[str, str] | None = None,
        case_key: str = "case",
        **draw_kwargs: Any,
    ) -> None:
        self.path = os.fspath(path)
        self.draw = draw
        self.case = case
        self.regions = regions
        names = {"image": "image", "votes": "votes", "average": "label", "prediction": "prob", "truth": "probability"}
        self.keys = names | (keys or {})
        self.case_key = case_key
        self.draw_kwargs = draw_kwargs
        self._candidate: dict[str, Any] | None = None
        self._kept: dict[str, Any] | None = None
        self._best = float("-inf")

    def attach(self, engine: Engine) -> None:
        """Look at each item of the evaluator, after its postprocessing."""
        engine.add_event_handler(_Events.STARTED, self._forget)
        engine.add_event_handler(_Events.ITERATION_COMPLETED, self._look)
        engine.add_event_handler(_Events.COMPLETED, self._judge)

    def write(self) -> str | None:
        """Draw the kept case.

        Returns:
            The path of the PNG; None where no case was seen (the evaluator never ran, or has no case of that name).
        """
        if self._kept is None:
            logging.getLogger(__name__).warning("no figure: the case %s was not seen", self.case or "to draw")
            return None
        kept = dict(self._kept)
        self.draw(self.path, **kept, **self.draw_kwargs)
        logging.getLogger(__name__).info("figure of %s: %s", kept.get("case"), self.path)
        return self.path

    def _forget(self, engine: Engine) -> None:
        self._candidate = None

    def _look(self, engine: Engine) -> None:
        if self._candidate is not None:
            return
        for item in decollated(engine):
            name = str(item.get(self.case_key, "case"))
            if self.case is None or name == self.case:
                self._candidate = self._arrays(name, item)
                return

    def _judge(self, engine: Engine) -> None:
        name = getattr(engine.state, "key_metric_name", None)
        metric = engine.state.metrics.get(name) if name else None
        # without a key metric, or with an undefined one, the latest run is the one to show if there is none before it
        value = float(metric) if metric is not None and np.isfinite(metric) else float("-inf")
        if self._candidate is not None and (self._kept is None or metric is None or value > self._best):
            self._kept, self._best = self._candidate, value
        self._candidate = None

    def _arrays(self, name: str, item: dict[str, Any]) -> dict[str, Any]:
        arrays: dict[str, Any] = {"case": name, "regions": self.regions}
        for argument, key in self.keys.items():
            value = item.get(key)
            if isinstance(value, torch.Tensor):
                # a copy: the loader or a later transform may write into the tensor's memory
                arrays[argument] = torch.as_tensor(value).detach().cpu().numpy().copy()
        truth, prediction = arrays.get("truth"), arrays.get("prediction")
        if truth is not None and prediction is not None and len(truth) != len(prediction):
            del arrays["truth"]  # phantoms come with the truth of their own regions, not of those that are predicted
        image = item.get(self.keys["image"])
        # pictures have no place in space: the identity that stands there says nothing
        if isinstance(image, MetaTensor) and not str(image.meta.get("filename_or_obj", "")).lower().endswith(PICTURES):
            arrays["affine"] = to_affine_nd(3, np.asarray(image.affine.cpu(), np.float64))
        return arrays


def decollated(engine: Engine) -> list[dict[str, Any]]:
    """Return the items of an evaluator's iteration, each with what its batch and its output hold.

    Args:
        engine: the evaluator.

    Raises:
        TypeError: its batches are not lists of items.
    """
    batch, output = engine.state.batch, engine.state.output
    if isinstance(batch, list) and isinstance(output, list):
        return [{**b, **o} for b, o in zip(batch, output, strict=True)]
    expected, got = "an evaluator with decollate=True", "one whose batches are not lists of items"
    raise TypeError(error_sentence("engine", expected, got))
