"""The image of a case on the voxels of its raters."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from monai_jdt.data.files.grids import VoxelGrid
from monai_jdt.data.problems import DataProblemError
from monai_jdt.report.case_files import load_image
from tests.nifti_files import SFORM, save_nifti

SHAPE = (6, 5, 4)


@pytest.fixture
def every_warning() -> Iterator[None]:
    """torch warns once per process otherwise."""
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(False)


@pytest.mark.parametrize("shape", [(6, 5), (1, 1)])  # a picture that needs no turning is not copied on its way
def test_a_picture_is_read_in_silence(tmp_path: Path, every_warning: None, shape: tuple[int, int]) -> None:
    Image.fromarray(np.full((*shape[::-1], 3), (10, 20, 30), np.uint8)).save(tmp_path / "a.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = load_image([str(tmp_path / "a.png")], VoxelGrid("r.png", shape, None))
    assert image.shape == (3, *shape)
    assert image[:, -1, -1].tolist() == [10, 20, 30]


def test_files_are_channels(tmp_path: Path) -> None:
    paths = [save_nifti(tmp_path / f"{n}.nii.gz", np.full(SHAPE, n, np.float32)) for n in range(3)]
    image = load_image(paths, VoxelGrid("r.nii.gz", SHAPE, SFORM))
    assert image.shape == (3, *SHAPE)
    assert image[:, 0, 0, 0].tolist() == [0, 1, 2]


def test_channels_on_the_axis_that_is_named(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii.gz", np.zeros((2, *SHAPE), np.float32))
    assert load_image([path], VoxelGrid("r.nii.gz", SHAPE, None), 0).shape == (2, *SHAPE)


def test_a_slice_with_its_channels_last(tmp_path: Path) -> None:
    values = np.broadcast_to(np.arange(3, dtype=np.float32), (6, 5, 3))
    image = load_image([save_nifti(tmp_path / "a.nii.gz", values)], VoxelGrid("r.png", (6, 5), None))
    assert image[:, 0, 0].tolist() == [0, 1, 2]


def test_another_place_is_refused(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii.gz", np.zeros(SHAPE, np.float32), SFORM + np.eye(4)[:, [3, 0, 1, 2]])
    with pytest.raises(DataProblemError, match="expected"):
        load_image([path], VoxelGrid("r.nii.gz", SHAPE, SFORM))
