"""The values of a run's settings."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any


def check_settings(*, epochs: int, blocks: int, **sizes: Sequence[int]) -> None:
    """Settings that MONAI would answer with pages of traceback.

    Args:
        epochs: the number of epochs.
        blocks: the number of resolutions of the network; each but the first halves the size.
        sizes: sizes of what the network sees, voxels, under the names that they have in the config.

    Raises:
        ValueError: `epochs` below 1, or a size that the network cannot halve so often.

    Example:
        >>> check_settings(epochs=20, blocks=4, roi=[32, 32, 32])
    """
    if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1:
        raise ValueError(f"epochs: expected a whole number >= 1, got {epochs!r}. Fix: --epochs 20")
    multiple = 2 ** (blocks - 1)
    for name, size in sizes.items():
        if any(edge < multiple or edge % multiple for edge in size):
            near = [max(round(edge / multiple), 1) * multiple for edge in size]
            why = f"since the network halves them {blocks - 1} times"
            raise ValueError(f"{name}: expected multiples of {multiple}, {why}, got {list(size)}. Fix: {near}")


def check_choice(name: str, value: Any, choices: Iterable[Any]) -> None:
    """A setting that is one of a few.

    Args:
        name: its key in the config.
        value: what was given.
        choices: what may be given.

    Raises:
        ValueError: for anything else.

    Example:
        >>> check_choice("label_source", "staple", ["average", "staple"])
    """
    known = list(choices)
    if value not in known:
        close = difflib.get_close_matches(str(value).lower(), [str(choice) for choice in known], n=1)
        raise ValueError(f"{name}: expected one of {known}, got {value!r}. Fix: --{name} {close[0] if close else known[0]}")
