"""From several raters' label maps to one label, soft or hard.

**Missing and empty raters**, the same in every fusion here and in :mod:`monai_jdt.raters.staple`. A rater of weight 0 is
*missing*: whatever stands in its place in the stack is not read. A rater who is there and marked nothing is *empty*: that is an
answer, background everywhere, and counts as one.

An image whose raters are all missing has no label. Nothing can be made of it, so a fusion (and a draw) raises; nothing can be learnt
from it, so a loss ignores it, as it ignores a voxel at which no rater speaks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import TypeAlias

import numpy as np
import torch

from monai_jdt.data.regions import region_convention
from monai_jdt.validation import check_sequence

#: Voxels worked on at once, so that a block of each intermediate stays in the processor's cache.
_BLOCK = 1 << 17

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
        entries = check_sequence("regions", regions, "a convention's name, or a mapping or sequence of label values")
        pairs = [("label_" + "_".join(map(str, _as_group(entry))), _as_group(entry)) for entry in entries]
    groups = dict(pairs)
    if not groups or not all(groups.values()):
        raise ValueError(f"expected at least one region, each with at least one label value, got {regions!r}")
    if len(groups) < len(pairs):
        raise ValueError(f"expected regions that differ, got {regions!r}")
    return groups


def _as_group(entry: int | Sequence[int]) -> tuple[int, ...]:
    several = hasattr(entry, "__len__") and not isinstance(entry, str)
    values = check_sequence("regions", entry, "label values") if several else (entry,)
    for value in values:
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise TypeError(f"expected whole label values in a region, got {value!r}")
    return tuple(map(int, values))


@dataclass(frozen=True, eq=False)
class RaterEstimates:
    """What a fusion estimated about the raters; a field that it does not estimate is None, NaN stands for a missing rater.

    Args:
        weights: `(R,)` float64, >= 0, sum 1: the share of each rater in an average. A missing rater has 0.
        sensitivity: `(R, C)` float64 in [0, 1]: P(rater marks the region | the voxel is in it).
        specificity: `(R, C)` float64 in [0, 1]: P(rater does not mark the region | the voxel is not in it).
        confusion: `(R, L, L)` float64: entry (r, i, j) is P(rater r says values[i] | the truth is values[j]).
        values: the L label values of `confusion`, in order.
    """

    weights: torch.Tensor | None = None
    sensitivity: torch.Tensor | None = None
    specificity: torch.Tensor | None = None
    confusion: torch.Tensor | None = None
    values: tuple[int, ...] | None = None


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
    votes, groups = checked_votes(votes, regions)
    return _small_counts(votes, groups).to(torch.int16)


def _small_counts(votes: torch.Tensor, groups: Sequence[tuple[int, ...]]) -> torch.Tensor:
    """The counts in the narrowest dtype that holds R: bytes need no conversion."""
    narrow = votes.shape[0] <= 255
    counts = torch.zeros((len(groups), *votes.shape[1:]), dtype=torch.uint8 if narrow else torch.int16, device=votes.device)
    for rater in votes:
        for channel, group in zip(counts, groups, strict=True):
            member = region_members(rater, group)
            channel += member.view(torch.uint8) if narrow else member
    return counts


def checked_votes(votes: torch.Tensor, regions: Sequence[int | Sequence[int]]) -> tuple[torch.Tensor, tuple[tuple[int, ...], ...]]:
    """A plain stack of whole numbers, and the regions as groups of values.

    Raises:
        ValueError: for a stack without raters, or no region.
        TypeError: for votes that are not whole numbers by dtype.
    """
    if votes.ndim < 1 or votes.shape[0] == 0:
        raise ValueError(f"expected votes (R, *S) of at least one rater, got shape {tuple(votes.shape)}")
    if votes.is_floating_point() or votes.is_complex():
        raise TypeError(f"expected votes of an integer dtype, got {votes.dtype}. Fix: votes.to(torch.int16)")
    groups = tuple(_as_group(entry) for entry in regions)
    if not groups:
        raise ValueError("expected at least one region, got none")
    return votes.to(torch.uint8) if votes.dtype == torch.bool else votes, groups


def region_members(labels: torch.Tensor, group: Sequence[int]) -> torch.Tensor:
    """Bool, of the shape of `labels`: where the value is one of the group's."""
    if labels.device.type == "cpu" and type(labels) is torch.Tensor:
        return torch.from_numpy(_array_members(labels.numpy(), group))
    member = torch.zeros(labels.shape, dtype=torch.bool, device=labels.device)
    span = None if labels.dtype == torch.bool else torch.iinfo(labels.dtype)
    for value in group:
        if span is None or span.min <= value <= span.max:  # torch compares bytes with 300 as with 44
            member |= labels == value
    return member


def _array_members(labels: np.ndarray, group: Sequence[int]) -> np.ndarray:
    # numpy compares small integers several times as fast as torch
    marked = np.asarray(labels == group[0])
    for value in group[1:]:
        marked |= labels == value
    return marked


def checked_rater_weights(rater_weights: torch.Tensor | Sequence[float] | None, raters: int) -> torch.Tensor:
    """The share of each rater.

    Args:
        rater_weights: `(R,)`, finite, >= 0, 0 = missing; None: 1 each.
        raters: R.

    Returns:
        `(R,)` float64 on the CPU, sum 1.

    Raises:
        ValueError: for another length, a negative or non-finite weight, or weights that are all 0.
    """
    if rater_weights is None:
        return torch.full((raters,), 1 / raters, dtype=torch.float64)
    weights = torch.as_tensor(rater_weights).detach().cpu().to(torch.float64)
    if weights.shape != (raters,):
        raise ValueError(f"rater_weights: expected one weight for each of {raters} raters, got shape {tuple(weights.shape)}")
    if not (torch.isfinite(weights) & (weights >= 0)).all():
        raise ValueError(f"rater_weights: expected finite numbers >= 0, got {weights.tolist()}")
    if not weights.any():
        raise ValueError(f"rater_weights: expected at least one rater with a weight > 0, got {weights.tolist()}")
    weights = weights / weights.max()  # first, so that the sum cannot overflow
    return weights / weights.sum()


def _present(votes: torch.Tensor, rater_weights: torch.Tensor | Sequence[float] | None) -> torch.Tensor:
    """The stack without its missing raters."""
    if rater_weights is None or votes.ndim < 1 or votes.shape[0] == 0:
        return votes
    there = checked_rater_weights(rater_weights, votes.shape[0]) > 0
    return votes if there.all() else votes[there.to(votes.device)]


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
    votes, groups = checked_votes(votes, regions)
    counts = _small_counts(votes, groups)
    return torch.div(counts, votes.shape[0], out=torch.empty_like(counts, dtype=torch.float32))


def fuse_weighted(
    votes: torch.Tensor,
    regions: Sequence[int | Sequence[int]],
    rater_weights: torch.Tensor | Sequence[float] | None = None,
) -> torch.Tensor:
    """The weighted share of raters that put each voxel into each region: a soft label.

    Args:
        votes: label values `(R, *S)`, as in :func:`region_votes`.
        regions: one entry a channel, as in :func:`region_votes`.
        rater_weights: `(R,)`, finite, >= 0, any scale; 0 = the rater is missing. None or all equal: :func:`fuse_average`.

    Returns:
        `(C, *S)`, float32, in [0, 1]. Regions that are classes sum to 1; nested regions stay nested.

    Raises:
        ValueError: as :func:`region_votes`, and for weights that are not R finite numbers >= 0 or are all 0.
        TypeError: as :func:`region_votes`.

    Example:
        >>> votes = torch.tensor([[0, 1, 4], [0, 4, 4], [9, 9, 9]])
        >>> fuse_weighted(votes, [[1, 4], 4], [3, 1, 0])
        tensor([[0.0000, 1.0000, 1.0000],
                [0.0000, 0.2500, 1.0000]])
    """
    votes, groups = checked_votes(votes, regions)
    weights = checked_rater_weights(rater_weights, votes.shape[0])
    speaking = weights > 0
    if len(weights[speaking].unique()) == 1:
        return fuse_average(_present(votes, weights), groups)
    label = torch.zeros((len(groups), *votes.shape[1:]), dtype=torch.float32, device=votes.device)
    flat, channels = votes.reshape(votes.shape[0], -1), label.view(len(groups), -1)
    there = speaking.nonzero().flatten().tolist()
    if len(there) <= 8:
        # who marks a voxel is one byte, and each of the at most 256 bytes has one answer
        bits = torch.arange(2 ** len(there)).unsqueeze(1) >> torch.arange(len(there)) & 1
        answers = (bits * weights[speaking]).sum(1).clamp(0, 1).to(torch.float32).to(votes.device)
        for start in range(0, flat.shape[1], _BLOCK):
            block = flat[:, start : start + _BLOCK]
            for channel, group in zip(channels[:, start : start + _BLOCK], groups, strict=True):
                marks = torch.zeros(block.shape[1:], dtype=torch.uint8, device=votes.device)
                for bit, rater in enumerate(there):
                    marks.add_(region_members(block[rater], group).view(torch.uint8), alpha=1 << bit)
                torch.index_select(answers, 0, marks.to(torch.int32), out=channel)
        return label
    # blocks that stay in the cache: one pass over the votes, one over the label
    for start in range(0, flat.shape[1], _BLOCK):
        for rater, weight in zip(flat[:, start : start + _BLOCK], weights.tolist(), strict=True):
            if weight > 0:
                for channel, group in zip(channels[:, start : start + _BLOCK], groups, strict=True):
                    channel.add_(region_members(rater, group).to(torch.float32), alpha=weight)
    return label.clamp_(0, 1)


def dice_weights(
    votes: torch.Tensor,
    regions: Sequence[int | Sequence[int]],
    rater_weights: torch.Tensor | Sequence[float] | None = None,
    *,
    paper_compatible: bool = False,
) -> torch.Tensor:
    """The share of each rater by its Dice with the raters' majority, as in the QUBIQ experiments of arXiv:2303.16296.

    With region c of rater r as the set A_rc and the majority M_c of :func:`fuse_majority`,
    `d_r = 2 sum_c |A_rc & M_c| / sum_c (|A_rc| + |M_c|)` and `w_r = d_r / sum d`. One weight a rater, over all regions, so that
    classes still sum to 1 and nested regions stay nested. Regions that hold the value 0 (background) are not judged by, unless
    there are no others.

    Args:
        votes: label values `(R, *S)`, as in :func:`region_votes`.
        regions: one entry a channel, as in :func:`region_votes`.
        rater_weights: `(R,)`, 0 = the rater is missing; other values say only that it is there.
        paper_compatible: a rater that has no voxel in common with the majority gets d = 1, as in the published code, instead
            of 0.

    Returns:
        `(R,)` float64, sum 1; 0 for a missing rater. An empty rater gets 0. Where all would weigh 0 (an empty majority: nobody
        agrees with anybody), the raters that are there weigh the same, with `paper_compatible` too.

    Raises:
        ValueError: as :func:`fuse_weighted`.
        TypeError: as :func:`region_votes`.

    Example:
        >>> votes = torch.tensor([[0, 1, 1], [0, 1, 1], [0, 0, 0]])
        >>> dice_weights(votes, [1]).tolist()
        [0.5, 0.5, 0.0]
    """
    votes, groups = checked_votes(votes, regions)
    there = checked_rater_weights(rater_weights, votes.shape[0]) > 0
    judged = tuple(group for group in groups if 0 not in group) or groups
    # numpy, since it compares and counts bytes several times as fast as torch
    flat = votes.reshape(votes.shape[0], -1).cpu().numpy()
    present = there.nonzero().flatten().tolist()
    common = torch.zeros(votes.shape[0], dtype=torch.int64)
    sizes = torch.zeros_like(common)
    majority_size = 0
    for start in range(0, flat.shape[1], _BLOCK):
        block = flat[:, start : start + _BLOCK]
        for group in judged:
            members = [_array_members(block[r], group) for r in present]
            count = members[0].astype(np.uint8 if len(present) <= 255 else np.int64)
            for member in members[1:]:
                count += member.view(np.uint8)
            majority = count >= len(present) // 2 + 1
            majority_size += int(np.count_nonzero(majority))
            for r, member in zip(present, members, strict=True):
                sizes[r] += int(np.count_nonzero(member))
                common[r] += int(np.count_nonzero(member & majority))
    both = (sizes + majority_size).to(torch.float64)
    dice = torch.where(common > 0, 2 * common / both, 1.0 if paper_compatible else 0.0)
    dice = torch.where(there, dice, 0.0)
    return checked_rater_weights(dice if dice.any() else there, len(dice))


def fuse_dice_weighted(
    votes: torch.Tensor,
    regions: Sequence[int | Sequence[int]],
    rater_weights: torch.Tensor | Sequence[float] | None = None,
    *,
    paper_compatible: bool = False,
) -> torch.Tensor:
    """The average of raters weighted by :func:`dice_weights`: raters near the majority count more.

    Args:
        votes: label values `(R, *S)`, as in :func:`region_votes`.
        regions: one entry a channel, as in :func:`region_votes`.
        rater_weights: as in :func:`dice_weights`.
        paper_compatible: as in :func:`dice_weights`.

    Returns:
        `(C, *S)`, float32, in [0, 1].

    Raises:
        ValueError: as :func:`fuse_weighted`.
        TypeError: as :func:`region_votes`.

    Example:
        >>> fuse_dice_weighted(torch.tensor([[0, 1, 1], [0, 1, 1], [0, 0, 0]]), [1])
        tensor([[0., 1., 1.]])
    """
    return fuse_weighted(votes, regions, dice_weights(votes, regions, rater_weights, paper_compatible=paper_compatible))


def fuse_majority(
    votes: torch.Tensor,
    regions: Sequence[int | Sequence[int]],
    rater_weights: torch.Tensor | Sequence[float] | None = None,
) -> torch.Tensor:
    """The voxels that more than half of the raters put into each region: the hard label.

    At least `R // 2 + 1` raters must agree, so a tie is background. Regions are judged one by one: a voxel where half
    the raters say 1 and half say 4 is in the region (1, 4), though no single value has a majority.

    Args:
        votes: label values `(R, *S)`, as in :func:`region_votes`.
        regions: one entry a channel, as in :func:`region_votes`.
        rater_weights: `(R,)`, 0 = the rater is missing and does not count in R; other values say only that it is there.

    Returns:
        `(C, *S)`, float32, 0 or 1.

    Example:
        >>> votes = torch.tensor([[0, 1, 4], [0, 4, 4]])
        >>> fuse_majority(votes, [[1, 4], 4])
        tensor([[0., 1., 1.],
                [0., 0., 1.]])
    """
    votes = _present(votes, rater_weights)
    return (region_votes(votes, regions) >= votes.shape[0] // 2 + 1).to(torch.float32)


def fuse_intersection(
    votes: torch.Tensor,
    regions: Sequence[int | Sequence[int]],
    rater_weights: torch.Tensor | Sequence[float] | None = None,
) -> torch.Tensor:
    """The voxels that every rater put into each region; an empty rater empties it.

    Args:
        votes: label values `(R, *S)`, as in :func:`region_votes`.
        regions: one entry a channel, as in :func:`region_votes`.
        rater_weights: `(R,)`, 0 = the rater is missing; other values say only that it is there.

    Returns:
        `(C, *S)`, float32, 0 or 1. Classes need not sum to 1: where raters differ, no class has all of them.

    Example:
        >>> fuse_intersection(torch.tensor([[0, 1, 4], [0, 4, 4]]), [[1, 4], 4])
        tensor([[0., 1., 1.],
                [0., 0., 1.]])
    """
    votes = _present(votes, rater_weights)
    return (region_votes(votes, regions) == votes.shape[0]).to(torch.float32)


def fuse_union(
    votes: torch.Tensor,
    regions: Sequence[int | Sequence[int]],
    rater_weights: torch.Tensor | Sequence[float] | None = None,
) -> torch.Tensor:
    """The voxels that any rater put into each region; an empty rater adds nothing.

    Args:
        votes: label values `(R, *S)`, as in :func:`region_votes`.
        regions: one entry a channel, as in :func:`region_votes`.
        rater_weights: `(R,)`, 0 = the rater is missing; other values say only that it is there.

    Returns:
        `(C, *S)`, float32, 0 or 1. Classes may sum to more than 1 where raters differ.

    Example:
        >>> fuse_union(torch.tensor([[0, 1, 4], [0, 4, 0]]), [[1, 4], 4])
        tensor([[0., 1., 1.],
                [0., 1., 1.]])
    """
    return (region_votes(_present(votes, rater_weights), regions) > 0).to(torch.float32)


def fuse_random(
    votes: torch.Tensor,
    regions: Sequence[int | Sequence[int]],
    rater_weights: torch.Tensor | Sequence[float] | None = None,
    *,
    seed: int | torch.Generator = 0,
) -> torch.Tensor:
    """One rater's own label, drawn with probability proportional to the weights.

    Args:
        votes: label values `(R, *S)`, as in :func:`region_votes`.
        regions: one entry a channel, as in :func:`region_votes`.
        rater_weights: `(R,)`, as in :func:`fuse_weighted`; a missing rater is never drawn, an empty one may be.
        seed: a number (the same number and R give the same rater), or a generator on the CPU that is advanced.

    Returns:
        `(C, *S)`, float32, 0 or 1.

    Example:
        >>> fuse_random(torch.tensor([[0, 1], [1, 1], [0, 4]]), [1, 4], [0, 0, 2])
        tensor([[0., 0.],
                [0., 1.]])
    """
    checked_votes(votes, regions)
    generator = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
    weights = checked_rater_weights(rater_weights, votes.shape[0])
    rater = int(torch.multinomial(weights, 1, generator=generator))
    return fuse_average(votes[rater : rater + 1], regions)
