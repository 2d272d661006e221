"""KiTS21, CURVAS, MSSEG-2016, LIDC-like, LNDb and BIDS-like sets: written to disk, listed, checked, loaded."""

import os

import nibabel
import numpy as np
import pytest
import torch

from monai_jdt.data import (
    DataProblemError,
    check_items,
    curvas_datalist,
    find_problems,
    kits21_datalist,
    merge_kits21,
    msseg_datalist,
    pattern_datalist,
    read_datalist,
    write_datalist,
)
from monai_jdt.transforms import LoadRaters

SHAPE = (8, 9, 7)


def _save(path, voxels, affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([2.0, 2, 3, 1]) if affine is None else affine), path)


def _image(path, seed=0):
    _save(path, np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32))


def _box(low, high):
    mask = np.zeros(SHAPE, np.uint8)
    mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = 1
    return mask


def _kits(root, case="case_00000", annotations=(1, 2, 3)):
    _image(root / case / "imaging.nii.gz")
    _save(root / case / "aggregated_MAJ_seg.nii.gz", _box((0, 0, 0), (3, 3, 3)))
    for a in annotations:
        place = root / case / "segmentations"
        _save(place / f"kidney_instance-1_annotation-{a}.nii.gz", _box((0, 0, 0), (3 + a, 3, 3)))
        _save(place / f"kidney_instance-2_annotation-{a}.nii.gz", _box((0, 5, 0), (3, 9, 3)))
        _save(place / f"tumor_instance-1_annotation-{a}.nii.gz", _box((0, 0, 0), (1, 3, 2)))
        _save(place / f"cyst_instance-1_annotation-{a}.nii.gz", _box((0, 0, 0), (2, 2, a)))


def test_kits21(tmp_path):
    _kits(tmp_path / "data")
    _kits(tmp_path / "data", "case_00001")
    os.remove(tmp_path / "data/case_00001/segmentations/cyst_instance-1_annotation-3.nii.gz")
    _image(tmp_path / "data/case_00002/imaging.nii.gz")
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
    want = np.maximum(_box((0, 0, 0), (5, 3, 3)), _box((0, 5, 0), (3, 9, 3)))
    want[:2, :2, :2], want[:1, :3, :2] = 3, 2
    assert torch.equal(votes.as_tensor()[1], torch.from_numpy(want))
    assert merged[0]["raters"] == [f"{tmp_path}/merged/case_00000/annotation-{a}.nii.gz" for a in (1, 2, 3)]
    assert [len(item["raters"]) for item in merged] == [3, 2]
    check_items(merged, channels=1, label_values=(0, 1, 2, 3), progress=False)
    before = os.stat(merged[0]["raters"][0]).st_mtime_ns
    assert merge_kits21(items, tmp_path / "merged", progress=False) == merged
    assert os.stat(merged[0]["raters"][0]).st_mtime_ns == before


@pytest.mark.parametrize("case", ["../../out", "/{root}/out", "..", "a/../../../out"])
def test_kits21_is_merged_inside_its_folder_whatever_a_case_is_called(tmp_path, case):
    _kits(tmp_path / "data", annotations=(1,))
    items = [{**item, "case": case.replace("{root}", str(tmp_path))} for item in kits21_datalist(tmp_path / "data")]
    ((path,),) = (item["raters"] for item in merge_kits21(items, tmp_path / "in" / "merged", progress=False))
    assert os.path.isfile(path)
    assert os.path.realpath(path).startswith(f"{tmp_path}/in/merged/")
    assert sorted(os.listdir(tmp_path)) == ["data", "in"]
    assert os.listdir(tmp_path / "in") == ["merged"]


def test_kits21_problems(tmp_path):
    with pytest.raises(DataProblemError, match="expected a folder with KiTS21 cases"):
        kits21_datalist(tmp_path / "none")
    with pytest.raises(DataProblemError, match=r"expected KiTS21 cases .*, got no NIfTI file"):
        kits21_datalist(tmp_path)
    _kits(tmp_path / "a", annotations=(1,))
    items = kits21_datalist(tmp_path)
    path = tmp_path / "a/case_00000/segmentations/tumor_instance-1_annotation-1.nii.gz"
    _save(path, np.zeros((2, 2, 2), np.uint8))
    with pytest.raises(DataProblemError, match=r"tumor_instance-1.*: expected shape \(8, 9, 7\), as .*, got \(2, 2, 2\)"):
        merge_kits21(items, tmp_path / "m", progress=False)
    assert not list((tmp_path / "m").rglob("*.nii.gz"))
    _kits(tmp_path / "b", annotations=(1,))
    with pytest.raises(DataProblemError, match="case_00000: expected each case once"):
        kits21_datalist(tmp_path)


@pytest.mark.parametrize("raters", [3, 5])
def test_curvas(tmp_path, raters):
    for n in (1, 2):
        _image(tmp_path / f"training_set/UKCHLL00{n}/image.nii.gz", n)
        for r in range(1, raters + 1):
            _save(tmp_path / f"training_set/UKCHLL00{n}/annotation_{r}.nii.gz", _box((0, 0, 0), (r, 3, n)) * 3)
    _image(tmp_path / "training_set/UKCHLL003/IMAGE.NII.GZ")
    _save(tmp_path / "training_set/UKCHLL004/annotation_1.nii.gz", _box((0, 0, 0), (1, 1, 1)))
    items = curvas_datalist(tmp_path)
    assert items[1]["case"] == "UKCHLL002"
    assert items[1]["raters"] == [f"{tmp_path}/training_set/UKCHLL002/annotation_{r}.nii.gz" for r in range(1, raters + 1)]
    assert [skipped.why for skipped in items.found.skipped] == ["an image without annotations", "annotations without an image.nii.gz"]
    settings = {"channels": 1, "label_values": (0, 1, 2, 3), "raters": raters, "progress": False}
    assert list(find_problems(items, **settings)) == []
    # one annotation with another header, one of scaled floats: whole values come out of float files as they are
    wrong, floats = items[0]["raters"][:2]
    _save(tmp_path / os.path.relpath(floats, tmp_path), (_box((0, 0, 0), (2, 3, 1)) * 2.0).astype(np.float64))
    assert list(find_problems(items, **settings)) == []
    assert LoadRaters(label_values=(0, 1, 2, 3))(items[0]["raters"]).shape == (raters, *SHAPE)
    _save(tmp_path / os.path.relpath(wrong, tmp_path), _box((0, 0, 0), (1, 3, 1)) * 3, np.eye(4))
    (problem,) = find_problems(items, **settings)
    assert (problem.where, problem.got) == (wrong, "1 x 1 x 1 mm")
    with pytest.raises(DataProblemError, match="expected CURVAS cases"):
        curvas_datalist(tmp_path / "training_set/UKCHLL003")


NAMES = {"FLAIR": "FLAIR", "T1": "T1", "GADO": "GADO", "DP": "DP", "T2": "T2"}


def _msseg_new(root, center, patient, raters=7):
    place = root / "Training" / center / patient
    for name in NAMES:
        _image(place / f"Raw_Data/{name}.nii.gz")
        _image(place / f"Preprocessed_Data/{name}_preprocessed.nii.gz")
    for r in range(1, raters + 1):
        _save(place / f"Masks/ManualSegmentation_{r}.nii.gz", _box((0, 0, 0), (r, 3, 3)))
    _save(place / "Masks/Consensus.nii.gz", _box((0, 0, 0), (4, 3, 3)))
    _save(place / "Masks/Brain_Mask.nii.gz", _box((0, 0, 0), SHAPE))


def test_msseg_newer_release(tmp_path):
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


def test_two_files_for_one_thing_are_told(tmp_path):
    """Which of image.nii and image.nii.gz was meant is not for a lister to choose."""
    _image(tmp_path / "c/UKCHLL001/image.nii.gz")
    _save(tmp_path / "c/UKCHLL001/annotation_1.nii.gz", _box((0, 0, 0), (1, 3, 1)))
    _save(tmp_path / "c/UKCHLL001/annotation_01.nii", _box((0, 0, 0), (2, 3, 1)))
    _image(tmp_path / "c/UKCHLL001/image.nii")
    with pytest.raises(DataProblemError) as caught:
        curvas_datalist(tmp_path / "c")
    where = f"{tmp_path}/c/UKCHLL001"
    assert str(caught.value).splitlines() == [
        f"{where}: expected one file of annotation 1, got annotation_01.nii and annotation_1.nii.gz. Fix: remove one of them.",
        f"{where}: expected one image, got image.nii and image.nii.gz. Fix: remove one of them.",
    ]
    _kits(tmp_path / "k", annotations=(1,))
    where = tmp_path / "k/case_00000"
    _image(where / "imaging.nii")
    _save(where / "aggregated_MAJ_seg.nii", _box((0, 0, 0), (3, 3, 3)))
    _save(where / "segmentations/cyst_instance-1_annotation-1.nii", _box((0, 0, 0), (1, 1, 1)))
    with pytest.raises(DataProblemError) as caught:
        kits21_datalist(tmp_path / "k")
    assert [str(line).removeprefix(f"{where}: ") for line in caught.value.problems] == [
        "expected one aggregated_maj_seg, got aggregated_MAJ_seg.nii and aggregated_MAJ_seg.nii.gz. Fix: remove one of them.",
        "expected one imaging, got imaging.nii and imaging.nii.gz. Fix: remove one of them.",
        "expected one file of cyst instance 1, annotation 1, got cyst_instance-1_annotation-1.nii and "
        "cyst_instance-1_annotation-1.nii.gz. Fix: remove one of them.",
    ]


def test_maps_that_are_merged_stay_as_they_are(tmp_path):
    _kits(tmp_path)
    merged = merge_kits21(kits21_datalist(tmp_path), tmp_path / "m", progress=False)
    assert merge_kits21(merged, tmp_path / "n", progress=False) == merged
    assert not (tmp_path / "n").exists()


def test_msseg_older_release(tmp_path):
    for name in ("FLAIR", "T1", "GADO", "DP", "T2"):
        _image(tmp_path / f"Pre-processed/01016SACH/{name}_preprocessed.nii.gz")
    for name in ("3DFLAIR", "3DT1", "3DT1GADO", "DP", "T2"):
        _image(tmp_path / f"Unprocessed/01016SACH/{name}.nii.gz")
    for r in range(1, 8):
        _save(tmp_path / f"Unprocessed/01016SACH/ManualSegmentation_{r}.nii.gz", _box((0, 0, 0), (r, 3, 3)))
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
    _save(tmp_path / "copy/01016SACH/ManualSegmentation_1.nii.gz", _box((0, 0, 0), (1, 3, 3)))
    with pytest.raises(DataProblemError, match=r"01016SACH: expected one file expert 1, got .* and .*. Fix: name the folder"):
        msseg_datalist(tmp_path, modalities=["FLAIR"])
    with pytest.raises(ValueError, match=r"modalities: expected names among FLAIR, T1, GADO, DP, T2, got \['PD'\]"):
        msseg_datalist(tmp_path, modalities=["PD"])
    with pytest.raises(ValueError, match="images: expected preprocessed or raw, got 'all'"):
        msseg_datalist(tmp_path, images="all")


def test_lndb_and_lidc_by_patterns(tmp_path):
    import SimpleITK

    rng = np.random.default_rng(0)
    for case, raters in (("0001", 3), ("0002", 1)):
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(rng.random(SHAPE, dtype=np.float32)), str(tmp_path / f"LNDb-{case}.mhd"))
        for r in range(1, raters + 1):
            mark = SimpleITK.GetImageFromArray((rng.random(SHAPE) > 0.5).astype(np.uint8))
            SimpleITK.WriteImage(mark, str(tmp_path / f"LNDb-{case}_rad{r}.mhd"))
    items = pattern_datalist(tmp_path, "**/LNDb-{case}.mhd", "**/LNDb-{case}_rad{rater}.mhd", task="nodule")
    assert [(item["case"], item["task"], len(item["raters"])) for item in items] == [("0001", "nodule", 3), ("0002", "nodule", 1)]
    assert items.found.raters == ((1, 1), (3, 1))
    assert list(find_problems(items, channels=1, label_values=(0, 1), progress=False)) == []
    assert LoadRaters(reader="ITKReader")(items[0]["raters"]).shape[0] == 3
    lidc = tmp_path / "lidc"
    for nodule, raters in (("p1_n1", 4), ("p1_n2", 2)):
        _image(lidc / f"{nodule}/ct.nii.gz")
        for r in range(raters):
            _save(lidc / f"{nodule}/mask_{r}.nii.gz", _box((0, 0, 0), (r + 1, 3, 3)))
    items = pattern_datalist(lidc, "{case}/ct.nii.gz", "{case}/mask_{rater}.nii.gz")
    assert items == pattern_datalist(lidc, "{case}/ct.nii.gz", "{case}/{rater}.nii.gz")
    assert [len(item["raters"]) for item in items] == [4, 2]
    check_items(items, channels=1, label_values=(0, 1), progress=False)


def test_bids_derivatives_by_patterns(tmp_path):
    for case in ("01", "02"):
        _image(tmp_path / f"sub-{case}/anat/sub-{case}_T1w.nii.gz")
        for n, rater in enumerate(("alice", "bob"), start=1):
            place = tmp_path / f"derivatives/{rater}/sub-{case}/anat"
            _save(place / f"sub-{case}_label-lesion_mask.nii.gz", _box((0, 0, 0), (n, 3, 3)))
    items = pattern_datalist(
        tmp_path, "sub-{case}/anat/sub-{case}_T1w.nii.gz", "derivatives/{rater}/sub-{case}/anat/sub-{case}_label-lesion_mask.nii.gz"
    )
    assert [item["case"] for item in items] == ["01", "02"]
    assert ["alice" in path for path in items[0]["raters"]] == [True, False]
    check_items(items, channels=1, label_values=(0, 1), progress=False)
