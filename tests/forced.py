"""`backend="auto"` made to take a fast CPU kernel for inputs of any size, which is what the tests of the laws are written for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest.mock import patch

from monai_jdt.definitions import Backend
from monai_jdt.kernels.chunked import chunks
from monai_jdt.kernels.numpy import blocks
from monai_jdt.kernels.registry import KERNELS, KernelInfo

#: The kernels of a CPU that `auto` may take.
FAST = ("numpy", "chunked", "numba")


@contextmanager
def auto_takes(kernel: str) -> Iterator[None]:
    """Within, `auto` takes `kernel` wherever that can run: "numba" leaves float64 to chunked, and all leave `other_act` to eager.

    The smallest chunk and the largest block are of 24 logits, so that the few voxels of a test are several.

    Args:
        kernel: one of `FAST`, or "auto" to change nothing.
    """
    if kernel == "auto":
        yield
        return
    with (
        patch.dict(KERNELS, rows_for_any_size(kernel)),
        patch.object(chunks, "_SMALLEST", 24),
        patch.object(blocks, "_LARGEST", 24),
    ):
        yield


def rows_for_any_size(kernel: str) -> dict[Backend, KernelInfo]:
    """Return the rows of the CPU kernels with which `auto` takes `kernel`, or what can run instead of it, whatever the size.

    Args:
        kernel: one of `FAST`.
    """
    rows = {name: replace(KERNELS[Backend(name)], auto_from=0, auto_from_compiled=0, auto_until=None) for name in FAST}
    taken = ("numba", "chunked") if kernel == "numba" else (kernel,)
    return {row.backend: row if name in taken else replace(row, auto_on=()) for name, row in rows.items()}
