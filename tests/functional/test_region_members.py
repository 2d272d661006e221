"""Which voxels belong to a group of label values."""

import pytest
import torch

from monai_jdt.functional.region_members import region_members


class Elsewhere(torch.Tensor):
    """A tensor that is not plain."""


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.bool])
def test_a_value_that_the_dtype_cannot_hold_is_nowhere(dtype: torch.dtype) -> None:
    """Compared as bytes, 300 would be 44, and -1 would be 255; a subclass of Tensor goes the way that other devices go."""
    labels = torch.tensor([0, 1, 44, 255]).to(dtype).as_subclass(Elsewhere)
    big = 300 if dtype != torch.int16 else 65536 + 44
    assert not region_members(labels, (big,)).any()
    assert region_members(labels, (1, big)).tolist() == [False, True, dtype == torch.bool, dtype == torch.bool]
    if dtype == torch.uint8:
        assert not region_members(labels, (-1,)).any()
