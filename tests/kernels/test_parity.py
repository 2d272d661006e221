"""Every fast kernel that runs on a CPU gives the eager one's sums and gradients, whatever the recipe, the label and the layout."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from monai_jdt.definitions import Activation, Backend, LabelForm, LabelReading, PixelRule, PixelTerm, VoxelRecipe, VoxelSums
from monai_jdt.kernels import chunked
from monai_jdt.kernels.choice import refusal
from monai_jdt.kernels.eager import eager_voxel_sums
from monai_jdt.kernels.operators import fast_voxel_sums

KERNELS = [Backend.CHUNKED, Backend.NUMBA]
ACTIVATIONS = [Activation.SOFTMAX, Activation.SIGMOID, Activation.NONE]
PIXELS = [
    None,
    PixelRule(PixelTerm.CROSS_ENTROPY),
    PixelRule(PixelTerm.FOCAL, 2.0),
    PixelRule(PixelTerm.FOCAL, 1.0, 0.3),
    PixelRule(PixelTerm.FOCAL, 2.5, 0.75),
    PixelRule(PixelTerm.DIVERGENCE),
]
FORMS = ["dense", "index", "votes", "votes of four, one silent", "regions", "votes of regions"]
REGIONS = ((1,), (1, 2), (0, 4))


@pytest.fixture(params=KERNELS, ids=lambda kernel: kernel.value)
def kernel(request, monkeypatch):
    if request.param is Backend.NUMBA:
        pytest.importorskip("numba")
    # several chunks, the last one short
    monkeypatch.setattr(chunked, "_SMALLEST", 3000)
    monkeypatch.setattr(chunked, "_LARGEST", 3000)
    return request.param


@pytest.fixture(autouse=True)
def _poisoned_memory():
    """Fresh memory is NaN, or the largest integer."""
    before = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.utils.deterministic.fill_uninitialized_memory = before
    torch.use_deterministic_algorithms(False)


def test_fresh_memory_is_poisoned():
    assert torch.empty(3).isnan().all()


def label_of(form: str, n: int, c: int, space: tuple[int, ...], activation: Activation, ignore: int | None):
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
    total = 0
    for part in (sums.tp, sums.fp, sums.fn, sums.pixel):
        if part is not None:
            total = total + (part * torch.rand(part.shape, generator=generator).to(part.dtype)).sum()
    return total


def run(kernel, logits, label, recipe, mask=None, weights=None, class_weight=None):
    logits = logits.detach().requires_grad_()
    if kernel is Backend.EAGER:
        sums, suspect = eager_voxel_sums(logits, label, recipe, mask, weights, class_weight), None
    else:
        assert refusal(kernel, logits, label, recipe) is None
        sums, suspect = fast_voxel_sums(kernel, logits, label, recipe, mask, weights, class_weight)
    graded(sums).backward()
    return sums, logits.grad, suspect


def close(came: torch.Tensor, expected: torch.Tensor, relative: float, what: str) -> None:
    assert came.shape == expected.shape, what
    came, expected = came.double(), expected.double()
    assert (came.isnan() == expected.isnan()).all(), what
    infinite = expected.isinf()
    assert (came[infinite] == expected[infinite]).all(), what
    keep = torch.isfinite(expected)
    if keep.any():
        far = (came - expected)[keep].abs().max()
        assert far <= relative * max(expected[keep].abs().max(), 1e-3), f"{what}: {far}"


def agree(kernel, logits, label, recipe, mask=None, weights=None, class_weight=None, judge=torch.float64, tolerance=2e-6):
    """The kernel's sums and gradient are the judge's; returns the suspicion."""
    with torch.no_grad():
        seen = logits.to(judge)
    if logits.shape[0] * math.prod(logits.shape[2:]) == 0:
        seen = seen.clone()
    sums, gradient, suspect = run(kernel, logits, label, recipe, mask, weights, class_weight)
    expected, expected_gradient, _ = run(Backend.EAGER, seen, label, recipe, mask, weights, class_weight)
    for name in VoxelSums._fields:
        came, wanted = getattr(sums, name), getattr(expected, name)
        if wanted is None:
            assert came is None
        elif wanted.dtype is torch.bool:
            assert (came == wanted).all(), name
        else:
            assert came.dtype is torch.float32
            close(came, wanted, tolerance, name)
    assert gradient.dtype is logits.dtype
    coarse = {torch.float16: 1e-3, torch.bfloat16: 8e-3}.get(logits.dtype, 5 * tolerance)
    close(gradient, expected_gradient, coarse, "gradient")
    return suspect


def recipe_of(activation, form, regions, pixel=None, norm=1, ignore=None, smoothing=0.0, include_background=True):
    return VoxelRecipe(
        activation=activation,
        label=LabelReading(form=form, regions=regions, ignore_index=ignore, smoothing=smoothing),
        include_background=include_background,
        norm=norm,
        pixel=pixel,
    )


def possible(activation: Activation, form: str, pixel: PixelRule | None, smoothing: float) -> bool:
    if "regions" in form and activation is Activation.SOFTMAX:
        return False
    return activation is not Activation.NONE or (pixel is None and smoothing == 0)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda activation: activation.value)
def test_every_recipe(kernel, activation, form, examples):
    if "regions" in form and activation is Activation.SOFTMAX:
        return
    n, c, space = 2, 3, (7, 9, 5)
    every = examples(5, 1)
    logits = torch.randn(n, c, *space) * 3 if activation is not Activation.NONE else torch.rand(n, c, *space)
    tried = []
    settings = itertools.product(PIXELS, (1, 2), (None, 255, 2), (0.0, 0.1), (None, 1, c), (False, True))
    for pixel, norm, ignore, smoothing, mask_rows, weighted in settings:
        if not possible(activation, form, pixel, smoothing) or (mask_rows == c and activation is not Activation.SIGMOID):
            continue
        if weighted and pixel is None:
            continue
        tried.append((pixel, norm, ignore, smoothing, mask_rows, weighted))
    # 5 is prime to the number of values of each setting, so a fifth of the settings has every pair of values
    for pixel, norm, ignore, smoothing, mask_rows, weighted in tried[::every]:
        label, label_form, regions, weights = label_of(form, n, c, space, activation, ignore)
        recipe = recipe_of(activation, label_form, regions, pixel, norm, ignore, smoothing, include_background=not weighted)
        mask = None if mask_rows is None else torch.rand(n, mask_rows, *space) < 0.6
        class_weight = torch.tensor([0.5, 2.0, 1.5]) if weighted else None
        suspect = agree(kernel, logits, label, recipe, mask, weights, class_weight)
        assert not suspect.any()
    assert len(tried) >= 6


@pytest.mark.parametrize("channels", [1, 2, 5, 9, 17, 130])
@pytest.mark.parametrize("voxels", [1, 63, 511, 513, 4095, 4097])
def test_awkward_sizes(kernel, channels, voxels):
    if channels * voxels > 2**18:
        voxels = 1025
    for form in ("dense", "index", "votes"):
        for activation in ACTIVATIONS:
            if channels == 1 and (activation is Activation.SOFTMAX or form == "index"):
                continue
            label, label_form, _, weights = label_of(form, 1, channels, (voxels,), activation, None)
            logits = torch.randn(1, channels, voxels) if activation is not Activation.NONE else torch.rand(1, channels, voxels)
            pixel = None if activation is Activation.NONE else PixelRule(PixelTerm.CROSS_ENTROPY)
            class_weight = torch.full((channels,), 1.5) if pixel is not None else None
            agree(kernel, logits, label, recipe_of(activation, label_form, None, pixel), None, weights, class_weight, tolerance=3e-6)
