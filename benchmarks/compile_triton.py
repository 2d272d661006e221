"""Compile the Triton kernels for a GPU without one: `python -m benchmarks.compile_triton 90 80`; a line for each kernel.

The interpreter takes what the compiler refuses (types, shapes, undefined names in a branch), so this is a test of its own. It must
run in a process without TRITON_INTERPRET, since that is read when the kernels are defined.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from monai_jdt.definitions import (
    Activation,
    ActiveClasses,
    AveragingRule,
    LabelForm,
    LabelReading,
    LossRecipe,
    PixelRule,
    PixelTerm,
    RatioRule,
    VoxelRecipe,
)
from monai_jdt.functional.closed_form import triton_settings
from monai_jdt.kernels.kernel_input import KernelInput
from monai_jdt.kernels.triton import launch as triton_launch
from monai_jdt.kernels.triton import loss as triton_loss

SOFTMAX, SIGMOID, NONE = Activation.SOFTMAX, Activation.SIGMOID, Activation.NONE
DENSE, INDEX, VOTES = LabelForm.DENSE, LabelForm.INDEX, LabelForm.VOTES
CE, FOCAL, KL = (PixelRule(term) for term in PixelTerm)
HALF, BRAIN, SINGLE = torch.float16, torch.bfloat16, torch.float32
BRATS = ((1, 4), (1, 2, 4), (4,))
SMOOTHED = VoxelRecipe(SOFTMAX, None, LabelReading(DENSE, None, -1, 0.1), pixel=KL)
INDICES = VoxelRecipe(SOFTMAX, None, LabelReading(INDEX), pixel=CE)
IGNORING = VoxelRecipe(SOFTMAX, None, LabelReading(INDEX, None, 255), pixel=CE)
OF_VOTES = VoxelRecipe(SIGMOID, None, LabelReading(VOTES, BRATS, 255), pixel=CE)
OF_INDICES = VoxelRecipe(SIGMOID, None, LabelReading(INDEX, BRATS), pixel=CE)

#: name: logits' dtype, C, V, label's dtype, raters or label channels, recipe, mask channels, class weight
CASES: dict[str, tuple[Any, ...]] = {
    "softmax, soft CE": (SINGLE, 4, 4096, SINGLE, 4, VoxelRecipe(SOFTMAX, pixel=CE), 0, False),
    "softmax alone": (SINGLE, 4, 4096, SINGLE, 4, VoxelRecipe(SOFTMAX), 0, False),
    "softmax, soft CE, half": (HALF, 4, 4096, HALF, 4, VoxelRecipe(SOFTMAX, pixel=CE), 0, False),
    "softmax, KL, bfloat16, smoothing": (BRAIN, 5, 4095, BRAIN, 5, SMOOTHED, 1, True),
    "softmax, focal": (SINGLE, 17, 4095, SINGLE, 17, VoxelRecipe(SOFTMAX, pixel=PixelRule(PixelTerm.FOCAL, 1.5, 0.3)), 0, True),
    "softmax, index, CE, C=3": (BRAIN, 3, 4096, torch.uint8, 1, IGNORING, 0, False),
    "softmax, index, CE, C=8": (BRAIN, 8, 4096, torch.int64, 1, INDICES, 0, False),
    "softmax, index, CE, C=118": (BRAIN, 118, 4096, torch.int64, 1, INDICES, 0, False),
    "softmax, index, CE, C=256": (SINGLE, 256, 4096, torch.float32, 1, INDICES, 0, False),
    "softmax, index, CE, C=1024": (SINGLE, 1024, 4096, torch.int16, 1, INDICES, 0, False),
    "softmax, votes": (SINGLE, 4, 4096, torch.uint8, 5, VoxelRecipe(SOFTMAX, None, LabelReading(VOTES, None, 255), pixel=CE), 0, False),
    "sigmoid, votes, regions": (SINGLE, 3, 4096, torch.uint8, 3, OF_VOTES, 3, True),
    "sigmoid, index, regions": (SINGLE, 3, 4096, torch.float32, 1, OF_INDICES, 1, False),
    "sigmoid, BCE, C=1": (SINGLE, 1, 4096, torch.bool, 1, VoxelRecipe(SIGMOID, pixel=CE), 0, True),
    "sigmoid, focal, C=3, half": (HALF, 3, 4096, SINGLE, 3, VoxelRecipe(SIGMOID, pixel=FOCAL), 0, False),
    "sigmoid, KL": (SINGLE, 2, 4095, torch.float64, 2, VoxelRecipe(SIGMOID, pixel=KL), 0, False),
    "one voxel": (SINGLE, 3, 1, SINGLE, 3, VoxelRecipe(SOFTMAX, pixel=CE), 1, False),
    "one program": (SINGLE, 3, 63, torch.uint8, 3, OF_VOTES, 1, False),
    "more than 2**31 voxels": (SINGLE, 2, 2**31 + 64, torch.uint8, 1, INDICES, 1, True),
    "probabilities, norm 2": (SINGLE, 4, 4096, SINGLE, 4, VoxelRecipe(NONE, norm=2), 1, False),
}  # fmt: skip

MIXED = (("image", 0.3), ("class", 0.5), ("dataset", 0.2))
#: name: images, channels, recipe, class weights
LOSSES: dict[str, tuple[int, int, LossRecipe, bool]] = {
    "loss": (2, 4, LossRecipe(VoxelRecipe(SOFTMAX, pixel=CE), lambda_pixel=0.25), False),
    "loss, every average": (
        3,
        118,
        LossRecipe(
            VoxelRecipe(SIGMOID, include_background=False, pixel=KL),
            RatioRule(log_loss=True, gamma=1.5),
            AveragingRule(average=MIXED, classes=ActiveClasses.LISTED, listed=(1, 17)),
            lambda_pixel=0.25,
        ),
        True,
    ),
    "loss, one image and channel": (1, 1, LossRecipe(averaging=AveragingRule(batch=True, classes=ActiveClasses.EITHER)), False),
    "loss, pooled": (4, 1024, LossRecipe(averaging=AveragingRule(classes=ActiveClasses.POOLED)), False),
}


def step_of(case: tuple[Any, ...]) -> KernelInput:
    dtype, channels, voxels, label_dtype, label_channels, recipe, mask_channels, weighted = case
    # of tensors on this device the launcher asks nothing but what they are
    device = "meta" if voxels > 2**31 else "cpu"
    return KernelInput(
        torch.zeros(2, channels, voxels, dtype=dtype, device=device),
        torch.zeros(2, label_channels, voxels, dtype=label_dtype, device=device),
        recipe,
        torch.ones(2, mask_channels, voxels, dtype=torch.bool, device=device) if mask_channels else None,
        torch.ones(2, label_channels) if recipe.label.form is VOTES else None,
        torch.ones(channels) if weighted else None,
    )


class NoGpu:
    """A driver that knows what to compile for, and nothing else."""

    def __init__(self, capability: int) -> None:
        self.capability = capability

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.capability, 32)

    def get_current_device(self) -> int:
        # what is compiled is kept by device
        return self.capability

    def get_current_stream(self, device: int) -> int:
        return 0


class Compiled:
    """In a kernel's place: a launch compiles it, as it would be for these arguments, and launches nothing."""

    def __init__(self, kernel: Any, say: Callable[[str, Any], None]) -> None:
        self.kernel, self.say = kernel, say

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        def launch(*arguments: Any, **settings: Any) -> None:
            self.say(self.kernel.__name__, self.kernel.warmup(*arguments, grid=grid, **settings))
            # Triton looks again at what a kernel took from outside when it meets it a second time
            self.kernel.warmup(*arguments, grid=grid, **settings)

        return launch


def resources(compiled: Any) -> str:
    """Registers of a thread, its stack (spilled registers lie there), and how many loads read several values at once."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(compiled.asm["cubin"])
        command = [str(Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"), "-res-usage", str(path)]
        report = subprocess.run(command, capture_output=True, text=True).stdout
    used = re.search(r"REG:(\d+) STACK:(\d+)", report)
    loads = re.findall(r"ld\.global\S*", compiled.asm["ptx"])
    return (
        f"registers {used[1] if used else '?':>3}, stack {used[2] if used else '?':>3}, shared {compiled.metadata.shared:>5}, "
        f"loads {len(loads)}, of vectors {sum('.v' in load for load in loads)}"
    )


def main(capabilities: list[int], only: str) -> None:
    """Compile for each capability what a call of `triton_sums` and `triton_gradient` launches in each case."""
    kernels = ("sums_kernel", "total_kernel", "gradient_kernel")
    originals = {name: getattr(triton_launch, name) for name in kernels}
    for capability in capabilities:
        driver.set_active(NoGpu(capability))
        for name, case in CASES.items():
            if only not in name:
                continue

            def say(kernel: str, compiled: Any, name: str = name, capability: int = capability) -> None:
                print(f"sm_{capability} {name}: {kernel}, {compiled.metadata.num_warps} warps: {resources(compiled)}", flush=True)

            for kernel, original in originals.items():
                setattr(triton_launch, kernel, Compiled(original, say))
            step = step_of(case)
            triton_launch.triton_sums(step)
            triton_launch.triton_gradient(step, torch.zeros(4, *step.logits.shape[:2]), torch.ones(()))
        original = triton_loss.loss_kernel
        for name, (images, channels, recipe, weighted) in LOSSES.items():
            if only not in name:
                continue

            def say_loss(kernel: str, compiled: Any, name: str = name, capability: int = capability) -> None:
                print(f"sm_{capability} {name}: {kernel}, {compiled.metadata.num_warps} warps: {resources(compiled)}", flush=True)

            triton_loss.loss_kernel = Compiled(original, say_loss)
            weight = torch.ones(channels - recipe.voxels.first_channel) if weighted else None
            triton_loss.triton_loss(torch.zeros(9, images, channels), weight, triton_settings(recipe, channels))
        triton_loss.loss_kernel = original


if __name__ == "__main__":
    main([int(argument) for argument in sys.argv[1:] if argument.isdigit()], "".join(a for a in sys.argv[1:] if not a.isdigit()))
