"""Seeded phantoms in QUBIQ's files: 2D slices (and 3D pancreas), several structures, raters of known style, the true probability.

Raters draw as `phantoms/raters.py` says, with one latent field phi_t for each task t and one deviation e for each rater:
a rater of style s marks `{x : phi_t(x) + bias_s + sd_s * e(x) > 0}`, so that the probability of a mark is
`Phi((phi_t + bias_s) / sd_s)`, averaged over the styles.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from monai_jdt.data.layouts.qubiq import QUBIQ_SETS, QubiqSet
from monai_jdt.data.names import user_path
from monai_jdt.data.phantoms.fields import gaussian_field
from monai_jdt.data.phantoms.folder import MANIFEST, make_phantom_folder, write_phantom_volume
from monai_jdt.data.phantoms.raters import PhantomLatent, RaterStyle, draw_rater, rater_probability
from monai_jdt.progress_bar import with_progress

#: Goes up whenever the same settings give other voxels; a folder made by another version is not reused.
QUBIQ_PHANTOM_VERSION = 1

#: Layout name to the folder above the data sets.
QUBIQ_LAYOUTS: Mapping[str, str] = MappingProxyType({"qubiq2020": "training_data_v2", "qubiq2021": "training_data_v3_QC"})

# The last one hands in three cases of four: only the prostate set has six raters, and cases with five.
_STYLES: tuple[RaterStyle, ...] = (
    RaterStyle("over-segmenting", bias_mm=1.0, sd_mm=0.7, length_mm=4.0),
    RaterStyle("under-segmenting", bias_mm=-0.9, sd_mm=0.7, length_mm=4.0),
    RaterStyle("jagged", bias_mm=0.1, sd_mm=0.9, length_mm=1.0),
    RaterStyle("smooth", bias_mm=0.2, sd_mm=1.0, length_mm=8.0),
    RaterStyle("wide", bias_mm=1.8, sd_mm=1.0, length_mm=3.0),
    RaterStyle("sometimes absent", bias_mm=-0.3, sd_mm=0.8, length_mm=3.0, presence=0.75),
    RaterStyle("tight", bias_mm=-1.6, sd_mm=0.8, length_mm=3.0),
)

# Of each task's structure: radius as a share of the field of view; every further one lies inside the one before.
_RADII: Mapping[str, tuple[float, ...]] = {
    "brain-growth": (0.28,),
    "brain-tumor": (0.22, 0.14, 0.12),
    "kidney": (0.18,),
    "prostate": (0.25, 0.15),
    "pancreas": (0.20,),
    "pancreatic-lesion": (0.13,),
}
# Signal of the body and, by task, inside each structure; one row a channel. CT in HU, MR in scanner units.
_SIGNALS: Mapping[str, tuple[tuple[float, ...], ...]] = {
    "brain-growth": ((420.0, 700.0),),
    "brain-tumor": ((380, 330, 310, 620), (380, 320, 340, 330), (420, 640, 700, 640), (430, 700, 560, 580)),
    "kidney": ((40.0, 180.0),),
    "prostate": ((300.0, 480.0, 380.0),),
    "pancreas": ((50.0, 110.0),),
    "pancreatic-lesion": ((90.0, 30.0),),
}


@dataclass(frozen=True)
class QubiqPhantom:
    """One case in memory.

    Args:
        image: int16, as in the file: `(H, W)`, `(H, W, 4)` for brain-tumor, `(H, W, 1)` for prostate, `(D, H, W)` for the
            pancreas sets.
        raters: a rater's number to what they mark, `(T, *S)` bool, a channel a task; absent raters are left out.
        probability: `(T, *S)` float32, the share of the rater population that marks the voxel.
        affine: `(4, 4)` float64, voxels to mm.
        latent: the fields behind it.
    """

    image: np.ndarray
    raters: Mapping[int, np.ndarray]
    probability: np.ndarray
    affine: np.ndarray
    latent: PhantomLatent


def qubiq_styles(dataset: str) -> tuple[RaterStyle, ...]:
    """The raters of a data set's phantoms, by number.

    Args:
        dataset: a key of :data:`QUBIQ_SETS`.

    Returns:
        As many styles as the data set has raters. Only prostate has one who leaves cases out.

    Raises:
        ValueError: for an unknown data set.

    Example:
        >>> [style.name for style in qubiq_styles("kidney")]
        ['over-segmenting', 'under-segmenting', 'jagged']
    """
    raters = _known_set(dataset).raters
    if raters > 6:  # growth's seven are all there in every case
        return tuple(RaterStyle(**{**asdict(style), "presence": 1.0}) for style in _STYLES[:raters])
    return _STYLES[:raters]


def qubiq_phantom(
    index: int = 0, dataset: str = "brain-growth", *, shape: Sequence[int] | None = None, spacing: float = 1.0, seed: int = 0
) -> QubiqPhantom:
    """Make one case in memory.

    In every fourth case of brain-tumor nothing enhances: the masks of its task 3 are empty.

    Args:
        index: which case; a case depends on `seed`, `dataset` and `index` only, not on how many others are made.
        dataset: a key of :data:`QUBIQ_SETS`.
        shape: voxels, each at least 16: `(H, W)`, or `(D, H, W)` for the pancreas sets; None: 64 along each axis, and 24
            slices. The structures grow with it; the raters' numbers are in mm.
        spacing: voxel size in mm.
        seed: of the data set.

    Returns:
        The case; the same arguments give the same numbers.

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        >>> case = qubiq_phantom(dataset="brain-tumor", shape=(32, 32))
        >>> case.image.shape, case.probability.shape, sorted(case.raters)
        ((32, 32, 4), (3, 32, 32), [1, 2, 3])
    """
    known = _known_set(dataset)
    size, step = _checked_grid(known, shape, spacing)
    rng = np.random.default_rng([seed, list(QUBIQ_SETS).index(dataset), index])
    spacings = (step,) * len(size)
    latent, body = _draw_fields(rng, known, size, spacings, empty=dataset == "brain-tumor" and index % 4 == 3)
    image = _render_channels(rng, dataset, latent, body)
    styles = qubiq_styles(dataset)
    raters = {}
    for number, style in enumerate(styles, start=1):
        present = rng.random() < style.presence
        marked = draw_rater(latent, style, rng)  # drawn in any case: the other raters do not depend on who is absent
        if present:
            raters[number] = marked
    affine = np.diag([-step, -step, step, 1.0])
    affine[:3, 3] = np.round(rng.uniform(-40, 40, size=3), 3).astype(np.float32)
    # the real prostate files have a last axis of length 1
    image = np.moveaxis(image, 0, -1) if known.channels or dataset == "prostate" else image[0]
    return QubiqPhantom(image.astype(np.int16), raters, rater_probability(latent, styles), affine, latent)


def write_qubiq_phantoms(
    root: str | os.PathLike[str],
    *,
    datasets: Sequence[str] | str = "brain-growth",
    cases: int = 12,
    shape: Sequence[int] | None = None,
    spacing: float = 1.0,
    layout: str = "qubiq2021",
    seed: int = 0,
    progress: bool = True,
) -> str:
    """Write phantoms in the files of QUBIQ; a set that was made with the same settings is reused.

    As for :func:`write_brats_phantoms`: there as a whole or not at all, safe with two processes, the same bytes for the
    same settings. Beside each case's `image.nii.gz` and `taskTT_segRR.nii.gz` lies the true probability,
    `taskTT_probability.nii.gz` (float32).

    Args:
        root: the folder to make; it may exist if it is empty.
        datasets: which data sets, keys of :data:`QUBIQ_SETS`; a single name, or "all" that the layout's year has.
        cases: how many of each data set, at least 1.
        shape: as in :func:`qubiq_phantom`; `(H, W)` is taken for 3D sets too, with 24 slices.
        spacing: as in :func:`qubiq_phantom`.
        layout: "qubiq2020" or "qubiq2021"; 2020 has no pancreas.
        seed: of the data set.
        progress: whether to show a progress bar.

    Returns:
        `root`, as a string.

    Raises:
        ValueError: if an argument is out of its range.
        FileExistsError: if `root` is there and is anything but an empty folder or the same phantoms.
    """
    if layout not in QUBIQ_LAYOUTS:
        raise ValueError(f"layout: expected one of {sorted(QUBIQ_LAYOUTS)}, got {layout!r}")
    of_year = [name for name, s in QUBIQ_SETS.items() if layout != "qubiq2020" or s.spatial_dims == 2]
    names = of_year if datasets == "all" else [datasets] if isinstance(datasets, str) else list(datasets)
    for name in names:
        if name not in of_year:
            raise ValueError(f"datasets: expected names among {of_year} ({layout}), got {name!r}")
    if not names or cases < 1:
        raise ValueError(f"cases: expected at least 1 of at least one data set, got {cases!r} of {names}")
    grids = {}
    for name in names:
        with_slices = shape is not None and len(shape) == 2 and QUBIQ_SETS[name].spatial_dims == 3
        grids[name], spacing = _checked_grid(QUBIQ_SETS[name], (24, *(shape or ())) if with_slices else shape, spacing)
    settings = {
        "layout": layout,
        "datasets": {name: list(grid) for name, grid in grids.items()},
        "cases": int(cases),
        "spacing": spacing,
        "seed": int(seed),
        "styles": {name: [asdict(style) for style in qubiq_styles(name)] for name in names},
        "qubiq_phantom_version": QUBIQ_PHANTOM_VERSION,
    }

    def fill(draft: str) -> None:
        todo = [(name, index) for name in names for index in range(cases)]
        for name, index in with_progress(todo, f"phantoms ({layout})", wanted=progress):
            case = qubiq_phantom(index, name, shape=grids[name], spacing=spacing, seed=seed)
            _write_qubiq_case(os.path.join(draft, QUBIQ_LAYOUTS[layout], name), name, index, case)

    return make_phantom_folder(user_path(root), settings, _about(settings), fill)


def ensure_qubiq_phantoms(root: str | os.PathLike[str], **settings: Any) -> str:
    """The phantoms of :func:`write_qubiq_phantoms`, made now if they are not there; for a config's `dataset_dir`.

    Args:
        root: the folder.
        settings: arguments of :func:`write_qubiq_phantoms`; no progress bar unless `progress=True`.

    Returns:
        `root`, as a string.

    Raises:
        ValueError: as :func:`write_qubiq_phantoms`.
        FileExistsError: as :func:`write_qubiq_phantoms`.
    """
    return write_qubiq_phantoms(root, **{"progress": False, **settings})


def _known_set(dataset: str) -> QubiqSet:
    if dataset not in QUBIQ_SETS:
        raise ValueError(f"dataset: expected one of {sorted(QUBIQ_SETS)}, got {dataset!r}")
    return QUBIQ_SETS[dataset]


def _checked_grid(known: QubiqSet, shape: Sequence[int] | None, spacing: float) -> tuple[tuple[int, ...], float]:
    size = tuple(shape) if shape is not None else ((64, 64) if known.spatial_dims == 2 else (24, 64, 64))
    if len(size) != known.spatial_dims or any(int(n) != n or n < 16 for n in size):
        raise ValueError(f"shape: expected {known.spatial_dims} whole numbers of at least 16 for {known.name}, got {size}")
    if not 0 < spacing < np.inf:
        raise ValueError(f"spacing: expected a positive number of mm, got {spacing!r}")
    return tuple(int(n) for n in size), float(spacing)


def _draw_fields(
    rng: np.random.Generator, known: QubiqSet, shape: tuple[int, ...], spacing: tuple[float, ...], empty: bool
) -> tuple[PhantomLatent, np.ndarray]:
    """The tasks' fields, and the depth below the body's surface in mm (negative outside)."""
    axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float32)
    extent = np.array(shape) * np.array(spacing)
    size = float(extent.min())

    def lump(centre: np.ndarray, radii: np.ndarray, roughness: float) -> np.ndarray:
        """A bumpy ellipsoid as a signed distance in mm (nearly), positive inside."""
        radius = float(radii.min())
        away = np.sqrt(sum(((x - c) / r) ** 2 for x, c, r in zip(grid, centre, radii, strict=True)))
        return (1 - away) * radius + roughness * radius * gaussian_field(rng, shape, spacing, 0.4 * radius)

    body = lump(np.zeros(len(shape)), 0.44 * extent, 0.02)
    room = 0.0 if known.name in ("brain-growth", "prostate") else 0.12
    centre = rng.uniform(-room, room, size=len(shape)) * extent
    fields: list[np.ndarray] = []
    for number, radius in enumerate(_RADII[known.name]):
        stretch = rng.uniform(0.85, 1.2, size=len(shape)) * (extent / size) ** 0.5
        field = np.minimum(lump(centre, radius * size * stretch, 0.15), fields[-1] if fields else body)
        if known.name == "brain-tumor" and number == 2:
            # The enhancing rim: the core without the necrosis in it; where nothing enhances, far from any boundary.
            hole = lump(centre, 0.055 * size * stretch, 0.2)
            field = np.full(shape, -30.0) if empty else np.minimum(field, -hole)
        fields.append(field)
        centre = centre + rng.uniform(-0.02, 0.02, size=len(shape)) * extent
    phi = np.stack(fields).astype(np.float32)
    return PhantomLatent(phi, phi, spacing), body


def _render_channels(rng: np.random.Generator, dataset: str, latent: PhantomLatent, body: np.ndarray) -> np.ndarray:
    shape, spacing = body.shape, latent.spacing
    size = min(n * s for n, s in zip(shape, spacing, strict=True))
    # The blend has the width of about one rater sd, so that the border's vagueness can be read from the image.
    inside = 0.5 + 0.5 * np.tanh(latent.phi)
    skin = 0.5 + 0.5 * np.tanh(body / (0.5 * spacing[0]))
    channels = []
    for signals in _SIGNALS[dataset]:
        voxel = np.full(shape, signals[0], dtype=np.float64)
        for field, signal in zip(inside, signals[1:], strict=True):
            voxel += field * (signal - voxel)
        contrast = abs(signals[1] - signals[0])
        voxel += 0.08 * contrast * gaussian_field(rng, shape, spacing, 0.05 * size)
        voxel += 0.08 * contrast * rng.standard_normal(shape)
        air = -1000.0 if QUBIQ_SETS[dataset].is_ct else 0.0
        channels.append(np.round(air + skin * (voxel - air)))
    return np.stack(channels)


def _write_qubiq_case(folder: str, dataset: str, index: int, case: QubiqPhantom) -> None:
    if QUBIQ_SETS[dataset].spatial_dims == 3:
        place = os.path.join(folder, f"case{index + 1}-1")
    else:
        place = os.path.join(folder, "Training", f"case{index + 1:02d}")

    def write(name: str, voxels: np.ndarray) -> None:
        voxels = voxels[..., None] if dataset == "prostate" and voxels.ndim == 2 else voxels
        write_phantom_volume(os.path.join(place, name), voxels, case.affine)

    write("image.nii.gz", case.image)
    for task in range(len(case.probability)):
        for number, marked in case.raters.items():
            write(f"task{task + 1:02d}_seg{number:02d}.nii.gz", marked[task].astype(np.uint8))
        write(f"task{task + 1:02d}_probability.nii.gz", case.probability[task])


def _about(settings: Mapping[str, Any]) -> str:
    lines = [
        "These are PHANTOMS: synthetic images and raters made by monai_jdt. No patient is in them.",
        f"Layout {settings['layout']}, {settings['cases']} cases of {', '.join(settings['datasets'])}, seed {settings['seed']}.",
        "taskTT_segRR: what rater RR marked; taskTT_probability: the share of the rater population that marks a voxel,",
        "from the model itself.",
    ]
    return "\n".join([*lines, f"All settings are in {MANIFEST}."])
