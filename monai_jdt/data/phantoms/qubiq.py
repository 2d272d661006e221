"""Seeded phantoms in QUBIQ's files: 2D slices (and 3D pancreas), several structures, raters of known style, the true probability.

A case has one latent field phi_t for each task t, from which raters draw as `phantoms/raters.py` says.
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
from monai_jdt.validation import error_sentence

#: Raised whenever the same settings give other voxels, so that a folder of another version is not reused.
QUBIQ_PHANTOM_VERSION = 1

#: Layout name to the folder above the data sets.
QUBIQ_LAYOUTS: Mapping[str, str] = MappingProxyType({"qubiq2020": "training_data_v2", "qubiq2021": "training_data_v3_QC"})

# Styles by rater number. A data set takes as many as it has raters. Rater 6 marks three cases of four, as in the prostate set, the
# only one with six raters, where some cases have five.
_STYLES: tuple[RaterStyle, ...] = (
    RaterStyle("over-segmenting", bias_mm=1.0, sd_mm=0.7, length_mm=4.0),
    RaterStyle("under-segmenting", bias_mm=-0.9, sd_mm=0.7, length_mm=4.0),
    RaterStyle("jagged", bias_mm=0.1, sd_mm=0.9, length_mm=1.0),
    RaterStyle("smooth", bias_mm=0.2, sd_mm=1.0, length_mm=8.0),
    RaterStyle("wide", bias_mm=1.8, sd_mm=1.0, length_mm=3.0),
    RaterStyle("sometimes absent", bias_mm=-0.3, sd_mm=0.8, length_mm=3.0, presence=0.75),
    RaterStyle("tight", bias_mm=-1.6, sd_mm=0.8, length_mm=3.0),
)

# The radius of each task's structure, as a share of the field of view. Each structure lies inside the one before.
_RADII: Mapping[str, tuple[float, ...]] = {
    "brain-growth": (0.28,),
    "brain-tumor": (0.22, 0.14, 0.12),
    "kidney": (0.18,),
    "prostate": (0.25, 0.15),
    "pancreas": (0.20,),
    "pancreatic-lesion": (0.13,),
}
# Signals of the body and of each task's structure, one row per channel. CT in HU, MR in scanner units.
_SIGNALS: Mapping[str, tuple[tuple[float, ...], ...]] = {
    "brain-growth": ((420.0, 700.0),),
    "brain-tumor": ((380, 330, 310, 620), (380, 320, 340, 330), (420, 640, 700, 640), (430, 700, 560, 580)),
    "kidney": ((40.0, 180.0),),
    "prostate": ((300.0, 480.0, 380.0),),
    "pancreas": ((50.0, 110.0),),
    "pancreatic-lesion": ((90.0, 30.0),),
}
# Slices of a 3D phantom whose shape gives none.
_SLICES = 24


@dataclass(frozen=True)
class QubiqPhantom:
    """One case in memory.

    Args:
        image: int16, as in the file: `(H, W)`, `(H, W, 4)` for brain-tumor, `(H, W, 1)` for prostate, `(D, H, W)` for the
            pancreas sets.
        raters: what each rater marks, by the rater's number: `(T, *S)` bool, one channel per task. Absent raters are left out.
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
        One style per rater. Only prostate has a rater who leaves cases out.

    Raises:
        ValueError: for an unknown data set.

    Example:
        >>> [style.name for style in qubiq_styles("kidney")]
        ['over-segmenting', 'under-segmenting', 'jagged']
    """
    raters = _known_set(dataset).raters
    if raters > 6:  # brain-growth has seven raters, who marked every case
        return tuple(RaterStyle(**{**asdict(style), "presence": 1.0}) for style in _STYLES[:raters])
    return _STYLES[:raters]


def qubiq_phantom(
    index: int = 0, dataset: str = "brain-growth", *, shape: Sequence[int] | None = None, spacing: float = 1.0, seed: int = 0
) -> QubiqPhantom:
    """Make one case in memory.

    In every fourth case of brain-tumor nothing enhances: the masks of its task 3 are empty.

    Args:
        index: which case. A case depends on `seed`, `dataset` and `index` only, not on how many others are made.
        dataset: a key of :data:`QUBIQ_SETS`.
        shape: voxels, each at least 16: `(H, W)`, or `(D, H, W)` for the pancreas sets. None: 64 along each axis, and 24
            slices. The structures grow with it, whereas the raters' numbers are in mm.
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
    # as the real prostate files, which have a last axis of length 1
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
    """Write phantoms in the files of QUBIQ, or reuse a set of the same settings.

    The set is there as a whole or not at all, and safe with two processes: see :func:`make_phantom_folder`. The same settings give
    the same bytes. Beside each case's `image.nii.gz` and `taskTT_segRR.nii.gz` lies the true probability,
    `taskTT_probability.nii.gz` (float32).

    Args:
        root: the folder to make. It may exist if it is empty.
        datasets: which data sets: keys of :data:`QUBIQ_SETS`, one such key, or "all" for those of the layout's year.
        cases: how many of each data set, at least 1.
        shape: as in :func:`qubiq_phantom`. For 3D sets `(H, W)` means 24 slices of that size.
        spacing: as in :func:`qubiq_phantom`.
        layout: "qubiq2020", which has no pancreas, or "qubiq2021".
        seed: of the data set.
        progress: whether to show a progress bar.

    Returns:
        `root`, as a string.

    Raises:
        ValueError: if an argument is out of its range.
        FileExistsError: if `root` is there and is anything but an empty folder or the same phantoms.
    """
    settings = _settings_of_qubiq_set(layout, datasets, cases, shape, spacing, seed)

    def fill(draft: str) -> None:
        todo = [(name, index) for name in settings["datasets"] for index in range(cases)]
        for name, index in with_progress(todo, f"phantoms ({layout})", wanted=progress):
            case = qubiq_phantom(index, name, shape=settings["datasets"][name], spacing=settings["spacing"], seed=seed)
            _write_qubiq_case(os.path.join(draft, QUBIQ_LAYOUTS[layout], name), name, index, case)

    return make_phantom_folder(user_path(root), settings, _about(settings), fill)


def ensure_qubiq_phantoms(root: str | os.PathLike[str], **settings: Any) -> str:
    """Make the phantoms of :func:`write_qubiq_phantoms` unless they are there, for the `dataset_dir` of a config.

    Args:
        root: the folder.
        settings: arguments of :func:`write_qubiq_phantoms`; no progress bar unless `progress=True`.

    Returns:
        `root`, as a string.

    Raises:
        ValueError: as in :func:`write_qubiq_phantoms`.
        FileExistsError: as in :func:`write_qubiq_phantoms`.
    """
    return write_qubiq_phantoms(root, **{"progress": False, **settings})


def _known_set(dataset: str) -> QubiqSet:
    if dataset not in QUBIQ_SETS:
        raise ValueError(error_sentence("dataset", f"one of {sorted(QUBIQ_SETS)}", repr(dataset), "name one of these"))
    return QUBIQ_SETS[dataset]


def _checked_grid(known: QubiqSet, shape: Sequence[int] | None, spacing: float) -> tuple[tuple[int, ...], float]:
    default = (64, 64) if known.spatial_dims == 2 else (_SLICES, 64, 64)
    size = default if shape is None else tuple(shape)
    if len(size) != known.spatial_dims or any(int(n) != n or n < 16 for n in size):
        expected = f"{known.spatial_dims} whole numbers of at least 16 for {known.name}"
        raise ValueError(error_sentence("shape", expected, str(size), f"pass {default}"))
    if not 0 < spacing < np.inf:
        raise ValueError(error_sentence("spacing", "a positive number of mm", repr(spacing), "pass 1.0"))
    return tuple(int(n) for n in size), float(spacing)


def _settings_of_qubiq_set(
    layout: str, datasets: Sequence[str] | str, cases: int, shape: Sequence[int] | None, spacing: float, seed: int
) -> dict[str, Any]:
    """Check the arguments of a set, and return all that its files depend on, JSON-plain."""
    if layout not in QUBIQ_LAYOUTS:
        raise ValueError(error_sentence("layout", f"one of {sorted(QUBIQ_LAYOUTS)}", repr(layout), "name one of these"))
    of_year = [name for name, s in QUBIQ_SETS.items() if layout != "qubiq2020" or s.spatial_dims == 2]
    names = of_year if datasets == "all" else [datasets] if isinstance(datasets, str) else list(datasets)
    for name in names:
        if name not in of_year:
            raise ValueError(error_sentence("datasets", f"names among {of_year} ({layout})", repr(name), "name some of these"))
    if not names or cases < 1:
        got = f"{cases!r} of {names}"
        raise ValueError(error_sentence("cases", "at least 1 of at least one data set", got, "ask for 1 or more"))
    grids = {}
    for name in names:
        in_plane = shape is not None and len(shape) == 2 and QUBIQ_SETS[name].spatial_dims == 3
        grids[name], spacing = _checked_grid(QUBIQ_SETS[name], (_SLICES, *(shape or ())) if in_plane else shape, spacing)
    return {
        "layout": layout,
        "datasets": {name: list(grid) for name, grid in grids.items()},
        "cases": int(cases),
        "spacing": spacing,
        "seed": int(seed),
        "styles": {name: [asdict(style) for style in qubiq_styles(name)] for name in names},
        "qubiq_phantom_version": QUBIQ_PHANTOM_VERSION,
    }


def _draw_fields(
    rng: np.random.Generator, known: QubiqSet, shape: tuple[int, ...], spacing: tuple[float, ...], empty: bool
) -> tuple[PhantomLatent, np.ndarray]:
    """Return the tasks' fields, and the depth below the body's surface in mm (negative outside)."""
    axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float32)
    extent = np.array(shape) * np.array(spacing)
    size = float(extent.min())

    def lump(centre: np.ndarray, radii: np.ndarray, roughness: float) -> np.ndarray:
        """Return a bumpy ellipsoid as a signed distance in mm (nearly), positive inside."""
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
            # The enhancing rim: the core without the necrosis in it. Where nothing enhances, -30 mm is beyond any rater's reach.
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
