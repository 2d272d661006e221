"""The place of the voxels of a MetaImage or NRRD file: ITK would read them all at once, and does not name a missing file."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

_META_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_NRRD_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
# Bytes that are read of a file to find its header.
_HEADER = 1 << 16


@dataclass(frozen=True)
class VoxelPlace:
    """The place of the voxels of a header.

    Args:
        file: the file that holds them.
        start: bytes before them, as the file lies on disk.
        packed: whether they are compressed (zlib or gzip).
        dtype: of a number, with its byte order.
    """

    file: str
    start: int
    packed: bool
    dtype: np.dtype


def voxel_place(path: str) -> VoxelPlace | None:
    """Return the place of the voxels of a `.mha`, `.mhd`, `.nrrd` or `.nhdr` file.

    Args:
        path: the header.

    Returns:
        The place; None if the voxels are no single run of binary numbers (text, several files, other compressions).
    """
    fields, end = _fields(path)
    return _meta_place(path, fields, end) if path.lower().endswith((".mha", ".mhd")) else _nrrd_place(path, fields, end)


def lost_voxels(path: str) -> str | None:
    """Return the file beside a header that should hold its voxels, if it is not there, else None.

    Args:
        path: the header, `.mhd` or `.nhdr` (others hold their voxels themselves).
    """
    fields, _ = _fields(path)
    name = fields.get("elementdatafile") or fields.get("data file") or fields.get("datafile") or ""
    if not name or name.split()[0].upper() in ("LOCAL", "LIST") or "%" in name:
        return None
    file = os.path.join(os.path.dirname(path), name)
    return None if os.path.exists(file) else file


def _fields(path: str) -> tuple[dict[str, str], int]:
    """Return the fields of the header by their names in lower case, and how many bytes it has."""
    with open(path, "rb") as file:
        head = file.read(_HEADER)
    fields: dict[str, str] = {}
    meta = path.lower().endswith((".mha", ".mhd"))
    at = 0
    while at < len(head):
        stop = head.find(b"\n", at)
        stop = len(head) if stop < 0 else stop
        line = head[at:stop].decode("latin-1").strip()
        at = stop + 1
        if not meta and not line:
            break
        name, _, value = line.partition("=" if meta else ":")
        fields.setdefault(name.strip().lower(), value.strip())
        if meta and name.strip().lower() == "elementdatafile":
            break  # the last field of a MetaImage header: voxels may follow
    return fields, at


def _meta_place(path: str, fields: dict[str, str], end: int) -> VoxelPlace | None:
    name, kind = fields.get("elementdatafile", ""), _META_TYPES.get(fields.get("elementtype", ""))
    local = name.upper() == "LOCAL"
    if kind is None or fields.get("binarydata", "").lower() != "true" or not name or name.split()[0].upper() == "LIST" or "%" in name:
        return None
    if fields.get("headersize", "0") != "0":
        return None  # bytes to skip, or -1 for "count from the end": ITK reads these
    big = (fields.get("binarydatabyteordermsb") or fields.get("elementbyteordermsb") or "false").lower() == "true"
    file = path if local else os.path.join(os.path.dirname(path), name)
    packed = fields.get("compresseddata", "false").lower() == "true"
    return VoxelPlace(file, end if local else 0, packed, np.dtype((">" if big else "<") + kind))


def _nrrd_place(path: str, fields: dict[str, str], end: int) -> VoxelPlace | None:
    kind = next((kind for kind, names in _NRRD_TYPES.items() if fields.get("type", "").lower() in names), None)
    packed = {"raw": False, "gzip": True, "gz": True}.get(fields.get("encoding", "").lower())
    skipped = [fields.get(name, "0") for name in ("line skip", "lineskip", "byte skip", "byteskip")]
    name = fields.get("data file") or fields.get("datafile") or ""
    if kind is None or packed is None or set(skipped) != {"0"} or "%" in name or name.startswith("LIST"):
        return None
    file = os.path.join(os.path.dirname(path), name) if name else path
    order = ">" if fields.get("endian", "little").lower() == "big" else "<"
    return VoxelPlace(file, 0 if name else end, packed, np.dtype(order + kind))
