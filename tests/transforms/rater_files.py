"""Label maps of raters as NIfTI files."""

import numpy as np

from tests.nifti_files import save_nifti

AFFINE = np.array([[-1.5, 0, 0, 10], [0, 2.0, 0, -7], [0, 0, 3.0, 4], [0, 0, 0, 1]])


def write(path, values, affine=AFFINE, dtype=np.uint8):
    save_nifti(path, np.asarray(values).astype(dtype), affine)
    return str(path)
