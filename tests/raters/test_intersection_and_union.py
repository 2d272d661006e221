"""What every rater, and what any rater marks."""

import numpy as np
import torch

from monai_jdt.raters import (
    fuse_intersection,
    fuse_union,
)
from tests.raters.stacks import REGIONS, draw


def test_intersection_and_union() -> None:
    votes = draw(5, 3)
    for c, group in enumerate(REGIONS):
        marked = np.isin(votes.numpy(), group)
        np.testing.assert_array_equal(fuse_intersection(votes, REGIONS)[c].numpy(), marked.all(0))
        np.testing.assert_array_equal(fuse_union(votes, REGIONS)[c].numpy(), marked.any(0))
    empty = torch.cat([votes, torch.zeros_like(votes[:1])])
    assert fuse_intersection(empty, REGIONS).sum() == 0
    assert torch.equal(fuse_union(empty, REGIONS), fuse_union(votes, REGIONS))
