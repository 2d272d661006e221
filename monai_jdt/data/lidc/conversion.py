"""A download of LIDC-IDRI to a data list: each scan becomes cases, and what is finished is kept."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from monai_jdt.data.case_runner import CaseOutcome, run_cases
from monai_jdt.data.datalist_file import write_datalist
from monai_jdt.data.files.atomic import whole_file
from monai_jdt.data.files.folder_lock import LOCK_NAME, sole_run_in
from monai_jdt.data.layouts.folders import natural_key
from monai_jdt.data.lidc.ct_slices import DuplicateSlices
from monai_jdt.data.lidc.scan_cases import (
    RECORDS,
    LidcSettings,
    ScanJob,
    UnmarkedReader,
    convert_scan,
    is_finished,
    other_series_files,
    read_record,
)
from monai_jdt.data.lidc.scan_folders import FoundScans, ScanFiles, find_scans, scan_name
from monai_jdt.data.names import user_path
from monai_jdt.validation import check_choice, error_sentence

#: The file in the destination with the settings of its cases.
SETTINGS_NAME = "lidc.json"
#: The file with one row per scan, and one per file that cannot be used.
TABLE_NAME = "scans.csv"
#: The data list.
LIST_NAME = "datalist.json"
_COLUMNS: tuple[str, ...] = ("name", "patient", "series_uid", "slices", "spacing", "readers", "marks", "nodules", "nodules_kept")
_COLUMNS += ("small_marks", "non_nodule_marks", "cases", "failure")
# What a kill leaves of a folder that was being written.
_DRAFT = re.compile(r"\.[0-9a-f]{12}(\.\w+)?")


@dataclass(frozen=True)
class LidcConversion:
    """What became of a conversion.

    Args:
        datalist: the list's file; None, and no file, if there is no case.
        items: its items.
        scans: how many scans are converted.
        nodules: how many nodules they have, and by how many readers each was marked: `{4: 909, ...}`.
        failures: by scan or file, one line about what is wrong with it.
        notes: what is passed over, one line each.
    """

    datalist: str | None
    items: tuple[dict[str, Any], ...]
    scans: int
    nodules: Mapping[int, int]
    failures: Mapping[str, str]
    notes: tuple[str, ...]


def convert_lidc(
    root: str | os.PathLike[str],
    dest: str | os.PathLike[str],
    *,
    whole: bool = False,
    size: float = 64.0,
    margin: float = 8.0,
    unmarked: str = "background",
    min_readers: int = 1,
    tolerance: float | None = None,
    duplicates: str = "refuse",
    workers: int = 1,
    scheduler: str | None = None,
    progress: bool = True,
) -> LidcConversion:
    """Convert LIDC-IDRI as TCIA hands it out (DICOM series and XML) to NIfTI files with one mask per reader, and a data list.

    A case is `dest/<case>/ct.nii.gz` (int16, Hounsfield units) and `reader1.nii.gz` to `reader4.nii.gz` (uint8, 0 or 1) on the same
    grid. `dest/datalist.json` has for each: `case`, `patient`, `image`, `raters` (null: a missing reader), `spacing` in mm, `readers`
    (who marked a nodule of it), `series_uid`, and `nodules` with each reader's volume and ratings. `dest/scans.csv` has one row per
    scan.

    A case is written as a whole or not at all. The same call goes on after a kill, tries failed scans again, and adds scans that were
    downloaded meanwhile. The readers of a scan are the reading sessions of its XML, in their order. They are exchangeable: nothing says
    that reader 1 of two scans is one person.

    Args:
        root: the folder of the download. Series and XML files are found at any depth.
        dest: a new or empty folder, or one of this conversion with the same settings.
        whole: whether a case is a whole scan, `<patient>`. False: crops around each nodule, `<patient>_n1`, ...
        size: the edge of a crop in mm.
        margin: the least distance in mm from a nodule to the side of its crop, which makes the crop of a large nodule larger.
        unmarked: "background": a reader who did not mark a nodule says that it is none, as in the literature; "missing": such a reader
            says nothing of that crop (of a whole scan: if the reader marked nothing in it).
        min_readers: 1 to 4. Nodules that fewer readers marked are left out, and are background where they lie in a case.
        tolerance: the distance in mm within which marks are one nodule, see :func:`group_marks`.
        duplicates: of two images at one position "refuse" the scan, or take the one with the smaller InstanceNumber ("first").
        workers: processes.
        scheduler: the address of a Dask scheduler, instead of processes here.
        progress: whether to show a progress bar.

    Returns:
        What was written, what failed, and what was passed over. A scan that fails does not end the conversion.

    Raises:
        ValueError: an invalid setting, no scan with readings, or `dest` has cases of other settings.
        OSError: `dest` holds other files, cannot be written to, or another run writes there.
    """
    root, dest = user_path(root), user_path(dest)
    if scheduler is not None:
        root, dest = os.path.abspath(root), os.path.abspath(dest)  # the workers of a cluster start in other folders
    settings = LidcSettings(
        whole=whole,
        size=float(size),
        margin=float(margin),
        unmarked=check_choice("unmarked", unmarked, UnmarkedReader),
        min_readers=min_readers,
        tolerance=None if tolerance is None else float(tolerance),
        duplicates=check_choice("duplicates", duplicates, DuplicateSlices),
    )
    _refuse_other_cases(dest, settings)
    found = find_scans(root, progress=progress)
    with sole_run_in(dest):
        _refuse_other_cases(dest, settings)
        _write_settings(dest, settings)
        _remove_drafts(dest)
        known = _records(dest)
        scans, records = _names_kept(found.scans, known), _finished_records(known, dest)
        jobs = [ScanJob(scan, dest, settings, _files_fingerprint(scan)) for scan in scans]
        left = [job for job in jobs if not _is_converted(job, records.get(job.source.series_uid))]
        names = [job.source.name for job in left]
        outcomes = list(run_cases(convert_scan, left, names, what="scans", workers=workers, scheduler=scheduler, progress=progress))
        return _finished(dest, found, scans, outcomes)


def _is_converted(job: ScanJob, record: Mapping[str, Any] | None) -> bool:
    """Return whether a finished record is of the files that are there, and says where they are."""
    if record is None or record["fingerprint"] != job.fingerprint:
        return False
    return len(other_series_files(record, job.source)) == len(record.get("other_series", {}))


def _finished(
    dest: str, found: FoundScans, scans: Sequence[ScanFiles], outcomes: Sequence[CaseOutcome[dict[str, Any]]]
) -> LidcConversion:
    """Write the list and the table of all scans whose records are there."""
    failures = {outcome.name: outcome.failure for outcome in outcomes if outcome.failure is not None}
    known = list(_finished_records(_records(dest), dest).values())
    failures = _scattered_scans(known, scans) | failures
    # the cases of a scan that fails now are those of its former files
    finished = [record for record in known if record["name"] not in failures]
    records = sorted(finished, key=lambda record: natural_key(record["name"]))
    items = [item for record in records for item in record["items"]]
    _write_scan_table(dest, records, {scan.series_uid: scan for scan in scans}, failures, found.failures)
    datalist = os.path.join(dest, LIST_NAME)
    if items:
        write_datalist([_with_places(item, dest) for item in items], datalist)
    elif os.path.isfile(datalist):
        os.remove(datalist)
    by_readers: dict[int, int] = {}
    for item in items:
        for nodule in item["nodules"]:
            by_readers[len(nodule["marks"])] = by_readers.get(len(nodule["marks"]), 0) + 1
    return LidcConversion(
        datalist if items else None,
        tuple(items),
        len(records),
        dict(sorted(by_readers.items(), reverse=True)),
        {**found.failures, **failures},
        found.notes + _notes_of_folders(finished, scans, found),
    )


def _scattered_scans(records: Sequence[Mapping[str, Any]], scans: Sequence[ScanFiles]) -> dict[str, str]:
    """Return a line for each scan with files in the middle of another one's folder, which was not looked through for it.

    Of a folder whose first and last file are of one series, the others are read when that series is converted.
    """
    failures = {}
    by_uid = {scan.series_uid: scan for scan in scans}
    for record in records:
        source = by_uid.get(record["series_uid"])
        for uid, path in ({} if source is None else other_series_files(record, source)).items():
            if uid in by_uid and path not in by_uid[uid].files:
                got = f"others among those of {record['name']}, such as {path}"
                fix = "put each series into folders of its own"
                failures[by_uid[uid].name] = error_sentence(f"series {uid}", "its files in its own folders", got, fix)
    return failures


def _notes_of_folders(records: Sequence[Mapping[str, Any]], scans: Sequence[ScanFiles], found: FoundScans) -> tuple[str, ...]:
    """Return what the conversions passed over in the folders of the scans that are there, one line each."""
    notes: list[str] = []
    by_uid = {scan.series_uid: scan for scan in scans}
    for record in records:
        if record["series_uid"] in by_uid:
            notes += [f"passed over: {line}" for line in record.get("unread", [])]
            for uid, path in other_series_files(record, by_uid[record["series_uid"]]).items():
                if uid not in found.series:
                    fix = "add the file of LIDC-XML-only.zip, if it is wanted"
                    notes.append(error_sentence(path, "the XML of its CT series", f"none of series {uid}", fix))
    return tuple(dict.fromkeys(notes))


def _with_places(item: Mapping[str, Any], dest: str) -> dict[str, Any]:
    raters = [None if path is None else os.path.join(dest, path) for path in item["raters"]]
    return {**item, "image": os.path.join(dest, item["image"]), "raters": raters}


def _refuse_other_cases(dest: str, settings: LidcSettings) -> None:
    """Refuse a folder with other files, or with cases of other settings."""
    path = os.path.join(dest, SETTINGS_NAME)
    if not os.path.isfile(path):
        names = set(os.listdir(dest)) if os.path.isdir(dest) else set()
        # a kill may leave the lock, and a draft of the settings
        content = sorted(name for name in names if name != LOCK_NAME and not _DRAFT.fullmatch(name))
        if content:
            fix = "name another folder"
            raise FileExistsError(error_sentence(dest, "a new or empty folder", f"one with {content[0]}", fix))
        return
    try:
        with open(path, encoding="utf-8") as file:
            made = json.load(file)["settings"]
        plain = settings.plain()
        differing = sorted(key for key in {*made, *plain} if made.get(key) != plain.get(key))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(error_sentence(path, "the settings of a conversion", f"{error}", "name another folder")) from None
    if differing:
        got = ", ".join(f"{key} {made.get(key)!r} instead of {plain.get(key)!r}" for key in differing)
        raise ValueError(error_sentence(dest, "a folder of the same settings", got, "name another folder, or use those settings"))


def _write_settings(dest: str, settings: LidcSettings) -> None:
    from monai_jdt import __version__

    path = os.path.join(dest, SETTINGS_NAME)
    if not os.path.isfile(path):
        with whole_file(path) as draft, open(draft, "w", encoding="utf-8") as file:
            json.dump({"what": "LIDC-IDRI", "monai_jdt": __version__, "settings": settings.plain()}, file, indent=1)
    os.makedirs(os.path.join(dest, RECORDS), exist_ok=True)


def _remove_drafts(dest: str) -> None:
    """Remove what a kill left half written. Nobody else writes here: this run holds the folder."""
    for folder in (dest, os.path.join(dest, RECORDS)):
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            if _DRAFT.fullmatch(name):
                shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)


def _records(dest: str) -> dict[str, dict[str, Any]]:
    """Return the records of all scans, by series. What else a system puts into folders is passed over."""
    folder = os.path.join(dest, RECORDS)
    found: dict[str, dict[str, Any]] = {}
    series: dict[str, str] = {}
    for name in sorted(os.listdir(folder)):
        record = read_record(os.path.join(folder, name)) if name.endswith(".json") and not name.startswith(".") else None
        if record is not None:
            uid = record["series_uid"]
            if (other := series.setdefault(record["name"].casefold(), uid)) != uid:
                got, fix = f"{record['name']} in {other}.json and {uid}.json", "remove both files: the scans are then converted again"
                raise ValueError(error_sentence(folder, "one record for each name", got, fix))
            found[uid] = record
    return found


def _finished_records(records: Mapping[str, dict[str, Any]], dest: str) -> dict[str, dict[str, Any]]:
    return {uid: record for uid, record in records.items() if is_finished(record, dest)}


def _names_kept(scans: Sequence[ScanFiles], records: Mapping[str, Mapping[str, Any]]) -> list[ScanFiles]:
    """Return the scans under the names of their records, and new ones under names that no record has.

    So a second scan of a patient that comes later, from whatever folder, renames and replaces nothing.
    """
    taken = {record["name"].casefold() for record in records.values()}
    found = []
    for scan in scans:
        if scan.series_uid in records:
            name = records[scan.series_uid]["name"]
        else:
            name = scan.name
            if name.casefold() in taken:
                name = scan_name(scan.patient, scan.series_uid, taken, alone=False)
            taken.add(name.casefold())
        found.append(replace(scan, name=name))
    return found


def _files_fingerprint(scan: ScanFiles) -> str:
    """Return a text that changes with names, sizes and times of the files, and the package."""
    from monai_jdt import __version__

    stats = [(os.path.basename(path), (at := os.stat(path)).st_size, at.st_mtime_ns) for path in (scan.xml, *scan.files)]
    return hashlib.sha256(repr((__version__, scan.name, stats)).encode()).hexdigest()


def _write_scan_table(
    dest: str,
    records: Sequence[Mapping[str, Any]],
    scans: Mapping[str, ScanFiles],
    failures: Mapping[str, str],
    of_files: Mapping[str, str],
) -> None:
    rows = [
        {**record, "spacing": " ".join(f"{edge:g}" for edge in record["spacing"]), "cases": len(record["items"])} for record in records
    ]
    done = {record["series_uid"] for record in records}
    rows += [
        {"name": scan.name, "patient": scan.patient, "series_uid": uid, "failure": failures.get(scan.name, "")}
        for uid, scan in scans.items()
        if uid not in done
    ]
    rows.sort(key=lambda row: natural_key(row["name"]))
    rows += [{"name": path, "failure": failure} for path, failure in sorted(of_files.items())]
    path = os.path.join(dest, TABLE_NAME)
    with whole_file(path) as draft, open(draft, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.DictWriter(file, _COLUMNS, restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
