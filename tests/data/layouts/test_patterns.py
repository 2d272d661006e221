"""Layouts by patterns of file names: LNDb, LIDC-like crops, BIDS, wildcards, and patterns that are wrong."""

from pathlib import Path

import numpy as np
import pytest

from monai_jdt.data import DataProblemError, check_items, find_problems, pattern_datalist
from monai_jdt.transforms import LoadRaters
from tests.data.empty_files import touch_files
from tests.data.layouts.small_volumes import SHAPE, box, save_image, save_small


def test_pattern_with_raters(tmp_path: Path) -> None:
    touch_files(tmp_path, *(f"s{n}/{name}" for n in (1, 2) for name in ("T1w.nii.gz", "T2w.nii.gz", "seg_rater10.nii.gz")))
    touch_files(tmp_path, "s1/seg_rater9.nii.gz", "s1/seg_raters.nii.gz.bak")
    items = pattern_datalist(tmp_path, ["{case}/T1w.nii.gz", "{case}/T2w.nii.gz"], "{case}/seg_rater{rater}.nii.gz")
    assert [item["case"] for item in items] == ["s1", "s2"]
    assert items[0]["image"] == [f"{tmp_path}/s1/T1w.nii.gz", f"{tmp_path}/s1/T2w.nii.gz"]
    assert items[0]["raters"] == [f"{tmp_path}/s1/seg_rater{n}.nii.gz" for n in (9, 10)]


def test_pattern_with_wildcards_and_a_repeated_case(tmp_path: Path) -> None:
    touch_files(tmp_path, "x/y/LNDb-0001.mhd", "x/LNDb-0002.mhd", "x/LNDb.mhd", "m/LNDb-0001_rad2.mhd", "m/LNDb-0002_rad1.mhd")
    items = pattern_datalist(str(tmp_path), "x/**/LNDb-{case}.mhd", "?/LNDb-{case}_rad{rater}.mhd")
    assert [(item["case"], item["image"]) for item in items] == [
        ("0001", f"{tmp_path}/x/y/LNDb-0001.mhd"),
        ("0002", f"{tmp_path}/x/LNDb-0002.mhd"),
    ]
    touch_files(tmp_path, "k/a/a_img.nii", "k/a/b_img.nii", "k/a/a_lab.nii")
    items = pattern_datalist(tmp_path / "k", "{case}/{case}_img.nii", "{case}/{case}_l*.nii")
    assert [item["case"] for item in items] == ["a"]


def test_pattern_problems(tmp_path: Path) -> None:
    touch_files(tmp_path, "s1/im.nii", "s1/lab1.nii", "s1/lab2.nii", "s2/im.nii", "s3/lab1.nii")
    with pytest.raises(ValueError, match=r"expected the field \{case\}"):
        pattern_datalist(tmp_path, "im.nii", "{case}/lab.nii")
    with pytest.raises(ValueError, match=r"got '\{subject\}'"):
        pattern_datalist(tmp_path, "{subject}/im.nii", "{case}/lab.nii")
    with pytest.raises(DataProblemError, match=r"expected files that match \{case\}/t\.nii or"):
        pattern_datalist(tmp_path, "{case}/t.nii", "{case}/u.nii")
    with pytest.raises(DataProblemError) as caught:
        pattern_datalist(tmp_path, "{case}/im.nii", "{case}/lab?.nii")
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert "s1: expected one file by the pattern" in lines[0]
    assert "s2: expected at least one rater" in lines[1]
    assert "s3: expected an image" in lines[2]


def test_a_pattern_without_files_does_not_advise_itself(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    with pytest.raises(
        DataProblemError, match=r"got 1 other files, e\.g\. .*a\.txt. Fix: name the folder that the patterns begin at, or "
    ):
        pattern_datalist(tmp_path, "{case}/im.nii", "{case}/lab.nii")


def test_lndb_and_lidc_by_patterns(tmp_path: Path) -> None:
    import SimpleITK

    rng = np.random.default_rng(0)
    for case, raters in (("0001", 3), ("0002", 1)):
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(rng.random(SHAPE, dtype=np.float32)), str(tmp_path / f"LNDb-{case}.mhd"))
        for r in range(1, raters + 1):
            mark = SimpleITK.GetImageFromArray((rng.random(SHAPE) > 0.5).astype(np.uint8))
            SimpleITK.WriteImage(mark, str(tmp_path / f"LNDb-{case}_rad{r}.mhd"))
    items = pattern_datalist(tmp_path, "**/LNDb-{case}.mhd", "**/LNDb-{case}_rad{slot}.mhd", task="nodule")
    assert [(item["case"], item["task"], len(item["raters"])) for item in items] == [("0001", "nodule", 3), ("0002", "nodule", 1)]
    assert items.found.raters == ((1, 1), (3, 1))
    assert list(find_problems(items, channels=1, label_values=(0, 1), progress=False)) == []
    assert LoadRaters(reader="ITKReader")(items[0]["raters"]).shape[0] == 3
    lidc = tmp_path / "lidc"
    for nodule, raters in (("p1_n1", 4), ("p1_n2", 2)):
        save_image(lidc / f"{nodule}/ct.nii.gz")
        for r in range(raters):
            save_small(lidc / f"{nodule}/mask_{r}.nii.gz", box((0, 0, 0), (r + 1, 3, 3)))
    items = pattern_datalist(lidc, "{case}/ct.nii.gz", "{case}/mask_{slot}.nii.gz")
    assert items == pattern_datalist(lidc, "{case}/ct.nii.gz", "{case}/{slot}.nii.gz")
    # the same slot is another person in the next case
    assert all("rater_names" not in item for item in items)
    assert [len(item["raters"]) for item in items] == [4, 2]
    check_items(items, channels=1, label_values=(0, 1), progress=False)


def test_bids_derivatives_by_patterns(tmp_path: Path) -> None:
    for case in ("01", "02"):
        save_image(tmp_path / f"sub-{case}/anat/sub-{case}_T1w.nii.gz")
        for n, rater in enumerate(("alice", "bob"), start=1):
            place = tmp_path / f"derivatives/{rater}/sub-{case}/anat"
            save_small(place / f"sub-{case}_label-lesion_mask.nii.gz", box((0, 0, 0), (n, 3, 3)))
    items = pattern_datalist(
        tmp_path, "sub-{case}/anat/sub-{case}_T1w.nii.gz", "derivatives/{rater}/sub-{case}/anat/sub-{case}_label-lesion_mask.nii.gz"
    )
    assert [item["case"] for item in items] == ["01", "02"]
    assert ["alice" in path for path in items[0]["raters"]] == [True, False]
    check_items(items, channels=1, label_values=(0, 1), progress=False)


def test_raters_keep_the_names_of_the_pattern(tmp_path: Path) -> None:
    touch_files(tmp_path, "im/a.png", "im/b.png", "anna/a.png", "ben/a.png", "Ben/b.png")
    items = pattern_datalist(tmp_path, "im/{case}.png", "{rater}/{case}.png")
    # one person, whichever way a folder is written: the first spelling holds
    assert [item["rater_names"] for item in items] == [["anna", "Ben"], ["Ben"]]
    assert items.found.names == (("Ben", 2), ("anna", 1))
    assert "by name: Ben 2, anna 1; skipped" in str(items.found)


def test_raters_of_numbers_and_of_several_patterns_have_names(tmp_path: Path) -> None:
    touch_files(tmp_path, *(f"c{n}/im.nii" for n in (1, 2)), *(f"c1/seg{n}.nii" for n in (1, 2, 10)), "c2/seg10.nii")
    items = pattern_datalist(tmp_path, "{case}/im.nii", "{case}/seg{rater}.nii")
    assert [item["rater_names"] for item in items] == [["rater 1", "rater 2", "rater 10"], ["rater 10"]]
    chase = tmp_path / "chase"
    touch_files(chase, "Image_01L.jpg", "Image_01L_1stHO.png", "Image_01L_2ndHO.png")
    items = pattern_datalist(chase, "{case}.jpg", ["{case}_1stHO.png", "{case}_2ndHO.png"])
    assert items[0]["rater_names"] == ["1stHO", "2ndHO"]
    (item,) = pattern_datalist(chase, "{case}.jpg", "{case}_1stHO.png")
    assert "rater_names" not in item  # one rater, of whom no name tells who it is
    touch_files(chase, "ann/1/Image_01L.png", "crowd/1/Image_01L.png", "crowd/2/Image_01L.png")
    (item,) = pattern_datalist(chase, "{case}.jpg", ["ann/{rater}/{case}.png", "crowd/{rater}/{case}.png"])
    assert item["rater_names"] == ["ann rater 1", "crowd rater 1", "rater 2"]
