"""A data list becomes a raw data set of nnU-Net."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from monai_jdt.data.datalist_file import read_datalist, write_datalist
from monai_jdt.nnunet.conversion import convert_to_nnunet, majority_label
from monai_jdt.nnunet.raw_labels import raw_labels
from tests.nifti_files import load_nifti, save_nifti
from tests.nnunet.tiny_data import NAME, NESTED, ONE_REGION, votes_of, write_list


def voxels(path: Path) -> np.ndarray:
    return np.asarray(load_nifti(str(path)).dataobj)


def convert(listed: Path, dest: Path, regions: Any = ONE_REGION, **choices: Any) -> dict[str, Any]:
    convert_to_nnunet(listed, dest, regions, progress=False, **choices)
    return json.loads((dest / "dataset.json").read_text())


def test_files_values_and_names_are_nnunets(tmp_path: Path) -> None:
    dest = tmp_path / NAME
    content = convert(write_list(tmp_path, cases=2), dest, NESTED, channels=["CT"])
    assert content["channel_names"] == {"0": "CT"}
    assert content["labels"] == {"background": 0, "whole": [1, 2], "core": [2]}
    assert content["regions_class_order"] == [1, 2]
    assert (content["numTraining"], content["file_ending"]) == (2, ".nii.gz")
    assert sorted(path.name for path in (dest / "imagesTr").iterdir()) == ["c0_0000.nii.gz", "c1_0000.nii.gz"]
    votes = votes_of(1)
    for rater in range(3):
        np.testing.assert_array_equal(voxels(dest / "ratersTr" / f"c1_rater{rater + 1}.nii.gz"), votes[rater])
    counts = [(votes == value).sum(0) for value in range(3)]
    # a region holds what two of three raters put into it
    expected = np.where(counts[2] >= 2, 2, np.where(counts[1] + counts[2] >= 2, 1, 0))
    np.testing.assert_array_equal(voxels(dest / "labelsTr" / "c1.nii.gz"), expected)
    np.testing.assert_array_equal(voxels(dest / "imagesTr" / "c1_0000.nii.gz"), voxels(tmp_path / "c1" / "im.nii.gz"))


def test_a_person_has_one_number_in_every_case(tmp_path: Path) -> None:
    dest = tmp_path / NAME
    convert(write_list(tmp_path, cases=2, missing={0: [0]}), dest)
    assert sorted(path.name for path in (dest / "ratersTr").glob("c0*")) == ["c0_rater2.nii.gz", "c0_rater3.nii.gz"]
    np.testing.assert_array_equal(voxels(dest / "ratersTr" / "c0_rater2.nii.gz"), votes_of(0)[1] == 1)


def test_raters_without_names_are_numbered_by_their_place(tmp_path: Path) -> None:
    listed = write_list(tmp_path, cases=2, missing={0: [0]})
    items = [{key: value for key, value in item.items() if key != "rater_names"} for item in read_datalist(listed)]
    write_datalist(items, listed)
    convert(listed, tmp_path / NAME)
    assert sorted(path.name for path in (tmp_path / NAME / "ratersTr").glob("c0*")) == ["c0_rater1.nii.gz", "c0_rater2.nii.gz"]


def test_a_rater_who_says_nothing_does_not_vote() -> None:
    labels = raw_labels({"a": (1,), "b": (2,)}, ignored=9)  # nnU-Net's ignore label is 3
    votes = np.array([[1, 1, 3, 2, 2], [1, 3, 3, 0, 3], [0, 3, 3, 1, 0]])
    # 2 of 3; 1 of 1; nobody; a third each; 1 of 2, which is no majority
    np.testing.assert_array_equal(majority_label(votes, labels), [1, 1, 3, 0, 0])


def test_the_list_of_what_was_written_has_raters_and_patients(tmp_path: Path) -> None:
    listed = write_list(tmp_path, cases=2, missing={0: [0]})
    items = read_datalist(listed, rater_names=True)
    write_datalist({"training": [items[0]], "testing": [items[1]]}, listed)
    dest = tmp_path / NAME
    convert(listed, dest, test="testing")
    assert [path.name for path in (dest / "imagesTs").iterdir()] == ["c1_0000.nii.gz"]
    assert [path.name for path in (dest / "imagesTr").iterdir()] == ["c0_0000.nii.gz"]
    (trained,) = read_datalist(dest / "datalist.json", rater_names=True)
    assert (trained["case"], trained["patient"], trained["rater_names"]) == ("c0", "c0", ["r1", "r2"])
    (tested,) = read_datalist(dest / "datalist.json", "testing")
    assert [Path(path).exists() for path in tested["raters"]] == [True] * 3


def test_folds_are_by_patient(tmp_path: Path) -> None:
    listed = write_list(tmp_path, cases=4)
    items = [{**item, "patient": f"p{number // 2}"} for number, item in enumerate(read_datalist(listed, rater_names=True))]
    write_datalist(items, listed)
    convert(listed, tmp_path / NAME)
    splits = json.loads((tmp_path / NAME / "splits_final.json").read_text())
    assert sorted(sorted(split["val"]) for split in splits) == [["c0", "c1"], ["c2", "c3"]]
    assert all(sorted(split["train"] + split["val"]) == ["c0", "c1", "c2", "c3"] for split in splits)


def test_the_lists_own_split_is_kept(tmp_path: Path) -> None:
    listed = write_list(tmp_path, cases=3)
    items = read_datalist(listed, rater_names=True)
    write_datalist({"training": items[:2], "validation": items[2:]}, listed)
    convert(listed, tmp_path / NAME)
    assert json.loads((tmp_path / NAME / "splits_final.json").read_text()) == [{"train": ["c0", "c1"], "val": ["c2"]}]
    write_datalist([{**item, "fold": number % 2} for number, item in enumerate(items)], listed)
    convert(listed, tmp_path / "Dataset504_Folds")
    splits = json.loads((tmp_path / "Dataset504_Folds" / "splits_final.json").read_text())
    assert [split["val"] for split in splits] == [["c0", "c2"], ["c1"]]


def test_colour_pictures_become_flat_images_with_three_channels(tmp_path: Path) -> None:
    Image.fromarray(np.arange(6 * 5 * 3, dtype=np.uint8).reshape(5, 6, 3)).save(tmp_path / "a.png")
    for rater in (1, 2):
        Image.fromarray(np.eye(5, 6, dtype=np.uint8) * 255).save(tmp_path / f"a{rater}.png")
    item = {"case": "a b", "image": str(tmp_path / "a.png"), "raters": [str(tmp_path / f"a{n}.png") for n in (1, 2)], "foreground": 255}
    listed = Path(write_datalist([item], tmp_path / "list.json"))
    convert(listed, tmp_path / NAME, channels=["R", "G", "B"])
    image = load_nifti(str(tmp_path / NAME / "imagesTr" / "a_b_0001.nii.gz"))
    assert image.shape == (6, 5)
    assert int(np.asarray(image.dataobj)[1, 0]) == 4  # the second pixel of the first row, green
    np.testing.assert_array_equal(voxels(tmp_path / NAME / "labelsTr" / "a_b.nii.gz"), np.eye(6, 5))


def test_values_in_no_region_are_reported(tmp_path: Path) -> None:
    made = convert_to_nnunet(write_list(tmp_path, cases=1), tmp_path / NAME, ONE_REGION, progress=False)
    assert made.background == (2,)


def test_a_bad_case_leaves_nothing(tmp_path: Path) -> None:
    listed = write_list(tmp_path, cases=2)
    save_nifti(str(tmp_path / "c1" / "r2.nii.gz"), np.zeros((3, 3, 3), np.uint8))
    with pytest.raises(ValueError, match=r"c1: .*r2.nii.gz: expected shape"):
        convert(listed, tmp_path / "raw" / NAME)
    assert not list((tmp_path / "raw").iterdir())


def test_the_number_of_channels_must_be_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected 2, one for each channel's name, got 1 channel\. Fix: name each by --channel"):
        convert(write_list(tmp_path, cases=1), tmp_path / NAME, channels=["T1", "T2"])


def test_names_that_would_be_one_file_are_refused(tmp_path: Path) -> None:
    listed = write_list(tmp_path, cases=2)
    items = read_datalist(listed, rater_names=True)
    write_datalist([{**item, "case": name} for item, name in zip(items, ("a b", "a_b"), strict=True)], listed)
    with pytest.raises(ValueError, match="which would be one file name"):
        convert(listed, tmp_path / NAME)


def test_a_folder_that_is_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    with pytest.raises(FileExistsError, match="expected a free name"):
        convert(write_list(tmp_path, cases=1), tmp_path / NAME)


def list_of(folder: Path, sections: dict[str, list[tuple[str, str]]], **more: Any) -> Path:
    """Write a list whose sections have cases and patients, of which each has an image of its own shape."""
    folder.mkdir(exist_ok=True)
    content: dict[str, list[dict[str, Any]]] = {}
    for number, (section, case, patient) in enumerate((s, c, p) for s, pairs in sections.items() for c, p in pairs):
        files = []
        for name in ("image", "rater"):
            files.append(folder / f"{section}_{number}_{name}.nii.gz")
            save_nifti(str(files[-1]), np.ones((4, 5, 3), np.uint8))
        item = {"case": case, "patient": patient, "image": str(files[0]), "raters": [str(files[1])], **more}
        content.setdefault(section, []).append(item)
    listed = folder / "list.json"
    listed.write_text(json.dumps(content))
    return listed


def cases_in(dest: Path, side: str) -> list[str]:
    return sorted(path.name.removesuffix("_0000.nii.gz") for path in (dest / f"images{side}").glob("*"))


@pytest.mark.parametrize(("key", "test"), [("test", "testing"), ("testing", "test"), ("test", "test")])
def test_test_cases_are_no_part_of_the_training_whatever_their_section_is_called(key: str, test: str, tmp_path: Path) -> None:
    listed = list_of(tmp_path / "in", {"training": [("a", "1"), ("b", "2")], key: [("c", "3")]})
    convert(listed, tmp_path / NAME, test=test)
    assert cases_in(tmp_path / NAME, "Tr") == ["a", "b"]
    assert cases_in(tmp_path / NAME, "Ts") == ["c"]


def test_a_section_is_not_trained_on_and_tested(tmp_path: Path) -> None:
    listed = list_of(tmp_path / "in", {"training": [("a", "1"), ("b", "2")]})
    with pytest.raises(ValueError, match="test: expected a section that is not trained on, got 'training'"):
        convert(listed, tmp_path / NAME, section="train", test="training")


@pytest.mark.parametrize("key", ["validation", "valid", "val"])
def test_the_validation_of_the_list_is_the_fold(key: str, tmp_path: Path) -> None:
    listed = list_of(tmp_path / "in", {"training": [("a", "1"), ("b", "2")], key: [("c", "3")]})
    convert(listed, tmp_path / NAME)
    assert json.loads((tmp_path / NAME / "splits_final.json").read_text()) == [{"train": ["a", "b"], "val": ["c"]}]


@pytest.mark.parametrize("other", ["a", "A"])
def test_two_cases_of_one_name_do_not_overwrite_each_other(other: str, tmp_path: Path) -> None:
    listed = list_of(tmp_path / "in", {"training": [("a", "1")], "test": [(other, "2")]})
    with pytest.raises(ValueError, match=f"'a' and '{other}', which would be one file name"):
        convert(listed, tmp_path / NAME, test="test")
    assert not (tmp_path / NAME).exists()


def test_a_channel_on_another_grid_is_refused(tmp_path: Path) -> None:
    listed = list_of(tmp_path / "in", {"training": [("a", "1"), ("b", "2")]})
    content = json.loads(listed.read_text())
    for item in content["training"]:
        other = item["image"].replace("image", "second")
        save_nifti(other, np.ones((4, 5, 3), np.uint8), affine=np.diag([1.0, 1, 2, 1]))
        item["image"] = [item["image"], other]
    listed.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"second\.nii\.gz"):
        convert(listed, tmp_path / NAME, channels=["one", "two"])


def test_one_slice_among_volumes_stays_a_volume(tmp_path: Path) -> None:
    listed = list_of(tmp_path / "in", {"training": [("a", "1"), ("b", "2")]})
    for name in ("image", "rater"):
        save_nifti(str(tmp_path / "in" / f"training_1_{name}.nii.gz"), np.ones((4, 5, 1), np.uint8), affine=np.diag([1.0, 2, 3, 1]))
    convert(listed, tmp_path / NAME)
    for file in ("imagesTr/b_0000", "labelsTr/b", "ratersTr/b_rater1"):
        written = load_nifti(str(tmp_path / NAME / f"{file}.nii.gz"))
        assert written.shape == (4, 5, 1)
        np.testing.assert_array_equal(np.abs(np.diag(written.affine)), [1, 2, 3, 1])


def test_a_region_that_no_rater_marked_is_refused(tmp_path: Path) -> None:
    listed = list_of(tmp_path / "in", {"training": [("a", "1"), ("b", "2")]})
    with pytest.raises(ValueError, match=r"region n: expected one of \[7\] in a rater's file, got the values 1"):
        convert(listed, tmp_path / NAME, {"n": (7,)})
    assert not (tmp_path / NAME).exists()


@pytest.mark.parametrize(
    ("fold", "message"), [(0, "fold: expected at least two folds"), (None, "fold of a: expected a whole number"), (1.5, "fold of a")]
)
def test_folds_that_are_no_folds_are_refused(fold: Any, message: str, tmp_path: Path) -> None:
    listed = list_of(tmp_path / "in", {"training": [("a", "1"), ("b", "2")]}, fold=fold)
    with pytest.raises(ValueError, match=message):
        convert(listed, tmp_path / NAME)
