"""Problems of the values of one file, which is read block by block."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator, Sequence

import numpy as np

from monai_jdt.data.files.file_volume import FileVolume
from monai_jdt.data.files.label_values import LARGEST_LABEL, LabelTally, blurred_values, first_as_text, whole_labels
from monai_jdt.data.inspection.mirrored_raters import MarkedVoxels
from monai_jdt.data.problems import DataProblem, DataProblemError


def image_problems(volume: FileVolume) -> Iterator[DataProblem]:
    """Look for values that are not finite.

    Args:
        volume: of an image.
    """
    bad = voxels = 0
    try:
        for block in volume.blocks():
            voxels += block.size
            if block.dtype.kind == "f":
                bad += block.size - int(np.count_nonzero(np.isfinite(block)))
    except DataProblemError as error:
        yield from error.problems
        return
    if bad:
        yield DataProblem(volume.path, "finite values", _not_finite(bad, voxels), "repair the file, or remove the case")


def probability_problems(volume: FileVolume) -> Iterator[DataProblem]:
    """Look for values that are no probabilities.

    Args:
        volume: of a probability map.
    """
    bad = voxels = 0
    try:
        for block in volume.blocks():
            voxels += block.size
            bad += block.size - int(np.count_nonzero((block >= 0) & (block <= 1)))
    except DataProblemError as error:
        yield from error.problems
        return
    if bad:
        got = f"{bad} of {voxels} values outside"
        yield DataProblem(volume.path, "probabilities in [0, 1]", got, "write the file again")


def label_problems(
    volume: FileVolume,
    label_values: Sequence[int] | None,
    marks: MarkedVoxels | None = None,
    value: int | None = None,
    seen: set[int] | None = None,
) -> Generator[DataProblem, None, bytes | None]:
    """Look for values that a label cannot have.

    Args:
        volume: of a label map.
        label_values: the values that it may hold; None: any whole numbers.
        marks: the marked voxels are added to it; None: they are not kept.
        value: the label value of a mask of an instance.
        seen: the label values that occur are added to it; None: they are not kept.

    Returns:
        As the generator's value: a digest of the drawing, which is the same for the same voxels in another data type or format. None
        for a drawing that cannot be compared with others: nothing is marked, or values are not whole.
    """
    # SHA-1 is enough to find equal drawings. Processors have instructions for it: 0.15 ms for 64^3 bytes, BLAKE2b takes 0.9 ms.
    tally, digest, start, comparable = LabelTally(), hashlib.sha1(usedforsecurity=False), 0, True
    try:
        for block in volume.blocks():
            whole = tally.add(block)
            # One block that is not whole ends the digest, which would then be of a part of the drawing only.
            comparable = comparable and whole is not None
            if comparable and whole is not None:
                digest.update(_digestible(whole))
                if marks is not None:
                    marks.add(whole, start, value)
            start += block.size
    except DataProblemError as error:
        yield from error.problems
        return None
    path = volume.path
    if tally.not_finite:
        yield DataProblem(path, "finite label values", _not_finite(tally.not_finite, tally.voxels), "write the label as whole numbers")
    found, wrong = whole_labels(tally.values)
    blurred = blurred_values(path, found)
    wrong = wrong or blurred
    if wrong is not None:
        yield DataProblem(path, "whole label values", *wrong)
    if seen is not None:
        seen.update(int(label) for label in found)
    wide = np.abs(found) > LARGEST_LABEL
    if wide.any():
        yield DataProblem(path, f"label values up to {LARGEST_LABEL}", first_as_text(found[wide]), "number the labels anew")
    if label_values is not None and blurred is None:
        unknown = found[~np.isin(found, np.asarray(label_values)) & ~wide]
        if unknown.size:
            known = ", ".join(str(value) for value in label_values)
            fix = "set `label_values` and `regions` to those of the files, or correct the labels"
            if set(unknown.tolist()) == {255} and set(found.tolist()) <= {0, 255}:  # as programs of pictures write a mask
                fix = "write `foreground: 255` in the list (`datalist --foreground 255`), or set `label_values` and `regions`"
            yield DataProblem(path, f"label values among {known}", first_as_text(unknown), fix)
    # A file of scaled labels is wrong, but not empty.
    marked = bool(np.any(found != 0)) or wrong is not None
    if not marked:
        fix = "nothing, if the rater saw nothing there"
        yield DataProblem(path, "a mark", f"none: every value of {tally.voxels} is 0", fix, fatal=False)
    return digest.digest() if marked and comparable and wrong is None else None


def _not_finite(bad: int, voxels: int) -> str:
    return f"{bad} of {voxels} voxels NaN or infinite"


def _digestible(whole: np.ndarray) -> memoryview:
    """Return the bytes of a block of labels, the same in every data type."""
    if whole.dtype != np.uint8:
        small = whole.size == 0 or (int(whole.min()) >= 0 and int(whole.max()) <= 255)
        whole = whole.astype(np.uint8 if small else np.int64)
    return np.ascontiguousarray(whole).view(np.uint8).data
