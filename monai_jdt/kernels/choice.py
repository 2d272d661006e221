"""Which kernel sums over the voxels of given tensors, and why another one cannot."""

from __future__ import annotations

import logging
import os
from functools import lru_cache
from importlib.util import find_spec

import torch
from torch.autograd import forward_ad

from monai_jdt.definitions import Activation, Backend, VoxelRecipe
from monai_jdt.kernels.operators import import_failure
from monai_jdt.kernels.trial import failed_trial
from monai_jdt.validation import error_sentence

logger = logging.getLogger(__name__)

#: Below this many logits a step of the eager kernel takes a few milliseconds: not worth a compiler.
SMALL = 2**18


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ValueError:
        # a stand-in without a spec; its import will tell what it is worth
        return True


_HAS_NUMBA = _is_installed("numba")
_HAS_TRITON = _is_installed("triton")
_TRITON_INTERPRETS = os.environ.get("TRITON_INTERPRET") == "1"

_NUMBA_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_NUMBA_LABELS = (
    *(*_NUMBA_DTYPES, torch.float64, torch.bool),
    *(torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.uint16, torch.uint32, torch.uint64),
)
_TRITON_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
#: All channels of a block of voxels lie in the registers of one program.
TRITON_CHANNELS = 1024


def choose_kernel(
    backend: Backend, logits: torch.Tensor, label: torch.Tensor, recipe: VoxelRecipe, *others: torch.Tensor | None
) -> Backend:
    """The kernel that a step runs on.

    `auto` takes `triton` on CUDA; on a CPU `numba`, where it is installed, or `chunked`; and `eager` for small inputs, on other
    devices, for `other_act`, and where torch must see through the operations: `torch.compile` on a CPU, `torch.export`, meta and
    fake tensors, functorch transforms, forward-mode derivatives. A kernel that fails its trial on this device
    (:func:`monai_jdt.kernels.trial.failed_trial`) is passed over.

    Args:
        backend: the user's choice.
        logits: `(N, C, *S)`.
        label: the label.
        recipe: what to sum.
        others: mask, weights and whatever else takes part.

    Returns:
        Any but `Backend.AUTO`.

    Raises:
        ValueError: the named kernel cannot run here, or has failed its trial; the message says why.
    """
    if backend is Backend.AUTO:
        return _automatic(logits, label, recipe, *others)
    reason = refusal(backend, logits, label, recipe, *others)
    if reason is None and backend is not Backend.EAGER:
        reason = failed_trial(backend, logits.device)
    if reason:
        raise ValueError(error_sentence("backend", "one that can run here", f"{backend.value!r}: {reason}", "backend='auto'"))
    return backend


def refusal(
    backend: Backend, logits: torch.Tensor, label: torch.Tensor, recipe: VoxelRecipe, *others: torch.Tensor | None
) -> str | None:
    """Why a kernel cannot run; None if it can.

    Args:
        backend: any but `auto`.
        logits: `(N, C, *S)`.
        label: the label.
        recipe: what to sum.
        others: mask, weights and whatever else takes part.
    """
    if backend is Backend.EAGER:
        return None
    if recipe.activation is Activation.OTHER:
        return "other_act is Python code, which only the eager kernel calls"
    if torch.compiler.is_exporting() or not all(_is_real(tensor) for tensor in (logits, label, *others)):
        return "export, meta and fake tensors, functorch transforms and forward-mode derivatives need the eager kernel"
    device = logits.device.type
    if backend is Backend.CHUNKED and device != "cpu":
        return f"its chunks are made for a CPU's caches, and input is on {logits.device}"
    if backend is Backend.NUMBA:
        if not _HAS_NUMBA:
            return "numba is not installed (pip install 'monai-jdt[cpu]')"
        if device != "cpu":
            return f"its loops run on a CPU, and input is on {logits.device}"
        if logits.dtype not in _NUMBA_DTYPES:
            return f"its loops compute in float32, and input is {logits.dtype}"
        if label.dtype not in _NUMBA_LABELS:
            return f"its loops read no labels of {label.dtype}"
        if (largest := max(map(max, recipe.label.regions or [[0]]))) > 2**31 - 1:
            return f"its loops have regions of values up to {2**31 - 1}, and regions have {largest}"
    if backend is Backend.TRITON:
        if not _HAS_TRITON:
            return "triton is not installed (it comes with the CUDA build of torch)"
        if device != "cuda" and not (device == "cpu" and _TRITON_INTERPRETS):
            return f"its kernels run on CUDA, and input is on {logits.device}"
        if logits.dtype not in _TRITON_DTYPES:
            return f"its kernels compute in float32, and input is {logits.dtype}"
        if logits.shape[1] > TRITON_CHANNELS:
            return f"its kernels take at most {TRITON_CHANNELS} channels, and input has {logits.shape[1]}"
    # a compiler that is installed may still be broken; under torch.compile nothing can be imported
    failure = "" if torch.compiler.is_compiling() else import_failure(backend)
    return f"it cannot be imported ({failure})" if failure else None


def _automatic(logits: torch.Tensor, label: torch.Tensor, recipe: VoxelRecipe, *others: torch.Tensor | None) -> Backend:
    device = logits.device.type
    if device == "cuda":
        wanted: tuple[Backend, ...] = (Backend.TRITON,)
    elif device == "cpu" and logits.numel() >= SMALL and not torch.compiler.is_compiling():
        wanted = (Backend.NUMBA, Backend.CHUNKED)
    else:
        return Backend.EAGER
    for kernel in wanted:
        reason = refusal(kernel, logits, label, recipe, *others)
        if reason is None and not failed_trial(kernel, logits.device):
            return kernel
        if reason is not None and not torch.compiler.is_compiling():
            _say_once(kernel, reason)
    return Backend.EAGER


@lru_cache(maxsize=64)
def _say_once(kernel: Backend, reason: str) -> None:
    """A line in the log for each new reason."""
    logger.info("the losses do not run on their fastest kernel here, %s: %s", kernel.value, reason)


def _is_real(tensor: torch.Tensor | None) -> bool:
    """Return True for None and ordinary tensors: not meta, fake, functorch-wrapped or dual."""
    if tensor is None or torch.compiler.is_compiling():
        return True
    if hasattr(tensor, "as_tensor"):  # MONAI's MetaTensor
        tensor = tensor.as_tensor()
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter) or tensor.is_meta:
        return False
    return not torch._C._functorch.is_functorch_wrapped_tensor(tensor) and forward_ad._current_level < 0
