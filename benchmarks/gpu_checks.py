"""Everything that only a GPU can tell, in one call of less than ten minutes: `python benchmarks/gpu_checks.py OUT`.

It needs torch with CUDA (and its Triton) and monai, and runs from a checkout. Every check prints one line, PASS, FAIL, ERROR or SKIP
with what was measured and the goal; a check that breaks does not stop the others. OUT gets `gpu_checks.csv` and `gpu_checks.md`,
written anew after every check, so that a run that is cut off leaves what it had. `--only parity,speed` runs some; `--tune` adds a
sweep over block shapes. `--device cpu --small` runs the same lines under Triton's interpreter, which tells nothing about a GPU, but
whether this script works. See docs/gpu_checks.md.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

if "cpu" in sys.argv:
    # read when triton is imported
    os.environ["TRITON_INTERPRET"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import triton
from monai.losses import DiceCELoss

import monai_jdt
from monai_jdt.checks import value_checks
from monai_jdt.definitions import Activation, Backend, LabelForm, LabelReading, PixelRule, PixelTerm, VoxelRecipe, VoxelSums
from monai_jdt.kernels import trial
from monai_jdt.kernels.eager import eager_voxel_sums
from monai_jdt.kernels.kernel_input import KernelInput
from monai_jdt.kernels.operators import fast_voxel_sums
from monai_jdt.kernels.triton import kernels as triton_kernels
from monai_jdt.losses import (
    DiceDistance,
    DistillationLoss,
    JaccardDistance,
    JDTCELoss,
    JDTFocalLoss,
    JDTLoss,
    LovaszSoftmaxLoss,
    SoftDeepSupervisionLoss,
)

#: One measurement: what, the number, whether it meets its goal (None: no goal here), the goal in words.
Line = tuple[str, str, "bool | None", str]

DEVICE = torch.device("cuda")
SMALL = False
CE = PixelRule(PixelTerm.CROSS_ENTROPY)
SOFT_CE = VoxelRecipe(Activation.SOFTMAX, pixel=CE)
INDEX_CE = VoxelRecipe(Activation.SOFTMAX, None, LabelReading(LabelForm.INDEX), pixel=CE)
VOTES_CE = VoxelRecipe(Activation.SOFTMAX, None, LabelReading(LabelForm.VOTES), pixel=CE)
SIGMOID_CE = VoxelRecipe(Activation.SIGMOID, pixel=CE)


class NeedsGpu(Exception):
    """A check that means nothing without CUDA."""


def need_gpu() -> None:
    if DEVICE.type != "cuda":
        raise NeedsGpu


def cube(side: int) -> tuple[int, int, int]:
    return (6, 5, 4) if SMALL else (side, side, side)


def label_for(recipe: VoxelRecipe, n: int, channels: int, space: tuple[int, ...]) -> torch.Tensor:
    """float32 probabilities, int64 indices, or uint8 votes of three raters, as training loops hold them."""
    form = recipe.label.form
    if form is LabelForm.DENSE:
        label = torch.randn(n, channels, *space, device=DEVICE)
        return label.mul_(2).softmax(1) if recipe.activation is Activation.SOFTMAX else label.mul_(2).sigmoid_()
    if form is LabelForm.INDEX:
        return torch.randint(channels, (n, 1, *space), device=DEVICE)
    return torch.randint(channels, (n, 3, *space), device=DEVICE, dtype=torch.uint8)


def arguments_of(recipe: VoxelRecipe) -> dict:
    """Of a loss class, for the same label."""
    forms = {LabelForm.DENSE: {}, LabelForm.INDEX: {"to_onehot_y": True}, LabelForm.VOTES: {"votes": True}}
    return {recipe.activation.value: True, **forms[recipe.label.form]}


def wait() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def milliseconds(work: Callable[[], object], rounds: int = 20) -> float:
    """The median of single runs, after three that warm up and compile."""
    for _ in range(3):
        work()
    wait()
    times = []
    for _ in range(2 if SMALL else rounds):
        if DEVICE.type == "cuda":
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


def device_milliseconds(work: Callable[[], object]) -> float:
    """The same on the device alone, from a CUDA graph of ten runs: a launch from Python can take longer than a kernel."""
    if DEVICE.type != "cuda":
        return milliseconds(work)
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
    return milliseconds(graph.replay) / 10


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


def check_parity() -> Iterator[Line]:
    """The kernels against the definition in float64, natively compiled."""
    focal = PixelRule(PixelTerm.FOCAL, 1.5, 0.3)
    smoothed = VoxelRecipe(Activation.SOFTMAX, None, LabelReading(smoothing=0.1), pixel=PixelRule(PixelTerm.DIVERGENCE))
    regions = LabelReading(LabelForm.VOTES, ((1,), (1, 2), (0, 3)), 255)
    cases = {
        "softmax, CE": (SOFT_CE, 4, (16, 16, 16), torch.float32),
        "softmax, CE, 63 voxels": (SOFT_CE, 3, (63,), torch.float32),
        "softmax, CE, C=17": (SOFT_CE, 17, (129,), torch.float32),
        "softmax, focal": (VoxelRecipe(Activation.SOFTMAX, pixel=focal), 5, (33, 35), torch.float32),
        "softmax, KL, smoothing": (smoothed, 4, (40, 40), torch.float32),
        "softmax, norm 2": (VoxelRecipe(Activation.SOFTMAX, norm=2), 4, (40, 40), torch.float32),
        "softmax, index": (INDEX_CE, 8, (64, 64), torch.float32),
        "softmax, index, C=118": (INDEX_CE, 118, (12, 12, 12), torch.float32),
        "softmax, index, C=256": (INDEX_CE, 256, (300,), torch.float32),
        "softmax, votes": (VOTES_CE, 4, (64, 65), torch.float32),
        "softmax, CE, float16": (SOFT_CE, 4, (16, 16, 16), torch.float16),
        "softmax, CE, bfloat16": (SOFT_CE, 4, (16, 16, 16), torch.bfloat16),
        "sigmoid, BCE, C=1": (SIGMOID_CE, 1, (100, 101), torch.float32),
        "sigmoid, focal": (VoxelRecipe(Activation.SIGMOID, pixel=focal), 3, (64, 64), torch.float32),
        "sigmoid, votes of regions": (VoxelRecipe(Activation.SIGMOID, None, regions, pixel=CE), 3, (64, 64), torch.float32),
        "probabilities": (VoxelRecipe(), 3, (64, 64), torch.float32),
    }  # fmt: skip
    for name, (recipe, channels, space, dtype) in list(cases.items())[: 3 if SMALL else None]:
        for layout in ("contiguous", "channels last") if name == "softmax, CE" else ("contiguous",):
            logits = torch.randn(2, channels, *space, device=DEVICE).mul_(3).to(dtype)
            if recipe.activation is Activation.NONE:
                logits = logits.sigmoid()
            if layout == "channels last":
                logits = logits.movedim(1, -1).contiguous().movedim(-1, 1)
            label = label_for(recipe, 2, channels, space)
            mask = torch.rand(2, 1, *space, device=DEVICE) < 0.8
            exact, given = logits.double().requires_grad_(), logits.detach().requires_grad_()
            expected = eager_voxel_sums(exact, label.double() if label.is_floating_point() else label, recipe, mask)
            got, _ = fast_voxel_sums(Backend.TRITON, given, label, recipe, mask)
            worst = max(
                difference(getattr(got, field), getattr(expected, field))
                for field in VoxelSums._fields
                if getattr(got, field) is not None
            )
            (slope,) = torch.autograd.grad(weighted_total(got), given)
            (exact_slope,) = torch.autograd.grad(weighted_total(expected), exact)
            off = difference(slope, exact_slope)
            allowed = {torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 8e-3}[dtype]
            said = f"sums {worst:.1e}, gradient {off:.1e}"
            yield f"{name}, {layout}", said, worst < 2e-6 and off < allowed, f"< 2e-6, < {allowed:g}"


def check_bad_values() -> Iterator[Line]:
    """NaN and infinity as in eager; the same sums twice."""
    logits = torch.randn(1, 3, 2000, device=DEVICE)
    label = torch.randint(3, (1, 1, 2000), device=DEVICE)
    label[0, 0, 7] = 3
    sums, _ = fast_voxel_sums(Backend.TRITON, logits, label, INDEX_CE)
    yield "an invalid class", f"tp {sums.tp.flatten().tolist()}", bool(sums.tp.isnan().all()), "NaN"
    mask = torch.ones(1, 1, 2000, dtype=torch.bool, device=DEVICE)
    mask[0, 0, 7] = False
    logits[:, :, 7] = float("nan")
    given = logits.requires_grad_()
    sums, _ = fast_voxel_sums(Backend.TRITON, given, label, INDEX_CE, mask)
    (slope,) = torch.autograd.grad(weighted_total(sums), given)
    yield "NaN where nothing counts", "", bool(sums.tp.isfinite().all() and slope.isfinite().all()), "finite"
    logits = torch.randn(1, 3, 2000, device=DEVICE)
    logits[:, 2] = -float("inf")
    sums, _ = fast_voxel_sums(Backend.TRITON, logits, label.clamp(max=1), INDEX_CE)
    yield "-inf logits of an absent class", "", bool(sums.pixel is not None and sums.pixel.isfinite().all()), "finite"
    logits = torch.randn(2, 4, *cube(96), device=DEVICE)
    label = label_for(SOFT_CE, 2, 4, cube(96))
    first, second = (fast_voxel_sums(Backend.TRITON, logits, label, SOFT_CE)[0] for _ in range(2))
    yield "two runs", "", all(torch.equal(a, b) for a, b in zip(first, second, strict=True) if a is not None), "equal bit for bit"


def check_precision() -> Iterator[Line]:
    """Large volumes, also of one number, whose rounding errors all have one sign."""
    for name, fill in (("random", None), ("one number", 0.3)):
        space = cube(192)
        logits = torch.randn(1, 2, *space, device=DEVICE)
        label = label_for(SIGMOID_CE, 1, 2, space)
        if fill is not None:
            logits.fill_(fill)
            label.fill_(0.7)
        sums, _ = fast_voxel_sums(Backend.TRITON, logits, label, SIGMOID_CE)
        exact = eager_voxel_sums(logits.double(), label.double(), SIGMOID_CE)
        worst = max(difference(getattr(sums, field), getattr(exact, field)) for field in ("tp", "fp", "fn", "pixel"))
        yield f"192^3, {name}", f"{worst:.1e}", worst < 1e-6, "< 1e-6"


def copy_bandwidth() -> float:
    """Bytes read and written a second by a copy of 1 GiB."""
    source = torch.empty(2**20 if SMALL else 2**30, dtype=torch.uint8, device=DEVICE)
    target = torch.empty_like(source)
    return 2 * source.numel() / (device_milliseconds(lambda: target.copy_(source)) / 1000)


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


def flat_step(name: str) -> tuple[KernelInput, torch.Tensor]:
    recipe, n, channels, side, dtype = SPEED_CASES[name]
    logits = torch.randn(n, channels, *cube(side), device=DEVICE).to(dtype).flatten(2)
    label = label_for(recipe, n, channels, cube(side)).flatten(2)
    weights = torch.ones(n, 3, device=DEVICE) if recipe.label.form is LabelForm.VOTES else None
    return KernelInput(logits, label, recipe, None, weights, None), torch.rand(4, n, channels, device=DEVICE)


def shares(step: KernelInput, upstream: torch.Tensor, bandwidth: float) -> tuple[float, float]:
    """Of the copy's bandwidth: forward reads logits and label, backward reads them again and writes the gradient."""
    read = sum(tensor.numel() * tensor.element_size() for tensor in (step.logits, step.label))
    written = step.logits.numel() * step.logits.element_size()
    forward = device_milliseconds(lambda: triton_kernels.triton_sums(step)) / 1000
    backward = device_milliseconds(lambda: triton_kernels.triton_gradient(step, upstream)) / 1000
    return read / forward / bandwidth, (read + written) / backward / bandwidth


def check_bandwidth() -> Iterator[Line]:
    """The kernels alone against a copy."""
    bandwidth = copy_bandwidth()
    yield "copy of 1 GiB", f"{bandwidth / 1e9:.0f} GB/s", None, ""
    for name in list(SPEED_CASES)[: 2 if SMALL else None]:
        forward, backward = shares(*flat_step(name), bandwidth)
        yield name, f"forward {forward:.2f}, backward {backward:.2f}", min(forward, backward) >= 0.8, ">= 0.80 of a copy each"


def check_speed() -> Iterator[Line]:
    """A whole loss, forward and backward, against MONAI's and against eager under torch.compile."""
    for name in ("soft, C=4, 2 x 128^3", "index, C=4, 2 x 128^3", "votes, C=4, 2 x 128^3", "index, C=118, 128^3")[
        : 1 if SMALL else None
    ]:
        recipe, n, channels, side, dtype = SPEED_CASES[name]
        logits = torch.randn(n, channels, *cube(side), device=DEVICE, dtype=dtype, requires_grad=True)
        label = label_for(recipe, n, channels, cube(side))
        ours = milliseconds(step_of(JDTCELoss(**arguments_of(recipe), backend="triton"), logits, label))
        eager = JDTCELoss(**arguments_of(recipe), backend="eager")
        yield f"{name}: ours", f"{ours:.3f} ms", None, ""
        yield f"{name}: eager / ours", f"{milliseconds(step_of(eager, logits, label)) / ours:.1f}", None, ""
        if not SMALL:
            torch._dynamo.reset()
            compiled = milliseconds(step_of(torch.compile(eager), logits, label)) / ours
            yield f"{name}: compiled eager / ours", f"{compiled:.2f}", compiled >= 1.3, ">= 1.3"
        if recipe.label.form is not LabelForm.VOTES:
            monai = DiceCELoss(softmax=True, to_onehot_y=recipe.label.form is LabelForm.INDEX)
            ratio = milliseconds(step_of(monai, logits, label)) / ours
            yield f"{name}: MONAI / ours", f"{ratio:.1f}", ratio >= 5, ">= 5"


def check_memory() -> Iterator[Line]:
    """Peak of a step beyond what was there before it, over the logits' bytes; the gradient is 1 of it."""
    need_gpu()
    cases = {name: SPEED_CASES[name] for name in ("soft, C=4, 2 x 128^3", "votes, C=4, 2 x 128^3", "soft, C=4, 2 x 128^3, bfloat16")}
    cases["index, C=118, 2 x 128^3"] = (INDEX_CE, 2, 118, 128, torch.float32)
    for name, (recipe, n, channels, side, dtype) in cases.items():
        logits = torch.randn(n, channels, *cube(side), device=DEVICE, dtype=dtype, requires_grad=True)
        label = label_for(recipe, n, channels, cube(side))
        step = step_of(JDTCELoss(**arguments_of(recipe), backend="triton"), logits, label)
        step()
        logits.grad = None
        wait()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        wait()
        extra = (torch.cuda.max_memory_allocated() - before) / (logits.numel() * logits.element_size())
        yield name, f"{extra:.3f} x logits", extra <= 1.05, "<= 1.05"


def check_halves() -> Iterator[Line]:
    """Autocast, and the gradient scale of 65536 in float16."""
    kind = torch.float16 if DEVICE.type == "cuda" else torch.bfloat16
    convolution = torch.nn.Conv3d(1, 4, 3, padding=1).to(DEVICE)
    image = torch.randn(2, 1, *cube(128), device=DEVICE)
    label = label_for(SOFT_CE, 2, 4, cube(128))
    for loss in (JDTCELoss(softmax=True, backend="triton"), JDTFocalLoss(softmax=True, backend="triton")):
        convolution.zero_grad()
        with torch.autocast(DEVICE.type, kind):
            value = loss(convolution(image), label)
        (value * 65536).backward()
        finite = bool(value.isfinite() and all(p.grad is not None and p.grad.isfinite().all() for p in convolution.parameters()))
        yield (
            f"autocast, {type(loss).__name__}",
            f"{value.detach().item():.4f} {value.dtype}",
            finite and value.dtype is torch.float32,
            "finite float32",
        )
    logits = torch.randn(2, 4, *cube(128), device=DEVICE).half()
    loss = JDTCELoss(softmax=True, backend="triton")
    slopes = []
    for dtype, scale in ((torch.float16, 65536.0), (torch.float32, 1.0)):
        given = logits.to(dtype, copy=True).requires_grad_()
        (loss(given, label) * scale).backward()
        slopes.append(given.grad)
    lost = int(((slopes[0] == 0) & (slopes[1].abs() > 1e-7)).sum())
    yield "scale 65536 at 2 x 128^3", f"{lost} gradients lost", lost == 0, "none of those above 1e-7"


def check_syncs() -> Iterator[Line]:
    """A step without a wait of the host for the device."""
    need_gpu()
    weight = torch.tensor([1.0, 2.0, 0.5, 1.0])
    settings: dict[str, tuple[VoxelRecipe, dict]] = {
        "soft": (SOFT_CE, {}),
        "index, ignore_index": (INDEX_CE, {"ignore_index": 255}),
        "votes": (VOTES_CE, {}),
        "soft, mask, weight": (SOFT_CE, {"weight": weight}),
        "soft, average": (SOFT_CE, {"average": {"dataset": 0.2, "image": 0.3, "class": 0.5}, "classes": "both"}),
    }
    for name, (recipe, more) in settings.items():
        logits = torch.randn(2, 4, *cube(32), device=DEVICE, requires_grad=True)
        label = label_for(recipe, 2, 4, cube(32))
        mask = torch.rand(2, 1, *cube(32), device=DEVICE) < 0.8
        loss = JDTCELoss(**arguments_of(recipe), **more, backend="triton").to(DEVICE)
        with value_checks("off"):
            loss(logits, label, mask).backward()
            with no_syncs():
                loss(logits, label, mask).backward()
        yield name, "none", True, "no wait"


def check_graph() -> Iterator[Line]:
    """A step captured in a CUDA graph and replayed on other numbers."""
    need_gpu()
    logits = torch.randn(2, 4, *cube(64), device=DEVICE, requires_grad=True)
    label = label_for(SOFT_CE, 2, 4, cube(64))
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
        wait()
        fresh = other.clone().requires_grad_()
        expected = loss(fresh, label)
        expected.backward()
    assert logits.grad is not None
    assert fresh.grad is not None
    off = max(difference(value, expected), difference(logits.grad, fresh.grad))
    yield "replayed", f"off by {off:.1e}", off == 0, "equal bit for bit"
    yield "replay of a whole step, 2 x 64^3", f"{milliseconds(graph.replay):.3f} ms, {milliseconds(step):.3f} ms without", None, ""


def check_large() -> Iterator[Line]:
    """More than 2**31 logits: sums of slices are sums of the whole, and the last slice has the gradient that it has alone."""
    voxels = 5000 if SMALL else 2**29 + 4099
    tail, slices = (4099, 2) if not SMALL else (99, 2)
    dtype = torch.bfloat16
    logits = torch.empty(1, 4, voxels, device=DEVICE, dtype=dtype).normal_().requires_grad_()
    label = torch.randint(4, (1, 1, voxels), device=DEVICE, dtype=torch.uint8)
    got, _ = fast_voxel_sums(Backend.TRITON, logits, label, INDEX_CE)
    size = voxels // (32 if not SMALL else slices) + 1
    with torch.no_grad():
        parts = [
            eager_voxel_sums(logits[..., start : start + size].float(), label[..., start : start + size], INDEX_CE)
            for start in range(0, voxels, size)
        ]
    off = max(
        difference(getattr(got, field), torch.stack([getattr(part, field).double() for part in parts]).sum(0))
        for field in ("tp", "fp", "fn", "pixel", "counted")
    )
    yield f"sums of {4 * voxels / 2**31:.3f} x 2^31 logits", f"off by {off:.1e}", off < 2e-6, "< 2e-6"
    (slope,) = torch.autograd.grad(weighted_total(got), logits)
    last = logits.detach()[..., -tail:].clone().requires_grad_()
    alone, _ = fast_voxel_sums(Backend.TRITON, last, label[..., -tail:].contiguous(), INDEX_CE)
    (expected,) = torch.autograd.grad(weighted_total(alone), last)
    off = difference(slope[..., -tail:], expected)
    yield "gradient of the last voxels", f"off by {off:.1e}", off < 8e-3, "as of these alone, < 8e-3 in bfloat16"


def check_trial() -> Iterator[Line]:
    """The trial of the kernel at its first use, as it is and with a gradient that is spoiled."""
    loss, logits, label = JDTCELoss(softmax=True), torch.randn(1, 4, *cube(64), device=DEVICE), label_for(SOFT_CE, 1, 4, cube(64))
    for name in ("first", "again"):
        trial._verdicts.clear()
        start = time.perf_counter()
        verdict = trial.failed_trial(Backend.TRITON, logits.device)
        yield f"{name}, {1e3 * (time.perf_counter() - start):.0f} ms", verdict or "agrees", not verdict, "agrees with eager"
    right = triton_kernels.triton_gradient
    trial._verdicts.clear()
    try:
        triton_kernels.triton_gradient = lambda step, upstream: right(step, upstream) * 1.01
        verdict = trial.failed_trial(Backend.TRITON, logits.device)
        loss(logits, label)
    finally:
        triton_kernels.triton_gradient = right
        trial._verdicts.clear()
    yield "a gradient 1 % too large", verdict, "gradient is off" in verdict, "found"
    if DEVICE.type == "cuda":
        yield "a gradient 1 % too large, auto", str(loss.backend_used), loss.backend_used == "eager", "eager"


def check_other_losses() -> Iterator[Line]:
    """What does not go through the kernel: the same on CUDA as on the CPU, and no wait with value checks off."""
    space = (9, 8, 7)
    logits = torch.randn(2, 3, *space)
    soft = torch.randn(2, 3, *space).softmax(1)
    index = torch.randint(3, (2, 1, *space))
    heads = [logits, logits[..., ::2, ::2, ::2].contiguous()]
    cases: dict[str, tuple[Callable[..., torch.Tensor], tuple]] = {
        "DistillationLoss": (DistillationLoss(softmax=True), (logits, soft, logits.flip(1))),
        "LovaszSoftmaxLoss": (LovaszSoftmaxLoss(to_onehot_y=True), (logits, index)),
        "SoftDeepSupervisionLoss": (SoftDeepSupervisionLoss(JDTCELoss(softmax=True)), (heads, soft)),
        "JaccardDistance": (JaccardDistance(), (soft, soft.flip(1))),
        "DiceDistance": (DiceDistance(), (soft, soft.flip(1))),
        "JDTLoss, other_act": (JDTLoss(other_act=torch.sigmoid), (logits, soft)),
    }

    def moved(value: object) -> object:
        return [moved(item) for item in value] if isinstance(value, list) else value.to(DEVICE)  # type: ignore[attr-defined]

    for name, (loss, tensors) in cases.items():
        try:
            with value_checks("off"):
                expected = loss(*tensors)
                there = [moved(value) for value in tensors]
                wanted = there[0][0] if isinstance(there[0], list) else there[0]
                wanted.requires_grad_()
                loss(*there).backward()
                if DEVICE.type == "cuda":
                    with no_syncs():
                        value = loss(*there)
                        value.backward()
                else:
                    value = loss(*there)
            off = difference(value.detach(), expected)
            yield name, f"off by {off:.1e}", off < 1e-5 and bool(wanted.grad.isfinite().all()), "< 1e-5, no wait"
        except Exception as error:
            yield name, f"{type(error).__name__}: {str(error).splitlines()[0]}", False, "< 1e-5, no wait"


def sweep_shapes() -> Iterator[Line]:
    """The kernels' share of a copy for other block shapes than `block_shape` gives; for choosing, not for passing."""
    bandwidth = copy_bandwidth()
    chosen = triton_kernels.block_shape
    for name in ("soft, C=4, 2 x 128^3", "index, C=118, 128^3")[: 1 if SMALL else None]:
        step, upstream = flat_step(name)
        block_c, block_v, warps = chosen(step.logits.shape[1])
        for wide, more in ((1, 1), (0.5, 1), (2, 1), (1, 2), (1, 0.5), (0.5, 0.5), (2, 2)):
            shape = (block_c, int(block_v * wide), int(warps * more))
            triton_kernels.block_shape = lambda channels, shape=shape: shape
            try:
                forward, backward = shares(step, upstream, bandwidth)
            finally:
                triton_kernels.block_shape = chosen
            yield f"{name}, {shape}", f"forward {forward:.2f}, backward {backward:.2f}", None, ""


CHECKS: dict[str, Callable[[], Iterator[Line]]] = {
    "parity": check_parity,
    "bad values": check_bad_values,
    "precision": check_precision,
    "syncs": check_syncs,
    "graph": check_graph,
    "memory": check_memory,
    "bandwidth": check_bandwidth,
    "speed": check_speed,
    "halves": check_halves,
    "large": check_large,
    "other losses": check_other_losses,
    "trial": check_trial,
}


def machine() -> str:
    device = torch.cuda.get_device_name() if DEVICE.type == "cuda" else "CPU, interpreter"
    versions = f"torch {torch.__version__}, Triton {triton.__version__}, monai_jdt {monai_jdt.__version__}"
    return f"{device}; Python {platform.python_version()}, {versions}"


def write(folder: Path, rows: list[tuple[str, ...]]) -> None:
    header = ("check", "what", "measured", "goal", "result")
    with (folder / "gpu_checks.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    table = ["| " + " | ".join(cell.replace("|", "/") for cell in row) + " |" for row in (header, ("---",) * len(header), *rows)]
    (folder / "gpu_checks.md").write_text("\n".join([machine(), "", *table, ""]))


def main() -> int:
    global DEVICE, SMALL
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for the tables")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--small", action="store_true", help="tiny volumes, few cases")
    parser.add_argument("--only", default="", help="some of: " + ", ".join(CHECKS))
    parser.add_argument("--tune", action="store_true", help="sweep block shapes too")
    options = parser.parse_args()
    DEVICE, SMALL = torch.device(options.device), options.small
    options.out.mkdir(parents=True, exist_ok=True)
    names = [name.strip() for name in options.only.split(",") if name.strip()] or list(CHECKS)
    checks = {name: CHECKS[name] for name in names} | ({"block shapes": sweep_shapes} if options.tune else {})
    print(machine(), flush=True)
    torch.manual_seed(0)
    rows: list[tuple[str, ...]] = []
    start = time.perf_counter()

    def say(check: str, what: str, measured: str, goal: str, result: str) -> None:
        rows.append((check, what, measured, goal, result))
        print(
            f"{result:5} {time.perf_counter() - start:5.0f} s  {check}: {what}: {measured}" + (f" (goal: {goal})" if goal else ""),
            flush=True,
        )
        write(options.out, rows)

    for check, lines in checks.items():
        try:
            for what, measured, passed, goal in lines():
                # the interpreter's times are nobody's
                judged = None if DEVICE.type == "cpu" and check in ("bandwidth", "speed") else passed
                say(check, what, measured, goal, {None: "", True: "PASS", False: "FAIL"}[judged])
        except NeedsGpu:
            say(check, "", "needs a GPU", "", "SKIP")
        except Exception as error:
            traceback.print_exc()
            say(check, "", f"{type(error).__name__}: {(str(error) or '?').splitlines()[0][:200]}", "", "ERROR")
        finally:
            if DEVICE.type == "cuda":
                torch.cuda.empty_cache()
    failed = sum(row[-1] in ("FAIL", "ERROR") for row in rows)
    print(f"{failed} of {len(rows)} lines failed; {options.out / 'gpu_checks.md'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
