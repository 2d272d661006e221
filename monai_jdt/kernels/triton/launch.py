"""The kernel for CUDA: one pass over the voxels forward, which reads each logit and label once, and one backward.

The programs themselves are in `kernels`. The sums are the same in every run: how voxels are dealt out to programs follows from shapes
alone, each program writes its sums into a row of its own, and a second kernel adds the rows in float64 in a fixed order. A program
takes at most `_GROUP` blocks, for two reasons: float32 that adds one number k times is off by up to k / 4 * 2**-23, which must stay
well below 1e-6, and many small programs keep every multiprocessor busy to the end.

The host waits for nothing: no value comes back from the device, and none is copied to it (settings are arguments of a launch).

With `TRITON_INTERPRET=1` set before triton is imported, the same kernels run on CPU tensors, slowly; that is for tests.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
import triton
import triton.language as tl

from monai_jdt.definitions import Activation, LabelForm, PixelTerm
from monai_jdt.kernels.kernel_input import KernelInput
from monai_jdt.kernels.rows import Row
from monai_jdt.kernels.triton.block_math import WORD_BITS
from monai_jdt.kernels.triton.kernels import gradient_kernel, sums_kernel, total_kernel

#: Blocks of a program, at most; float32 adds them up.
_GROUP = 16
#: Programs that a launch should have before they grow. Of 256 to 4096, 512 was the fastest or within .05 of it on an H100.
_PROGRAMS = 512
#: Voxels of a program, if there are as many: its sums (36 bytes per channel) are then below 0.04 of its float16 logits.
_VOXELS = 512
#: Columns and rows that the second kernel holds at once: there are few columns, so it is the rows that must be read side by side.
_COLUMNS, _PARTS = 8, 1024
#: Voxels of a block and warps of a program for `(BLOCK_C, bytes of a logit, backward)`, where :func:`block_shape` would derive others.
#: What counts is that all warps of a program lie along the voxels, 32 threads each with 16 bytes of a row, so that sums over channels
#: stay within a warp: across warps they go through shared memory, with a wait of all.
#: Measured on an H100 (docs/gpu_checks.md). With more than 32 logits a thread the focal term's gradient does not fit into registers.
_SHAPES: dict[tuple[int, int, bool], tuple[int, int]] = {
    (4, 2, False): (256, 1),
    (4, 2, True): (1024, 4),
    (32, 4, False): (64, 4),
    (32, 4, True): (64, 2),
    (128, 4, False): (16, 2),
    (128, 4, True): (16, 2),
    (128, 2, False): (32, 4),
    (128, 2, True): (32, 4),
}
#: The same where rows do not begin at multiples of 16 voxels, so that each voxel is read by itself.
_ODD_SHAPES: dict[tuple[int, int, bool], tuple[int, int]] = {(4, 4, False): (128, 4), (4, 4, True): (128, 4)}
#: A multiplication and an addition may round once. Said, since Triton 3.10 has another default.
FUSED = {"enable_fp_fusion": True}


def triton_sums(given: KernelInput) -> torch.Tensor:
    """Return the sums of a step.

    Args:
        given: logits, label and what to sum; on CUDA, or anywhere under Triton's interpreter.

    Returns:
        `(9, N, C)`. The kernel checks no values, so `Row.MAY_FAIL_CHECK` is 1 wherever a voxel counts: the caller runs the full check.
    """
    n, channels, voxels = given.logits.shape
    if n == 0 or voxels == 0:
        return torch.zeros((len(Row), n, channels), dtype=torch.float32, device=given.logits.device)
    arguments, launch, parts = _call(given, backward=False)
    rows = torch.empty((len(Row), n, channels), dtype=torch.float32, device=given.logits.device)
    partial = torch.empty((parts, *rows.shape), dtype=torch.float32, device=rows.device)
    columns = rows.numel()
    with on_device(given.logits.device):
        sums_kernel[(n * parts,)](partial=partial, threshold=given.recipe.threshold, FOLD=_fold_of(given.logits), **arguments, **launch)
        held = _PARTS if parts > 256 else min(_PARTS, 256)
        total_kernel[(triton.cdiv(columns, _COLUMNS),)](
            partial, rows, columns, parts, PARTS=held, COLUMNS=_COLUMNS, num_warps=max(held * _COLUMNS // 512, 4), **FUSED
        )
    return rows


def triton_gradient(given: KernelInput, upstream: torch.Tensor, factor: torch.Tensor | None = None) -> torch.Tensor:
    """Return the gradient of `(factor * upstream * sums).sum()` by the logits.

    Args:
        given: as for :func:`triton_sums`.
        upstream: `(4, N, C)`, contiguous, for the rows TP, FP, FN, PIXEL.
        factor: one float32 number on the device, which the host does not read; None: 1.

    Returns:
        As the logits, in shape, dtype and (where they are dense) strides.
    """
    result = torch.empty_like(given.logits)
    if result.numel() == 0:
        return result
    arguments, launch, parts = _call(given, backward=True)
    result_n, result_c, result_v = result.stride()
    with on_device(result.device):
        gradient_kernel[(result.shape[0] * parts,)](
            upstream=upstream.to(torch.float32).contiguous(),
            factor=upstream if factor is None else factor,
            result=result,
            result_n=result_n,
            result_c=result_c,
            result_v=result_v,
            SCALED=factor is not None,
            **arguments,
            **launch,
        )
    return result


def block_shape(channels: int, size: int, backward: bool, even: bool = True) -> tuple[int, int, int]:
    """`BLOCK_C, BLOCK_V` and the warps of a program: about 16 logits a thread, few enough for registers, enough to be in flight.

    Args:
        channels: C, at most the `most_channels` of its row in :data:`monai_jdt.kernels.registry.KERNELS`.
        size: bytes of a logit.
        backward: for the gradient.
        even: whether every row of voxels begins at a multiple of 16.
    """
    block_c = triton.next_power_of_2(channels)
    key = block_c, size, backward
    measured = _SHAPES.get(key) if even else _ODD_SHAPES.get(key, _SHAPES.get(key))
    if measured is not None:
        return block_c, *measured
    # a row of 32 half floats is two sectors of memory; below 16 a read would waste most of one
    block_v = max(2048 // block_c, 32 if block_c < 512 else 16)
    return block_c, block_v, min(max(block_c * block_v // 512, 4), 32)


def _fold_of(logits: torch.Tensor) -> int:
    """Return how many neighbours forward adds at once.

    Where rows of logits are read 16 bytes at a time, four neighbours lie in one thread, and a sum of them takes one register of it
    instead of four. Elsewhere they lie in different threads, and are left for the end.
    """
    return 4 if logits.stride(2) == 1 and logits.shape[2] % 16 == 0 else 1


def _call(given: KernelInput, backward: bool) -> tuple[dict[str, Any], dict[str, Any], int]:
    """What both kernels are given, how one of them is launched, and the number of its programs to an image."""
    recipe, reading, rule = given.recipe, given.recipe.label, given.recipe.pixel
    focal = rule if rule is not None and rule.term is PixelTerm.FOCAL else None
    logits, label, mask = given.logits, _loadable(given.label), given.mask
    n, channels, voxels = logits.shape
    block_c, block_v, warps = block_shape(channels, logits.element_size(), backward, voxels % 16 == 0)
    blocks = triton.cdiv(voxels, block_v)
    group = min(max(n * blocks // _PROGRAMS, triton.cdiv(_VOXELS, block_v)), _GROUP)
    parts = triton.cdiv(blocks, group)
    label_as = _label_as(label.dtype)
    softmax = recipe.activation is Activation.SOFTMAX
    marker = reading.ignore_index
    if marker is not None and not _holds(label_as, marker):
        # no value of the label equals it
        marker = None
    # where there is nothing to point to, a pointer that no compiled instruction reads
    mask_strides = (0, 0, 0) if mask is None else mask.stride()
    raters_strides = (0, 0) if given.rater_weights is None else given.rater_weights.stride()
    arguments = {
        "logits": logits,
        "label": label,
        "mask": logits if mask is None else mask.view(torch.uint8),
        "rater_weights": logits if given.rater_weights is None else given.rater_weights,
        "class_weight": logits if given.class_weight is None else given.class_weight,
        "V": voxels,
        "parts": parts,
        "group": group,
        **dict(zip(("logits_n", "logits_c", "logits_v"), logits.stride(), strict=True)),
        **dict(zip(("label_n", "label_c", "label_v"), label.stride(), strict=True)),
        **dict(zip(("mask_n", "mask_c", "mask_v"), mask_strides, strict=True)),
        **dict(zip(("raters_n", "raters_r"), raters_strides, strict=True)),
        "weight_c": 0 if given.class_weight is None else given.class_weight.stride(0),
        "keep": 1.0 - reading.smoothing,
        "spread": reading.smoothing / (channels if softmax else 2),
        "C": channels,
        "BLOCK_C": block_c,
        "BLOCK_V": block_v,
        "ACTIVATION": recipe.activation.value,
        "FORM": reading.form.value,
        "LABEL_AS": label_as,
        "MARKER": marker,
        "RATERS": label.shape[1] if reading.form is LabelForm.VOTES else 0,
        **_region_table(reading.regions, label_as),
        "MASK": "none" if mask is None else "one" if mask.shape[1] == 1 else "each",
        "SMOOTHED": reading.smoothing > 0,
        "EVEN": voxels % block_v == 0,
        "NORM": recipe.norm,
        "TERM": "none" if rule is None else rule.term.value,
        "GAMMA": 1.0 if focal is None else focal.focal_gamma,
        "ALPHA": None if focal is None else focal.focal_alpha,
        "WEIGHTED": given.class_weight is not None,
    }
    return arguments, {"num_warps": warps, **FUSED}, parts


def _loadable(label: torch.Tensor) -> torch.Tensor:
    return label.view(torch.uint8) if label.dtype is torch.bool else label


def _label_as(dtype: torch.dtype) -> tl.dtype:
    """Return the type that label values are compared in: wide enough for each of them, and for what they are compared with."""
    if dtype in (torch.float64, torch.int64):
        return tl.float64 if dtype is torch.float64 else tl.int64
    return tl.float32 if dtype.is_floating_point else tl.int32


def _holds(label_as: tl.dtype, number: int) -> bool:
    return label_as.is_floating() or abs(number) < 2 ** (label_as.primitive_bitwidth - 1)


def _region_table(regions: tuple[tuple[int, ...], ...] | None, label_as: tl.dtype) -> dict[str, int]:
    """The values that are in any region, and for each word of channels and each value the bits of the channels that have it.

    Both tables are packed into a number of 64 bits an entry; none of them is negative.
    """
    values = sorted({number for region in regions or () for number in region if _holds(label_as, number)})
    if regions is not None and not values:
        # a table cannot be empty; of a value that is in no region all bits are 0
        values = [0]
    word = WORD_BITS.value
    bits = [
        sum(1 << bit for bit, region in enumerate((regions or ())[first : first + word]) if value in region)
        for first in range(0, len(regions or ()), word)
        for value in values
    ]

    def packed(entries: list[int]) -> int:
        return sum(entry << (64 * place) for place, entry in enumerate(entries))

    return {"REGION_COUNT": len(values), "REGION_VALUES": packed(values), "REGION_BITS": packed(bits)}


def on_device(device: torch.device) -> Any:
    """Return a context with the tensors' device as the current one, which Triton launches on.

    Args:
        device: theirs.
    """
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
