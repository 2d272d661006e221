"""NIfTI, Analyze and MGH files, and the one rule for the place of a NIfTI file's voxels."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from monai_jdt.data.files.file_volume import FileVolume, one_problem
from monai_jdt.data.files.grids import AFFINE_TOLERANCE, in_mm, voxel_edges, worst_corner
from monai_jdt.data.files.voxel_blocks import GZIP_MAGIC, ByteStream, refuse_what_exceeds_memory, stream_blocks, whole_array
from monai_jdt.data.problems import DataProblem

_HEAD = 544  # bytes that hold the header of NIfTI-1 (348), NIfTI-2 (540) or MGH
_MM = {"meter": 1000.0, "micron": 0.001}  # mm per unit
_QUIET = logging.getLogger("monai_jdt.nifti_header")
_QUIET.setLevel(logging.CRITICAL + 1)  # nibabel logs what it mends in a header. What matters of it is a DataProblem

_PARTNER = {".hdr": ".img", ".img": ".hdr"}


def open_nifti(path: str) -> FileVolume:
    """Read the header of a NIfTI-1 or NIfTI-2 file (`.nii`, `.nii.gz`), a pair (`.hdr`, `.img`) or FreeSurfer's `.mgh`, `.mgz`.

    The affine is, with the header's lengths converted to mm if they are metres or microns,

    * the sform, if its code is not 0;
    * else the qform, if its code is not 0;
    * else the voxel sizes `pixdim` about the centre of the volume, as nibabel does.

    If the sform is used, and the qform (or `pixdim`, if there is no qform) puts a corner of the volume elsewhere, a warning names both.

    Args:
        path: the file, or either file of a pair.

    Raises:
        DataProblemError: a name that does not fit the content (`.gz`), a pair that lacks one file, an affine that cannot be inverted.
        Exception: what nibabel raises for a damaged header.
    """
    name = path.lower()
    packed = name.endswith((".gz", ".mgz"))
    if name.removesuffix(".gz").endswith((".hdr", ".img")):
        return _open_pair(path)
    _refuse_other_packing(path, packed)
    with ByteStream(path, packed) as stream:
        head = stream.read_all(_HEAD)
    if packed and head.startswith(GZIP_MAGIC):
        raise one_problem(path, "a file that is compressed once", "a gzip file within a gzip file", "decompress it once, by gunzip")
    if name.endswith((".mgh", ".mgz")):
        return _mgh_volume(path, packed, head)
    return _nifti_volume(path, path, packed, head)


def _refuse_other_packing(path: str, packed: bool) -> None:
    """Refuse a plain file with the name of a compressed one, or the reverse, with the right name as the fix."""
    with open(path, "rb") as file:
        head = file.read(_HEAD)
    if head.startswith(GZIP_MAGIC) == packed:
        return
    if not packed:
        better = path[:-1] + "z" if path.lower().endswith(".mgh") else path + ".gz"
        raise one_problem(path, "a plain file, as its name says", "a gzip file", f"rename it to {better}")
    if _header_size(head) or path.lower().endswith(".mgz"):
        better = path[:-1] + "h" if path.lower().endswith(".mgz") else path[:-3]
        raise one_problem(path, "a gzip file, as its name says", "a plain file", f"rename it to {better}")
    # Renaming would not help: the file is damaged, and the line about damaged files gives the reason.
    raise ValueError("neither a gzip file nor NIfTI")


def _header_size(head: bytes) -> int:
    """Return 348 for NIfTI-1 and Analyze, 540 for NIfTI-2, 0 for anything else."""
    return next((size for size in (348, 540) for order in ("little", "big") if head[:4] == size.to_bytes(4, order)), 0)


def _open_pair(path: str) -> FileVolume:
    stem, ending = os.path.splitext(path)
    zipped = ending if ending.lower() == ".gz" else ""
    stem, ending = os.path.splitext(stem) if zipped else (stem, ending)
    other = _PARTNER[ending.lower()]  # compressed if this file is: the two are packed alike
    partner = next((p for p in (stem + e + zipped for e in (other, other.upper())) if os.path.isfile(p)), None)
    if partner is None:
        fix = "put it there, or list the other file of the pair" if zipped else "copy it there"
        raise one_problem(path, f"its {other} file beside it", f"nothing at {stem}{other}{zipped}", fix)
    header, voxels = (path, partner) if ending.lower() == ".hdr" else (partner, path)
    for file in (header, voxels):
        _refuse_other_packing_of_pair(file)
    with ByteStream(header, bool(zipped)) as stream:
        head = stream.read_all(_HEAD)
    # The magic of NIfTI-1 is at byte 344, where Analyze has a number. NIfTI-2 has a header of its own length.
    if head[344:348] in (b"ni1\0", b"n+1\0") or _header_size(head) == 540:
        return _nifti_volume(path, voxels, bool(zipped), head)
    return _analyze_volume(path, voxels, bool(zipped))


def _refuse_other_packing_of_pair(path: str) -> None:
    with open(path, "rb") as file:
        gzipped = file.read(2) == GZIP_MAGIC
    if gzipped != path.lower().endswith(".gz"):
        got, better = ("a gzip file", path + ".gz") if gzipped else ("a plain file", path[:-3])
        raise one_problem(path, "the packing that its name tells", got, f"rename it to {better}")


def _volume(
    path: str,
    voxels: str,
    packed: bool,
    offset: int,
    dtype: np.dtype,
    shape: tuple[int, ...],
    scale: tuple[float, float] | None,
    **more: Any,
) -> FileVolume:
    """Return the volume whose voxels are read from a file of plain numbers in Fortran order."""
    if dtype.kind not in "iufb":
        got = "colours" if dtype.kind == "V" else str(dtype)
        raise one_problem(path, "one real number per voxel", got, "save each part as a channel of its own")
    # Of a compressed file the size on disk tells nothing: it is found truncated when its voxels are read.
    if not packed and os.path.getsize(voxels) < (need := offset + int(np.prod(shape)) * dtype.itemsize):
        raise EOFError(f"expected {need} bytes: truncated")
    scaled = partial(_scaled, scale=scale)

    def load() -> np.ndarray:
        refuse_what_exceeds_memory(f"shape {shape}", int(np.prod(shape)), dtype.itemsize if scale is None else dtype.itemsize + 8)
        return scaled(whole_array(voxels, packed, offset, dtype, shape))

    def stream() -> Iterator[np.ndarray]:
        return map(scaled, stream_blocks(voxels, packed, offset, dtype, shape))

    return FileVolume(path, shape, components=0, stream=stream, load=load, **more)


def _scaled(raw: np.ndarray, scale: tuple[float, float] | None) -> np.ndarray:
    from nibabel.volumeutils import apply_read_scaling

    return raw if scale is None else np.asarray(apply_read_scaling(raw, *scale))


def _nifti_volume(path: str, voxels: str, packed: bool, head: bytes) -> FileVolume:
    import nibabel

    two = _header_size(head) == 540
    if not two and head[344:348] not in (b"n+1\0", b"ni1\0"):
        raise ValueError("no NIfTI header")
    kind = nibabel.nifti2.Nifti2PairHeader if two else nibabel.nifti1.Nifti1PairHeader
    header = kind.from_fileobj(io.BytesIO(head), check=False)
    sizes = np.array(header["pixdim"][1:4], dtype=np.float64)  # as they are in the file: check_fix changes them
    header.check_fix(logger=_QUIET, error_level=40)
    shape = tuple(int(n) for n in header.get_data_shape())
    if not shape:
        raise ValueError("no axis in its header")
    affine, warnings = _nifti_place(path, header, sizes, shape)
    slope, inter = header.get_slope_inter()
    # A slope of 0 or NaN means "not scaled" in NIfTI, which nibabel gives as None.
    plain = slope is None or (slope == 1 and not inter)
    scale = None if plain else (float(slope), float(inter or 0))
    offset = int(header["vox_offset"])
    if bytes(header["magic"].item())[:2] == b"n+":
        # Header and voxels in one file. Some writers leave vox_offset at 0, which would read the header as voxels.
        offset = max(offset, 544 if two else 352)
    more = {"affine": affine, "warnings": warnings, "format": "NIfTI"}
    return _volume(path, voxels, packed, offset, header.get_data_dtype(), shape, scale, **more)


def _nifti_place(path: str, header: Any, sizes: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, tuple[DataProblem, ...]]:
    """Return the affine of a NIfTI header, by the rule of :func:`open_nifti`, and warnings."""
    warnings: list[DataProblem] = []
    unit = _unit(header)
    scale = np.diag([_MM.get(unit, 1.0)] * 3 + [1.0])
    sform, qform = header.get_sform(coded=True)[0], _qform(header)
    # Along an axis of one voxel no size is needed: 2D files may have 0 there.
    axes = [axis for axis, n in enumerate(shape[:3]) if n > 1]
    if sform is not None:
        name, affine = "sform", scale @ sform
    elif int(header["qform_code"]):
        if qform is None:
            raise one_problem(path, "a qform that is a rotation", "other numbers, and no sform", "set the sform of its header")
        name, affine = "qform", scale @ qform
    else:
        name, affine = "pixdim", scale @ header.get_base_affine()
    if name != "sform" and not (np.isfinite(sizes).all() and (sizes[axes] != 0).all()):
        got = f"pixdim {sizes.round(6).tolist()}, and no sform"
        raise one_problem(path, "voxels with a size", got, "set the voxel sizes of its header")
    # Columns of length 1, so that one tolerance fits voxels of any size.
    columns = affine[:3, axes]
    edges = np.linalg.norm(columns, axis=0)
    if not np.isfinite(affine).all() or (edges == 0).any() or np.linalg.matrix_rank(columns / edges, tol=1e-6) < len(axes):
        got = f"{affine[:3].round(4).tolist()}; {_other_place(header, qform, scale, sizes)}"
        raise one_problem(path, "a sform that can be inverted", got, "set the sform of its header to the place of the voxels")
    if unit in _MM:
        got = f"{'metres' if unit == 'meter' else 'microns'}, which are taken as {in_mm(voxel_edges(affine))}"
        fix = "nothing if the voxels are of that size, else correct the unit"
        warnings.append(DataProblem(path, "a header in mm", got, fix, fatal=False))
    if name == "sform" and _disagree(affine, header, qform, scale, sizes, shape):
        used = f"the sform (code {int(header['sform_code'])}) says {_as_text(affine)}, but {_other_place(header, qform, scale, sizes)}"
        fix = "nothing if the sform is right, which is used here and in every result; else set both transforms to the right one"
        warnings.append(DataProblem(path, "one place in its header", used, fix, fatal=False))
    return affine, tuple(warnings)


def _unit(header: Any) -> str:
    try:
        return str(header.get_xyzt_units()[0])
    except KeyError:
        return "unknown"


def _qform(header: Any) -> np.ndarray | None:
    """Return the qform, whatever its code, or None if its numbers are no rotation."""
    try:
        return np.asarray(header.get_qform(coded=False))
    except ValueError:  # a quaternion that is longer than 1
        return None


def _disagree(
    affine: np.ndarray, header: Any, qform: np.ndarray | None, scale: np.ndarray, sizes: np.ndarray, shape: tuple[int, ...]
) -> bool:
    """Return whether the qform (or `pixdim`, if there is no qform) moves a corner by more than the tolerance between files."""
    edges = voxel_edges(affine)
    allowed = AFFINE_TOLERANCE * float(edges[[axis for axis, n in enumerate(shape[:3]) if n > 1]].min(initial=np.inf))
    if int(header["qform_code"]):
        return qform is None or worst_corner(shape, affine - scale @ qform) > allowed
    steps = np.array([*shape[:3], 1, 1, 1][:3]) - 1
    return not bool(np.all(np.abs(scale[0, 0] * np.abs(sizes) - edges) * steps <= allowed))


def _other_place(header: Any, qform: np.ndarray | None, scale: np.ndarray, sizes: np.ndarray) -> str:
    """Return as text what the qform says, or `pixdim` if there is no qform, beside the sform."""
    code = int(header["qform_code"])
    if code and qform is not None:
        return f"the qform (code {code}) says {_as_text(scale @ qform)}"
    rest = "the numbers of the qform are no rotation" if code else "the qform has code 0"
    return f"pixdim says voxels of {in_mm(scale[0, 0] * sizes)} ({rest})"


def _as_text(affine: np.ndarray) -> str:
    return f"voxels of {in_mm(voxel_edges(affine))}, origin {affine[:3, 3].round(3).tolist()}"


def _mgh_volume(path: str, packed: bool, head: bytes) -> FileVolume:
    from nibabel.freesurfer.mghformat import MGHHeader

    header = MGHHeader.from_fileobj(io.BytesIO(head))
    shape = tuple(int(n) for n in header.get_data_shape())
    affine = np.asarray(header.get_affine(), dtype=np.float64)
    offset, dtype = int(header.get_data_offset()), header.get_data_dtype()
    return _volume(path, path, packed, offset, dtype, shape, None, affine=affine, format="FreeSurfer")


def _analyze_volume(path: str, voxels: str, packed: bool) -> FileVolume:
    import nibabel

    image: Any = nibabel.load(path)
    proxy: Any = image.dataobj
    shape = tuple(int(n) for n in proxy.shape)
    scale = None if proxy.slope == 1 and proxy.inter == 0 else (float(proxy.slope), float(proxy.inter))
    more = {"affine": np.asarray(image.affine), "format": "Analyze"}
    return _volume(path, voxels, packed, int(proxy.offset), proxy.dtype, shape, scale, **more)
