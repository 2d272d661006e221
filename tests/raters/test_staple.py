"""STAPLE against an EM with plain loops, and against ITK's filters where these are right (the multi-label one: without ties)."""

import logging
from collections.abc import Callable

import numpy as np
import pytest
import SimpleITK
import torch

from monai_jdt.raters import estimate_multilabel_staple, estimate_staple, expectation_maximisation, fuse_multilabel_staple, fuse_staple
from monai_jdt.raters.estimates import RaterEstimates
from monai_jdt.transforms import FuseRaters, FuseRatersd
from tests.oracles import staple as oracle
from tests.present import present


def draw(seed: int, raters: int = 3, shape: tuple[int, ...] = (5, 6, 4), values: tuple[int, ...] = (0, 1, 2, 4)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    truth = rng.choice(values, size=shape)
    other = rng.choice(values, size=(raters, *shape))
    return np.where(rng.random((raters, *shape)) < 0.2, other, truth)


def rough(seed: int, values: tuple[int, ...]) -> np.ndarray:
    """A small stack of 2 to 5 raters who agree on little: nearly every one has ties."""
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(2, 6)), int(rng.integers(4, 40)))
    truth = rng.choice(values, size=shape[1])
    return np.where(rng.random(shape) < rng.uniform(0.1, 0.7), rng.choice(values, size=shape), truth)


def without_ties(votes: np.ndarray) -> np.ndarray:
    flat = votes.reshape(len(votes), -1)
    return flat[:, [oracle.winner(voxel) is not None for voxel in flat.T.tolist()]]


@pytest.mark.parametrize("shape", [(9, 8), (5, 6, 4)])
@pytest.mark.parametrize("seed", range(3))
def test_staple_is_simpleitks(seed: int, shape: tuple[int, ...]) -> None:
    votes = draw(seed, 4, shape)
    regions = [(1, 4), (2,)]
    label, estimates = estimate_staple(torch.from_numpy(votes), regions)
    assert label.dtype == torch.float32
    for c, group in enumerate(regions):
        images = [SimpleITK.GetImageFromArray(np.isin(v, group).astype(np.uint8)) for v in votes]
        own = SimpleITK.STAPLEImageFilter()
        own.SetForegroundValue(1)
        expected = SimpleITK.GetArrayFromImage(own.Execute(images))
        np.testing.assert_allclose(label[c].numpy(), expected, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(present(estimates.sensitivity)[:, c].numpy(), own.GetSensitivity(), rtol=1e-9)
        np.testing.assert_allclose(present(estimates.specificity)[:, c].numpy(), own.GetSpecificity(), rtol=1e-9)


@pytest.mark.parametrize("seed", range(40))
def test_staple_at_ties(seed: int) -> None:
    marks = rough(seed, (0, 1))
    label, estimates = estimate_staple(torch.from_numpy(marks), [1])
    written, p, q = oracle.binary_staple((marks == 1).tolist())
    np.testing.assert_allclose(label[0].numpy(), written, atol=1e-6)
    np.testing.assert_allclose(present(estimates.sensitivity)[:, 0].numpy(), p, atol=1e-9)
    np.testing.assert_allclose(present(estimates.specificity)[:, 0].numpy(), q, atol=1e-9)


@pytest.mark.parametrize("seed", range(8))
def test_multilabel_staple_is_itks_without_ties(seed: int) -> None:
    votes = without_ties(draw(seed, 2 + seed % 4, values=(0, 1, 2, 3)))
    label, estimates = estimate_multilabel_staple(torch.from_numpy(votes), [0, 1, 2, 3])
    own = SimpleITK.MultiLabelSTAPLEImageFilter()
    images = [SimpleITK.GetImageFromArray(v[None].astype(np.uint8)) for v in votes]
    fused = SimpleITK.GetArrayFromImage(own.Execute(images))[0]
    np.testing.assert_array_equal(label.numpy(), [fused == value for value in range(4)])
    for rater in range(len(votes)):
        matrix = np.array(own.GetConfusionMatrix(rater)).reshape(5, 4)[:4]
        np.testing.assert_allclose(present(estimates.confusion)[rater].numpy(), matrix, rtol=1e-9)


@pytest.mark.parametrize("values", [(0, 1), (0, 1, 2), (-3, 0, 7, 300)])
@pytest.mark.parametrize("seed", range(40))
def test_multilabel_staple_at_ties(seed: int, values: tuple[int, ...]) -> None:
    votes = rough(seed, values)
    label, estimates = estimate_multilabel_staple(torch.from_numpy(votes), values)
    fused, tables = oracle.multilabel_staple(votes.tolist())
    np.testing.assert_array_equal(label.numpy(), [np.array(fused) == value for value in values])
    for rater, table in enumerate(tables):
        expected = [[table[i, j] for j in present(estimates.values)] for i in present(estimates.values)]
        np.testing.assert_allclose(present(estimates.confusion)[rater].numpy(), expected, atol=1e-9)


def test_a_tie_is_no_vote_for_another_value() -> None:
    # the first and the last voxel have a majority, the two ties have none, and no rater's 0 is ever confirmed
    votes = torch.tensor([[1, 1, 0, 2], [1, 0, 1, 2]])
    label = FuseRaters([[1], [2]], "multilabel_staple")(votes)
    assert label.tolist() == [[1, 0, 0, 0], [0, 0, 0, 1]]
    item = FuseRatersd("votes", [[1], [2]], "multilabel_staple", "label", estimates_keys="told")({"votes": votes})
    assert torch.equal(item["label"].as_tensor(), label.as_tensor())
    assert item["told"]["values"].tolist() == [0, 1, 2]
    # both say 1 where the truth is 1, 2 where it is 2; the truth is 0 nowhere
    assert item["told"]["confusion"].tolist() == [[[0, 0, 0], [0, 1, 0], [0, 0, 1]]] * 2


def test_raters_who_never_agree(caplog: pytest.LogCaptureFixture) -> None:
    label, estimates = estimate_multilabel_staple(torch.tensor([[1, 2, 1], [2, 1, 2]]), [1, 2])
    assert label.sum() == 0
    assert present(estimates.confusion).tolist() == [[[0, 0], [0, 0]]] * 2
    assert "at no voxel do most of the 2 raters agree" in caplog.text


@pytest.mark.parametrize("estimate", [estimate_staple, estimate_multilabel_staple])
def test_what_cannot_matter(estimate: Callable) -> None:
    """Order of raters and voxels, every voxel three times, a rater of weight 0."""
    votes = torch.from_numpy(rough(3, (0, 1, 2, 4)))
    raters, voxels = torch.randperm(votes.shape[0]), torch.randperm(votes.shape[1])
    label, estimates = estimate(votes, [1, 2, 4])
    rates = present(estimates.sensitivity) if estimate is estimate_staple else present(estimates.confusion)

    def same(other: tuple[torch.Tensor, RaterEstimates], expected_label: torch.Tensor, expected_rates: torch.Tensor) -> None:
        torch.testing.assert_close(other[0], expected_label, atol=1e-6, rtol=0)
        found = other[1].sensitivity if estimate is estimate_staple else other[1].confusion
        torch.testing.assert_close(found, expected_rates, atol=1e-9, rtol=0, equal_nan=True)

    same(estimate(votes[raters], [1, 2, 4]), label, rates[raters])
    same(estimate(votes[:, voxels], [1, 2, 4]), label[:, voxels], rates)
    same(estimate(votes.repeat(1, 3), [1, 2, 4]), label.repeat(1, 3), rates)
    padded = torch.cat([votes, torch.full_like(votes[:1], 9)])
    nothing = torch.full_like(rates[:1], float("nan"))
    same(estimate(padded, [1, 2, 4], [1] * len(votes) + [0]), label, torch.cat([rates, nothing]))


@pytest.mark.parametrize("fuse", [fuse_staple, fuse_multilabel_staple])
def test_one_rater_and_raters_alike(fuse: Callable) -> None:
    one = torch.tensor([[0, 1, 4, 1, 0, 0]])
    expected = torch.stack([one[0] == 1, one[0] == 4]).float()
    for raters in (1, 2, 5):
        torch.testing.assert_close(fuse(one.repeat(raters, 1), [1, 4]), expected)


@pytest.mark.parametrize("shape", [(2, 0), (3, 0, 4)])
def test_no_voxel(shape: tuple[int, ...], caplog: pytest.LogCaptureFixture) -> None:
    nothing = torch.zeros(shape, dtype=torch.uint8)
    for fuse in (fuse_staple, fuse_multilabel_staple):
        assert fuse(nothing, [1, 2]).shape == (2, *shape[1:])
    assert not caplog.records


def test_hundreds_of_raters_do_not_underflow() -> None:
    """Two halves of 400 raters who differ in one voxel: ITK's products are 0 there, and its estimate is NaN."""
    marks = torch.zeros(400, 1000, dtype=torch.uint8)
    marks[:, 1:300] = 1
    marks[:200, 0] = 1
    label, estimates = estimate_staple(marks, [1])
    assert label.isfinite().all()
    assert label[0, 1:300].min() > 0.999
    assert label[0, 300:].max() < 0.001
    assert present(estimates.sensitivity).min() > 0.99


@pytest.mark.parametrize(("estimate", "name"), [(estimate_staple, "staple of the region"), (estimate_multilabel_staple, "multilabel")])
def test_the_last_iteration_is_reported_once_for_each_configuration(
    estimate: Callable, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    expectation_maximisation._warn_of_last_iteration.cache_clear()
    votes = torch.from_numpy(draw(0))
    caplog.set_level(logging.WARNING)
    estimate(votes, [1])
    assert not caplog.records
    label, _ = estimate(votes, [1], max_iterations=1)
    assert label.isfinite().all()
    assert name in caplog.text
    assert "in iteration 1, the last (max_iterations)" in caplog.text
    estimate(votes.flip(1), [1], max_iterations=1)
    assert len(caplog.records) == 1
    estimate(votes, [1], max_iterations=2)
    assert len(caplog.records) == 2
    for wrong in (0, -1, 2.0, True, None):
        with pytest.raises(ValueError, match="max_iterations: expected a whole number >= 1, got"):
            estimate(votes, [1], max_iterations=wrong)


def test_many_combinations_of_votes() -> None:
    """More combinations than a table in the cache has entries, and values far apart: both are numbered otherwise."""
    rng = np.random.default_rng(0)
    values = np.array([0, 5, 10**6, 2**40])
    truth = rng.integers(0, 4, 2000)
    codes = np.where(rng.random((11, 2000)) < 0.4, rng.integers(0, 4, (11, 2000)), truth)
    label, estimates = estimate_multilabel_staple(torch.from_numpy(values[codes]), values.tolist())
    plain, expected = estimate_multilabel_staple(torch.from_numpy(codes.astype(np.uint8)), [0, 1, 2, 3])
    assert torch.equal(label, plain)
    assert torch.equal(present(estimates.confusion), present(expected.confusion))
    assert (label.argmax(0).numpy() == truth).mean() > 0.95


def test_values_are_kept_whatever_they_are() -> None:
    votes = draw(0, 3)
    renamed = np.select([votes == 1, votes == 2, votes == 4], [300, 301, -5], 0).astype(np.int16)
    one, first = estimate_multilabel_staple(torch.from_numpy(votes), [1, (1, 4)])
    other, second = estimate_multilabel_staple(torch.from_numpy(renamed), [300, (300, -5)])
    assert first.values == (0, 1, 2, 4)
    assert second.values == (-5, 0, 300, 301)
    assert torch.equal(one, other)


def test_undecided_voxels_are_zero() -> None:
    votes = torch.tensor([[0, 0, 1, 1], [0, 1, 0, 1]])  # by symmetry the two in the middle are undecided
    assert fuse_multilabel_staple(votes, [0, 1]).tolist() == [[1, 1, 1, 0], [0, 0, 0, 1]]


def test_an_empty_rater_is_one_of_sensitivity_zero() -> None:
    a = torch.tensor([[0, 1, 1, 0, 0, 0, 0, 0]])
    empty = torch.zeros_like(a)
    label, estimates = estimate_staple(torch.cat([a, a, empty]), [1])
    np.testing.assert_allclose(label.numpy(), a.numpy(), atol=1e-6)
    np.testing.assert_allclose(present(estimates.sensitivity)[:, 0].numpy(), [1, 1, 0], atol=1e-6)
    np.testing.assert_allclose(fuse_staple(torch.cat([a, empty]), [1]).numpy(), a.numpy() / 2, atol=1e-6)
    np.testing.assert_array_equal(fuse_multilabel_staple(torch.cat([a, a, empty]), [1]).numpy(), a.numpy())


def test_where_a_rate_is_undefined() -> None:
    none, estimates = estimate_staple(torch.zeros(3, 2, 5, dtype=torch.uint8), [1])
    assert none.sum() == 0
    assert present(estimates.sensitivity).isnan().all()
    assert (present(estimates.specificity) == 1).all()
    everything, estimates = estimate_staple(torch.ones(3, 2, 5, dtype=torch.uint8), [1])
    assert (everything == 1).all()
    assert present(estimates.specificity).isnan().all()
    label, estimates = estimate_multilabel_staple(torch.full((2, 3, 4), 7), [7, 8])
    assert label[0].min() == 1
    assert label[1].max() == 0
    assert present(estimates.confusion).tolist() == [[[1.0]], [[1.0]]]


def test_missing_raters_have_no_estimate() -> None:
    votes = torch.from_numpy(draw(1, 3))
    _, estimates = estimate_staple(votes, [1, 2], [1, 0, 1])
    assert present(estimates.sensitivity).isnan().any(1).tolist() == [False, True, False]
    _, estimates = estimate_multilabel_staple(votes, [1, 2], [1, 0, 1])
    assert present(estimates.confusion).isnan().flatten(1).any(1).tolist() == [False, True, False]


@pytest.mark.parametrize("shape", [(40,), (3, 4, 2, 2), ()])
def test_any_number_of_axes(shape: tuple[int, ...]) -> None:
    votes = torch.from_numpy(draw(2, 4, shape))
    assert fuse_staple(votes, [1, 2]).shape == fuse_multilabel_staple(votes, [1, 2]).shape == (2, *shape)
    flat = fuse_staple(votes.reshape(4, -1), [1, 2])
    np.testing.assert_allclose(fuse_staple(votes, [1, 2]).reshape(2, -1).numpy(), flat.numpy(), atol=1e-6)
