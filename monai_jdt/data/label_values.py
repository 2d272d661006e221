"""The values of a label file: which occur, and whether they are the whole numbers that label values are."""

from __future__ import annotations

import numpy as np

#: A value this near to a whole number is that number: a header's scale factor, kept in 32 bits, gives 0.99999994 for 1.
WHOLE_TOLERANCE = 1e-3

#: The label values that a stack of raters can hold: int16 without its lowest number.
LARGEST_LABEL = 32767

# What a scale factor may leave of 0. A file with nothing but values between this and the tolerance holds scaled labels.
_NOTHING = 1e-6


def distinct_values(values: np.ndarray) -> np.ndarray:
    """The finite values that occur in an array, sorted; for labels ten times as fast as a sort.

    Args:
        values: any shape and real dtype.

    Example:
        >>> distinct_values(np.array([[4.0, 0.0], [np.nan, 4.0]])).tolist()
        [0, 4]
    """
    flat = values.ravel(order="K")
    if flat.dtype.kind == "f":
        flat = flat[np.isfinite(flat)] if not np.isfinite(flat).all() else flat
        with np.errstate(invalid="ignore"):
            whole = flat.astype(np.int32)
        if not np.array_equal(whole, flat):
            return np.unique(flat)
        flat = whole
    if flat.size == 0:
        return flat
    least, most = int(flat.min()), int(flat.max())
    if most - least >= 1 << 16 or not -(1 << 31) <= least <= most < 1 << 31:
        return np.unique(flat)
    counted = flat.astype(np.int64) - least if least < 0 or most >= 1 << 16 else flat
    return np.flatnonzero(np.bincount(counted)) + (int(least) if counted is not flat else 0)


def whole_labels(found: np.ndarray) -> tuple[np.ndarray, tuple[str, str] | None]:
    """Tell the whole numbers among the values of a label, and what is wrong if there are others.

    A value within :data:`WHOLE_TOLERANCE` of a whole number is taken for it, unless the whole file would become 0 by that.

    Args:
        found: the finite values that occur, as :func:`distinct_values` gives them.

    Returns:
        The whole numbers, sorted; and None, or what came and how to mend it: values on another scale (0.33, 0.66, 0.99 for
        1, 2, 3) by division, others (an interpolated label) by resampling anew.

    Example:
        >>> whole_labels(np.array([0.0, 0.99999994, 2.0000001]))
        (array([0., 1., 2.]), None)
        >>> whole_labels(np.array([0, 0.33, 0.66, 0.99]))[1]
        ('0.33, 0.66, 0.99 (multiples of 0.33)', 'divide by that number, round, and save the values as integers')
    """
    if found.dtype.kind in "iub":
        return found, None
    whole = np.round(found)
    broken = found[np.abs(found - whole) > WHOLE_TOLERANCE]
    if not broken.size:
        largest = np.abs(found).max(initial=0)
        if not (whole == 0).all() or largest <= _NOTHING:
            return np.unique(whole), None
        broken = found[found != 0]
    kept = np.unique(whole[~np.isin(found, broken)])
    if np.all(np.abs(found - whole) < 0.02) and not (whole == 0).all():
        return kept, (f"{named(broken, digits=9)} (an inexact scale factor)", "round the values, and save them as integers")
    marks = found[found != 0]
    step = np.abs(marks).min()
    ratio = marks / step
    # most values but 0 are off, not a few as interpolation leaves them between labels
    if marks.size <= 16 and 2 * broken.size > marks.size and np.all(np.abs(ratio - np.round(ratio)) < 0.05):
        fix = "divide by that number, round, and save the values as integers"
        return kept, (f"{named(broken)} (multiples of {step:.6g})", fix)
    return kept, (named(broken), "resample labels with nearest-neighbour only")


def named(values: np.ndarray, most: int = 5, digits: int = 6) -> str:
    """The first values as text, and how many more there are.

    Args:
        values: the values.
        most: how many are named.
        digits: significant ones.

    Example:
        >>> named(np.arange(7))
        '0, 1, 2, 3, 4 and 2 more'
    """
    names = ", ".join(f"{value:.{digits}g}" for value in values[:most].tolist())
    return names + (f" and {values.size - most} more" if values.size > most else "")
