"""An outline runs around its mask on the outside, and gives the mask back to a reader that fills polygons."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from monai_jdt.data.phantoms.fields import gaussian_field
from monai_jdt.data.phantoms.outlines import drawable_mask, outlines_of


def turns_around(points: list[tuple[int, int]], shape: tuple[int, int]) -> np.ndarray:
    """How often the polygon turns around each pixel: the sum of the angles under which its edges are seen."""
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(float)
    total = np.zeros(shape)
    for (x0, y0), (x1, y1) in pairwise(points):
        a, b = (x0 - columns, y0 - rows), (x1 - columns, y1 - rows)
        total += np.arctan2(a[0] * b[1] - a[1] * b[0], a[0] * b[0] + a[1] * b[1])
    return np.abs(total) > 3


def test_polygons_give_the_mask_back() -> None:
    rng = np.random.default_rng(0)
    holes = 0
    for length in (0.5, 1.0, 2.0, 3.0) * 8:
        drawn = gaussian_field(rng, (18, 20), (1, 1), length) > 0
        drawn[[0, -1]] = False
        drawn[:, [0, -1]] = False
        mask = drawable_mask(drawn)
        kept, cut = np.zeros_like(mask), np.zeros_like(mask)
        for points, inside in outlines_of(mask):
            assert points[0] == points[-1]
            assert all(max(abs(a - c), abs(b - d)) == 1 for (a, b), (c, d) in pairwise(points))
            on_outline = np.zeros_like(mask)
            on_outline[[y for _, y in points], [x for x, _ in points]] = True
            assert not (on_outline & mask).any()
            if inside:
                kept |= turns_around(points, mask.shape) & ~on_outline
            else:
                holes += 1
                assert len(set(points)) > 2
                cut |= turns_around(points, mask.shape) | on_outline
        np.testing.assert_array_equal(kept & ~cut, mask)
    assert holes >= 3


def test_a_drawable_mask_stays_as_it_is() -> None:
    ring = np.zeros((9, 9), bool)
    ring[1:8, 1:8] = True
    ring[3:6, 3:6] = False
    assert (drawable_mask(ring) == ring).all()
    tiny = ring.copy()
    tiny[3:6, 3:6] = True
    tiny[4, 4] = False
    assert drawable_mask(tiny)[4, 4]
    island = ring.copy()
    island[4, 4] = True
    assert (drawable_mask(island) == ring).all()
