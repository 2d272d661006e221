"""Preprocessing with a channel for each rater, against nnU-Net's own."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.nnunet_raters import any_rater_patches
from monai_jdt.nnunet.raw_dataset import MISSING
from tests.nifti_files import load_nifti, save_nifti
from tests.nnunet.tiny_data import NAME, NESTED, planned, tiny_plans, votes_of

pytest.importorskip("nnunetv2")

from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

from monai_jdt.nnunet.preprocessing import RaterPreprocessor, preprocess_raters

pytestmark = pytest.mark.usefixtures("in_threads")


def preprocessed(folder: Path, plans: str = "nnUNetPlansRaters_3d_fullres") -> dict[str, tuple[np.ndarray, np.ndarray, Any]]:
    """Return image, segmentation and properties of each case."""
    place = str(folder / "preprocessed" / NAME / plans)
    loaded = {case: nnUNetDatasetBlosc2(place, [case]).load_case(case) for case in nnUNetDatasetBlosc2.get_identifiers(place)}
    return {case: (np.asarray(data[:]), np.asarray(seg[:]), properties) for case, (data, seg, _, properties) in loaded.items()}


@pytest.mark.parametrize("spacing", [2.0, 1.5])
def test_images_and_the_fused_label_are_nnunets_bit_for_bit(nnunet_folders: Path, spacing: float) -> None:
    # 1.5: everything is resampled
    planned(nnunet_folders, NESTED, cases=2, plans=tiny_plans(spacing=[spacing] * 3))
    preprocess_raters(NAME, ["3d_fullres"], processes=1)
    DefaultPreprocessor(verbose=False).run(NAME, "3d_fullres", "nnUNetPlans", 1)
    stock, ours = preprocessed(nnunet_folders, "nnUNetPlans_3d_fullres"), preprocessed(nnunet_folders)
    assert list(stock) == list(ours) == ["c0", "c1"]
    for case in stock:
        np.testing.assert_array_equal(ours[case][0], stock[case][0])
        np.testing.assert_array_equal(ours[case][1][:1], stock[case][1])
        assert ours[case][1].shape[0] == 4
        # patches are drawn around the same places, whatever a minority marked
        for region, places in stock[case][2]["class_locations"].items():
            np.testing.assert_array_equal(ours[case][2]["class_locations"][region], places)
            assert len(places)
        # outside of the body is -1 in nnU-Net, and it is so in every channel
        assert (ours[case][1].min(axis=(1, 2, 3)) == stock[case][1].min()).all()


def test_raters_are_the_channels_behind_it(nnunet_folders: Path) -> None:
    planned(nnunet_folders, NESTED, cases=1)
    assert preprocess_raters(NAME, ["3d_fullres"], processes=1).raters == 3
    _, segmentation, _ = preprocessed(nnunet_folders)["c0"]
    # nnU-Net's axes are z, y, x. Cropped are the two layers of the image that are 0
    expected = votes_of(0)[:, 2:].transpose(0, 3, 2, 1)
    np.testing.assert_array_equal(np.maximum(segmentation[1:], 0), expected)


def test_patches_of_the_benchmark_around_what_any_rater_marked(nnunet_folders: Path) -> None:
    planned(nnunet_folders, NESTED, cases=1)
    preprocess_raters(NAME, ["3d_fullres"], processes=1)
    place = nnunet_folders / "preprocessed" / NAME
    name = any_rater_patches(place)
    made, given = place.rename(place.with_name("moved")) / name, place.with_name("moved") / "nnUNetPlansRaters_3d_fullres"
    assert sorted(path.name for path in made.iterdir()) == sorted(path.name for path in given.iterdir())
    assert (made / "c0.b2nd").read_bytes() == (given / "c0.b2nd").read_bytes()
    by_label, by_any = (pickle.loads((folder / "c0.pkl").read_bytes())["class_locations"] for folder in (given, made))
    # rater 2's box is the largest: its last voxel is marked by no majority
    largest = np.argwhere(votes_of(0)[2, 2:].T == 1)[-1]
    corner = [tuple(map(int, largest)) in {tuple(place[1:]) for place in found[1, 2]} for found in (by_label, by_any)]
    assert corner == [False, True]


def test_a_missing_rater_is_a_channel_that_says_so(nnunet_folders: Path) -> None:
    planned(nnunet_folders, cases=2, missing={0: [1], 1: [2]})
    preprocess_raters(NAME, ["3d_fullres"], processes=1)
    cases = preprocessed(nnunet_folders)
    assert {seg.shape[0] for _, seg, _ in cases.values()} == {4}  # a batch is one array
    assert (cases["c0"][1][2] == MISSING).all()
    assert (cases["c1"][1][3] == MISSING).all()
    assert not (cases["c0"][1][[0, 1, 3]] == MISSING).any()


def test_a_missing_first_rater_changes_no_image(nnunet_folders: Path) -> None:
    """nnU-Net normalises within the first channel that is not -1, which is that of the fused label."""
    planned(nnunet_folders, cases=1, missing={0: [0]})
    preprocess_raters(NAME, ["3d_fullres"], processes=1)
    DefaultPreprocessor(verbose=False).run(NAME, "3d_fullres", "nnUNetPlans", 1)
    ours, stock = preprocessed(nnunet_folders)["c0"], preprocessed(nnunet_folders, "nnUNetPlans_3d_fullres")["c0"]
    np.testing.assert_array_equal(ours[0], stock[0])
    assert stock[1].min() == -1


def test_a_case_without_raters_has_its_label_as_one(nnunet_folders: Path) -> None:
    planned(nnunet_folders, cases=2)
    for path in (nnunet_folders / "raw" / NAME / "ratersTr").glob("c0*"):
        path.unlink()
    assert preprocess_raters(NAME, ["3d_fullres"], processes=1).without == ("c0",)
    _, segmentation, _ = preprocessed(nnunet_folders)["c0"]
    np.testing.assert_array_equal(segmentation[1], segmentation[0])
    assert (segmentation[2:] == MISSING).all()


def test_plans_are_nnunets_under_another_name(nnunet_folders: Path) -> None:
    planned(nnunet_folders, cases=1)
    done = preprocess_raters(503, processes=1)
    assert (done.plans, done.configurations) == ("nnUNetPlansRaters", ("3d_fullres", "3d_lowres"))
    folder = nnunet_folders / "preprocessed" / NAME
    copied = json.loads((folder / "nnUNetPlansRaters.json").read_text())
    expected = tiny_plans()
    assert json.loads((folder / "nnUNetPlans.json").read_text()) == expected
    expected["plans_name"] = "nnUNetPlansRaters"
    for name in ("3d_fullres", "3d_lowres"):
        expected["configurations"][name]["data_identifier"] = f"nnUNetPlansRaters_{name}"
    assert copied == expected  # the preprocessor is nnU-Net's, since prediction looks for it by name


def test_labels_and_folds_go_where_nnunet_looks(nnunet_folders: Path) -> None:
    planned(nnunet_folders, cases=3)
    preprocess_raters(NAME, ["3d_fullres"], processes=1)
    raw, folder = nnunet_folders / "raw" / NAME, nnunet_folders / "preprocessed" / NAME
    assert (folder / "splits_final.json").read_bytes() == (raw / "splits_final.json").read_bytes()
    assert (folder / "gt_segmentations" / "c2.nii.gz").read_bytes() == (raw / "labelsTr" / "c2.nii.gz").read_bytes()
    (folder / "splits_final.json").write_text("[]")
    preprocess_raters(NAME, ["3d_fullres"], processes=1)
    assert (folder / "splits_final.json").read_text() == "[]"  # the user's own stay


@pytest.mark.parametrize("wrong", ["shape", "value"])
def test_a_wrong_map_is_one_line_and_earlier_data_stay(nnunet_folders: Path, wrong: str) -> None:
    """nnU-Net deletes the folder before it begins."""
    planned(nnunet_folders, cases=1)
    preprocess_raters(NAME, ["3d_fullres"], processes=1)
    path = nnunet_folders / "raw" / NAME / "ratersTr" / "c0_rater2.nii.gz"
    given = load_nifti(path)
    values = np.asarray(given.dataobj).copy()
    values[3, 3, 3] = 7
    save_nifti(path, values[:-1] if wrong == "shape" else values, given.affine)
    message = "shape" if wrong == "shape" else r"label values among \[0, 1\], got 7"
    with pytest.raises(ValueError, match=rf"c0_rater2.nii.gz: expected {message}"):
        preprocess_raters(NAME, ["3d_fullres"], processes=1)
    assert preprocessed(nnunet_folders)["c0"][1].shape[0] == 4
    assert not hidden_in(nnunet_folders)


def hidden_in(folder: Path) -> list[Path]:
    return list((folder / "preprocessed" / NAME).glob(".*"))


def test_a_folder_is_never_half_filled(nnunet_folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training would take it for a data set of fewer cases."""
    planned(nnunet_folders, cases=2)
    folder = nnunet_folders / "preprocessed" / NAME / "nnUNetPlansRaters_3d_fullres"
    met: list[int] = []
    run_case = RaterPreprocessor.run_case

    def watched(self: RaterPreprocessor, *given: Any) -> Any:
        met.append(len(list(folder.glob("*.pkl"))) if folder.exists() else -1)
        return run_case(self, *given)

    monkeypatch.setattr(RaterPreprocessor, "run_case", watched)
    preprocess_raters(NAME, ["3d_fullres"], processes=1)
    preprocess_raters(NAME, ["3d_fullres"], processes=1)
    assert met == [-1, -1, 2, 2]
    assert not hidden_in(nnunet_folders)


def test_what_a_killed_run_left_is_replaced(nnunet_folders: Path) -> None:
    planned(nnunet_folders, cases=1)
    folder = nnunet_folders / "preprocessed" / NAME
    for left in (".nnUNetPlansRaters_3d_fullres", ".old_nnUNetPlansRaters_3d_fullres"):
        (folder / left).mkdir()
        (folder / left / "half.b2nd").touch()
    (folder / ".nnUNetPlansRaters_3d_fullres.json").write_text("{")
    preprocess_raters(NAME, ["3d_fullres"], processes=1)
    assert sorted(preprocessed(nnunet_folders)) == ["c0"]
    assert not (folder / "nnUNetPlansRaters_3d_fullres" / "half.b2nd").exists()
    assert not hidden_in(nnunet_folders)


def test_two_configurations_may_be_preprocessed_at_once(nnunet_folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned(nnunet_folders, cases=1)
    run = RaterPreprocessor.run

    def with_another_job(self: RaterPreprocessor, dataset: str, configuration: str, *given: Any, **named: Any) -> None:
        if configuration == "3d_fullres":
            preprocess_raters(NAME, ["3d_lowres"], processes=1)
        run(self, dataset, configuration, *given, **named)

    monkeypatch.setattr(RaterPreprocessor, "run", with_another_job)
    preprocess_raters(NAME, ["3d_fullres"], processes=1)
    for configuration in ("3d_fullres", "3d_lowres"):
        assert list(preprocessed(nnunet_folders, f"nnUNetPlansRaters_{configuration}")) == ["c0"]
    assert not hidden_in(nnunet_folders)


def test_earlier_data_stay_if_the_new_ones_cannot_be_renamed(nnunet_folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned(nnunet_folders, cases=1)
    preprocess_raters(NAME, ["3d_fullres"], processes=1)
    earlier = nnunet_folders / "preprocessed" / NAME / "nnUNetPlansRaters_3d_fullres" / "earlier"
    earlier.touch()
    rename = os.rename

    def failing(source: str, target: str) -> None:
        if os.path.basename(source) == ".nnUNetPlansRaters_3d_fullres":
            raise PermissionError(source)
        rename(source, target)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(PermissionError):
        preprocess_raters(NAME, ["3d_fullres"], processes=1)
    assert earlier.exists()
    assert not hidden_in(nnunet_folders)


@pytest.mark.parametrize("number", [4, 20231105])
def test_only_raters_that_have_a_map_are_channels(nnunet_folders: Path, number: int) -> None:
    """A number may be a person's, or a date. It is not the number of channels, which would fill the memory."""
    planned(nnunet_folders, NESTED, cases=2)
    for path in (nnunet_folders / "raw" / NAME / "ratersTr").glob("*_rater2.nii.gz"):
        path.rename(str(path).replace("_rater2", f"_rater{number}"))
    assert preprocess_raters(NAME, ["3d_fullres"], processes=1).raters == 3
    _, segmentation, _ = preprocessed(nnunet_folders)["c0"]
    expected = votes_of(0)[[0, 2, 1], 2:].transpose(0, 3, 2, 1)
    np.testing.assert_array_equal(np.maximum(segmentation[1:], 0), expected)


def test_plans_that_differ_are_not_replaced(nnunet_folders: Path) -> None:
    planned(nnunet_folders, cases=1)
    preprocess_raters(NAME, ["3d_fullres"], processes=1)
    plans = nnunet_folders / "preprocessed" / NAME / "nnUNetPlans.json"
    plans.write_text(json.dumps(tiny_plans(batch_size=3)))
    with pytest.raises(ValueError, match=r"nnUNetPlansRaters.json: expected a copy of the plans nnUNetPlans, got others"):
        preprocess_raters(NAME, ["3d_fullres"], processes=1)


def test_what_is_missing_is_one_line(nnunet_folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned(nnunet_folders, cases=1)
    with pytest.raises(ValueError, match=r"CONFIGURATION: expected one of 3d_fullres, 3d_lowres, got 2d"):
        preprocess_raters(NAME, ["2d"], processes=1)
    with pytest.raises(ValueError, match=r"run `nnUNetv2_plan_and_preprocess -d 503 --verify_dataset_integrity --no_pp`"):
        preprocess_raters(NAME, plans="nnUNetResEncUNetMPlans", processes=1)
    with pytest.raises(ValueError, match="dataset: expected a data set of nnU-Net, got 504"):
        preprocess_raters(504, processes=1)
    monkeypatch.delenv("nnUNet_preprocessed")
    with pytest.raises(ValueError, match="nnUNet_preprocessed: expected a folder"):
        preprocess_raters(NAME, processes=1)
