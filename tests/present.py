"""What is there, of what may be None."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")


def present(value: T | None) -> T:
    """The value, which must not be None: a gradient after `backward`, an estimate that a method makes."""
    assert value is not None
    return value
