"""What more than half of the raters mark."""

import torch

from monai_jdt.raters import fuse_majority


def test_ties_are_background_and_nested_regions_are_judged_as_regions() -> None:
    votes = torch.tensor([[1, 1], [4, 0]])
    # two raters: both in (1, 4) at voxel 0, though neither value has a majority there; one of two at voxel 1 is a tie
    assert fuse_majority(votes, [(1, 4), 1, 4]).tolist() == [[1, 0], [0, 0], [0, 0]]
