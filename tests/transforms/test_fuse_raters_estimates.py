"""What a fusion estimates about the raters: written into the item, and collated though cases have different raters."""

import functools
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, decollate_batch
from monai.transforms import Compose

from monai_jdt.raters import dice_weights, estimate_multilabel_staple, estimate_staple
from monai_jdt.transforms import FuseRaters, FuseRatersd, PadRatersd, rater_collate
from tests.present import present

REGIONS = {"core": [1, 4], "whole": [1, 2, 4]}


def votes(raters: int, seed: int = 0, shape: tuple[int, ...] = (6, 5, 4), values: tuple[int, ...] = (0, 1, 2, 4)) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    truth, other = rng.choice(values, size=shape), rng.choice(values, size=(raters, *shape))
    return torch.from_numpy(np.where(rng.random((raters, *shape)) < 0.2, other, truth).astype(np.uint8))


def estimated(method: str, stack: torch.Tensor, **options: Any) -> dict[str, Any]:
    return FuseRatersd("votes", REGIONS, method, "label", estimates_keys="estimates", **options)({"votes": stack})["estimates"]


def test_each_method_returns_what_it_estimates() -> None:
    stack = votes(4)
    assert {name: sorted(estimated(name, stack)) for name in ("average", "dice_weighted", "staple", "multilabel_staple")} == {
        "average": ["weights"],
        "dice_weighted": ["weights"],
        "staple": ["sensitivity", "specificity"],
        "multilabel_staple": ["confusion", "values"],
    }
    assert estimated("average", stack)["weights"].tolist() == [0.25] * 4
    assert estimated("average", stack, rater_weights=[2, 0, 1, 0])["weights"].tolist() == [0.5, 0, 0.5, 0]
    assert estimated("weighted", stack, rater_weights=[2, 0, 1, 1])["weights"].tolist() == [0.5, 0, 0.25, 0.25]
    groups = list(REGIONS.values())
    assert torch.equal(estimated("dice_weighted", stack)["weights"], dice_weights(stack, groups))
    _, estimates = estimate_staple(stack, groups)
    assert torch.equal(estimated("staple", stack)["sensitivity"], present(estimates.sensitivity))
    assert torch.equal(estimated("staple", stack)["specificity"], present(estimates.specificity))


def test_good_raters_have_high_rates() -> None:
    """Rates by counting: the raters differ from the truth only where it was changed by hand."""
    truth = votes(1, seed=3, values=(0, 1))[0]
    half = truth.clone()
    half.view(-1)[torch.nonzero(truth.view(-1))[::2]] = 0  # misses every second voxel, adds none
    stack = torch.stack([truth, truth, truth, half])
    got = FuseRatersd("votes", [1], "staple", "label", estimates_keys="estimates")({"votes": stack})["estimates"]
    marked = int(truth.sum())
    expected = [1, 1, 1, (marked // 2) / marked]
    np.testing.assert_allclose(got["sensitivity"][:, 0].numpy(), expected, atol=1e-3)
    np.testing.assert_allclose(got["specificity"][:, 0].numpy(), 1, atol=1e-3)


def test_confusion_has_one_shape_whatever_values_occur() -> None:
    few = votes(3, values=(0, 4))
    got = estimated("multilabel_staple", few)
    assert got["values"].tolist() == [0, 1, 2, 4]
    assert got["confusion"].shape == (3, 4, 4)
    _, estimates = estimate_multilabel_staple(few, list(REGIONS.values()))
    assert torch.equal(got["confusion"][:, [0, 3]][:, :, [0, 3]], present(estimates.confusion))
    assert got["confusion"][:, [1, 2]].isnan().all()
    assert got["confusion"][:, :, [1, 2]].isnan().all()


@pytest.mark.parametrize("method", ["average", "staple", "multilabel_staple"])
@pytest.mark.parametrize("padded", ["before", "in the batch", "in the batch, without stacks"])
def test_cases_of_different_raters_in_one_batch(method: str, padded: str) -> None:
    fuse = FuseRatersd(
        "votes", REGIONS, method, "label", weights_key="rater_weights" if padded == "before" else None, estimates_keys="estimates"
    )
    first = [PadRatersd("votes", 4)] if padded == "before" else []
    items = [{"votes": votes(r, seed=r)} for r in (4, 2)]
    alone = [estimated(method, item["votes"]) for item in items]
    data: Any = Dataset(items, Compose([*first, fuse]))
    if padded == "in the batch, without stacks":
        collate = functools.partial(rater_collate, keys=(), estimates_keys="estimates")
        data = [{"estimates": item["estimates"]} for item in data]
    else:
        collate = functools.partial(rater_collate, estimates_keys="estimates")
    loader = DataLoader(data, batch_size=2) if padded == "before" else DataLoader(data, batch_size=2, collate_fn=collate)
    (batch,) = loader
    for name, whole in alone[0].items():
        assert batch["estimates"][name].shape == (2, *whole.shape)
        torch.testing.assert_close(batch["estimates"][name][0], whole, equal_nan=True)
        if name != "values":
            torch.testing.assert_close(batch["estimates"][name][1, :2], alone[1][name], equal_nan=True)
            added = batch["estimates"][name][1, 2:]
            assert (added == 0).all() if name == "weights" else added.isnan().all()
    assert len(decollate_batch(batch)) == 2
    assert items[1].keys() == {"votes"}


def test_two_labels_and_one_estimate() -> None:
    fuse = FuseRatersd(["votes"] * 2, REGIONS, ["majority", "staple"], ["label", "soft"], estimates_keys=[None, "estimates"])
    assert sorted(map(str, fuse({"votes": votes(3)}))) == ["estimates", "label", "soft", "votes"]
    label, nothing = FuseRaters(REGIONS, "majority").with_estimates(votes(3))
    assert nothing is None
    assert torch.equal(label.as_tensor(), FuseRaters(REGIONS, "majority")(votes(3)).as_tensor())


def test_wrong_keys() -> None:
    words = "estimates_keys: expected None for method 'majority', which estimates nothing, got 'estimates'"
    with pytest.raises(ValueError, match=words):
        FuseRatersd("votes", REGIONS, "majority", "label", estimates_keys="estimates")
    with pytest.raises(ValueError, match="estimates_keys: expected names that differ and are no output key"):
        FuseRatersd("votes", REGIONS, "staple", "label", estimates_keys="label")
