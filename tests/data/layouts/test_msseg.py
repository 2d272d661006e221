"""MSSEG-2016 in the files of both releases."""

import os
from pathlib import Path
from typing import Any

import pytest

from monai_jdt.data import (
    DataProblemError,
    check_items,
    msseg_datalist,
)
from tests.data.layouts.small_volumes import SHAPE, box, save_image, save_small

NAMES = {"FLAIR": "FLAIR", "T1": "T1", "GADO": "GADO", "DP": "DP", "T2": "T2"}


def _msseg_new(root: Path, center: str, patient: str, raters: int = 7) -> None:
    place = root / "Training" / center / patient
    for name in NAMES:
        save_image(place / f"Raw_Data/{name}.nii.gz")
        save_image(place / f"Preprocessed_Data/{name}_preprocessed.nii.gz")
    for r in range(1, raters + 1):
        save_small(place / f"Masks/ManualSegmentation_{r}.nii.gz", box((0, 0, 0), (r, 3, 3)))
    save_small(place / "Masks/Consensus.nii.gz", box((0, 0, 0), (4, 3, 3)))
    save_small(place / "Masks/Brain_Mask.nii.gz", box((0, 0, 0), SHAPE))


def test_msseg_newer_release(tmp_path: Path) -> None:
    _msseg_new(tmp_path, "Center_01", "Patient_01")
    _msseg_new(tmp_path, "Center_03", "Patient_01")
    _msseg_new(tmp_path, "Center_03", "Patient_02", raters=0)
    items = msseg_datalist(tmp_path)
    assert [item["case"] for item in items] == ["Center_01_Patient_01", "Center_03_Patient_01"]
    place = f"{tmp_path}/Training/Center_01/Patient_01"
    assert items[0]["image"] == [f"{place}/Preprocessed_Data/{name}_preprocessed.nii.gz" for name in NAMES]
    assert items[0]["raters"] == [f"{place}/Masks/ManualSegmentation_{r}.nii.gz" for r in range(1, 8)]
    assert items[0]["consensus"] == f"{place}/Masks/Consensus.nii.gz"
    assert [str(skipped) for skipped in items.found.skipped] == ["Center_03_Patient_02: no ManualSegmentation"]
    check_items(items, channels=5, label_values=(0, 1), raters=7, progress=False)
    raw = msseg_datalist(tmp_path, images="raw", modalities=["FLAIR"])
    assert raw[0]["image"] == [f"{place}/Raw_Data/FLAIR.nii.gz"]


def test_msseg_older_release(tmp_path: Path) -> None:
    for name in ("FLAIR", "T1", "GADO", "DP", "T2"):
        save_image(tmp_path / f"Pre-processed/01016SACH/{name}_preprocessed.nii.gz")
    for name in ("3DFLAIR", "3DT1", "3DT1GADO", "DP", "T2"):
        save_image(tmp_path / f"Unprocessed/01016SACH/{name}.nii.gz")
    for r in range(1, 8):
        save_small(tmp_path / f"Unprocessed/01016SACH/ManualSegmentation_{r}.nii.gz", box((0, 0, 0), (r, 3, 3)))
    (item,) = msseg_datalist(tmp_path)
    assert item["case"] == "01016SACH"
    assert len(item["raters"]) == 7
    assert item["image"][2] == f"{tmp_path}/Pre-processed/01016SACH/GADO_preprocessed.nii.gz"
    (raw,) = msseg_datalist(tmp_path, images="raw")
    assert [os.path.basename(path) for path in raw["image"]] == [
        f"{name}.nii.gz" for name in ("3DFLAIR", "3DT1", "3DT1GADO", "DP", "T2")
    ]
    os.remove(tmp_path / "Pre-processed/01016SACH/DP_preprocessed.nii.gz")
    with pytest.raises(DataProblemError, match="with preprocessed images, got 16 other files"):
        msseg_datalist(tmp_path)
    save_small(tmp_path / "copy/01016SACH/ManualSegmentation_1.nii.gz", box((0, 0, 0), (1, 3, 3)))
    with pytest.raises(DataProblemError, match=r"01016SACH: expected one file expert 1, got .* and .*. Fix: name the folder"):
        msseg_datalist(tmp_path, modalities=["FLAIR"])
    with pytest.raises(ValueError, match=r"modalities: expected names among FLAIR, T1, GADO, DP, T2, got \['PD'\]"):
        msseg_datalist(tmp_path, modalities=["PD"])
    unknown: Any = "all"
    with pytest.raises(ValueError, match="images: expected preprocessed or raw, got 'all'"):
        msseg_datalist(tmp_path, images=unknown)
