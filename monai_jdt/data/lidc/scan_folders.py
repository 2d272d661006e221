"""A download of TCIA to scans: each XML with the files of the series that it names. Headers are read, and no voxels."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from monai_jdt.data.layouts.folders import natural_key, require_folder, walk_files
from monai_jdt.data.layouts.listing import SkippedPath
from monai_jdt.data.lidc.annotation_xml import AnnotationHeader, read_annotation_header
from monai_jdt.data.lidc.ct_slices import CtSlice, is_dicom, read_slice_header
from monai_jdt.data.problems import DataProblem, DataProblemError
from monai_jdt.progress_bar import with_progress
from monai_jdt.validation import error_sentence

# A PatientID that may be a folder as it is.
_PLAIN_NAME = re.compile(r"\w([\w.-]*\w)?")
# What the destination has beside its cases.
_TAKEN_NAMES = frozenset({"scans", "scans.csv", "lidc.json", "datalist.json"})
# How many digits of a series UID tell the scans of a patient apart, if no two of them end in the same ones.
_UID_DIGITS = 5


@dataclass(frozen=True)
class ScanFiles:
    """The files of one scan.

    Args:
        name: the case's, see :func:`scan_name`: the patient, and the end of the series UID too if the download has several scans of
            that patient.
        patient: PatientID.
        series_uid: the series that the XML names.
        xml: the file with the readings.
        files: DICOM files of the folders that the series lies in. There may be files of other series among them.
    """

    name: str
    patient: str
    series_uid: str
    xml: str
    files: tuple[str, ...]


@dataclass(frozen=True)
class FoundScans:
    """What a download holds.

    Args:
        scans: the scans with readings, by name.
        failures: by file or folder, one line about what is wrong.
        notes: what is passed over, one line each.
        series: the UIDs of all series that were seen.
    """

    scans: tuple[ScanFiles, ...]
    failures: Mapping[str, str]
    notes: tuple[str, ...]
    series: frozenset[str] = frozenset()


@dataclass
class _Folders:
    """By folder, its DICOM files, and the headers that were read of them."""

    files: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    headers: dict[str, CtSlice] = field(default_factory=dict)

    def series(self) -> dict[str, list[CtSlice]]:
        found = defaultdict(list)
        for header in self.headers.values():
            found[header.series_uid].append(header)
        return found

    def read(self, paths: Iterable[str], failures: dict[str, str]) -> None:
        for path in paths:
            if path not in self.headers and path not in failures:
                try:
                    self.headers[path] = read_slice_header(path)
                except (ValueError, OSError) as error:
                    failures[path] = str(error)


def patient_folder(patient: str) -> str:
    """Return a PatientID as the name of one folder, which lies where it is made.

    Args:
        patient: PatientID. One of other signs than letters, digits, `.`, `-` and `_`, and one that is taken, is changed and ends with a
            hash of what was given, so that two patients never become one.

    Example:
        >>> patient_folder("LIDC-IDRI-0001"), patient_folder("../x")
        ('LIDC-IDRI-0001', '_x-d6b96a97')
    """
    if _PLAIN_NAME.fullmatch(patient) and patient.casefold() not in _TAKEN_NAMES:
        return patient
    mark = hashlib.sha256(patient.encode(errors="surrogatepass")).hexdigest()[:8]
    return "-".join((re.sub(r"[^\w-]+", "_", patient), mark))


def scan_name(patient: str, series_uid: str, taken: Container[str], *, alone: bool) -> str:
    """Return a name for a scan that no other one has: the patient, and as much of the end of the series UID as is needed.

    Args:
        patient: PatientID.
        series_uid: of the scan. Two scans never have the same.
        taken: names of other scans, by `casefold`: some file systems do not tell capital and small letters apart.
        alone: whether the patient may be enough.

    Raises:
        ValueError: the name with the whole UID is taken.
    """
    folder = patient_folder(patient)
    endings = [series_uid[-digits:].replace(".", "-") for digits in range(_UID_DIGITS, max(_UID_DIGITS, len(series_uid)) + 1)]
    names = [*([folder] if alone else []), *(f"{folder}_{ending}" for ending in endings)]
    free = next((name for name in names if name.casefold() not in taken), None)
    if free is None:
        raise ValueError(error_sentence(f"series {series_uid}", "a free name", f"{names[-1]} taken", "name another folder"))
    return free


def find_scans(root: str, *, progress: bool = True) -> FoundScans:
    """Find the XML files and DICOM series of LIDC-IDRI at any depth below a folder.

    It does not matter how folders are named and nested: what belongs together follows from the series UID. In each folder the first
    and the last header are read: if they are of different series, all others of the folder too. If an XML then lacks its series, all
    headers are read, since a folder may hold several series.

    Args:
        root: the folder, such as that of the NBIA Data Retriever, with the XML files in it or beside the series.
        progress: whether to show a progress bar.

    Raises:
        DataProblemError: no such folder, or no XML in it.
    """
    require_folder(root, "LIDC-IDRI's DICOM series and XML files")
    skipped: list[SkippedPath] = []
    folders = _Folders()
    xmls: list[str] = []
    failures: dict[str, str] = {}
    for path in walk_files(root, skipped):
        if path.lower().endswith(".xml"):
            xmls.append(path)
        else:
            _add_dicom(folders, path, failures)
    readings, notes = _readings_of_ct(xmls, failures, progress)
    if not readings and not failures:
        got = f"{sum(map(len, folders.files.values()))} DICOM files and no XML of a CT"
        fix = "download LIDC-XML-only.zip of TCIA's page too, and put its files below this folder"
        raise DataProblemError([DataProblem(root, "LIDC-IDRI's XML files", got, fix)])
    unread: dict[str, str] = {}
    for files in with_progress(list(folders.files.values()), "folders", wanted=progress):
        _read_ends(folders, files, unread)
    if readings.keys() - folders.series().keys():
        everything = [path for files in folders.files.values() for path in files]
        folders.read(with_progress(everything, "headers", wanted=progress), unread)
    scans = _scans(readings, folders, unread, failures)
    notes += _notes_of_readings(readings, folders.series()) + _notes_of_series(readings, folders.series())
    notes += [str(one) for one in skipped]
    alone = [path for path in unread if not any(path in scan.files for scan in scans)]
    failures |= {path: unread[path] for path in alone}
    return FoundScans(tuple(scans), failures, tuple(notes), frozenset(folders.series()))


def _add_dicom(folders: _Folders, path: str, failures: dict[str, str]) -> None:
    """Keep a file that is DICOM. One that cannot be opened does not end the search."""
    try:
        if is_dicom(path):
            folders.files[os.path.dirname(path)].append(path)
    except OSError as error:
        failures[path] = error_sentence(path, "a file that can be read", f"{error.strerror}", "give yourself the right to read it")


def _read_ends(folders: _Folders, files: Sequence[str], unread: dict[str, str]) -> None:
    """Read the first and the last header of a folder that can be read, and all if these are of different series."""
    series = set()
    for order in (files, files[::-1]):
        for path in order:
            folders.read([path], unread)
            if path in folders.headers:
                series.add(folders.headers[path].series_uid)
                break
    if len(series) > 1:
        folders.read(files, unread)


def _readings_of_ct(xmls: Sequence[str], failures: dict[str, str], progress: bool) -> tuple[dict[str, str], list[str]]:
    """Return the XML of each series that was read, and what is passed over."""
    found: dict[str, str] = {}
    passed: Counter[str] = Counter()
    for path in with_progress(xmls, "XML", wanted=progress):
        try:
            header = read_annotation_header(path)
            if header is None or not header.is_ct:
                passed["of X-rays (CR, DX)" if header else "that are no readings"] += 1
                continue
            _add_reading(found, header)
        except (ValueError, OSError) as error:
            failures[path] = str(error)
    return found, [f"passed over: {count} XML {'file' if count == 1 else 'files'} {what}" for what, count in sorted(passed.items())]


def _add_reading(found: dict[str, str], header: AnnotationHeader) -> None:
    other = found.setdefault(header.series_uid, header.path)
    if other != header.path and _digest(other) != _digest(header.path):
        got = f"{other} and {header.path}, which differ"
        raise ValueError(error_sentence(f"series {header.series_uid}", "one XML", got, "remove the one that is not of TCIA"))


def _digest(path: str) -> bytes:
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).digest()


def _scans(readings: Mapping[str, str], folders: _Folders, unread: Mapping[str, str], failures: dict[str, str]) -> list[ScanFiles]:
    series = folders.series()
    patients = Counter(series[uid][0].patient for uid in readings if uid in series)
    found = []
    taken: set[str] = set()
    for uid, xml in sorted(readings.items()):  # the same names in whatever order the files are found
        if uid not in series:
            continue
        patient = series[uid][0].patient
        if not patient:
            failures[xml] = error_sentence(series[uid][0].path, "a PatientID", "none", "use the series as TCIA has it")
            continue
        name = scan_name(patient, uid, taken, alone=patients[patient] == 1)
        taken.add(name.casefold())
        places = sorted({os.path.dirname(header.path) for header in series[uid]})
        files = tuple(path for place in places for path in folders.files[place])
        found.append(ScanFiles(name, patient, uid, xml, files))
    return sorted(found, key=lambda scan: natural_key(scan.name))


def _notes_of_readings(readings: Mapping[str, str], series: Mapping[str, Sequence[CtSlice]]) -> list[str]:
    """Name the XML files whose series are not there: of a download of a few patients, most of LIDC-XML-only.zip."""
    alone = [(uid, path) for uid, path in readings.items() if uid not in series]
    if not alone:
        return []
    uid, path = alone[0]
    more = f", and {len(alone) - 1} more XML files" if len(alone) > 1 else ""
    return [error_sentence(path, f"its series {uid}", f"none below the folder{more}", "download the series, if it is wanted")]


def _notes_of_series(readings: Mapping[str, str], series: Mapping[str, Sequence[CtSlice]]) -> list[str]:
    alone = [headers[0] for uid, headers in series.items() if uid not in readings]
    others = Counter(header.modality or "of unknown modality" for header in alone if header.modality != "CT")
    notes = [f"passed over: {count} {what} series without an XML of a CT" for what, count in sorted(others.items())]
    scans = [header for header in alone if header.modality == "CT"]
    if scans:
        more = f" and {len(scans) - 1} more" if len(scans) > 1 else ""
        where = f"{os.path.dirname(scans[0].path)}{more}"
        notes.append(error_sentence(where, "the XML of its CT series", "none", "add the file of LIDC-XML-only.zip to the folder"))
    return notes
