"""The numba kernel seen from torch: a step as plain numbers, and its voxels shared out among threads.

The tasks of forward depend on the tensors' shape only, and each has its own sums, which are added once all are there; in backward a
voxel's gradient is its own. So the number of threads does not change the result.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from functools import lru_cache
from glob import escape as glob_escape
from glob import glob
from typing import Any, ClassVar

import numpy as np
import torch

from monai_jdt.checks import RANGE_TOLERANCE, SUM_TOLERANCE
from monai_jdt.definitions import Activation, LabelForm, PixelTerm, VoxelRecipe
from monai_jdt.kernels.kernel_input import KernelInput
from monai_jdt.kernels.numba import compilation, program, records
from monai_jdt.kernels.numba.prefault import LARGE, claim
from monai_jdt.kernels.numba.records import Job, StridedArray
from monai_jdt.kernels.numba.threads import share_out
from monai_jdt.kernels.rows import CAUTION, Row

logger = logging.getLogger(__name__)

#: Most voxels in a block, and most voxels times channels. x, t and keep of a block are 3 rows a channel, 384 KB at most: where they are
#: not read in place, they stay in a core's own cache.
_LONGEST_ROW, _BLOCK = 1024, 2**15
#: Fewest voxels times channels of a task: handing it to another thread takes as long as computing 10,000 to 30,000 of them.
_TASK = 2**16
#: Most voxels times channels of a step that torch's own threads do. In longer ones a late start does not count, and a thread that
#: another program keeps from its core does.
_SHORT = 2**22
#: Most tasks of an image in forward. Each has sums of its own, so the number must not depend on the number of threads, or the result
#: would: float32 sums in another order.
_TASKS = 32
#: Tasks per thread in backward, where the order of tasks changes nothing. Long rows of the gradient are claimed faster than short ones.
_TASKS_OF_A_THREAD = 4

_KINDS = {
    torch.float32: records.FLOAT32,
    torch.float16: records.FLOAT16,
    torch.bfloat16: records.BFLOAT16,
    torch.float64: records.FLOAT64,
    torch.uint8: records.UINT8,
    torch.bool: records.UINT8,
    torch.int8: records.INT8,
    torch.int16: records.INT16,
    torch.int32: records.INT32,
    torch.int64: records.INT64,
}
_ACTIVATIONS = {Activation.NONE: records.NO_ACTIVATION, Activation.SIGMOID: records.SIGMOID, Activation.SOFTMAX: records.SOFTMAX}
_PIXELS = {
    PixelTerm.CROSS_ENTROPY: records.CROSS_ENTROPY,
    PixelTerm.FOCAL: records.FOCAL,
    PixelTerm.DIVERGENCE: records.DIVERGENCE,
}


_NO_ARRAY = StridedArray(0, 0, 0, 0, 0, 0)


def numba_sums(given: KernelInput) -> torch.Tensor:
    """The sums of a step.

    Args:
        given: logits, label and what to sum, on the CPU; a step that the kernel's row in the table of kernels does not refuse.

    Returns:
        `(9, N, C)` in `given.dtype`; see :class:`monai_jdt.kernels.rows.Row`. Lanes add up a block in float32. Blocks and tasks are
        added in float64.
    """
    run_range = _program()
    images, channels, _ = given.logits.shape
    tasks = _tasks(given, _TASKS)
    if not tasks:
        return torch.zeros((len(Row), images, channels), dtype=given.dtype, device="cpu")
    job, tables = _job(given)
    ranges = max(len(tasks) // images, 1)
    # numpy's calls on a few numbers take a third of the time of torch's
    sums = np.zeros((images * ranges, len(Row), channels))
    stride, first_sums = sums.strides[0], sums.ctypes.data

    def work(numbers: Iterator[int]) -> None:
        with _Scratch(job) as scratch:
            for number in numbers:
                place = tasks[number][0] * ranges + number % ranges
                run_range(job, *tasks[number], scratch, first_sums + place * stride)

    share_out(len(tasks), work, given.logits.numel() <= _SHORT)
    # compiled code has addresses only: until here Python must not free what they point to
    del tables
    if ranges > 1:
        sums = sums.reshape(images, ranges, len(Row), channels).sum(1)
    with np.errstate(over="ignore"):
        return torch.from_numpy(sums.transpose(1, 0, 2).astype(np.float32, order="C"))


def numba_gradient(given: KernelInput, upstream: torch.Tensor) -> torch.Tensor:
    """The gradient of `(upstream * sums).sum()` by the logits.

    Args:
        given: as for :func:`numba_sums`.
        upstream: `(4, N, C)`, for the rows TP, FP, FN, PIXEL.

    Returns:
        As the logits, in shape and dtype.
    """
    run_range = _program()
    result = torch.empty_like(given.logits)
    tasks = _tasks(given, _TASKS_OF_A_THREAD * torch.get_num_threads())
    job, tables = _job(given, upstream, result)

    def work(numbers: Iterator[int]) -> None:
        with _Scratch(job) as scratch:
            for number in numbers:
                _claim_task(result, *tasks[number])
                run_range(job, *tasks[number], scratch, 0)

    share_out(len(tasks), work, given.logits.numel() <= _SHORT)
    del tables
    return result


def _tasks(given: KernelInput, most: int) -> list[tuple[int, int, int, int]]:
    """Return for each task its first image, number of images, first voxel, and the voxel after the last.

    Each image has the same ranges, at most `most` of them, in order. Several small images are one task. The ranges of a large image
    begin at whole blocks, so that the blocks, and their sums in float32, do not depend on how many tasks there are.
    """
    images, channels, voxels = given.logits.shape
    size = max(_TASK // channels, -(-voxels // most), 1)
    at_once = max(size // max(voxels, 1), 1)
    if at_once > 1:
        return [(image, min(at_once, images - image), 0, voxels) for image in range(0, images if voxels else 0, at_once)]
    width = _width(channels)
    size = -(-size // width) * width
    return [(image, 1, first, min(first + size, voxels)) for image in range(images) for first in range(0, voxels, size)]


def _width(channels: int) -> int:
    """Return the number of voxels in a block, a multiple of the lanes."""
    return max(min(_LONGEST_ROW, _BLOCK // channels // records.WIDTH * records.WIDTH), records.WIDTH)


def _strided(tensor: torch.Tensor) -> StridedArray:
    """Return where the numbers of a tensor `(N, K, V)` lie. The caller keeps the tensor alive."""
    size = tensor.element_size()
    image, channel, voxel = tensor.stride()
    return StridedArray(tensor.data_ptr(), _KINDS[tensor.dtype], size, image * size, channel * size, voxel)


def _job(given: KernelInput, upstream: torch.Tensor | None = None, result: torch.Tensor | None = None) -> tuple[Job, list[Any]]:
    """Return a step in plain numbers, and the tables that must be kept alive while it runs.

    Args:
        given: the step.
        upstream: in backward `(4, N, C)`.
        result: in backward the gradient to write, as the logits.
    """
    recipe, reading = given.recipe, given.recipe.label
    images, channels, _ = given.logits.shape
    settings, constant_tables = _settings(recipe, channels)
    tables: list[Any] = [constant_tables]
    raters = rater_weights = slopes = 0
    everywhere = True
    if reading.form is not LabelForm.DENSE:
        raters = given.label.shape[1]
        if given.rater_weights is None:
            weights = np.ones((images, raters), np.float32)
        else:
            weights = np.ascontiguousarray(given.rater_weights.numpy(), np.float32)
            everywhere = bool((weights > 0).any(1).all())
        tables.append(weights)
        rater_weights = weights.ctypes.data
    class_weight = constant_tables[0]
    if given.class_weight is not None:
        class_weight = torch.zeros((2, channels), dtype=torch.float32, device="cpu")
        if channels == 1:
            # of foreground w and background 1: w t + 1 - t = 1 + (w - 1) t
            class_weight[0], class_weight[1] = 1, given.class_weight - 1
        else:
            class_weight[0] = given.class_weight
        tables.append(class_weight)
    if upstream is not None:
        table = _slopes(upstream.to(torch.float32).numpy(), recipe.norm)
        tables.append(table)
        slopes = table.ctypes.data
    job = Job(
        logits=_strided(given.logits),
        label=_strided(given.label),
        mask=_NO_ARRAY if given.mask is None else _strided(given.mask),
        gradient=_NO_ARRAY if result is None else _strided(result),
        raters=raters,
        rater_weights=rater_weights,
        marked=int(given.mask is not None or reading.ignore_index is not None or not everywhere),
        mask_rows=1 if given.mask is None else given.mask.shape[1],
        class_weight=class_weight.data_ptr(),
        has_class_weight=int(given.class_weight is not None),
        slopes=slopes,
        images=images,
        **settings,
    )
    return job, tables


@lru_cache(maxsize=256)
def _settings(recipe: VoxelRecipe, channels: int) -> tuple[dict[str, Any], list[torch.Tensor]]:
    """Return the fields of a job that follow from a recipe and C, and their tables. Making them takes longer than a small step."""
    reading, rule = recipe.label, recipe.pixel
    highest, above = max(channels - 1, 1), records.ILLEGAL
    pairs: list[tuple[int, int]] = []
    if reading.regions is not None:
        # Class codes are 32 bits wide in the loops; no value above is in a region, by the kernel's row in the table of kernels.
        highest, above = 2**31 - 1, records.NOWHERE
        pairs = [(channel, value) for channel, values in enumerate(reading.regions) for value in values]
    elif reading.form is not LabelForm.DENSE:
        pairs = [(channel, channel) for channel in range(channels)] if channels > 1 else [(0, 1)]
    members = torch.tensor(pairs, dtype=torch.int64, device="cpu").reshape(-1, 2).T.contiguous()
    equal_weights = torch.ones(2, channels, dtype=torch.float32, device="cpu")
    equal_weights[1] = 0
    softmax = recipe.activation is Activation.SOFTMAX
    alpha = (1.0, 0.0)
    if rule is not None and rule.term is PixelTerm.FOCAL and rule.focal_alpha is not None:
        a = rule.focal_alpha
        # of the background, whose weight is 1 - a; with softmax that is t_0, with sigmoid 1 - t
        alpha = (a, 1 - 2 * a) if softmax else (1 - a, 2 * a - 1)
    e = reading.smoothing
    scale, floor = 1 - e, e / (channels if softmax else 2)
    fields = {
        "channels": channels,
        "width": _width(channels),
        "members": members.data_ptr(),
        "pairs": len(pairs),
        "highest_class": highest,
        "above": above,
        "has_ignore_index": int(reading.ignore_index is not None),
        "ignore_index": reading.ignore_index or 0,
        "activation": _ACTIVATIONS[recipe.activation],
        "norm": recipe.norm,
        "pixel": records.NO_PIXEL if rule is None else _PIXELS[rule.term],
        "smoothed": int(e > 0),
        "smoothing_scale": np.float32(scale),
        "smoothing_floor": np.float32(floor),
        "threshold": np.float32(recipe.threshold),
        "gamma": np.float32(1.0 if rule is None else rule.focal_gamma),
        "alpha": (np.float32(alpha[0]), np.float32(alpha[1])),
        "low": np.float32(-CAUTION * RANGE_TOLERANCE),
        "high": np.float32(1 + CAUTION * RANGE_TOLERANCE),
        "off": np.float32(CAUTION * SUM_TOLERANCE if softmax and reading.form is LabelForm.DENSE else np.inf),
    }
    return fields, [equal_weights, members]


def _slopes(upstream: np.ndarray, norm: int) -> np.ndarray:
    """Return the slopes as :class:`monai_jdt.kernels.numba.records.Job` has them, float32 `(4, N, C)`.

    Made by numpy, whose calls on a few numbers take less time than torch's.
    """
    tp, fp, fn, pixel = upstream
    table = np.empty_like(upstream)
    if norm == 1:
        np.subtract(tp, fn, out=table[0])
        table[1] = fp
        np.add(table[0], fp, out=table[2])
        table[2] /= 2
    else:
        np.add(fp, fn, out=table[0])
        table[1] = table[2] = tp
    table[3] = pixel
    return table


@lru_cache(maxsize=1)
def _program() -> Any:
    """Return the compiled loops, ready to be called. The log says so if numba has nothing on disk.

    A call without voxels compiles them, or reads them from disk, where a failure can still be told from a failure of the step.
    """
    run_range = program.run_range
    folder = run_range.stats.cache_path
    if folder is None or not glob(os.path.join(glob_escape(folder), "program.*run_range-*.nbi")):
        logger.info("numba compiles the losses' kernel: some ten seconds, once on this machine")
    nothing = torch.zeros(1, 1, 0, dtype=torch.float32, device="cpu")
    job, tables = _job(KernelInput(nothing, nothing, VoxelRecipe(), None, None, None))
    run_range = compilation.ready_to_call(run_range, job, 0, 0, 0, 0, 0, 0)
    del tables
    return run_range


def _claim_task(tensor: torch.Tensor, image: int, images: int, first: int, last: int) -> None:
    """Get the memory of a large contiguous gradient that a task writes to: one row of voxels for each image and channel."""
    if tensor.numel() * tensor.element_size() >= LARGE and tensor.is_contiguous():
        _, channels, voxels = tensor.shape
        for row in range(image * channels, (image + images) * channels):
            claim(tensor, row * voxels + first, row * voxels + last)


class _Scratch:
    """The address of what a thread works in: a block's rows, which fit into a core's cache.

    It is kept for the next step, of any thread: a thread of torch's is a new one to Python at every call. A class, since a generator's
    context costs a small step a hundredth of its time.
    """

    _free: ClassVar[list[torch.Tensor]] = []

    def __init__(self, job: Job) -> None:
        self._size = records.scratch_size(job.channels, job.width)

    def __enter__(self) -> int:
        try:
            self._memory = self._free.pop()
        except IndexError:
            self._memory = torch.empty(0, dtype=torch.float32, device="cpu")
        if self._memory.numel() < self._size:
            self._memory = torch.empty(self._size, dtype=torch.float32, device="cpu")
        return self._memory.data_ptr()

    def __exit__(self, *error: object) -> None:
        self._free.append(self._memory)
