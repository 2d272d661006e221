from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from monai_jdt.data.case_runner import run_cases
from monai_jdt.data.datalist_file import read_datalist
from monai_jdt.data.files.folder_lock import sole_run_in
from monai_jdt.data.inspection.cases import find_problems
from monai_jdt.data.lidc import LidcConversion, convert_lidc, scan_cases
from tests.data.lidc.sample import SAMPLE, needs_sample
from tests.data.lidc.tcia_files import POSITIONS, SERIES, four_readers, hounsfield, nodule, square, write_scan, write_slice


def convert(root: Path, dest: Path, **settings: Any) -> LidcConversion:
    return convert_lidc(root, dest, progress=False, **settings)


def voxels(dest: Path, name: str) -> np.ndarray:
    return np.asarray(nibabel.load(dest / name).dataobj)  # type: ignore[attr-defined]


def files(dest: Path) -> dict[str, bytes]:
    return {str(path.relative_to(dest)): path.read_bytes() for path in sorted(dest.rglob("*")) if path.is_file()}


@needs_sample
@pytest.mark.parametrize("whole", [False, True])
def test_the_real_scan_is_what_another_program_made_of_it(tmp_path: Path, whole: bool) -> None:
    """The XML's masks equal the sample's voxel for voxel, the CT in HU, and both lie at the same place."""
    done = convert(SAMPLE / "dicom", tmp_path, whole=whole)
    assert not done.failures
    case = tmp_path / ("LIDC-IDRI-0001" if whole else "LIDC-IDRI-0001_n1")
    pairs = {"ct": "ct"} | {f"reader{n + 1}": f"reader{n}" for n in range(4)}
    for ours, theirs in pairs.items():
        made: Any = nibabel.load(case / f"{ours}.nii.gz")
        given: Any = nibabel.load(SAMPLE / "nifti" / "LIDC-IDRI-0001" / f"{theirs}.nii.gz")
        assert np.abs(made.affine[:3, :3] - given.affine[:3, :3]).max() < 1e-6
        # both are parts of one scan: where one begins in voxels of the other one
        shift = np.linalg.solve(given.affine[:3, :3], made.affine[:3, 3] - given.affine[:3, 3])
        assert np.abs(shift - np.rint(shift)).max() < 1e-5
        first = np.rint(shift).astype(int)
        low, high = np.maximum(first, 0), np.minimum(first + made.shape, given.shape)
        own = tuple(slice(a, b) for a, b in zip(low - first, high - first, strict=True))
        other = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        mine, reference = np.asarray(made.dataobj), np.asarray(given.dataobj)
        assert (mine[own] == reference[other]).all()
        if whole:
            assert (low == 0).all()
            assert (high == given.shape).all()
        if ours != "ct":
            assert mine.sum() == reference.sum() > 4000  # nothing lies outside of the common part


def test_a_scan_becomes_crops_with_one_mask_per_reader(tmp_path: Path) -> None:
    write_scan(tmp_path / "LIDC-IDRI-0001" / "study" / "series")
    done = convert(tmp_path, tmp_path / "out", size=5, margin=1)
    assert (done.scans, done.nodules, done.failures) == (1, {3: 1, 1: 1}, {})
    first, second = read_datalist(tmp_path / "out" / "datalist.json")
    assert [first["case"], second["case"]] == ["LIDC-IDRI-0001_n1", "LIDC-IDRI-0001_n2"]
    assert (first["readers"], second["readers"]) == ([1, 2, 3], [2])
    assert first["patient"] == "LIDC-IDRI-0001"
    assert first["spacing"] == [0.5, 0.75, 2.5]
    assert len(first["raters"]) == len(second["raters"]) == 4
    assert first["nodules"][0]["marks"][0]["characteristics"] == {"malignancy": 4}
    # outlines from column 4 to 11 and row 5 to 12; 1 mm is 2 columns, 2 rows and a slice
    ct: Any = nibabel.load(first["image"])
    assert ct.shape == (12, 12, 4)
    assert ct.get_data_dtype() == np.int16
    # DICOM's place (-30.5 + 2 * .5, -20.25 + 3 * .75, -7.5), with x and y turned
    assert (ct.affine == np.array([[-0.5, 0, 0, 29.5], [0, -0.75, 0, 18.0], [0, 0, 2.5, -7.5], [0, 0, 0, 1]])).all()
    for k, z in enumerate(POSITIONS[1:5]):
        assert (np.asarray(ct.dataobj)[:, :, k] == hounsfield(z)[2:14, 3:15]).all()
    # reader 1: 5 x 5 pixels on two slices, with a hole of 2 x 2 outline pixels on the second one
    masks = [voxels(tmp_path, path) for path in first["raters"]]
    assert [int(mask.sum()) for mask in masks] == [46, 50, 25, 0]
    assert masks[0].dtype == np.uint8
    assert masks[0][3:8, 3:8, 1].all()
    assert not masks[0][4:6, 4:6, 2].any()
    assert first["nodules"][0]["start"] == [2, 2, 1]
    assert first["nodules"][0]["marks"][0]["volume_mm3"] == round(46 * 0.5 * 0.75 * 2.5, 2)
    assert not [problem for problem in find_problems([first, second], progress=False) if problem.fatal]
    table = (tmp_path / "out" / "scans.csv").read_text().splitlines()
    assert table[1] == f"LIDC-IDRI-0001,LIDC-IDRI-0001,{SERIES},6,0.5 0.75 2.5,4,4,2,2,1,1,2,"


def test_a_whole_scan_is_one_case(tmp_path: Path) -> None:
    write_scan(tmp_path / "in")
    convert(tmp_path / "in", tmp_path / "out", whole=True)
    (item,) = read_datalist(tmp_path / "out" / "datalist.json")
    assert item["case"] == "LIDC-IDRI-0001"
    assert len(item["nodules"]) == 2
    ct = voxels(tmp_path, item["image"])
    assert (ct == np.stack([hounsfield(z) for z in POSITIONS], axis=2)).all()
    assert [int(voxels(tmp_path, path).sum()) for path in item["raters"]] == [46, 50 + 9, 25, 0]


@pytest.mark.parametrize(
    ("whole", "expected"), [(False, [[True, True, True, False], [False, True, False, False]]), (True, [[True] * 3 + [False]])]
)
def test_a_reader_without_a_mark_can_be_missing(tmp_path: Path, whole: bool, expected: list[list[bool]]) -> None:
    write_scan(tmp_path / "in")
    done = convert(tmp_path / "in", tmp_path / "out", unmarked="missing", whole=whole)
    listed = json.loads((tmp_path / "out" / "datalist.json").read_text())["training"]
    assert [[path is not None for path in item["raters"]] for item in listed] == expected
    for item in done.items:
        assert sorted(os.listdir(tmp_path / "out" / item["case"])) == sorted(
            ["ct.nii.gz", *(p.split("/")[1] for p in item["raters"] if p)]
        )


def test_min_readers_leaves_nodules_out_of_cases_and_masks(tmp_path: Path) -> None:
    write_scan(tmp_path / "in")
    done = convert(tmp_path / "in", tmp_path / "out", min_readers=2)
    (item,) = done.items
    # the crop holds the place of the other nodule, which reader 2 alone marked
    assert voxels(tmp_path / "out", item["raters"][1]).sum() == 50
    assert json.loads((tmp_path / "out" / "scans" / f"{SERIES}.json").read_text())["nodules"] == 2


def test_a_crop_shows_the_other_nodules_in_it(tmp_path: Path) -> None:
    write_scan(tmp_path / "in")
    done = convert(tmp_path / "in", tmp_path / "out")
    assert voxels(tmp_path / "out", done.items[0]["raters"][1]).sum() == 50 + 9


def test_a_session_that_is_not_there_is_a_missing_reader(tmp_path: Path) -> None:
    write_scan(tmp_path / "in", sessions=four_readers()[:3])
    assert [path is None for path in convert(tmp_path / "in", tmp_path / "out").items[0]["raters"]] == [False, False, False, True]


def test_a_scan_without_nodules_is_no_crop_and_one_whole_case(tmp_path: Path) -> None:
    write_scan(tmp_path / "in", sessions=["", "", "", ""])
    assert convert(tmp_path / "in", tmp_path / "crops").datalist is None
    (item,) = convert(tmp_path / "in", tmp_path / "whole", whole=True).items
    assert (item["readers"], item["nodules"]) == ([], [])
    assert not convert(tmp_path / "in", tmp_path / "missing", whole=True, unmarked="missing").items


def test_the_same_call_does_nothing_twice_and_adds_what_came(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_scan(tmp_path / "in" / "a")
    convert(tmp_path / "in", tmp_path / "out")
    before = files(tmp_path / "out")
    calls: list[str] = []

    def counted(work: Any, cases: Any, names: Any, **how: Any) -> Any:
        calls.extend(names)
        return run_cases(work, cases, names, **how)

    monkeypatch.setattr("monai_jdt.data.lidc.conversion.run_cases", counted)
    convert(tmp_path / "in", tmp_path / "out")
    assert not calls
    assert files(tmp_path / "out") == before
    write_scan(tmp_path / "in" / "b", series=f"{SERIES}.2", patient="LIDC-IDRI-0002")
    done = convert(tmp_path / "in", tmp_path / "out")
    assert calls == ["LIDC-IDRI-0002"]
    assert [item["case"] for item in done.items] == [f"LIDC-IDRI-000{n}_n{k}" for n in (1, 2) for k in (1, 2)]


@pytest.mark.long
def test_bytes_depend_on_the_files_alone_with_workers_too(tmp_path: Path) -> None:
    for n in (1, 2):
        write_scan(tmp_path / "in" / str(n), series=f"{SERIES}.{n}", patient=f"LIDC-IDRI-000{n}")
    convert(tmp_path / "in", tmp_path / "one")
    convert(tmp_path / "in", tmp_path / "two", workers=2)
    assert files(tmp_path / "one") == files(tmp_path / "two")


class Killed(BaseException):
    """What no handler of errors catches."""


def kill_before(patch: pytest.MonkeyPatch, number: int) -> list[str]:
    """Kill the process before a renaming of a file or folder, counted from 1. The names of those until then are listed."""
    targets: list[str] = []

    def killing(rename: Any) -> Any:
        def counted(source: Any, target: Any) -> None:
            targets.append(os.path.basename(target))
            if len(targets) == number:
                raise Killed
            rename(source, target)

        return counted

    for name in ("rename", "replace"):
        patch.setattr(os, name, killing(getattr(os, name)))
    return targets


# what a conversion of one scan renames, in this order
RENAMED = ["lidc.json", "LIDC-IDRI-0001_n1", "LIDC-IDRI-0001_n2", f"{SERIES}.json", "scans.csv", "datalist.json"]


def same_but_lock(dest: Path, whole: Path) -> bool:
    """Whether two folders hold the same, hidden files and empty folders included."""
    names = [sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) for folder in (dest, whole)]
    return names[0] == names[1] and files(dest) == files(whole)


@pytest.mark.parametrize("number", range(1, len(RENAMED) + 1))
def test_a_conversion_that_was_killed_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """A kill before each renaming of a file or folder: nothing in between is seen in the end."""
    write_scan(tmp_path / "in")
    convert(tmp_path / "in", tmp_path / "whole")
    with monkeypatch.context() as patch:
        targets = kill_before(patch, number)
        # a process that is killed cleans up nothing
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)
        patch.setattr(os, "remove", lambda *_: None)
        with pytest.raises(Killed):
            convert(tmp_path / "in", tmp_path / "out")
    assert targets == RENAMED[:number]
    convert(tmp_path / "in", tmp_path / "out")
    assert same_but_lock(tmp_path / "out", tmp_path / "whole")


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_conversion_anew_that_was_killed_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """The scan has one case where it had two, and keeps its name though the patient has a second scan by then."""
    write_scan(tmp_path / "in" / "a")
    convert(tmp_path / "in", tmp_path / "out")
    write_scan(tmp_path / "in" / "a", sessions=[nodule("a", [square(4, 5, 4, -5.0)])])
    convert(tmp_path / "in", tmp_path / "whole")
    with monkeypatch.context() as patch:
        targets = kill_before(patch, number)
        with pytest.raises(Killed):
            convert(tmp_path / "in", tmp_path / "out")
    assert targets == [f"{SERIES}.json", "LIDC-IDRI-0001_n1", f"{SERIES}.json", "scans.csv"][:number]
    write_scan(tmp_path / "in" / "b", series=f"{SERIES}.22222", sessions=[""] * 4)
    for dest in ("whole", "out"):
        convert(tmp_path / "in", tmp_path / dest)
    assert same_but_lock(tmp_path / "out", tmp_path / "whole")


def test_a_scan_whose_files_change_is_converted_again(tmp_path: Path) -> None:
    write_scan(tmp_path / "in")
    convert(tmp_path / "in", tmp_path / "out")
    write_scan(tmp_path / "in", sessions=[nodule("a", [square(4, 5, 4, -5.0)])])
    done = convert(tmp_path / "in", tmp_path / "out")
    assert len(done.items) == 1
    assert sorted(path.name for path in (tmp_path / "out").glob("LIDC*")) == ["LIDC-IDRI-0001_n1"]


def test_other_settings_in_the_same_folder_are_refused(tmp_path: Path) -> None:
    write_scan(tmp_path / "in")
    convert(tmp_path / "in", tmp_path / "out")
    before = files(tmp_path / "out")
    with pytest.raises(
        ValueError, match=r"expected a folder of the same settings, got margin 8\.0 instead of 9\.0, unmarked 'background' instead"
    ):
        convert(tmp_path / "in", tmp_path / "out", unmarked="missing", margin=9)
    assert files(tmp_path / "out") == before


def test_a_folder_of_other_files_is_refused(tmp_path: Path) -> None:
    write_scan(tmp_path / "in")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"expected a new or empty folder, got one with thesis\.txt"):
        convert(tmp_path / "in", tmp_path / "out")
    assert os.listdir(tmp_path / "out") == ["thesis.txt"]


def test_files_of_others_in_a_case_are_never_removed(tmp_path: Path) -> None:
    write_scan(tmp_path / "in")
    convert(tmp_path / "in", tmp_path / "out")
    (tmp_path / "out" / "LIDC-IDRI-0001_n1" / "notes.txt").write_text("mine")
    (tmp_path / "out" / "scans" / f"{SERIES}.json").unlink()
    done = convert(tmp_path / "in", tmp_path / "out")
    assert list(done.failures.values()) == [
        f"{tmp_path / 'out' / 'LIDC-IDRI-0001_n1'}: expected a free name, got notes.txt there. Fix: move it away."
    ]
    assert (tmp_path / "out" / "LIDC-IDRI-0001_n1" / "notes.txt").exists()


def test_a_second_run_in_the_folder_is_refused(tmp_path: Path) -> None:
    write_scan(tmp_path / "in")
    with sole_run_in(tmp_path / "out"), pytest.raises(BlockingIOError, match="expected a folder that no other run writes to"):
        convert(tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"size": 0}, "size: expected a number of mm > 0, got 0"),
        ({"margin": -1}, "margin: expected a number of mm >= 0, got -1"),
        ({"tolerance": float("nan")}, "tolerance: expected a number of mm >= 0, got nan"),
        ({"min_readers": 5}, "min_readers: expected a whole number from 1 to 4, got 5"),
        ({"unmarked": "empty"}, "unmarked: expected one of 'background', 'missing', got 'empty'"),
        ({"duplicates": "last"}, "duplicates: expected one of 'refuse', 'first', got 'last'"),
    ],
)
def test_invalid_settings_are_refused(tmp_path: Path, settings: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        convert(tmp_path, tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


def test_readers_are_whole_numbers(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"min_readers: expected a whole number, got float 2\.5"):
        convert(tmp_path, tmp_path / "out", min_readers=2.5)


def test_one_bad_scan_is_not_the_end(tmp_path: Path) -> None:
    write_scan(tmp_path / "in" / "a", positions=POSITIONS[:3] + POSITIONS[4:])
    write_scan(tmp_path / "in" / "b", series=f"{SERIES}.2", patient="LIDC-IDRI-0002")
    done = convert(tmp_path / "in", tmp_path / "out")
    assert list(done.failures) == ["LIDC-IDRI-0001"]
    assert {item["patient"] for item in done.items} == {"LIDC-IDRI-0002"}
    rows = (tmp_path / "out" / "scans.csv").read_text().splitlines()
    assert "1 missing, the first after z = -5 mm" in rows[1]
    # the series is downloaded again
    write_scan(tmp_path / "in" / "a")
    assert not convert(tmp_path / "in", tmp_path / "out").failures


def test_a_series_within_another_ones_folder_is_seen(tmp_path: Path) -> None:
    """The first and the last file of the folder are of one series."""
    write_scan(tmp_path / "in" / "a")
    between = write_slice(tmp_path / "in" / "a" / "1-003a.dcm", -5.0, series=f"{SERIES}.2")
    done = convert(tmp_path / "in", tmp_path / "out")
    assert not done.failures
    fix = "add the file of LIDC-XML-only.zip, if it is wanted"
    line = f"{between}: expected the XML of its CT series, got none of series {SERIES}.2. Fix: {fix}."
    assert done.notes == (line,)
    assert convert(tmp_path / "in", tmp_path / "out").notes == (line,)  # of the record
    # the rest of that series lies elsewhere, with its XML: it would lack a slice
    write_scan(tmp_path / "in" / "b", series=f"{SERIES}.2", patient="LIDC-IDRI-0002")
    done = convert(tmp_path / "in", tmp_path / "out")
    assert done.notes == ()
    assert done.failures == {
        "LIDC-IDRI-0002": f"series {SERIES}.2: expected its files in its own folders, got others among those of LIDC-IDRI-0001, "
        f"such as {between}. Fix: put each series into folders of its own."
    }
    assert {item["patient"] for item in done.items} == {"LIDC-IDRI-0001"}


def test_series_of_one_folder_are_found_under_another_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The records of the first conversion have each other's files: where these lie is no part of the download's path."""
    monkeypatch.chdir(tmp_path)
    for scan in ("1", "2"):
        write_scan(tmp_path / scan, series=f"{SERIES}.{scan}", patient=f"LIDC-IDRI-000{scan}")
        for path in (tmp_path / scan).iterdir():
            (tmp_path / "flat").mkdir(exist_ok=True)
            path.rename(tmp_path / "flat" / f"{scan}{path.name}")
    assert len(convert(Path("flat"), Path("out")).items) == 4
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.nii.gz")}

    def is_as_before(root: Path) -> bool:
        done = convert(root, Path("out"))
        assert (done.failures, done.notes) == ({}, ())
        assert len(read_datalist("out/datalist.json")) == len(done.items) == 4
        return stamps == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.nii.gz")}

    assert is_as_before(tmp_path / "flat")
    (tmp_path / "flat").rename(tmp_path / "moved")
    assert is_as_before(Path("moved"))
    # a record with a place that is not there is written anew
    path = tmp_path / "out" / "scans" / f"{SERIES}.1.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"other_series": {f"{SERIES}.2": "flat/2069.dcm"}}))
    assert not is_as_before(Path("moved"))
    assert json.loads(path.read_text()) == record


def test_files_that_cannot_be_read_are_passed_over_if_they_are_of_no_slice(tmp_path: Path) -> None:
    folder = write_scan(tmp_path / "in" / "a")
    (folder / "thumbnail.dcm").write_bytes(b"GIF89a" + bytes(200))
    done = convert(tmp_path / "in", tmp_path / "out")
    assert not done.failures
    assert len(done.items) == 2
    (note,) = done.notes
    assert note.startswith(f"passed over: {folder / 'thumbnail.dcm'}: expected a whole DICOM file, got a damaged or truncated one.")
    # an empty file may be the lowest or the highest slice, whose loss leaves no gap
    (folder / "1-009.dcm").write_bytes(b"")
    done = convert(tmp_path / "in", tmp_path / "out")
    assert list(done.failures.values()) == [
        f"{folder / '1-009.dcm'}: expected a whole DICOM file, got an empty file. Fix: download the series again."
    ]


@pytest.mark.long
def test_scans_are_converted_on_a_dask_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed")
    write_scan(tmp_path / "in" / "a")
    write_scan(tmp_path / "in" / "b", series=f"{SERIES}.2", patient="LIDC-IDRI-0002")
    write_scan(tmp_path / "in" / "c", series=f"{SERIES}.3", patient="LIDC-IDRI-0003", positions=POSITIONS[:3] + POSITIONS[4:])
    here = convert(tmp_path / "in", tmp_path / "here")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster:
        monkeypatch.chdir(tmp_path)  # the workers are elsewhere
        there = convert(Path("in"), Path("there"), scheduler=cluster.scheduler_address)
    assert (there.scans, there.failures) == (here.scans, here.failures) != (0, {})
    assert voxels_of_all(tmp_path / "here") == voxels_of_all(tmp_path / "there")


def voxels_of_all(dest: Path) -> dict[str, bytes]:
    return {name: content for name, content in files(dest).items() if name.endswith(".nii.gz")}


def test_scans_of_a_patient_that_come_from_several_folders_keep_their_cases(tmp_path: Path) -> None:
    series = ("1.2.11111", "1.2.22222", "1.3.22222")
    for one in series:
        write_scan(tmp_path / one, series=one)
    convert(tmp_path / series[0], tmp_path / "out")
    before = files(tmp_path / "out" / "LIDC-IDRI-0001_n1")
    convert(tmp_path / series[1], tmp_path / "out")
    done = convert(tmp_path / series[2], tmp_path / "out")
    names = ("LIDC-IDRI-0001", "LIDC-IDRI-0001_22222", "LIDC-IDRI-0001_-22222")
    assert {(item["case"], item["series_uid"]) for item in done.items} == {
        (f"{name}_n{k}", one) for name, one in zip(names, series, strict=True) for k in (1, 2)
    }
    assert files(tmp_path / "out" / "LIDC-IDRI-0001_n1") == before


def test_a_scan_that_fails_since_its_files_changed_is_in_no_list(tmp_path: Path) -> None:
    write_scan(tmp_path / "in" / "a")
    write_scan(tmp_path / "in" / "b", series=f"{SERIES}.2", patient="LIDC-IDRI-0002")
    convert(tmp_path / "in", tmp_path / "out")
    (tmp_path / "in" / "broken.xml").write_text("<LidcReadMessage>")
    # a name with a byte that is no text is escaped
    (tmp_path / "in" / os.fsdecode(b"broken\xff.xml")).write_text("<LidcReadMessage>")
    (tmp_path / "in" / "a" / "1-003.dcm").unlink()
    done = convert(tmp_path / "in", tmp_path / "out")
    assert {item["patient"] for item in read_datalist(tmp_path / "out" / "datalist.json")} == {"LIDC-IDRI-0002"}
    rows = list(csv.DictReader((tmp_path / "out" / "scans.csv").open()))
    broken = [str(tmp_path / "in" / "broken.xml"), str(tmp_path / "in" / r"broken\udcff.xml")]
    assert [row["name"] for row in rows] == ["LIDC-IDRI-0001", "LIDC-IDRI-0002", *broken]
    assert [row["failure"] for row in rows[:3]] == [done.failures[rows[0]["name"]], "", done.failures[rows[2]["name"]]]


def test_a_list_without_cases_is_removed(tmp_path: Path) -> None:
    write_scan(tmp_path / "in")
    convert(tmp_path / "in", tmp_path / "out")
    write_scan(tmp_path / "in", sessions=[""] * 4)
    assert convert(tmp_path / "in", tmp_path / "out").datalist is None
    assert not (tmp_path / "out" / "datalist.json").exists()


def test_two_records_of_one_name_are_refused(tmp_path: Path) -> None:
    write_scan(tmp_path / "in")
    convert(tmp_path / "in", tmp_path / "out")
    record = (tmp_path / "out" / "scans" / f"{SERIES}.json").read_text()
    (tmp_path / "out" / "scans" / "1.2.json").write_text(record.replace(SERIES, "1.2"))
    with pytest.raises(ValueError, match=r"expected one record for each name, got LIDC-IDRI-0001 in .+\.json and 1\.2\.json"):
        convert(tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize("patient", ["../esc/P1", "/tmp/P1", "..", "scans", "Datalist.json", "P 1"])
def test_a_patient_is_one_folder_in_the_destination(tmp_path: Path, patient: str) -> None:
    write_scan(tmp_path / "in", patient=patient)
    (item,) = convert(tmp_path / "in", tmp_path / "a" / "out", whole=True).items
    assert item["patient"] == patient
    assert (tmp_path / "a" / "out" / item["case"] / "ct.nii.gz").is_file()
    assert "/" not in item["case"]
    assert sorted(os.listdir(tmp_path / "a")) == ["out"]
    ours = {".monai_jdt.lock", "datalist.json", "lidc.json", "scans", "scans.csv"}
    assert set(os.listdir(tmp_path / "a" / "out")) - ours == {item["case"]}
    assert os.listdir(tmp_path / "a" / "out" / "scans") == [f"{SERIES}.json"]


def test_what_a_system_puts_beside_the_records_is_passed_over(tmp_path: Path) -> None:
    write_scan(tmp_path / "in")
    convert(tmp_path / "in", tmp_path / "out")
    for name in (".DS_Store", f"._{SERIES}.json", "Thumbs.db"):
        (tmp_path / "out" / "scans" / name).write_bytes(b"\0")
    assert len(convert(tmp_path / "in", tmp_path / "out").items) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        [],
        {"items": 3},
        {"items": [3]},
        {"items": None},
        {"name": None},
        {"name": "../x"},
        {"name": "LIDC-IDRI-0002"},
        {"series_uid": "1.2"},
        {"fingerprint": 3},
        {"spacing": ["a"]},
        {"item": {"case": "../LIDC-IDRI-0001_n1"}},
        {"item": {"image": "/etc/passwd"}},
        {"item": {"raters": []}},
        {"item": {"raters": ["../a", None, None, None]}},
        {"item": {"nodules": [{}]}},
    ],
)
def test_a_broken_record_is_refused_before_anything_is_removed(tmp_path: Path, wrong: Any) -> None:
    write_scan(tmp_path / "in")
    convert(tmp_path / "in", tmp_path / "out")
    path = tmp_path / "out" / "scans" / f"{SERIES}.json"
    record = json.loads(path.read_text())
    if isinstance(wrong, dict):
        record["items"][0].update(wrong.get("item", {}))
        record.update(wrong)
    path.write_text("{" if wrong is None else json.dumps(record if isinstance(wrong, dict) else wrong))
    before = files(tmp_path / "out")
    write_scan(tmp_path / "in", sessions=[nodule("a", [square(4, 5, 4, -5.0)])])
    with pytest.raises(ValueError, match="expected the record of a converted scan, got") as caught:
        convert(tmp_path / "in", tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert files(tmp_path / "out") == before
    assert scan_cases.read_record(str(tmp_path / "none.json")) is None
