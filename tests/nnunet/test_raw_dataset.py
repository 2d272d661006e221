"""The folder of the raters beside nnU-Net's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from monai_jdt.nnunet.raw_dataset import check_dataset_name, nnunet_folder, rater_files_of


def test_a_file_belongs_to_the_case_of_its_name(tmp_path: Path) -> None:
    for name in ("a_rater1.nii.gz", "a_rater3.nii.gz", "a_rater1_rater2.nii.gz"):
        (tmp_path / name).touch()
    found = rater_files_of(str(tmp_path), ["a", "a_rater1", "b"], ".nii.gz")
    names = {case: {number: Path(path).name for number, path in paths.items()} for case, paths in found.items()}
    assert names == {"a": {1: "a_rater1.nii.gz", 3: "a_rater3.nii.gz"}, "a_rater1": {2: "a_rater1_rater2.nii.gz"}, "b": {}}


@pytest.mark.parametrize("name", ["b_rater1.nii.gz", "a_rater0.nii.gz", "a_rater1.nii", "notes.txt"])
def test_a_file_of_no_case_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(ValueError, match=f"{name}: expected a file CASE_raterN.nii.gz of a case"):
        rater_files_of(str(tmp_path), ["a"], ".nii.gz")


def test_no_raters_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected raters' maps, got none"):
        rater_files_of(str(tmp_path), ["a"], ".nii.gz")
    with pytest.raises(ValueError, match="expected a folder of the raters' maps, got nothing"):
        rater_files_of(str(tmp_path / "ratersTr"), ["a"], ".nii.gz")


@pytest.mark.parametrize("name", ["Dataset5_A", "dataset503_A", "Dataset503", "Dataset503_a/b", "Dataset503_ä"])
def test_a_name_that_nnunet_would_not_find_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="dataset: expected a name of nnU-Net's form"):
        check_dataset_name(name)


def test_a_folder_of_nnunet_must_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("nnUNet_raw", raising=False)
    with pytest.raises(ValueError, match="export nnUNet_raw="):
        nnunet_folder("nnUNet_raw")
