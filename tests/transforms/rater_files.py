"""Label maps of raters as NIfTI files."""

from pathlib import Path

import numpy as np

from tests.nifti_files import save_nifti

AFFINE = np.array([[-1.5, 0, 0, 10], [0, 2.0, 0, -7], [0, 0, 3.0, 4], [0, 0, 0, 1]])


def write(path: Path, values: np.ndarray, affine: np.ndarray = AFFINE, dtype: type[np.float32 | np.int16 | np.uint8] = np.uint8) -> str:
    save_nifti(path, np.asarray(values).astype(dtype), affine)
    return str(path)
