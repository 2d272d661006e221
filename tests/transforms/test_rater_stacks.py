import functools

import numpy as np
import pytest
import torch
from monai.data import CacheDataset, DataLoader, MetaTensor
from monai.transforms import Compose

from monai_jdt.losses import DiceSemimetricLoss
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
from monai_jdt.transforms import FuseRaters, FuseRatersd, PadRaters, PadRatersd, RandSampleRater, RandSampleRaterd, rater_collate

AFFINE = torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0], dtype=torch.float64))
BY_NAME = {
    "average": fuse_average,
    "majority": fuse_majority,
    "dice_weighted": fuse_dice_weighted,
    "staple": fuse_staple,
    "multilabel_staple": fuse_multilabel_staple,
    "intersection": fuse_intersection,
    "union": fuse_union,
}


def draw(seed=0, raters=3):
    votes = np.random.default_rng(seed).choice([0, 1, 2, 4], size=(raters, 4, 5, 3), p=[0.4, 0.4, 0.1, 0.1])
    return MetaTensor(torch.from_numpy(votes.astype(np.uint8)), affine=AFFINE, meta={"filename_or_obj": "a.nii"})


@pytest.mark.parametrize("method", BY_NAME)
def test_methods_are_the_functions(method):
    votes = draw()
    label = FuseRaters("brats2021", method)(votes)
    assert torch.equal(label.as_tensor(), BY_NAME[method](votes.as_tensor(), [(1, 4), (1, 2, 4), (4,)]))
    assert torch.equal(label.affine, AFFINE)
    assert label.meta["filename_or_obj"] == "a.nii"


@pytest.mark.parametrize("method", [*BY_NAME, "weighted", "random"])
def test_padded_raters_change_no_fusion(method):
    votes = draw()
    padded = PadRatersd("votes", 5, value=4)({"votes": votes})
    plain = {"votes": votes, "rater_weights": torch.ones(3)}
    fuse = FuseRatersd("votes", "brats2021", method, "label", weights_key="rater_weights")
    if method == "random":  # which rater depends on the stack; that it is one of the three does not
        alone = [fuse_average(votes.as_tensor()[r : r + 1], [(1, 4), (1, 2, 4), (4,)]) for r in range(3)]
        assert any(torch.equal(fuse(padded)["label"].as_tensor(), one) for one in alone)
    else:
        assert torch.equal(fuse(padded)["label"], fuse(plain)["label"])


def test_weights_of_the_constructor_and_of_the_item():
    votes = draw()
    expected = fuse_weighted(votes.as_tensor(), [1], [1, 2, 5])
    assert torch.equal(FuseRaters([1], "weighted", [1, 2, 5])(votes).as_tensor(), expected)
    item = {"votes": votes, "w": torch.tensor([1.0, 2.0, 5.0])}
    assert torch.equal(FuseRatersd("votes", [1], "weighted", weights_key="w")(item)["votes"].as_tensor(), expected)
    # "average" takes weights for who is there, not for how much
    assert torch.equal(FuseRaters([1], "average", [1, 2, 0])(votes).as_tensor(), fuse_average(votes.as_tensor()[:2], [1]))
    with pytest.raises(ValueError, match="rater_weights: expected one weight a rater"):
        FuseRaters([1], "weighted")(votes)
    for wrong in (FuseRaters, functools.partial(FuseRatersd, "votes")):
        with pytest.raises(ValueError, match="paper_compatible"):
            wrong([1], method="average", paper_compatible=True)


def test_paper_compatible_reaches_the_function():
    votes = draw()
    votes[2] = 0
    label = FuseRatersd(["v", "v"], [1], ["dice_weighted", "average"], ["a", "b"], paper_compatible=True)({"v": votes})["a"]
    assert torch.equal(label.as_tensor(), fuse_dice_weighted(votes.as_tensor(), [1], paper_compatible=True))


def test_the_random_rater_of_a_case_stays_and_cases_differ():
    fuse = FuseRaters([1, 2, 4], "random", seed=3)
    chosen = []
    for seed in range(30):
        votes = draw(seed)
        label = fuse(votes)
        assert torch.equal(label, fuse(votes))
        alone = [fuse_average(votes.as_tensor()[r : r + 1], [1, 2, 4]) for r in range(3)]
        chosen += [r for r in range(3) if torch.equal(alone[r], label.as_tensor())]
    assert set(chosen) == {0, 1, 2}


def test_a_sampled_rater_is_a_rater_by_its_weight():
    votes = draw()
    sample = RandSampleRater([1, 0, 3]).set_random_state(seed=0)
    drawn = []
    for _ in range(400):
        label = sample(votes)
        assert torch.equal(label.as_tensor()[0], votes.as_tensor()[sample.rater])
        drawn.append(sample.rater)
    assert set(drawn) == {0, 2}
    assert np.mean(np.array(drawn) == 0) == pytest.approx(0.25, abs=0.08)  # sd .022
    assert label.dtype == votes.dtype
    assert torch.equal(label.affine, AFFINE)


def test_the_draw_is_split_from_the_action_and_seeded():
    votes = draw()
    sample = RandSampleRater().set_random_state(seed=1)
    first = [sample(votes) is not None and sample.rater for _ in range(20)]
    sample.set_random_state(seed=1)
    assert [sample(votes) is not None and sample.rater for _ in range(20)] == first
    assert torch.equal(sample(votes, randomize=False), sample(votes, randomize=False))
    one = RandSampleRaterd("votes").set_random_state(seed=1)
    assert [one({"votes": votes}) is not None and one.sampler.rater for _ in range(20)] == first
    # `Compose` seeds it like any other
    chain = Compose([RandSampleRaterd("votes")]).set_random_state(seed=5)
    a = [chain({"votes": votes})["votes"] for _ in range(5)]
    chain.set_random_state(seed=5)
    assert all(torch.equal(x, chain({"votes": votes})["votes"]) for x in a)


def test_one_draw_for_all_keys():
    item = {"a": draw(0), "b": draw(1)}
    out = RandSampleRaterd(["a", "b"]).set_random_state(seed=2)(item)
    rater = [r for r in range(3) if torch.equal(out["a"][0], item["a"][r])]
    assert torch.equal(out["b"][0], item["b"][rater[0]])
    assert item["a"].shape[0] == 3
    with pytest.raises(ValueError, match="as many raters"):
        RandSampleRaterd(["a", "b"])({"a": draw(0), "b": draw(1, 4)})


def test_a_cache_does_not_freeze_the_draw():
    data = CacheDataset([{"votes": draw()}], RandSampleRaterd("votes"), progress=False)
    seen = {tuple(data[0]["votes"].flatten().tolist()) for _ in range(30)}
    assert len(seen) == 3


def test_missing_raters_are_not_drawn():
    padded = PadRatersd("votes", 6, value=77)({"votes": draw()})
    sample = RandSampleRaterd("votes", weights_key="rater_weights").set_random_state(seed=0)
    assert all(sample(padded)["votes"].max() < 77 for _ in range(50))


def test_padding():
    votes = draw()
    padded, weights = PadRaters(4, value=2)(votes)
    assert torch.equal(padded[:3].as_tensor(), votes.as_tensor())
    assert padded[3].unique().tolist() == [2]
    assert padded.dtype == votes.dtype
    assert torch.equal(padded.affine, AFFINE)
    assert weights.tolist() == [1, 1, 1, 0]
    own = PadRatersd("votes", 4, weights_key="w")({"votes": votes, "w": [0.5, 0, 2]})
    assert own["w"].tolist() == [0.5, 0, 2, 0]
    nobody, none = PadRaters(2)(torch.zeros(0, 3, dtype=torch.uint8))
    assert nobody.shape == (2, 3)
    assert none.tolist() == [0, 0]
    with pytest.raises(ValueError, match="at most 2 raters, got 3"):
        PadRaters(2)(votes)
    with pytest.raises(ValueError, match="at least 1"):
        PadRaters(0)
    with pytest.raises(ValueError, match="one weight for each of 3"):
        PadRaters(4)(votes, [1.0])


def test_a_loader_gives_the_loss_what_it_takes():
    items = [{"raters": draw(0, 2), "case": "a"}, {"raters": draw(1, 4), "case": "b"}, {"raters": draw(2, 3), "case": "c"}]
    collate = functools.partial(rater_collate, keys="raters")
    (batch,) = DataLoader(items, batch_size=3, collate_fn=collate, num_workers=0)
    assert batch["raters"].shape == (3, 4, 4, 5, 3)
    assert batch["rater_weights"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 0]]
    regions = [[1, 4], [1, 2, 4], [4]]
    logits = torch.randn(3, 3, 4, 5, 3, generator=torch.Generator().manual_seed(0))
    loss = DiceSemimetricLoss(sigmoid=True, votes=True, regions=regions)
    got = loss(logits, batch["raters"], rater_weights=batch["rater_weights"])
    soft = torch.stack([fuse_average(item["raters"].as_tensor(), regions) for item in items])
    assert float(got) == pytest.approx(float(DiceSemimetricLoss(sigmoid=True)(logits, soft)), rel=1e-6)


def test_crops_in_lists_and_empty_batches():
    batch = rater_collate([[{"votes": draw(0, 2)}, {"votes": draw(1, 2)}], [{"votes": draw(2, 3)}]])
    assert batch["votes"].shape[:2] == batch["rater_weights"].shape == (3, 3)
    with pytest.raises(ValueError, match="at least one item"):
        rater_collate([])


def test_the_key_of_data_lists_is_understood():
    batch = rater_collate([{"raters": draw(0, 2)}, {"raters": draw(1, 3)}])
    assert batch["raters"].shape[:2] == batch["rater_weights"].shape == (2, 3)
    both = rater_collate([{"raters": draw(0, 2), "votes": draw(1, 2)}])
    assert "rater_weights" in both
    assert both["votes"].shape[:2] == (1, 2)


def test_what_is_no_stack_is_one_line_with_the_key():
    with pytest.raises(KeyError, match=r"batch\[1\] \(case b\): expected the key 'votes' of a rater stack, got the keys case, "):
        rater_collate([{"votes": draw(0, 2)}, {"case": "b", "label": draw(1, 2)}])
    with pytest.raises(KeyError, match=r"expected the key 'drawn' .* got the keys votes. Fix: .*keys='raters'"):
        rater_collate([{"votes": draw(0, 2)}], keys="drawn")
    with pytest.raises(TypeError, match=r"batch\[0\]\['raters'\]: expected a rater stack .*, got a list. Fix: load "):
        rater_collate([{"raters": ["a.nii", "b.nii"]}])
