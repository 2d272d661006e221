"""Fresh memory from the system, got at once and in large pages, on Linux.

Otherwise it comes in pages of 4 KiB, each when it is first written to, which takes as long as to compute what it holds.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable
from functools import lru_cache

import torch

#: Smaller tensors come, as a rule, from memory that was touched before.
_LARGE = 2**23
#: Linux's number for "get all of it now"; Python's mmap does not know it yet. Before Linux 5.14 it is refused.
_POPULATE_WRITE = 23


@lru_cache(maxsize=1)
def _madvise() -> Callable[[int, int, int], int] | None:
    """That of the C library, on Linux."""
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return None
    function = getattr(ctypes.CDLL(None), "madvise", None)
    if function is not None:
        function.argtypes = [ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int]
    return function


def _advise(tensor: torch.Tensor, first: int, last: int, advice: int) -> None:
    """On whole pages that are the tensor's alone; a refusal changes nothing."""
    advise, page, start = _madvise(), mmap.PAGESIZE, tensor.data_ptr()
    size = tensor.numel() * tensor.element_size()
    first = max((start + first) // page, -(-start // page)) * page
    last = min(-(-(start + last) // page), (start + size) // page) * page
    if advise is not None and size >= _LARGE and first < last:
        advise(first, last - first, advice)


def ask_for_huge_pages(tensor: torch.Tensor) -> None:
    """Have a large tensor's memory come in huge pages, where there are.

    Args:
        tensor: just made, on the CPU, in one piece; small ones are left alone.
    """
    _advise(tensor, 0, tensor.numel() * tensor.element_size(), getattr(mmap, "MADV_HUGEPAGE", 0))


def claim(tensor: torch.Tensor, first: int, last: int) -> None:
    """Get a part of a large tensor's memory now. One thread should ask at a time: they wait for each other.

    Args:
        tensor: just made, on the CPU, in one piece.
        first: first byte.
        last: the byte after the last.
    """
    _advise(tensor, first, last, _POPULATE_WRITE)
