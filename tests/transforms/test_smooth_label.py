"""Softer labels: uniform, near borders, and by a Gaussian."""

from typing import Any

import numpy as np
import pytest
import torch

from monai_jdt.transforms import (
    RestoreSoftLabel,
    RestoreSoftLabeld,
    SmoothLabel,
    SmoothLabeld,
)
from tests.transforms.stacks import AFFINE, soft


def loop_boundary(label: np.ndarray, k: int, epsilon: float, softmax: bool) -> np.ndarray:
    """The band, one voxel at a time."""
    out = label.copy()
    channels, space = label.shape[0], label.shape[1:]
    for voxel in np.ndindex(*space):
        window = tuple(slice(max(0, i - k), i + k + 1) for i in voxel)
        for c in range(channels):
            if softmax:
                border = len(np.unique(np.stack([row[window] for row in label]).argmax(0))) > 1
                target = 1 / channels
            else:
                border = len(np.unique(label[c][window] > 0.5)) > 1
                target = 0.5
            if border:
                out[c][voxel] = (1 - epsilon) * label[c][voxel] + epsilon * target
    return out


@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize(("shape", "k"), [((9,), 1), ((9, 8), 1), ((9, 8), 3), ((7, 6, 8), 2), ((3, 2, 3), 3)])
def test_boundary_band_is_the_loops(shape: tuple[int, ...], k: int, softmax: bool) -> None:
    corner = np.zeros(shape, dtype=int)
    corner[tuple(slice(0, (n + 1) // 2) for n in shape)] = 1
    corner.flat[-1] = 2
    label = np.moveaxis(np.eye(3, dtype=np.float32)[corner], -1, 0).copy()
    got = SmoothLabel("boundary", epsilon=0.5, k=k, softmax=softmax)(torch.from_numpy(label))
    np.testing.assert_allclose(got.numpy(), loop_boundary(label, k, 0.5, softmax), atol=1e-6)
    if softmax:
        np.testing.assert_allclose(got.sum(0).numpy(), 1, atol=1e-6)


def test_without_a_border_nothing_is_smoothed() -> None:
    label = torch.zeros(2, 5, 5)
    label[0] = 1
    assert torch.equal(SmoothLabel("boundary", epsilon=1.0)(label).as_tensor(), label)


@pytest.mark.parametrize("softmax", [True, False])
def test_uniform_is_the_formula(softmax: bool) -> None:
    label = soft(0)
    got = SmoothLabeld("label", epsilon=0.3, softmax=softmax)({"label": label})["label"]
    np.testing.assert_allclose(got.numpy(), 0.7 * label.numpy() + 0.3 / (3 if softmax else 2), atol=1e-6)
    assert torch.equal(got.affine, AFFINE)
    assert torch.equal(SmoothLabel(epsilon=0.0)(label).as_tensor(), label.as_tensor())


@pytest.mark.parametrize("shape", [(30,), (11, 9), (7, 6, 5)])
def test_gaussian_keeps_sums_and_constants(shape: tuple[int, ...]) -> None:
    blur = SmoothLabel("gaussian", sigma=1.5)
    got = blur(soft(1, 3, shape))
    np.testing.assert_allclose(got.sum(0).numpy(), 1, atol=1e-5)
    assert got.min() >= 0
    constant = torch.full((2, *shape), 0.5)
    np.testing.assert_allclose(blur(constant).numpy(), 0.5, atol=1e-6)
    # in the middle of a long line, a step becomes the Gaussian's cdf (of voxels as intervals: erf at the half voxels)
    step = torch.zeros(1, 41)
    step[0, 21:] = 1
    edge = SmoothLabel("gaussian", sigma=3.0, softmax=False)(step)[0]
    cdf = torch.special.ndtr(torch.tensor([-0.5, 0.5]) / 3.0)
    np.testing.assert_allclose(edge[20:22].numpy(), cdf.numpy(), atol=5e-3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mode": "box"}, "mode: expected one of"),
        ({"epsilon": 1.5}, "epsilon: expected a number in"),
        ({"k": 0}, "k: expected a whole number"),
        ({"k": 1.5}, "k: expected a whole number"),
        ({"sigma": 0.0}, "sigma: expected a positive"),
    ],
)
def test_wrong_arguments(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SmoothLabel(**options)


def test_wrong_labels() -> None:
    for transform in (SmoothLabel(), RestoreSoftLabel()):
        with pytest.raises(ValueError, match="at least 2 channels"):
            transform(torch.zeros(1, 4, 4))
    with pytest.raises(ValueError, match="1 to 3 space dimensions"):
        SmoothLabel()(torch.zeros(2))
    with pytest.raises(ValueError, match="background: expected one of 2 channels"):
        RestoreSoftLabel(background=2)(torch.zeros(2, 4))
    with pytest.raises(ValueError, match="mask_keys"):
        RestoreSoftLabeld("label", softmax=False, mask_keys="mask")
