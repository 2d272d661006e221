"""One reading of a case: overlaps, sizes and bins that are known, and what is said of files that cannot be read."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from monai_jdt.report.case_study import StudiedCase, StudiedPrediction, study_case
from tests.nifti_files import save_nifti
from tests.report.run_folders import AFFINE, SHAPE, block, raters_of


def case_in(folder: Path, number: int = 0) -> StudiedCase:
    files = [save_nifti(folder / f"{r}.nii.gz", values, AFFINE) for r, values in enumerate(raters_of(number))]
    image = save_nifti(folder / "image.nii.gz", np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE), AFFINE)
    prob = np.stack([np.where(block(4, 9) > 0, np.float32(0.8), np.float32(0.05)), np.full(SHAPE, 0.05, np.float32)], axis=-1)
    labels = block(3, 9)
    predictions = (
        StudiedPrediction("net", save_nifti(folder / "net.nii.gz", prob, AFFINE), "auto", "threshold"),
        StudiedPrediction("map", save_nifti(folder / "map.nii.gz", labels, AFFINE), "labels", "threshold"),
    )
    return StudiedCase("one", tuple(files), (image,), {"all": (1, 2), "top": (2,)}, predictions)


def test_known_overlaps_and_sizes(tmp_path: Path) -> None:
    study = study_case(case_in(tmp_path))
    # rows of 24 voxels: rater 0 has 6, rater 1 has 9, the network 5, the label map 6
    assert study.pairs["all"][0, 1] == pytest.approx(2 * 6 / 15)
    assert study.pairs["all"][0, "net"] == pytest.approx(2 * 5 / 11)
    assert study.pairs["all"][1, "map"] == pytest.approx(2 * 6 / 15)
    assert study.pairs["all"]["net", "map"] == pytest.approx(2 * 5 / 11)
    # two of rater 0's rows have label 2; rater 1 has none of it
    assert study.pairs["top"][0, 1] == 0
    # 2 mm3 per voxel
    assert study.unit == "volume_ml"
    assert study.sizes["all"] == pytest.approx({0: 0.288, 1: 0.432, "net": 0.24, "map": 0.288})
    assert study.problems == ()


def test_bins_of_probabilities_only(tmp_path: Path) -> None:
    study = study_case(case_in(tmp_path))
    assert set(study.bins) == {"net"}  # a label map promises nothing
    weight, confidence, outcome = study.bins["net"][0].T
    voxels = np.prod(SHAPE)
    # .05 lies in the first of 15 bins, .8 at the start of the 13th or the end of the 12th
    assert weight[0] == voxels - 120
    assert weight[11:13].sum() == 120
    assert confidence.sum() == pytest.approx(0.05 * (voxels - 120) + 0.8 * 120, rel=1e-5)
    # the network's 5 rows belong to both raters; 1 row of both and 3 rows of one lie outside
    assert outcome[11:13].sum() == pytest.approx(120)
    assert outcome[0] == pytest.approx(24 * (1 + 3 / 2))


def test_nothing_marked_is_undefined(tmp_path: Path) -> None:
    case = case_in(tmp_path, 2)
    save_nifti(tmp_path / "0.nii.gz", np.zeros(SHAPE, np.uint8), AFFINE)
    assert math.isnan(study_case(case).pairs["all"][0, 1])


def test_files_that_cannot_be_read_are_problems_and_the_rest_is_there(tmp_path: Path) -> None:
    case = case_in(tmp_path)
    (tmp_path / "net.nii.gz").write_bytes(b"no NIfTI")
    (tmp_path / "image.nii.gz").unlink()
    study = study_case(case)
    assert [Path(problem.partition(":")[0]).name for problem in study.problems] == ["net.nii.gz", "image.nii.gz"]
    assert set(study.sizes["all"]) == {0, 1, "map"}
    assert study.slices is not None
    assert study.slices["models"] == ["map"]
    assert study.slices["notes"] == ["no image"]


def test_an_image_on_other_voxels_is_a_problem(tmp_path: Path) -> None:
    case = case_in(tmp_path)
    save_nifti(tmp_path / "image.nii.gz", np.zeros((4, 4, 4), np.float32), AFFINE)
    (problem,) = study_case(case).problems
    assert "image.nii.gz: expected" in problem


def test_the_mask_is_the_one_that_was_scored(tmp_path: Path) -> None:
    case = case_in(tmp_path)
    # .8 in 5 rows and .05 elsewhere: the mask is expected to score about .6, because of the many other voxels
    sizes = [
        study_case(replace(case, predictions=(replace(case.predictions[0], decision="expected_dice", empty_below=level),))).sizes["all"]
        for level in (0.0, 0.9)
    ]
    assert sizes[0]["net"] > 0
    assert sizes[1]["net"] == 0


def test_slices_are_made_where_they_are_wanted(tmp_path: Path) -> None:
    assert study_case(replace(case_in(tmp_path), most_bytes=0)).slices is None
