"""Read LIDC-IDRI's nodules from two files of arrays: slices, and volumes, each outlined by four radiologists.

LIDC-IDRI: CC BY 3.0; Armato et al., 2011, DOI 10.1118/1.3528204; TCIA, DOI 10.7937/K9/TCIA.2015.LO9QL9SX.

* `lidc2d.npz`: `images (N, 64, 64)` uint8, `masks (N, 4, 64, 8)`, and of each image `patient`, `nodule` and `slice`, `(N,)`.
* `lidc3d.npz`: for each nodule `<key>`, which is the patient, `_n` and a number: `<key>_img (D, 64, 64)` uint8,
  `<key>_msk (D, 4, 64, 8)`, and `<key>_sp`, the spacing (z, y, x) in mm.

Grey values are 0 to 255 in each slice by itself, not Hounsfield units. Masks are packed by `numpy.packbits` along the last axis. A
reader who did not mark a nodule has an empty mask. Readers are exchangeable: the second one of two nodules need not be one person.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

#: Of 20 patients, by the hash of their name.
TEST_SHARE, VALIDATION_SHARE = 7, 3


@dataclass(frozen=True)
class RatedArray:
    """One image and what its readers marked.

    Args:
        name: of the case.
        patient: who is in it.
        image: grey values, `(Y, X)` or `(Z, Y, X)`, uint8.
        votes: `(readers, *S)`, bool.
        spacing: of the axes, mm; None if unknown.
    """

    name: str
    patient: str
    image: np.ndarray
    votes: np.ndarray
    spacing: tuple[float, ...] | None = None


def lidc_slices(path: str | os.PathLike[str], *, step: int = 1) -> list[RatedArray]:
    """Return each `step`-th slice of each nodule. The first one is a slice in from the end, where most readers mark something."""
    data = np.load(path)
    kept = np.flatnonzero(data["slice"] % step == min(1, step - 1))
    images, votes = data["images"][kept], np.unpackbits(data["masks"][kept], axis=-1).astype(bool)
    about = zip(data["patient"][kept].tolist(), data["nodule"][kept].tolist(), data["slice"][kept].tolist(), strict=True)
    names = [(f"{patient}_n{nodule}_s{number:02d}", patient) for patient, nodule, number in about]
    return [RatedArray(name, patient, image, vote) for (name, patient), image, vote in zip(names, images, votes, strict=True)]


def lidc_volumes(path: str | os.PathLike[str]) -> list[RatedArray]:
    """Return the volumes in the order of their names."""
    return sorted(_volumes(path), key=lambda case: case.name)


def _volumes(path: str | os.PathLike[str]) -> Iterator[RatedArray]:
    data = np.load(path)
    for key in (name.removesuffix("_img") for name in data.files if name.endswith("_img")):
        votes = np.unpackbits(data[f"{key}_msk"], axis=-1).astype(bool)
        spacing = tuple(float(edge) for edge in data[f"{key}_sp"])
        yield RatedArray(key, key.rpartition("_n")[0], data[f"{key}_img"], np.moveaxis(votes, 1, 0), spacing)


def part_of(patient: str) -> str:
    """Return "training", "validation" or "test". A patient is in the same part of every set."""
    number = int(sha256(f"real raters {patient}".encode()).hexdigest(), 16) % 20
    return "test" if number < TEST_SHARE else "validation" if number < TEST_SHARE + VALIDATION_SHARE else "training"


def parts_of(cases: Sequence[RatedArray]) -> dict[str, list[RatedArray]]:
    return {part: [case for case in cases if part_of(case.patient) == part] for part in ("training", "validation", "test")}
