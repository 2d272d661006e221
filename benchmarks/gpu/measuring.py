"""What the checks on a GPU share: the device, inputs and labels on it, times, and the differences of results."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from monai_jdt.definitions import Activation, LabelForm, LabelReading, PixelRule, PixelTerm, VoxelRecipe, VoxelSums

#: One measurement: what, the number, whether it meets its goal (None: no goal here), the goal in words.
Line = tuple[str, str, "bool | None", str]

CE = PixelRule(PixelTerm.CROSS_ENTROPY)
SOFT_CE = VoxelRecipe(Activation.SOFTMAX, pixel=CE)
INDEX_CE = VoxelRecipe(Activation.SOFTMAX, None, LabelReading(LabelForm.INDEX), pixel=CE)
VOTES_CE = VoxelRecipe(Activation.SOFTMAX, None, LabelReading(LabelForm.VOTES), pixel=CE)
SIGMOID_CE = VoxelRecipe(Activation.SIGMOID, pixel=CE)


class NeedsGpu(Exception):
    """A check that means nothing without CUDA."""


@dataclass(frozen=True)
class Bench:
    """Where the checks run: on this device, with tiny volumes and few cases if small."""

    device: torch.device
    small: bool = False
    #: on the clock of `time.perf_counter`, after which no more is started
    end: float = math.inf

    def has_time(self) -> bool:
        return time.perf_counter() < self.end

    def need_gpu(self) -> None:
        if self.device.type != "cuda":
            raise NeedsGpu

    def cube(self, side: int) -> tuple[int, int, int]:
        return (6, 5, 4) if self.small else (side, side, side)

    def label_for(self, recipe: VoxelRecipe, n: int, channels: int, space: tuple[int, ...]) -> torch.Tensor:
        """float32 probabilities, int64 indices, or uint8 votes of three raters, as training loops hold them."""
        form = recipe.label.form
        if form is LabelForm.DENSE:
            label = torch.randn(n, channels, *space, device=self.device)
            return label.mul_(2).softmax(1) if recipe.activation is Activation.SOFTMAX else label.mul_(2).sigmoid_()
        if form is LabelForm.INDEX:
            return torch.randint(channels, (n, 1, *space), device=self.device)
        return torch.randint(channels, (n, 3, *space), device=self.device, dtype=torch.uint8)

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def milliseconds(self, work: Callable[[], object], rounds: int = 20) -> float:
        """The median of single runs, after three that warm up and compile."""
        for _ in range(3):
            work()
        self.wait()
        times = []
        for _ in range(2 if self.small else rounds):
            if self.device.type == "cuda":
                first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                first.record()
                work()
                last.record()
                last.synchronize()
                times.append(first.elapsed_time(last))
            else:
                start = time.perf_counter()
                work()
                times.append(1000 * (time.perf_counter() - start))
        return statistics.median(times)

    def device_milliseconds(self, work: Callable[[], object]) -> float:
        """The same on the device alone, from a CUDA graph of ten runs: a launch from Python can take longer than a kernel."""
        if self.device.type != "cuda":
            return self.milliseconds(work)
        side_stream = torch.cuda.Stream()
        side_stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side_stream):
            for _ in range(3):
                work()
        torch.cuda.current_stream().wait_stream(side_stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for _ in range(10):
                work()
        return self.milliseconds(graph.replay) / 10


def arguments_of(recipe: VoxelRecipe) -> dict[str, Any]:
    """Of a loss class, for the same label."""
    forms: dict[LabelForm, dict[str, Any]] = {
        LabelForm.DENSE: {},
        LabelForm.INDEX: {"to_onehot_y": True},
        LabelForm.VOTES: {"votes": True},
    }
    return {recipe.activation.value: True, **forms[recipe.label.form]}


def step_of(loss: Callable[..., torch.Tensor], logits: torch.Tensor, label: torch.Tensor) -> Callable[[], None]:
    def step() -> None:
        logits.grad = None
        loss(logits, label).backward()

    return step


@contextmanager
def no_syncs() -> Iterator[None]:
    """A wait of the host for the device is an error."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def weighted_total(sums: VoxelSums) -> torch.Tensor:
    total = sums.tp.sum() + 2 * sums.fp.sum() + 3 * sums.fn.sum()
    return total if sums.pixel is None else total + 0.5 * sums.pixel.sum()


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    """The largest, relative to the largest of b."""
    a, b = a.detach().double(), b.detach().double().to(a.device)
    return float((a - b).abs().max() / b.abs().max().clamp(min=1e-12))
