"""The study's images, each set as files and a data list of three sections: training, validation, test. Parts have different patients.

LIDC-IDRI: CC BY 3.0; Armato et al., 2011, DOI 10.1118/1.3528204; TCIA, DOI 10.7937/K9/TCIA.2015.LO9QL9SX.
CHASE_DB1: CC BY 4.0; Fraz et al., 2012, DOI 10.1109/TBME.2012.2205687; Kingston University.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from PIL import Image
from tqdm import tqdm

from benchmarks.convert_lidc import convert
from benchmarks.lidc_arrays import lidc_slices, lidc_volumes
from monai_jdt.data import RaterStyle, draw_rater, qubiq_phantom, rater_probability, write_datalist
from monai_jdt.data.files.atomic import whole_folder
from monai_jdt.data.phantoms.qubiq import QubiqPhantom
from monai_jdt.data.phantoms.raters import PhantomLatent
from monai_jdt.validation import error_sentence

PARTS = ("training", "validation", "test")
#: One in so many slices of a nodule: neighbours are alike.
LIDC_STEP = 4
#: Edge of a tile of CHASE's photographs in pixels, and tiles along each axis; the rest of a photograph is left out.
TILE, TILES = 192, 5
#: Of CHASE: patients in the test and in the validation of a fold.
CHASE_FOLDS, CHASE_PATIENTS = 5, 10


@dataclass(frozen=True)
class StudySet:
    """Images, and how a bundle is told what they are.

    Args:
        bundle: the bundle that trains on them.
        write: makes the files in a folder, from the folder of the data, and returns the lists, one for each fold.
        keys: of the bundle.
        source: the file or folder that the data folder must have; empty: nothing.
        unit: of a volume.
    """

    bundle: str
    write: Callable[[Path, Path], list[Path]]
    keys: Mapping[str, Any]
    source: str = ""
    unit: str = "pixels"

    def lists(self, data: Path | None, files: Path) -> list[Path]:
        """Return the data lists, whose files are written if they are not there."""
        if self.source and (data is None or not (data / self.source).exists()):
            what = f"a folder with {self.source}"
            raise FileNotFoundError(error_sentence("--data", what, str(data), "see docs/study.md, or leave the set out by --sets"))
        return self.write(data or Path(), files)


def write_lidc(data: Path, files: Path, *, volumes: bool) -> list[Path]:
    """Write LIDC's nodules: one slice in four as PNG, or volumes as NIfTI."""
    if not (files / "datalist.json").exists():
        convert(
            lidc_volumes(data / "lidc" / "lidc3d.npz") if volumes else lidc_slices(data / "lidc" / "lidc2d.npz", step=LIDC_STEP), files
        )
    return [files / "datalist.json"]


def write_chase(data: Path, files: Path) -> list[Path]:
    """Write tiles of CHASE's photographs, and a list for each fold, of whose ten patients two are tested and two validated."""
    if not (files / "tiles").exists():
        with whole_folder(files / "tiles") as draft:
            for photograph in tqdm(sorted((data / "chase_db1").glob("*.jpg")), desc="photographs", disable=None):
                write_tiles(photograph, Path(draft))
    lists = []
    for fold in range(CHASE_FOLDS):
        sections: dict[str, list[dict[str, Any]]] = {part: [] for part in PARTS}
        for image in sorted((files / "tiles").glob("*_image.png")):
            patient = image.name[len("Image_") :][:2]
            # patients 1 and 2 are tested in fold 0, 3 and 4 validated there
            place = ((int(patient) - 1) // 2 - fold) % CHASE_FOLDS
            raters = [str(image.with_name(image.name.replace("image", f"observer{number}"))) for number in (1, 2)]
            item = {"case": image.name.removesuffix("_image.png"), "patient": patient, "image": str(image), "raters": raters}
            sections[{0: "test", 1: "validation"}.get(place, "training")].append(item)
        lists.append(files / f"fold{fold}.json")
        write_datalist(sections, lists[-1])
    return lists


def write_tiles(photograph: Path, folder: Path) -> None:
    """Write the tiles of one photograph and of its two observers' masks. A tile without a fundus pixel is left out."""
    observers = (photograph.with_name(f"{photograph.stem}_{name}.png") for name in ("1stHO", "2ndHO"))
    colours, *marks = (np.asarray(Image.open(path)) for path in (photograph, *observers))
    for number, (y, x) in enumerate(np.ndindex(TILES, TILES)):
        there = (slice(y * TILE, (y + 1) * TILE), slice(x * TILE, (x + 1) * TILE))
        if colours[there].max() < 32:
            continue
        stem = f"{photograph.stem}_t{number:02d}"
        Image.fromarray(colours[there]).save(folder / f"{stem}_image.png")
        for observer, mark in enumerate(marks, start=1):
            Image.fromarray((mark[there] > 0).astype(np.uint8)).save(folder / f"{stem}_observer{observer}.png")


@dataclass(frozen=True)
class Difficulty:
    """How phantoms differ from the plain ones: bodies with one round organ, in images of 64 x 64 pixels of 1 mm, five raters.

    Args:
        styles: of the raters.
        edge: of the body's own image, pixels; it lies anywhere in the 64 x 64. The organ's radius is about .18 of it.
        training: how many cases are trained on. 40 are validated, 160 tested.
        rare_edge: of a second body, in the columns that the first one leaves, whose organ is a structure of its own; 0: none.
        rare_share: how often it is there.
    """

    styles: tuple[RaterStyle, ...]
    edge: int = 64
    training: int = 160
    rare_edge: int = 0
    rare_share: float = 0.0

    @property
    def regions(self) -> dict[str, list[int]]:
        """Structures and their label values."""
        return {"large": [1], "rare": [2]} if self.rare_edge else {"organ": [1]}


def _raters(sd: float = 1.0, bias: float = 0.5, presence: float = 1.0) -> tuple[RaterStyle, ...]:
    biases = (-bias, -bias / 2, 0.0, bias / 2, bias)
    return tuple(
        RaterStyle(f"rater {number}", bias_mm=at, sd_mm=sd, length_mm=3.0, presence=presence)
        for number, at in enumerate(biases, start=1)
    )


#: From the plain ones, one thing is made harder at a time.
DIFFICULTIES = {
    "plain": Difficulty(_raters()),
    "disagreement": Difficulty(_raters(sd=3.0)),
    "bias": Difficulty(_raters(bias=4.0)),
    "small": Difficulty(_raters(), edge=24),
    "imbalance": Difficulty(_raters(), edge=44, rare_edge=20, rare_share=0.25),
    "missing": Difficulty(_raters(presence=0.4)),
    "few": Difficulty(_raters(), training=12),
}
VALIDATION_CASES, TEST_CASES = 40, 160
#: Pixels of an image along each axis, and the distance in mm of what is nowhere near an organ.
EDGE, FAR_MM = 64, 100.0
#: What is added to a case's number for its rare body.
RARE_INDEX = 100_000


def write_phantoms(data: Path, files: Path, *, name: str) -> list[Path]:
    """Write phantoms of one difficulty with their true probability. Each case has a rater at least."""
    difficulty = DIFFICULTIES[name]
    counts = {"training": difficulty.training, "validation": VALIDATION_CASES, "test": TEST_CASES}
    if not (files / "cases").exists():
        with whole_folder(files / "cases") as draft:
            numbers = [(part, number) for part in PARTS for number in range(counts[part])]
            for part, number in tqdm(numbers, desc=f"phantoms, {name}", disable=None):
                # each part has numbers of its own, whatever the size of the others
                write_phantom(Path(draft, f"{part}_{number:03d}"), PARTS.index(part) * 1000 + number, difficulty)
    sections = {part: [item_of(folder) for folder in sorted((files / "cases").glob(f"{part}_*"))] for part in PARTS}
    write_datalist(sections, files / "datalist.json")
    return [files / "datalist.json"]


def write_phantom(folder: Path, index: int, difficulty: Difficulty) -> None:
    case = qubiq_phantom(index, "kidney", shape=(difficulty.edge,) * 2)
    random = np.random.default_rng([7, index])
    if difficulty.rare_edge:
        image, phi = side_by_side(case, index, difficulty, random)
    else:
        image, phi = placed(case.image, case.latent.phi, random)
    latent = PhantomLatent(phi, phi, case.latent.spacing)
    drawn: list[np.ndarray] = []
    while not drawn:  # a case without a rater is drawn again
        for style in difficulty.styles:
            present, marked = random.random() < style.presence, draw_rater(latent, style, random)
            # structures are apart, and have the label values 1, 2
            drawn += [sum(number * mark for number, mark in enumerate(marked, start=1))] if present else []
    folder.mkdir()
    arrays = {"image": image}
    if len(phi) == 1:  # the bundle reads the probability of one structure
        arrays["probability"] = rater_probability(latent, difficulty.styles)[0]
    arrays |= {f"rater{number}": marked.astype(np.uint8) for number, marked in enumerate(drawn, start=1)}
    for name, array in arrays.items():
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), folder / f"{name}.nii.gz")


def placed(image: np.ndarray, phi: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Put a smaller image and its field anywhere into one of `EDGE`."""
    room = EDGE - image.shape[0]
    if not room:
        return image, phi
    y, x = (slice(start, start + image.shape[0]) for start in random.integers(0, room + 1, 2).tolist())
    frame = surroundings(image, random)
    frame[y, x] = image
    evidence = np.full((1, EDGE, EDGE), -FAR_MM, dtype=phi.dtype)
    evidence[0, y, x] = phi[0]
    return frame, evidence


def side_by_side(first: QubiqPhantom, index: int, difficulty: Difficulty, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Put a phantom into the left columns, at any height, and often enough a rare one into those that it leaves."""
    frame = surroundings(first.image, random)
    evidence = np.full((2, EDGE, EDGE), -FAR_MM, dtype=first.latent.phi.dtype)
    second = qubiq_phantom(index + RARE_INDEX, "kidney", shape=(difficulty.rare_edge,) * 2)
    rare = random.random() < difficulty.rare_share
    for number, (case, left) in enumerate(((first, 0), (second, difficulty.edge))[: 1 + rare]):
        edge = case.image.shape[0]
        top = int(random.integers(0, EDGE - edge + 1))
        there = slice(top, top + edge), slice(left, left + edge)
        frame[there], evidence[number][there] = case.image, case.latent.phi[0]
    return frame, evidence


def surroundings(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return an image of `EDGE` that is like the border of a smaller one: its mean and its noise."""
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]]).astype(float)
    return np.round(random.normal(border.mean(), border.std(), (EDGE, EDGE))).astype(image.dtype)


def item_of(folder: Path) -> dict[str, Any]:
    files = {name: str(folder / f"{name}.nii.gz") for name in ("image", "probability") if (folder / f"{name}.nii.gz").exists()}
    return {
        "case": folder.name,
        "patient": folder.name,
        **files,
        "raters": [str(path) for path in sorted(folder.glob("rater*.nii.gz"))],
    }


def _phantom_set(name: str) -> StudySet:
    regions = DIFFICULTIES[name].regions
    keys = {"set": "kidney", "normalize": "zscore", "size": [64, 64], "regions": regions, "batch_size": 8}
    if len(regions) > 1:
        keys["label_values"] = [0, 1, 2]
    return StudySet("qubiq_multirater_segmentation", partial(write_phantoms, name=name), keys)


SETS: dict[str, StudySet] = {
    "lidc2d": StudySet(
        "qubiq_multirater_segmentation",
        partial(write_lidc, volumes=False),
        {"set": "kidney", "normalize": "photo", "size": [64, 64], "regions": {"nodule": [1]}, "batch_size": 16},
        "lidc/lidc2d.npz",
    ),
    "lidc3d": StudySet(
        "lidc_multirater_segmentation",
        partial(write_lidc, volumes=True),
        {"normalize": "photo", "spacing": [0.8, 0.8, 2.0], "crop": "random", "crops": 2, "roi": [48, 48, 16], "batch_size": 2},
        "lidc/lidc3d.npz",
        "mm3",
    ),
    "chase": StudySet(
        "qubiq_multirater_segmentation",
        write_chase,
        {"set": "kidney", "channels": 3, "normalize": "photo", "size": [TILE, TILE], "regions": {"vessel": [1]}, "batch_size": 4},
        "chase_db1",
    ),
    **{f"phantom {name}": _phantom_set(name) for name in DIFFICULTIES},
}
