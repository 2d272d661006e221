"""One label of a stack: the functions by name, weights, metadata and wrong arguments."""

import functools
from collections.abc import Hashable
from typing import Any

import numpy as np
import pytest
import torch

from monai_jdt.raters import (
    fuse_average,
    fuse_dice_weighted,
    fuse_intersection,
    fuse_majority,
    fuse_multilabel_staple,
    fuse_staple,
    fuse_union,
    fuse_weighted,
)
from monai_jdt.transforms import FuseRaters, FuseRatersd, LoadRaters, LoadRatersd, PadRatersd
from tests.transforms import rater_files
from tests.transforms.stacks import AFFINE, draw

BY_NAME = {
    "average": fuse_average,
    "majority": fuse_majority,
    "dice_weighted": fuse_dice_weighted,
    "staple": fuse_staple,
    "multilabel_staple": fuse_multilabel_staple,
    "intersection": fuse_intersection,
    "union": fuse_union,
}


@pytest.mark.parametrize("method", BY_NAME)
def test_methods_are_the_functions(method: str) -> None:
    votes = draw()
    label = FuseRaters("brats2021", method)(votes)
    assert torch.equal(label.as_tensor(), BY_NAME[method](votes.as_tensor(), [(1, 4), (1, 2, 4), (4,)]))
    assert torch.equal(label.affine, AFFINE)
    assert label.meta["filename_or_obj"] == "a.nii"


@pytest.mark.parametrize("method", [*BY_NAME, "weighted", "random"])
def test_padded_raters_change_no_fusion(method: str) -> None:
    votes = draw()
    padded = PadRatersd("votes", 5, value=4)({"votes": votes})
    plain: dict[Hashable, Any] = {"votes": votes, "rater_weights": torch.ones(3)}
    fuse = FuseRatersd("votes", "brats2021", method, "label", weights_key="rater_weights")
    if method == "random":  # which rater depends on the stack; that it is one of the three does not
        alone = [fuse_average(votes.as_tensor()[r : r + 1], [(1, 4), (1, 2, 4), (4,)]) for r in range(3)]
        assert any(torch.equal(fuse(padded)["label"].as_tensor(), one) for one in alone)
    else:
        assert torch.equal(fuse(padded)["label"], fuse(plain)["label"])


def test_weights_of_the_constructor_and_of_the_item() -> None:
    votes = draw()
    expected = fuse_weighted(votes.as_tensor(), [1], [1, 2, 5])
    assert torch.equal(FuseRaters([1], "weighted", [1, 2, 5])(votes).as_tensor(), expected)
    item: dict[Hashable, Any] = {"votes": votes, "w": torch.tensor([1.0, 2.0, 5.0])}
    assert torch.equal(FuseRatersd("votes", [1], "weighted", weights_key="w")(item)["votes"].as_tensor(), expected)
    # "average" takes weights for who is there, not for how much
    assert torch.equal(FuseRaters([1], "average", [1, 2, 0])(votes).as_tensor(), fuse_average(votes.as_tensor()[:2], [1]))
    with pytest.raises(ValueError, match="rater_weights: expected one weight for each rater"):
        FuseRaters([1], "weighted")(votes)
    for wrong in (FuseRaters, functools.partial(FuseRatersd, "votes")):
        with pytest.raises(ValueError, match="paper_compatible"):
            wrong([1], method="average", paper_compatible=True)


def test_paper_compatible_reaches_the_function() -> None:
    votes = draw()
    votes[2] = 0
    label = FuseRatersd(["v", "v"], [1], ["dice_weighted", "average"], ["a", "b"], paper_compatible=True)({"v": votes})["a"]
    assert torch.equal(label.as_tensor(), fuse_dice_weighted(votes.as_tensor(), [1], paper_compatible=True))


def test_the_random_rater_of_a_case_stays_and_cases_differ() -> None:
    fuse = FuseRaters([1, 2, 4], "random", seed=3)
    chosen = []
    for seed in range(30):
        votes = draw(seed)
        label = fuse(votes)
        assert torch.equal(label, fuse(votes))
        alone = [fuse_average(votes.as_tensor()[r : r + 1], [1, 2, 4]) for r in range(3)]
        chosen += [r for r in range(3) if torch.equal(alone[r], label.as_tensor())]
    assert set(chosen) == {0, 1, 2}


def test_fused_labels_keep_the_geometry(paths: list[str], labels: np.ndarray) -> None:
    votes = LoadRaters()(paths)
    label = FuseRaters("brats2021")(votes)
    assert label.shape == (3, 5, 6, 4)
    assert label.dtype == torch.float32
    np.testing.assert_allclose(label.affine.numpy(), rater_files.AFFINE)
    assert label.meta["filename_or_obj"] == paths[0]
    np.testing.assert_allclose(label[2].numpy(), (labels == 4).mean(0), rtol=1e-6)


def test_one_stack_gives_both_labels(paths: list[str], labels: np.ndarray) -> None:
    item = LoadRatersd("raters")({"raters": paths})
    fused = FuseRatersd(["raters"] * 2, {"any": [1, 2, 4]}, ["average", "majority"], ["label", "majority"])(item)
    np.testing.assert_allclose(fused["label"][0].numpy(), (labels > 0).mean(0), rtol=1e-6)
    np.testing.assert_array_equal(fused["majority"][0].numpy(), (labels > 0).sum(0) >= 2)
    assert fused["raters"].shape == (3, 5, 6, 4)
    in_place = FuseRatersd("raters", {"any": [1, 2, 4]})(item)
    assert in_place["raters"].shape == (1, 5, 6, 4)


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="method"):
        FuseRaters("msd", "mean")
    with pytest.raises(ValueError, match="output key"):
        FuseRatersd(["raters", "raters"], "msd", "average")


def test_missing_keys() -> None:
    assert FuseRatersd("raters", "msd", allow_missing_keys=True)({"image": 1}) == {"image": 1}
