"""Fresh memory from the system, many pages at a time, on Linux.

Otherwise it comes page by page, each when it is first written to, which takes as long as to compute what it holds. In which pages it
comes is left as the user has set it: huge ones are faster, but where the system has to look for them, they can take ten times as long.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Callable
from functools import lru_cache

import torch

#: Size in bytes from which on memory is claimed. The allocator serves smaller tensors from memory that was touched before.
LARGE = 2**23
#: Linux's number for "get all of it now"; Python's mmap does not know it yet. Before Linux 5.14 it is refused.
_POPULATE_WRITE = 23


@lru_cache(maxsize=1)
def _madvise() -> Callable[[int, int, int], int] | None:
    """Return madvise of the C library, on Linux, else None. Python's mmap calls it only on memory that mmap itself has made."""
    function = getattr(ctypes.CDLL(None), "madvise", None) if sys.platform == "linux" else None
    if function is not None:
        function.argtypes = [ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int]
    return function


def claim(tensor: torch.Tensor, first: int, last: int) -> None:
    """Get a part of a large tensor's memory now. A refusal changes nothing.

    Args:
        tensor: on the CPU, in one piece.
        first: its first element.
        last: the one after its last.
    """
    advise, page, start, size = _madvise(), mmap.PAGESIZE, tensor.data_ptr(), tensor.element_size()
    if advise is None or tensor.numel() * size < LARGE:
        return
    # Whole pages that are the tensor's alone. A page that two tasks share belongs to the later one: both ends are rounded down.
    lowest, highest = -(-start // page), (start + tensor.numel() * size) // page
    begin = max((start + first * size) // page, lowest)
    end = min(-(-(start + last * size) // page), highest)
    if begin < end:
        advise(begin * page, (end - begin) * page, _POPULATE_WRITE)
