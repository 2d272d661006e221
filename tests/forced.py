"""`backend="auto"` made to take a fast CPU kernel for inputs of any size, which is what the tests of the laws are written for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from monai_jdt.kernels import choice
from monai_jdt.kernels.chunked import kernel as chunked

#: The kernels of a CPU that `auto` takes for large inputs.
FAST = ("chunked", "numba")


@contextmanager
def auto_takes(kernel: str) -> Iterator[None]:
    """Within, `auto` takes `kernel` wherever that can run: "numba" leaves float64 to chunked, and both leave `other_act` to eager.

    The smallest chunk is of 24 logits, so that the few voxels of a test are several.

    Args:
        kernel: one of `FAST`, or "auto" to change nothing.
    """
    if kernel == "auto":
        yield
        return
    has_numba = {"chunked": False, "numba": choice._HAS_NUMBA}[kernel]
    with patch.object(choice, "SMALL", 0), patch.object(choice, "_HAS_NUMBA", has_numba), patch.object(chunked, "_SMALLEST", 24):
        yield
