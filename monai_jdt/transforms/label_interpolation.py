"""Refuse a spatial transform that would interpolate votes."""

from __future__ import annotations

from typing import Any

from monai.config import KeysCollection
from monai.utils import ensure_tuple_rep

from monai_jdt.validation import error_sentence


def nearest_only(transform: Any, keys: KeysCollection) -> Any:
    """Refuse a spatial transform that would resample votes by anything but nearest neighbour, before the first case is read.

    In a config: `{_target_: monai_jdt.transforms.nearest_only, keys: raters, transform: {_target_: ...Spacingd, ...}}`.
    It reads the `mode` that MONAI's dictionary transforms hold for each of their keys, and looks into `Compose` and its relatives.
    If a transform keeps its mode elsewhere, this check does not see it. :class:`RestoreVotesd` then finds values that are not whole.

    Args:
        transform: a dictionary transform of MONAI's, or a `Compose` of some.
        keys: keys of the rater stacks.

    Returns:
        The transform itself.

    Raises:
        ValueError: for a mode other than nearest neighbour (`"nearest"`, `"nearest-exact"`, or spline order 0).

    Example:
        >>> from monai.transforms import RandRotate90d, Spacingd
        >>> spacing = nearest_only(Spacingd(["image", "raters"], 2.0, mode=["bilinear", "nearest"]), "raters")
    """
    names = {keys} if isinstance(keys, str) else set(keys)  # type: ignore[arg-type]
    for inner in getattr(transform, "transforms", ()):
        nearest_only(inner, keys)
    own, modes = getattr(transform, "keys", ()), getattr(transform, "mode", None)
    if modes is None or not isinstance(own, tuple):
        return transform
    for key, mode in zip(own, ensure_tuple_rep(modes, len(own)), strict=True):
        name = str(getattr(mode, "value", mode))
        if key in names and name not in ("nearest", "nearest-exact", "0"):
            where = type(transform).__name__
            expected = f"mode 'nearest' for votes under {key!r}"
            raise ValueError(error_sentence(where, expected, repr(name), "pass mode='nearest' for this key"))
    return transform
