"""Predictions of other programs: found by name, and read as probabilities of regions on the raters' voxels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_jdt.data.files.grids import VoxelGrid
from monai_jdt.data.files.label_pictures import write_palette_picture
from monai_jdt.data.problems import DataProblemError
from monai_jdt.report.prediction_files import PredictionFolder, PredictionKind, read_region_prediction
from tests.nifti_files import SFORM, save_nifti

SHAPE = (4, 5, 6)
GRID = VoxelGrid("raters", SHAPE, SFORM)
REGIONS = {"core": (1, 3), "all": (1, 2, 3)}


@pytest.fixture
def classes() -> np.ndarray:
    """Probabilities of the labels 0 to 3, `(4, *S)`."""
    values = np.random.default_rng(0).random((4, *SHAPE)).astype(np.float32)
    return values / values.sum(0)


def expected(classes: np.ndarray) -> np.ndarray:
    return np.stack([classes[1] + classes[3], classes[1] + classes[2] + classes[3]])


def test_nnunets_npz_has_its_axes_turned(tmp_path: Path, classes: np.ndarray) -> None:
    for key in ("probabilities", "softmax"):
        np.savez_compressed(tmp_path / "case.npz", **{key: classes.transpose(0, 3, 2, 1)})
        got, is_map = read_region_prediction(str(tmp_path / "case.npz"), GRID, REGIONS)
        assert not is_map
        np.testing.assert_allclose(got, expected(classes), atol=1e-6)
    np.savez(tmp_path / "case.npz", other=classes)
    with pytest.raises(DataProblemError, match="save_probabilities"):
        read_region_prediction(str(tmp_path / "case.npz"), GRID, REGIONS)
    (tmp_path / "case.npz").write_bytes(b"PK")
    with pytest.raises(DataProblemError, match=r"case\.npz"):
        read_region_prediction(str(tmp_path / "case.npz"), GRID, REGIONS)


def test_channels_of_volumes_are_classes_or_regions(tmp_path: Path, classes: np.ndarray) -> None:
    path = save_nifti(tmp_path / "a.nii.gz", np.moveaxis(classes, 0, -1))
    np.testing.assert_allclose(read_region_prediction(path, GRID, REGIONS)[0], expected(classes), atol=1e-6)
    path = save_nifti(tmp_path / "b.nii.gz", np.moveaxis(expected(classes), 0, -1))
    np.testing.assert_allclose(read_region_prediction(path, GRID, REGIONS)[0], expected(classes), atol=1e-6)
    path = save_nifti(tmp_path / "c.nii.gz", np.moveaxis(classes[:3], 0, -1))
    with pytest.raises(DataProblemError, match="2 channels, one per region, or at least 4"):
        read_region_prediction(path, GRID, REGIONS)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_label_maps_are_recognised_by_their_values(tmp_path: Path, dtype: type) -> None:
    labels: np.ndarray = np.random.default_rng(1).integers(0, 4, SHAPE).astype(dtype)
    got, is_map = read_region_prediction(save_nifti(tmp_path / "a.nii.gz", labels), GRID, REGIONS)
    assert is_map
    np.testing.assert_array_equal(got, [np.isin(labels, [1, 3]), labels > 0])
    with pytest.raises(DataProblemError, match="or a label map of the regions' values"):
        read_region_prediction(save_nifti(tmp_path / "b.nii.gz", labels + 5), GRID, REGIONS)
    _, is_map = read_region_prediction(save_nifti(tmp_path / "c.nii.gz", labels), GRID, REGIONS, PredictionKind.LABELS)
    assert is_map


def test_pictures_are_shares_of_255(tmp_path: Path) -> None:
    values = np.arange(20, dtype=np.uint8).reshape(4, 5) * 13
    Image.fromarray(values).save(tmp_path / "a.png")
    from monai_jdt.data.files.volumes import open_volume

    grid = VoxelGrid("raters", open_volume(str(tmp_path / "a.png")).shape, None)
    got, is_map = read_region_prediction(str(tmp_path / "a.png"), grid, {"disc": (1,)})
    assert not is_map
    assert got.max() == pytest.approx(247 / 255)
    assert got.shape == (1, *grid.shape)


def test_another_grid_is_refused(tmp_path: Path) -> None:
    values = np.zeros(SHAPE, np.float32)
    with pytest.raises(DataProblemError, match=r"the raters' .* voxels"):
        read_region_prediction(save_nifti(tmp_path / "a.nii.gz", np.zeros((4, 5, 7), np.float32)), GRID, REGIONS)
    moved = SFORM.copy()
    moved[0, 3] += 7
    with pytest.raises(DataProblemError, match=r"b\.nii\.gz"):
        read_region_prediction(save_nifti(tmp_path / "b.nii.gz", values, moved), GRID, {"one": (1,)})


def test_files_are_found_by_the_name_of_the_case(tmp_path: Path) -> None:
    for name in ("a.nii.gz", "ab.nii.gz", "b_prob.nii.gz", "c.npz", "c.nii.gz", "d_1.nii.gz", "d_2.nii.gz", "notes.txt", "x.y.nii.gz"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "task01.nii.gz").write_bytes(b"")
    folder = str(tmp_path)
    cases = PredictionFolder(folder, ["a", "b", "c", "d", "e", "f", "x.y", "x", "t", "t"])
    found = {case: Path(cases.path_of(case)).name for case in ("a", "b", "c", "e", "x.y")}
    assert found == {"a": "a.nii.gz", "b": "b_prob.nii.gz", "c": "c.npz", "e": "task01.nii.gz", "x.y": "x.y.nii.gz"}
    for case in ("d", "f", "x"):
        with pytest.raises(DataProblemError, match="expected one file of predictions"):
            cases.path_of(case)
    with pytest.raises(DataProblemError, match="expected one item of this name"):
        cases.path_of("t")


def test_a_file_is_never_that_of_another_case(tmp_path: Path) -> None:
    (tmp_path / "P1_2.nii.gz").write_bytes(b"")
    cases = PredictionFolder(str(tmp_path), ["P1", "P1_2"])
    assert cases.path_of("P1_2").endswith("P1_2.nii.gz")
    with pytest.raises(DataProblemError, match="expected one file of predictions, got none"):
        cases.path_of("P1")


def test_patterns_have_the_items_fields(tmp_path: Path) -> None:
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "task01.nii.gz").write_bytes(b"")
    cases = PredictionFolder(str(tmp_path), ["e", "e"], "{case}/task{task}.nii.gz")
    assert cases.path_of("e", {"task": "01"}).endswith("e/task01.nii.gz")
    with pytest.raises(DataProblemError, match="correct --pattern"):
        cases.path_of("e", {"task": "02"})
    with pytest.raises(DataProblemError, match="the key 'task' that --pattern names"):
        cases.path_of("e")
    for pattern in ("{case", "{patient}.nii", "one.nii", "{}.nii"):
        with pytest.raises(ValueError, match="--pattern: expected a path with"):
            PredictionFolder(str(tmp_path), ["e"], pattern)


def test_classes_are_distinguished_from_as_many_regions(tmp_path: Path, classes: np.ndarray) -> None:
    three = classes[:3] / classes[:3].sum(0)
    regions = {"one": (1,), "two": (2,), "both": (1, 2)}
    np.savez_compressed(tmp_path / "a.npz", probabilities=three.transpose(0, 3, 2, 1))
    got, _ = read_region_prediction(str(tmp_path / "a.npz"), GRID, regions)
    np.testing.assert_allclose(got, [three[1], three[2], three[1] + three[2]], atol=1e-6)
    own = np.stack([three[1], three[2], three[1] + three[2]])
    path = save_nifti(tmp_path / "b.nii.gz", np.moveaxis(own, 0, -1))
    np.testing.assert_allclose(read_region_prediction(path, GRID, regions)[0], own, atol=1e-6)


def test_indices_of_a_palette_are_no_intensities(tmp_path: Path) -> None:
    """As grey, 1 would be the probability 1 / 255."""
    grid = VoxelGrid("raters", (2, 2), None)
    regions = {"cell": (7,)}
    path = str(tmp_path / "a.png")
    write_palette_picture(path, np.array([[1, 0], [0, 1]]))
    got, is_map = read_region_prediction(path, grid, regions)
    assert not is_map
    assert got[0].tolist() == [[1, 0], [0, 1]]
    write_palette_picture(path, np.array([[255, 0], [0, 255]]))
    assert read_region_prediction(path, grid, regions)[0][0].tolist() == [[1, 0], [0, 1]]
    write_palette_picture(path, np.array([[7, 0], [0, 7]]))
    got, is_map = read_region_prediction(path, grid, regions)
    assert is_map
    assert got[0].tolist() == [[1, 0], [0, 1]]
    write_palette_picture(path, np.array([[7, 3], [0, 7]]))
    with pytest.raises(DataProblemError, match="expected label values of the regions, got the palette's indices 0, 3, 7"):
        read_region_prediction(path, grid, regions)
