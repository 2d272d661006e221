"""The label values of each region, by the convention of each year's BraTS."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from monai_jdt.data.problems import DataProblem
from monai_jdt.validation import error_sentence


@dataclass(frozen=True)
class RegionConvention:
    """A data set's label values and the nested regions made of them.

    Args:
        name: the name by which configs choose the convention.
        values: every value that a label file may hold, background (0) included.
        regions: region name to the label values whose union is the region, in channel order.
    """

    name: str
    values: tuple[int, ...]
    regions: Mapping[str, tuple[int, ...]]


def _convention(name: str, values: tuple[int, ...], **regions: tuple[int, ...]) -> RegionConvention:
    return RegionConvention(name, values, MappingProxyType(regions))


#: Channel order TC, WT, ET, as in MONAI's BraTS bundle.
#: Sources: the challenges' data pages (2021: enhancing tumour is 4; since 2023: 3; 2024 adds 4, the resection cavity,
#: which is in none of the three regions) and the `dataset.json` of the Medical Segmentation Decathlon's Task01 (1
#: edema, 2 non-enhancing, 3 enhancing).
REGION_CONVENTIONS: Mapping[str, RegionConvention] = MappingProxyType(
    {
        c.name: c
        for c in (
            _convention("brats2018", (0, 1, 2, 4), TC=(1, 4), WT=(1, 2, 4), ET=(4,)),
            _convention("brats2021", (0, 1, 2, 4), TC=(1, 4), WT=(1, 2, 4), ET=(4,)),
            _convention("brats2023", (0, 1, 2, 3), TC=(1, 3), WT=(1, 2, 3), ET=(3,)),
            _convention("brats2024", (0, 1, 2, 3, 4), TC=(1, 3), WT=(1, 2, 3), ET=(3,)),
            _convention("msd", (0, 1, 2, 3), TC=(2, 3), WT=(1, 2, 3), ET=(3,)),
        )
    }
)


def region_convention(name: str) -> RegionConvention:
    """Look up a convention by name.

    Args:
        name: a key of :data:`REGION_CONVENTIONS`.

    Raises:
        ValueError: for an unknown name. The message lists the known ones.

    Example:
        >>> region_convention("brats2023").regions["TC"]
        (1, 3)
    """
    if name not in REGION_CONVENTIONS:
        expected = f"a region convention among {sorted(REGION_CONVENTIONS)}"
        raise ValueError(error_sentence("regions", expected, repr(name), "name one of these, or give the regions themselves"))
    return REGION_CONVENTIONS[name]


def regions_without_label(
    regions: Mapping[str, Sequence[int]], values: Iterable[int], *, where: str = "regions", fatal: bool = False
) -> DataProblem | None:
    """Return the problem of regions that have none of the label values that the files hold, and so are empty everywhere.

    Args:
        regions: region name to its label values, as :func:`monai_jdt.raters.named_regions` gives them.
        values: the label values that the files hold, or may hold.
        where: what the line begins with: the argument or setting that gave the regions.
        fatal: whether the problem is an error. In one case an empty region is legal (a tumour that does not enhance); in a whole
            data set it is a mistake.

    Returns:
        One problem that names each such region, the values that are there, and those that no region names; None if every
        region has a value.

    Example:
        >>> regions_without_label({"nodule": (1,)}, [0, 1]) is None
        True
        >>> print(regions_without_label({"nodule": (1,)}, [0, 255]))  # doctest: +NORMALIZE_WHITESPACE
        warning: regions: expected label values that the files hold (0, 255), got nodule [1]: an empty region.
        Fix: name values that are there, such as [255].
    """
    found = sorted({int(value) for value in values})
    empty = {name: list(group) for name, group in regions.items() if not set(group) & set(found)}
    if not empty:
        return None
    named = {value for group in regions.values() for value in group}
    unnamed = [value for value in found if value != 0 and value not in named]
    held = ", ".join(str(value) for value in found[:10]) + (f" and {len(found) - 10} more" if len(found) > 10 else "")
    got = ", ".join(f"{name} {group}" for name, group in empty.items())
    got += ": an empty region" if len(empty) == 1 else ": empty regions"
    if unnamed:
        fix = f"name values that are there, such as {unnamed[:3]}"
    else:
        fix = "name values that are there" + ("" if fatal else ", or nothing, if no rater marked this here")
    return DataProblem(where, f"label values that the files hold ({held or 'none'})", got, fix, fatal)
