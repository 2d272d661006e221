"""Batches of cases with different numbers of raters."""

import functools
from typing import Any

import pytest
import torch
from monai.data import DataLoader, Dataset

from monai_jdt.losses import DiceSemimetricLoss
from monai_jdt.raters import (
    fuse_average,
)
from monai_jdt.transforms import rater_collate
from tests.transforms.stacks import draw


def test_a_loader_gives_the_loss_what_it_takes() -> None:
    items: list[dict[str, Any]] = [
        {"raters": draw(0, 2), "case": "a"},
        {"raters": draw(1, 4), "case": "b"},
        {"raters": draw(2, 3), "case": "c"},
    ]
    collate = functools.partial(rater_collate, keys="raters")
    (batch,) = DataLoader(Dataset(items), batch_size=3, collate_fn=collate, num_workers=0)
    assert batch["raters"].shape == (3, 4, 4, 5, 3)
    assert batch["rater_weights"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 0]]
    regions = [[1, 4], [1, 2, 4], [4]]
    logits = torch.randn(3, 3, 4, 5, 3, generator=torch.Generator().manual_seed(0))
    loss = DiceSemimetricLoss(sigmoid=True, votes=True, regions=regions)
    got = loss(logits, batch["raters"], rater_weights=batch["rater_weights"])
    soft = torch.stack([fuse_average(item["raters"].as_tensor(), regions) for item in items])
    assert float(got) == pytest.approx(float(DiceSemimetricLoss(sigmoid=True)(logits, soft)), rel=1e-6)


def test_crops_in_lists_and_empty_batches() -> None:
    batch = rater_collate([[{"votes": draw(0, 2)}, {"votes": draw(1, 2)}], [{"votes": draw(2, 3)}]])
    assert batch["votes"].shape[:2] == batch["rater_weights"].shape == (3, 3)
    with pytest.raises(ValueError, match="at least one item"):
        rater_collate([])


def test_the_key_of_data_lists_is_understood() -> None:
    batch = rater_collate([{"raters": draw(0, 2)}, {"raters": draw(1, 3)}])
    assert batch["raters"].shape[:2] == batch["rater_weights"].shape == (2, 3)
    both = rater_collate([{"raters": draw(0, 2), "votes": draw(1, 2)}])
    assert "rater_weights" in both
    assert both["votes"].shape[:2] == (1, 2)


def test_what_is_no_stack_is_one_line_with_the_key() -> None:
    with pytest.raises(KeyError, match=r"batch\[1\] \(case b\): expected the key 'votes' of a rater stack, got the keys case, "):
        rater_collate([{"votes": draw(0, 2)}, {"case": "b", "label": draw(1, 2)}])
    with pytest.raises(KeyError, match=r"expected the key 'drawn' .* got the keys votes. Fix: .*keys='raters'"):
        rater_collate([{"votes": draw(0, 2)}], keys="drawn")
    with pytest.raises(TypeError, match=r"batch\[0\]\['raters'\]: expected a rater stack .*, got a list. Fix: load "):
        rater_collate([{"raters": ["a.nii", "b.nii"]}])


def test_names_of_different_numbers_of_raters_collate() -> None:
    items = [{"votes": torch.zeros(n, 2, dtype=torch.uint8), "rater_names": ["anna", "ben"][:n]} for n in (1, 2)]
    # MONAI's collation gives the names of each slot over the batch
    assert [list(slot) for slot in rater_collate(items)["rater_names"]] == [["anna", "anna"], ["", "ben"]]
