"""Samples as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_jdt.transforms import SaveSamples, SaveSamplesd
from tests.nifti_files import load_nifti

AFFINE = torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0], dtype=torch.float64))


def samples_of(*shape: int, name: str = "/data/p1/image.nii.gz") -> MetaTensor:
    values = torch.rand(shape, generator=torch.Generator().manual_seed(0)) > 0.5
    return MetaTensor(values, affine=AFFINE, meta={"filename_or_obj": name})


def test_one_file_per_sample_on_the_grid_of_the_image(tmp_path: Path) -> None:
    samples = samples_of(3, 1, 4, 5, 6)
    paths = SaveSamples(tmp_path)(samples)
    assert [Path(path).name for path in paths] == [f"image_sample_{m}.nii.gz" for m in range(3)]
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(Path(path).name for path in paths)  # and no draft
    for path, sample in zip(paths, samples, strict=True):
        file = load_nifti(path)
        assert file.get_data_dtype() == np.uint8
        assert np.array_equal(np.asarray(file.dataobj), sample[0].numpy())
        assert np.array_equal(file.affine, AFFINE.numpy())


def test_classes_become_one_map_and_regions_a_last_axis(tmp_path: Path) -> None:
    indices = torch.tensor([[0, 1, 2], [2, 2, 0]])
    onehot = MetaTensor(
        torch.nn.functional.one_hot(indices, 3).movedim(-1, 1)[..., None], meta={"filename_or_obj": "image"}, affine=AFFINE
    )
    first, second = SaveSamples(tmp_path, "classes", ".nii", softmax=True)(onehot)
    assert np.asarray(load_nifti(first).dataobj).squeeze().tolist() == [0, 1, 2]
    assert np.asarray(load_nifti(second).dataobj).squeeze().tolist() == [2, 2, 0]
    samples = samples_of(1, 2, 4, 5, 6)
    (path,) = SaveSamples(tmp_path)(samples)
    assert np.array_equal(np.asarray(load_nifti(path).dataobj), samples[0].movedim(0, -1).numpy())


def test_flat_images_stay_flat_and_folders_are_kept(tmp_path: Path) -> None:
    save = SaveSamplesd("samples", tmp_path, separate_folder=True, data_root_dir="/data")
    save({"samples": samples_of(1, 1, 4, 5)})
    assert load_nifti(tmp_path / "p1" / "image" / "image_sample_0.nii.gz").shape == (4, 5)


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    save = SaveSamples(tmp_path / "out")
    with pytest.raises(TypeError, match="samples: expected a MetaTensor"):
        save(torch.ones(1, 1, 4))
    with pytest.raises(ValueError, match=r"samples: expected the image's file in meta\['filename_or_obj'\], got none"):
        save(MetaTensor(torch.ones(1, 1, 4)))
    with pytest.raises(ValueError, match=r"samples: expected samples \(M, C, \*S\), got shape \(1, 4\)"):
        save(samples_of(1, 4))
    with pytest.raises(ValueError, match=r"output_ext: expected one of '\.nii\.gz', '\.nii', got '\.png'"):
        SaveSamples(tmp_path, output_ext=".png")
    with pytest.raises(ValueError, match="keys: expected one key"):
        SaveSamplesd(["a", "b"], tmp_path)
    assert not (tmp_path / "out").exists()
