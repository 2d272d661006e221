"""Open a file of voxels of any format. The check of files and their loading both do it here, and so see the same."""

from __future__ import annotations

import os
import threading
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from monai_jdt.data.files.detached_voxels import lost_voxels, voxel_place
from monai_jdt.data.files.file_volume import COPY_AGAIN, FileVolume, one_problem, unreadable
from monai_jdt.data.files.foreground import Foreground, foreground_volume
from monai_jdt.data.files.nifti import open_nifti
from monai_jdt.data.files.voxel_blocks import blocks_of_array, refuse_what_exceeds_memory, stream_blocks
from monai_jdt.data.problems import DataProblem

_NIBABEL = (".nii", ".nii.gz", ".hdr", ".img", ".hdr.gz", ".img.gz", ".mgh", ".mgz")
#: The endings of TIFF pictures, which ITK reads.
TIFF: tuple[str, ...] = (".tif", ".tiff")
_DICOM = (".dcm", ".dicom", ".ima")
_ITK = (".mhd", ".mha", ".nrrd", ".nhdr", ".gipl", ".vtk", *TIFF, *_DICOM)
_HEADERS = (".mhd", ".mha", ".nrrd", ".nhdr")
#: The endings of pictures that are flat, while a TIFF may be a volume. Pillow reads them, as MONAI's PILReader does: ITK makes colours
#: of a palette's label values, and 255 of a bit.
FLAT_PICTURES: tuple[str, ...] = (".png", ".jpg", ".jpeg", ".bmp")
_NUMPY = (".npy", ".npz")
_EXIF_ORIENTATION = 0x0112
# Pillow's limit of pixels is one number for all threads.
_PILLOW_LIMIT = threading.Lock()
# Distances of DICOM slices are equal if they differ by no more than this share of the smallest.
_SLICE_TOLERANCE = 0.05
#: The endings of pictures, which have no place in space: their headers count pixels, not millimetres.
PICTURES: tuple[str, ...] = (*FLAT_PICTURES, *TIFF)
#: The endings of files without a place in space. Such a file fits every other one of its shape.
WITHOUT_PLACE: tuple[str, ...] = (*PICTURES, *_NUMPY)
#: The endings of files that :func:`open_volume` opens. It also opens DICOM files without one, and a folder with one DICOM series.
FORMATS: tuple[str, ...] = (*_NIBABEL, *_ITK, *FLAT_PICTURES, *_NUMPY)


def open_volume(path: str) -> FileVolume:
    """Read the header of a file, and return the volume, whose voxels are read when asked for.

    Args:
        path: the file, or a folder that holds the files of one DICOM series.

    Raises:
        DataProblemError: with one problem, if the file is missing, unreadable, of a format that is not read here, or truncated
            if its size shows it.
    """
    if os.path.isdir(path):
        if not (series := _dicom_series(path)):
            raise one_problem(path, "a file", "a folder", "add it, or correct the path")
        return _opened_as(path, "DICOM", lambda p: _open_itk(p, series))
    if not os.path.isfile(path):
        raise one_problem(path, "a file", "nothing at that path", "add it, or correct the path")
    if os.path.getsize(path) == 0:
        raise one_problem(path, "a file with something in it", "0 bytes", COPY_AGAIN)
    name = path.lower()
    if name.endswith(_NIBABEL):
        return _opened_as(path, "NIfTI" if name.endswith((".nii", ".nii.gz")) else _ending(path), open_nifti)
    if name.endswith(_ITK) or _is_dicom(path):
        return _opened_as(path, _ending(path) or "DICOM", _open_itk)
    if name.endswith(FLAT_PICTURES):
        return _opened_as(path, _ending(path), _open_picture)
    if name.endswith(_NUMPY):
        return _opened_as(path, _ending(path), _open_numpy)
    raise _not_read_here(path)


def can_be_volume(path: str) -> bool:
    """Return whether there is a file at a path, or a folder with DICOM files.

    Args:
        path: the path.
    """
    if not os.path.isdir(path):
        return os.path.isfile(path)
    return any(_is_dicom(entry.path) for entry in os.scandir(path) if entry.is_file())


def label_volume(volume: FileVolume, shape: tuple[int, ...] | None = None, foreground: Foreground | None = None) -> FileVolume:
    """Return the volume of a label map: one value per voxel.

    Grey written as colours (red, green and blue alike, whatever the alpha) is one value.

    Args:
        volume: the file.
        shape: of the image's space, to distinguish channels from space.
        foreground: the value or the colour of what is marked; the volume is then 1 there and 0 elsewhere. None: label values.

    Raises:
        DataProblemError: several channels, without a colour to look for: one-hot channels, colours, layers of a segmentation of 3D
            Slicer.
    """
    path, own = volume.path, volume.shape
    if isinstance(foreground, str):
        return foreground_volume(volume, foreground)
    if foreground is not None:
        return foreground_volume(label_volume(volume, shape), foreground)
    if volume.components in (2, 3, 4) and path.lower().endswith(FLAT_PICTURES):
        grey = _one_band(volume.read())
        if grey is not None:
            return FileVolume(path, grey.shape, None, 0, volume.format, lambda: blocks_of_array(grey), lambda: grey)
    expected = "a label map of one channel"
    if volume.components:
        got = f"{volume.components} numbers per voxel (shape {own})"
        fix = "export label values, not colours or one-hot channels"
        if path.lower().endswith(FLAT_PICTURES):
            fix += ", or name the colour of the mark by `foreground`"
        if path.lower().endswith(".seg.nrrd"):
            got = f"{volume.components} layers of segments that overlap (shape {own})"
            fix = "export it from 3D Slicer as a label map, one value per voxel"
        raise one_problem(path, expected, got, fix)
    # Without an image, axes beyond the third are channels. With one, an axis is of channels if the rest is the shape of its space.
    channels = [axis for axis, n in enumerate(own) if axis >= 3 and n > 1]
    if shape is not None:
        beside = [axis for axis in (len(own) - 1, 0) if own[axis] > 1 and own[:axis] + own[axis + 1 :] == shape]
        channels = beside or (channels if np.prod(own) > np.prod(shape) else [])
    if channels:
        got = f"{own[channels[0]]} channels on axis {channels[0]} (shape {own})"
        raise one_problem(path, expected, got, "export label values, not colours or one-hot channels")
    return volume


def _one_band(colours: np.ndarray) -> np.ndarray | None:
    """Return the grey of a picture with alpha, or with red, green and blue alike, or None for colours and a drawing in the alpha."""
    bands = colours.shape[-1]
    # One colour under an alpha that varies: the drawing is in the alpha, and the grey would be empty.
    if bands in (2, 4) and np.ptp(colours[..., 0]) == 0 and np.ptp(colours[..., -1]) > 0:
        return None
    if bands > 2 and not (np.array_equal(colours[..., 0], colours[..., 1]) and np.array_equal(colours[..., 0], colours[..., 2])):
        return None
    return np.asarray(np.ascontiguousarray(colours[..., 0].T).T)


def _opened_as(path: str, what: str, opening: Callable[[str], FileVolume]) -> FileVolume:
    try:
        return opening(path)
    except Exception as error:  # a damaged header can make the format's library raise anything
        raise unreadable(path, what, error) from error


def _ending(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _not_read_here(path: str) -> Exception:
    inner = path[:-3].lower() if path.lower().endswith(".gz") else ""
    if inner.endswith(".gz"):
        return one_problem(path, "a file that is compressed once", "a name that says twice", f"decompress it once, to {path[:-3]}")
    if inner.endswith(FORMATS):
        return one_problem(path, "a file that is not compressed as a whole", "a .gz file", f"decompress it, to {path[:-3]}")
    ending = os.path.splitext(path)[1]
    got = f"{ending!r}, which was not opened" if ending else "a name without an ending, which was not opened"
    fix = "save it as NIfTI (.nii.gz), or mend its name"
    return one_problem(path, "a format that is read here (NIfTI, DICOM, MetaImage, NRRD, FreeSurfer, NumPy, pictures)", got, fix)


def _is_dicom(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"


def _dicom_series(folder: str) -> tuple[str, ...]:
    """Return the files of the one series of a folder, in the order of its slices. Without DICOM there are none."""
    import SimpleITK

    if not can_be_volume(folder):
        return ()
    found = SimpleITK.ImageSeriesReader.GetGDCMSeriesIDs(folder)
    if len(found) > 1:
        raise one_problem(folder, "one DICOM series in the folder", f"{len(found)} series", "put each series into a folder of its own")
    return tuple(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(folder, found[0])) if found else ()


def _open_itk(path: str, series: tuple[str, ...] = ()) -> FileVolume:
    import SimpleITK

    place = None
    if path.lower().endswith(_HEADERS):
        if (lost := lost_voxels(path)) is not None:
            raise one_problem(
                path, "its voxels in the file that it names", f"nothing at {lost}", f"copy {os.path.basename(lost)} there"
            )
        place = voxel_place(path)
    header = SimpleITK.ImageFileReader()
    header.SetFileName(series[0] if series else path)
    header.ReadImageInformation()
    components = header.GetNumberOfComponents()
    size = tuple(int(n) for n in header.GetSize())
    spacing, origin, direction = header.GetSpacing(), header.GetOrigin(), header.GetDirection()
    warnings: tuple[DataProblem, ...] = ()
    if len(series) > 1:
        size = (*size[:2], len(series))
        distances = _slice_distances(series)
        spacing = (*spacing[:2], float(np.mean(distances)))
        warnings = _uneven_slices(path, series, distances)
    shape = (*size, components) if components > 1 else size
    itemsize = place.dtype.itemsize if place is not None else 2  # bytes; int16, as of DICOM, where the type is not read
    if place is not None and not place.packed and os.path.getsize(place.file) < place.start + int(np.prod(shape)) * itemsize:
        raise EOFError(f"expected {place.start + int(np.prod(shape)) * itemsize} bytes in {place.file}: truncated")

    def whole() -> Any:
        refuse_what_exceeds_memory(f"shape {shape}", int(np.prod(shape)), itemsize)
        return SimpleITK.ReadImage(list(series) if series else path)

    def ordered(array: np.ndarray) -> np.ndarray:
        # SimpleITK's arrays have the slowest axis first, and the components of a voxel last.
        axes = array.ndim - (components > 1)
        return array.transpose(*range(axes - 1, -1, -1), *range(axes, array.ndim))

    def stream() -> Iterator[np.ndarray]:
        if place is not None:
            yield from stream_blocks(place.file, place.packed, 0, place.dtype, shape, place.start)
            return
        for file in series or (path,):
            image = whole() if not series else SimpleITK.ReadImage(file)
            for block in blocks_of_array(ordered(SimpleITK.GetArrayViewFromImage(image))):
                yield block.copy()  # the memory of the view goes with the image

    affine = None if path.lower().endswith(PICTURES) else _ras_affine(spacing, origin, direction)
    kind = "DICOM" if series else _ending(path) or "DICOM"
    load = lambda: ordered(SimpleITK.GetArrayFromImage(whole()))  # noqa: E731
    return FileVolume(path, shape, affine, components if components > 1 else 0, kind, stream, load, warnings)


def _slice_distances(series: tuple[str, ...]) -> np.ndarray:
    """Return the distances of neighbouring slices, `(slices - 1,)`."""
    import SimpleITK

    origins = []
    for file in series:
        header = SimpleITK.ImageFileReader()
        header.SetFileName(file)
        header.ReadImageInformation()
        origins.append(header.GetOrigin())
    return np.asarray(np.linalg.norm(np.diff(origins, axis=0), axis=1))


def _uneven_slices(path: str, series: tuple[str, ...], distances: np.ndarray) -> tuple[DataProblem, ...]:
    least, most = float(distances.min()), float(distances.max())
    if most - least <= _SLICE_TOLERANCE * least:
        return ()
    got = f"{least:.4g} to {most:.4g} mm, the largest after {os.path.basename(series[int(distances.argmax())])}"
    fix = "add the missing files, or resample the series to slices of one distance; it is read as one of the mean distance"
    return (DataProblem(path, "slices at equal distances", got, fix, fatal=False),)


def _open_picture(path: str) -> FileVolume:
    with _picture(path) as image:
        bands = len(image.getbands())
        shape = (*image.size, bands) if bands > 1 else image.size
        # JPEG only: of a PNG the whole file would have to be read
        turned = image.getexif().get(_EXIF_ORIENTATION, 1) if image.format == "JPEG" else 1

    def load() -> np.ndarray:
        refuse_what_exceeds_memory(f"shape {shape}", int(np.prod(shape)), 1)
        with _picture(path) as image:
            return np.moveaxis(np.asarray(image), 0, 1)  # a picture's rows are the second axis

    warnings: tuple[DataProblem, ...] = ()
    if turned in range(2, 9):
        got = f"an EXIF orientation of {turned}, which viewers apply and readers of voxels do not"
        fix = "nothing if the labels have its stored shape and place; else save it upright, by PIL.ImageOps.exif_transpose"
        warnings = (DataProblem(path, "a picture that is stored upright", got, fix, fatal=False),)
    components = bands if bands > 1 else 0
    return FileVolume(path, shape, None, components, _ending(path), lambda: blocks_of_array(load()), load, warnings)


def _picture(path: str) -> Any:
    """Open a picture of any size. Pillow's limit is below whole slides. The free memory is checked before voxels are read."""
    from PIL import Image

    with _PILLOW_LIMIT:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(path)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _open_numpy(path: str) -> FileVolume:
    """Open an array alone, without a place in space, and without a header that distinguishes channels from space."""
    packed = path.lower().endswith(".npz")
    if packed:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if len(names) != 1:
                told = ", ".join(entry.removesuffix(".npy") for entry in names[:5])
                raise one_problem(path, "one array", f"{len(names)} ({told})", "save each array as a file of its own")
            with archive.open(names[0]) as entry:
                shape, _, dtype = _numpy_header(entry)
    else:
        with open(path, "rb") as file:
            shape, _, dtype = _numpy_header(file)
    if dtype.kind not in "iufb":
        raise one_problem(path, "one real number per voxel", str(dtype), "save the voxels as numbers")

    def load() -> np.ndarray:
        refuse_what_exceeds_memory(f"shape {shape}", int(np.prod(shape)), dtype.itemsize)
        if not packed:
            return np.asarray(np.load(path, allow_pickle=False))
        with np.load(path, allow_pickle=False) as file:
            return np.asarray(file[names[0].removesuffix(".npy")])

    def stream() -> Iterator[np.ndarray]:
        yield from blocks_of_array(load() if packed else np.load(path, mmap_mode="r", allow_pickle=False))

    return FileVolume(path, shape, None, 0, _ending(path), stream, load)


def _numpy_header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Return shape, order and type of an array without reading its voxels."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(file)


def _ras_affine(spacing: tuple[float, ...], origin: tuple[float, ...], direction: tuple[float, ...]) -> np.ndarray:
    """Return ITK's geometry, in which x and y grow to the left and back, as an affine of NIfTI's."""
    axes = min(len(spacing), 3)
    affine = np.eye(4)
    turn = np.array(direction).reshape(len(spacing), len(spacing))[:axes, :axes]
    affine[:axes, :axes] = turn * np.array(spacing)[:axes]
    affine[:axes, 3] = origin[:axes]
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
