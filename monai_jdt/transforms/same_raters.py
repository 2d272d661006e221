"""Stacks under several keys of an item hold the same raters."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from monai_jdt.validation import error_sentence


def check_same_raters(item: Mapping[Hashable, Any], keys: Sequence[Hashable]) -> None:
    """Check that the stacks under all keys have as many raters.

    Args:
        item: a case.
        keys: of its rater stacks `(R, *S)`.

    Raises:
        ValueError: the numbers differ.
    """
    counts = [len(item[key]) for key in keys]
    if len(set(counts)) > 1:
        raise ValueError(error_sentence("keys", f"as many raters under each of {list(keys)}", str(counts)))
