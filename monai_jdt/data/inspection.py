"""What is wrong with the files of a data set, found before the first training step."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from monai_jdt.data.problems import DataProblem, DataProblemError

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Image

#: Two affines are taken for one when no corner of the volume moves by more than this share of the smallest voxel edge.
AFFINE_TOLERANCE = 0.05

_SHOWN = 20
_NIFTI_SUFFIXES = (".nii", ".nii.gz")


def find_problems(
    items: Sequence[Mapping[str, Any]],
    *,
    channels: int | None = None,
    label_values: Sequence[int] | None = None,
    read: Literal["full", "headers"] = "full",
    labelled: bool = True,
    progress: bool = True,
) -> Iterator[DataProblem]:
    """Look through a data list's files, and tell each problem as it is found.

    For each case: files that are missing, truncated or no NIfTI; an image with too few or too many channels;
    modalities, raters or a true probability whose shape or affine is not the image's; no rater at all; values that are
    not finite, label values that are not whole or not known; a case that is listed twice. One file's voxels are in
    memory at a time. Only NIfTI files are opened; of others (`.mhd`, `.nrrd`) only the existence is looked at.

    Affines that differ by rounding are taken for one: see :data:`AFFINE_TOLERANCE`.

    Args:
        items: as :func:`monai_jdt.data.brats_datalist` gives them: "case", "image" (a list of files of one channel, or
            one file with the channels on its last axis), "raters", and maybe "channels" and "probability".
        channels: how many channels an image has; None: any number.
        label_values: the values that a label file may hold, e.g. `region_convention("brats2021").values`; None: any
            whole numbers.
        read: "full" reads every voxel; "headers" is quick, but blind for truncation and for all values.
        labelled: whether a case must have raters; False: raters are neither needed nor looked at, as for cases to predict.
        progress: whether to show a progress bar.

    Yields:
        One :class:`DataProblem` for each thing that is wrong, in the order of the items.

    Raises:
        ValueError: if `read` is unknown.
    """
    if read not in ("full", "headers"):
        raise ValueError(f"read: expected full or headers, came {read!r}")
    if not labelled:
        items = [{key: value for key, value in item.items() if key not in ("raters", "probability")} for item in items]
    return _stream(items, channels, label_values, read == "full", labelled, progress)


def check_items(
    items: Sequence[Mapping[str, Any]],
    *,
    channels: int | None = None,
    label_values: Sequence[int] | None = None,
    read: Literal["full", "headers"] = "full",
    labelled: bool = True,
    progress: bool = True,
) -> None:
    """Do nothing if the files are all right, and tell every problem at once if they are not.

    Args:
        items: as in :func:`find_problems`.
        channels: as in :func:`find_problems`.
        label_values: as in :func:`find_problems`.
        read: as in :func:`find_problems`.
        labelled: as in :func:`find_problems`.
        progress: as in :func:`find_problems`.

    Raises:
        DataProblemError: with the first 20 problems, one a line, and the number of the others.
        ValueError: if `read` is unknown.
    """
    shown: list[DataProblem] = []
    more = 0
    for problem in find_problems(items, channels=channels, label_values=label_values, read=read, labelled=labelled, progress=progress):
        if len(shown) < _SHOWN:
            shown.append(problem)
        else:
            more += 1
    if shown:
        raise DataProblemError(shown, more)


def _stream(
    items: Sequence[Mapping[str, Any]],
    channels: int | None,
    label_values: Sequence[int] | None,
    full: bool,
    labelled: bool,
    progress: bool,
) -> Iterator[DataProblem]:
    from tqdm import tqdm

    if not items:
        yield DataProblem("the data list", "at least one case", "an empty list", "name the folder that holds the cases")
    seen: set[str] = set()
    for number, item in enumerate(tqdm(items, desc="checking the data", unit="case", disable=not progress)):
        case = str(item.get("case", f"items[{number}]"))
        if case in seen:
            yield DataProblem(case, "each case once in the data list", "it is there again", "remove one of them")
        seen.add(case)
        yield from _look_at_case(case, item, channels, label_values, full, labelled)


def _look_at_case(
    case: str, item: Mapping[str, Any], channels: int | None, label_values: Sequence[int] | None, full: bool, labelled: bool
) -> Iterator[DataProblem]:
    image, raters = item.get("image") or [], item.get("raters") or []
    raters = [raters] if isinstance(raters, (str, os.PathLike)) else list(raters)
    single = isinstance(image, (str, os.PathLike))
    images = [os.fspath(image)] if isinstance(image, (str, os.PathLike)) else [os.fspath(path) for path in image]
    if not images:
        yield DataProblem(case, "an image", "none", "add its file, or remove the case")
    elif not single and channels is not None and len(images) != channels:
        yield DataProblem(case, f"{channels} image files, one a channel", str(len(images)), "list one file a channel")
    if labelled and not raters:
        yield DataProblem(case, "at least one rater", "none", "add a label file, or remove the case")

    reference: _Geometry | None = None
    for path in images:
        volume = yield from _opened(path, full)
        if volume is None:
            continue
        shape = volume.shape
        if single:
            count = shape[3] if len(shape) > 3 else 1
            order = item.get("channels")
            if channels is not None and count != channels:
                came = f"{count} (shape {shape})"
                yield DataProblem(path, f"{channels} channels on the last axis", came, "stack the modalities' files")
            elif order is not None and max(order) >= count:
                came = f"{count} (shape {shape})"
                yield DataProblem(path, f"channels {list(order)} on the last axis", came, "use files with all modalities")
            shape = shape[:3]
        reference = yield from _compared(path, shape, volume, reference)
        if full:
            yield from _image_values(path, volume)
        del volume
    for path in map(os.fspath, raters):
        volume = yield from _opened(path, full)
        if volume is not None:
            yield from _compared(path, volume.shape, volume, reference)
            if full:
                yield from _rater_values(path, volume, label_values)
        del volume
    if item.get("probability"):
        path = os.fspath(item["probability"])
        volume = yield from _opened(path, full)
        if volume is not None:
            yield from _compared(path, volume.shape[:3], volume, reference)
            if full:
                yield from _probability_values(path, volume)


class _Geometry:
    """The image's grid, against which all other files of the case are held."""

    def __init__(self, path: str, shape: tuple[int, ...], affine: np.ndarray) -> None:
        self.path, self.shape, self.affine = path, shape, affine

    def shift(self, affine: np.ndarray) -> float:
        """How far the worst corner of the volume moves under another affine, in mm."""
        size = [*self.shape[:3], 1, 1, 1][:3]
        corners = np.array(np.meshgrid(*[(0, n - 1) for n in size], [1])).reshape(4, -1)
        return float(np.linalg.norm((affine - self.affine)[:3] @ corners, axis=0).max())

    @property
    def edge(self) -> float:
        return float(np.linalg.norm(self.affine[:3, :3], axis=0).min())


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _compared(
    path: str, shape: tuple[int, ...], volume: Nifti1Image, reference: _Geometry | None
) -> Generator[DataProblem, None, _Geometry]:
    """Generator whose value is the geometry to hold the next file against."""
    shape = _squeezed(tuple(int(n) for n in shape))
    if reference is None:
        return _Geometry(path, shape, volume.affine)
    if shape != reference.shape:
        expected = f"shape {reference.shape}, as {reference.path}"
        yield DataProblem(path, expected, str(shape), "resample it onto the image's grid")
        return reference
    shift, allowed = reference.shift(volume.affine), AFFINE_TOLERANCE * reference.edge
    if not shift <= allowed:
        expected = f"the affine of {reference.path} (within {allowed:.3g} mm at every corner)"
        came = f"one that is {shift:.3g} mm off, origin {volume.affine[:3, 3].round(3).tolist()}"
        fix = "resample it, or correct its header if the voxels do lie on the image's"
        yield DataProblem(path, expected, came, fix)
    return reference


def _opened(path: str, full: bool) -> Generator[DataProblem, None, Nifti1Image | None]:
    """Generator whose value is the volume, or None if there is none to look at."""
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    if not os.path.isfile(path):
        came = "a folder" if os.path.isdir(path) else "nothing at that path"
        yield DataProblem(path, "a file", came, "add it, or correct the path")
        return None
    if not path.lower().endswith(_NIFTI_SUFFIXES):
        return None
    fix = "copy it again from where it came"
    try:
        if not full:
            header = nibabel.load(path)
            if isinstance(header, nibabel.Nifti1Image):  # NIfTI-2 is a subclass
                return header
            raise ImageFileError(f"it is a {type(header).__name__}")
        # Through to the last byte, which nibabel does not do: the checksum of a gzip file stands at its end.
        with open(path, "rb") as file:
            content = file.read()
        if path.lower().endswith(".gz"):
            content = gzip.decompress(content)
        kind = nibabel.Nifti2Image if content[:4] in (b"\x1c\x02\x00\x00", b"\x00\x00\x02\x1c") else nibabel.Nifti1Image
        volume = kind.from_bytes(content)
        np.asanyarray(volume.dataobj)  # raises where voxels are missing
        return volume
    except EOFError:
        yield DataProblem(path, "a whole gzip file", "one that ends early (truncated)", fix)
    except (ImageFileError, HeaderDataError, WrapStructError, OSError, ValueError, zlib.error, MemoryError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        yield DataProblem(path, "a readable NIfTI file", f"{os.path.getsize(path)} bytes ({reason})", fix)
    return None


def _image_values(path: str, volume: Nifti1Image) -> Iterator[DataProblem]:
    values = np.asanyarray(volume.dataobj)
    bad = _not_finite(values)
    if bad:
        came = f"{bad} of {values.size} voxels NaN or infinite"
        yield DataProblem(path, "finite values", came, "repair the file, or remove the case")


def _rater_values(path: str, volume: Nifti1Image, label_values: Sequence[int] | None) -> Iterator[DataProblem]:
    values = np.asanyarray(volume.dataobj)
    bad = _not_finite(values)
    if bad:
        came = f"{bad} of {values.size} voxels NaN or infinite"
        yield DataProblem(path, "finite label values", came, "write the label as whole numbers")
        values = values[np.isfinite(values)]
    found = _distinct(values)
    broken = found[found != np.round(found)]
    if broken.size:
        yield DataProblem(path, "whole label values", _named(broken), "resample labels with nearest-neighbour only")
        found = found[found == np.round(found)]
    if label_values is not None:
        unknown = found[~np.isin(found, np.asarray(label_values))]
        if unknown.size:
            known = ", ".join(str(value) for value in label_values)
            yield DataProblem(path, f"label values among {known}", _named(unknown), "name the convention of this data set")


def _probability_values(path: str, volume: Nifti1Image) -> Iterator[DataProblem]:
    values = np.asanyarray(volume.dataobj)
    bad = int(np.count_nonzero(~((values >= 0) & (values <= 1))))
    if bad:
        yield DataProblem(path, "probabilities in [0, 1]", f"{bad} of {values.size} values outside", "write the file again")


def _not_finite(values: np.ndarray) -> int:
    return 0 if values.dtype.kind in "iub" else int(np.count_nonzero(~np.isfinite(values)))


def _distinct(values: np.ndarray) -> np.ndarray:
    if values.dtype == np.uint8:  # the usual case, ten times as fast as a sort
        return np.flatnonzero(np.bincount(values.ravel(order="K"), minlength=256))
    return np.unique(values)


def _named(values: np.ndarray, most: int = 5) -> str:
    names = ", ".join(f"{value:.6g}" for value in values[:most].tolist())
    return names + (f" and {values.size - most} more" if values.size > most else "")
