"""Smooth Gaussian random fields, the material of raters' deviations and of tissue textures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def gaussian_field(rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float], length_mm: float) -> np.ndarray:
    """Draw a stationary Gaussian field with mean 0 and variance exactly 1 at every voxel, float32.

    White noise is smoothed along each axis by a Gaussian on a ring, whose weights have Euclidean norm 1, so that the variance stays 1.
    On a ring no voxel is nearer to an edge than another. The smoothing is an FFT: matrix products are threaded, which made them ten
    times slower when another process held the cores.

    Args:
        rng: source of randomness, one draw per voxel for every length.
        shape: voxels, any number of axes.
        spacing: voxel size in mm.
        length_mm: the sd of the Gaussian in mm; 0 is white noise.

    Returns:
        An array of that shape.
    """
    noise = rng.standard_normal(tuple(shape), dtype=np.float32)
    if length_mm == 0:
        return noise
    wave = np.fft.rfftn(noise)
    for axis, (size, step) in enumerate(zip(shape, spacing, strict=True)):
        away = np.minimum(np.arange(size), size - np.arange(size)) * step
        weights = np.exp(-0.5 * (away / length_mm) ** 2)
        weights /= np.sqrt((weights**2).sum())
        gain = np.fft.fft(weights).real[: wave.shape[axis]].astype(np.float32)  # real: the weights are symmetric
        wave *= gain.reshape([-1 if k == axis else 1 for k in range(noise.ndim)])
    return np.fft.irfftn(wave, s=noise.shape, axes=tuple(range(noise.ndim))).astype(np.float32)
