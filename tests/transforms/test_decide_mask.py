"""Masks of probabilities: thresholds as MONAI's, and the best expected score."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import AsDiscrete

from monai_jdt.functional.expected_overlap import best_expected_mask
from monai_jdt.transforms import DecideMask, DecideMaskd


@pytest.fixture
def prob() -> torch.Tensor:
    source = torch.Generator().manual_seed(0)
    return torch.softmax(3 * torch.randn(3, 5, 6, 7, generator=source), 0)


def test_a_threshold_is_monais(prob: torch.Tensor) -> None:
    assert torch.equal(DecideMask("threshold", threshold=0.3)(prob).as_tensor(), torch.as_tensor(AsDiscrete(threshold=0.3)(prob)))
    assert torch.equal(
        DecideMask("threshold", softmax=True)(prob).as_tensor(), torch.as_tensor(AsDiscrete(argmax=True, to_onehot=3)(prob))
    )


@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize("score", ["dice", "jaccard"])
def test_an_item_is_a_batch_of_one(prob: torch.Tensor, score: str, softmax: bool) -> None:
    mask, expected = best_expected_mask(prob[None], score, softmax=softmax)
    item: dict[Hashable, Any] = {"pred": MetaTensor(prob, affine=torch.diag(torch.tensor([2.0, 1, 1, 1]))), "other": 1}
    before = item["pred"].clone()
    got = DecideMaskd("pred", f"expected_{score}", softmax=softmax, expected_postfix="expected")(item)
    assert torch.equal(got["pred"].as_tensor(), mask[0].float())
    assert torch.equal(got["pred"].affine, item["pred"].affine)
    assert torch.equal(got["pred_expected"].nan_to_num(-1), expected[0].nan_to_num(-1))
    assert torch.equal(item["pred"], before)
    assert set(item) == {"pred", "other"}


def test_a_level_keeps_doubtful_channels_empty() -> None:
    prob = torch.tensor([[0.2, 0.2, 0.1, 0.0], [0.9, 0.9, 0.1, 0.0]])
    assert DecideMask("expected_dice", both_empty="zero")(prob).any(1).tolist() == [True, True]
    assert DecideMask("expected_dice", both_empty="zero", empty_below=0.5)(prob).any(1).tolist() == [False, True]


def test_bad_arguments_are_named(prob: torch.Tensor) -> None:
    mistakes: list[tuple[dict[str, Any], str]] = [
        ({"decision": "argmax"}, "decision: expected one of"),
        ({"both_empty": "nan"}, "both_empty: expected"),
        ({"empty_below": -0.1}, "empty_below"),
        ({"decision": "threshold", "empty_below": 0.1}, "empty_below: expected 0 with decision"),
        ({"threshold": 2}, "threshold"),
    ]
    for arguments, words in mistakes:
        with pytest.raises(ValueError, match=words):
            DecideMask(**arguments)
    with pytest.raises(ValueError, match="prob: expected values in"):
        DecideMask()(3 * prob)
