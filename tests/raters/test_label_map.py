"""One label value per voxel from the channels of regions."""

import pytest
import torch

from monai_jdt.data import region_convention
from monai_jdt.raters import regions_to_label_map


def test_values_come_back_from_the_regions_that_they_make() -> None:
    convention = region_convention("brats2021")
    values = torch.tensor([[0, 1], [2, 4]])
    groups = list(convention.regions.values())
    channels = torch.stack([torch.isin(values, torch.tensor(group)).float() for group in groups])
    assert regions_to_label_map(channels, groups).tolist() == values.tolist()


def test_half_is_background_and_a_tie_is_the_lower_value() -> None:
    label = torch.tensor([[0.5, 0.7, 0.3, 0.6], [0.0, 0.1, 0.6, 0.6]])
    assert regions_to_label_map(label, [[3], [300]]).tolist() == [0, 3, 300, 3]
    assert regions_to_label_map(label, [[3], [300]]).dtype == torch.int16


def test_one_region_for_each_channel() -> None:
    with pytest.raises(ValueError, match="expected 2 regions, one per channel, got 1"):
        regions_to_label_map(torch.zeros(2, 3), [[1]])


@pytest.mark.parametrize("value", [-32769, 32768])
def test_a_value_beyond_int16_is_refused(value: int) -> None:
    words = f"regions: expected label values from -32768 to 32767 for one label map, got {value}. Fix: take the form hard or soft"
    with pytest.raises(ValueError, match=words):
        regions_to_label_map(torch.zeros(1, 3), [[1, value]])
    assert regions_to_label_map(torch.ones(1, 1), [[-32768]]).tolist() == [-32768]
