"""KiTS21: instances become raters, raters become label maps."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from monai_jdt.data import (
    DataProblemError,
    check_items,
    find_problems,
    kits21_datalist,
    merge_kits21,
    read_datalist,
    write_datalist,
)
from monai_jdt.transforms import LoadRaters
from tests.data.layouts.small_volumes import box, save_image, save_small


def _kits(root: Path, case: str = "case_00000", annotations: tuple[int, ...] = (1, 2, 3)) -> None:
    save_image(root / case / "imaging.nii.gz")
    save_small(root / case / "aggregated_MAJ_seg.nii.gz", box((0, 0, 0), (3, 3, 3)))
    for a in annotations:
        place = root / case / "segmentations"
        save_small(place / f"kidney_instance-1_annotation-{a}.nii.gz", box((0, 0, 0), (3 + a, 3, 3)))
        save_small(place / f"kidney_instance-2_annotation-{a}.nii.gz", box((0, 5, 0), (3, 9, 3)))
        save_small(place / f"tumor_instance-1_annotation-{a}.nii.gz", box((0, 0, 0), (1, 3, 2)))
        save_small(place / f"cyst_instance-1_annotation-{a}.nii.gz", box((0, 0, 0), (2, 2, a)))


def test_kits21(tmp_path: Path) -> None:
    _kits(tmp_path / "data")
    _kits(tmp_path / "data", "case_00001")
    os.remove(tmp_path / "data/case_00001/segmentations/cyst_instance-1_annotation-3.nii.gz")
    save_image(tmp_path / "data/case_00002/imaging.nii.gz")
    items = kits21_datalist(tmp_path)
    place = f"{tmp_path}/data/case_00000/segmentations"
    assert items[0] == {
        "case": "case_00000",
        "task": "kits21",
        "image": f"{tmp_path}/data/case_00000/imaging.nii.gz",
        "raters": [
            [
                [f"{place}/kidney_instance-{i}_annotation-{a}.nii.gz" for i in (1, 2)],
                [f"{place}/tumor_instance-1_annotation-{a}.nii.gz"],
                [f"{place}/cyst_instance-1_annotation-{a}.nii.gz"],
            ]
            for a in (1, 2, 3)
        ],
        "consensus": f"{tmp_path}/data/case_00000/aggregated_MAJ_seg.nii.gz",
    }
    assert items.found.raters == ((2, 1), (3, 1))
    assert [skipped.why for skipped in items.found.skipped] == [
        "annotation 3 lacks cyst 1",
        "an image without a whole annotation in segmentations/",
    ]
    assert read_datalist(write_datalist(items, tmp_path / "lists" / "kits.json")) == items
    assert list(find_problems(items, channels=1, label_values=(0, 1, 2, 3), progress=False)) == []
    merged = merge_kits21(items, tmp_path / "merged", progress=False)
    votes = LoadRaters(label_values=(0, 1, 2, 3))(merged[0]["raters"])
    # by hand: kidney, then cyst over it, then tumor over both
    want = np.maximum(box((0, 0, 0), (5, 3, 3)), box((0, 5, 0), (3, 9, 3)))
    want[:2, :2, :2], want[:1, :3, :2] = 3, 2
    assert torch.equal(votes.as_tensor()[1], torch.from_numpy(want))
    assert merged[0]["raters"] == [f"{tmp_path}/merged/case_00000/annotation-{a}.nii.gz" for a in (1, 2, 3)]
    assert [len(item["raters"]) for item in merged] == [3, 2]
    check_items(merged, channels=1, label_values=(0, 1, 2, 3), progress=False)
    before = os.stat(merged[0]["raters"][0]).st_mtime_ns
    assert merge_kits21(items, tmp_path / "merged", progress=False) == merged
    assert os.stat(merged[0]["raters"][0]).st_mtime_ns == before


@pytest.mark.parametrize("case", ["../../out", "/{root}/out", "..", "a/../../../out"])
def test_kits21_is_merged_inside_its_folder_whatever_a_case_is_called(tmp_path: Path, case: str) -> None:
    _kits(tmp_path / "data", annotations=(1,))
    items = [{**item, "case": case.replace("{root}", str(tmp_path))} for item in kits21_datalist(tmp_path / "data")]
    ((path,),) = (item["raters"] for item in merge_kits21(items, tmp_path / "in" / "merged", progress=False))
    assert os.path.isfile(path)
    assert os.path.realpath(path).startswith(f"{tmp_path}/in/merged/")
    assert sorted(os.listdir(tmp_path)) == ["data", "in"]
    assert os.listdir(tmp_path / "in") == ["merged"]


def test_kits21_problems(tmp_path: Path) -> None:
    with pytest.raises(DataProblemError, match="expected a folder with KiTS21 cases"):
        kits21_datalist(tmp_path / "none")
    with pytest.raises(DataProblemError, match=r"expected KiTS21 cases .*, got no NIfTI file"):
        kits21_datalist(tmp_path)
    _kits(tmp_path / "a", annotations=(1,))
    items = kits21_datalist(tmp_path)
    path = tmp_path / "a/case_00000/segmentations/tumor_instance-1_annotation-1.nii.gz"
    save_small(path, np.zeros((2, 2, 2), np.uint8))
    with pytest.raises(DataProblemError, match=r"tumor_instance-1.*: expected shape \(8, 9, 7\), as .*, got \(2, 2, 2\)"):
        merge_kits21(items, tmp_path / "m", progress=False)
    assert not list((tmp_path / "m").rglob("*.nii.gz"))
    _kits(tmp_path / "b", annotations=(1,))
    with pytest.raises(DataProblemError, match="case_00000: expected each case once"):
        kits21_datalist(tmp_path)


def test_maps_that_are_merged_stay_as_they_are(tmp_path: Path) -> None:
    _kits(tmp_path)
    merged = merge_kits21(kits21_datalist(tmp_path), tmp_path / "m", progress=False)
    assert merge_kits21(merged, tmp_path / "n", progress=False) == merged
    assert not (tmp_path / "n").exists()


def test_kits21_with_two_files_for_one_thing(tmp_path: Path) -> None:
    _kits(tmp_path, annotations=(1,))
    where = tmp_path / "case_00000"
    save_image(where / "imaging.nii")
    save_small(where / "aggregated_MAJ_seg.nii", box((0, 0, 0), (3, 3, 3)))
    save_small(where / "segmentations/cyst_instance-1_annotation-1.nii", box((0, 0, 0), (1, 1, 1)))
    with pytest.raises(DataProblemError) as caught:
        kits21_datalist(tmp_path)
    assert [str(line).removeprefix(f"{where}: ") for line in caught.value.problems] == [
        "expected one aggregated_maj_seg, got aggregated_MAJ_seg.nii and aggregated_MAJ_seg.nii.gz. Fix: remove one of them.",
        "expected one imaging, got imaging.nii and imaging.nii.gz. Fix: remove one of them.",
        "expected one file of cyst instance 1, annotation 1, got cyst_instance-1_annotation-1.nii and "
        "cyst_instance-1_annotation-1.nii.gz. Fix: remove one of them.",
    ]
