"""The keyword arguments that every JDT loss shares, for type checkers, and signatures that show them all."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TypedDict

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
    batch: bool
    weight: Sequence[float] | float | torch.Tensor | None
    ignore_index: int | None
    reduction: str
    smooth_nr: float
    smooth_dr: float
    squared_pred: bool
    soft_label: bool


def with_full_signature(initialiser: Callable) -> Callable[[type], type]:
    """A class decorator that shows help() the arguments behind `**options`, with the defaults of `initialiser`.

    Args:
        initialiser: the `__init__` that the options are handed on to.
    """
    shared = inspect.signature(initialiser).parameters

    def show(cls: type) -> type:
        own = inspect.signature(cls.__init__).parameters  # type: ignore[misc]
        shown = [p for p in own.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        shown += [shared[name] for name in SharedOptions.__annotations__ if name not in own]
        cls.__init__.__signature__ = inspect.Signature(shown)  # type: ignore[misc]
        return cls

    return show
