"""One rater of a stack, another one at each call."""

from collections.abc import Hashable
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import CacheDataset
from monai.transforms import Compose

from monai_jdt.transforms import PadRatersd, RandSampleRater, RandSampleRaterd
from tests.transforms.stacks import AFFINE, draw


def test_a_sampled_rater_is_a_rater_by_its_weight() -> None:
    votes = draw()
    sample = RandSampleRater([1, 0, 3])
    sample.set_random_state(seed=0)
    drawn = []
    for _ in range(400):
        label = sample(votes)
        assert torch.equal(label.as_tensor()[0], votes.as_tensor()[sample.rater])
        drawn.append(sample.rater)
    assert set(drawn) == {0, 2}
    assert np.mean(np.array(drawn) == 0) == pytest.approx(0.25, abs=0.08)  # sd .022
    assert label.dtype == votes.dtype
    assert torch.equal(label.affine, AFFINE)


def test_the_draw_is_split_from_the_action_and_seeded() -> None:
    votes = draw()
    sample = RandSampleRater()
    sample.set_random_state(seed=1)
    first = [sample(votes) is not None and sample.rater for _ in range(20)]
    sample.set_random_state(seed=1)
    assert [sample(votes) is not None and sample.rater for _ in range(20)] == first
    assert torch.equal(sample(votes, randomize=False), sample(votes, randomize=False))
    one = RandSampleRaterd("votes")
    one.set_random_state(seed=1)
    assert [one({"votes": votes}) is not None and one.sampler.rater for _ in range(20)] == first
    # `Compose` seeds it like any other
    chain = Compose([RandSampleRaterd("votes")]).set_random_state(seed=5)
    a = [chain({"votes": votes})["votes"] for _ in range(5)]
    chain.set_random_state(seed=5)
    assert all(torch.equal(x, chain({"votes": votes})["votes"]) for x in a)


def test_one_draw_for_all_keys() -> None:
    item: dict[Hashable, Any] = {"a": draw(0), "b": draw(1)}
    sample = RandSampleRaterd(["a", "b"])
    sample.set_random_state(seed=2)
    out = sample(item)
    rater = [r for r in range(3) if torch.equal(out["a"][0], item["a"][r])]
    assert torch.equal(out["b"][0], item["b"][rater[0]])
    assert item["a"].shape[0] == 3
    with pytest.raises(ValueError, match="as many raters"):
        RandSampleRaterd(["a", "b"])({"a": draw(0), "b": draw(1, 4)})


def test_a_cache_does_not_freeze_the_draw() -> None:
    data = CacheDataset([{"votes": draw()}], RandSampleRaterd("votes"), progress=False)
    seen = {tuple(data[0]["votes"].flatten().tolist()) for _ in range(30)}
    assert len(seen) == 3


def test_missing_raters_are_not_drawn() -> None:
    padded = PadRatersd("votes", 6, value=77)({"votes": draw()})
    sample = RandSampleRaterd("votes", weights_key="rater_weights").set_random_state(seed=0)
    assert all(sample(padded)["votes"].max() < 77 for _ in range(50))
