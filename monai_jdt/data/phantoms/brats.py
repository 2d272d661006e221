"""Seeded 3D phantoms: MR-like heads with nested tumours, raters of known style, and each voxel's true probability.

Every case has latent fields phi_WT >= phi_TC >= phi_ET at every voxel, from which raters draw as `phantoms/raters.py` says. A field
grows by about 1 for each mm from the boundary inwards (slower where the boundary is ambiguous). The image contrast blends with phi,
so that soft boundaries can be seen.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from monai_jdt.data.layouts.brats import BRATS_FILE_NAMES, LAYOUT_CONVENTIONS, MODALITIES, MSD_CHANNELS
from monai_jdt.data.layouts.regions import region_convention
from monai_jdt.data.names import user_path
from monai_jdt.data.phantoms.fields import gaussian_field
from monai_jdt.data.phantoms.folder import MANIFEST, make_phantom_folder, write_phantom_text, write_phantom_volume
from monai_jdt.data.phantoms.raters import DEFAULT_STYLES, PhantomLatent, RaterStyle, draw_rater, rater_probability
from monai_jdt.progress_bar import with_progress
from monai_jdt.validation import error_sentence

#: Raised whenever the same settings give other voxels, so that a folder of another version is not reused.
PHANTOM_VERSION = 1


@dataclass(frozen=True)
class PhantomCase:
    """One case in memory.

    Args:
        image: `(4, H, W, D)` float32; T1c, T1, T2, FLAIR; 0 outside the brain, as after skull stripping.
        raters: label maps `(H, W, D)` uint8 by "rater1", "rater2", ...; the number is the style's place, absent raters are left
            out.
        fused: the raters' majority in each region (at least `R // 2 + 1` of R), as a label map.
        probability: `(3, H, W, D)` float32; TC, WT, ET; the share of the rater population that marks the voxel.
        affine: `(4, 4)` float64, voxels to mm.
        latent: the fields behind it.
    """

    image: np.ndarray
    raters: Mapping[str, np.ndarray]
    fused: np.ndarray
    probability: np.ndarray
    affine: np.ndarray
    latent: PhantomLatent


def brats_phantom(
    index: int = 0,
    *,
    shape: Sequence[int] = (48, 48, 48),
    spacing: Sequence[float] = (1.0, 1.0, 1.2),
    seed: int = 0,
    convention: str = "brats2021",
    styles: Sequence[RaterStyle] = DEFAULT_STYLES,
    small_lesion: bool | None = None,
) -> PhantomCase:
    """Make one case in memory.

    Args:
        index: which case. A case depends on `seed` and `index` only, not on how many others are made.
        shape: voxels, three numbers of at least 12. The head fills the field of view, whatever its size. The raters'
            numbers are in mm, so that they disagree less, relatively, on a larger grid.
        spacing: voxel size in mm.
        seed: of the data set.
        convention: a key of `REGION_CONVENTIONS`, which says how regions become label values.
        styles: the rater population. At least one has presence 1, so that every case has a rater.
        small_lesion: whether there is a second, small lesion; None: in every third case.

    Returns:
        The case; the same arguments give the same numbers.

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        >>> case = brats_phantom(shape=(16, 16, 16))
        >>> case.image.shape, sorted(case.raters)[0], np.unique(case.fused).tolist()
        ((4, 16, 16, 16), 'rater1', [0, 1, 2, 4])
    """
    shape, spacing, styles = _checked_settings(shape, spacing, styles)
    region_convention(convention)
    rng = np.random.default_rng([seed, index])
    affine = _scanner_affine(rng, shape, spacing)
    small = index % 3 == 1 if small_lesion is None else small_lesion
    latent, depth = _draw_latent(rng, shape, spacing, small)
    image = _render_image(rng, latent, depth)
    drawn = {}
    for number, style in enumerate(styles, start=1):
        present = rng.random() < style.presence
        regions = draw_rater(latent, style, rng)  # drawn in any case: the other raters do not depend on who is absent
        if present:
            drawn[f"rater{number}"] = regions
    fused = np.sum([regions.astype(np.uint8) for regions in drawn.values()], axis=0) >= len(drawn) // 2 + 1
    raters = {name: _label_map(regions, convention) for name, regions in drawn.items()}
    probability = rater_probability(latent, styles)
    return PhantomCase(image, raters, _label_map(fused, convention), probability, affine, latent)


def write_brats_phantoms(
    root: str | os.PathLike[str],
    *,
    cases: int = 12,
    shape: Sequence[int] = (48, 48, 48),
    spacing: Sequence[float] = (1.0, 1.0, 1.2),
    layout: str = "brats2021",
    seed: int = 0,
    styles: Sequence[RaterStyle] = DEFAULT_STYLES,
    progress: bool = True,
) -> str:
    """Write a phantom data set in the files of a BraTS layout, or reuse one of the same settings.

    The set is there as a whole or not at all, and safe with two processes: see :func:`make_phantom_folder`. The same settings give
    the same bytes.

    Beside each case's images lie its raters (`..._seg_rater1.nii.gz`, ...), their majority (`..._seg.nii.gz`) and the
    true probability (`..._probability.nii.gz`, float32, TC, WT, ET on the last axis).

    Args:
        root: the folder to make. It may exist if it is empty.
        cases: how many, at least 1.
        shape: as in :func:`brats_phantom`.
        spacing: as in :func:`brats_phantom`.
        layout: "brats2018", "brats2021", "brats2023" or "msd".
        seed: of the data set.
        styles: as in :func:`brats_phantom`.
        progress: whether to show a progress bar.

    Returns:
        `root`, as a string.

    Raises:
        ValueError: if an argument is out of its range.
        FileExistsError: if `root` is there and is anything but an empty folder or the same phantoms. Nothing is
            overwritten.
    """
    settings = _settings_of_brats_set(layout, cases, shape, spacing, seed, styles)

    def fill(draft: str) -> None:
        names = []
        for index in with_progress(range(cases), f"phantoms ({layout})", wanted=progress):
            case = brats_phantom(index, shape=shape, spacing=spacing, seed=seed, convention=LAYOUT_CONVENTIONS[layout], styles=styles)
            names.append(_write_case(draft, layout, index, case))
        if layout == "msd":
            write_phantom_text(os.path.join(draft, "dataset.json"), json.dumps(_msd_manifest(names), indent=2))

    return make_phantom_folder(user_path(root), settings, _readme(settings), fill)


def ensure_brats_phantoms(root: str | os.PathLike[str], **settings: Any) -> str:
    """Make the phantoms of :func:`write_brats_phantoms` unless they are there, for the `dataset_dir` of a config.

    Args:
        root: the folder.
        settings: arguments of :func:`write_brats_phantoms`; no progress bar unless `progress=True`. Styles may be
            dictionaries of :class:`RaterStyle`'s arguments.

    Returns:
        `root`, as a string.

    Raises:
        ValueError: as in :func:`write_brats_phantoms`.
        FileExistsError: as in :func:`write_brats_phantoms`.
    """
    settings = {"progress": False, **settings}
    if "styles" in settings:
        settings["styles"] = [s if isinstance(s, RaterStyle) else RaterStyle(**s) for s in settings["styles"]]
    return write_brats_phantoms(root, **settings)


def _checked_settings(
    shape: Sequence[int], spacing: Sequence[float], styles: Sequence[RaterStyle]
) -> tuple[tuple[int, ...], tuple[float, float, float], tuple[RaterStyle, ...]]:
    if len(shape) != 3 or any(int(n) != n or n < 12 for n in shape):
        raise ValueError(error_sentence("shape", "three whole numbers of at least 12 voxels", str(tuple(shape)), "pass (48, 48, 48)"))
    if len(spacing) != 3 or not all(0 < s < np.inf for s in spacing):
        raise ValueError(error_sentence("spacing", "three positive numbers of mm", str(tuple(spacing)), "pass (1.0, 1.0, 1.2)"))
    if not any(style.presence == 1 for style in styles):
        expected = "at least one with presence 1, since every case needs a rater"
        got = str([(style.name, style.presence) for style in styles])
        raise ValueError(error_sentence("styles", expected, got, "set the presence of one to 1"))
    x, y, z = (float(s) for s in spacing)
    return tuple(int(n) for n in shape), (x, y, z), tuple(styles)


def _settings_of_brats_set(
    layout: str, cases: int, shape: Sequence[int], spacing: Sequence[float], seed: int, styles: Sequence[RaterStyle]
) -> dict[str, Any]:
    """Check the arguments of a set, and return all that its files depend on, JSON-plain."""
    if layout not in LAYOUT_CONVENTIONS:
        raise ValueError(error_sentence("layout", f"one of {sorted(LAYOUT_CONVENTIONS)}", repr(layout), "name one of these"))
    if cases < 1:
        raise ValueError(error_sentence("cases", "at least 1", repr(cases), "ask for 1 or more"))
    voxels, edges, population = _checked_settings(shape, spacing, styles)
    return {
        "layout": layout,
        "cases": int(cases),
        "shape": list(voxels),
        "spacing": list(edges),
        "seed": int(seed),
        "styles": [asdict(style) for style in population],
        "phantom_version": PHANTOM_VERSION,
    }


def _scanner_affine(rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float]) -> np.ndarray:
    """Voxels to mm: a few degrees of head tilt, half of the cases with flipped x and y axes (LPS), a centred origin."""
    angles = np.deg2rad(rng.uniform(-6, 6, size=3))
    rotation = np.eye(3)
    for axis, angle in enumerate(angles):
        i, j = [k for k in range(3) if k != axis]
        turn = np.eye(3)
        turn[[i, i, j, j], [i, j, i, j]] = [np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)]
        rotation = rotation @ turn
    flip = np.diag([-1.0, -1.0, 1.0]) if rng.random() < 0.5 else np.eye(3)
    affine = np.eye(4)
    affine[:3, :3] = rotation @ flip @ np.diag(spacing)
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2) + rng.uniform(-8, 8, size=3)
    # As float32, which is what a NIfTI header holds: the affine in memory equals the one in the file.
    return np.round(affine, 5).astype(np.float32).astype(np.float64)


def _draw_latent(
    rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float], small: bool
) -> tuple[PhantomLatent, np.ndarray]:
    """The regions' fields, and the depth below the brain's surface in mm (negative outside)."""
    grid = np.stack(
        np.meshgrid(*[(np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing, strict=True)], indexing="ij")
    ).astype(np.float32)
    extent = np.array(shape) * np.array(spacing)
    size = float(extent.min())
    axes = extent * np.array([0.40, 0.45, 0.42]) * rng.uniform(0.96, 1.04, size=3)
    radius = np.sqrt(((grid / axes[:, None, None, None]) ** 2).sum(0))
    depth = (1 - radius) * axes.min() + 0.012 * size * gaussian_field(rng, shape, spacing, 0.08 * size)

    ambiguity = np.exp(0.3 * gaussian_field(rng, shape, spacing, 0.12 * size)).clip(0.6, 1.8)
    side = rng.choice([-1.0, 1.0])
    centre = axes * np.array([side * rng.uniform(0.36, 0.46), rng.uniform(-0.35, 0.4), rng.uniform(-0.2, 0.35)])
    whole = size * rng.uniform(0.16, 0.21)
    core = whole * rng.uniform(0.58, 0.70)
    shift = rng.uniform(-0.12, 0.12, size=3) * whole
    wt = _lump(rng, grid, centre, whole, shape, spacing, roughness=0.15, length=0.35)
    tc = _lump(rng, grid, centre + shift, core, shape, spacing, roughness=0.14, length=0.35)
    hole = core * rng.uniform(0.40, 0.58)
    necrosis = _lump(rng, grid, centre + shift, hole, shape, spacing, roughness=0.2, length=0.5)
    main = _nest(wt, tc, -necrosis, depth, ambiguity)
    phi = main
    if small:
        around = axes * np.array([-side * 0.42, rng.uniform(-0.4, 0.4), rng.uniform(-0.3, 0.3)])
        little = max(0.085 * size, 1.6 * max(spacing))
        wt = _lump(rng, grid, around, little, shape, spacing, roughness=0.08, length=0.6)
        phi = np.maximum(main, _nest(wt, wt - 0.12 * little, wt - 0.24 * little, depth, ambiguity))
    return PhantomLatent(phi, main, (spacing[0], spacing[1], spacing[2])), depth


def _lump(
    rng: np.random.Generator,
    grid: np.ndarray,
    centre: np.ndarray,
    radius: float,
    shape: Sequence[int],
    spacing: Sequence[float],
    *,
    roughness: float,
    length: float,
) -> np.ndarray:
    """Return a bumpy ellipsoid as a signed distance in mm (nearly), positive inside. Roughness and length are in radii."""
    axes = radius * rng.uniform(0.82, 1.22, size=3)
    away = np.sqrt((((grid - centre[:, None, None, None]) / axes[:, None, None, None]) ** 2).sum(0))
    bumps = gaussian_field(rng, shape, spacing, length * radius)
    return ((1 - away) * radius + roughness * radius * bumps).astype(np.float32)


def _nest(wt: np.ndarray, tc: np.ndarray, rim: np.ndarray, depth: np.ndarray, ambiguity: np.ndarray) -> np.ndarray:
    """Fields in the order TC, WT, ET with ET <= TC <= WT, and none outside the brain.

    The outer border (oedema) is the vaguest and the enhancing rim the sharpest, as in real readings.
    """
    # The brain's edge is sharp: no rater goes more than about a voxel beyond it.
    wt = np.minimum(wt / (1.25 * ambiguity), 3 * depth + 1)
    tc = np.minimum(tc / ambiguity, wt)
    et = np.minimum(rim / (0.9 * ambiguity), tc)
    return np.stack([tc, wt, et]).astype(np.float32)


# Signals of each tissue in T1c, T1, T2, FLAIR, relative to each other: white matter in T1 has 0.8.
_TISSUES: Mapping[str, tuple[float, float, float, float]] = {
    "csf": (0.20, 0.20, 1.05, 0.14),
    "grey": (0.58, 0.55, 0.62, 0.56),
    "white": (0.80, 0.80, 0.42, 0.44),
    "oedema": (0.52, 0.50, 0.88, 0.98),
    "necrosis": (0.32, 0.34, 0.98, 0.60),
    "enhancing": (1.30, 0.52, 0.72, 0.80),
}


def _render_image(rng: np.random.Generator, latent: PhantomLatent, depth: np.ndarray) -> np.ndarray:
    shape, spacing = depth.shape, latent.spacing
    extent = np.array(shape) * np.array(spacing)
    size = float(extent.min())
    unit = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")).astype(np.float32)

    # Sulci: the sheets where a smooth field changes sign wind as sulci do. They reach from the surface to a fixed
    # depth.
    winding = np.abs(gaussian_field(rng, shape, spacing, 0.05 * size)) * 0.075 * size
    to_csf = np.minimum(depth, winding + np.maximum(depth - 0.075 * size, 0))
    beside, above = np.abs(unit[0]) * extent[0] / 2, unit[2] * extent[2] / 2
    to_csf = np.minimum(to_csf, 0.008 * size + beside + 0.6 * np.maximum(0.09 * size - above, 0))  # between the halves
    soft = 0.5 * max(spacing)
    # Ventricles: one curved horn on each side of the midline.
    horn = ((np.abs(unit[0]) - 0.10 - 0.12 * unit[1] ** 2) / 0.07) ** 2
    horn += ((unit[1] - 0.02) / 0.34) ** 2 + ((unit[2] - 0.1) / 0.13) ** 2
    ventricle = _soft_step((1 - np.sqrt(horn)) * 0.05 * size, soft)
    nuclei = ((np.abs(unit[0]) - 0.24) / 0.11) ** 2 + ((unit[1] - 0.02) / 0.22) ** 2 + ((unit[2] + 0.08) / 0.16) ** 2
    deep = _soft_step((1 - np.sqrt(nuclei)) * 0.08 * size, soft)
    grey = np.maximum(_soft_step(0.055 * size - to_csf, soft), deep)
    csf = np.maximum(_soft_step(0.012 * size - to_csf, 0.7 * soft), ventricle)

    # The blend has the width of about one rater sd, so that the border's vagueness can be read from the image.
    tc, wt, et = (_soft_step(latent.phi[k], 0.5) for k in range(3))
    texture = 1 + 0.06 * gaussian_field(rng, shape, spacing, 0.03 * size) * wt
    image = np.empty((4, *shape), dtype=np.float32)
    signal = {name: np.array(values, dtype=np.float32) for name, values in _TISSUES.items()}
    for k in range(len(MODALITIES)):
        voxel = signal["white"][k] + grey * (signal["grey"][k] - signal["white"][k])
        voxel += csf * (signal["csf"][k] - voxel)
        inner = signal["necrosis"][k] + et * (signal["enhancing"][k] - signal["necrosis"][k])
        lesion = signal["oedema"][k] + tc * (inner - signal["oedema"][k])
        voxel += wt * (lesion * texture - voxel)
        slope, curve = rng.uniform(-0.12, 0.12, size=3), rng.uniform(-0.10, 0.10, size=3)
        bias = np.exp(np.tensordot(slope, unit, axes=1) + np.tensordot(curve, unit**2, axes=1))
        noise = rng.standard_normal((2, *shape), dtype=np.float32) * 0.035
        # Magnitude images have Rician noise: the modulus of a complex signal.
        image[k] = np.sqrt((voxel * bias + noise[0]) ** 2 + noise[1] ** 2) * rng.uniform(350, 650)
    image *= _soft_step(depth, 0.3 * soft)
    image[:, depth <= -0.5 * soft] = 0
    # Whole units, as most scanners write: nothing is lost in an int16 file.
    return np.round(image)


def _soft_step(x: np.ndarray, width: float) -> np.ndarray:
    return (0.5 + 0.5 * np.tanh(x * (0.5 / width))).astype(np.float32)


def _label_map(regions: np.ndarray, convention: str) -> np.ndarray:
    """Nested regions `(3, ...)` TC, WT, ET -> a label map by the convention's values."""
    rules = region_convention(convention).regions
    enhancing = rules["ET"][0]
    core = next(v for v in rules["TC"] if v not in rules["ET"])
    oedema = next(v for v in rules["WT"] if v not in rules["TC"])
    labels = np.zeros(regions.shape[1:], dtype=np.uint8)
    for channel, value in ((1, oedema), (0, core), (2, enhancing)):
        labels[regions[channel]] = value
    return labels


# The names of the layouts' cases: BraTS' own, with a running number.
_CASE_NAMES = {
    "brats2018": "Brats18_PHANTOM_{:03d}_1",
    "brats2021": "BraTS2021_{:05d}",
    "brats2023": "BraTS-GLI-{:05d}-000",
    "msd": "BRATS_{:03d}",
}


def _write_case(root: str, layout: str, index: int, case: PhantomCase) -> str:
    """Write a case's files below `root`, and return its name."""
    name = _CASE_NAMES[layout].format(index + 1)
    files: dict[str, np.ndarray]
    if layout == "msd":
        label = os.path.join("labelsTr", name)
        image = np.moveaxis(case.image[np.argsort(MSD_CHANNELS)], 0, -1)
        files, mark = {os.path.join("imagesTr", name): image, label: case.fused}, "_"
    else:
        # HGG and LGG are folders of the 2018 layout only. The phantoms in them are of one kind.
        above = ("LGG" if index % 4 == 3 else "HGG") if layout == "brats2018" else ""
        label, mark = os.path.join(above, name, name), BRATS_FILE_NAMES[layout].mark
        images = case.image.astype(np.float32 if layout == "brats2023" else np.int16)
        files = {f"{label}{mark}{ending}": image for ending, image in zip(BRATS_FILE_NAMES[layout].modalities, images, strict=True)}
        files[f"{label}{mark}seg"] = case.fused
    files |= {f"{label}{mark}seg_{rater}": drawing for rater, drawing in case.raters.items()}
    files[f"{label}{mark}probability"] = np.moveaxis(case.probability, 0, -1)
    for stem, voxels in files.items():
        write_phantom_volume(os.path.join(root, stem + ".nii.gz"), voxels, case.affine)
    return name


def _readme(settings: Mapping[str, Any]) -> str:
    lines = [
        "These are PHANTOMS: synthetic images and raters made by monai_jdt. No patient is in them.",
        f"Layout {settings['layout']}, {settings['cases']} cases, seed {settings['seed']}, version {PHANTOM_VERSION}.",
        "*seg_rater<n>: what rater n marked; *seg (msd: the plain name): the majority; *probability: the share of the",
        "rater population that marks a voxel, channels TC, WT, ET, from the model itself.",
        "Raters:",
    ]
    for number, style in enumerate(settings["styles"], start=1):
        numbers = ", ".join(f"{key} {value}" for key, value in style.items() if key != "name")
        lines.append(f"  {number}: {style['name']} ({numbers})")
    return "\n".join([*lines, f"All settings are in {MANIFEST}."])


def _msd_manifest(names: Sequence[str]) -> dict[str, Any]:
    return {
        "name": "BRATS",
        "description": "Phantoms (synthetic) in the layout of the Medical Segmentation Decathlon's Task01_BrainTumour",
        "tensorImageSize": "4D",
        "modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"},
        "labels": {"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"},
        "numTraining": len(names),
        "numTest": 0,
        "training": [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in names],
        "test": [],
    }
