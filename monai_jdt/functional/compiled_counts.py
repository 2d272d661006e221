"""Counts of metrics in one pass over memory, compiled by numba. Imported at first use, by :mod:`monai_jdt.functional.fast_counts` only.

Every function works on a range of voxels and adds to what it is given, so that ranges can be shared out among threads. Inner loops are
written without branches and with whole numbers, which LLVM turns into vector instructions without reordering a sum.
"""

from __future__ import annotations

import numpy as np

from monai_jdt.kernels.numba.compilation import on_disk

#: Voxels whose winner is kept between two loops: they stay in a core's first cache.
_BLOCK = 2048
#: Voxels whose counts fit a byte.
_BYTES = 128


# Sums of a block are as narrow as what is read: LLVM would otherwise spend most instructions on widening each comparison to 64 bit.
# The loops over hard masks call nothing: a compiled function that comes from the disk is not inlined, and took ten times as long.


@on_disk
def count_hard(pred: np.ndarray, label: np.ndarray, first: int, last: int, counts: np.ndarray) -> int:
    """Count voxels of prediction and label, of the prediction, and of the label, where both are 0 and 1.

    Args:
        pred: `(C, V)`.
        label: `(C, V)`.
        first: voxel.
        last: the voxel after the last.
        counts: int64 `(C, 3)`, added to.

    Returns:
        In how many pairs a value is illegal: neither 0 nor 1.
    """
    illegal = 0
    for start in range(first, last, _BLOCK):
        n = min(_BLOCK, last - start)
        for c in range(pred.shape[0]):
            p, t = pred[c, start : start + n], label[c, start : start + n]
            both, found, true, legal = np.int32(0), np.int32(0), np.int32(0), np.int32(0)
            for v in range(n):
                marked, labelled = p[v] == 1, t[v] == 1
                both = np.int32(both + (marked & labelled))
                found = np.int32(found + marked)
                true = np.int32(true + labelled)
                legal = np.int32(legal + (((p[v] == 0) | marked) & ((t[v] == 0) | labelled)))
            counts[c, 0] += both
            counts[c, 1] += found
            counts[c, 2] += true
            illegal += n - legal
    return illegal


@on_disk
def count_hard_bytes(pred: np.ndarray, label: np.ndarray, first: int, last: int, counts: np.ndarray) -> int:
    """Count as :func:`count_hard` does, in values of one byte: three times as fast, since sums of one byte each are added at once.

    Args:
        pred: `(C, V)`, uint8 or int8.
        label: `(C, V)`, uint8 or int8.
        first: as there.
        last: as there.
        counts: as there.

    Returns:
        As there.
    """
    illegal = 0
    for start in range(first, last, _BYTES):
        n = min(_BYTES, last - start)
        for c in range(pred.shape[0]):
            p, t = pred[c, start : start + n], label[c, start : start + n]
            both, found, true, legal = np.uint8(0), np.uint8(0), np.uint8(0), np.uint8(0)
            for v in range(n):
                marked, labelled = p[v] == 1, t[v] == 1
                both = np.uint8(both + (marked & labelled))
                found = np.uint8(found + marked)
                true = np.uint8(true + labelled)
                legal = np.uint8(legal + (((p[v] == 0) | marked) & ((t[v] == 0) | labelled)))
            counts[c, 0] += both
            counts[c, 1] += found
            counts[c, 2] += true
            illegal += n - legal
    return illegal


@on_disk
def count_soft(
    pred: np.ndarray, label: np.ndarray, largest: bool, low: float, high: float, first: int, last: int, counts: np.ndarray
) -> int:
    """Count as :func:`count_hard` does, where a probability marks a voxel.

    Args:
        pred: `(C, V)`.
        label: `(C, V)`.
        largest: whether a channel marks the voxels where it is the largest, or those above .5.
        low: the smallest legal prediction.
        high: the largest.
        first: as there.
        last: as there.
        counts: as there.

    Returns:
        In how many pairs a value is illegal: a label that is neither 0 nor 1, a prediction out of range or NaN.
    """
    best, winner = np.empty(_BLOCK, pred.dtype), np.empty(_BLOCK, np.int32)
    illegal = 0
    for start in range(first, last, _BLOCK):
        n = min(_BLOCK, last - start)
        if largest:
            best_of_block(pred, start, n, best, winner)
        for c in range(pred.shape[0]):
            p, t = pred[c, start : start + n], label[c, start : start + n]
            both, found, true, legal = np.int32(0), np.int32(0), np.int32(0), np.int32(0)
            for v in range(n):
                marked, labelled = (winner[v] == c) if largest else p[v] > 0.5, t[v] == 1
                both = np.int32(both + (marked & labelled))
                found = np.int32(found + marked)
                true = np.int32(true + labelled)
                legal = np.int32(legal + ((p[v] >= low) & (p[v] <= high) & ((t[v] == 0) | labelled)))
            counts[c, 0] += both
            counts[c, 1] += found
            counts[c, 2] += true
            illegal += n - legal
    return illegal


@on_disk
def best_of_block(pred: np.ndarray, start: int, n: int, best: np.ndarray, winner: np.ndarray) -> None:
    """Write the largest channel of a block of voxels, the first one of equals.

    Args:
        pred: `(C, V)`.
        start: first voxel.
        n: voxels.
        best: its value, `(n or more,)`.
        winner: its number, int32.
    """
    for v in range(n):
        best[v] = pred[0, start + v]
        winner[v] = 0
    for c in range(1, pred.shape[0]):
        row = pred[c, start : start + n]
        for v in range(n):
            larger = row[v] > best[v]
            best[v] = row[v] if larger else best[v]
            winner[v] = c if larger else winner[v]


@on_disk
def bin_range(
    prob: np.ndarray,
    votes: np.ndarray,
    weights: np.ndarray,
    channel: int,
    values: np.ndarray,
    edges: np.ndarray,
    first: int,
    last: int,
    bins: np.ndarray,
) -> None:
    """Sum voxels, confidences and outcomes in bins of equal width. The outcome is the weighted share of raters that agree.

    Args:
        prob: `(C, V)` in [0, 1].
        votes: `(R, V)`.
        weights: float64 `(R,)`, 0 = missing.
        channel: whose probability is the confidence; negative: the largest channel, whose number is what raters have to say.
        values: the label values of that channel.
        edges: float64 `(bins + 1,)`. A voxel on an edge belongs to the upper bin, 1 to the last.
        first: voxel.
        last: the voxel after the last.
        bins: float64 `(bins, 3)`, added to.
    """
    best, winner = np.empty(_BLOCK, prob.dtype), np.empty(_BLOCK, np.int32)
    share, places = np.empty(_BLOCK, np.float64), np.empty(_BLOCK, np.int32)
    number, total = bins.shape[0], weights.sum()
    for start in range(first, last, _BLOCK):
        n = min(_BLOCK, last - start)
        if channel < 0:
            best_of_block(prob, start, n, best, winner)
        else:
            for v in range(n):
                best[v] = prob[channel, start + v]
        share[:n] = 0.0
        for r in range(votes.shape[0]):
            weight = weights[r]
            if weight == 0:
                continue
            said = votes[r, start : start + n]
            if channel < 0:
                for v in range(n):
                    share[v] += weight if said[v] == winner[v] else 0.0
            else:
                for value in values:
                    for v in range(n):
                        share[v] += weight if said[v] == value else 0.0
        for v in range(n):
            # a product that rounds over an edge is put right below
            places[v] = min(max(np.int32(best[v] * number), 0), number - 1)
        for v in range(n):
            confidence, place = np.float64(best[v]), places[v]
            while place < number - 1 and confidence >= edges[place + 1]:
                place += 1
            while place > 0 and confidence < edges[place]:
                place -= 1
            bins[place, 0] += 1.0
            bins[place, 1] += confidence
            bins[place, 2] += share[v] / total
