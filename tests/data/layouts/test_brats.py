import os

import pytest

from monai_jdt.data import DataProblemError, brats_datalist, brats_layout, pattern_datalist, split_cases
from monai_jdt.data.layouts.folders import natural_key


def _touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def _case(root, case, mark="_", endings=("flair", "t1", "t1ce", "t2", "seg"), suffix=".nii.gz"):
    _touch(root, *(f"{case}/{os.path.basename(case)}{mark}{ending}{suffix}" for ending in endings))


NEW = ("t1c", "t1n", "t2f", "t2w", "seg")


def test_2021_lists_modalities_in_order_and_the_fused_label(tmp_path):
    _case(tmp_path, "BraTS2021_00010")
    _case(tmp_path, "BraTS2021_00002")
    items = brats_datalist(tmp_path)
    assert [item["case"] for item in items] == ["BraTS2021_00002", "BraTS2021_00010"]
    stem = f"{tmp_path}/BraTS2021_00002/BraTS2021_00002_"
    assert items[0]["image"] == [stem + e + ".nii.gz" for e in ("t1ce", "t1", "t2", "flair")]
    assert items[0]["raters"] == [stem + "seg.nii.gz"]
    assert "probability" not in items[0]
    assert brats_layout(tmp_path) == "brats2021"


def test_2018_is_found_below_grades_and_any_root(tmp_path):
    _case(tmp_path, "data/MICCAI/HGG/Brats18_A_1", suffix=".nii")
    _case(tmp_path, "data/MICCAI/LGG/Brats18_B_1", suffix=".nii")
    assert brats_layout(tmp_path) == "brats2018"
    cases = [item["case"] for item in brats_datalist(tmp_path)]
    assert cases == ["Brats18_A_1", "Brats18_B_1"]
    one = brats_datalist(tmp_path / "data/MICCAI/HGG/Brats18_A_1", layout="brats2018")
    assert [item["case"] for item in one] == ["Brats18_A_1"]


def test_2023_reads_rater_files_in_natural_order(tmp_path):
    case = "BraTS-GLI-00001-000"
    _case(tmp_path, case, "-", (*NEW, "seg_rater10", "seg_rater2", "seg_rater1", "probability"))
    item = brats_datalist(tmp_path)[0]
    stem = f"{tmp_path}/{case}/{case}-"
    assert brats_layout(tmp_path) == "brats2023"
    assert item["image"] == [stem + e + ".nii.gz" for e in ("t1c", "t1n", "t2w", "t2f")]
    assert item["raters"] == [f"{stem}seg_rater{n}.nii.gz" for n in (1, 2, 10)]
    assert item["probability"] == stem + "probability.nii.gz"


def test_upper_case_and_hidden_files(tmp_path):
    _case(tmp_path, "CASE1", endings=("FLAIR", "T1", "T1CE", "T2", "SEG"), suffix=".NII.GZ")
    _touch(tmp_path, "CASE1/._CASE1_t1.nii.gz", ".draft/CASE2/CASE2_t1.nii.gz")
    items = brats_datalist(tmp_path)
    assert [item["case"] for item in items] == ["CASE1"]
    assert items[0]["image"][0].endswith("CASE1_T1CE.NII.GZ")


def test_paths_are_the_root_as_given(tmp_path, monkeypatch):
    _case(tmp_path, "set/BraTS2021_00001")
    monkeypatch.chdir(tmp_path)
    assert brats_datalist("set")[0]["raters"] == ["set/BraTS2021_00001/BraTS2021_00001_seg.nii.gz"]


def test_msd_pairs_images_with_labels(tmp_path):
    root = tmp_path / "Task01_BrainTumour"
    _touch(root, "imagesTr/BRATS_001.nii.gz", "imagesTr/BRATS_0010.nii.gz", "imagesTr/._BRATS_001.nii.gz")
    _touch(root, "imagesTs/BRATS_485.nii.gz", "labelsTr/BRATS_001.nii.gz", "labelsTr/BRATS_0010.nii.gz")
    _touch(root, "labelsTr/BRATS_001_seg_rater2.nii.gz", "labelsTr/BRATS_001_seg_rater1.nii.gz")
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


def test_problems_name_folder_and_fix(tmp_path):
    with pytest.raises(DataProblemError, match=r"/none: expected a folder with .*, got nothing at that path. Fix: "):
        brats_datalist(tmp_path / "none")
    with pytest.raises(DataProblemError, match=r"got no NIfTI file. Fix: "):
        brats_datalist(tmp_path)
    _touch(tmp_path, "a/scan.nii.gz")
    with pytest.raises(DataProblemError, match=r"got 1 other files, e.g. .*a/scan.nii.gz"):
        brats_datalist(tmp_path)
    with pytest.raises(ValueError, match="layout: expected auto or one of"):
        brats_datalist(tmp_path, layout="brats")


def test_a_case_without_modality_or_rater_is_named_with_all_others(tmp_path):
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


def test_msd_case_without_label_is_named(tmp_path):
    _touch(tmp_path, "imagesTr/BRATS_001.nii.gz")
    with pytest.raises(DataProblemError, match=r"imagesTr/BRATS_001.nii.gz: expected raters: labelsTr/BRATS_001"):
        brats_datalist(tmp_path)


def test_two_layouts_two_files_and_two_copies(tmp_path):
    _case(tmp_path / "a", "BraTS2021_00001")
    _case(tmp_path / "b", "BraTS-GLI-00001-000", "-", NEW)
    with pytest.raises(DataProblemError, match="expected one layout, got brats2021 and brats2023"):
        brats_datalist(tmp_path)
    assert [item["case"] for item in brats_datalist(tmp_path, "brats2023")] == ["BraTS-GLI-00001-000"]
    _touch(tmp_path, "a/BraTS2021_00001/BraTS2021_00001_t1.nii")
    with pytest.raises(DataProblemError, match="expected one t1 file"):
        brats_datalist(tmp_path / "a")
    _case(tmp_path / "b/copy", "BraTS-GLI-00001-000", "-", NEW)
    with pytest.raises(DataProblemError, match="expected each case once"):
        brats_datalist(tmp_path / "b")


def test_a_link_to_the_parent_does_not_loop(tmp_path):
    _case(tmp_path, "BraTS2021_00001")
    (tmp_path / "BraTS2021_00001" / "up").symlink_to(tmp_path)
    assert len(brats_datalist(tmp_path)) == 1


def test_pattern_with_raters(tmp_path):
    _touch(tmp_path, *(f"s{n}/{name}" for n in (1, 2) for name in ("T1w.nii.gz", "T2w.nii.gz", "seg_rater10.nii.gz")))
    _touch(tmp_path, "s1/seg_rater9.nii.gz", "s1/seg_raters.nii.gz.bak")
    items = pattern_datalist(tmp_path, ["{case}/T1w.nii.gz", "{case}/T2w.nii.gz"], "{case}/seg_rater{rater}.nii.gz")
    assert [item["case"] for item in items] == ["s1", "s2"]
    assert items[0]["image"] == [f"{tmp_path}/s1/T1w.nii.gz", f"{tmp_path}/s1/T2w.nii.gz"]
    assert items[0]["raters"] == [f"{tmp_path}/s1/seg_rater{n}.nii.gz" for n in (9, 10)]


def test_pattern_with_wildcards_and_a_repeated_case(tmp_path):
    _touch(tmp_path, "x/y/LNDb-0001.mhd", "x/LNDb-0002.mhd", "x/LNDb.mhd", "m/LNDb-0001_rad2.mhd", "m/LNDb-0002_rad1.mhd")
    items = pattern_datalist(str(tmp_path), "x/**/LNDb-{case}.mhd", "?/LNDb-{case}_rad{rater}.mhd")
    assert [(item["case"], item["image"]) for item in items] == [
        ("0001", f"{tmp_path}/x/y/LNDb-0001.mhd"),
        ("0002", f"{tmp_path}/x/LNDb-0002.mhd"),
    ]
    _touch(tmp_path, "k/a/a_img.nii", "k/a/b_img.nii", "k/a/a_lab.nii")
    items = pattern_datalist(tmp_path / "k", "{case}/{case}_img.nii", "{case}/{case}_l*.nii")
    assert [item["case"] for item in items] == ["a"]


def test_pattern_problems(tmp_path):
    _touch(tmp_path, "s1/im.nii", "s1/lab1.nii", "s1/lab2.nii", "s2/im.nii", "s3/lab1.nii")
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


def test_split_keeps_a_patient_on_one_side():
    names = [f"BraTS-GLI-{n:05d}-{t:03d}" for n in range(20) for t in range(3)]
    items = [{"case": name} for name in names]
    for seed in range(5):
        train, validation = split_cases(items, 0.25, seed)
        sides = [{item["case"][:15] for item in side} for side in (train, validation)]
        assert not sides[0] & sides[1]
        assert [len(side) for side in sides] == [15, 5]
        assert [item["case"] for item in validation] == sorted(item["case"] for item in validation)
        assert sorted(item["case"] for item in train + validation) == names


def test_split_is_seeded_and_does_not_look_at_the_order():
    items = [{"case": f"c{n}"} for n in range(30)]

    def validation(items, seed):
        return {item["case"] for item in split_cases(items, 0.3, seed)[1]}

    assert validation(items, 1) == validation(items[::-1], 1)
    assert validation(items, 1) != validation(items, 2)


@pytest.mark.parametrize(("fraction", "sizes"), [(0.01, (2, 1)), (0.99, (1, 2)), (0.5, (1, 2))])
def test_split_leaves_a_case_on_each_side(fraction, sizes):
    train, validation = split_cases([{"id": n} for n in "abc"], fraction, key="id")
    assert (len(train), len(validation)) == sizes


def test_split_errors():
    with pytest.raises(ValueError, match="at least 2 patients to split, got 1"):
        split_cases([{"case": "BraTS-GLI-00001-000"}, {"case": "BraTS-GLI-00001-001"}])
    with pytest.raises(ValueError, match="fraction"):
        split_cases([{"case": "a"}, {"case": "b"}], 1.0)
    with pytest.raises(ValueError, match=r"items\[0\]: expected the key 'id'"):
        split_cases([{"case": "a"}, {"case": "b"}], key="id")


def test_crops_of_one_patient_stay_together():
    patients = ("LIDC-IDRI-0001", "LIDC-IDRI-0002", "LNDb-0003")
    sides = split_cases([{"case": patient + crop} for patient in patients for crop in ("_n1", "-2", "")], fraction=0.4)
    assert [len(side) for side in sides] == [6, 3]
    train, validation = ({patient for patient in patients for item in side if item["case"].startswith(patient)} for side in sides)
    assert not train & validation


def test_a_power_in_a_name_sorts():
    assert natural_key("1\u00b2") > natural_key("1")  # a digit to str.isdigit, but no number


def test_a_pattern_without_files_does_not_advise_itself(tmp_path):
    (tmp_path / "a.txt").touch()
    with pytest.raises(
        DataProblemError, match=r"got 1 other files, e\.g\. .*a\.txt. Fix: name the folder that the patterns begin at, or "
    ):
        pattern_datalist(tmp_path, "{case}/im.nii", "{case}/lab.nii")
