"""The keyword arguments that every JDT loss shares, for type checkers, and signatures that show them all."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

import torch


class SharedOptions(TypedDict, total=False):
    """The keyword-only arguments of `JDTLoss` other than alpha and beta; it documents them."""

    gamma: float
    log_loss: bool
    norm: int
    average: str | Mapping[str, float] | None
    classes: str | Sequence[int]
    threshold: float
    label_smoothing: float
    votes: bool
    regions: Sequence[Sequence[int]] | None
    sync: bool
    group: Any
    batch: bool
    weight: Sequence[float] | float | torch.Tensor | None
    ignore_index: int | None
    reduction: str
    smooth_nr: float
    smooth_dr: float
    squared_pred: bool
    soft_label: bool
    backend: str


#: What to write here for arguments that MONAI's losses, or the other losses of this package, have.
_HINTS = {
    "jaccard": "JaccardMetricLoss is the Jaccard form, DiceSemimetricLoss the Dice form",
    "alpha": "it is fixed in this loss; CompatibleTverskyLoss and JDTLoss have it",
    "beta": "it is fixed in this loss; CompatibleTverskyLoss and JDTLoss have it",
    "lambda_dice": "it is called lambda_jdt",
    "lambda_jdt": "JDTCELoss and JDTFocalLoss have it",
    "lambda_ce": "JDTCELoss has it",
    "lambda_focal": "JDTFocalLoss has it",
    "lambda_gdl": "it is called lambda_jdt",
    "w_type": "leave 'uniform' out and write classes='pooled'; there are no weights by the volume of a class, but there is weight",
    "dist_matrix": "there are no distances between classes",
    "delta": "write alpha=1 - delta, beta=delta",
    "num_classes": "the channels of input say it",
    "use_softmax": "write sigmoid=True or softmax=True",
    "ce_weight": "it is called weight",
}


def with_full_signature(initialiser: Callable) -> Callable[[type], type]:
    """A class decorator that shows help() the arguments behind `**options`, with the defaults of `initialiser`.

    It also refuses an unknown argument in the name of the class.

    Args:
        initialiser: the `__init__` that the options are handed on to.
    """
    shared = inspect.signature(initialiser).parameters

    def show(cls: type) -> type:
        own = inspect.signature(cls.__init__).parameters  # type: ignore[misc]
        shown = [p for p in own.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        shown += [shared[name] for name in SharedOptions.__annotations__ if name not in own]
        known = {p.name for p in shown}
        own_initialiser = cls.__init__  # type: ignore[misc]

        @functools.wraps(own_initialiser)
        def checked(self: object, *args: object, **kwargs: object) -> None:
            for name in kwargs:
                if name not in known:
                    hint = _HINTS.get(name, f"it takes {', '.join(sorted(known - {'self'}))}")
                    raise TypeError(f"{name}: expected an argument of {cls.__name__}, got an unknown one; {hint}")
            own_initialiser(self, *args, **kwargs)

        checked.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
        cls.__init__ = checked  # type: ignore[misc]
        return cls

    return show
