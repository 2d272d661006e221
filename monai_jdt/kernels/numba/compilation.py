"""How numba compiles this kernel's functions: which options, which of them are inlined, and what it keeps on disk."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from numba import cfunc, njit

logger = logging.getLogger(__name__)

#: NaN and the order of operations are kept; a product and a sum may be one instruction. Full `fastmath` would assume that there is no
#: NaN, and an invalid class would no longer show. `error_model`: a division by 0 is inf or NaN, not an exception.
_OPTIONS: dict[str, Any] = {"nogil": True, "fastmath": {"contract"}, "error_model": "numpy"}
#: No Python calls these: what a call needs would be a quarter of the time to compile.
_UNWRAPPED: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}


def on_disk(function: Callable) -> Any:
    """Compile at the first call, or read from disk, where a folder can be written.

    Args:
        function: Python's. numba raises RuntimeError where it finds no folder for its cache (a read-only installation and home).
    """
    try:
        return njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:
        return in_memory(function)


def in_memory(function: Callable) -> Any:
    """Compile at the first call, for this process alone.

    Args:
        function: Python's.
    """
    return njit(**_OPTIONS)(function)


def ready_to_call(program: Any, *arguments: Any) -> Any:
    """Return a program after a first call, which compiles it or reads it from disk.

    Args:
        program: from :func:`on_disk`.
        arguments: of a call that does nothing.

    Returns:
        The program, or one that is compiled for this process alone, where numba cannot use what it has on disk.
    """
    try:
        program(*arguments)
    except Exception as error:
        # numba lets every fault of its folder through: removed or full since it was found, or a file there that was cut off
        logger.info("numba cannot use what it has on disk and compiles the losses' kernel for this process alone: %r", error)
        program = in_memory(program.py_func)
        program(*arguments)
    return program


def c_function(signature: Any, function: Callable) -> Any:
    """Compile a function that C code calls, or read it from disk.

    Args:
        signature: numba's.
        function: Python's.
    """
    try:
        return cfunc(signature, cache=True, **_OPTIONS)(function)
    except Exception as error:
        # as above: no folder, or one whose contents cannot be used
        logger.info("numba cannot use what it has on disk and compiles %s for this process alone: %r", function.__name__, error)
        return cfunc(signature, **_OPTIONS)(function)


#: Compiled as a part of what calls it: its code is copied there. numba compiles any other function by itself too, with all that it
#: calls, which takes time for nothing where there is one caller.
joined = njit(inline="always", **_OPTIONS)
#: Compiled once by itself and called: loops over a row that many places need.
part = njit(**_OPTIONS, **_UNWRAPPED)
#: Of single numbers, or of lanes: a call that LLVM does not inline would keep a loop from becoming vector instructions.
small = njit(forceinline=True, **_OPTIONS, **_UNWRAPPED)
#: Without fused products, so that it rounds as the definition does: where a tie p = t depends on it.
rounded_part = njit(nogil=True, error_model="numpy", **_UNWRAPPED)
