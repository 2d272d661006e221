"""Seeded CT-like chests with nodules, read by four radiologists, in LIDC-IDRI's own layout: DICOM series with an XML file each.

Every nodule has a latent field phi, from which readers draw as `phantoms/raters.py` says. Its density in the image blends with phi, so
that its border is as vague as the readers find it. Readers have the four styles of :data:`LIDC_STYLES`, in another order in each case:
as in LIDC, a reader's place says nothing about the person.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from monai_jdt.data.names import user_path
from monai_jdt.data.phantoms.chest import Chest, ChestGrid, draw_chest, render_chest, stamp_density
from monai_jdt.data.phantoms.fields import gaussian_field
from monai_jdt.data.phantoms.folder import MANIFEST, make_phantom_folder, write_phantom_volume
from monai_jdt.data.phantoms.lidc_files import LidcPointMark, LidcReading, NoduleReading, SeriesToWrite, write_lidc_series
from monai_jdt.data.phantoms.outlines import drawable_mask
from monai_jdt.data.phantoms.raters import PhantomLatent, RaterStyle, draw_rater, rater_probability
from monai_jdt.progress_bar import with_progress
from monai_jdt.validation import error_sentence

#: Raised whenever the same settings give other bytes, so that a folder of another version is not reused.
LIDC_PHANTOM_VERSION = 1

#: The readers of every case. `miss_small` is the probability that a reader does not mark a nodule after the first one.
LIDC_STYLES: tuple[RaterStyle, ...] = (
    RaterStyle("generous", bias_mm=0.7, sd_mm=0.5, length_mm=4.0),
    RaterStyle("tight", bias_mm=-0.5, sd_mm=0.4, length_mm=4.0, miss_small=0.25),
    RaterStyle("uneven", bias_mm=0.1, sd_mm=0.7, length_mm=2.5),
    RaterStyle("misses small nodules", bias_mm=0.0, sd_mm=0.5, length_mm=3.0, miss_small=0.6),
)

_READERS = 4
# HU of a nodule by its texture, LIDC's 5, 3 and 1, and the width in mm over which it blends into the lung.
_TEXTURES: Mapping[int, tuple[float, float]] = {5: (30.0, 0.7), 3: (-250.0, 1.2), 1: (-500.0, 1.6)}
# Standard deviation in HU of the scanner's noise.
_NOISE_HU = 22.0
# How far the box around a nodule reaches beyond it, in mm: six standard deviations of the widest reader.
_BORDER_MM = 6.0
_SMALLEST_MM, _LARGEST_MM = 5.0, 20.0


@dataclass(frozen=True)
class LidcPhantomNodule:
    """One nodule and what the readers drew of it, in the box around it.

    Args:
        corner: the first voxel of the box: slice, row, column.
        centre: in mm, the patient's z, y, x.
        diameter: in mm.
        texture: 1 (ground glass), 3 (part solid) or 5 (solid), as LIDC rates it.
        has_cavity: whether there is air within.
        latent: `phi` of shape `(1, d, h, w)`.
        marks: `(d, h, w)` bool by the number of the reading session, 0 to 3. A reader who did not mark the nodule is left out.
        probability: `(d, h, w)` float32, the share of the reader population that marks the voxel.
    """

    corner: tuple[int, int, int]
    centre: tuple[float, float, float]
    diameter: float
    texture: int
    has_cavity: bool
    latent: PhantomLatent
    marks: Mapping[int, np.ndarray]
    probability: np.ndarray

    @property
    def box(self) -> tuple[slice, slice, slice]:
        """Where the box lies in the volume."""
        z, y, x = (slice(start, start + size) for start, size in zip(self.corner, self.probability.shape, strict=True))
        return (z, y, x)


@dataclass(frozen=True)
class LidcPhantom:
    """One case in memory. Arrays have slices (upwards), rows and columns.

    Args:
        image: `(D, H, W)` int16, HU.
        grid: the voxels' places in mm.
        nodules: those that at least one reader marked.
        readings: what each of the four sessions says, for the XML.
    """

    image: np.ndarray
    grid: ChestGrid
    nodules: tuple[LidcPhantomNodule, ...]
    readings: tuple[LidcReading, ...]

    def reader_mask(self, session: int) -> np.ndarray:
        """Return what a reader marked, `(D, H, W)` bool.

        Args:
            session: 0 to 3.
        """
        mask = np.zeros(self.image.shape, bool)
        for nodule in self.nodules:
            if session in nodule.marks:
                mask[nodule.box] |= nodule.marks[session]
        return mask

    def probability(self) -> np.ndarray:
        """Return the share of the reader population that marks each voxel as nodule, `(D, H, W)` float32."""
        share = np.zeros(self.image.shape, np.float32)
        for nodule in self.nodules:
            share[nodule.box] = np.maximum(share[nodule.box], nodule.probability)
        return share

    @property
    def affine(self) -> np.ndarray:
        """`(4, 4)` float64, voxels (column, row, slice) to mm in RAS+, as in a NIfTI file."""
        slices, rows, columns = self.grid.spacing
        affine = np.diag([-columns, -rows, slices, 1.0])
        affine[:3, 3] = (-self.grid.x[0], -self.grid.y[0], self.grid.z[0])
        return affine


def lidc_phantom(
    index: int = 0,
    *,
    shape: Sequence[int] = (64, 64, 24),
    spacing: Sequence[float] | None = None,
    seed: int = 0,
    styles: Sequence[RaterStyle] = LIDC_STYLES,
) -> LidcPhantom:
    """Make one case in memory.

    The first nodule is marked by every reader. In every fourth case it has a cavity. One or two smaller ones follow where the field of
    view has room for them, and some readers do not mark those.

    Args:
        index: which case. A case depends on `seed` and `index` only, not on how many others are made.
        shape: columns, rows, slices, at least 40 x 40 x 12. `(512, 512, 133)` is a whole chest, a small one shows part of a lung.
        spacing: voxel size in mm, columns, rows, slices; None: 0.6 to 0.8 and 1.25 to 2.5, other in each case.
        seed: of the data set.
        styles: the four readers.

    Returns:
        The case; the same arguments give the same numbers.

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        >>> case = lidc_phantom(shape=(40, 40, 16), seed=1)
        >>> case.image.shape, case.image.dtype.name, len(case.readings), sorted(case.nodules[0].marks)
        ((16, 40, 40), 'int16', 4, [0, 1, 2, 3])
    """
    _check_settings(shape, spacing, styles)
    rng = np.random.default_rng([seed, index])
    drawn = (float(np.round(rng.uniform(0.6, 0.8), 6)), float(rng.choice([1.25, 1.5, 2.0, 2.5])))
    step = (drawn[0], drawn[0], drawn[1]) if spacing is None else tuple(float(s) for s in spacing)
    grid = _field_of_view(shape, step)
    chest = draw_chest(rng)
    volume = render_chest(rng, chest, grid)
    order = rng.permutation(_READERS)
    nodules: list[LidcPhantomNodule] = []
    for number in range(2 + index % 2):
        nodule = _draw_nodule(rng, chest, grid, nodules, [styles[place] for place in order], cavity=number == 0 and index % 4 == 3)
        if nodule is None:
            continue
        density = 0.5 + 0.5 * np.tanh(nodule.latent.phi[0] / (2 * _TEXTURES[nodule.texture][1]))
        stamp_density(volume, nodule.box, density, _TEXTURES[nodule.texture][0])
        nodules.append(nodule)
    readings = _readings(rng, chest, grid, volume, nodules)
    for piece in volume:
        piece += _NOISE_HU * gaussian_field(rng, grid.shape[1:], grid.spacing[1:], 0.5)
    image = np.clip(np.round(volume), -1024, 3071).astype(np.int16)
    return LidcPhantom(image, grid, tuple(nodule for nodule in nodules if nodule.marks), readings)


def write_lidc_phantoms(
    root: str | os.PathLike[str],
    *,
    cases: int = 12,
    shape: Sequence[int] = (64, 64, 24),
    spacing: Sequence[float] | None = None,
    seed: int = 0,
    styles: Sequence[RaterStyle] = LIDC_STYLES,
    progress: bool = True,
) -> str:
    """Write a phantom data set in the files of LIDC-IDRI, or reuse one of the same settings.

    The set is there as a whole or not at all, and safe with two processes: see :func:`make_phantom_folder`. The same settings give the
    same bytes.

    Each case is a folder `LIDC-IDRI-9001/<study UID>/<series UID>` with a DICOM file per slice (`1-001.dcm` is the uppermost) and one
    XML file with the four reading sessions: nodules of at least 3 mm with an outline in each slice, smaller ones with one point,
    and non-nodules. In the case's folder lies the true probability (`probability.nii.gz`, float32).

    Args:
        root: the folder to make. It may exist if it is empty.
        cases: how many, 1 to 999.
        shape: as in :func:`lidc_phantom`.
        spacing: as in :func:`lidc_phantom`.
        seed: of the data set.
        styles: as in :func:`lidc_phantom`.
        progress: whether to show a progress bar.

    Returns:
        `root`, as a string.

    Raises:
        ValueError: if an argument is out of its range.
        FileExistsError: if `root` is there and is anything but an empty folder or the same phantoms. Nothing is overwritten.
    """
    if not 1 <= cases <= 999:
        raise ValueError(error_sentence("cases", "a whole number from 1 to 999", repr(cases), "ask for 12"))
    _check_settings(shape, spacing, styles)
    settings = {
        "layout": "lidc",
        "cases": int(cases),
        "shape": [int(n) for n in shape],
        "spacing": None if spacing is None else [float(s) for s in spacing],
        "seed": int(seed),
        "styles": [asdict(style) for style in styles],
        "phantom_version": LIDC_PHANTOM_VERSION,
    }

    def fill(draft: str) -> None:
        for index in with_progress(range(cases), "phantoms (lidc)", wanted=progress):
            case = lidc_phantom(index, shape=shape, spacing=spacing, seed=seed, styles=styles)
            _write_lidc_case(draft, index, seed, case)

    return make_phantom_folder(user_path(root), settings, _lidc_readme(settings), fill)


def ensure_lidc_phantoms(root: str | os.PathLike[str], **settings: Any) -> str:
    """Make the phantoms of :func:`write_lidc_phantoms` unless they are there, for the `dataset_dir` of a config.

    Args:
        root: the folder.
        settings: arguments of :func:`write_lidc_phantoms`; no progress bar unless `progress=True`. Styles may be dictionaries of
            :class:`RaterStyle`'s arguments.

    Returns:
        `root`, as a string.

    Raises:
        ValueError: as in :func:`write_lidc_phantoms`.
        FileExistsError: as in :func:`write_lidc_phantoms`.
    """
    settings = {"progress": False, **settings}
    if "styles" in settings:
        settings["styles"] = [s if isinstance(s, RaterStyle) else RaterStyle(**s) for s in settings["styles"]]
    return write_lidc_phantoms(root, **settings)


def _check_settings(shape: Sequence[int], spacing: Sequence[float] | None, styles: Sequence[RaterStyle]) -> None:
    least = (40, 40, 12)
    if len(shape) != 3 or any(int(n) != n or n < smallest for n, smallest in zip(shape, least, strict=True)):
        raise ValueError(error_sentence("shape", f"three whole numbers of at least {least}", str(tuple(shape)), "pass (64, 64, 24)"))
    if spacing is not None and (len(spacing) != 3 or not all(0.4 <= s <= 5 for s in spacing) or spacing[0] != spacing[1]):
        expected = "three numbers of mm from 0.4 to 5, the first two equal"
        raise ValueError(error_sentence("spacing", expected, str(tuple(spacing)), "pass (0.7, 0.7, 1.25)"))
    if len(styles) != _READERS or styles[0].miss_small > 0:
        got = str([(style.name, style.miss_small) for style in styles])
        raise ValueError(error_sentence("styles", "four, the first with miss_small 0", got, "take LIDC_STYLES as a start"))


def _field_of_view(shape: Sequence[int], spacing: Sequence[float]) -> ChestGrid:
    """Return the voxels' places. A small field of view looks at the outer part of the left lung and at the wall beside it."""
    columns, rows, slices = ((np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing, strict=True))
    wide = shape[0] * spacing[0]
    x, y, z = (np.round(axis, 6) for axis in (columns + max(0.0, 140 - wide / 2), rows, slices))
    return ChestGrid(x, y, z, (float(spacing[2]), float(spacing[1]), float(spacing[0])))


def _draw_nodule(
    rng: np.random.Generator,
    chest: Chest,
    grid: ChestGrid,
    others: Sequence[LidcPhantomNodule],
    styles: Sequence[RaterStyle],
    *,
    cavity: bool,
) -> LidcPhantomNodule | None:
    """Draw a nodule in free lung, and what the readers mark of it. None: there is no room."""
    extent = min(size * step for size, step in zip(grid.shape, grid.spacing, strict=True))
    diameter = rng.uniform(_SMALLEST_MM, 8)
    if not others:
        largest = min(_LARGEST_MM, 0.38 * extent)
        diameter = rng.uniform(0.6 * largest, largest)
    texture = 5 if cavity else int(rng.choice([5, 5, 5, 3, 1]))
    centre = _free_place(rng, chest, grid, others, diameter / 2)
    if centre is None:
        return None
    radius = diameter / 2
    box = grid.box(centre, radius + _BORDER_MM)
    points = grid.points(box) - np.array(centre, np.float32)[:, None, None, None]
    size = points.shape[1:]
    axes = (radius * rng.uniform(0.85, 1.18, size=3))[:, None, None, None]
    bumps = gaussian_field(rng, size, grid.spacing, 0.45 * radius)
    phi = (1 - np.sqrt(((points / axes) ** 2).sum(0)) + 0.10 * bumps) * radius
    if cavity:
        phi = np.minimum(phi, np.sqrt((points**2).sum(0)) - 0.34 * radius)
    phi = (phi / (1.5 if texture == 1 else 1.0)).astype(np.float32)[None]
    # a reader who does not see it marks nothing; every reader sees the first one
    unseen = np.full_like(phi, -1e3) if others else phi
    latent = PhantomLatent(phi, unseen, grid.spacing)
    corner = (box[0].start, box[1].start, box[2].start)
    marks = {}
    for session, style in enumerate(styles):
        drawn = _as_drawn(draw_rater(latent, style, rng)[0], corner, grid.shape)
        if drawn.any():
            marks[session] = drawn
    probability = rater_probability(latent, [replace(style, presence=1.0) for style in styles])[0]
    return LidcPhantomNodule(corner, centre, float(diameter), texture, cavity, latent, marks, probability)


def _free_place(
    rng: np.random.Generator, chest: Chest, grid: ChestGrid, others: Sequence[LidcPhantomNodule], radius: float
) -> tuple[float, float, float] | None:
    """Return a point in the lung, away from its surface, from the edges of the field of view and from other nodules."""
    axes = (grid.z, grid.y, grid.x)
    margin = [min(radius + step * 2, 0.45 * (axis[-1] - axis[0])) for axis, step in zip(axes, grid.spacing, strict=True)]
    for _ in range(500):
        place = [float(rng.uniform(axis[0] + near, axis[-1] - near)) for axis, near in zip(axes, margin, strict=True)]
        depth = float(chest.lung_depth(*(np.float64(value) for value in place)))
        apart = all(np.linalg.norm(np.subtract(place, other.centre)) > radius + other.diameter / 2 + 4 for other in others)
        if depth > radius + 1 and apart:
            return (place[0], place[1], place[2])
    return None


def _as_drawn(marked: np.ndarray, corner: Sequence[int], shape: Sequence[int]) -> np.ndarray:
    """Return a drawing that outlines can tell: off the edge of the image, where they run, and without tiny holes."""
    inside = marked.copy()
    for axis in (1, 2):
        # the box's own border is further out than any reader draws
        kept = np.arange(marked.shape[axis])
        kept = (kept > 0) & (kept < marked.shape[axis] - 1)
        place = np.arange(marked.shape[axis]) + corner[axis]
        kept &= (place > 0) & (place < shape[axis] - 1)
        inside &= kept[None, :, None] if axis == 1 else kept[None, None, :]
    return np.stack([drawable_mask(piece) for piece in inside])


def _readings(
    rng: np.random.Generator, chest: Chest, grid: ChestGrid, volume: np.ndarray, nodules: Sequence[LidcPhantomNodule]
) -> tuple[LidcReading, ...]:
    """Return what the readers say. Nodules of less than 3 mm are stamped into the volume, and marked by a point."""
    dots = [place for _ in range(2) if (place := _free_place(rng, chest, grid, nodules, 1.5)) is not None]
    for place in dots:
        box = grid.box(place, 3.0)
        away = np.sqrt(((grid.points(box) - np.array(place, np.float32)[:, None, None, None]) ** 2).sum(0))
        stamp_density(volume, box, 0.5 + 0.5 * np.tanh((1.1 - away) / 0.8), 20.0)
    scars = [place for _ in range(2) if (place := _free_place(rng, chest, grid, nodules, 1.5)) is not None]
    readings = []
    for session in range(_READERS):
        found = [
            NoduleReading(nodule.corner, nodule.marks[session], _characteristics(rng, nodule))
            for nodule in nodules
            if session in nodule.marks
        ]
        small = [_point_near(rng, grid, place) for place in dots if rng.random() < 0.6]
        others = [_point_near(rng, grid, place) for place in scars if rng.random() < 0.6]
        readings.append(LidcReading(int(rng.integers(1, 2**31)), tuple(found), tuple(small), tuple(others)))
    return tuple(readings)


def _point_near(rng: np.random.Generator, grid: ChestGrid, place: Sequence[float]) -> LidcPointMark:
    corners = [int(np.abs(axis - value).argmin()) for axis, value in zip((grid.z, grid.y, grid.x), place, strict=True)]
    row, column = (int(np.clip(at + rng.integers(-1, 2), 0, size - 1)) for at, size in zip(corners[1:], grid.shape[1:], strict=True))
    return LidcPointMark(corners[0], row, column)


def _characteristics(rng: np.random.Generator, nodule: LidcPhantomNodule) -> dict[str, int]:
    """Return a reader's nine scores: about what the nodule is, and each reader a little different."""

    def score(about: float) -> int:
        return int(np.clip(round(about + rng.normal(scale=0.6)), 1, 5))

    return {
        "subtlety": score(2 + nodule.diameter / 8 if nodule.texture == 5 else 2.5),
        "internalStructure": 4 if nodule.has_cavity else 1,
        "calcification": 6,
        "sphericity": score(4),
        "margin": score(4.5 if nodule.texture == 5 else 2.5),
        "lobulation": score(1.8),
        "spiculation": score(1.5),
        "texture": int(np.clip(nodule.texture + rng.integers(-1, 2), 1, 5)),
        "malignancy": score(1.5 + nodule.diameter / 7),
    }


def _write_lidc_case(root: str, index: int, seed: int, case: LidcPhantom) -> None:
    patient = f"LIDC-IDRI-{9001 + index}"
    shape = "x".join(map(str, case.image.shape))
    series = SeriesToWrite(patient, f"{patient} seed {seed} {shape}", case.image, case.grid, case.readings, f"{index + 1:03d}.xml")
    write_lidc_series(os.path.join(root, patient), series)
    # columns, rows, slices, as the affine has them
    write_phantom_volume(os.path.join(root, patient, "probability.nii.gz"), case.probability().transpose(2, 1, 0), case.affine)


def _lidc_readme(settings: Mapping[str, Any]) -> str:
    lines = [
        "These are PHANTOMS: synthetic CT images and readings made by monai_jdt. No patient is in them.",
        f"Layout of LIDC-IDRI, {settings['cases']} cases, seed {settings['seed']}, version {LIDC_PHANTOM_VERSION}.",
        "LIDC-IDRI-<n>/<study>/<series>: DICOM slices and the XML file of four reading sessions; probability.nii.gz: the share of",
        "the reader population that marks a voxel, from the model itself.",
        "Readers, in another order in each case:",
    ]
    for style in settings["styles"]:
        numbers = ", ".join(f"{key} {value}" for key, value in style.items() if key not in ("name", "presence"))
        lines.append(f"  {style['name']} ({numbers})")
    return "\n".join([*lines, f"All settings are in {MANIFEST}."])
