"""Which label values make which region, by the convention of each year's BraTS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


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
        ValueError: for an unknown name; the message lists the known ones.

    Example:
        >>> region_convention("brats2023").regions["TC"]
        (1, 3)
    """
    if name not in REGION_CONVENTIONS:
        raise ValueError(f"expected a region convention among {sorted(REGION_CONVENTIONS)}, got {name!r}")
    return REGION_CONVENTIONS[name]
