"""Times and memory of the Triton kernel on a GPU: against a copy, MONAI and `torch.compile`; synchronisations and CUDA graphs."""

from __future__ import annotations

import cProfile
import pstats
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch
from monai.losses import DiceCELoss

from benchmarks.gpu.measuring import (
    INDEX_CE,
    SIGMOID_CE,
    SOFT_CE,
    VOTES_CE,
    Bench,
    Line,
    arguments_of,
    difference,
    no_syncs,
    step_of,
)
from monai_jdt.checks import value_checks
from monai_jdt.definitions import LabelForm, VoxelRecipe
from monai_jdt.kernels.kernel_input import KernelInput
from monai_jdt.kernels.triton import launch as triton_launch
from monai_jdt.losses import JDTCELoss

SPEED_CASES = {
    "soft, C=4, 2 x 128^3": (SOFT_CE, 2, 4, 128, torch.float32),
    "soft, C=4, 192^3": (SOFT_CE, 1, 4, 192, torch.float32),
    "soft, C=4, 2 x 128^3, bfloat16": (SOFT_CE, 2, 4, 128, torch.bfloat16),
    "votes, C=4, 2 x 128^3": (VOTES_CE, 2, 4, 128, torch.float32),
    "index, C=4, 2 x 128^3": (INDEX_CE, 2, 4, 128, torch.float32),
    "index, C=17, 128^3": (INDEX_CE, 1, 17, 128, torch.float32),
    "index, C=118, 128^3": (INDEX_CE, 1, 118, 128, torch.float32),
    "index, C=118, 128^3, bfloat16": (INDEX_CE, 1, 118, 128, torch.bfloat16),
    "sigmoid, C=3, 2 x 128^3": (SIGMOID_CE, 2, 3, 128, torch.float32),
    "soft, C=4, 127^3": (SOFT_CE, 1, 4, 127, torch.float32),
}


def copy_bandwidth(bench: Bench) -> float:
    """Bytes read and written a second by a copy of 1 GiB."""
    source = torch.empty(2**20 if bench.small else 2**30, dtype=torch.uint8, device=bench.device)
    target = torch.empty_like(source)
    return 2 * source.numel() / (bench.device_milliseconds(lambda: target.copy_(source)) / 1000)


def flat_step(bench: Bench, name: str) -> tuple[KernelInput, torch.Tensor]:
    recipe, n, channels, side, dtype = SPEED_CASES[name]
    logits = torch.randn(n, channels, *bench.cube(side), device=bench.device).to(dtype).flatten(2)
    label = bench.label_for(recipe, n, channels, bench.cube(side)).flatten(2)
    weights = torch.ones(n, 3, device=bench.device) if recipe.label.form is LabelForm.VOTES else None
    return KernelInput(logits, label, recipe, None, weights, None), torch.rand(4, n, channels, device=bench.device)


def shares(bench: Bench, step: KernelInput, upstream: torch.Tensor, bandwidth: float) -> tuple[float, float]:
    """Of the copy's bandwidth: forward reads logits and label, backward reads them again and writes the gradient."""
    read = sum(tensor.numel() * tensor.element_size() for tensor in (step.logits, step.label))
    written = step.logits.numel() * step.logits.element_size()
    forward = bench.device_milliseconds(lambda: triton_launch.triton_sums(step)) / 1000
    backward = bench.device_milliseconds(lambda: triton_launch.triton_gradient(step, upstream)) / 1000
    return read / forward / bandwidth, (read + written) / backward / bandwidth


def check_bandwidth(bench: Bench) -> Iterator[Line]:
    """The kernels alone against a copy."""
    bandwidth = copy_bandwidth(bench)
    yield "copy of 1 GiB", f"{bandwidth / 1e9:.0f} GB/s", None, ""
    for name in list(SPEED_CASES)[: 2 if bench.small else None]:
        forward, backward = shares(bench, *flat_step(bench, name), bandwidth)
        yield name, f"forward {forward:.2f}, backward {backward:.2f}", min(forward, backward) >= 0.8, ">= 0.80 of a copy each"


def check_speed(bench: Bench) -> Iterator[Line]:
    """A whole loss, forward and backward, against MONAI's and against eager under torch.compile."""
    for name in ("soft, C=4, 2 x 128^3", "index, C=4, 2 x 128^3", "votes, C=4, 2 x 128^3", "index, C=118, 128^3")[
        : 1 if bench.small else None
    ]:
        recipe, n, channels, side, dtype = SPEED_CASES[name]
        logits = torch.randn(n, channels, *bench.cube(side), device=bench.device, dtype=dtype, requires_grad=True)
        label = bench.label_for(recipe, n, channels, bench.cube(side))
        ours = bench.milliseconds(step_of(JDTCELoss(**arguments_of(recipe), backend="triton"), logits, label))
        eager = JDTCELoss(**arguments_of(recipe), backend="eager")
        yield f"{name}: ours", f"{ours:.3f} ms", None, ""
        yield f"{name}: eager / ours", f"{bench.milliseconds(step_of(eager, logits, label)) / ours:.1f}", None, ""
        if recipe.label.form is not LabelForm.VOTES:
            monai = DiceCELoss(softmax=True, to_onehot_y=recipe.label.form is LabelForm.INDEX)
            ratio = bench.milliseconds(step_of(monai, logits, label)) / ours
            yield f"{name}: MONAI / ours", f"{ratio:.1f}", ratio >= 5, ">= 5"
        if not bench.small and channels < 100:
            torch._dynamo.reset()
            try:
                compiled = bench.milliseconds(step_of(torch.compile(eager), logits, label)) / ours
            except Exception as error:  # whatever torch's compiler meets in code that is not ours
                yield f"{name}: compiled eager / ours", f"SKIP, {type(error).__name__}", None, "compiled by torch"
            else:
                yield f"{name}: compiled eager / ours", f"{compiled:.2f}", compiled >= 1.3, ">= 1.3"


def check_memory(bench: Bench) -> Iterator[Line]:
    """Peak of a step beyond what was there before it, over the logits' bytes; the gradient is 1 of it."""
    bench.need_gpu()
    cases = {name: SPEED_CASES[name] for name in ("soft, C=4, 2 x 128^3", "votes, C=4, 2 x 128^3", "soft, C=4, 2 x 128^3, bfloat16")}
    cases["index, C=118, 2 x 128^3"] = (INDEX_CE, 2, 118, 128, torch.float32)
    for name, (recipe, n, channels, side, dtype) in cases.items():
        logits = torch.randn(n, channels, *bench.cube(side), device=bench.device, dtype=dtype, requires_grad=True)
        label = bench.label_for(recipe, n, channels, bench.cube(side))
        step = step_of(JDTCELoss(**arguments_of(recipe), backend="triton"), logits, label)
        step()
        logits.grad = None
        bench.wait()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        bench.wait()
        extra = (torch.cuda.max_memory_allocated() - before) / (logits.numel() * logits.element_size())
        yield name, f"{extra:.3f} x logits", extra <= 1.05, "<= 1.05"


def check_syncs(bench: Bench) -> Iterator[Line]:
    """A step without a wait of the host for the device."""
    bench.need_gpu()
    weight = torch.tensor([1.0, 2.0, 0.5, 1.0])
    settings: dict[str, tuple[VoxelRecipe, dict]] = {
        "soft": (SOFT_CE, {}),
        "index, ignore_index": (INDEX_CE, {"ignore_index": 255}),
        "votes": (VOTES_CE, {}),
        "soft, mask, weight": (SOFT_CE, {"weight": weight}),
        "soft, average": (SOFT_CE, {"average": {"dataset": 0.2, "image": 0.3, "class": 0.5}, "classes": "both"}),
    }
    for name, (recipe, more) in settings.items():
        logits = torch.randn(2, 4, *bench.cube(32), device=bench.device, requires_grad=True)
        label = bench.label_for(recipe, 2, 4, bench.cube(32))
        mask = torch.rand(2, 1, *bench.cube(32), device=bench.device) < 0.8
        loss = JDTCELoss(**arguments_of(recipe), **more, backend="triton").to(bench.device)
        with value_checks("off"):
            loss(logits, label, mask).backward()
            with no_syncs():
                loss(logits, label, mask).backward()
        yield name, "none", True, "no wait"


def check_graph(bench: Bench) -> Iterator[Line]:
    """A step captured in a CUDA graph and replayed on other numbers."""
    bench.need_gpu()
    logits = torch.randn(2, 4, *bench.cube(64), device=bench.device, requires_grad=True)
    label = bench.label_for(SOFT_CE, 2, 4, bench.cube(64))
    loss = JDTCELoss(softmax=True, backend="triton")
    step = step_of(loss, logits, label)
    with value_checks("off"):
        side_stream = torch.cuda.Stream()
        side_stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side_stream):
            for _ in range(3):
                step()
        torch.cuda.current_stream().wait_stream(side_stream)
        logits.grad = None
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            value = loss(logits, label)
            value.backward()
        other = torch.randn_like(logits)
        with torch.no_grad():
            logits.copy_(other)
        graph.replay()
        bench.wait()
        fresh = other.clone().requires_grad_()
        expected = loss(fresh, label)
        expected.backward()
    assert logits.grad is not None
    assert fresh.grad is not None
    off = max(difference(value, expected), difference(logits.grad, fresh.grad))
    yield "replayed", f"off by {off:.1e}", off == 0, "equal bit for bit"
    times = f"{bench.milliseconds(graph.replay):.3f} ms, {bench.milliseconds(step):.3f} ms without"
    yield "replay of a whole step, 2 x 64^3", times, None, ""


def check_host(bench: Bench) -> Iterator[Line]:
    """How long the host takes for a step that the device ends at once, and with what."""
    bench.need_gpu()
    logits = torch.randn(2, 4, *bench.cube(32), device=bench.device, requires_grad=True)
    step = step_of(JDTCELoss(softmax=True, backend="triton"), logits, bench.label_for(SOFT_CE, 2, 4, bench.cube(32)))
    for _ in range(20):
        step()
    bench.wait()
    times = []
    for _ in range(100):
        start = time.perf_counter()
        step()
        times.append(1000 * (time.perf_counter() - start))
    bench.wait()
    median = statistics.median(times)
    yield "a step, 2 x 32^3", f"{median:.3f} ms", median <= 0.3, "<= 0.3 ms"
    with cProfile.Profile() as profile:
        for _ in range(100):
            step()
    rows = sorted(pstats.Stats(profile).stats.items(), key=lambda row: -row[1][2])[:12]  # type: ignore[attr-defined]
    for (file, line, name), (_, calls, own, whole, _) in rows:
        where = f"{Path(file).name}:{line} {name}"[-70:]
        yield where, f"{calls // 100} calls, own {10 * own:.3f} ms, with what it calls {10 * whole:.3f} ms", None, ""


#: Voxels of a block and warps to try for a case, and for the unaligned one.
SHAPES_TO_TRY: dict[str, tuple[tuple[int, int], ...]] = {
    "soft, C=4, 2 x 128^3, bfloat16": ((512, 2), (256, 1), (1024, 4), (512, 4), (512, 1), (256, 2)),
    "votes, C=4, 2 x 128^3": ((512, 4), (256, 2), (128, 1), (256, 4), (1024, 4)),
    "index, C=17, 128^3": ((32, 1), (64, 2), (64, 1), (128, 4), (64, 4), (128, 2)),
    "index, C=118, 128^3": ((32, 4), (16, 1), (16, 2), (32, 2), (64, 8), (32, 8)),
    "soft, C=4, 127^3": ((512, 4), (256, 4), (128, 4), (256, 2), (128, 2)),
    "index, C=4, 2 x 128^3": ((512, 4), (256, 2), (128, 1), (256, 4)),
    "index, C=118, 128^3, bfloat16": ((32, 4), (16, 1), (16, 2), (64, 4), (64, 8)),
    "sigmoid, C=3, 2 x 128^3": ((512, 4), (256, 2), (128, 1)),
}


class Later:
    """In a kernel's place: notes what a launch would compile."""

    def __init__(self, kernel: Any, tasks: list[Callable[[], object]]) -> None:
        self.kernel, self.tasks = kernel, tasks

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        def launch(*arguments: Any, **settings: Any) -> None:
            self.tasks.append(partial(self.kernel.warmup, *arguments, grid=grid, **settings))

        return launch


def compile_ahead(step: KernelInput, upstream: torch.Tensor, block_c: int, shapes: Iterable[tuple[int, int]]) -> None:
    """Compile a step for several blocks side by side: most of it is done outside of Python."""
    tasks: list[Callable[[], object]] = []
    kernels = {name: getattr(triton_launch, name) for name in ("sums_kernel", "total_kernel", "gradient_kernel")}
    chosen = triton_launch.block_shape
    try:
        for name, kernel in kernels.items():
            setattr(triton_launch, name, Later(kernel, tasks))
        for shape in shapes:
            triton_launch.block_shape = lambda *_, shape=(block_c, *shape): shape
            triton_launch.triton_sums(step)
            triton_launch.triton_gradient(step, upstream)
    finally:
        triton_launch.block_shape = chosen
        for name, kernel in kernels.items():
            setattr(triton_launch, name, kernel)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda task: task(), tasks))


def sweep_shapes(bench: Bench) -> Iterator[Line]:
    """The kernels' share of a copy for other blocks, then for other numbers of programs; for choosing, not for passing."""
    bandwidth = copy_bandwidth(bench)
    chosen, programs = triton_launch.block_shape, triton_launch._PROGRAMS
    for name, shapes in list(SHAPES_TO_TRY.items())[: 1 if bench.small else None]:
        step, upstream = flat_step(bench, name)
        block_c, size = chosen(step.logits.shape[1], step.logits.element_size(), False)[0], step.logits.element_size()
        found = {}
        if not bench.has_time():
            return
        if bench.device.type == "cuda":
            compile_ahead(step, upstream, block_c, shapes)
        try:
            for shape in shapes[: 2 if bench.small else None]:
                triton_launch.block_shape = lambda *_, shape=(block_c, *shape): shape
                found[shape] = shares(bench, step, upstream, bandwidth)
            best = [max(found, key=lambda shape: found[shape][direction]) for direction in (0, 1)]
            table = "; ".join(f"{shape} {forward:.2f} {backward:.2f}" for shape, (forward, backward) in found.items())
            yield f"{name}: {(block_c, size)}", f"{table}; best {best[0]}, {best[1]}", None, "(voxels, warps) forward backward"
            triton_launch.block_shape = lambda *given, best=best, c=block_c: (c, *best[int(given[2])])
            counts = {}
            for count in (256, 512, 1024, 2048, 4096):
                triton_launch._PROGRAMS = count
                counts[count] = shares(bench, step, upstream, bandwidth)
            table = "; ".join(f"{count} {forward:.2f} {backward:.2f}" for count, (forward, backward) in counts.items())
            yield f"{name}: programs", table, None, "programs forward backward"
        finally:
            triton_launch.block_shape, triton_launch._PROGRAMS = chosen, programs
