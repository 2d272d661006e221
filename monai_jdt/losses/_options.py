"""The keyword arguments that every JDT loss shares, for type checkers, and signatures that show them all."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

import torch

from monai_jdt.validation import error_sentence


class SharedOptions(TypedDict, total=False):
    """The keyword-only arguments of `JDTLoss` other than alpha and beta, which documents them."""

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


#: The fix for arguments that MONAI's losses, or other losses of this package, have.
_FIXES = {
    "jaccard": "use JaccardMetricLoss for the Jaccard form, DiceSemimetricLoss for the Dice form",
    "alpha": "use CompatibleTverskyLoss or JDTLoss, which have it",
    "beta": "use CompatibleTverskyLoss or JDTLoss, which have it",
    "lambda_dice": "write lambda_jdt",
    "lambda_jdt": "use JDTCELoss or JDTFocalLoss, which have it",
    "lambda_ce": "use JDTCELoss, which has it",
    "lambda_focal": "use JDTFocalLoss, which has it",
    "lambda_gdl": "write lambda_jdt",
    "w_type": "write classes='pooled' for 'uniform', and weight=... for weights of the classes; no weight follows a class's volume",
    "dist_matrix": "leave it out: classes have no distances here",
    "delta": "write alpha=1 - delta, beta=delta",
    "num_classes": "leave it out: input has as many channels",
    "use_softmax": "write sigmoid=True or softmax=True",
    "ce_weight": "write weight",
}


def with_full_signature(initialiser: Callable) -> Callable[[type], type]:
    """Decorate a class: show the arguments behind `**options` in its signature, and refuse unknown ones by name.

    Without it `help()` shows `**options`, and the error of a misspelt argument names the base class.

    Args:
        initialiser: the `__init__` that takes the options, with their defaults.
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
                    fix = _FIXES.get(name, f"use one of {', '.join(sorted(known - {'self'}))}")
                    raise TypeError(error_sentence(name, f"an argument of {type(self).__name__}", "an unknown one", fix))
            own_initialiser(self, *args, **kwargs)

        checked.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
        cls.__init__ = checked  # type: ignore[misc]
        return cls

    return show
