"""Group voxels by what all raters say there, so that an estimation costs by the combinations of votes, not by the voxels.

Seven raters of one region have at most 128 combinations, however large the image is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from monai_jdt.data.files.label_values import distinct_values

#: Entries of a table that stays in the processor's cache. Below this size unused numbers cost less than renumbering.
_CACHED_SIZE = 1 << 15

#: Numbers below this are renumbered by a table, which is several times as fast as the sort of `np.unique`.
_TABLE_SIZE = 1 << 22


@dataclass(frozen=True, eq=False)
class VotePatterns:
    """The combinations of votes that occur in a stack.

    Args:
        votes: `(U, R)` intp: what each of R raters says in each of the U combinations, as an index into `values`.
        voxels: `(U,)` int64: how many voxels have the combination; their sum is V.
        index: `(V,)` intp: the combination of each voxel.
        values: `(L,)` the label values that occur, sorted.
    """

    votes: np.ndarray
    voxels: np.ndarray
    index: np.ndarray
    values: np.ndarray


def vote_patterns(stack: np.ndarray) -> VotePatterns:
    """Find the combinations of votes of a stack.

    Args:
        stack: label values `(R, V)` of an integer dtype, R > 0.

    Example:
        >>> patterns = vote_patterns(np.array([[0, 0, 7, 7], [0, 7, 7, 7]]))
        >>> patterns.votes.tolist(), patterns.voxels.tolist(), patterns.index.tolist(), patterns.values.tolist()
        ([[0, 0], [0, 1], [1, 1]], [1, 1, 2], [0, 1, 2, 2], [0, 7])
    """
    values = distinct_values(stack) if stack.size else np.zeros(1, dtype=stack.dtype)
    index = np.zeros(stack.shape[1], dtype=np.intp)
    used = 1
    for votes in stack:
        if used * len(values) > _CACHED_SIZE:
            index, used = _renumbered(index, used)
        index *= len(values)
        index += _codes(votes, values)
        used *= len(values)
    index, used = _renumbered(index, used)
    one_voxel = np.zeros(used, dtype=np.intp)
    one_voxel[index] = np.arange(len(index))  # which voxel of a combination does not matter
    rows = [_codes(votes[one_voxel], values) for votes in stack]
    return VotePatterns(np.stack(rows, axis=1), np.bincount(index, minlength=used), index, values)


def region_patterns(patterns: VotePatterns, group: Sequence[int]) -> VotePatterns:
    """Read the votes as marks of a region, 1 = inside, and join the combinations that are then the same.

    Args:
        patterns: the combinations of label values.
        group: the label values of the region.

    Returns:
        The combinations of marks. `index` is `(U,)`, the new combination of each of `patterns`. `values` is always `[0, 1]`.

    Example:
        >>> marks = region_patterns(vote_patterns(np.array([[0, 1, 4], [0, 4, 4]])), [1, 4])
        >>> marks.votes.tolist(), marks.voxels.tolist(), marks.index.tolist()
        ([[0, 0], [1, 1]], [1, 2], [0, 1, 1])
    """
    marks = np.isin(patterns.values, group)[patterns.votes].astype(np.uint8)
    joined = vote_patterns(marks.T)
    voxels = np.bincount(joined.index, weights=patterns.voxels, minlength=len(joined.voxels)).astype(np.int64)
    return VotePatterns(joined.values[joined.votes].astype(np.intp), voxels, joined.index, np.array([0, 1]))


def _codes(votes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the position of each vote among the values."""
    if len(values) == 1:
        return np.zeros(votes.shape, dtype=np.intp)
    low, high = int(values[0]), int(values[-1])
    if low == 0 and high == len(values) - 1:
        return votes.astype(np.intp)
    if high - low < _TABLE_SIZE:
        table = np.zeros(high - low + 1, dtype=np.intp)
        table[values.astype(np.intp) - low] = np.arange(len(values))
        return table[votes.astype(np.intp) - low]
    return np.searchsorted(values, votes)


def _renumbered(index: np.ndarray, span: int) -> tuple[np.ndarray, int]:
    """Renumber: return numbers below `span` as 0 to U - 1 in the same order, and U, how many differ."""
    if span > max(_TABLE_SIZE, len(index)):
        found, renumbered = np.unique(index, return_inverse=True)
        return renumbered.reshape(index.shape), len(found)
    occurs = np.bincount(index, minlength=span) > 0
    return (np.cumsum(occurs) - 1)[index], int(np.count_nonzero(occurs))
