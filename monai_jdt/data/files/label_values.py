"""The values of a label file: which ones occur, and whether they are whole numbers, as label values are."""

from __future__ import annotations

import numpy as np

from monai_jdt.data.files.voxel_blocks import blocks_of_array

#: A value within this of a whole number is that number: a scale factor of 32 bits in a header gives 0.99999994 for 1.
WHOLE_TOLERANCE = 1e-3

#: The largest absolute label value that a stack of raters can hold: int16 without its lowest number.
LARGEST_LABEL = 32767

#: The number of distinct values that are gathered of one file. More are no label: a CT may be listed as one.
MOST_VALUES = 1 << 16

# What a scale factor may leave of 0. A file with nothing but values between this and the tolerance holds scaled labels.
_NOTHING = 1e-6

# In so narrow a range each value is looked for by a comparison: 0.06 ms for five values in 64^3 bytes, against 1.6 ms by counting.
_FEW_VALUES = 16


class LabelTally:
    """The values of a label file, gathered block by block, so that memory does not grow with the file.

    Attributes:
        voxels: how many were seen.
        not_finite: how many of them are NaN or infinite.
    """

    def __init__(self) -> None:
        self.voxels = 0
        self.not_finite = 0
        self._found: set[int | float] = set()

    def add(self, flat: np.ndarray) -> np.ndarray | None:
        """Look at some voxels.

        Args:
            flat: `(V,)`, any real dtype. Temporary memory is a few times its size.

        Returns:
            The voxels as integers; None if there is a value that is not whole within :data:`WHOLE_TOLERANCE`.
        """
        self.voxels += flat.size
        if flat.dtype.kind == "f":
            finite = np.isfinite(flat)
            count = int(np.count_nonzero(finite))
            self.not_finite += flat.size - count
            given, flat = flat, flat if count == flat.size else flat[finite]
            # A cast and a comparison find whole numbers in one pass. Values beyond int32 become others, and so count as not whole.
            with np.errstate(invalid="ignore"):
                whole = flat.astype(np.int32)
            if not np.array_equal(whole, flat):
                values = np.unique(flat)
                self._keep(values)
                rounded = np.rint(given)
                near = count == given.size and bool((np.abs(values - np.rint(values)) <= WHOLE_TOLERANCE).all())
                return rounded.astype(np.int64) if near and np.abs(rounded).max(initial=0) < 1 << 31 else None
            self._keep(_whole_values(whole))
            return whole if count == given.size else None
        self._keep(_whole_values(flat))
        return flat.view(np.uint8) if flat.dtype.kind == "b" else flat

    def _keep(self, values: np.ndarray) -> None:
        if len(self._found) < MOST_VALUES:
            self._found.update(values.tolist())

    @property
    def values(self) -> np.ndarray:
        """Return the finite values that occur, sorted. Once there are :data:`MOST_VALUES`, no more are gathered."""
        return np.array(sorted(self._found)) if self._found else np.zeros(0, np.int64)


def distinct_values(values: np.ndarray) -> np.ndarray:
    """Return the finite values that occur in an array, sorted.

    Integers are not sorted, and memory is that of a block, not of the array.

    Args:
        values: any shape and real dtype.

    Example:
        >>> distinct_values(np.array([[4.0, 0.0], [np.nan, 4.0]])).tolist()
        [0, 4]
    """
    found: np.ndarray | None = None
    for block in blocks_of_array(values):
        if block.dtype.kind == "f":
            finite = np.isfinite(block)
            block = block if finite.all() else block[finite]
            with np.errstate(invalid="ignore"):
                whole = block.astype(np.int32)
            own = _whole_values(whole) if np.array_equal(whole, block) else np.unique(block)
        else:
            own = _whole_values(block)
        found = own if found is None else np.union1d(found, own)
    return np.zeros(0, np.int64) if found is None else found


def _whole_values(flat: np.ndarray) -> np.ndarray:
    """Return the distinct values of integers, sorted. `flat` is a block, since counting widens it to int64."""
    if flat.size == 0:
        return np.zeros(0, np.int64)
    least, most = int(flat.min()), int(flat.max())
    if least == most:
        return np.array([least])
    if most - least < _FEW_VALUES:
        return np.array([value for value in range(least, most + 1) if bool((flat == value).any())])
    if most - least >= 1 << 16 or not -(1 << 31) <= least <= most < 1 << 31:
        return np.unique(flat)
    counted = flat.astype(np.int64) - least if least < 0 or most >= 1 << 16 else flat
    return np.flatnonzero(np.bincount(counted)) + (least if counted is not flat else 0)


def whole_labels(found: np.ndarray) -> tuple[np.ndarray, tuple[str, str] | None]:
    """Return the whole numbers among the values of a label, and what is wrong if there are others.

    A value within :data:`WHOLE_TOLERANCE` of a whole number is that number, unless this would make the whole file 0.

    Args:
        found: the finite values that occur, as :func:`distinct_values` gives them.

    Returns:
        The whole numbers, sorted; and None, or what is there and how to mend it: values on another scale (0.33, 0.66, 0.99 for
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
        return kept, (f"{first_as_text(broken, digits=9)} (an inexact scale factor)", "round the values, and save them as integers")
    marks = found[found != 0]
    step = np.abs(marks).min()
    ratio = marks / step
    # On another scale most values but 0 are off. Interpolation leaves a few between labels.
    if marks.size <= 16 and 2 * broken.size > marks.size and np.all(np.abs(ratio - np.round(ratio)) < 0.05):
        fix = "divide by that number, round, and save the values as integers"
        return kept, (f"{first_as_text(broken)} (multiples of {step:.6g})", fix)
    return kept, (first_as_text(broken), "resample labels with nearest-neighbour only")


def blurred_values(path: str, found: np.ndarray) -> tuple[str, str] | None:
    """Return what is wrong with a label in a file whose compression changes values, as a pair like that of :func:`whole_labels`.

    Args:
        path: the file.
        found: the values that occur.

    Returns:
        None for other formats, and for two values, which JPEG can keep.

    Example:
        >>> blurred_values("a.jpg", np.array([0, 1, 254, 255]))
        ('0, 1, 254, 255, which the compression of JPEG has changed', 'export the label again, as PNG')
    """
    if not path.lower().endswith((".jpg", ".jpeg")) or found.size <= 2:
        return None
    return f"{first_as_text(found)}, which the compression of JPEG has changed", "export the label again, as PNG"


def first_as_text(values: np.ndarray, most: int = 5, digits: int = 6) -> str:
    """Return the first values as text, and how many more there are.

    Args:
        values: the values.
        most: how many are named.
        digits: how many significant digits each has.

    Example:
        >>> first_as_text(np.arange(7))
        '0, 1, 2, 3, 4 and 2 more'
    """
    names = ", ".join(f"{value:.{digits}g}" for value in values[:most].tolist())
    return names + (f" and {values.size - most} more" if values.size > most else "")
