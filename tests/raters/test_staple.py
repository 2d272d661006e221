"""STAPLE against SimpleITK's own calls on the same arrays, and against the EM written out."""

import numpy as np
import pytest
import SimpleITK
import torch

from monai_jdt.raters import estimate_multilabel_staple, estimate_staple, fuse_multilabel_staple, fuse_staple


def draw(seed, raters=3, shape=(5, 6, 4), values=(0, 1, 2, 4)):
    rng = np.random.default_rng(seed)
    truth = rng.choice(values, size=shape)
    other = rng.choice(values, size=(raters, *shape))
    return np.where(rng.random((raters, *shape)) < 0.2, other, truth)


def em_staple(marks, steps=300):
    """The binary EM as in the paper, prior = mean of the raters' marks."""
    d = marks.reshape(len(marks), -1).astype(float)
    prior, p, q = d.mean(), np.full(len(d), 1 - 1e-5), np.full(len(d), 1 - 1e-5)
    for _ in range(steps):
        a = prior * np.prod(np.where(d == 1, p[:, None], 1 - p[:, None]), 0)
        b = (1 - prior) * np.prod(np.where(d == 0, q[:, None], 1 - q[:, None]), 0)
        w = a / (a + b)
        p, q = (d * w).sum(1) / w.sum(), ((1 - d) * (1 - w)).sum(1) / (1 - w).sum()
    return w.reshape(marks.shape[1:]), p, q


@pytest.mark.parametrize("shape", [(9, 8), (5, 6, 4)])
@pytest.mark.parametrize("seed", range(3))
def test_staple_is_simpleitks(seed, shape):
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
        np.testing.assert_allclose(estimates.sensitivity[:, c].numpy(), own.GetSensitivity(), rtol=1e-9)
        np.testing.assert_allclose(estimates.specificity[:, c].numpy(), own.GetSpecificity(), rtol=1e-9)
        written, p, q = em_staple(np.isin(votes, group))
        np.testing.assert_allclose(label[c].numpy(), written, atol=1e-3)
        np.testing.assert_allclose(estimates.sensitivity[:, c].numpy(), p, atol=1e-3)
        np.testing.assert_allclose(estimates.specificity[:, c].numpy(), q, atol=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_multilabel_staple_is_itks(seed):
    votes = draw(seed, 4, values=(0, 1, 2, 3))
    label, estimates = estimate_multilabel_staple(torch.from_numpy(votes), [0, 1, 2, 3])
    own = SimpleITK.MultiLabelSTAPLEImageFilter()
    fused = SimpleITK.GetArrayFromImage(own.Execute([SimpleITK.GetImageFromArray(v.astype(np.uint8)) for v in votes]))
    assert fused.max() < 4  # none undecided here
    np.testing.assert_array_equal(label.numpy().argmax(0), fused)
    np.testing.assert_array_equal(label.sum(0).numpy(), 1)
    for rater in range(4):
        matrix = np.array(own.GetConfusionMatrix(rater)).reshape(5, 4)[:4]
        np.testing.assert_allclose(estimates.confusion[rater].numpy(), matrix, rtol=1e-9)


def test_values_are_kept_whatever_they_are():
    votes = draw(0, 3)
    renamed = np.select([votes == 1, votes == 2, votes == 4], [300, 301, -5], 0).astype(np.int16)
    one, first = estimate_multilabel_staple(torch.from_numpy(votes), [1, (1, 4)])
    other, second = estimate_multilabel_staple(torch.from_numpy(renamed), [300, (300, -5)])
    assert first.values == (0, 1, 2, 4)
    assert second.values == (-5, 0, 300, 301)
    assert torch.equal(one, other)


def test_undecided_voxels_are_zero():
    votes = torch.tensor([[0, 0, 1, 1], [0, 1, 0, 1]])  # by symmetry the two in the middle are undecided
    assert fuse_multilabel_staple(votes, [0, 1]).tolist() == [[1, 1, 1, 0], [0, 0, 0, 1]]


def test_an_empty_rater_is_one_of_sensitivity_zero():
    a = torch.tensor([[0, 1, 1, 0, 0, 0, 0, 0]])
    empty = torch.zeros_like(a)
    label, estimates = estimate_staple(torch.cat([a, a, empty]), [1])
    np.testing.assert_allclose(label.numpy(), a.numpy(), atol=1e-6)
    np.testing.assert_allclose(estimates.sensitivity[:, 0].numpy(), [1, 1, 0], atol=1e-6)
    np.testing.assert_allclose(fuse_staple(torch.cat([a, empty]), [1]).numpy(), a.numpy() / 2, atol=1e-6)
    np.testing.assert_array_equal(fuse_multilabel_staple(torch.cat([a, a, empty]), [1]).numpy(), a.numpy())


def test_where_the_filter_knows_no_answer():
    none, estimates = estimate_staple(torch.zeros(3, 2, 5, dtype=torch.uint8), [1])
    assert none.sum() == 0
    assert estimates.sensitivity.isnan().all()
    assert (estimates.specificity == 1).all()
    everything, estimates = estimate_staple(torch.ones(3, 2, 5, dtype=torch.uint8), [1])
    assert (everything == 1).all()
    assert estimates.specificity.isnan().all()
    label, estimates = estimate_multilabel_staple(torch.full((2, 3, 4), 7), [7, 8])
    assert label[0].min() == 1
    assert label[1].max() == 0
    assert estimates.confusion.tolist() == [[[1.0]], [[1.0]]]


def test_missing_raters_have_no_estimate():
    votes = torch.from_numpy(draw(1, 3))
    _, estimates = estimate_staple(votes, [1, 2], [1, 0, 1])
    assert estimates.sensitivity.isnan().any(1).tolist() == [False, True, False]
    _, estimates = estimate_multilabel_staple(votes, [1, 2], [1, 0, 1])
    assert estimates.confusion.isnan().flatten(1).any(1).tolist() == [False, True, False]


@pytest.mark.parametrize("shape", [(40,), (3, 4, 2, 2), ()])
def test_any_number_of_axes(shape):
    votes = torch.from_numpy(draw(2, 4, shape))
    assert fuse_staple(votes, [1, 2]).shape == fuse_multilabel_staple(votes, [1, 2]).shape == (2, *shape)
    flat = fuse_staple(votes.reshape(4, -1), [1, 2])
    np.testing.assert_allclose(fuse_staple(votes, [1, 2]).reshape(2, -1).numpy(), flat.numpy(), atol=1e-6)
