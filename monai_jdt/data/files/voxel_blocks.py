"""The voxels of a file in blocks of bounded size. Compressed bytes are read to their end, where the checksum is."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from types import TracebackType

import numpy as np

#: The largest number of voxels in a block. A check holds a few blocks in memory, whatever the size of the file.
BLOCK_VOXELS = 1 << 20

GZIP_MAGIC = b"\x1f\x8b"
_EITHER = 47  # zlib's wbits for a header of gzip or of zlib, whichever is there
_CHUNK = 1 << 17  # compressed bytes that are read at a time


def block_length(shape: tuple[int, ...]) -> int:
    """Return the voxels of each block but the last: whole planes of the first two axes, or whole rows if a plane is too large.

    It depends on the shape alone, so that two files of one shape are cut at the same voxels.

    Args:
        shape: voxels along each axis, the first axis being the fastest in memory.

    Example:
        >>> block_length((512, 512, 300)) // (512 * 512), block_length((40_000, 40_000)) // 40_000
        (4, 26)
    """
    for axes in (2, 1):
        unit = int(np.prod(shape[:axes]))
        if 0 < unit <= BLOCK_VOXELS:
            return unit * (BLOCK_VOXELS // unit)
    return BLOCK_VOXELS


def blocks_of_array(values: np.ndarray) -> Iterator[np.ndarray]:
    """Cut an array into flat blocks in Fortran order. A block is a view where the array's order allows one.

    Args:
        values: any array, also one that is mapped from a file.
    """
    length = block_length(values.shape)
    # The order of voxels is the same whatever the order in memory: drawings are compared by a digest of it.
    if values.flags.f_contiguous:
        flat = values.reshape(-1, order="F")
        for start in range(0, flat.size, length):
            yield flat[start : start + length]
    elif values.ndim > 1:
        plane = int(np.prod(values.shape[:-1]))
        step = max(1, length // plane)
        for start in range(0, values.shape[-1], step):
            part = values[..., start : start + step].ravel(order="F")
            for begin in range(0, part.size, length):
                yield part[begin : begin + length]
    else:
        yield from blocks_of_array(values.copy())


class ByteStream:
    """A file's bytes, decompressed if it is a gzip file, one piece after the other.

    Args:
        path: the file.
        packed: whether its bytes are compressed: gzip (of any number of members) or zlib.
        start: bytes to leave out before that.

    Raises:
        EOFError: when read: a gzip file that ends before its checksum.
        zlib.error: when read: bytes that are no gzip stream, or a wrong checksum.
    """

    def __init__(self, path: str, packed: bool, start: int = 0) -> None:
        self._file = open(path, "rb")  # noqa: SIM115 (closed by __exit__)
        self._file.seek(start)
        self._packed = packed
        self._inflater = zlib.decompressobj(_EITHER)
        self._waiting = b""

    def __enter__(self) -> ByteStream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def read(self, most: int) -> bytes:
        """Return up to `most` bytes, and none at the end of the file.

        Args:
            most: at least 1.
        """
        if not self._packed:
            return self._file.read(most)
        while True:
            if self._inflater.eof:
                rest = self._inflater.unused_data.lstrip(b"\0")  # zeros may stand between the members of a gzip file
                while not rest:
                    more = self._file.read(_CHUNK)
                    if not more:
                        return b""
                    rest = more.lstrip(b"\0")
                self._inflater, self._waiting = zlib.decompressobj(_EITHER), rest
            data = self._waiting or self._file.read(_CHUNK)
            out = self._inflater.decompress(data, most)
            self._waiting = self._inflater.unconsumed_tail
            if out:
                return out
            if not data and not self._inflater.eof:
                raise EOFError

    def fill(self, view: memoryview) -> int:
        """Fill a buffer, and return how many bytes there were for it: fewer than its size only at the end of the file.

        Args:
            view: where the bytes go.
        """
        done = 0
        while done < len(view):
            piece = self.read(len(view) - done)
            if not piece:
                break
            view[done : done + len(piece)] = piece
            done += len(piece)
        return done

    def read_all(self, count: int) -> bytes:
        """Return the next bytes: fewer than `count` only at the end of the file.

        Args:
            count: how many.
        """
        head = bytearray(count)
        return bytes(head[: self.fill(memoryview(head))])

    def skip(self, count: int) -> None:
        """Skip some bytes.

        Args:
            count: how many.
        """
        while count > 0 and (piece := self.read(min(count, BLOCK_VOXELS))):
            count -= len(piece)


def stream_blocks(
    path: str, packed: bool, offset: int, dtype: np.dtype, shape: tuple[int, ...], start: int = 0
) -> Iterator[np.ndarray]:
    """Read the voxels of a file as flat blocks in native byte order, then the rest of the file.

    Args:
        path: the file.
        packed: whether its bytes are compressed.
        offset: bytes before the first voxel, after decompression.
        dtype: of the voxels in the file.
        shape: voxels along each axis, the first axis being the fastest in the file.
        start: bytes of the file before the compressed ones.

    Raises:
        EOFError: if there are fewer bytes than the shape needs. It has a message, unless a gzip file ends early.
        OSError: if the file cannot be read.
        zlib.error: if the compressed bytes are damaged.
    """
    left, length = int(np.prod(shape)), block_length(shape)
    need = offset + left * dtype.itemsize
    with ByteStream(path, packed, start) as stream:
        stream.skip(offset)
        while left:
            block = np.empty(min(left, length), dtype)  # filled in place: bytes would be copied once more
            got = stream.fill(block.view(np.uint8).data)
            if got < block.nbytes:
                raise EOFError(f"expected {need} bytes, got {need - left * dtype.itemsize + got}: truncated")
            left -= block.size
            yield block.astype(dtype.newbyteorder("="), copy=False)
        while stream.read(BLOCK_VOXELS):
            pass  # the checksum stands at the end


def whole_array(path: str, packed: bool, offset: int, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """Read all voxels of a file, as :func:`stream_blocks` does, into one array with the first axis fastest in memory.

    Args:
        path: the file.
        packed: whether it is a gzip file.
        offset: bytes before the first voxel, after decompression.
        dtype: of the voxels in the file.
        shape: voxels along each axis.

    Raises:
        MemoryError: if the voxels do not fit into memory.
    """
    values = np.empty(shape, dtype.newbyteorder("="), order="F")
    flat, start = values.reshape(-1, order="F"), 0
    for block in stream_blocks(path, packed, offset, dtype, shape):
        flat[start : start + block.size] = block
        start += block.size
    return values


def refuse_what_exceeds_memory(what: str, voxels: int, itemsize: int) -> None:
    """Raise MemoryError, before anything is read, for voxels that do not fit into the free memory.

    Args:
        what: what would need it.
        voxels: how many.
        itemsize: bytes of each.
    """
    need, free = voxels * itemsize, free_memory()
    if free is not None and need > free:
        raise MemoryError(f"{what} of {need / 2**30:.1f} GiB, more than the {free / 2**30:.1f} GiB of memory that are free")


def free_memory() -> int | None:
    """Return the bytes of memory that a new array can take, or None if the system does not report them."""
    try:
        with open("/proc/meminfo") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None
