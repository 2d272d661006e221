"""One file of voxels, whatever its format: NIfTI by nibabel; MetaImage, NRRD and TIFF by SimpleITK; other pictures by Pillow."""

from __future__ import annotations

import gzip
import os
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from monai_jdt.data.problems import DataProblem, DataProblemError

_NIFTI = (".nii", ".nii.gz")
_ITK = (".mhd", ".mha", ".nrrd", ".nhdr", ".tif", ".tiff")
# As MONAI's PILReader reads them: ITK makes colours of a palette's label values, and 255 of a bit.
_PILLOW = (".png", ".jpg", ".jpeg", ".bmp")
#: Pictures have no place in space: their headers tell pixels, not millimetres.
PICTURES: tuple[str, ...] = (*_PILLOW, ".tif", ".tiff")
_AGAIN = "copy it again from where it came"


@dataclass(frozen=True)
class FileVolume:
    """What a file holds.

    Args:
        path: the file.
        shape: voxels along each axis; several components of a voxel stand on a last axis.
        affine: `(4, 4)`, voxels to mm in NIfTI's orientation (RAS+); None where the format has none.
        values: the voxels with the header's scaling applied; None if only the header was read.
        components: how many numbers a voxel has on a last axis of their own; 0: there is no such axis. NIfTI's fourth axis
            is not told from space.
    """

    path: str
    shape: tuple[int, ...]
    affine: np.ndarray | None
    values: np.ndarray | None
    components: int = 0


def open_volume(path: str, full: bool = True) -> FileVolume | None:
    """Read a file through to its last byte, or its header only.

    Args:
        path: the file.
        full: False reads the header; a truncated file is noticed then only if it is a plain NIfTI.

    Returns:
        The volume; None for a format that is not known here (nothing is said about such a file).

    Raises:
        DataProblemError: with one problem, if the file is missing, truncated or unreadable.
    """
    if not os.path.isfile(path):
        got = "a folder" if os.path.isdir(path) else "nothing at that path"
        raise DataProblemError([DataProblem(path, "a file", got, "add it, or correct the path")])
    if os.path.getsize(path) == 0:
        raise DataProblemError([DataProblem(path, "a file with something in it", "0 bytes", _AGAIN)])
    name = path.lower()
    if name.endswith(_NIFTI):
        return _open_nifti(path, full)
    if name.endswith(_ITK):
        return _open_itk(path, full, picture=name.endswith(PICTURES))
    if name.endswith(_PILLOW):
        return _open_picture(path, full)
    return None


def _open_nifti(path: str, full: bool) -> FileVolume:
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    try:
        if not full:
            header = nibabel.load(path)
            if not isinstance(header, nibabel.Nifti1Image):  # NIfTI-2 is a subclass
                raise ImageFileError(f"it is a {type(header).__name__}")
            shape = tuple(int(n) for n in header.shape)
            _refuse_records(path, header.get_data_dtype())
            proxy: Any = header.dataobj
            need = proxy.offset + int(np.prod(shape)) * header.get_data_dtype().itemsize
            if path.lower().endswith(".nii") and os.path.getsize(path) < need:
                raise ImageFileError(f"expected {need} bytes: truncated")
            return FileVolume(path, shape, header.affine, None)
        # Through to the last byte, which nibabel does not do: the checksum of a gzip file stands at its end.
        with open(path, "rb") as file:
            content = file.read()
        if path.lower().endswith(".gz"):
            content = gzip.decompress(content)
        kind = nibabel.Nifti2Image if content[:4] in (b"\x1c\x02\x00\x00", b"\x00\x00\x02\x1c") else nibabel.Nifti1Image
        volume = kind.from_bytes(content)
        _refuse_records(path, volume.get_data_dtype())
        values = np.asanyarray(volume.dataobj)  # raises where voxels are missing
        return FileVolume(path, tuple(int(n) for n in values.shape), volume.affine, values)
    except EOFError as error:
        problem = DataProblem(path, "a whole gzip file", "one that ends early (truncated)", _AGAIN)
        raise DataProblemError([problem]) from error
    except DataProblemError:
        raise
    except (ImageFileError, HeaderDataError, WrapStructError, OSError, ValueError, zlib.error, MemoryError) as error:
        raise _unreadable(path, "NIfTI", error) from error


def _open_itk(path: str, full: bool, picture: bool) -> FileVolume:
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(path)
    try:
        if full:
            image = reader.Execute()
            # numpy has the slowest axis first, and components of a voxel last
            array = SimpleITK.GetArrayFromImage(image)
            axes = image.GetDimension()
            values = array.transpose(*range(axes - 1, -1, -1), *range(axes, array.ndim))
            shape, components = tuple(values.shape), image.GetNumberOfComponentsPerPixel()
        else:
            reader.ReadImageInformation()
            values, image, components = None, reader, reader.GetNumberOfComponents()
            shape = tuple(int(n) for n in reader.GetSize()) + ((components,) if components > 1 else ())
    except (RuntimeError, MemoryError, ValueError) as error:
        raise _unreadable(path, os.path.splitext(path)[1].lower(), error) from error
    affine = None if picture else _ras_affine(image.GetSpacing(), image.GetOrigin(), image.GetDirection())
    return FileVolume(path, shape, affine, values, components if components > 1 else 0)


def _open_picture(path: str, full: bool) -> FileVolume:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            bands = len(image.getbands())
            shape = (*image.size, bands) if bands > 1 else image.size
            values = np.moveaxis(np.asarray(image), 0, 1) if full else None  # a picture's rows are the second axis
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, MemoryError) as error:
        raise _unreadable(path, os.path.splitext(path)[1].lower(), error) from error
    return FileVolume(path, shape, None, values, bands if bands > 1 else 0)


def _refuse_records(path: str, dtype: np.dtype) -> None:
    """Colours and complex numbers: legal in NIfTI, but nothing that a pipeline can load."""
    if dtype.kind not in "iufb":
        got = "colours" if dtype.kind == "V" else str(dtype)
        raise DataProblemError([DataProblem(path, "one real number a voxel", got, "save each part as a channel of its own")])


def _ras_affine(spacing: tuple[float, ...], origin: tuple[float, ...], direction: tuple[float, ...]) -> np.ndarray:
    """ITK's geometry, in which x and y grow to the left and back, as NIfTI's."""
    axes = min(len(spacing), 3)
    affine = np.eye(4)
    turn = np.array(direction).reshape(len(spacing), len(spacing))[:axes, :axes]
    affine[:axes, :axes] = turn * np.array(spacing)[:axes]
    affine[:axes, 3] = origin[:axes]
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def how_to_mend(path: str, otherwise: str = _AGAIN) -> str:
    """What to do about a file that cannot be read.

    Args:
        path: the file.
        otherwise: the advice where the name does not tell.
    """
    ending = os.path.splitext(path)[1]
    if ending != ending.lower() and ending.lower() in (".mhd", ".mha"):
        return f"name it {ending.lower()}, as ITK wants it, or mend it"
    return otherwise


def _unreadable(path: str, what: str, error: Exception) -> DataProblemError:
    text = str(error)
    if "ITK ERROR: " in text:
        text = text.split("ITK ERROR: ", 1)[1]
    reason = " ".join(text.split()) or type(error).__name__
    got = f"{os.path.getsize(path)} bytes ({reason})"
    return DataProblemError([DataProblem(path, f"a readable {what} file", got, how_to_mend(path))])
