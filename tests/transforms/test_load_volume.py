"""Images for MONAI: which axis has the channels, where an image lies, and what is no image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from PIL import Image

from monai_jdt.data.problems import DataProblemError
from monai_jdt.transforms import LoadVolume, LoadVolumed
from tests.nifti_files import save_nifti
from tests.transforms.rater_files import AFFINE

VOXELS = np.random.default_rng(0).normal(size=(5, 6, 4, 3)).astype(np.float32)


def loaded(path: Any, **options: Any) -> MetaTensor:
    image = LoadVolume(ensure_channel_first=True, **options)(path)
    assert isinstance(image, MetaTensor)
    return image


def test_a_volume_has_one_channel_and_its_place(tmp_path: Path) -> None:
    image = loaded(save_nifti(tmp_path / "a.nii.gz", VOXELS[..., 0], AFFINE))
    assert image.dtype == torch.float32
    assert torch.equal(image.as_tensor(), torch.from_numpy(VOXELS[None, ..., 0]))
    assert torch.equal(image.affine, torch.from_numpy(AFFINE))
    assert image.meta["spatial_shape"].tolist() == [5, 6, 4]


@pytest.mark.parametrize("shape", [(5, 6, 4, 3), (5, 6, 4, 1, 3)], ids=["last axis", "ITK's vectors"])
def test_channels_are_on_the_last_axis(shape: tuple[int, ...], tmp_path: Path) -> None:
    image = loaded(save_nifti(tmp_path / "a.nii", VOXELS.reshape(shape), AFFINE))
    assert torch.equal(image.as_tensor(), torch.from_numpy(VOXELS).movedim(-1, 0))
    assert image.meta["spatial_shape"].tolist() == [5, 6, 4]


def test_several_files_are_the_channels_of_one_image(tmp_path: Path) -> None:
    paths = [save_nifti(tmp_path / f"{c}.nii", VOXELS[..., c], AFFINE) for c in (2, 0)]
    image = loaded(paths)
    assert torch.equal(image.as_tensor(), torch.from_numpy(VOXELS[..., [2, 0]]).movedim(-1, 0))
    assert torch.equal(image.affine, torch.from_numpy(AFFINE))


def test_the_channels_may_be_said_to_be_elsewhere(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii", VOXELS[..., 0], AFFINE)
    slices = loaded(path, channel_dim=-1)
    assert torch.equal(slices.as_tensor(), torch.from_numpy(VOXELS[..., 0]).movedim(-1, 0))
    assert slices.meta["spatial_shape"].tolist() == [5, 6]
    whole = loaded(save_nifti(tmp_path / "b.nii", VOXELS, AFFINE), channel_dim="no_channel")
    assert whole.shape == (1, 5, 6, 4, 3)


def test_a_picture_in_colours_has_three_channels_and_no_place(tmp_path: Path) -> None:
    colours = np.random.default_rng(1).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    Image.fromarray(colours).save(tmp_path / "a.png")
    image = loaded(tmp_path / "a.png", dtype=np.uint8)
    # x first: 5 columns, 6 rows
    assert torch.equal(image.as_tensor(), torch.from_numpy(colours).permute(2, 1, 0))
    assert torch.equal(image.affine, torch.eye(4, dtype=torch.float64))


def test_an_item_keeps_what_it_does_not_load(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii", VOXELS[..., 0], AFFINE)
    load = LoadVolumed(["image", "probability"], ensure_channel_first=True, allow_missing_keys=True)
    item = load({"case": "a", "image": path})
    assert item["image"].shape == (1, 5, 6, 4)
    assert item["case"] == "a"
    assert set(item) == {"case", "image"}
    with pytest.raises(KeyError):
        LoadVolumed(["image", "probability"])({"image": path})


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    whole = Path(save_nifti(tmp_path / "a.nii", VOXELS[..., 0], AFFINE))
    (tmp_path / "cut.nii").write_bytes(whole.read_bytes()[:-9])
    # no other reader is asked, which would give up with a text of its own
    for name, words in (("cut.nii", "a readable NIfTI file, got .*truncated"), ("none.nii", "a file, got nothing at that path")):
        with pytest.raises(DataProblemError, match=f"{name}: expected {words}"):
            LoadVolume()(str(tmp_path / name))
