"""Votes that are whole numbers again after resampling."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import (
    Spacingd,
)

from monai_jdt.transforms import (
    FuseRaters,
    LabelRegions,
    RestoreVotes,
    RestoreVotesd,
)
from tests.transforms.stacks import AFFINE


def test_votes_are_whole_again_after_resampling() -> None:
    votes = MetaTensor(torch.from_numpy(np.random.default_rng(0).choice([0, 1, 4], size=(3, 7, 6, 5)).astype(np.uint8)), affine=AFFINE)
    moved = Spacingd("raters", 1.5, mode="nearest")({"raters": votes})
    whole = RestoreVotesd("raters")(moved)["raters"]
    assert whole.dtype == torch.uint8
    assert whole.unique().tolist() == [0, 1, 4]
    assert FuseRaters([1, 4])(whole).shape == (2, *whole.shape[1:])
    with pytest.raises(ValueError, match=r"'raters': votes: expected whole label values, got .*mode='nearest'"):
        RestoreVotesd("raters")(Spacingd("raters", 1.5, mode="bilinear")({"raters": votes}))
    assert RestoreVotes()(torch.tensor([[-3.0, 300.0]])).dtype == torch.int16


def test_label_values_by_a_scale_factor_are_whole() -> None:
    """As the loader of raters takes them; a cast alone would make 1 of 1.9999999."""
    values = torch.tensor([[0.0, 0.9999999, 1.9999999, 4.0000002]], dtype=torch.float64)
    assert RestoreVotes()(values).tolist() == [[0, 1, 2, 4]]
    assert LabelRegions("brats2021")(values).tolist() == [[0, 1, 0, 1], [0, 1, 1, 1], [0, 0, 0, 1]]
    with pytest.raises(ValueError, match=r"expected whole label values, got 1\.002"):
        RestoreVotes()(values + torch.tensor([0, 0.002, 0, 0]))


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.float32])
def test_values_too_large_for_int16_are_no_other_values(dtype: torch.dtype) -> None:
    """Cast, 65540 would be 4."""
    with pytest.raises(ValueError, match="votes: expected whole label values within int16, got 65540"):
        RestoreVotes()(torch.tensor([[1, 65540]], dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int8, torch.int16, torch.int64, torch.float16])
def test_votes_of_any_dtype_are_restored(dtype: torch.dtype) -> None:
    values = [[0, 1, 1]] if dtype == torch.bool else [[0, 1, 100]]
    restored = RestoreVotes()(torch.tensor(values).to(dtype))
    assert (restored.dtype, restored.tolist()) == (torch.uint8, values)
