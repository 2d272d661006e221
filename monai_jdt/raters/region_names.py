"""One form for every way of saying which label values make which channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import TypeAlias

from monai_jdt.data.layouts.regions import region_convention
from monai_jdt.validation import check_sequence, error_sentence

#: Every spelling of "these label values make these channels". :func:`named_regions` explains them.
RegionSpec: TypeAlias = str | Mapping[str, int | Sequence[int]] | Sequence[int | Sequence[int]]


def named_regions(regions: RegionSpec) -> dict[str, tuple[int, ...]]:
    """Return the channels as name to label values, from every spelling of "these label values make these channels".

    Args:
        regions: a convention's name (see :data:`monai_jdt.data.REGION_CONVENTIONS`), or a mapping from a
            channel's name to its label values, or a sequence with one entry for each channel: a label value, or a group of
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
        pairs = [(str(name), region_group(values)) for name, values in regions.items()]
    else:
        entries = check_sequence("regions", regions, "a convention's name, or a mapping or sequence of label values")
        pairs = [("label_" + "_".join(map(str, region_group(entry))), region_group(entry)) for entry in entries]
    groups = dict(pairs)
    if not groups or not all(groups.values()):
        raise ValueError(error_sentence("regions", "at least one region, each with at least one label value", repr(regions)))
    if len(groups) < len(pairs):
        raise ValueError(error_sentence("regions", "regions that differ", repr(regions)))
    return groups


def region_group(entry: int | Sequence[int]) -> tuple[int, ...]:
    """Return the label values of one region.

    Args:
        entry: a label value, or the values whose union is the region.

    Raises:
        TypeError: for a label value that is not an integer.
    """
    several = hasattr(entry, "__len__") and not isinstance(entry, str)
    values = check_sequence("regions", entry, "label values") if several else (entry,)
    for value in values:
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise TypeError(error_sentence("regions", "whole label values", repr(value)))
    return tuple(map(int, values))
