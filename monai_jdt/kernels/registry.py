"""The table of fast kernels, one row each. Choice, refusal, operators, tests and the benchmark all read it.

A new kernel is a member of :class:`monai_jdt.definitions.Backend`, a row here, and its module.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec

import torch

from monai_jdt.definitions import Backend


def is_installed(package: str) -> bool:
    """Return whether a package can be found, without importing it.

    Args:
        package: its import name.
    """
    try:
        return find_spec(package) is not None
    except ValueError:
        # A stand-in without a spec, as documentation tools make. Its import will show whether it is usable.
        return True


@dataclass(frozen=True)
class KernelInfo:
    """Where a fast kernel is, and what it can run on.

    Args:
        backend: its name.
        module: where `<name>_sums(given)` and `<name>_gradient(given, upstream)` are. Imported at the kernel's first use.
        devices: types of devices that it runs on.
        auto_on: of these, the ones where `auto` takes it, unless a row above can run.
        auto_from: the number of logits from which on `auto` takes it; measured in docs/kernels.md.
        auto_from_compiled: the same under `torch.compile`, which makes loops of its own of the eager kernel; None: never.
        auto_until: of a kernel that works on one core, the number of logits, times torch's threads, from which on `auto` passes over it
            if there are several threads; None: none.
        dtypes: of the logits.
        label_dtypes: of the label; None: every real one.
        checks_values: whether its row MAY_FAIL_CHECK tells; False: it is 1 wherever a voxel counts, and the caller runs every check.
        saves: whether `<name>_sums` takes a list, too, to which it may add tensors that `<name>_gradient` takes after the others.
        most_channels: the largest C; None: any.
        highest_region_value: the largest label value that regions may have; None: any.
        needs: the package that it is compiled with; None: torch alone.
        installed: whether that package is there.
        install: how the package gets there.
    """

    backend: Backend
    module: str
    devices: tuple[str, ...]
    auto_on: tuple[str, ...]
    auto_from: int
    auto_from_compiled: int | None
    dtypes: tuple[torch.dtype, ...]
    auto_until: int | None = None
    label_dtypes: tuple[torch.dtype, ...] | None = None
    checks_values: bool = True
    saves: bool = False
    most_channels: int | None = None
    highest_region_value: int | None = None
    needs: str | None = None
    installed: bool = True
    install: str = ""

    def functions(self) -> tuple[Callable[..., torch.Tensor], Callable[..., torch.Tensor]]:
        """Return the kernel's two functions: the sums of a step, and the gradient by the logits."""
        # import_module takes four microseconds even of a module that is there
        module = sys.modules.get(self.module) or importlib.import_module(self.module)
        return getattr(module, f"{self.backend.value}_sums"), getattr(module, f"{self.backend.value}_gradient")


_HALVES_AND_FLOAT32 = (torch.float32, torch.float16, torch.bfloat16)
#: The losses widen the other unsigned ones, for which torch has hardly any operators.
_INTEGERS = (torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8)

#: `auto` takes the first row that can run on the tensors of a call, and else `eager`.
KERNELS: dict[Backend, KernelInfo] = {
    info.backend: info
    for info in (
        KernelInfo(
            backend=Backend.TRITON,
            module="monai_jdt.kernels.triton.launch",
            # Triton's interpreter, which is for tests, runs it on CPU tensors.
            devices=("cuda", "cpu") if os.environ.get("TRITON_INTERPRET") == "1" else ("cuda",),
            auto_on=("cuda",),
            auto_from=0,
            auto_from_compiled=0,
            dtypes=_HALVES_AND_FLOAT32,
            # A check would wait for the device.
            checks_values=False,
            # All channels of a block of voxels lie in the registers of one program.
            most_channels=1024,
            needs="triton",
            installed=is_installed("triton"),
            install="it comes with the CUDA build of torch",
        ),
        KernelInfo(
            backend=Backend.NUMBA,
            module="monai_jdt.kernels.numba.launch",
            devices=("cpu",),
            auto_on=("cpu",),
            # Below, thousands of steps of the eager kernel take as long as loading numba.
            auto_from=2**9,
            auto_from_compiled=2**14,
            dtypes=_HALVES_AND_FLOAT32,
            label_dtypes=(*_HALVES_AND_FLOAT32, torch.float64, torch.bool, *_INTEGERS),
            # Its class codes are 32 bits wide.
            highest_region_value=2**31 - 1,
            needs="numba",
            installed=is_installed("numba"),
            install="pip install 'monai-jdt[cpu]'",
        ),
        KernelInfo(
            backend=Backend.NUMPY,
            module="monai_jdt.kernels.numpy.kernel",
            devices=("cpu",),
            auto_on=("cpu",),
            auto_from=2**9,
            auto_from_compiled=None,
            auto_until=2**20,
            saves=True,
            dtypes=(*_HALVES_AND_FLOAT32, torch.float64),
        ),
        KernelInfo(
            backend=Backend.CHUNKED,
            module="monai_jdt.kernels.chunked.kernel",
            devices=("cpu",),
            auto_on=("cpu",),
            auto_from=2**13,
            auto_from_compiled=2**17,
            dtypes=(*_HALVES_AND_FLOAT32, torch.float64),
        ),
    )
}


@lru_cache(maxsize=16)
def import_failure(module: str) -> str:
    """Return why a kernel's module cannot be imported, its compiler being absent or broken, or an empty text if it can.

    Args:
        module: as in its row.
    """
    try:
        importlib.import_module(module)
    except Exception as error:  # whatever a broken installation does
        return f"{type(error).__name__}: {error}"
    return ""
