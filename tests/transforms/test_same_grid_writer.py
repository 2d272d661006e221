"""A prediction's file has the array's shape, values and place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import SaveImage

from tests.nifti_files import load_nifti

AFFINE = np.array([[-0.7, 0.1, 0, 20], [0.1, 0.9, 0, -30], [0, 0, 5, 7], [0, 0, 0, 1.0]])


@pytest.mark.parametrize("shape", [(5, 4), (5, 1), (5, 4, 1), (5, 4, 3), (1, 1, 1), (5, 4, 3, 2), (5, 4, 1, 2)])
def test_nothing_of_an_array_is_moved(shape: tuple[int, ...], tmp_path: Path) -> None:
    values = torch.rand(shape)
    save = SaveImage(tmp_path, "", writer="monai_jdt.transforms.SameGridWriter", separate_folder=False, print_log=False)
    save(MetaTensor(values, affine=torch.as_tensor(AFFINE), meta={"filename_or_obj": "a.nii.gz"}))
    file = load_nifti(tmp_path / "a.nii.gz")
    assert file.shape == shape
    assert file.get_data_dtype() == np.float32
    np.testing.assert_array_equal(np.asanyarray(file.dataobj), values.numpy())
    np.testing.assert_allclose(file.affine, AFFINE, atol=1e-6)
