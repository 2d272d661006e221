import numpy as np
import pytest
import torch

from monai_jdt.raters import fuse_average, fuse_majority, named_regions, region_votes

REGIONS = [(1, 4), (1, 2, 4), (4,)]


def loop_counts(votes, regions):
    """The definition, one voxel at a time."""
    counts = np.zeros((len(regions), *votes.shape[1:]))
    for c, group in enumerate(regions):
        for voxel in np.ndindex(*votes.shape[1:]):
            for rater in range(votes.shape[0]):
                counts[(c, *voxel)] += votes[(rater, *voxel)] in group
    return counts


@pytest.mark.parametrize("raters", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64])
def test_fusions_equal_the_loops(raters, dtype):
    votes = np.random.default_rng(raters).choice([0, 1, 2, 4], size=(raters, 3, 4, 5))
    counts = loop_counts(votes, REGIONS)
    stack = torch.as_tensor(votes).to(dtype)
    average, majority = fuse_average(stack, REGIONS), fuse_majority(stack, REGIONS)
    assert average.dtype == majority.dtype == torch.float32
    np.testing.assert_allclose(average.numpy(), counts / raters, rtol=1e-7)
    np.testing.assert_array_equal(majority.numpy(), counts > raters / 2)


def test_ties_are_background_and_nested_regions_are_judged_as_regions():
    votes = torch.tensor([[1, 1], [4, 0]])
    # two raters: both in (1, 4) at voxel 0, though neither value has a majority there; one of two at voxel 1 is a tie
    assert fuse_majority(votes, [(1, 4), 1, 4]).tolist() == [[1, 0], [0, 0], [0, 0]]


def test_order_of_raters_and_space_change_nothing():
    votes = torch.randint(0, 3, (5, 6, 7), generator=torch.Generator().manual_seed(0))
    assert torch.equal(fuse_average(votes, [1, 2]), fuse_average(votes[[4, 2, 0, 1, 3]], [1, 2]))
    assert torch.equal(fuse_average(votes.transpose(1, 2), [1, 2]), fuse_average(votes, [1, 2]).transpose(1, 2))


def test_classes_of_one_rater_are_one_hot():
    votes = torch.randint(0, 4, (1, 8, 8), generator=torch.Generator().manual_seed(0))
    one_hot = torch.nn.functional.one_hot(votes[0], 4).movedim(-1, 0).float()
    assert torch.equal(fuse_average(votes, range(4)), one_hot)
    assert torch.equal(fuse_majority(votes, range(4)), one_hot)


def test_bool_votes_and_no_space():
    assert fuse_average(torch.tensor([True, False, True, True]), [1]).tolist() == [0.75]
    assert region_votes(torch.zeros(2, 0, 3, dtype=torch.uint8), [1]).shape == (1, 0, 3)


def test_refusals():
    with pytest.raises(TypeError, match="integer dtype"):
        fuse_average(torch.zeros(2, 3), [1])
    with pytest.raises(ValueError, match="at least one rater"):
        fuse_average(torch.zeros(0, 3, dtype=torch.uint8), [1])
    with pytest.raises(ValueError, match="at least one region"):
        fuse_average(torch.zeros(2, 3, dtype=torch.uint8), [])


def test_named_regions():
    assert named_regions("msd") == {"TC": (2, 3), "WT": (1, 2, 3), "ET": (3,)}
    assert named_regions({"cord": 1}) == named_regions({"cord": [1]}) == {"cord": (1,)}
    assert named_regions([[1, 4], 4]) == {"label_1_4": (1, 4), "label_4": (4,)}
    for wrong in ([], [[]], [1, [1]], "brats1999"):
        with pytest.raises(ValueError, match="expected"):
            named_regions(wrong)
    with pytest.raises(TypeError, match="whole label values"):
        named_regions([[1.5]])


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
