"""Which kernel sums over the voxels of given tensors, and why another one cannot."""

from __future__ import annotations

import logging
from functools import lru_cache

import torch
from torch.autograd import forward_ad

from monai_jdt.definitions import Activation, Backend, VoxelRecipe
from monai_jdt.kernels.registry import KERNELS, import_failure
from monai_jdt.kernels.trial import failed_trial
from monai_jdt.plain_tensors import is_exporting
from monai_jdt.validation import error_sentence

logger = logging.getLogger(__name__)


def choose_kernel(
    backend: Backend, logits: torch.Tensor, label: torch.Tensor, recipe: VoxelRecipe, *others: torch.Tensor | None
) -> Backend:
    """The kernel that a step runs on.

    `auto` takes `triton` on CUDA; on a CPU `numba`, where it is installed, or `numpy`, or for large inputs and several threads
    `chunked`; and `eager` for the smallest inputs, on other devices, for `other_act`, and where torch must see through the operations:
    `torch.export`, meta and fake tensors, functorch transforms, forward-mode derivatives. A kernel that fails its trial on this
    device (:func:`monai_jdt.kernels.trial.failed_trial`) is passed over.

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
    """Return why a kernel cannot run, or None if it can.

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
    if is_exporting() or not all(_is_real(tensor) for tensor in (logits, label, *others)):
        return "export, meta and fake tensors, functorch transforms and forward-mode derivatives need the eager kernel"
    kernel = KERNELS[backend]
    if not kernel.installed:
        return f"{kernel.needs} is not installed ({kernel.install})"
    if logits.device.type not in kernel.devices:
        return f"it runs on {' and '.join(kernel.devices)}, and input is on {logits.device}"
    if logits.dtype not in kernel.dtypes:
        return f"it takes input of {', '.join(map(_dtype_name, kernel.dtypes))}, and input is {logits.dtype}"
    if kernel.label_dtypes is not None and label.dtype not in kernel.label_dtypes:
        return f"it reads no labels of {label.dtype}"
    if kernel.most_channels is not None and logits.shape[1] > kernel.most_channels:
        return f"it takes at most {kernel.most_channels} channels, and input has {logits.shape[1]}"
    if kernel.highest_region_value is not None and recipe.label.regions is not None:
        highest = max(map(max, recipe.label.regions))
        if highest > kernel.highest_region_value:
            return f"it takes regions of values up to {kernel.highest_region_value}, and regions have {highest}"
    # A compiler that is installed may still be broken. Under torch.compile nothing can be imported.
    failure = "" if torch.compiler.is_compiling() else import_failure(kernel.module)
    return f"it cannot be imported ({failure})" if failure else None


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _automatic(logits: torch.Tensor, label: torch.Tensor, recipe: VoxelRecipe, *others: torch.Tensor | None) -> Backend:
    device = logits.device.type
    compiling = torch.compiler.is_compiling()
    for kernel in KERNELS.values():
        smallest = kernel.auto_from_compiled if compiling else kernel.auto_from
        if device not in kernel.auto_on or smallest is None or logits.numel() < smallest:
            continue
        if not compiling and kernel.auto_until is not None:
            threads = torch.get_num_threads()
            if threads > 1 and logits.numel() * threads >= kernel.auto_until:
                continue
        reason = refusal(kernel.backend, logits, label, recipe, *others)
        if reason is None and not failed_trial(kernel.backend, logits.device):
            return kernel.backend
        if reason is not None and not compiling:
            _log_once(kernel.backend, reason)
    return Backend.EAGER


@lru_cache(maxsize=64)
def _log_once(kernel: Backend, reason: str) -> None:
    """Write a line to the log for each new reason."""
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
