"""Images and masks of a few voxels, for layouts that are written, listed and loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.nifti_files import save_nifti

SHAPE = (8, 9, 7)
AFFINE = np.diag([2.0, 2, 3, 1])


def save_small(path: Path, voxels: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    """Write a mask or an image, on the common grid unless another affine is given."""
    save_nifti(path, voxels, affine)


def save_image(path: Path, seed: int = 0) -> None:
    """Write an image of noise."""
    save_small(path, np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32))


def box(low: Sequence[int], high: Sequence[int]) -> np.ndarray:
    """Return a mask that is 1 inside a box."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = 1
    return mask
