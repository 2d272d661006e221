"""`torch.set_default_device` and `with torch.device(...)` around a call: memory that names no device would be made elsewhere."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import monai_jdt
from monai_jdt.definitions import Activation, Backend, PixelRule, PixelTerm, VoxelRecipe, VoxelSums
from monai_jdt.kernels.choice import refusal
from monai_jdt.kernels.eager import eager_voxel_sums
from monai_jdt.kernels.operators import fast_voxel_sums
from monai_jdt.kernels.registry import KERNELS
from tests.kernels.comparison import label_of, recipe_of
from tests.present import present

PACKAGE = Path(monai_jdt.__file__).parent
#: What a call of a loss runs through.
FUNCTIONAL = ("area_means", "closed_form", "distillation", "inputs", "jdt", "loss_and_slopes", "lovasz", "overlap", "ranks")
SOURCES = [
    *(path for room in ("kernels", "losses", "checks") for path in sorted((PACKAGE / room).rglob("*.py"))),
    *(PACKAGE / "functional" / f"{name}.py" for name in FUNCTIONAL),
]
#: Functions of torch that make a tensor on the default device.
FACTORIES = {
    *("arange", "as_tensor", "asarray", "empty", "empty_strided", "eye", "full", "linspace", "logspace", "normal", "ones", "rand"),
    *("randint", "randn", "randperm", "range", "scalar_tensor", "tensor", "tril_indices", "triu_indices", "zeros"),
}
CPU = [Backend.EAGER, *(kernel for kernel, info in KERNELS.items() if info.devices == ("cpu",) and info.installed)]


def test_every_allocation_names_its_device() -> None:
    nameless = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and (node.func.value.id, node.func.attr in FACTORIES) == ("torch", True)
        and "device" not in {keyword.arg for keyword in node.keywords}
    ]
    assert nameless == []


def step(
    kernel: Backend, given: tuple[torch.Tensor | None, ...], recipe: VoxelRecipe, slopes: torch.Tensor
) -> list[torch.Tensor | None]:
    """The sums of a step, and the gradient of their sum with a slope for each image and class."""
    leaf = present(given[0]).clone().requires_grad_()
    arguments: tuple[Any, ...] = (leaf, given[1], recipe, *given[2:])
    sums: VoxelSums = eager_voxel_sums(*arguments) if kernel is Backend.EAGER else fast_voxel_sums(kernel, *arguments)[0]
    terms = [(part * slopes[row, :, : part.shape[1]]).sum() for row, part in enumerate(sums) if part is not None and part.requires_grad]
    return [*sums, *torch.autograd.grad(torch.stack(terms).sum(), leaf)]


def forget_tables(kernel: Backend) -> None:
    """Let the next step make what a kernel keeps between steps."""
    if kernel is Backend.NUMBA:
        from monai_jdt.kernels.numba import launch

        launch._settings.cache_clear()
        launch._program.cache_clear()


@pytest.mark.parametrize("form", ["dense", "index", "votes", "four votes", "votes of regions", "dense, no voxels"])
@pytest.mark.parametrize("kernel", CPU, ids=lambda kernel: kernel.value)
def test_a_default_device_changes_no_bit(kernel: Backend, form: str) -> None:
    images, channels, space = 2, 3, (5, 203)
    if form == "dense, no voxels":
        form, space = "dense", (5, 0)
    marker = None if form == "dense" else 255
    activations = (Activation.SIGMOID,) if "regions" in form else (Activation.SIGMOID, Activation.SOFTMAX, Activation.NONE)
    for activation in activations:
        label, label_form, regions, weights = label_of(form, images, channels, space, activation, marker)
        logits, mask = torch.rand(images, channels, *space), torch.rand(images, 1, *space) < 0.8
        class_weight = torch.tensor([0.5, 1.0, 3.0])
        slopes = torch.rand(len(VoxelSums._fields), images, channels)
        for pixel in (None, *map(PixelRule, PixelTerm)) if activation is not Activation.NONE else (None,):
            smoothing = 0.0 if pixel is None else 0.1
            recipe = recipe_of(activation, label_form, regions, pixel, ignore=marker, smoothing=smoothing)
            for others in ((None, weights, None), (mask, weights, class_weight)):
                given = (logits, label, *others)
                assert kernel is Backend.EAGER or refusal(kernel, logits, label, recipe, *others) is None
                expected = step(kernel, given, recipe, slopes)
                forget_tables(kernel)
                with torch.device("meta"):
                    inside = step(kernel, given, recipe, slopes)
                after = step(kernel, given, recipe, slopes)
                for wanted, *same in zip(expected, inside, after, strict=True):
                    assert all(wanted is each is None or torch.equal(present(wanted), present(each)) for each in same)


FIRST_CALL = """
import torch
from monai_jdt.losses import JDTCELoss

logits, label = torch.randn(1, 2, 2**17), torch.randint(0, 2, (1, 1, 2**17))

def step(backend):
    x = logits.clone().requires_grad_()
    loss = JDTCELoss(softmax=True, to_onehot_y=True, backend=backend)
    value = loss(x, label)
    return loss.backend_used, value.detach(), *torch.autograd.grad(value, x)

backends = {backends}
torch.set_default_device("meta")
inside = [step(backend) for backend in backends]
torch.set_default_device(None)
for (used, *got), backend in zip(inside, backends):
    assert used == step(backend)[0] != "auto" and (used != "eager" or backend == "eager")
    assert all(torch.equal(a, b) for a, b in zip(got, step(backend)[1:]))
"""


def test_the_first_call_of_a_process_may_be_under_a_default_device() -> None:
    """A kernel is loaded, tried and given its tables then; memory elsewhere, handed to compiled code, would end the process."""
    backends = ["auto", *(kernel.value for kernel in CPU)]
    done = subprocess.run([sys.executable, "-c", FIRST_CALL.format(backends=backends)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr or f"ended by signal {-done.returncode}"
