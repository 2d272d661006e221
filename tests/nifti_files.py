"""NIfTI files: plain ones, and ones with headers that no library would write."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

#: 2 mm voxels, x to the left.
SFORM = np.array([[-2.0, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]])


def save_nifti(path: Path | str, voxels: np.ndarray, affine: np.ndarray | None = SFORM) -> str:
    """Write voxels by nibabel; the folder is made. Return the path as text."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(voxels, affine), path)
    return str(path)


def load_nifti(path: Path | str) -> nibabel.Nifti1Image:
    """Read a file by nibabel. NIfTI-2 is a kind of it."""
    image = nibabel.load(path)
    assert isinstance(image, nibabel.Nifti1Image)
    return image


def write_nifti(path: Path | str, voxels: np.ndarray, sform: np.ndarray | None = SFORM, version: int = 1, **fields: Any) -> str:
    """Write voxels under a header with these fields as they are; the sform has code 2, a qform 1 unless told otherwise, none 0."""
    header = nibabel.Nifti2Header() if version == 2 else nibabel.Nifti1Header()
    header.set_data_shape(voxels.shape)
    header.set_data_dtype(voxels.dtype)
    if sform is not None:
        for row, name in enumerate(("srow_x", "srow_y", "srow_z")):
            header[name] = sform[row]
        header["sform_code"] = 2
    pixdim = fields.pop("pixdim", None)
    if pixdim is None and sform is not None and "qform" not in fields:
        pixdim = np.linalg.norm(sform[:3, :3], axis=0)
    if "qform" in fields:
        header.set_qform(fields.pop("qform"), fields.pop("qform_code", 1))
    if pixdim is not None:
        header["pixdim"][1:4] = pixdim
    for name, value in fields.items():
        header[name] = value
    header["vox_offset"] = len(header.binaryblock) + 4
    content = header.binaryblock + bytes(4) + voxels.tobytes(order="F")
    Path(path).write_bytes(gzip.compress(content, mtime=0) if str(path).endswith(".gz") else content)
    return str(path)
