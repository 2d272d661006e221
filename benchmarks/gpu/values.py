"""Numbers of the Triton kernel on a GPU: against the definition, of bad values, of large volumes and in half precision."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from benchmarks.gpu.measuring import CE, INDEX_CE, SIGMOID_CE, SOFT_CE, VOTES_CE, Bench, Line, difference, no_syncs, weighted_total
from monai_jdt.checks import value_checks
from monai_jdt.definitions import Activation, Backend, LabelForm, LabelReading, PixelRule, PixelTerm, VoxelRecipe, VoxelSums
from monai_jdt.kernels import trial
from monai_jdt.kernels.eager import eager_voxel_sums
from monai_jdt.kernels.kernel_input import KernelInput
from monai_jdt.kernels.operators import fast_voxel_sums
from monai_jdt.kernels.triton import launch as triton_launch
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


def check_parity(bench: Bench) -> Iterator[Line]:
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
    for name, (recipe, channels, space, dtype) in list(cases.items())[: 3 if bench.small else None]:
        for layout in ("contiguous", "channels last") if name == "softmax, CE" else ("contiguous",):
            logits = torch.randn(2, channels, *space, device=bench.device).mul_(3).to(dtype)
            if recipe.activation is Activation.NONE:
                logits = logits.sigmoid()
            if layout == "channels last":
                logits = logits.movedim(1, -1).contiguous().movedim(-1, 1)
            label = bench.label_for(recipe, 2, channels, space)
            mask = torch.rand(2, 1, *space, device=bench.device) < 0.8
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


def check_closed_form(bench: Bench) -> Iterator[Line]:
    """The loss and its slopes in one program on the device: whole losses against eager in float64."""
    mixed = {"average": {"dataset": 0.2, "image": 0.3, "class": 0.5}}
    cases: dict[str, tuple[type[JDTLoss], dict[str, Any]]] = {
        "default": (JDTCELoss, {}),
        "batch, weights, no background": (JDTCELoss, {"batch": True, "weight": [1.0, 2.0, 0.5, 3.0], "include_background": False}),
        "three averages, present": (JDTLoss, {**mixed, "classes": "present", "weight": [1.0, 2.0, 0.5, 3.0]}),
        "both, listed": (JDTLoss, {"classes": [1, 3], "alpha": 0.3, "beta": 1.7}),
        "pooled": (JDTLoss, {"classes": "pooled", "average": "image"}),
        "log, gamma": (JDTFocalLoss, {"log_loss": True, "gamma": 1.5, "classes": "both"}),
        "log, no smoothing": (JDTLoss, {"log_loss": True, "smooth_nr": 0, "smooth_dr": 0, "classes": "prob"}),
        "gamma 0.7, norm 2": (JDTLoss, {"gamma": 0.7, "norm": 2}),
    }
    for name, (kind, options) in list(cases.items())[: 2 if bench.small else None]:
        logits, label = torch.randn(2, 4, *bench.cube(24), device=bench.device), bench.label_for(SOFT_CE, 2, 4, bench.cube(24))
        mask = torch.rand(2, 1, *bench.cube(24), device=bench.device) < 0.8
        found = []
        for backend, dtype in (("triton", torch.float32), ("triton", torch.float32), ("eager", torch.float64)):
            leaf = logits.to(dtype, copy=True).requires_grad_()
            value = kind(softmax=True, backend=backend, **options).to(bench.device)(leaf, label.to(dtype), mask)
            (3 * value).backward()
            assert leaf.grad is not None
            found.append((value.detach(), leaf.grad))
        off = [difference(ours, exact) for ours, exact in zip(found[0], found[2], strict=True)]
        same = all(torch.equal(first, second) for first, second in zip(found[0], found[1], strict=True))
        said = f"value {off[0]:.1e}, gradient {off[1]:.1e}, {'twice the same' if same else 'not the same twice'}"
        yield name, said, off[0] < 1e-6 and off[1] < 1e-5 and same, "< 1e-6, < 1e-05, twice the same"


def check_bad_values(bench: Bench) -> Iterator[Line]:
    """NaN and infinity as in eager; the same sums twice."""
    logits = torch.randn(1, 3, 2000, device=bench.device)
    label = torch.randint(3, (1, 1, 2000), device=bench.device)
    label[0, 0, 7] = 3
    sums, _ = fast_voxel_sums(Backend.TRITON, logits, label, INDEX_CE)
    yield "an invalid class", f"tp {sums.tp.flatten().tolist()}", bool(sums.tp.isnan().all()), "NaN"
    mask = torch.ones(1, 1, 2000, dtype=torch.bool, device=bench.device)
    mask[0, 0, 7] = False
    logits[:, :, 7] = float("nan")
    given = logits.requires_grad_()
    sums, _ = fast_voxel_sums(Backend.TRITON, given, label, INDEX_CE, mask)
    (slope,) = torch.autograd.grad(weighted_total(sums), given)
    yield "NaN where nothing counts", "", bool(sums.tp.isfinite().all() and slope.isfinite().all()), "finite"
    logits = torch.randn(1, 3, 2000, device=bench.device)
    logits[:, 2] = -float("inf")
    sums, _ = fast_voxel_sums(Backend.TRITON, logits, label.clamp(max=1), INDEX_CE)
    yield "-inf logits of an absent class", "", bool(sums.pixel is not None and sums.pixel.isfinite().all()), "finite"
    logits = torch.randn(2, 4, *bench.cube(96), device=bench.device)
    label = bench.label_for(SOFT_CE, 2, 4, bench.cube(96))
    first, second = (fast_voxel_sums(Backend.TRITON, logits, label, SOFT_CE)[0] for _ in range(2))
    yield "two runs", "", all(torch.equal(a, b) for a, b in zip(first, second, strict=True) if a is not None), "equal bit for bit"


def check_precision(bench: Bench) -> Iterator[Line]:
    """Large volumes, also of one number, whose rounding errors all have one sign."""
    for name, fill in (("random", None), ("one number", 0.3)):
        space = bench.cube(192)
        logits = torch.randn(1, 2, *space, device=bench.device)
        label = bench.label_for(SIGMOID_CE, 1, 2, space)
        if fill is not None:
            logits.fill_(fill)
            label.fill_(0.7)
        sums, _ = fast_voxel_sums(Backend.TRITON, logits, label, SIGMOID_CE)
        exact = eager_voxel_sums(logits.double(), label.double(), SIGMOID_CE)
        worst = max(difference(getattr(sums, field), getattr(exact, field)) for field in ("tp", "fp", "fn", "pixel"))
        yield f"192^3, {name}", f"{worst:.1e}", worst < 1e-6, "< 1e-6"


def check_large(bench: Bench) -> Iterator[Line]:
    """More than 2**31 logits: sums of slices are sums of the whole, and the last slice has the gradient that it has alone."""
    voxels = 5000 if bench.small else 2**29 + 4099
    tail, slices = (4099, 2) if not bench.small else (99, 2)
    dtype = torch.bfloat16
    logits = torch.empty(1, 4, voxels, device=bench.device, dtype=dtype).normal_().requires_grad_()
    label = torch.randint(4, (1, 1, voxels), device=bench.device, dtype=torch.uint8)
    got, _ = fast_voxel_sums(Backend.TRITON, logits, label, INDEX_CE)
    size = voxels // (32 if not bench.small else slices) + 1
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


def check_halves(bench: Bench) -> Iterator[Line]:
    """Autocast, and the gradient scale of 65536 in float16."""
    kind = torch.float16 if bench.device.type == "cuda" else torch.bfloat16
    convolution = torch.nn.Conv3d(1, 4, 3, padding=1).to(bench.device)
    image = torch.randn(2, 1, *bench.cube(128), device=bench.device)
    label = bench.label_for(SOFT_CE, 2, 4, bench.cube(128))
    for loss in (JDTCELoss(softmax=True, backend="triton"), JDTFocalLoss(softmax=True, backend="triton")):
        convolution.zero_grad()
        with torch.autocast(bench.device.type, kind):
            value = loss(convolution(image), label)
        (value * 65536).backward()
        finite = bool(value.isfinite() and all(p.grad is not None and p.grad.isfinite().all() for p in convolution.parameters()))
        yield (
            f"autocast, {type(loss).__name__}",
            f"{value.detach().item():.4f} {value.dtype}",
            finite and value.dtype is torch.float32,
            "finite float32",
        )
    logits = torch.randn(2, 4, *bench.cube(128), device=bench.device).half()
    loss = JDTCELoss(softmax=True, backend="triton")
    slopes: list[torch.Tensor] = []
    for dtype, scale in ((torch.float16, 65536.0), (torch.float32, 1.0)):
        given = logits.to(dtype, copy=True).requires_grad_()
        (loss(given, label) * scale).backward()
        assert given.grad is not None
        slopes.append(given.grad)
    lost = int(((slopes[0] == 0) & (slopes[1].abs() > 1e-7)).sum())
    yield "scale 65536 at 2 x 128^3", f"{lost} gradients lost", lost == 0, "none of those above 1e-7"


def check_trial(bench: Bench) -> Iterator[Line]:
    """The trial of the kernel at its first use, as it is and with a gradient that is spoiled."""
    loss, logits, label = (
        JDTCELoss(softmax=True),
        torch.randn(1, 4, *bench.cube(64), device=bench.device),
        bench.label_for(SOFT_CE, 1, 4, bench.cube(64)),
    )
    for name in ("first", "again"):
        trial._verdicts.clear()
        start = time.perf_counter()
        verdict = trial.failed_trial(Backend.TRITON, logits.device)
        yield f"{name}, {1e3 * (time.perf_counter() - start):.0f} ms", verdict or "agrees", not verdict, "agrees with eager"
    right = triton_launch.triton_gradient

    def spoiled(given: KernelInput, upstream: torch.Tensor) -> torch.Tensor:
        return right(given, upstream) * 1.01

    trial._verdicts.clear()
    try:
        triton_launch.triton_gradient = spoiled
        verdict = trial.failed_trial(Backend.TRITON, logits.device)
        loss(logits, label)
    finally:
        triton_launch.triton_gradient = right
        trial._verdicts.clear()
    yield "a gradient 1 % too large", verdict, "gradient is off" in verdict, "found"
    if bench.device.type == "cuda":
        yield "a gradient 1 % too large, auto", str(loss.backend_used), loss.backend_used == "eager", "eager"


def check_other_losses(bench: Bench) -> Iterator[Line]:
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

    def moved(value: Any) -> Any:
        return [moved(item) for item in value] if isinstance(value, list) else value.to(bench.device)

    for name, (loss, tensors) in cases.items():
        try:
            with value_checks("off"):
                expected = loss(*tensors)
                there = [moved(value) for value in tensors]
                wanted = there[0][0] if isinstance(there[0], list) else there[0]
                wanted.requires_grad_()
                loss(*there).backward()
                if bench.device.type == "cuda":
                    with no_syncs():
                        value = loss(*there)
                        value.backward()
                else:
                    value = loss(*there)
            off = difference(value.detach(), expected)
            yield name, f"off by {off:.1e}", off < 1e-5 and bool(wanted.grad.isfinite().all()), "< 1e-5, no wait"
        except Exception as error:
            yield name, f"{type(error).__name__}: {str(error).splitlines()[0]}", False, "< 1e-5, no wait"
