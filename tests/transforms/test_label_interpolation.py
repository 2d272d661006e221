"""Spatial transforms that would interpolate votes are refused."""

from typing import Any

import pytest
from monai.transforms import (
    Compose,
    Flipd,
    RandAffined,
    RandRotated,
    RandZoomd,
    Spacingd,
)

from monai_jdt.transforms import (
    nearest_only,
)


def test_votes_are_resampled_by_nearest_only() -> None:
    good = Spacingd(["image", "raters"], 2.0, mode=["bilinear", "nearest"])
    assert nearest_only(good, "raters") is good
    chain = Compose([good, RandAffined(["image", "raters"], mode=("bilinear", "bilinear"))])
    with pytest.raises(ValueError, match="RandAffined: expected mode 'nearest' for votes under 'raters', got 'bilinear'"):
        nearest_only(chain, ["raters"])
    spline: Any = 3  # MONAI takes it, its annotation does not name it
    nearest: Any = 0
    for wrong in (RandZoomd("raters", mode="area"), Spacingd("raters", 2.0, mode=spline), RandRotated("raters", mode="bilinear")):
        with pytest.raises(ValueError, match="expected mode 'nearest'"):
            nearest_only(wrong, "raters")
    for right in (
        Flipd("raters", 0),
        Spacingd("raters", 2.0, mode=nearest),
        RandRotated("raters", mode="nearest"),
        RandZoomd("image", mode="area"),
    ):
        assert nearest_only(right, "raters") is right
