"""The threads of torch's own OpenMP library, which still spin after an operation of torch.

A thread of another pool would have to wait until one of them gives its core up: for a tenth of a millisecond or more, in which a small
step could have ended. They are asked by `GOMP_parallel`, the call that a compiler makes of `#pragma omp parallel`, in the library file
that torch brings. Where torch brings none (macOS, Windows, conda), there is no team.
"""

from __future__ import annotations

import ctypes
import logging
import os
from collections.abc import Callable
from functools import lru_cache
from glob import escape, glob
from typing import Any

import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from monai_jdt.kernels.numba import compilation

logger = logging.getLogger(__name__)

#: Written in LLVM's language; Any, since its type has one argument more than a call.
_llvm: Any = intrinsic

_SIGNATURE = types.void(types.intp)
_ADDRESS = ir.IntType(64)
#: What the compiled member is given: how many members take part, the addresses of `omp_get_thread_num` and of Python's function.
_Order = ctypes.c_int64 * 3
_AMONG, _NUMBER_OF_THREAD, _TAKE_PART = range(3)
_TakePart = ctypes.CFUNCTYPE(None, ctypes.c_int64)

#: A forked child has the parent's team but none of its threads, for which it would wait for ever.
_forked = False


def _forget_team() -> None:
    """Leave the team alone from now on, in a forked child."""
    global _forked
    _forked = True
    team_of_torch.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_team)


Team = Callable[[int, Callable[[int], None]], None]


@_llvm
def _word(typing: Any, order: Any, place: Any) -> Any:
    """Return a whole number of an order, which is given by its address."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        words = builder.inttoptr(arguments[0], _ADDRESS.as_pointer())
        return builder.load(builder.gep(words, [arguments[1]]))

    return types.int64(types.int64, types.int64), code


@_llvm
def _number_of_thread(typing: Any, address: Any) -> Any:
    """Call a C function without arguments that returns an int."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        function = ir.FunctionType(ir.IntType(32), [])
        return builder.sext(builder.call(builder.inttoptr(arguments[0], function.as_pointer()), []), _ADDRESS)

    return types.int64(types.int64), code


@_llvm
def _take_part(typing: Any, address: Any, member: Any) -> Any:
    """Call a C function of one whole number that returns nothing."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        function = ir.FunctionType(ir.VoidType(), [_ADDRESS])
        builder.call(builder.inttoptr(arguments[0], function.as_pointer()), [arguments[1]])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), code


def _member(order: int) -> None:
    """What every thread of the team does: take part, or nothing where fewer members are wanted.

    Compiled, so that the threads that are not wanted do not queue for the interpreter.
    """
    member = _number_of_thread(_word(order, _NUMBER_OF_THREAD))
    if member < _word(order, _AMONG):
        _take_part(_word(order, _TAKE_PART), member)


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


@lru_cache(maxsize=1)
def team_of_torch() -> Team | None:
    """Return a function that runs another one on several threads of torch's team, or None where torch's library cannot be asked.

    The function takes the number of members, at most as many as torch has threads, and what each does with its number; member 0 is the
    caller. It returns when all have ended. What is run must not raise: nobody hears it.
    """
    if _forked:
        return None
    files = glob(os.path.join(escape(os.path.dirname(torch.__file__)), "lib", "libgomp*.so*"))
    if len(files) != 1:
        return None
    try:
        library = ctypes.CDLL(files[0])
        parallel, number_of_thread = library.GOMP_parallel, library.omp_get_thread_num
        member = compilation.c_function(_SIGNATURE, _member)
    except (OSError, AttributeError) as error:
        logger.info("%s has no threads to share: %r", files[0], error)
        return None
    parallel.argtypes, parallel.restype = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint], None
    asked = _address(number_of_thread)

    def run(members: int, take_part: Callable[[int], None]) -> None:
        callback = _TakePart(take_part)
        order = _Order(members, asked, _address(callback))
        # always as many as torch asks for: a smaller team would end the threads that torch's next operation needs
        parallel(member.address, ctypes.addressof(order), torch.get_num_threads(), 0)

    return run
