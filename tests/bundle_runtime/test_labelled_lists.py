"""Which cases are trained on with their labels, and which without."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from monai_jdt.bundle_runtime import labelled_cases
from monai_jdt.data import DataProblemError
from tests.nifti_files import save_nifti


def cases(*names: str) -> list[dict[str, Any]]:
    return [{"case": name, "image": f"{name}.nii.gz", "raters": ["r.nii.gz"]} for name in names]


def with_section(folder: Path, *names: str) -> str:
    for name in names:
        save_nifti(folder / f"{name}.nii.gz", torch.rand(4, 4, 4).numpy())
    content = {"training": cases("a", "b"), "unlabelled": [{"case": name, "image": f"{name}.nii.gz"} for name in names]}
    path = folder / "list.json"
    path.write_text(json.dumps(content))
    return str(path)


def test_a_share_of_the_patients_keeps_its_labels() -> None:
    training = cases(*(f"case{patient}-{scan}" for patient in range(10) for scan in range(2)))
    labelled, unlabelled = labelled_cases((training, []), fraction=0.2, seed=1)
    assert len(labelled) == 4
    assert len(unlabelled) == 16
    patients = [{item["case"].partition("-")[0] for item in side} for side in (labelled, unlabelled)]
    assert not patients[0] & patients[1]
    assert labelled_cases((training, []), fraction=0.2, seed=1)[0] == labelled
    assert labelled_cases((training, []), fraction=0.2, seed=2)[0] != labelled


def test_half_without_a_section_and_all_with_one(tmp_path: Path) -> None:
    training = cases("a", "b", "c", "d")
    assert [len(side) for side in labelled_cases((training, []))] == [2, 2]
    path = with_section(tmp_path, "x", "y", "z")
    labelled, unlabelled = labelled_cases((training, []), path)
    assert labelled == training
    assert [item["case"] for item in unlabelled] == ["x", "y", "z"]
    labelled, unlabelled = labelled_cases((training, []), path, fraction=0.5)
    assert len(labelled) == 2
    assert [item["case"] for item in unlabelled][2:] == ["x", "y", "z"]


def test_a_training_without_unlabelled_cases_is_refused() -> None:
    with pytest.raises(ValueError, match="labelled_fraction: expected a number below 1, or a data list with a section 'unlabelled'"):
        labelled_cases((cases("a", "b"), []), fraction=1)


def test_images_of_the_section_are_checked(tmp_path: Path) -> None:
    path = with_section(tmp_path, "x")
    with pytest.raises(DataProblemError, match="channels"):
        labelled_cases((cases("a", "b"), []), path, channels=3)
    (tmp_path / "x.nii.gz").write_bytes(b"no image")
    with pytest.raises(DataProblemError, match=r"x\.nii\.gz"):
        labelled_cases((cases("a", "b"), []), path)


def test_a_patient_of_the_validation_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        labelled_cases((cases("case1-1", "case2-1", "case3-1"), cases("case4-1")))
        assert not caplog.records
        labelled_cases((cases("case1-1", "case2-1"), cases("case1-2", "case2-2")))
    assert "patients of the validation are trained on without a label: case" in caplog.text
