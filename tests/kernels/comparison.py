"""A fast kernel against the definition: labels and recipes to compare on, and the comparison itself."""

from __future__ import annotations

import torch

from monai_jdt.definitions import Activation, Backend, LabelForm, LabelReading, PixelRule, VoxelRecipe, VoxelSums
from monai_jdt.kernels.choice import refusal
from monai_jdt.kernels.eager import eager_voxel_sums
from monai_jdt.kernels.operators import fast_voxel_sums
from monai_jdt.kernels.registry import KERNELS

#: A label, its form, the regions of its values, and the weights of its raters.
Label = tuple[torch.Tensor, LabelForm, tuple[tuple[int, ...], ...] | None, torch.Tensor | None]

REGIONS = ((1,), (1, 2), (0, 4))


def device_of(kernel: Backend) -> torch.device:
    """Return where a kernel is tested: on its first type of device that is here."""
    cuda = torch.cuda.is_available() and "cuda" in KERNELS[kernel].devices
    return torch.device("cuda" if cuda else "cpu")


def label_of(form: str, n: int, c: int, space: tuple[int, ...], activation: Activation, ignore: int | None) -> Label:
    """A label, its reading, and the weights of its raters."""
    regions, weights = None, None
    if form == "dense":
        label = torch.rand(n, c, *space)
        label = torch.where(torch.rand(n, c, *space) < 0.3, label.round(), label)
        if activation is Activation.SOFTMAX:
            label = torch.softmax(torch.randn(n, c, *space) * 3, 1)
        if ignore is not None:
            label = torch.where(torch.rand(n, 1, *space) < 0.2, float(ignore), label)
        return label, LabelForm.DENSE, None, None
    raters = 1
    if "votes" in form:
        raters = 4 if "four" in form else 3
        weights = torch.tensor([1.0, 0.25, 0.0, 0.7]).expand(n, 4) if "four" in form else None
    if "regions" in form:
        regions = REGIONS
        label = torch.randint(0, 6, (n, raters, *space))
    else:
        label = torch.randint(0, max(c, 2), (n, raters, *space))
    if ignore is not None:
        label = torch.where(torch.rand(label.shape) < 0.3, ignore, label)
    return label, LabelForm.VOTES if "votes" in form else LabelForm.INDEX, regions, weights


def graded(sums: VoxelSums, seed: int = 0) -> torch.Tensor:
    """A number in which every sum has a slope of its own."""
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(())
    for part in (sums.tp, sums.fp, sums.fn, sums.pixel):
        if part is not None:
            total = total.to(part.device) + (part * torch.rand(part.shape, generator=generator).to(part)).sum()
    return total


def run(
    kernel: Backend,
    logits: torch.Tensor,
    label: torch.Tensor,
    recipe: VoxelRecipe,
    mask: torch.Tensor | None = None,
    weights: torch.Tensor | None = None,
    class_weight: torch.Tensor | None = None,
) -> tuple[VoxelSums, torch.Tensor, bool | None]:
    """Run a kernel where it is tested.

    Returns:
        On the CPU: its sums, the gradient of a number made of them, and whether its own check found something; None for a kernel that
        leaves every check to the caller.
    """
    device = torch.device("cpu") if kernel is Backend.EAGER else device_of(kernel)
    logits = logits.detach().to(device).requires_grad_()
    others = [None if each is None else each.to(device) for each in (mask, weights, class_weight)]
    suspicious = None
    if kernel is Backend.EAGER:
        sums = eager_voxel_sums(logits, label, recipe, *others)
    else:
        assert refusal(kernel, logits, label.to(device), recipe) is None
        sums, suspect = fast_voxel_sums(kernel, logits, label.to(device), recipe, *others)
        if KERNELS[kernel].checks_values:
            suspicious = bool(suspect.any())
        else:
            assert suspect.any() == bool(sums.counted.any()), "the caller would run no check"
    graded(sums).backward()
    assert logits.grad is not None
    return VoxelSums._make(None if part is None else part.detach().cpu() for part in sums), logits.grad.cpu(), suspicious


def close(got: torch.Tensor, expected: torch.Tensor, relative: float, what: str) -> None:
    assert got.shape == expected.shape, what
    got, expected = got.double(), expected.double()
    assert (got.isnan() == expected.isnan()).all(), what
    infinite = expected.isinf()
    assert (got[infinite] == expected[infinite]).all(), what
    keep = torch.isfinite(expected)
    if keep.any():
        far = (got - expected)[keep].abs().max()
        assert far <= relative * max(float(expected[keep].abs().max()), 1e-3), f"{what}: {far}"


def assert_agrees(
    kernel: Backend,
    logits: torch.Tensor,
    label: torch.Tensor,
    recipe: VoxelRecipe,
    mask: torch.Tensor | None = None,
    weights: torch.Tensor | None = None,
    class_weight: torch.Tensor | None = None,
    judge: torch.dtype = torch.float64,
    tolerance: float = 2e-6,
) -> bool | None:
    """Compare a kernel's sums and gradient with the judge's; return whether its own check found something."""
    with torch.no_grad():
        seen = logits.to(judge)
    sums, gradient, suspicious = run(kernel, logits, label, recipe, mask, weights, class_weight)
    expected, expected_gradient, _ = run(Backend.EAGER, seen, label, recipe, mask, weights, class_weight)
    for name in VoxelSums._fields:
        got, wanted = getattr(sums, name), getattr(expected, name)
        if wanted is None:
            assert got is None
        elif wanted.dtype is torch.bool:
            assert (got == wanted).all(), name
        else:
            assert got.dtype is torch.float32
            close(got, wanted, tolerance, name)
    assert gradient.dtype is logits.dtype
    coarse = {torch.float16: 1e-3, torch.bfloat16: 8e-3}.get(logits.dtype, 5 * tolerance)
    close(gradient, expected_gradient, coarse, "gradient")
    return suspicious


def recipe_of(
    activation: Activation,
    form: LabelForm,
    regions: tuple[tuple[int, ...], ...] | None,
    pixel: PixelRule | None = None,
    norm: int = 1,
    ignore: int | None = None,
    smoothing: float = 0.0,
    include_background: bool = True,
) -> VoxelRecipe:
    return VoxelRecipe(
        activation=activation,
        label=LabelReading(form=form, regions=regions, ignore_index=ignore, smoothing=smoothing),
        include_background=include_background,
        norm=norm,
        pixel=pixel,
    )
