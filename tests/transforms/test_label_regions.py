"""Channels of label values by a data set's convention."""

import pytest
import torch
from monai.data import MetaTensor

from monai_jdt.transforms import (
    LabelRegions,
    LabelRegionsd,
)


@pytest.mark.parametrize(
    ("convention", "values", "channels"),
    [  # TC, WT, ET of each label value, written out
        ("brats2018", [0, 1, 2, 4], [[0, 1, 0, 1], [0, 1, 1, 1], [0, 0, 0, 1]]),
        ("brats2021", [0, 1, 2, 4], [[0, 1, 0, 1], [0, 1, 1, 1], [0, 0, 0, 1]]),
        ("brats2023", [0, 1, 2, 3], [[0, 1, 0, 1], [0, 1, 1, 1], [0, 0, 0, 1]]),
        ("brats2024", [0, 1, 2, 3, 4], [[0, 1, 0, 1, 0], [0, 1, 1, 1, 0], [0, 0, 0, 1, 0]]),
        ("msd", [0, 1, 2, 3], [[0, 0, 1, 1], [0, 1, 1, 1], [0, 0, 0, 1]]),
    ],
)
def test_regions_of_the_conventions(convention: str, values: list[int], channels: list[list[int]]) -> None:
    label = MetaTensor(torch.tensor([values], dtype=torch.float32), meta={"filename_or_obj": "a.nii"})
    out = LabelRegionsd("label", convention)({"label": label})["label"]
    assert out.tolist() == channels
    assert out.dtype == torch.float32
    assert out.meta["filename_or_obj"] == "a.nii"


def test_regions_refuse_stacks_and_fractions() -> None:
    with pytest.raises(ValueError, match=r"index map \(1, \*S\)"):
        LabelRegions("msd")(torch.zeros(2, 4))
    with pytest.raises(ValueError, match="whole label values"):
        LabelRegions("msd")(torch.full((1, 4), 0.5))
