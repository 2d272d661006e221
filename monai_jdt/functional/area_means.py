"""Soft labels at a lower resolution: the mean of each block over its counted voxels."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch.nn import functional as F


class LabelPyramid:
    """A soft label on several grids over the same space: each is made from the coarsest one before whose blocks it joins.

    Args:
        label: `(N, C, *S)`, floating point, or the number of votes for each channel, unsigned 8-bit.
        counted: bool `(N, 1, *S)` or `(N, C, *S)`; None: every voxel counts.
        votes: the number of a voxel's votes, at most 255, where the label is numbers of votes.
    """

    def __init__(self, label: torch.Tensor, counted: torch.Tensor | None = None, votes: int = 1) -> None:
        self._votes = votes
        share = None if counted is None else counted.to(label.dtype)
        total = label if counted is None else torch.where(counted, label, 0.0)
        #: The mean of what counts, the rest as 0, and the share of a block that counts. Both are means of a finer grid's. Votes are
        #: not divided: whole numbers take a quarter of the memory.
        self._levels = [(total, share)]

    def at(self, size: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Shrink the label to another grid.

        Args:
            size: the new spatial size, as many numbers as S has.

        Returns:
            The means `(N, C, *size)` over the counted voxels of each block (0 where there are none), and which blocks have any, bool,
            or None if every voxel counts. Blocks overlap where a size does not divide the old one, as in adaptive average pooling.

        Example:
            >>> label = torch.tensor([[[0.2, 0.4, 255.0, 0.6]]])
            >>> LabelPyramid(label, label <= 1).at([2])
            (tensor([[[0.3000, 0.6000]]]), tensor([[[True, True]]]))
        """
        total, share = self._levels[0]
        for other in self._levels[1:]:
            if _divides(size, other[0].shape[2:]) and other[0].numel() < total.numel():
                total, share = other
        finest = self._levels[0][0].shape[2:]
        joined = _divides(size, finest)
        if not total.is_floating_point():
            if joined:
                total = _added(total, size, self._votes * (prod(finest) // prod(total.shape[2:])))
                self._levels.append((total, None))
                return total.to(torch.float32) / (self._votes * (prod(finest) // prod(size))), None
            total = total.to(torch.float32) / self._votes
        total, share = _shrunk(total, size), None if share is None else _shrunk(share, size)
        # Blocks that overlap count some voxels twice: a coarser grid is not made from theirs.
        if joined:
            self._levels.append((total, share))
        if share is None:
            return total, None
        found = share > 0
        return torch.where(found, total / torch.where(found, share, 1.0), 0.0), found


def _divides(size: Sequence[int], other: Sequence[int]) -> bool:
    return all(a > 0 and b % a == 0 for a, b in zip(size, other, strict=True))


def _added(values: torch.Tensor, size: Sequence[int], largest: int) -> torch.Tensor:
    """Add whole numbers in blocks, one axis at a time.

    Args:
        values: `(N, C, *S)`.
        size: of the result, which divides S.
        largest: that a value can be.
    """
    for axis, length in enumerate(size, start=2):
        block = values.shape[axis] // length
        if block == 1:
            continue
        largest *= block
        if largest > torch.iinfo(values.dtype).max:
            values = values.to(torch.int32 if largest <= torch.iinfo(torch.int32).max else torch.int64)
        first, *others = values.unflatten(axis, (length, block)).unbind(axis + 1)
        values = first + others[0]
        for other in others[1:]:
            values += other
    return values


def _shrunk(values: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Pool adaptively, one axis at a time: a block's mean is the mean of its rows' means, in any number of dimensions."""
    for axis, length in enumerate(size, start=2):
        old = values.shape[axis]
        if old == length:
            continue
        if length > 1 and old % length == 0:
            # Bit for bit the pool below, ten times as fast: whole slices are added, where the pool walks along each short row.
            first, *others = values.unflatten(axis, (length, old // length)).unbind(axis + 1)
            total = first + others[0]
            for other in others[1:]:
                total += other
            values = total.div_(old // length)
        else:
            rows = values.movedim(axis, -1)
            pooled = F.adaptive_avg_pool1d(rows.reshape(1, -1, old), length)
            values = pooled.reshape(*rows.shape[:-1], length).movedim(-1, axis)
    return values
