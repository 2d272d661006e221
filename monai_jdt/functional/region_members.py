"""Which voxels of a label map belong to a group of label values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch


def region_members(labels: torch.Tensor, group: Sequence[int]) -> torch.Tensor:
    """Return where the value is one of the group's: bool, of the shape of `labels`, on its device.

    Args:
        labels: label values of any real dtype.
        group: one or more label values; one that the dtype cannot hold occurs nowhere.
    """
    if labels.device.type == "cpu" and type(labels) is torch.Tensor and labels.dtype != torch.bfloat16:
        return torch.from_numpy(array_members(labels.numpy(), group))
    member = torch.zeros(labels.shape, dtype=torch.bool, device=labels.device)
    span = None if labels.dtype == torch.bool or labels.is_floating_point() else torch.iinfo(labels.dtype)
    for value in group:
        if span is None or span.min <= value <= span.max:  # torch compares bytes with 300 as with 44
            member |= labels == value
    return member


def array_members(labels: np.ndarray, group: Sequence[int]) -> np.ndarray:
    """Return where the value is one of the group's: bool, of the shape of `labels`.

    numpy compares small integers several times as fast as torch (`benchmarks/fusion.py`).
    """
    # one comparison at a time: numpy's isin would make copies of eight bytes for each voxel
    marked = np.asarray(labels == group[0])
    for value in group[1:]:
        marked |= labels == value
    return marked
