"""The share of raters, against loops."""

import numpy as np
import pytest
import torch

from monai_jdt.raters import fuse_average, fuse_majority
from tests.raters.stacks import REGIONS


def loop_counts(votes: np.ndarray, regions: list[tuple[int, ...]]) -> np.ndarray:
    """The definition, one voxel at a time."""
    counts = np.zeros((len(regions), *votes.shape[1:]))
    for c, group in enumerate(regions):
        for voxel in np.ndindex(*votes.shape[1:]):
            for rater in range(votes.shape[0]):
                counts[c][voxel] += votes[rater][voxel] in group
    return counts


@pytest.mark.parametrize("raters", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64])
def test_fusions_equal_the_loops(raters: int, dtype: torch.dtype) -> None:
    votes = np.random.default_rng(raters).choice([0, 1, 2, 4], size=(raters, 3, 4, 5))
    counts = loop_counts(votes, REGIONS)
    stack = torch.as_tensor(votes).to(dtype)
    average, majority = fuse_average(stack, REGIONS), fuse_majority(stack, REGIONS)
    assert average.dtype == majority.dtype == torch.float32
    np.testing.assert_allclose(average.numpy(), counts / raters, rtol=1e-7)
    np.testing.assert_array_equal(majority.numpy(), counts > raters / 2)


def test_order_of_raters_and_space_change_nothing() -> None:
    votes = torch.randint(0, 3, (5, 6, 7), generator=torch.Generator().manual_seed(0))
    assert torch.equal(fuse_average(votes, [1, 2]), fuse_average(votes[[4, 2, 0, 1, 3]], [1, 2]))
    assert torch.equal(fuse_average(votes.transpose(1, 2), [1, 2]), fuse_average(votes, [1, 2]).transpose(1, 2))


def test_classes_of_one_rater_are_one_hot() -> None:
    votes = torch.randint(0, 4, (1, 8, 8), generator=torch.Generator().manual_seed(0))
    one_hot = torch.nn.functional.one_hot(votes[0], 4).movedim(-1, 0).float()
    assert torch.equal(fuse_average(votes, range(4)), one_hot)
    assert torch.equal(fuse_majority(votes, range(4)), one_hot)


def test_a_value_that_the_dtype_cannot_hold_is_nowhere() -> None:
    votes = torch.tensor([[0, 1], [44, 1]], dtype=torch.uint8)  # 300 wrapped to a byte would be 44
    assert fuse_average(votes, [300, -1]).sum() == 0
