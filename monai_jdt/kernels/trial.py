"""The trial of a fast kernel: its first use on a device compares it with `eager` on small inputs, in value and gradient.

A kernel may never have run on this processor, driver or compiler before. The trial takes a few milliseconds, plus the time to
compile the kernel where that is needed. It covers softmax and sigmoid, dense labels, class indices and votes, the cross-entropy,
float32 and float16, masks and weights. It does not cover focal term, divergence, regions, label smoothing, norm 2, many
classes or large volumes: only the package's tests judge a program that is compiled for those alone.

Set the environment variable MONAI_JDT_KERNEL_TRIAL=off to trust every kernel without a trial.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from threading import Lock, Thread
from typing import Any, NamedTuple

import torch

from monai_jdt.definitions import Activation, Backend, LabelForm, LabelReading, PixelRule, PixelTerm, VoxelRecipe, VoxelSums
from monai_jdt.kernels.eager import eager_voxel_sums
from monai_jdt.kernels.operators import fast_voxel_sums

logger = logging.getLogger(__name__)

#: The environment variable, and its values that switch the trial off.
SWITCH = "MONAI_JDT_KERNEL_TRIAL"
_OFF = ("0", "off", "false", "no")

#: Largest differences from `eager`, in multiples of the largest value: of sums, and of a gradient in each dtype.
_SUMS = 1e-5
_GRADIENT = {torch.float32: 1e-4, torch.float16: 2e-3}
#: Of 2 images and 3 classes. The first makes rows that a kernel may read in vectors, with a rest, the second does not.
_EVEN, _ODD = 2064, 2050

#: The fault that a trial found, by program and device. "" is no fault.
_verdicts: dict[tuple[str, torch.device], str] = {}
_lock = Lock()


def _forget_lock() -> None:
    """Make a new lock in a forked child, where no thread can release the parent's."""
    global _lock
    _lock = Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_lock)


class TrialInput(NamedTuple):
    """The input of one trial, with flat space, as :func:`monai_jdt.kernels.eager.eager_voxel_sums` takes it."""

    name: str
    logits: torch.Tensor
    label: torch.Tensor
    recipe: VoxelRecipe
    mask: torch.Tensor | None = None
    rater_weights: torch.Tensor | None = None
    class_weight: torch.Tensor | None = None


def failed_trial(kernel: Backend, device: torch.device) -> str:
    """Return why a kernel is not trusted on a device, or an empty text if it is.

    Args:
        kernel: a fast kernel that can be imported.
        device: the device of the input.

    Returns:
        A part of a sentence for the user.
    """
    return fault_of(f"their kernel {kernel.value}", device, lambda: _compare(kernel, device))


def fault_of(program: str, device: torch.device, compare: Callable[[], str]) -> str:
    """Return what the trial of a program found on a device, or an empty text.

    The first call for a program and device runs the trial, and logs the fault that it found. There is no trial, and no verdict is
    kept, under `torch.compile`, while a CUDA graph is captured, in torch's debug mode that reports synchronisations, and where
    memory or threads have run out.

    Args:
        program: what the losses use, as a sentence has it.
        device: the device of the input.
        compare: the trial, which returns the fault. What it raises is a fault, too.
    """
    verdict = _verdicts.get((program, device))
    if verdict is not None:
        return verdict
    if torch.compiler.is_compiling():
        return ""
    if not can_try(device):
        return ""
    with _lock:
        verdict = _verdicts.get((program, device))
        if verdict is None:
            verdict = _run_apart(device, compare)
            if verdict is None:
                return ""
            _verdicts[program, device] = verdict
            if verdict:
                logger.warning("the losses do not use %s on %s: %s", program, device, verdict)
    return verdict


def can_try(device: torch.device) -> bool:
    """Return whether a trial may run now: not if the user has turned trials off, nor where the host must not wait for the device.

    Args:
        device: the device of the input.
    """
    if os.environ.get(SWITCH, "").lower() in _OFF:
        return False
    return device.type != "cuda" or not (torch.cuda.is_current_stream_capturing() or torch.cuda.get_sync_debug_mode())


def trial_inputs(device: torch.device) -> Iterator[TrialInput]:
    """Yield the inputs of a trial, the same in every process. No prediction is so near its label that rounding could choose a side.

    Args:
        device: the device to make them on.
    """

    def values(step: int, *shape: int) -> torch.Tensor:
        """Return whole numbers from 0 to 100 in float32, in an order that no kernel can profit from."""
        count = torch.Size(shape).numel()
        return torch.arange(0, count * step, step, device=device).remainder(101).reshape(shape).to(torch.float32)

    term = PixelRule(PixelTerm.CROSS_ENTROPY)
    softmax = VoxelRecipe(activation=Activation.SOFTMAX, pixel=term)
    logits = values(37, 2, 3, _EVEN) / 20 - 2.5
    yield TrialInput("softmax, dense label", logits, torch.softmax(values(29, 2, 3, _EVEN) / 16 - 3.1, 1), softmax)

    indices = VoxelRecipe(activation=Activation.SOFTMAX, label=LabelReading(LabelForm.INDEX), pixel=term)
    classes = values(41, 2, 1, _EVEN).remainder(3).to(torch.int64)
    yield TrialInput("softmax, class indices, float16", logits.to(torch.float16), classes, indices)

    votes = VoxelRecipe(activation=Activation.SIGMOID, label=LabelReading(LabelForm.VOTES, ignore_index=255), pixel=term)
    given = values(43, 2, 3, _ODD)
    raters = torch.where(given > 50, 255.0, given.remainder(3)).to(torch.uint8)
    mask = values(31, 2, 1, _ODD) < 80
    # the second image lacks a rater
    weights = torch.arange(1, 7, dtype=torch.float32, device=device).remainder(6).reshape(2, 3)
    class_weight = torch.arange(1, 4, dtype=torch.float32, device=device)
    yield TrialInput("sigmoid, votes", values(37, 2, 3, _ODD) / 20 - 2.52, raters, votes, mask, weights, class_weight)


def _run_apart(device: torch.device, compare: Callable[[], str]) -> str | None:
    """Return the verdict, or None where none was reached.

    A new thread inherits none of the caller's modes (autocast, inference, no gradient, functorch, dispatch, default device, value
    checks), and its own modes end with it.
    """
    verdict: list[str | None] = []

    def run() -> None:
        try:
            with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
                verdict.append(compare())
        except torch.OutOfMemoryError:
            verdict.append(None)
        except Exception as error:  # whatever a broken compiler or driver does
            verdict.append(f"its first use raised {type(error).__name__}: {error}")

    try:
        thread = Thread(target=run, name="monai_jdt trial")
        thread.start()
    except RuntimeError:
        return None
    thread.join()
    return verdict[0]


def _compare(kernel: Backend, device: torch.device) -> str:
    """Return where a kernel differs from eager. This synchronises with the device once."""
    names, excess = [], []
    for trial in trial_inputs(device):
        expected = _sums_and_gradient(None, trial)
        got = _sums_and_gradient(kernel, trial)
        for name in expected:
            limit = _GRADIENT[trial.logits.dtype] if name == "gradient" else _SUMS
            exact = expected[name].to(torch.float32)
            names.append((name, trial.name, limit))
            excess.append((got[name].to(torch.float32) - exact).abs().amax() / exact.abs().amax() / limit)
    found = [(*name, ratio) for name, ratio in zip(names, torch.stack(excess).tolist(), strict=True) if not ratio <= 1]
    if not found:
        return ""
    name, where, limit, ratio = found[0]
    others = f", and {len(found) - 1} more sums or gradients" if len(found) > 1 else ""
    return (
        f"its {name} is off by {ratio * limit:.1e} of the largest, where eager's definition allows {limit:g} ({where}{others}); please "
        f"report it. {SWITCH}=off trusts it all the same"
    )


def _sums_and_gradient(kernel: Backend | None, trial: TrialInput) -> dict[str, torch.Tensor]:
    """Return the sums and the gradient by name, those of `eager` if the kernel is None."""
    logits = trial.logits.clone().requires_grad_()
    arguments: tuple[Any, ...] = (logits, trial.label, trial.recipe, trial.mask, trial.rater_weights, trial.class_weight)
    sums: VoxelSums = eager_voxel_sums(*arguments) if kernel is None else fast_voxel_sums(kernel, *arguments)[0]
    weighted = [
        # a different slope for each sum, image and class, so that no two can be confused
        (part * torch.arange(first, first + part.numel(), device=part.device).reshape(part.shape)).sum()
        for part, first in zip((sums.tp, sums.fp, sums.fn, sums.pixel), (-17, 3, 5, 1), strict=True)
        if part is not None
    ]
    (gradient,) = torch.autograd.grad(torch.stack(weighted).sum(), logits)
    return {**{name: part.detach() for name, part in sums._asdict().items() if part is not None}, "gradient": gradient}
