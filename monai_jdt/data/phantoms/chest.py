"""A CT-like chest in HU, by formulas in mm: body, lungs, heart, aorta, spine, ribs and vessels, without nodules.

Coordinates are the patient's (LPS, as in DICOM): x to the left, y to the back, z to the head, with the origin in the middle of the
chest. A field of view that is smaller than the chest shows its part of the same chest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from monai_jdt.data.phantoms.fields import gaussian_field

# HU of each tissue.
_AIR, _LUNG, _FAT, _SOFT, _BLOOD, _BONE = -1000.0, -850.0, -100.0, 40.0, 120.0, 500.0
# Width in mm over which one tissue blends into the next, about that of a CT's point spread.
_BLUR_MM = 0.6
# Vessels of each lung, and the step along their way in mm.
_VESSELS, _STEP_MM = 70, 6.0


@dataclass(frozen=True)
class ChestGrid:
    """The voxels of a field of view.

    Args:
        x: centres of the columns in mm.
        y: centres of the rows in mm.
        z: centres of the slices in mm, ascending.
        spacing: voxel size in mm, in the order of an array's axes: z, y, x.
    """

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    spacing: tuple[float, float, float]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows, columns."""
        return (len(self.z), len(self.y), len(self.x))

    def points(self, box: tuple[slice, slice, slice]) -> np.ndarray:
        """The centres of the voxels of a box, `(3, d, h, w)` float32, in the order z, y, x."""
        axes = (self.z[box[0]], self.y[box[1]], self.x[box[2]])
        return np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float32)

    def box(self, centre: Sequence[float], reach: float) -> tuple[slice, slice, slice]:
        """The voxels within `reach` mm of a point (z, y, x) along each axis, cut at the field of view."""
        found = []
        for axis, middle in zip((self.z, self.y, self.x), centre, strict=True):
            found.append(slice(int(np.searchsorted(axis, middle - reach)), int(np.searchsorted(axis, middle + reach, "right"))))
        return (found[0], found[1], found[2])


@dataclass(frozen=True)
class Chest:
    """The sizes of one person.

    Args:
        scale: of all lengths across.
        vessels: `(n, 8)` float32, one row for each piece of a vessel: its two ends (z, y, x) and their radii, in mm.
    """

    scale: float
    vessels: np.ndarray

    def lung_depth(self, z: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """The distance from the lungs' surface in mm (nearly), positive inside. The arguments are broadcast."""
        s = self.scale
        beside = np.abs(x)
        lungs = _ellipsoid_depth((z / (135 * s), (y + 5 * s) / (85 * s), (beside - 72 * s) / (58 * s)), 58 * s)
        heart = _ellipsoid_depth(((z + 30 * s) / (60 * s), (y + 25 * s) / (45 * s), (x - 20 * s) / (56 * s)), 45 * s)
        return np.minimum(lungs, -heart)


def draw_chest(rng: np.random.Generator) -> Chest:
    """Draw the sizes of a person and the ways of the vessels.

    Args:
        rng: source of randomness.
    """
    chest = Chest(float(rng.uniform(0.94, 1.06)), np.zeros((0, 8), np.float32))
    # walk from the roots of both lungs outwards, ever thinner, to the lungs' surface
    side = np.repeat([-1.0, 1.0], _VESSELS)
    low, high = np.array([-40.0, -25.0, 28.0]), np.array([40.0, 30.0, 40.0])
    points = rng.uniform(low, high, size=(len(side), 3)) * chest.scale
    points[:, 2] *= side
    ways = rng.normal(size=points.shape)
    ways[:, 2] += 0.7 * side
    radii = rng.uniform(1.6, 3.2, size=len(side))
    was_inside, goes_on = np.zeros(len(side), bool), np.ones(len(side), bool)
    pieces = []
    for _ in range(30):
        ways = ways / np.linalg.norm(ways, axis=1, keepdims=True) + 0.25 * rng.normal(size=points.shape)
        ahead = points + _STEP_MM * ways / np.linalg.norm(ways, axis=1, keepdims=True)
        thinner = np.maximum(0.88 * radii, 0.5)
        is_inside = chest.lung_depth(*ahead.T) > 1
        goes_on &= is_inside | ~was_inside
        drawn = np.column_stack([points, ahead, radii, thinner])
        pieces.append(drawn[goes_on & is_inside])
        points, radii, was_inside = ahead, thinner, is_inside
    return Chest(chest.scale, np.concatenate(pieces).astype(np.float32))


def render_chest(rng: np.random.Generator, chest: Chest, grid: ChestGrid) -> np.ndarray:
    """Render a field of view in HU, without noise.

    Args:
        rng: source of randomness, for the mottle of the soft tissues.
        chest: the person.
        grid: the field of view.

    Returns:
        `(slices, rows, columns)` float32.
    """
    volume = np.empty(grid.shape, np.float32)
    y, x = grid.y[:, None].astype(np.float32), grid.x[None, :].astype(np.float32)
    for number, height in enumerate(grid.z):
        mottle = 8 * gaussian_field(rng, grid.shape[1:], grid.spacing[1:], 3.0)
        volume[number] = _slice_of(chest, float(height), y, x) + mottle
    for piece in chest.vessels:
        _stamp_vessel(volume, grid, piece)
    return volume


def _slice_of(chest: Chest, z: float, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    s = chest.scale
    skin = _ellipsoid_depth((np.float32(0), y / (115 * s), x / (165 * s)), 115 * s)
    hu = _blend(np.float32(_AIR), _FAT, skin)
    hu = _blend(hu, _SOFT, skin - 14 * s)
    lung = chest.lung_depth(np.float32(z), y, x)
    # ribs: a shell around the lungs, cut into tilted bands
    band = np.cos(2 * np.pi * (z + 0.35 * y) / (24 * s)) * 4 - 1
    shell = np.minimum(np.minimum(-lung - 3, 9 + lung), skin - 3) - np.clip(30 * s - np.abs(x), 0, None)
    hu = _blend(hu, _BONE, np.minimum(shell, band))
    spine = 17 * s - np.hypot(y - 72 * s, x)
    hu = _blend(_blend(hu, _BONE, spine), 180.0, spine - 3)
    heart = _ellipsoid_depth((np.float32((z + 30 * s) / (60 * s)), (y + 25 * s) / (45 * s), (x - 20 * s) / (56 * s)), 45 * s)
    hu = _blend(hu, _BLOOD, heart - 6)
    hu = _blend(hu, _BLOOD, 12 * s - np.hypot(y - 48 * s, x - 22 * s))
    return _blend(hu, _LUNG, lung).astype(np.float32)


def _stamp_vessel(volume: np.ndarray, grid: ChestGrid, piece: np.ndarray) -> None:
    start, stop, radii = piece[:3], piece[3:6], piece[6:]
    middle, reach = (start + stop) / 2, float(np.linalg.norm(stop - start)) / 2 + float(radii[0]) + 3
    box = grid.box(middle, reach)
    if min(side.stop - side.start for side in box) <= 0:
        return
    points = grid.points(box)
    along = (stop - start)[:, None, None, None]
    from_start = points - start[:, None, None, None]
    share = np.clip((from_start * along).sum(0) / (along**2).sum(), 0, 1)
    away = np.sqrt(((from_start - share * along) ** 2).sum(0))
    radius = radii[0] + (radii[1] - radii[0]) * share
    # a vessel thinner than a voxel is as faint as its part of the voxel
    volume[box] = np.maximum(volume[box], _blend(volume[box], _SOFT, radius - away))


def stamp_density(volume: np.ndarray, box: tuple[slice, slice, slice], density: np.ndarray, hu: float) -> None:
    """Blend a tissue into a volume, in place.

    Args:
        volume: `(slices, rows, columns)` in HU.
        box: where.
        density: `(d, h, w)`, the share of the tissue in each voxel, 0 to 1.
        hu: of the tissue.
    """
    volume[box] += density * (hu - volume[box])


def _ellipsoid_depth(parts: Sequence[np.ndarray], shortest: float) -> np.ndarray:
    radius = np.sqrt(sum(part * part for part in parts))
    return np.asarray((1 - radius) * shortest)


def _blend(outside: np.ndarray, inside: float, depth: np.ndarray) -> np.ndarray:
    share = 0.5 + 0.5 * np.tanh(depth / (2 * _BLUR_MM))
    return np.asarray(outside + share * (inside - outside))
