"""Samples drawn in a postprocessing."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import torch
from monai.data import MetaTensor

from monai_jdt.functional.drawn_samples import draw_samples
from monai_jdt.transforms import DrawSamples, DrawSamplesd


def test_an_item_is_drawn_as_a_batch_of_one() -> None:
    prob = torch.rand(2, 5, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(DrawSamples(4, seed=3)(prob).as_tensor(), draw_samples(prob[None], 4, seed=3)[0])


def test_samples_stand_beside_the_probability_or_in_its_place() -> None:
    item: dict[Hashable, Any] = {"pred": MetaTensor(torch.rand(1, 5), meta={"filename_or_obj": "case"}), "other": 1}
    made = DrawSamplesd("pred", 3, coupling="shared")(item)
    assert sorted(map(str, item)) == ["other", "pred"]
    assert made["pred"] is item["pred"]
    assert made["pred_samples"].shape == (3, 1, 5)
    assert made["pred_samples"].meta["filename_or_obj"] == "case"
    assert torch.equal(DrawSamplesd("pred", 3, coupling="shared", postfix=None)(item)["pred"], made["pred_samples"])
    assert DrawSamplesd("absent", 3, allow_missing_keys=True)(item).keys() == item.keys()
