"""Files of an evaluator's items: in place, under safe names, and only when the run is over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.transforms import Flip, Lambda, Spacing, SpatialPad
from PIL import Image

from monai_jdt.handlers import CaseVolumeWriter
from tests.nifti_files import load_nifti

PLACE = torch.tensor([[0.0, 2, 0, 5], [3, 0, 0, 6], [0, 0, 4, 7], [0, 0, 0, 1]])


def engine_of(items: list[dict[str, Any]]) -> Engine:
    """An evaluator whose iterations give these items, one each; an item that is an error is raised."""

    def step(engine: Engine, item: Any) -> list[dict[str, Any]]:
        if isinstance(item["prob"], BaseException):
            raise item["prob"]
        engine.state.batch = [{"case": item["case"]}]  # type: ignore[assignment]
        return [{"prob": item["prob"]}]

    return Engine(step)


def run(items: list[dict[str, Any]], folder: Path, **options: Any) -> None:
    engine = engine_of(items)
    CaseVolumeWriter(folder, "prob", **options).attach(engine)
    engine.run(items)


@pytest.mark.parametrize(
    ("shape", "space", "expected"),
    [
        ((1, 2, 3, 4), (2, 3, 4), (2, 3, 4)),
        ((2, 2, 3, 4), (2, 3, 4), (2, 3, 4, 2)),
        ((1, 2, 3), (2, 3, 1), (2, 3, 1)),
        ((2, 2, 3), (2, 3, 1), (2, 3, 1, 2)),
        ((1, 2, 3), (9, 9), (2, 3)),
    ],
)
def test_voxels_lie_where_the_images_do(tmp_path: Path, shape: Any, space: Any, expected: Any) -> None:
    values = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    moved = MetaTensor(values, affine=torch.eye(4), meta={"spatial_shape": np.array(space), "original_affine": PLACE.numpy()})
    run([{"case": "site1/case3", "prob": moved}], tmp_path)
    file = load_nifti(tmp_path / "site1" / "case3.nii.gz")
    assert file.shape == expected
    assert file.get_data_dtype() == np.float32
    np.testing.assert_array_equal(file.affine, PLACE)
    for channel, plane in enumerate(values.numpy()):
        stored = np.asarray(file.dataobj)[..., channel] if shape[0] > 1 else np.asarray(file.dataobj)
        np.testing.assert_array_equal(stored.reshape(plane.shape), plane)
    assert [path.name for path in tmp_path.rglob(".*")] == []


@pytest.mark.parametrize("transform", [Flip(0), Spacing((1.5, 1.5, 2.0)), SpatialPad((8, 8, 8)), None], ids=lambda t: type(t).__name__)
def test_a_transform_that_was_not_inverted_moves_the_voxels(tmp_path: Path, transform: Any) -> None:
    affine = PLACE.double().numpy()
    image = MetaTensor(
        torch.rand(1, 5, 6, 4), affine=PLACE.double(), meta={"spatial_shape": np.array([5, 6, 4]), "original_affine": affine}
    )
    # a function is recorded as applied, too, and moves nothing
    moved: Any = Lambda(lambda voxels: voxels * 2)(image) if transform is None else transform(image)
    assert moved.applied_operations
    run([{"case": "moved", "prob": moved}], tmp_path)
    file = load_nifti(tmp_path / "moved.nii.gz")
    np.testing.assert_allclose(file.affine, moved.affine, atol=1e-5)
    np.testing.assert_array_equal(np.asarray(file.dataobj), moved[0])
    if transform is not None:
        run([{"case": "back", "prob": transform.inverse(moved)}], tmp_path)
        np.testing.assert_allclose(load_nifti(tmp_path / "back.nii.gz").affine, affine, atol=1e-5)


def test_names_stay_in_the_folder(tmp_path: Path) -> None:
    run([{"case": name, "prob": torch.ones(1, 2, 2)} for name in ("../../x", "/y", "..")], tmp_path / "a" / "b" / "c", dtype=np.uint8)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 3
    assert all(tmp_path / "a" / "b" / "c" in path.parents for path in files)
    assert load_nifti(files[0]).get_data_dtype() == np.uint8


def test_a_picture_has_its_rows_on_the_second_axis(tmp_path: Path) -> None:
    mask = torch.tensor([[[0.0, 1, 1], [1, 0, 0]]])
    run([{"case": "p", "prob": mask}], tmp_path, ending=".png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "p.png")), [[0, 255], [255, 0], [255, 0]])
    with pytest.raises(ValueError, match="ending: expected one channel of a flat image"):
        run([{"case": "p", "prob": torch.zeros(1, 2, 2, 2)}], tmp_path, ending=".png")
    with pytest.raises(ValueError, match="ending: expected"):
        CaseVolumeWriter(tmp_path, "prob", ending=".jpg")


def test_a_run_that_is_killed_leaves_the_files_of_the_run_before(tmp_path: Path) -> None:
    def both(value: float, last: Any) -> list[dict[str, Any]]:
        return [{"case": "a", "prob": torch.full((1, 2, 2), value)}, {"case": "b", "prob": last}]

    run(both(0.25, torch.zeros(1, 2, 2)), tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run(both(0.5, KeyboardInterrupt()), tmp_path)
    assert float(load_nifti(tmp_path / "a.nii.gz").get_fdata().max()) == 0.25
    # the next run clears what the killed one left
    (tmp_path / ".unfinished" / "old.nii.gz").touch()
    run(both(0.75, torch.ones(1, 2, 2)), tmp_path)
    assert float(load_nifti(tmp_path / "a.nii.gz").get_fdata().max()) == 0.75
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nii.gz", "b.nii.gz"]


def test_two_cases_of_one_name_are_refused(tmp_path: Path) -> None:
    items: list[dict[str, Any]] = [{"case": "001", "prob": torch.ones(1, 2, 2)}, {"case": "001", "prob": torch.zeros(1, 2, 2)}]
    with pytest.raises(ValueError, match="case: expected cases whose names differ, got '001' twice"):
        run(items, tmp_path)
    assert not list(tmp_path.glob("*.nii.gz"))


def test_whole_numbers_of_a_picture_are_label_values(tmp_path: Path) -> None:
    run([{"case": "p", "prob": torch.tensor([[[0, 1, 4], [2, 0, 0]]], dtype=torch.uint8)}], tmp_path, ending=".png")
    picture = Image.open(tmp_path / "p.png")
    assert picture.mode == "P"
    np.testing.assert_array_equal(np.asarray(picture), [[0, 2], [1, 0], [4, 0]])
