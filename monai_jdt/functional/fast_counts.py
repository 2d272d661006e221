"""Whether the counts of a metric can be compiled, and their way to compiled code: voxels of one image, shared out among threads."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType

import numpy as np
import torch

from monai_jdt.checks import RANGE_TOLERANCE, can_read_values
from monai_jdt.kernels.registry import import_failure, is_installed

_MODULE = "monai_jdt.functional.compiled_counts"
#: Values of an image's prediction, from which on its counts are compiled. Torch takes 20 ms for fewer: not worth a compiler.
COMPILED_FROM = 2**19
#: What numba reads in place; the others go through torch.
_FLOATS = (torch.float32, torch.float64)
_NUMBERS = (*_FLOATS, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
#: Voxels of a task, at least, and tasks, at most. They depend on the shape only, and so do the sums, whatever the number of threads.
_TASK, _TASKS = 2**16, 32


def compiled_counts(prob: torch.Tensor, label: torch.Tensor) -> ModuleType | None:
    """Return the module of compiled counts if it can run on these tensors and is worth it, else None.

    Args:
        prob: the prediction `(N, C, V)`.
        label: a label or votes `(N, K, V)`.
    """
    if prob.device.type != "cpu" or not prob.shape[0] or prob[0].numel() < COMPILED_FROM or not can_read_values(prob, label):
        return None
    if prob.dtype not in (*_FLOATS, torch.bool) or label.dtype not in (*_NUMBERS, torch.bool):
        return None
    # a compiler that is installed may still be broken
    if not is_installed("numba") or import_failure(_MODULE):
        return None
    return importlib.import_module(_MODULE)


def compiled_overlap_counts(compiled: ModuleType, pred: torch.Tensor, label: torch.Tensor, largest: bool | None) -> torch.Tensor | None:
    """Count as :func:`monai_jdt.functional.fine_grained_overlap.overlap_counts` does. None: a value is illegal.

    Args:
        compiled: of :func:`compiled_counts`.
        pred: `(C, V)`.
        label: `(C, V)`.
        largest: a channel marks the voxels where it is the largest, or those above .5; None: the prediction is 0 and 1.

    Returns:
        int64 `(C, 4)`.
    """
    p, t = _array(pred), _array(label)

    def count(first: int, last: int) -> tuple[np.ndarray, int]:
        counts = np.zeros((len(p), 3), np.int64)
        if largest is not None:
            return counts, compiled.count_soft(p, t, largest, -RANGE_TOLERANCE, 1 + RANGE_TOLERANCE, first, last, counts)
        count_range = compiled.count_hard_bytes if p.itemsize == t.itemsize == 1 else compiled.count_hard
        return counts, count_range(p, t, first, last, counts)

    parts = _shared_out(pred.shape[1], count)
    if any(illegal for _, illegal in parts):
        return None
    counts = torch.from_numpy(sum(counts for counts, _ in parts))
    return torch.cat([counts, torch.full_like(counts[:, :1], pred.shape[1])], 1)


def compiled_bins(
    compiled: ModuleType,
    prob: torch.Tensor,
    votes: torch.Tensor,
    weights: Sequence[float],
    channel: int | None,
    values: Sequence[int],
    number: int,
) -> torch.Tensor:
    """Sum bins of equal width as :func:`monai_jdt.functional.rater_calibration_error.rater_calibration_bins` does, against the mean.

    Args:
        compiled: of :func:`compiled_counts`.
        prob: `(C, V)` in [0, 1].
        votes: `(R, V)`, no vote ignored.
        weights: R numbers, 0 = missing.
        channel: None: the largest.
        values: the label values of the channel.
        number: of bins.

    Returns:
        float64 `(number, 3)`.
    """
    p, v = _array(prob), _array(votes)
    edges = torch.linspace(0, 1, number + 1, dtype=torch.float64, device="cpu").numpy()
    members, wide = np.asarray(sorted(set(values)), np.int64), np.asarray(weights, np.float64)

    def count(first: int, last: int) -> np.ndarray:
        bins = np.zeros((number, 3))
        compiled.bin_range(p, v, wide, -1 if channel is None else channel, members, edges, first, last, bins)
        return bins

    return torch.from_numpy(sum(_shared_out(prob.shape[1], count)))


def _array(values: torch.Tensor) -> np.ndarray:
    """Return a matrix as numba takes it: contiguous, with bool as bytes."""
    values = values.contiguous()
    return (values.view(torch.uint8) if values.dtype is torch.bool else values).numpy()


def _shared_out(voxels: int, count: Callable) -> list:
    """Return what `count(first, last)` gives for ranges of voxels, in their order."""
    from monai_jdt.kernels.numba.threads import share_out

    tasks = min(max(voxels // _TASK, 1), _TASKS)
    found: list = [None] * tasks

    def work(numbers: Iterator[int]) -> None:
        for number in numbers:
            found[number] = count(voxels * number // tasks, voxels * (number + 1) // tasks)

    share_out(tasks, work)
    return found
