"""Which voxels belong to a region, and how many raters say so."""

import pytest
import torch

from monai_jdt.raters import fuse_average, region_votes


def test_bool_votes_and_no_space() -> None:
    assert fuse_average(torch.tensor([True, False, True, True]), [1]).tolist() == [0.75]
    assert region_votes(torch.zeros(2, 0, 3, dtype=torch.uint8), [1]).shape == (1, 0, 3)


def test_wrong_votes_are_refused() -> None:
    with pytest.raises(TypeError, match="integer dtype"):
        fuse_average(torch.zeros(2, 3), [1])
    with pytest.raises(ValueError, match="at least one rater"):
        fuse_average(torch.zeros(0, 3, dtype=torch.uint8), [1])
    with pytest.raises(ValueError, match="at least one region"):
        fuse_average(torch.zeros(2, 3, dtype=torch.uint8), [])
