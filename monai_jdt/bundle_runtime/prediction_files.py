"""Which predictions are pictures."""

from __future__ import annotations

from collections.abc import Sequence

from monai_jdt.data.files.label_pictures import LARGEST_INDEX
from monai_jdt.data.files.volumes import FLAT_PICTURES
from monai_jdt.raters import named_regions
from monai_jdt.raters.region_names import RegionSpec


def predicts_pictures(images: Sequence[str], form: str, channels: int, regions: RegionSpec | None) -> bool:
    """Return whether predictions are pictures unless the user says otherwise: one map of whole numbers of each flat picture.

    Args:
        images: the file of each case, or its first one.
        form: what a prediction holds.
        channels: how many channels are predicted, without a background.
        regions: the label values of each channel, for the form `map`. Those that a palette cannot hold need NIfTI.

    Example:
        >>> predicts_pictures(["a.png"], "map", 2, [[1], [2]]), predicts_pictures(["a.png"], "map", 2, [[1], [300]])
        (True, False)
    """
    is_one_map = form == "map" or (form == "hard" and channels == 1)
    if not is_one_map or not all(path.lower().endswith(FLAT_PICTURES) for path in images):
        return False
    groups = named_regions(regions).values() if form == "map" and regions is not None else ()
    return all(0 <= value <= LARGEST_INDEX for group in groups for value in group)
