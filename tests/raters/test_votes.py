"""Which voxels belong to a region, and how many raters say so."""

import pytest
import torch

from monai_jdt.raters import fuse_average, region_votes


def test_bool_votes_and_no_space():
    assert fuse_average(torch.tensor([True, False, True, True]), [1]).tolist() == [0.75]
    assert region_votes(torch.zeros(2, 0, 3, dtype=torch.uint8), [1]).shape == (1, 0, 3)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.bool])
def test_a_value_that_the_dtype_cannot_hold_is_nowhere(dtype):
    """Compared as bytes, 300 would be 44, and -1 would be 255; a subclass of Tensor goes the way that other devices go."""
    from monai_jdt.raters.votes import region_members

    labels = torch.tensor([0, 1, 44, 255]).to(dtype).as_subclass(type("Elsewhere", (torch.Tensor,), {}))
    big = 300 if dtype != torch.int16 else 65536 + 44
    assert not region_members(labels, (big,)).any()
    assert region_members(labels, (1, big)).tolist() == [False, True, dtype == torch.bool, dtype == torch.bool]
    if dtype == torch.uint8:
        assert not region_members(labels, (-1,)).any()


def test_refusals():
    with pytest.raises(TypeError, match="integer dtype"):
        fuse_average(torch.zeros(2, 3), [1])
    with pytest.raises(ValueError, match="at least one rater"):
        fuse_average(torch.zeros(0, 3, dtype=torch.uint8), [1])
    with pytest.raises(ValueError, match="at least one region"):
        fuse_average(torch.zeros(2, 3, dtype=torch.uint8), [])
