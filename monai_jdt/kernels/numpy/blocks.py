"""The voxels that the kernel has at hand: logits, label and mask of a block, as numpy's operations want them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from monai_jdt.definitions import Activation, LabelForm
from monai_jdt.kernels.kernel_input import KernelInput
from monai_jdt.kernels.labels import read_label

#: Most logits in a block. Fewer, and the time goes into calls; more, and the temporaries are far from the core.
_LARGEST = 2**18
#: Views of its memory that a thread keeps, of blocks of different shapes.
_MOST_VIEWS = 64
_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


class Place(NamedTuple):
    """Where a block is: all voxels of some images, or some voxels of one."""

    images: slice
    voxels: slice
    #: whether that is the whole step: a view of a tensor takes as long as an operation on a thousand numbers
    whole: bool

    def of(self, values: torch.Tensor) -> torch.Tensor:
        """Return a view of these voxels.

        Args:
            values: `(N, L, V)`.
        """
        return values if self.whole else values[self.images, :, self.voxels]

    def step(self, given: KernelInput) -> KernelInput:
        """Return these voxels as a step of its own.

        Args:
            given: the whole step.
        """
        weights = None if given.rater_weights is None else given.rater_weights[self.images]
        mask = None if given.mask is None else self.of(given.mask)
        return replace(given, logits=self.of(given.logits), label=self.of(given.label), mask=mask, rater_weights=weights)


def places_of(given: KernelInput) -> Iterator[list[Place]]:
    """Yield the blocks of a step, those of the same images at once. They depend on its shape only. No voxels, no blocks.

    Args:
        given: the step.
    """
    images, channels, voxels = given.logits.shape
    if voxels == 0 or channels == 0:
        return
    at_once = max(_LARGEST // (channels * voxels), 1)
    number = -(-voxels // max(_LARGEST // channels, 1))
    whole = number == 1 and at_once >= images
    for first in range(0, images, at_once):
        here = slice(first, min(first + at_once, images))
        yield [Place(here, slice(voxels * k // number, voxels * (k + 1) // number), whole) for k in range(number)]


class Temporary(NamedTuple):
    """Uninitialised memory, as torch and as numpy see it."""

    tensor: torch.Tensor
    array: np.ndarray
    #: along the first dimension
    parts: tuple[torch.Tensor, ...]


class Memory:
    """Memory for temporaries, which every block writes over.

    Args:
        dtype: of the temporaries, float32 or float64.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._buffers: dict[str, torch.Tensor] = {}
        self._views: dict[tuple[str, torch.Size], Temporary] = {}

    def take(self, name: str, shape: torch.Size) -> Temporary:
        """Return memory of a shape.

        Args:
            name: the same name is the same memory.
            shape: how to see it.
        """
        found = self._views.get((name, shape))
        if found is not None:
            return found
        buffer = self._buffers.get(name)
        if buffer is None or buffer.numel() < shape.numel() or len(self._views) >= _MOST_VIEWS:
            # views of the smaller buffer would keep it alive
            self._views.clear()
            buffer = self._buffers[name] = torch.empty(shape.numel(), dtype=self.dtype, device="cpu")
        tensor = buffer[: shape.numel()].view(shape)
        found = self._views[name, shape] = Temporary(tensor, tensor.numpy(), tensor.unbind())
        return found


class LastingMemory:
    """Memory for temporaries that outlive a block: new each time.

    Args:
        dtype: of the temporaries, float32 or float64.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype

    def take(self, name: str, shape: torch.Size) -> Temporary:
        """Return new memory of a shape, as :meth:`Memory.take` does.

        Args:
            name: what it is for.
            shape: how to see it.
        """
        tensor = torch.empty(shape, dtype=self.dtype, device="cpu")
        return Temporary(tensor, tensor.numpy(), tensor.unbind())


_of_thread = threading.local()


def memory_of_thread(dtype: torch.dtype) -> Memory:
    """Return memory that a thread keeps from step to step, at most ten times a block.

    Fresh memory takes longer than the arithmetic of a small step: the system clears and maps its pages at their first use.

    Args:
        dtype: of the temporaries. Those of another dtype are dropped.
    """
    memory: Memory | None = getattr(_of_thread, "memory", None)
    if memory is None or memory.dtype != dtype:
        memory = _of_thread.memory = Memory(dtype)
    return memory


class Block:
    """Some voxels of a step. Each value is `(n, C, v)` in the dtype of the sums, and 0 where it does not count.

    Args:
        given: the step.
        place: which voxels.
        memory: written over: "logits", and, without `lasting`, "label", "t" and "p".
        lasting: memory for label and predictions that outlive the block.
        saved: predictions of an earlier block of these voxels, all of which count, and its label unless it is the caller's; or nothing.
    """

    def __init__(
        self, given: KernelInput, place: Place, memory: Memory, lasting: LastingMemory | None = None, saved: Sequence[torch.Tensor] = ()
    ) -> None:
        self.recipe, self.class_weight, self.memory = given.recipe, given.class_weight, memory
        self.lasting: Memory | LastingMemory = lasting or memory
        self.logits = place.of(given.logits.detach())
        self.shape = self.logits.shape
        if self.logits.dtype != memory.dtype:
            self.logits = self.logits.to(memory.dtype)
        #: Bool, `(n, 1 or C, v)`, or None for all; the same as bits of all ones or zeros
        self.counted: np.ndarray | None = None
        self._bits: np.ndarray | None = None
        self.label_dtype = given.label.dtype
        #: Predictions, if they are known
        self.p: np.ndarray | None = None
        if saved:
            self.p, *label = (values.detach().numpy() for values in saved)
            self.t = self.raw = label[0] if label else place.of(given.label.detach()).numpy()
            return
        weights = None if given.rater_weights is None else given.rater_weights[place.images]
        #: The label before and after label smoothing
        self.raw, counted = self._read(place.of(given.label.detach()), weights)
        if given.mask is not None:
            mask = place.of(given.mask).numpy()
            counted = mask if counted is None else counted & mask
        if counted is not None:
            self.counted = counted
            self._bits = np.negative(counted.astype(np.int64 if memory.dtype is torch.float64 else np.int32))
            # before the activation: a NaN that does not count would otherwise reach the other channels
            kept = memory.take("logits", self.shape)
            self.keep(self.logits.numpy(), kept.array)
            self.logits, self.raw = kept.tensor, self.keep(self.raw, self.lasting.take("label", self.shape).array)
        self.t, smoothing = self.raw, given.recipe.label.smoothing
        if smoothing > 0:
            self.t = np.multiply(self.raw, 1 - smoothing, out=self.lasting.take("t", self.shape).array)
            self.t += smoothing / (self.shape[1] if given.recipe.activation is Activation.SOFTMAX else 2)
            self.keep(self.t, self.t)

    @property
    def is_callers_label(self) -> bool:
        """Whether the label is read where the caller has it."""
        reading = self.recipe.label
        plain = reading.form is LabelForm.DENSE and reading.ignore_index is None and reading.smoothing == 0
        return plain and self.counted is None and self.label_dtype == self.memory.dtype

    def keep(self, values: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Return the values, and 0 where they do not count, whatever they are there. If all count, nothing is done.

        Args:
            values: `(n, C, v)`.
            out: where to write them.
        """
        if self._bits is None:
            return values
        # a choice takes ten times as long, and a product with 0 keeps NaN
        np.bitwise_and(values.view(self._bits.dtype), self._bits, out=out.view(self._bits.dtype))
        return out

    def _read(self, label: torch.Tensor, weights: torch.Tensor | None) -> tuple[np.ndarray, np.ndarray | None]:
        """Return what :func:`monai_jdt.kernels.labels.read_label` does: values, anything where they do not count, and what counts."""
        reading, dtype = self.recipe.label, self.memory.dtype
        if reading.form is LabelForm.DENSE and reading.ignore_index is None:
            return (label if label.dtype == dtype else label.to(dtype)).numpy(), None
        if reading.form is not LabelForm.DENSE and reading.regions is None and label.dtype in _INTEGERS:
            read = self._shares(label.numpy(), None if weights is None else weights.numpy(), reading.ignore_index)
            if read is not None:
                return read
        values, labelled = read_label(label, self.shape[1], self.recipe, weights, dtype)
        if labelled is None or (reading.ignore_index is None and bool(labelled.all())):
            return values.contiguous().numpy(), None
        return values.contiguous().numpy(), labelled.numpy()

    def _shares(
        self, answers: np.ndarray, weights: np.ndarray | None, marker: int | None
    ) -> tuple[np.ndarray, np.ndarray | None] | None:
        """Return each class's share of the raters that speak `(n, C, v)`, and where any does (None: everywhere).

        None where an answer is no class, and for what is seldom: the caller then takes `read_label`.

        Args:
            answers: whole numbers, `(n, R, v)`. Class indices are the answers of one rater.
            weights: `(n, R)` or `(1, R)`; None: 1.
            marker: the answer of a rater who does not speak.
        """
        channels, raters = self.shape[1], answers.shape[1]
        if channels > np.iinfo(answers.dtype).max:
            answers = answers.astype(np.int64)
        speaking = answers if marker is None else np.where(answers == marker, answers.dtype.type(0), answers)
        lowest, highest = speaking.min(), speaking.max()
        if lowest < 0 or highest > max(channels - 1, 1):
            return None
        values = self.lasting.take("label", self.shape).array
        # one channel holds class 1
        classes = np.arange(channels, dtype=answers.dtype).reshape(1, -1, 1) if channels > 1 else answers.dtype.type(1)
        if raters == 1 and weights is None:
            np.equal(answers, classes, out=values)
            return values, None if marker is None else answers != marker
        if marker is None and raters < 256 and weights is not None and (weights == 1).all():
            votes = np.equal(answers[:, :1], classes).view(np.uint8)
            for rater in range(1, raters):
                votes += np.equal(answers[:, rater : rater + 1], classes).view(np.uint8)
            return np.divide(votes, values.dtype.type(raters), out=values), None
        weights = np.ones((1, raters), values.dtype) if weights is None else np.where(weights > 0, weights, 0)
        total: np.ndarray | float = 0.0
        values[...] = 0
        for rater in range(raters):
            answer, weight = answers[:, rater : rater + 1], weights[:, rater, np.newaxis, np.newaxis]
            if marker is not None:
                weight = weight * (answer != marker)
            values += np.equal(answer, classes) * weight
            total = total + weight
        speaks = total > 0
        values /= np.where(speaks, total, 1)
        return values, None if marker is None and np.all(speaks) else np.broadcast_to(speaks, (self.shape[0], 1, self.shape[2]))
