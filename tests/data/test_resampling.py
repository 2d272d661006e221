"""Raters on another grid than the image: onto the image's, against plain arithmetic."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from monai_jdt.data import DataProblemError, find_problems, read_datalist, resample_raters, resampling
from monai_jdt.data.files.grids import VoxelGrid
from monai_jdt.data.resampling import resampled_case_rows, resampled_values
from tests.nifti_files import load_nifti, save_nifti

#: The image: 1 x 2 x 3 mm in LPS. The rater: RAS, finer, shifted, and cut off on one side.
IMAGE = np.array([[-1.0, 0, 0, 20], [0, -2, 0, 30], [0, 0, 3, -10], [0, 0, 0, 1]])
RATER = np.array([[0.7, 0, 0, 6.1], [0, 1.1, 0, 8.3], [0, 0, 1.3, -9.2], [0, 0, 0, 1]])
SHAPE = (12, 10, 6)


def nearest(values: np.ndarray, own: np.ndarray, grid: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The value of the voxel of `own` in which each centre of `grid` lies, 0 outside."""
    result = np.zeros(shape, values.dtype)
    for index in np.ndindex(*shape):
        at = np.rint(np.linalg.inv(own) @ grid @ [*index, 1])[:3].astype(int)
        if (at >= 0).all() and (at < values.shape).all():
            result[index] = values[tuple(at)]
    return result


@pytest.fixture
def drawn() -> np.ndarray:
    return np.random.default_rng(0).choice([0, 1, 4], size=(14, 13, 9)).astype(np.uint8)


@pytest.fixture
def item(tmp_path: Path, drawn: np.ndarray) -> dict[str, Any]:
    image = save_nifti(tmp_path / "in" / "image.nii.gz", np.zeros(SHAPE, np.float32), IMAGE)
    fits = save_nifti(tmp_path / "in" / "fits.nii.gz", np.ones(SHAPE, np.uint8), IMAGE)
    other = save_nifti(tmp_path / "in" / "other.nii.gz", drawn, RATER)
    return {"case": "s1/c1", "image": image, "raters": [fits, other], "rater_names": ["anna", "ben"]}


def test_each_voxel_has_the_value_at_its_centre(tmp_path: Path, item: dict[str, Any], drawn: np.ndarray) -> None:
    done = resample_raters([item], tmp_path / "out", progress=False)
    new = load_nifti(tmp_path / "out" / "s1" / "c1" / "ben.nii.gz")
    np.testing.assert_array_equal(np.asarray(new.dataobj), nearest(drawn, RATER, IMAGE, SHAPE))
    assert new.get_data_dtype() == np.uint8
    np.testing.assert_allclose(new.affine, IMAGE)
    back = nearest(nearest(drawn, RATER, IMAGE, SHAPE), IMAGE, RATER, drawn.shape)
    lost = 1 - ((back == drawn) & (drawn != 0)).sum() / (drawn != 0).sum()
    assert 0.1 < lost < 0.9
    assert [(row["file"], row["lost"]) for row in done.rows] == [("", 0), ("s1/c1/ben.nii.gz", pytest.approx(lost, abs=1e-6))]
    (read,) = read_datalist(str(done.datalist), rater_names=True)
    assert read["raters"] == [item["raters"][0], str(tmp_path / "out" / "s1" / "c1" / "ben.nii.gz")]
    assert read["rater_names"] == ["anna", "ben"]
    assert list(find_problems([item], progress=False)) != []
    assert list(find_problems([read], progress=False)) == []


def test_probabilities_are_interpolated() -> None:
    ramp = np.broadcast_to(np.linspace(0, 1, 11, dtype=np.float32)[:, None, None], (11, 4, 3)).copy()
    fine = VoxelGrid("fine", (20, 4, 3), np.diag([0.5, 1, 1, 1.0]))
    new = resampled_values(ramp, VoxelGrid("own", ramp.shape, np.eye(4)), fine, linear=True)
    np.testing.assert_allclose(new[:, 1, 1], 0.05 * np.arange(20), atol=1e-6)


def test_soft_maps(tmp_path: Path) -> None:
    image = save_nifti(tmp_path / "image.nii.gz", np.zeros((7, 4, 3), np.float32), np.diag([0.5, 1, 1, 1.0]))
    soft = save_nifti(tmp_path / "soft.nii.gz", np.full((4, 4, 3), 0.25, np.float32), np.eye(4))
    done = resample_raters([{"case": "c", "image": image, "raters": [soft]}], tmp_path / "out", soft=True, progress=False)
    new = np.asarray(load_nifti(tmp_path / "out" / "c" / "rater1.nii.gz").dataobj)
    np.testing.assert_allclose(new, 0.25, atol=1e-6)
    assert done.rows[0]["lost"] == pytest.approx(0, abs=1e-5)
    label = save_nifti(tmp_path / "label.nii.gz", np.full((4, 4, 3), 2, np.uint8), np.eye(4))
    done = resample_raters([{"case": "c", "image": image, "raters": [label]}], tmp_path / "hard", soft=True, progress=False)
    assert "expected probabilities in [0, 1], got values from 2 to 2" in done.failures["c"]
    assert done.datalist is None


def test_a_grid_that_lies_elsewhere_is_a_failure_of_its_case(tmp_path: Path, item: dict[str, Any], drawn: np.ndarray) -> None:
    away = RATER + np.array([[0, 0, 0, 500], [0] * 4, [0] * 4, [0] * 4])
    bad = save_nifti(tmp_path / "in" / "away.nii.gz", drawn, away)
    items = [item, {"case": "c2", "image": item["image"], "raters": [bad]}]
    done = resample_raters(items, tmp_path / "out", progress=False)
    assert list(done.failures) == ["c2"]
    assert (
        f"{bad}: expected a grid that overlaps with that of {item['image']}, got one that lies outside, origin [506.1"
        in done.failures["c2"]
    )
    assert not (tmp_path / "out" / "datalist.json").exists()
    # mended: the same call goes on with that case alone
    save_nifti(bad, drawn, RATER)
    done = resample_raters(items, tmp_path / "out", progress=False)
    assert (done.failures, len(done.rows)) == ({}, 3)
    with pytest.raises(
        FileExistsError, match=r"expected a folder without a finished run, .* got resampling.csv that is there, and 3 more"
    ):
        resample_raters(items, tmp_path / "out", progress=False)


class Killed(BaseException):
    """A kill, which no handler of errors sees."""


def test_a_killed_run_goes_on_but_not_with_other_settings(
    tmp_path: Path, item: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [item, {**item, "case": "c2"}]
    done: list[str] = []

    def killed(case: Any) -> list[dict[str, Any]]:
        if case.name == "c2":
            raise Killed
        return resampled_case_rows(case)

    with monkeypatch.context() as patched:
        patched.setattr(resampling, "resampled_case_rows", killed)
        with pytest.raises(Killed):
            resample_raters(items, tmp_path / "out", progress=False)
    with pytest.raises(ValueError, match=r"expected an interrupted run with linear; list .*, got one with nearest; list "):
        resample_raters(items, tmp_path / "out", soft=True, progress=False)
    with pytest.raises(ValueError, match=r"expected an interrupted run with nearest; list .*, got one with nearest; list "):
        resample_raters([{**item, "image": item["raters"][0]}], tmp_path / "out", progress=False)

    def counted(case: Any) -> list[dict[str, Any]]:
        done.append(case.name)
        return resampled_case_rows(case)

    monkeypatch.setattr(resampling, "resampled_case_rows", counted)
    assert resample_raters({"training": items[:1], "validation": items[1:]}, tmp_path / "out", progress=False).datalist
    assert done == ["c2"]
    assert [len(part) for part in (read_datalist(tmp_path / "out" / "datalist.json", name) for name in ("training", "validation"))] == [
        1,
        1,
    ]


def test_pictures_are_scaled_only_if_they_show_the_same(tmp_path: Path) -> None:
    for name, values in (("image", np.zeros((4, 8))), ("small", np.array([[0, 255], [255, 255]])), ("fits", np.full((4, 8), 255))):
        Image.fromarray(values.astype(np.uint8)).save(tmp_path / f"{name}.png")
    item = {"case": "c", "image": str(tmp_path / "image.png"), "raters": [str(tmp_path / f"{n}.png") for n in ("small", "fits")]}
    done = resample_raters([item], tmp_path / "a", progress=False)
    assert "small.png: expected shape (8, 4), as " in done.failures["c"]
    assert "got (2, 2), and no place in space. Fix: same_view=True (--same-view) if both show" in done.failures["c"]
    # black is the mark: the outside of a file is no mark, and the result holds 0 and 1
    done = resample_raters([item | {"foreground": 0}], tmp_path / "b", same_view=True, progress=False)
    (read,) = read_datalist(str(done.datalist))
    assert "foreground" not in read
    with Image.open(read["raters"][0]) as picture:
        np.testing.assert_array_equal(np.asarray(picture), np.repeat(np.repeat([[1, 0], [0, 0]], 2, 0), 4, 1))
    assert done.rows[0]["lost"] == 0
    assert math.isnan(done.rows[1]["lost"])  # nothing is black there


def test_what_cannot_be_resampled(tmp_path: Path, item: dict[str, Any]) -> None:
    with pytest.raises(DataProblemError, match="expected one file per rater, got a list"):
        resample_raters([item | {"raters": [[["a.nii.gz"]]]}], tmp_path / "out", progress=False)
    with pytest.raises(ValueError, match="cases and raters whose names differ"):
        resample_raters([item | {"rater_names": ["anna", "Anna"]}], tmp_path / "out", progress=False)
    with pytest.raises(
        ValueError, match=r"the list \(case s1/c1\): rater_names: expected one name for each of 2 raters, .* got 1 names"
    ):
        resample_raters([item | {"rater_names": ["anna"]}], tmp_path / "out", progress=False)
    with pytest.raises(DataProblemError, match=r"s1/c1: foreground: expected none beside probabilities \(soft\), got 0"):
        resample_raters([item | {"foreground": 0}], tmp_path / "out", soft=True, progress=False)
    save_nifti(item["raters"][1], np.full((4, 4, 3, 2), 0.5, np.float32), np.eye(4))
    done = resample_raters([item], tmp_path / "out", soft=True, progress=False)
    assert "other.nii.gz: expected one probability per voxel, got shape (4, 4, 3, 2)" in done.failures["s1/c1"]


@pytest.mark.parametrize("name", ["s1/c1/ben.nii.gz", "datalist.json"])
def test_files_of_the_user_stay(tmp_path: Path, item: dict[str, Any], name: str) -> None:
    path = tmp_path / "out" / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(FileExistsError, match=f"or files of these names, got {name} that is there. Fix: name another folder"):
        resample_raters([item], tmp_path / "out", progress=False)
    assert path.read_text() == "mine"


def test_the_files_of_the_list_stay_in_an_interrupted_run_too(tmp_path: Path, item: dict[str, Any]) -> None:
    bad = save_nifti(tmp_path / "in" / "bad.nii.gz", np.ones((2, 2, 2, 2), np.uint8), IMAGE)
    own = tmp_path / "out" / "a" / "ben.nii.gz"
    failing = {"case": "b", "image": item["image"], "raters": [bad]}
    assert resample_raters([failing], tmp_path / "out", source="list.json", progress=False).failures
    own.parent.mkdir()
    own.write_bytes(Path(item["raters"][1]).read_bytes())
    before = own.read_bytes()
    again = {"case": "a", "image": item["image"], "raters": [str(own)], "rater_names": ["ben"]}
    with pytest.raises(FileExistsError, match=r"got a/ben.nii.gz that is there"):
        resample_raters([failing, again], tmp_path / "out", source="list.json", progress=False)
    assert own.read_bytes() == before


def test_a_run_killed_before_its_list_is_there_goes_on(tmp_path: Path, item: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(resampling, "write_datalist", killed)
        with pytest.raises(Killed):
            resample_raters([item], tmp_path / "out", progress=False)
    assert (tmp_path / "out" / "resampling.csv").exists()
    # a map that was deleted in between is made again
    (tmp_path / "out" / "s1" / "c1" / "ben.nii.gz").unlink()
    done = resample_raters([item], tmp_path / "out", progress=False)
    assert list(find_problems(read_datalist(str(done.datalist)), progress=False)) == []
    assert not (tmp_path / "out" / "resampling.csv.unfinished").exists()
