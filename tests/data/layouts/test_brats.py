"""BraTS of every year and the MSD's Task01: names, modalities, raters, and what is wrong."""

import os
from pathlib import Path

import pytest

from monai_jdt.data import (
    DataProblemError,
    brats_datalist,
    brats_layout,
)
from tests.data.empty_files import touch_files


def _case(
    root: Path, case: str, mark: str = "_", endings: tuple[str, ...] = ("flair", "t1", "t1ce", "t2", "seg"), suffix: str = ".nii.gz"
) -> None:
    touch_files(root, *(f"{case}/{os.path.basename(case)}{mark}{ending}{suffix}" for ending in endings))


NEW = ("t1c", "t1n", "t2f", "t2w", "seg")


def test_2021_lists_modalities_in_order_and_the_fused_label(tmp_path: Path) -> None:
    _case(tmp_path, "BraTS2021_00010")
    _case(tmp_path, "BraTS2021_00002")
    items = brats_datalist(tmp_path)
    assert [item["case"] for item in items] == ["BraTS2021_00002", "BraTS2021_00010"]
    stem = f"{tmp_path}/BraTS2021_00002/BraTS2021_00002_"
    assert items[0]["image"] == [stem + e + ".nii.gz" for e in ("t1ce", "t1", "t2", "flair")]
    assert items[0]["raters"] == [stem + "seg.nii.gz"]
    assert "probability" not in items[0]
    assert brats_layout(tmp_path) == "brats2021"


def test_2018_is_found_below_grades_and_any_root(tmp_path: Path) -> None:
    _case(tmp_path, "data/MICCAI/HGG/Brats18_A_1", suffix=".nii")
    _case(tmp_path, "data/MICCAI/LGG/Brats18_B_1", suffix=".nii")
    assert brats_layout(tmp_path) == "brats2018"
    cases = [item["case"] for item in brats_datalist(tmp_path)]
    assert cases == ["Brats18_A_1", "Brats18_B_1"]
    one = brats_datalist(tmp_path / "data/MICCAI/HGG/Brats18_A_1", layout="brats2018")
    assert [item["case"] for item in one] == ["Brats18_A_1"]


def test_2023_reads_rater_files_in_natural_order(tmp_path: Path) -> None:
    case = "BraTS-GLI-00001-000"
    _case(tmp_path, case, "-", (*NEW, "seg_rater10", "seg_rater2", "seg_rater1", "probability"))
    item = brats_datalist(tmp_path)[0]
    stem = f"{tmp_path}/{case}/{case}-"
    assert brats_layout(tmp_path) == "brats2023"
    assert item["image"] == [stem + e + ".nii.gz" for e in ("t1c", "t1n", "t2w", "t2f")]
    assert item["raters"] == [f"{stem}seg_rater{n}.nii.gz" for n in (1, 2, 10)]
    assert item["probability"] == stem + "probability.nii.gz"


def test_upper_case_and_hidden_files(tmp_path: Path) -> None:
    _case(tmp_path, "CASE1", endings=("FLAIR", "T1", "T1CE", "T2", "SEG"), suffix=".NII.GZ")
    touch_files(tmp_path, "CASE1/._CASE1_t1.nii.gz", ".draft/CASE2/CASE2_t1.nii.gz")
    items = brats_datalist(tmp_path)
    assert [item["case"] for item in items] == ["CASE1"]
    assert items[0]["image"][0].endswith("CASE1_T1CE.NII.GZ")


def test_paths_are_the_root_as_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _case(tmp_path, "set/BraTS2021_00001")
    monkeypatch.chdir(tmp_path)
    assert brats_datalist("set")[0]["raters"] == ["set/BraTS2021_00001/BraTS2021_00001_seg.nii.gz"]


def test_msd_pairs_images_with_labels(tmp_path: Path) -> None:
    root = tmp_path / "Task01_BrainTumour"
    touch_files(root, "imagesTr/BRATS_001.nii.gz", "imagesTr/BRATS_0010.nii.gz", "imagesTr/._BRATS_001.nii.gz")
    touch_files(root, "imagesTs/BRATS_485.nii.gz", "labelsTr/BRATS_001.nii.gz", "labelsTr/BRATS_0010.nii.gz")
    touch_files(root, "labelsTr/BRATS_001_seg_rater2.nii.gz", "labelsTr/BRATS_001_seg_rater1.nii.gz")
    assert brats_layout(tmp_path) == "msd"
    first, second = brats_datalist(tmp_path)
    assert first == {
        "case": "BRATS_001",
        "task": "msd",
        "image": f"{root}/imagesTr/BRATS_001.nii.gz",
        "raters": [f"{root}/labelsTr/BRATS_001_seg_rater{n}.nii.gz" for n in (1, 2)],
        "channels": [2, 1, 3, 0],
    }
    assert second["raters"] == [f"{root}/labelsTr/BRATS_0010.nii.gz"]
    order = ["FLAIR", "T1w", "t1gd", "T2w"]
    assert [order[i] for i in first["channels"]] == ["t1gd", "T1w", "T2w", "FLAIR"]


def test_problems_name_folder_and_fix(tmp_path: Path) -> None:
    with pytest.raises(DataProblemError, match=r"/none: expected a folder with .*, got nothing at that path. Fix: "):
        brats_datalist(tmp_path / "none")
    with pytest.raises(DataProblemError, match=r"got no NIfTI file. Fix: "):
        brats_datalist(tmp_path)
    touch_files(tmp_path, "a/scan.nii.gz")
    with pytest.raises(DataProblemError, match=r"got 1 other files, e.g. .*a/scan.nii.gz"):
        brats_datalist(tmp_path)
    with pytest.raises(ValueError, match="layout: expected auto or one of"):
        brats_datalist(tmp_path, layout="brats")


def test_a_case_without_modality_or_rater_is_named_with_all_others(tmp_path: Path) -> None:
    _case(tmp_path, "BraTS2021_00001")
    _case(tmp_path, "BraTS2021_00002", endings=("flair", "t1", "t1ce", "t2"))
    _case(tmp_path, "BraTS2021_00003", endings=("flair", "t1", "t1ce", "seg"))
    with pytest.raises(DataProblemError) as caught:
        brats_datalist(tmp_path)
    rater, modality = caught.value.problems
    assert rater.where.endswith("BraTS2021_00002")
    assert rater.got == "none"
    assert "BraTS2021_00003_t2.nii.gz" in modality.expected
    assert modality.got == "only t1ce, t1, flair"


def test_msd_case_without_label_is_named(tmp_path: Path) -> None:
    touch_files(tmp_path, "imagesTr/BRATS_001.nii.gz")
    with pytest.raises(DataProblemError, match=r"imagesTr/BRATS_001.nii.gz: expected raters: labelsTr/BRATS_001"):
        brats_datalist(tmp_path)


def test_two_layouts_two_files_and_two_copies(tmp_path: Path) -> None:
    _case(tmp_path / "a", "BraTS2021_00001")
    _case(tmp_path / "b", "BraTS-GLI-00001-000", "-", NEW)
    with pytest.raises(DataProblemError, match="expected one layout, got brats2021 and brats2023"):
        brats_datalist(tmp_path)
    assert [item["case"] for item in brats_datalist(tmp_path, "brats2023")] == ["BraTS-GLI-00001-000"]
    touch_files(tmp_path, "a/BraTS2021_00001/BraTS2021_00001_t1.nii")
    with pytest.raises(DataProblemError, match="expected one t1 file"):
        brats_datalist(tmp_path / "a")
    _case(tmp_path / "b/copy", "BraTS-GLI-00001-000", "-", NEW)
    with pytest.raises(DataProblemError, match="expected each case once"):
        brats_datalist(tmp_path / "b")


def test_a_link_to_the_parent_does_not_loop(tmp_path: Path) -> None:
    _case(tmp_path, "BraTS2021_00001")
    (tmp_path / "BraTS2021_00001" / "up").symlink_to(tmp_path)
    assert len(brats_datalist(tmp_path)) == 1
