"""From several raters' label maps to one label: the raters' average (soft) and their majority (hard)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import torch

from monai_jdt.data.regions import region_convention

#: Every way of saying which label values make which channels; :func:`named_regions` explains them.
RegionSpec: TypeAlias = str | Mapping[str, int | Sequence[int]] | Sequence[int | Sequence[int]]


def named_regions(regions: RegionSpec) -> dict[str, tuple[int, ...]]:
    """Turn every way of saying "these label values make these channels" into one: name to label values.

    Args:
        regions: a convention's name (see :data:`monai_jdt.data.regions.REGION_CONVENTIONS`), or a mapping from a
            channel's name to its label values, or a sequence with one entry a channel: a label value, or a group of
            values whose union is the channel. Channels of a sequence are named `"label_1"`, `"label_1_4"`.

    Returns:
        The channels in order. Groups may overlap (nested regions) or not (classes).

    Raises:
        ValueError: for an unknown convention, no channel, a channel without a value, or two channels of one name.
        TypeError: for a label value that is not an integer.

    Example:
        >>> named_regions("brats2021")
        {'TC': (1, 4), 'WT': (1, 2, 4), 'ET': (4,)}
        >>> named_regions([1, [2, 3]])
        {'label_1': (1,), 'label_2_3': (2, 3)}
    """
    if isinstance(regions, str):
        return dict(region_convention(regions).regions)
    if isinstance(regions, Mapping):
        pairs = [(str(name), _as_group(values)) for name, values in regions.items()]
    else:
        pairs = [("label_" + "_".join(map(str, _as_group(entry))), _as_group(entry)) for entry in regions]
    groups = dict(pairs)
    if not groups or not all(groups.values()):
        raise ValueError(f"expected at least one region, each with at least one label value, came {regions!r}")
    if len(groups) < len(pairs):
        raise ValueError(f"expected regions that differ, came {regions!r}")
    return groups


def _as_group(entry: int | Sequence[int]) -> tuple[int, ...]:
    values = tuple(entry) if isinstance(entry, Sequence) and not isinstance(entry, str) else (entry,)
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"expected whole label values in a region, came {value!r}")
    return values


def region_votes(votes: torch.Tensor, regions: Sequence[int | Sequence[int]]) -> torch.Tensor:
    """Count, for each region and voxel, the raters that put the voxel into the region.

    One rater and one region at a time: the stack of every rater's channels, `(R, C, *S)`, is never built.

    Args:
        votes: label values `(R, *S)`, R raters, any integer dtype (bool counts as 0/1).
        regions: one entry a channel: a label value, or the values whose union is the region.

    Returns:
        Counts `(C, *S)`, int16, in [0, R].

    Raises:
        ValueError: for a stack without raters, or no region.
        TypeError: for votes that are not whole numbers by dtype.
    """
    if votes.ndim < 1 or votes.shape[0] == 0:
        raise ValueError(f"expected votes (R, *S) of at least one rater, came shape {tuple(votes.shape)}")
    if votes.is_floating_point() or votes.is_complex():
        raise TypeError(f"expected votes of an integer dtype, came {votes.dtype}; fix: votes.to(torch.int16)")
    groups = tuple(_as_group(entry) for entry in regions)
    if not groups:
        raise ValueError("expected at least one region, came none")
    votes = votes.to(torch.uint8) if votes.dtype == torch.bool else votes
    counts = torch.zeros((len(groups), *votes.shape[1:]), dtype=torch.int16, device=votes.device)
    for rater in votes:
        for channel, group in zip(counts, groups, strict=True):
            member = rater == group[0]
            for value in group[1:]:
                member |= rater == value
            channel += member
    return counts


def fuse_average(votes: torch.Tensor, regions: Sequence[int | Sequence[int]]) -> torch.Tensor:
    """The share of raters that put each voxel into each region: the soft label.

    Args:
        votes: label values `(R, *S)`, as in :func:`region_votes`.
        regions: one entry a channel, as in :func:`region_votes`.

    Returns:
        `(C, *S)`, float32, in [0, 1]: a multiple of 1/R everywhere.

    Example:
        >>> votes = torch.tensor([[0, 1, 4], [0, 4, 4]])  # two raters, three voxels
        >>> fuse_average(votes, [[1, 4], 4])
        tensor([[0.0000, 1.0000, 1.0000],
                [0.0000, 0.5000, 1.0000]])
    """
    return region_votes(votes, regions).to(torch.float32) / votes.shape[0]


def fuse_majority(votes: torch.Tensor, regions: Sequence[int | Sequence[int]]) -> torch.Tensor:
    """The voxels that more than half of the raters put into each region: the hard label.

    At least `R // 2 + 1` raters must agree, so a tie is background. Regions are judged one by one: a voxel where half
    the raters say 1 and half say 4 is in the region (1, 4), though no single value has a majority.

    Args:
        votes: label values `(R, *S)`, as in :func:`region_votes`.
        regions: one entry a channel, as in :func:`region_votes`.

    Returns:
        `(C, *S)`, float32, 0 or 1.

    Example:
        >>> votes = torch.tensor([[0, 1, 4], [0, 4, 4]])
        >>> fuse_majority(votes, [[1, 4], 4])
        tensor([[0., 1., 1.],
                [0., 0., 1.]])
    """
    return (region_votes(votes, regions) >= votes.shape[0] // 2 + 1).to(torch.float32)
