"""A file of voxels, read block by block or at once, and the one line about a file that cannot be read."""

from __future__ import annotations

import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from monai_jdt.data.problems import DataProblem, DataProblemError

# The first bytes of formats that are often found under the name of another one, with the endings of the format.
_FIRST_BYTES = (
    (b"\x89PNG", (".png",)),
    (b"\xff\xd8\xff", (".jpg", ".jpeg")),
    (b"II*\0", (".tif", ".tiff")),
    (b"MM\0*", (".tif", ".tiff")),
    (b"NRRD", (".nrrd", ".nhdr")),
    (b"\x93NUMPY", (".npy",)),
)

#: The fix for a damaged file.
COPY_AGAIN = "copy it again from its source"


@dataclass(frozen=True, eq=False)
class FileVolume:
    """A file whose header has been read. Its voxels are read when asked for.

    Args:
        path: the file.
        shape: voxels along each axis. The components of a voxel, if it has several, stand on the last axis.
        affine: `(4, 4)`, voxels to mm in NIfTI's orientation (RAS+). None if the format has none.
        components: how many numbers each voxel has, on a last axis of their own. 0: there is no such axis. The fourth axis of
            NIfTI does not count as one.
        format: the name of the format, for messages.
        warnings: what is legal in the header, but worth a look.
        stream: yields the voxels, scaled as the header says, in flat blocks in Fortran order (components, if any, in any order).
        load: returns all voxels as one array of that shape.
    """

    path: str
    shape: tuple[int, ...]
    affine: np.ndarray | None
    components: int
    format: str
    stream: Callable[[], Iterator[np.ndarray]]
    load: Callable[[], np.ndarray]
    warnings: tuple[DataProblem, ...] = ()

    def blocks(self) -> Iterator[np.ndarray]:
        """Read the voxels in flat blocks, in Fortran order of `shape`. A few blocks are in memory at a time.

        Raises:
            DataProblemError: if the file is truncated or damaged.
        """
        try:
            yield from self.stream()
        except READ_ERRORS as error:
            raise unreadable(self.path, self.format, error) from error

    def read(self) -> np.ndarray:
        """Read all voxels as one array.

        Raises:
            DataProblemError: if the file is truncated or damaged, or larger than memory.
        """
        try:
            return self.load()
        except READ_ERRORS as error:
            raise unreadable(self.path, self.format, error) from error


#: What libraries raise for a file that is damaged, or of another format.
READ_ERRORS: tuple[type[Exception], ...] = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    MemoryError,
    SyntaxError,
    KeyError,
    zlib.error,
    zipfile.BadZipFile,
)


def unreadable(path: str, what: str, error: Exception) -> DataProblemError:
    """Return the error for a file that cannot be read, with the library's reason in one line.

    Args:
        path: the file.
        what: the format that its name tells.
        error: what the library raised. A DataProblemError is returned as it is.
    """
    if isinstance(error, DataProblemError):
        return error
    if isinstance(error, EOFError) and not str(error):
        return one_problem(path, "a whole gzip file", "one that ends early (truncated)", COPY_AGAIN)
    if isinstance(error, MemoryError):
        fix = "crop or resample it, or use a machine with more memory"
        return one_problem(path, "voxels that fit into memory", str(error) or "more", fix)
    text = str(error)
    for mark in ("sitk::ERROR: ", "ITK ERROR: "):  # before it stands a line of their source
        text = text.rpartition(mark)[2]
    text = re.sub(r"\(0x[0-9a-f]+\)", "", text)  # addresses in memory, which differ from run to run
    reason = " ".join(text.split()) or type(error).__name__
    size = f"{os.path.getsize(path)} bytes" if os.path.isfile(path) else "a folder"
    return one_problem(path, f"a readable {what} file", f"{size} ({reason})", how_to_mend(path))


def _own_ending(path: str) -> tuple[str, ...] | None:
    """Return the endings of the format that the first bytes of a file belong to, or None for unknown bytes."""
    if not os.path.isfile(path):
        return None
    with open(path, "rb") as file:
        start = file.read(8)
    return next((endings for first, endings in _FIRST_BYTES if start.startswith(first)), None)


def how_to_mend(path: str, otherwise: str = COPY_AGAIN) -> str:
    """Return what to do about a file that cannot be read.

    Args:
        path: the file.
        otherwise: the fix if the name is right.
    """
    ending = os.path.splitext(path)[1]
    own = _own_ending(path)
    if own is not None and ending.lower() not in own:
        return f"rename it to {os.path.basename(path).split('.')[0]}{own[0]}, which is what it holds"
    if ending != ending.lower() and ending.lower() in (".mhd", ".mha"):
        return f"name it {ending.lower()}, as ITK wants it, or mend it"
    return otherwise


def one_problem(where: str, expected: str, got: str, fix: str) -> DataProblemError:
    """Return an error with one problem, from the arguments of :class:`DataProblem`."""
    return DataProblemError([DataProblem(where, expected, got, fix)])
