"""One scan to cases on disk: the CT in HU and one mask per reader, of the whole scan or of a crop around each nodule."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

import numpy as np

from monai_jdt.data.files.atomic import whole_file, whole_folder
from monai_jdt.data.lidc.annotation_xml import ScanAnnotations, read_annotations
from monai_jdt.data.lidc.case_boxes import box_affine, box_mask, crop_box
from monai_jdt.data.lidc.contour_masks import VoxelBox, marks_box, nodule_mask
from monai_jdt.data.lidc.ct_slices import (
    CtSeries,
    CtSlice,
    DuplicateSlices,
    may_be_of_series,
    read_slice_header,
    read_slice_hu,
    series_of_slices,
)
from monai_jdt.data.lidc.nodule_groups import group_marks
from monai_jdt.data.lidc.records import LIDC_READERS, LidcMark, LidcScan
from monai_jdt.data.lidc.scan_folders import ScanFiles, patient_folder
from monai_jdt.validation import check_int, error_sentence

#: The image of a case.
CT_NAME = "ct.nii.gz"
#: The folder in the destination with one record per finished scan.
RECORDS = "scans"
_READER_NAME = "reader{}.nii.gz"
_OWN_FILE = re.compile(r"(ct|reader[1-4])\.nii\.gz")
_TEXTS = ("name", "patient", "series_uid", "fingerprint")


class UnmarkedReader(str, Enum):
    """What a reader who did not mark a nodule says about it."""

    BACKGROUND = "background"
    MISSING = "missing"


@dataclass(frozen=True)
class LidcSettings:
    """What the cases of a conversion depend on, beside the files.

    Args:
        whole: whether a case is a whole scan. False: a crop around each nodule.
        size: the edge of a crop in mm.
        margin: the least distance in mm from a nodule to the side of its crop.
        unmarked: what a reader who did not mark a nodule says about it.
        min_readers: nodules with fewer marks are left out, and are background.
        tolerance: how far apart in mm the marks of one nodule may be; None: the distance between slices.
        duplicates: what becomes of two images at one position.
    """

    whole: bool = False
    size: float = 64.0
    margin: float = 8.0
    unmarked: UnmarkedReader = UnmarkedReader.BACKGROUND
    min_readers: int = 1
    tolerance: float | None = None
    duplicates: DuplicateSlices = DuplicateSlices.REFUSE

    def __post_init__(self) -> None:
        for name, value, least in (("size", self.size, 0.0), ("margin", self.margin, -1.0), ("tolerance", self.tolerance, -1.0)):
            if value is not None and not (value > least and np.isfinite(value)):
                expected = "a number of mm > 0" if least == 0 else "a number of mm >= 0"
                raise ValueError(error_sentence(name, expected, f"{value:g}"))
        if not 1 <= check_int("min_readers", self.min_readers) <= LIDC_READERS:
            raise ValueError(error_sentence("min_readers", f"a whole number from 1 to {LIDC_READERS}", str(self.min_readers)))

    def plain(self) -> dict[str, Any]:
        """Return the settings as JSON has them."""
        return {name: value.value if isinstance(value, Enum) else value for name, value in asdict(self).items()}


@dataclass(frozen=True)
class ScanJob:
    """One scan to convert.

    Args:
        source: its files.
        dest: the folder of the cases.
        settings: of the conversion.
        fingerprint: changes with the files; it is kept in the record.
    """

    source: ScanFiles
    dest: str
    settings: LidcSettings
    fingerprint: str


@dataclass(frozen=True)
class _Case:
    """One case of a scan: its name, its part of the scan, its nodules, and for each reader the marks to draw, None if missing."""

    name: str
    box: VoxelBox
    nodules: tuple[tuple[LidcMark, ...], ...]
    drawn: tuple[tuple[LidcMark, ...] | None, ...]


@dataclass(frozen=True)
class _FolderFiles:
    """What the folders of a scan hold: its slices, lines about files that cannot be read, and a file of each other CT series."""

    slices: list[CtSlice]
    unread: list[str]
    other_series: dict[str, str]


def record_path(dest: str, series_uid: str) -> str:
    """Return the place of a finished scan's record.

    Args:
        dest: the folder of the cases.
        series_uid: the scan's series.
    """
    return os.path.join(dest, RECORDS, f"{series_uid}.json")


def convert_scan(job: ScanJob) -> dict[str, Any]:
    """Write the cases of a scan, then its record.

    A case is there as a whole or not at all. A scan is finished when its record is there. A scan that a kill has interrupted is
    converted again: its cases are replaced.

    Args:
        job: the scan.

    Returns:
        The record: `name`, `patient`, `series_uid`, `fingerprint` (empty: the scan is not finished), counts, `items`, the entries
        of the data list with paths relative to `dest`, and of the scan's folders `unread`, one line per file that cannot be read and is
        of no known series, and `other_series`, by UID the place of a file of each other CT series, see
        :func:`other_series_files`.

    Raises:
        ValueError: a fault in the files, in one line.
        OSError: `dest` cannot be written to.
    """
    source, settings = job.source, job.settings
    annotations = read_annotations(source.xml)
    found = _files_of_folders(source)
    series = series_of_slices(found.slices, settings.duplicates)
    _refuse_other_slices(source.xml, annotations, series)
    groups = group_marks(annotations.marks, series.scan, tolerance=settings.tolerance)
    cases = _cases(source.name, groups, annotations.readers, series.scan, settings)
    _remove_outdated(job)
    items = [_write_scan_case(job.dest, case, image, series) for case, image in zip(cases, _images(cases, series), strict=True)]
    kept = [group for group in groups if len(group) >= settings.min_readers]
    record = {
        "name": source.name,
        "patient": source.patient,
        "series_uid": source.series_uid,
        "fingerprint": job.fingerprint,
        "slices": series.scan.shape[2],
        "spacing": [round(edge, 6) for edge in series.scan.spacing],
        "readers": annotations.readers,
        "marks": len(annotations.marks),
        "nodules": len(groups),
        "nodules_kept": len(kept),
        "small_marks": annotations.small,
        "non_nodule_marks": annotations.non_nodules,
        "items": items,
        "unread": found.unread,
        "other_series": _places_in_folders(source, found.other_series),
    }
    _write_record(job, record)
    return record


def other_series_files(record: Mapping[str, Any], source: ScanFiles) -> dict[str, str]:
    """Return where the other CT series of a record lie now.

    A record has their places below the folder that all files of the scan share. These stay when the download is moved, or its path is
    written otherwise.

    Args:
        record: as :func:`convert_scan` returns it.
        source: the files of the record's scan.

    Returns:
        By UID a file of the scan's folders, without those that are no longer there.
    """
    if not record.get("other_series"):
        return {}
    now = {place: path for path, place in _places_in_folders(source, {path: path for path in source.files}).items()}
    return {uid: now[place] for uid, place in record["other_series"].items() if place in now}


def _places_in_folders(source: ScanFiles, files: Mapping[str, str]) -> dict[str, str]:
    """Return the places of some files, by their keys, below the folder that all files of the scan share."""
    shared = os.path.commonpath([os.path.dirname(path) for path in source.files]) or os.curdir
    return {key: os.path.relpath(path, shared) for key, path in files.items()}


def _files_of_folders(source: ScanFiles) -> _FolderFiles:
    """Read all headers in the folders of a scan.

    Raises:
        ValueError: a file that cannot be read and may be a slice of the scan, whose end would then be missing unnoticed.
    """
    found = _FolderFiles([], [], {})
    for path in source.files:
        try:
            header = read_slice_header(path)
        except ValueError as error:
            if may_be_of_series(path, source.series_uid):
                raise
            found.unread.append(str(error))
            continue
        if header.series_uid == source.series_uid:
            found.slices.append(header)
        elif header.modality == "CT":
            found.other_series.setdefault(header.series_uid, path)
    return found


def _write_record(job: ScanJob, record: Mapping[str, Any]) -> None:
    with whole_file(record_path(job.dest, job.source.series_uid)) as draft, open(draft, "w", encoding="utf-8") as file:
        json.dump(record, file, indent=1)


def _refuse_other_slices(xml: str, annotations: ScanAnnotations, series: CtSeries) -> None:
    """Refuse contours whose image lies at another position than the contour says."""
    places = {one.sop_uid: z for one, z in zip(series.slices, series.scan.slice_positions, strict=True)}
    for mark in annotations.marks:
        for contour in mark.contours:
            at = places.get(contour.sop_uid)
            if at is not None and at != series.scan.slice_positions[series.scan.slice_index(contour.z)]:
                where = f"{xml}: nodule {mark.name!r}"
                got = f"imageZposition {contour.z:g} mm and an imageSOP_UID at {at:g} mm"
                raise ValueError(
                    error_sentence(where, "contours that name one slice", got, "use the XML and the series as TCIA has them")
                )


def _cases(name: str, groups: Sequence[tuple[LidcMark, ...]], readers: int, scan: LidcScan, settings: LidcSettings) -> list[_Case]:
    kept = tuple(group for group in groups if len(group) >= settings.min_readers)

    def drawn(nodules: Sequence[tuple[LidcMark, ...]]) -> tuple[tuple[LidcMark, ...] | None, ...]:
        marked = {mark.reader for nodule in nodules for mark in nodule}
        missing = settings.unmarked is UnmarkedReader.MISSING
        every = [mark for nodule in kept for mark in nodule]
        return tuple(
            None if reader >= readers or (missing and reader not in marked) else tuple(mark for mark in every if mark.reader == reader)
            for reader in range(LIDC_READERS)
        )

    if settings.whole:
        masks = drawn(kept)
        # with unmarked readers missing, a scan without nodules has no label at all
        return [] if all(marks is None for marks in masks) else [_Case(name, VoxelBox((0, 0, 0), scan.shape), kept, masks)]
    boxes = [crop_box(nodule, scan, size=settings.size, margin=settings.margin) for nodule in kept]
    numbered = enumerate(zip(kept, boxes, strict=True), start=1)
    return [_Case(f"{name}_n{number}", box, (nodule,), drawn([nodule])) for number, (nodule, box) in numbered]


def _images(cases: Sequence[_Case], series: CtSeries) -> list[np.ndarray]:
    """Return each case's part of the CT. A slice is read once, and only if a case needs it."""
    images = [np.zeros(case.box.shape, np.int16, order="F") for case in cases]
    for number, one in enumerate(series.slices):
        wanted = [
            (case.box, image) for case, image in zip(cases, images, strict=True) if case.box.start[2] <= number < case.box.stop[2]
        ]
        if wanted:
            voxels = read_slice_hu(one)
            for box, image in wanted:
                x, y, _ = box.slices
                image[:, :, number - box.start[2]] = voxels[x, y]
    return images


def _write_scan_case(dest: str, case: _Case, image: np.ndarray, series: CtSeries) -> dict[str, Any]:
    folder = os.path.join(dest, case.name)
    _remove_case(folder)
    affine = box_affine(series.affine, case.box)
    raters: list[str | None] = []
    with whole_folder(folder) as draft:
        _write_lidc_volume(os.path.join(draft, CT_NAME), image, affine)
        for number, marks in enumerate(case.drawn, start=1):
            raters.append(None if marks is None else f"{case.name}/{_READER_NAME.format(number)}")
            if marks is not None:
                _write_lidc_volume(os.path.join(draft, _READER_NAME.format(number)), box_mask(marks, series.scan, case.box), affine)
    return {
        "case": case.name,
        "patient": series.scan.patient,
        "image": f"{case.name}/{CT_NAME}",
        "raters": raters,
        "spacing": [round(edge, 6) for edge in series.scan.spacing],
        "readers": sorted({mark.reader + 1 for nodule in case.nodules for mark in nodule if mark.reader is not None}),
        "series_uid": series.scan.series_uid,
        "nodules": [_nodule(nodule, series.scan, case.box) for nodule in case.nodules],
    }


def _nodule(nodule: Sequence[LidcMark], scan: LidcScan, case: VoxelBox) -> dict[str, Any]:
    """Describe a nodule: its box in voxels of the case, and each reader's volume and ratings."""
    box = marks_box(nodule, scan)
    voxel = float(np.prod(scan.spacing))
    return {
        "start": [int(number) for number in np.subtract(box.start, case.start)],
        "stop": [int(number) for number in np.subtract(box.stop, case.start)],
        "marks": [
            {
                "reader": None if mark.reader is None else mark.reader + 1,
                "name": mark.name,
                "volume_mm3": round(int(nodule_mask(mark, scan, marks_box([mark], scan)).sum()) * voxel, 2),
                "characteristics": dict(mark.characteristics),
            }
            for mark in nodule
        ],
    }


def _write_lidc_volume(path: str, voxels: np.ndarray, affine: np.ndarray) -> None:
    """Write a NIfTI file whose bytes depend on voxels and affine only. nibabel's own writer puts the time into the gzip header."""
    import nibabel

    image = nibabel.Nifti1Image(voxels, affine)
    image.header.set_xyzt_units("mm")
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    with open(path, "wb") as file, gzip.GzipFile("", "wb", compresslevel=1, fileobj=file, mtime=0) as packed:
        image.to_stream(packed)


def _remove_outdated(job: ScanJob) -> None:
    """Remove the cases of a former conversion of the scan: it may have fewer now.

    The record stays, as one that is not finished: the run after a kill needs the scan's name, and which cases it had.
    """
    record = read_record(record_path(job.dest, job.source.series_uid))
    if record is not None:
        _write_record(job, {**record, "fingerprint": ""})
        for item in record["items"]:
            _remove_case(os.path.join(job.dest, item["case"]))


def _remove_case(folder: str) -> None:
    """Remove a case that an interrupted or outdated conversion of its scan left, and nothing else."""
    if not os.path.lexists(folder):
        return
    others = [name for name in os.listdir(folder) if not _OWN_FILE.fullmatch(name)] if os.path.isdir(folder) else ["a file"]
    if others:
        raise FileExistsError(error_sentence(folder, "a free name", f"{others[0]} there", "move it away"))
    shutil.rmtree(folder)


def read_record(path: str) -> dict[str, Any] | None:
    """Read the record of a finished scan.

    Args:
        path: of the record.

    Returns:
        None if there is none.

    Raises:
        ValueError: another file is there, or a record that names files of others.
    """
    if not os.path.isfile(path):
        return None
    try:
        with open(path, encoding="utf-8") as file:
            record = json.load(file)
        if _is_record(record, os.path.basename(path)):
            return record
        got = "another JSON"
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        got = f"{type(error).__name__}: {error}"
    raise ValueError(error_sentence(path, "the record of a converted scan", got, "remove the file"))


def _is_record(record: Any, file_name: str) -> bool:
    """Return whether a record has all that is read of it, and names files of its own scan only. A wrong type may raise."""
    name = record["name"]
    texts = all(isinstance(record[key], str) for key in _TEXTS) and f"{record['series_uid']}.json" == file_name
    marks = [mark for item in record["items"] for nodule in item["nodules"] for mark in nodule["marks"]]
    numbers = [*record["spacing"], *(mark["volume_mm3"] for mark in marks)]
    told = [*record.get("unread", []), *record.get("other_series", {}).values()]
    texts = texts and all(isinstance(text, str) for text in told)
    if not texts or patient_folder(name) != name or not all(isinstance(number, int | float) for number in numbers):
        return False
    for item in record["items"]:
        case = item["case"]
        readers = [_READER_NAME.format(number) for number in range(1, LIDC_READERS + 1)]
        own = [item["image"] == f"{case}/{CT_NAME}", len(item["raters"]) == LIDC_READERS]
        own += [path in (None, f"{case}/{reader}") for path, reader in zip(item["raters"], readers, strict=False)]
        if not (re.fullmatch(rf"{re.escape(name)}(_n[0-9]+)?", case) and all(own)):
            return False
    return True


def is_finished(record: Mapping[str, Any], dest: str) -> bool:
    """Return whether a record is that of a finished scan, and the files of all its cases are there.

    Args:
        record: as :func:`convert_scan` returns it.
        dest: the folder of the cases.
    """
    paths = [path for item in record["items"] for path in (item["image"], *item["raters"]) if path is not None]
    return bool(record["fingerprint"]) and all(os.path.exists(os.path.join(dest, path)) for path in paths)
