"""SoftDeepSupervisionLoss against area means in numpy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import monai_jdt.losses as losses
from monai_jdt.functional.area_means import LabelPyramid
from tests.losses.generated import generator, some
from tests.losses.strategies import COMPOUND, OVERLAP, as_array
from tests.oracles import companions, norm_form
from tests.present import present

ALL = OVERLAP + COMPOUND
seeds = st.integers(0, 10**6)
FEW = settings(max_examples=max(present(settings.default).max_examples // 6, 8))  # the oracles' loops are slow


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("key", ["sigmoid", "softmax"])
@pytest.mark.parametrize("per_channel", [False, True])
@FEW
@given(seed=seeds)
def test_deep_supervision_by_area_means_over_counted_voxels(name: str, key: str, per_channel: bool, seed: int) -> None:
    g = generator(seed)
    _, label, _, mask = some(seed, 2, 3, 4, 6, softmax=key == "softmax")
    if per_channel and key == "sigmoid":
        mask = torch.rand(2, 3, 4, 6, generator=g) < 0.6
    sizes = [(4, 6), (2, 3), (2, 2), (1, 1)]
    heads = [torch.randn(2, 3, *size, generator=g, dtype=torch.float64) for size in sizes]
    loss = getattr(losses, name)(**{key: True})
    got = losses.SoftDeepSupervisionLoss(loss)(heads, label, mask)
    expected = 0.0
    for weight, head, size in zip((1.0, 0.5, 0.25, 0.125), heads, sizes, strict=True):
        small, counted = companions.area_mean(as_array(label), as_array(mask), size)
        expected += weight * float(norm_form.value(name, as_array(head), small, counted, **{key: True}))
    assert got.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("mode", ["exp", "two", "same"])
def test_deep_supervision_weights(mode: str) -> None:
    """MONAI's: exp max(.5^l, .0625), two 1 and .5, same 1."""
    t = torch.rand(1, 1, 8, dtype=torch.float64)
    heads = [torch.rand(1, 1, 8, dtype=torch.float64) for _ in range(6)]
    single = [losses.JaccardMetricLoss()(head, t).item() for head in heads]
    by_mode: dict[str, list[float]] = {"exp": [1, 0.5, 0.25, 0.125, 0.0625, 0.0625], "two": [1] + [0.5] * 5, "same": [1] * 6}
    got = losses.SoftDeepSupervisionLoss(losses.JaccardMetricLoss(), mode)(heads, t)
    assert got.item() == pytest.approx(sum(w * v for w, v in zip(by_mode[mode], single, strict=True)))
    own = losses.SoftDeepSupervisionLoss(losses.JaccardMetricLoss(), weights=[0.0, 2.0, 0.0, 0.0, 0.0, 1.0])(heads, t)
    assert own.item() == pytest.approx(2 * single[1] + single[5])


def test_deep_supervision_sentinels_never_enter_a_mean() -> None:
    """Index maps with 255, votes with silent raters, dense markers: like the dense label with a mask."""
    g = generator(5)
    index = torch.randint(0, 3, (2, 1, 4, 4), generator=g)
    nowhere = torch.rand(2, 1, 4, 4, generator=g) < 0.3
    nowhere[0, 0, :2, :2] = True  # a block without a counted voxel
    dense = torch.nn.functional.one_hot(index[:, 0], 3).movedim(-1, 1).double()
    heads = [torch.randn(2, 3, 4, 4, generator=g, dtype=torch.float64), torch.randn(2, 3, 2, 2, generator=g, dtype=torch.float64)]
    expected = losses.SoftDeepSupervisionLoss(losses.JDTCELoss(softmax=True))(heads, dense, ~nowhere)
    forms: list[tuple[dict[str, Any], torch.Tensor, torch.Tensor | None]] = [
        ({"to_onehot_y": True, "ignore_index": 255}, index.masked_fill(nowhere, 255), None),
        ({"votes": True, "ignore_index": 255}, index.masked_fill(nowhere, 255).expand(2, 4, 4, 4), None),
        ({"ignore_index": 255}, dense.masked_fill(nowhere, 255), None),
        ({}, dense.masked_fill(nowhere, math.nan), ~nowhere),
    ]
    for options, target, mask in forms:
        got = losses.SoftDeepSupervisionLoss(losses.JDTCELoss(softmax=True, **options))(heads, target, mask)
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=0)
    # What a head says in the block that nobody counts does not matter.
    dirty = [heads[0], heads[1].clone()]
    dirty[1][0, :, 0, 0] = math.nan
    torch.testing.assert_close(losses.SoftDeepSupervisionLoss(losses.JDTCELoss(softmax=True))(dirty, dense, ~nowhere), expected)


@pytest.mark.parametrize("name", OVERLAP)
def test_deep_supervision_is_zero_at_the_area_means(name: str) -> None:
    t = torch.rand(2, 2, 4, 4, dtype=torch.float64)
    means = torch.nn.functional.avg_pool2d(t, 2)
    loss = losses.SoftDeepSupervisionLoss(getattr(losses, name)())
    assert loss([t, means], t).item() == pytest.approx(0, abs=1e-15)
    assert loss([t, means + 0.01], t).item() > 1e-4


def test_deep_supervision_takes_odd_sizes_and_stacked_heads() -> None:
    """PyTorch's adaptive blocks [floor(i s / o), ceil((i + 1) s / o)) where sizes do not divide; DynUNet's stacked heads."""
    t = torch.rand(1, 1, 5, dtype=torch.float64)
    head = torch.rand(1, 1, 3, dtype=torch.float64)
    label = torch.stack([t[0, 0, 0:2].mean(), t[0, 0, 1:4].mean(), t[0, 0, 3:5].mean()]).reshape(1, 1, 3)
    got = losses.SoftDeepSupervisionLoss(losses.JaccardMetricLoss(), weights=[1.0])([head], t)
    torch.testing.assert_close(got, losses.JaccardMetricLoss()(head, label))
    heads = torch.rand(2, 3, 1, 4, 4)
    target = torch.rand(2, 1, 4, 4)
    stacked, listed = (losses.SoftDeepSupervisionLoss(losses.JaccardMetricLoss())(h, target) for h in (heads, list(heads.unbind(1))))
    assert torch.equal(stacked, listed)


def test_mistakes_in_deep_supervision_are_refused() -> None:
    make: Callable[..., losses.SoftDeepSupervisionLoss] = losses.SoftDeepSupervisionLoss
    with pytest.raises(TypeError, match="loss"):
        make("JDTLoss")
    with pytest.raises(TypeError, match="loss"):
        make(losses.LovaszSoftmaxLoss())
    with pytest.raises(ValueError, match="weight_mode"):
        make(losses.JDTLoss(), "linear")
    with pytest.raises(ValueError, match="weights"):
        make(losses.JDTLoss(), weights=[1.0])([torch.rand(1, 1, 4), torch.rand(1, 1, 2)], torch.rand(1, 1, 4))
    with pytest.raises(ValueError, match="input"):
        make(losses.JDTLoss())([], torch.rand(1, 1, 4))
    with pytest.raises(ValueError, match="input"):
        make(losses.JDTLoss())([torch.rand(1, 1, 8)], torch.rand(1, 1, 4))
    with pytest.raises(ValueError, match="target"):
        make(losses.JDTLoss())([torch.rand(1, 2, 2)], torch.rand(1, 3, 4))
    with pytest.raises(ValueError, match=r"input: expected the target's 2 images in every head, got 1 .*\(1, 3, 2\)"):
        make(losses.JDTLoss())([torch.rand(2, 3, 4), torch.rand(1, 3, 2)], torch.rand(2, 3, 4))
    with pytest.raises(ValueError, match="target"):
        make(losses.JDTLoss(sigmoid=True))([torch.rand(1, 1, 2)], torch.full((1, 1, 4), 255.0))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_deep_supervision_in_half_precision(dtype: torch.dtype) -> None:
    x = torch.randn(2, 2, 8, 8).to(dtype)
    small = torch.randn(2, 2, 4, 4).to(dtype)
    label = torch.softmax(torch.randn(2, 2, 8, 8), 1).to(dtype)
    loss = losses.SoftDeepSupervisionLoss(losses.JDTCELoss(softmax=True))
    got = loss([x, small], label)
    assert got.dtype is torch.float32
    assert got.item() == pytest.approx(loss([x.double(), small.double()], label.double()).item(), rel=2e-6)


@pytest.mark.parametrize("sizes", [[(10,), (8,), (4,), (2,)], [(12,), (6,), (3,), (1,)], [(9, 6), (6, 6), (3, 6), (3, 3)]])
def test_the_label_of_a_head_does_not_depend_on_the_other_heads(sizes: list[tuple[int, ...]]) -> None:
    label, counted = torch.rand(1, 2, *sizes[0]), torch.rand(1, 1, *sizes[0]) < 0.6
    pyramid = LabelPyramid(label, counted)
    for size in sizes[1:]:
        for got, expected in zip(pyramid.at(size), LabelPyramid(label, counted).at(size), strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("raters", [1, 3, 255])
@pytest.mark.parametrize("sizes", [[(16,), (8,), (4,), (1,)], [(9, 6), (6, 6), (3, 6), (3, 3)], [(16, 8, 8), (8, 8, 8), (2, 2, 2)]])
def test_votes_are_shrunk_as_their_shares_are(sizes: list[tuple[int, ...]], raters: int) -> None:
    """Whole numbers are added, of which 255 fit into a byte."""
    counts = torch.randint(0, raters + 1, (2, 3, *sizes[0]), dtype=torch.uint8)
    pyramid, judge = LabelPyramid(counts, votes=raters), LabelPyramid(counts.double() / raters)
    for size in sizes[1:]:
        got, expected = pyramid.at(size), judge.at(size)
        assert got[1] is expected[1] is None
        torch.testing.assert_close(got[0].double(), expected[0], rtol=1e-6, atol=0)


@pytest.mark.parametrize("channels", [1, 4, 300])
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int8, torch.int64])
@pytest.mark.parametrize("form", ["votes", "index"])
def test_heads_see_the_votes_of_the_definition(form: str, dtype: torch.dtype, channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    raters = 1 if form == "index" else 3
    target = torch.randint(0, 2 if dtype is torch.bool else min(max(channels, 2), 120), (2, raters, 8, 8)).to(dtype)
    options: dict[str, Any] = {"softmax" if channels > 1 else "sigmoid": True, "votes": form == "votes"}
    options["to_onehot_y"] = form == "index" and channels > 1
    heads = [torch.randn(2, channels, side, side) for side in (8, 4, 2)]
    loss = losses.SoftDeepSupervisionLoss(losses.JDTCELoss(**options))
    got = loss(heads, target)
    marked = torch.where(target == 1, 255, target.to(torch.int64))  # a marker, and then weights, are read vote by vote
    other = losses.SoftDeepSupervisionLoss(losses.JDTCELoss(**options, ignore_index=255))
    assert not torch.isclose(other(heads, marked), got)
    if form == "votes":
        weighted = loss(heads, target, rater_weights=torch.tensor([1.0, 0.5, 0.0]))
        assert not torch.isclose(weighted, got)
    asked: list[int] = []
    monkeypatch.setattr("monai_jdt.functional.inputs.vote_counts", lambda label, channels: asked.append(channels))
    torch.testing.assert_close(loss(heads, target), got, rtol=1e-6, atol=1e-7)
    # the way above was that of whole numbers; the class index of one channel is a dense label
    assert asked == ([] if form == "index" and channels == 1 else [channels])


def test_heads_without_voxels_cost_nothing() -> None:
    loss = losses.SoftDeepSupervisionLoss(losses.JaccardMetricLoss(sigmoid=True, votes=True))
    heads = [torch.zeros(2, 1, 0, 8), torch.zeros(2, 1, 0, 4)]
    assert float(loss(heads, torch.zeros(2, 3, 0, 8, dtype=torch.uint8))) == 0
