"""Folders and files of odd names, links, and other files beside the cases: listed, or reported as left out."""

from __future__ import annotations

import json
import os
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from monai_jdt.cli import main
from monai_jdt.data import (
    CaseList,
    DataProblemError,
    brats_datalist,
    curvas_datalist,
    kits21_datalist,
    msseg_datalist,
    pattern_datalist,
    qubiq_datalist,
    read_datalist,
    write_datalist,
)
from monai_jdt.data.layouts.folders import natural_key
from tests.data.empty_files import touch_files

ODD = '-O\'Brien [1] *? "q" {x} $HOME #1 \\ Ü\n~'


Lister = Callable[[Path], CaseList]
LAYOUTS: dict[str, tuple[Lister, list[str]]] = {
    "brats": (brats_datalist, [f"A/{{}}/{{}}_{m}.nii.gz" for m in ("t1ce", "t1", "t2", "flair", "seg_rater1", "seg_rater2")]),
    "msd": (brats_datalist, ["A/imagesTr/{}.nii.gz", "A/labelsTr/{}_seg_rater1.nii.gz", "A/labelsTr/{}_seg_rater2.nii.gz"]),
    "qubiq": (qubiq_datalist, [f"A/kidney/{{}}/{name}.nii.gz" for name in ("image", "task01_seg01", "task01_seg02")]),
    "kits21": (
        kits21_datalist,
        ["A/{}/imaging.nii.gz", *(f"A/{{}}/segmentations/kidney_instance-1_annotation-{n}.nii.gz" for n in (1, 2))],
    ),
    "curvas": (curvas_datalist, [f"A/{{}}/{name}.nii.gz" for name in ("image", "annotation_1", "annotation_2")]),
    "msseg": (
        lambda root: msseg_datalist(root, modalities=["FLAIR"]),
        [f"A/{{}}/{name}.nii.gz" for name in ("FLAIR_preprocessed", "ManualSegmentation_1", "ManualSegmentation_2")],
    ),
    "pattern": (
        lambda root: pattern_datalist(root, "A/{case}/im [1].png", "A/{case}/seg_{rater}.png"),
        [f"A/{{}}/{name}.png" for name in ("im [1]", "seg_a", "seg_b")],
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_odd_names_are_listed_written_and_read_back(tmp_path: Path, capsys: pytest.CaptureFixture[str], layout: str) -> None:
    lister, names = LAYOUTS[layout]
    root = tmp_path / ODD
    for case in (ODD, "plain"):
        touch_files(root, *(name.replace("{}", case) for name in names))
    items = lister(root)
    assert sorted(item["case"] for item in items) == sorted([ODD, "plain"])
    assert [len(item["raters"]) for item in items] == [2, 2]
    assert items.found.skipped == ()
    assert len(str(items.found).splitlines()) == 1
    path = write_datalist(items, tmp_path / "lists" / f"{ODD}.json")
    assert read_datalist(path) == items
    assert all(os.path.isfile(item["raters"][0]) for item in items if isinstance(item["raters"][0], str))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    lister, names = LAYOUTS[layout]
    touch_files(tmp_path / "set", *(name.replace("{}", "c1") for name in names))
    assert lister(Path("~/set")) == lister(tmp_path / "set")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_lies_beside_is_reported(tmp_path: Path, layout: str) -> None:
    lister, names = LAYOUTS[layout]
    touch_files(tmp_path, *(name.replace("{}", "c1") for name in names))
    folder = os.path.dirname(names[-1].replace("{}", "c1"))
    touch_files(tmp_path, f"{folder}/third opinion.nii.gz", f"{folder}/rater 4.mha")
    found = lister(tmp_path).found
    assert str(found).splitlines()[0].endswith("; skipped: 2")
    assert "third opinion.nii.gz" in str(found)
    assert "rater 4.mha" in str(found)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_folder_that_is_linked(tmp_path: Path, layout: str) -> None:
    """Under another name it is another case; where the files name the case, the second is told. A loop ends, and is told."""
    lister, names = LAYOUTS[layout]
    touch_files(tmp_path, *(name.replace("{}", "c1") for name in names))
    place = tmp_path / "A" / ("kidney" if layout == "qubiq" else "")
    if layout in ("brats", "msd"):
        (tmp_path / "B").symlink_to(place)
        expected = ["c1"]
    else:
        (place / "c2").symlink_to(place / "c1")
        expected = ["c1", "c2"]
    items = lister(tmp_path)
    assert [item["case"] for item in items] == expected
    told = [] if len(expected) == 2 else [f"the same files as {place}/"]
    assert len(items.found.skipped) == len(told)
    assert all(words in skipped.why for words, skipped in zip(told, items.found.skipped, strict=True))
    (place / "c1" / "up").parent.mkdir(exist_ok=True)
    (place / "c1" / "up").symlink_to(tmp_path)
    again = lister(tmp_path)
    assert again == items
    assert any("a link back to" in skipped.why for skipped in again.found.skipped)


def test_folders_full_of_links_to_each_other_end(tmp_path: Path) -> None:
    for one in range(6):
        (tmp_path / f"f{one}").mkdir()
        for other in range(6):
            (tmp_path / f"f{one}" / f"to{other}").symlink_to(tmp_path / f"f{other}")
    touch_files(tmp_path, "f0/im.png", "f0/seg_1.png")
    items = pattern_datalist(tmp_path, "{case}/im.png", "{case}/seg_{rater}.png")
    assert [item["case"] for item in items] == ["f0"]


def test_one_file_found_by_a_link_too_is_taken_once(tmp_path: Path) -> None:
    touch_files(tmp_path, "a/Set-1.png", "a/Set-1_rad1.png")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    items = pattern_datalist(tmp_path, "**/Set-{case}.png", "**/Set-{case}_rad{rater}.png")
    assert len(items) == 1
    assert [str(skipped) for skipped in items.found.skipped[:1]] == [
        f"{tmp_path}/b/Set-1.png: the same file as {tmp_path}/a/Set-1.png, by a link"
    ]


def test_upper_and_lower_case_are_one(tmp_path: Path) -> None:
    touch_files(tmp_path, "raw/M23.PNG", "raw/m24.png", "p1/Seg_m23.png", "p2/seg_M23.png", "p1/seg_M24.png", "P2/SEG_m24.png")
    items = pattern_datalist(tmp_path, "raw/{case}.png", "p?/seg_{case}.png".replace("p?", "{rater}"))
    assert [(item["case"], len(item["raters"])) for item in items] == [("M23", 2), ("m24", 2)]
    assert items.found.skipped == ()
    touch_files(tmp_path, "p1/seg_m23.png")
    with pytest.raises(DataProblemError, match=r"M23: expected one file by the pattern .*, got .*p1/Seg_m23.png, .*p1/seg_m23.png"):
        pattern_datalist(tmp_path, "raw/{case}.png", "{rater}/seg_{case}.png")


def test_cases_that_differ_in_nothing_but_case_stay_two(tmp_path: Path) -> None:
    touch_files(tmp_path, "a.png", "A.png", "a_1.png", "A_1.png", "A_2.png")
    items = pattern_datalist(tmp_path, "{case}.png", "{case}_{rater}.png")
    assert sorted((item["case"], len(item["raters"])) for item in items) == [("A", 2), ("a", 1)]


def test_two_encodings_of_an_accent_are_one(tmp_path: Path) -> None:
    name = "\u00dcber"
    touch_files(tmp_path, f"{name}.png", f"{unicodedata.normalize('NFD', name)}_1.png")
    for form in ("NFC", "NFD"):
        pattern = unicodedata.normalize(form, "{case}_{rater}.png")
        assert [len(item["raters"]) for item in pattern_datalist(tmp_path, "{case}.png", pattern)] == [1]
    shutil.rmtree(tmp_path)
    touch_files(tmp_path, f"imagesTr/{name}.nii.gz", f"labelsTr/{unicodedata.normalize('NFD', name).upper()}.nii.gz")
    assert [len(item["raters"]) for item in brats_datalist(tmp_path)] == [1]


def test_raters_by_several_patterns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """CHASE_DB1's names, and a letter of another case in one of them."""
    touch_files(tmp_path, *(f"Image_{case}{end}" for case in ("01L", "01R") for end in (".jpg", "_1stHO.png", "_2ndHO.png")))
    os.rename(tmp_path / "Image_01R_1stHO.png", tmp_path / "image_01R_1stho.png")
    patterns = ["Image_{case}_2ndHO.png", "Image_{case}_1stHO.png"]
    items = pattern_datalist(tmp_path, "Image_{case}.jpg", patterns)
    assert [os.path.basename(file) for file in items[0]["raters"]] == ["Image_01L_2ndHO.png", "Image_01L_1stHO.png"]
    others = pattern_datalist(tmp_path, "Image_{case}.jpg", ["Image_{case}_2nd*.png", "Image_{case}_1st*.png"])
    assert [item["raters"] for item in items] == [item["raters"] for item in others]
    assert items[1]["rater_names"] == ["2ndHO", "1stHO"]
    file = tmp_path / "list.json"
    raters = [word for pattern in patterns for word in ("--raters", pattern)]
    with pytest.raises(SystemExit) as ended:
        main(["datalist", "pattern", str(tmp_path), "--image", "Image_{case}.jpg", *raters, "--write", str(file)])
    assert not ended.value.code
    assert read_datalist(file) == items
    assert [len(item["raters"]) for item in json.loads(file.read_text())["training"]] == [2, 2]
    with pytest.raises(ValueError, match=r"raters: expected patterns that differ, got 'a\{case\}' twice"):
        pattern_datalist(tmp_path, "{case}", ["a{case}", "a{case}"])


@pytest.mark.parametrize(
    ("image", "raters", "says"),
    [
        ("im/{case}.tif", "r{rater}/seg_{case}.png", "the image pattern im/{case}.tif, got none of 60 files, e.g. "),
        ("im/{case}.png", "r{rater}/{case}.nii", "the raters pattern r{rater}/{case}.nii, got none of 60 files, e.g. "),
        (
            "im/{case}.png",
            "r{rater}/{case}.png",
            "got none: the image pattern finds case 'c1' in im/c1.png, the raters pattern finds case 'seg_c1' in r1/seg_c1.png. Fix: ",
        ),
        ("im/{case}.png", "r3/s{rater}_{case}.png", "got none for 16 of 20 cases, e.g. c5, c6, c7. Fix: correct the pattern, or add"),
        ("im/{case}.png", "r*/seg_{case}.png", "for each case, got several for 20 of 20 cases, e.g. c1: "),
    ],
)
def test_a_wrong_pattern_is_one_line(tmp_path: Path, image: str, raters: str, says: str) -> None:
    for number in range(1, 21):
        touch_files(tmp_path, *(f"{place}c{number}.png" for place in ("im/", "r1/seg_", "r2/seg_" if number > 4 else "r3/seg_")))
    with pytest.raises(DataProblemError) as caught:
        pattern_datalist(tmp_path, image, raters)
    (line,) = str(caught.value).splitlines()
    assert says in line


def test_a_pattern_that_two_things_share_is_reported(tmp_path: Path) -> None:
    touch_files(tmp_path, "a/1.png", "b/1.png")
    with pytest.raises(DataProblemError, match=r"1.png: expected one pattern that matches it best, got \?/{case}.png and "):
        pattern_datalist(tmp_path, "?/{case}.png", "{rater}/{case}.png")


def test_voxels_of_a_header_file_are_no_case_of_their_own(tmp_path: Path) -> None:
    touch_files(tmp_path, "a.mhd", "a.raw", "a_r1.mhd", "a_r1.zraw", "b.raw", "notes.txt")
    found = pattern_datalist(tmp_path, "{case}.mhd", "{case}_r{rater}.mhd").found
    assert [str(skipped) for skipped in found.skipped] == [f"{tmp_path}: 2 files (no pattern matches): b.raw, notes.txt"]


def test_a_long_report_is_cut_where_it_is_printed(tmp_path: Path) -> None:
    touch_files(tmp_path, "im/a.png", "im/a_1.png", *(f"x{n}/y.png" for n in range(60)))
    found = pattern_datalist(tmp_path, "im/{case}.png", "im/{case}_{rater}.png").found
    assert len(found.skipped) == 60
    assert str(found).splitlines()[0].endswith("skipped: 60")
    assert str(found).splitlines()[51:] == ["  and 10 more lines"]


def test_patterns_that_begin_with_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a_im.nii", "a_r1.nii"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    for begin in ("", "./", f"{tmp_path}/"):
        (item,) = pattern_datalist(".", f"{begin}{{case}}_im.nii", f"{begin}{{case}}_r{{rater}}.nii")
        assert item["case"] == "a"


def test_names_sort_as_people_sort_them() -> None:
    names = ["rater10", "Rater2", "rater1", "anna", "10", "2"]
    assert sorted(names, key=natural_key) == ["2", "10", "anna", "rater1", "Rater2", "rater10"]
    assert natural_key("1\u00b2") > natural_key("1")  # a digit to str.isdigit, but no number
    assert sorted(["1", "01", "001"], key=natural_key) == ["001", "01", "1"]
