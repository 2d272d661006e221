"""What is there, of what may be None."""

from __future__ import annotations

from typing import TypeVar

import torch

T = TypeVar("T")


def present(value: T | None) -> T:
    """The value, which must not be None: a gradient after `backward`, an estimate that a method makes."""
    assert value is not None
    return value


def tensor_of(value: object) -> torch.Tensor:
    """The value, which must be one tensor: what a metric's `aggregate` returns without `get_not_nans`."""
    assert isinstance(value, torch.Tensor)
    return value
