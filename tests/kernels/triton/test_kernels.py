"""The Triton kernels against the definition, in value and gradient.

Without a GPU they run under Triton's interpreter on CPU tensors (see tests/conftest.py). With one they run natively, and every test
here is about the real thing.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")

from monai_jdt.definitions import Activation, Backend, LabelForm, LabelReading, PixelRule, PixelTerm, VoxelRecipe, VoxelSums
from monai_jdt.kernels.choice import refusal
from monai_jdt.kernels.eager import eager_voxel_sums
from monai_jdt.kernels.kernel_input import KernelInput
from monai_jdt.kernels.operators import fast_voxel_sums
from monai_jdt.kernels.registry import KERNELS
from monai_jdt.kernels.triton import kernels as triton_kernels
from monai_jdt.losses import DiceSemimetricLoss, JDTCELoss, JDTFocalLoss, JDTLoss

MOST_CHANNELS = KERNELS[Backend.TRITON].most_channels
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ROOT = Path(__file__).resolve().parents[2]
SOFTMAX, SIGMOID, NONE = Activation.SOFTMAX, Activation.SIGMOID, Activation.NONE
DENSE, INDEX, VOTES = LabelForm.DENSE, LabelForm.INDEX, LabelForm.VOTES
EPSILON = {torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}


@pytest.fixture(autouse=True)
def _fresh_memory_is_not_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a kernel forgets to write is NaN."""

    def poisoned(make):
        return lambda *args, **kwargs: make(*args, **kwargs).fill_(float("nan"))

    namespace = type("PoisonedTorch", (), {"__getattr__": lambda self, name: getattr(torch, name)})()
    namespace.empty = poisoned(torch.empty)
    namespace.empty_like = poisoned(torch.empty_like)
    monkeypatch.setattr(triton_kernels, "torch", namespace)


def assert_same(
    logits: torch.Tensor,
    label: torch.Tensor,
    recipe: VoxelRecipe,
    mask: torch.Tensor | None = None,
    rater_weights: torch.Tensor | None = None,
    class_weight: torch.Tensor | None = None,
) -> VoxelSums:
    """Sums and gradient are those of the definition in float64 on the same numbers."""
    exact = logits.double().requires_grad_()
    given = logits.detach().requires_grad_()
    double_label = label.double() if label.is_floating_point() else label
    double_weights = [None if weights is None else weights.double() for weights in (rater_weights, class_weight)]
    expected = eager_voxel_sums(exact, double_label, recipe, mask, *double_weights)
    got, suspect = fast_voxel_sums(Backend.TRITON, given, label, recipe, mask, rater_weights, class_weight)
    assert suspect.shape == (logits.shape[0], logits.shape[1])
    upstream = torch.Generator().manual_seed(1)
    expected_total, got_total = exact.sum() * 0, given.sum() * 0
    for name in VoxelSums._fields:
        a, b = getattr(expected, name), getattr(got, name)
        assert (a is None) == (b is None), name
        if a is None:
            continue
        assert a.shape == b.shape, name
        if a.dtype is torch.bool:
            assert torch.equal(a, b), name
            continue
        assert b.dtype is torch.float32
        torch.testing.assert_close(b, a.float(), rtol=2e-6, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")
        if name in ("tp", "fp", "fn", "pixel"):
            factor = torch.rand(a.shape, generator=upstream, dtype=torch.float64).to(a.device)
            expected_total = expected_total + (factor * a).sum()
            got_total = got_total + (factor.float() * b).sum()
    (exact_gradient,) = torch.autograd.grad(expected_total, exact)
    (gradient,) = torch.autograd.grad(got_total, given)
    assert gradient.shape == given.shape
    assert gradient.dtype is given.dtype
    epsilon = EPSILON[given.dtype]
    torch.testing.assert_close(gradient.double(), exact_gradient, rtol=5 * epsilon, atol=epsilon)
    return got


def laid_out(values: torch.Tensor, layout: str) -> torch.Tensor:
    """The same values in other memory, between numbers that must not be read."""
    if layout == "contiguous":
        return values
    if layout == "channels last":
        return values.movedim(1, -1).contiguous().movedim(-1, 1)
    n, channels, *space = values.shape
    poison = (
        77
        if not values.is_floating_point() and values.dtype is not torch.bool
        else True
        if values.dtype is torch.bool
        else float("nan")
    )
    larger = values.new_full((n + 1, channels + 2, space[0] + 5, *[side + 1 for side in space[1:]]), poison)
    crop = larger[(slice(1, None), slice(1, channels + 1), slice(3, space[0] + 3), *map(slice, space[1:]))]
    crop.copy_(values)
    return crop


def random_case(seed: int) -> dict:
    """One step out of all that a recipe can say."""
    draw = random.Random(seed)
    numbers = torch.Generator().manual_seed(seed)
    activation = draw.choice([SOFTMAX, SOFTMAX, SIGMOID, SIGMOID, NONE])
    form = draw.choice([DENSE, INDEX, VOTES])
    channels = draw.choice([2, 3, 5, 17] if activation is SOFTMAX else [1, 2, 3, 5])
    if seed % 20 == 0:
        channels = 118
    space = draw.choice([(1,), (63,), (129,), (7, 9), (3, 5, 4), (64,), (8, 6, 4)])
    n = draw.choice([1, 2, 3])
    normalised = activation is not NONE
    regions = None
    if form is not DENSE and activation is not SOFTMAX and draw.random() < 0.5:
        regions = tuple(tuple(sorted(draw.sample(range(6), draw.choice([1, 2, 3])))) for _ in range(channels))
    term = draw.choice([None, *PixelTerm]) if normalised else None
    pixel = None if term is None else PixelRule(term, draw.choice([1.0, 2.0, 1.5, 3.0]), draw.choice([None, 0.3]))
    ignore = draw.choice([None, 255 if form is not DENSE else -1])
    recipe = VoxelRecipe(
        activation,
        None,
        LabelReading(form, regions, ignore, draw.choice([0.0, 0.1]) if normalised else 0.0),
        draw.random() < 0.7 or channels == 1,
        draw.choice([1, 2]),
        draw.choice([0.01, 0.4]),
        pixel,
    )
    dtype = draw.choice([torch.float32, torch.float32, torch.float16, torch.bfloat16])
    logits = torch.randn(n, channels, *space, generator=numbers) * draw.choice([1, 4])
    logits = (torch.sigmoid(logits) if activation is NONE else logits).to(dtype)
    if form is DENSE:
        label = torch.randn(n, channels, *space, generator=numbers) * 3
        label = torch.softmax(label, 1) if activation is SOFTMAX else torch.sigmoid(label)
        kind = draw.choice([torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int16, torch.bool])
        label = (label if kind.is_floating_point else label == label.amax(1, keepdim=True)).to(kind)
        if ignore is not None and kind is not torch.bool:
            label = torch.where(torch.rand(n, 1, *space, generator=numbers) < 0.3, torch.tensor(ignore).to(kind), label)
    else:
        raters = draw.choice([1, 3]) if form is VOTES else 1
        label = torch.randint(6 if regions else max(channels, 2), (n, raters, *space), generator=numbers)
        if ignore is not None:
            label = torch.where(torch.rand(label.shape, generator=numbers) < 0.3, ignore, label)
        # 255 and class 117 fit a byte; int8 holds neither the marker nor needs one
        kinds = [torch.int64, torch.int32, torch.float32, torch.uint8, torch.float64]
        label = label.to(draw.choice(kinds))
    mask = draw.choice([None, "one", "each"])
    if mask == "each" and activation is not SIGMOID:
        mask = "one"
    layouts = ["contiguous", "channels last", "crop"]
    return {
        "logits": laid_out(logits, draw.choice(layouts)).to(DEVICE),
        "label": laid_out(label, draw.choice(layouts)).to(DEVICE),
        "recipe": recipe,
        "mask": None
        if mask is None
        else laid_out(torch.rand(n, channels if mask == "each" else 1, *space, generator=numbers) < 0.7, draw.choice(layouts)).to(
            DEVICE
        ),
        "rater_weights": torch.tensor([1.0, 0.0, 0.5][: label.shape[1]]).to(DEVICE) if form is VOTES and draw.random() < 0.5 else None,
        "class_weight": torch.rand(channels, generator=numbers).to(DEVICE) if pixel is not None and draw.random() < 0.5 else None,
    }


@pytest.mark.parametrize("seed", range(60))
def test_random_steps(seed: int) -> None:
    assert_same(**random_case(seed))


@pytest.mark.long
@pytest.mark.parametrize("hundred", range(1, 16))
def test_many_random_steps(hundred: int) -> None:
    for seed in range(100 * hundred, 100 * hundred + 100):
        try:
            assert_same(**random_case(seed))
        except Exception as error:
            raise AssertionError(f"seed {seed}") from error


@pytest.mark.parametrize("activation", [SOFTMAX, SIGMOID])
@pytest.mark.parametrize("term", [None, *PixelTerm])
def test_blocks_and_programs_add_up(activation: Activation, term: PixelTerm | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several programs of several blocks, and a last one that is not full."""
    monkeypatch.setattr(triton_kernels, "_VOXELS", 1)
    monkeypatch.setattr(triton_kernels, "_PROGRAMS", 4)
    monkeypatch.setattr(triton_kernels, "block_shape", lambda channels: (4, 16, 4))
    monkeypatch.setattr(triton_kernels, "_PARTS", 2)
    logits = torch.randn(2, 3, 301, device=DEVICE)
    label = torch.softmax(torch.randn(2, 3, 301, device=DEVICE), 1)
    recipe = VoxelRecipe(activation, pixel=None if term is None else PixelRule(term))
    _, _, parts = triton_kernels._call(KernelInput(logits, label, recipe, None, None, None))
    assert parts > 2
    first = assert_same(logits, label, recipe)
    again = fast_voxel_sums(Backend.TRITON, logits, label, recipe)[0]
    assert torch.equal(first.tp, again.tp)


@pytest.mark.parametrize("norm", [1, 2])
def test_a_tie_takes_half_of_each_side(norm: int) -> None:
    values = torch.tensor([[[0.0, 0.25, 0.5, 1.0], [0.5, 0.5, 0.25, 1.0]]], device=DEVICE)
    assert_same(values, values.clone(), VoxelRecipe(norm=norm))
    assert_same(torch.zeros(1, 2, 5, device=DEVICE), torch.full((1, 2, 5), 0.5, device=DEVICE), VoxelRecipe(SOFTMAX, norm=norm))
    focal = PixelRule(PixelTerm.FOCAL, 1.0)
    assert_same(
        torch.zeros(1, 2, 5, device=DEVICE), torch.full((1, 2, 5), 0.5, device=DEVICE), VoxelRecipe(SIGMOID, norm=norm, pixel=focal)
    )


@pytest.mark.parametrize("term", [None, *PixelTerm])
@pytest.mark.parametrize("activation", [SOFTMAX, SIGMOID])
def test_large_logits(activation: Activation, term: PixelTerm | None) -> None:
    logits = torch.tensor([-1e4, -80.0, -20.0, -12.0, 0.0, 12.0, 20.0, 80.0, 1e4], device=DEVICE)
    logits = torch.stack([logits, logits.flip(0)])[None]
    hard = torch.stack([torch.arange(9) % 2, 1 - torch.arange(9) % 2])[None].float().to(DEVICE)
    recipe = VoxelRecipe(activation, pixel=None if term is None else PixelRule(term, 2.5))
    for label in (hard, 1 - hard, 0.3 + 0.4 * hard):
        assert_same(logits, label, recipe)


def test_costs_of_well_predicted_voxels_keep_their_digits() -> None:
    """Cross-entropies of 1e-7 each: `log(1 + x)` that rounds `1 + x` would be off by half."""
    logits = torch.full((1, 1, 500), 16.0, device=DEVICE)
    recipe = VoxelRecipe(SIGMOID, pixel=PixelRule(PixelTerm.CROSS_ENTROPY))
    for label, sign in ((torch.ones_like(logits), 1), (torch.zeros_like(logits), -1)):
        sums, _ = fast_voxel_sums(Backend.TRITON, sign * logits, label, recipe)
        assert sums.pixel is not None
        expected = 500 * torch.log1p(torch.exp(torch.tensor(-16.0, dtype=torch.float64)))
        assert abs(sums.pixel.item() / expected.item() - 1) < 2e-6


def test_a_class_of_minus_infinity_costs_nothing_where_the_label_has_it_not() -> None:
    logits = torch.randn(1, 3, 7, device=DEVICE)
    logits[:, 2] = -float("inf")
    label = torch.softmax(torch.randn(1, 3, 7, device=DEVICE), 1)
    label[:, 2] = 0
    for pixel in (None, *map(PixelRule, PixelTerm)):
        sums, _ = fast_voxel_sums(Backend.TRITON, logits, label, VoxelRecipe(SOFTMAX, pixel=pixel))
        expected = eager_voxel_sums(logits, label, VoxelRecipe(SOFTMAX, pixel=pixel))
        torch.testing.assert_close(sums.tp, expected.tp)
        if pixel is not None:
            assert sums.pixel is not None
            assert torch.isfinite(sums.pixel).all()
            torch.testing.assert_close(sums.pixel, expected.pixel)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("loss", [JDTLoss, JDTCELoss, JDTFocalLoss])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_bad_logits_are_as_finite_as_eagers(value: float, loss: type, activation: str) -> None:
    logits = torch.randn(1, 2, 9, device=DEVICE)
    logits[0, 1, 4] = value
    label = torch.softmax(torch.randn(1, 2, 9, device=DEVICE), 1)
    results = [loss(**{activation: True}, backend=backend)(logits, label) for backend in ("eager", "triton")]
    assert torch.isfinite(results[0]) == torch.isfinite(results[1])
    if torch.isnan(torch.tensor(value)):
        assert torch.isnan(results[1])


@pytest.mark.parametrize("form", [INDEX, VOTES])
@pytest.mark.parametrize("bad", [-1, 3, 2**33 + 1, 1.5])
@pytest.mark.parametrize("regions", [None, ((1,), (1, 2), (0,))])
def test_a_class_that_is_none_makes_the_sums_nan(form: LabelForm, bad: float, regions: tuple | None) -> None:
    if regions is not None and bad in (3, 2**33 + 1):
        pytest.skip("regions may leave values out")
    logits = torch.randn(2, 3, 9, device=DEVICE)
    label = torch.randint(3, (2, 1, 9), device=DEVICE)
    label = label.double() if isinstance(bad, float) else label
    label[0, 0, 5] = bad
    recipe = VoxelRecipe(SIGMOID if regions else SOFTMAX, None, LabelReading(form, regions), pixel=PixelRule(PixelTerm.CROSS_ENTROPY))
    sums, _ = fast_voxel_sums(Backend.TRITON, logits, label, recipe)
    assert torch.isnan(sums.tp[0]).all()
    assert torch.isnan(sums.fn[0]).all()
    assert sums.in_label[0].all()
    assert torch.isfinite(sums.tp[1]).all()
    # what is ignored may be anything
    mask = torch.ones(2, 1, 9, dtype=torch.bool, device=DEVICE)
    mask[0, 0, 5] = False
    assert torch.isfinite(fast_voxel_sums(Backend.TRITON, logits, label, recipe, mask)[0].tp).all()


@pytest.mark.parametrize("activation", [SOFTMAX, SIGMOID, NONE])
def test_nothing_ignored_reaches_value_or_gradient(activation: Activation) -> None:
    clean = torch.rand(2, 3, 21, device=DEVICE)
    label = torch.softmax(torch.randn(2, 3, 21, device=DEVICE), 1)
    mask = torch.rand(2, 1, 21, device=DEVICE) < 0.5
    recipe = VoxelRecipe(activation, pixel=None if activation is NONE else PixelRule(PixelTerm.FOCAL, 1.5))
    dirty, dirty_label = clean.clone(), label.clone()
    for channel, value in enumerate((float("nan"), float("inf"), -float("inf"))):
        dirty[:, channel] = torch.where(mask[:, 0], dirty[:, channel], value)
        dirty_label[:, channel] = torch.where(mask[:, 0], label[:, channel], value)
    results = []
    for logits, target in ((clean, label), (dirty, dirty_label)):
        logits = logits.requires_grad_()
        sums, _ = fast_voxel_sums(Backend.TRITON, logits, target, recipe, mask)
        total = sums.tp.sum() + 2 * sums.fp.sum() + 3 * sums.fn.sum() + (0 if sums.pixel is None else sums.pixel.sum())
        results.append((total, *torch.autograd.grad(total, logits)))
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)
        assert torch.isfinite(a).all()


@pytest.mark.parametrize(("n", "voxels"), [(0, 5), (2, 0), (0, 0)])
@pytest.mark.parametrize("form", [DENSE, INDEX, VOTES])
def test_nothing_at_all(n: int, voxels: int, form: LabelForm) -> None:
    label = torch.zeros(n, {DENSE: 3, INDEX: 1, VOTES: 2}[form], voxels, device=DEVICE)
    recipe = VoxelRecipe(SOFTMAX, None, LabelReading(form), pixel=PixelRule(PixelTerm.CROSS_ENTROPY))
    assert_same(torch.zeros(n, 3, voxels, device=DEVICE), label, recipe)


def test_a_pair_is_one_voxel() -> None:
    assert_same(torch.randn(70, 3, device=DEVICE), torch.softmax(torch.randn(70, 3, device=DEVICE), 1), VoxelRecipe(SOFTMAX))


def test_regions_of_more_channels_than_a_word_has_bits() -> None:
    regions = tuple((channel % 7, 7 + channel % 3) for channel in range(70))
    logits = torch.randn(1, 70, 40, device=DEVICE)
    for form, raters in ((INDEX, 1), (VOTES, 3)):
        label = torch.randint(11, (1, raters, 40), device=DEVICE, dtype=torch.uint8)
        assert_same(logits, label, VoxelRecipe(SIGMOID, None, LabelReading(form, regions)))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32])
def test_numbers_that_a_label_cannot_hold(dtype: torch.dtype) -> None:
    """A marker or a region's value far outside is equal to nothing, instead of wrapping around."""
    logits = torch.randn(1, 2, 30, device=DEVICE)
    label = torch.randint(3, (1, 1, 30), device=DEVICE).to(dtype)
    assert_same(logits, label, VoxelRecipe(SIGMOID, None, LabelReading(INDEX, ((1, 2**40 + 2), (2**40,)), 2**41 + 1)))
    assert_same(logits, label.clamp(max=1), VoxelRecipe(SOFTMAX, None, LabelReading(INDEX, None, -(2**40))))


@pytest.mark.parametrize("form", [INDEX, VOTES])
def test_one_hot_and_index_and_votes_are_one_label(form: LabelForm) -> None:
    logits = torch.randn(2, 4, 33, device=DEVICE)
    label = torch.randint(4, (2, 1, 33), device=DEVICE)
    one_hot = (label == torch.arange(4, device=DEVICE).reshape(1, 4, 1)).float()
    recipe = VoxelRecipe(SOFTMAX, pixel=PixelRule(PixelTerm.CROSS_ENTROPY))
    results = []
    for values, reading in ((one_hot, LabelReading()), (label, LabelReading(form))):
        given = logits.clone().requires_grad_()
        sums, _ = fast_voxel_sums(Backend.TRITON, given, values, replace(recipe, label=reading))
        assert sums.pixel is not None
        total = sums.tp.sum() + 2 * sums.fp.sum() + 3 * sums.fn.sum() + sums.pixel.sum()
        results.append((sums.tp, sums.fp, sums.fn, sums.pixel, *torch.autograd.grad(total, given)))
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


def test_raters_that_agree_are_exactly_sure() -> None:
    """Weights that sum to an odd number must not make 1 a little more, whose `x log x` of `1 - x` is NaN."""
    logits = torch.randn(1, 3, 40, device=DEVICE)
    votes = torch.randint(3, (1, 1, 40), device=DEVICE).expand(1, 7, 40)
    weights = torch.tensor([0.1, 0.7, 0.3, 0.9, 0.77, 0.13, 0.37], device=DEVICE)
    recipe = VoxelRecipe(SIGMOID, None, LabelReading(VOTES), pixel=PixelRule(PixelTerm.DIVERGENCE))
    sums = assert_same(logits, votes, recipe, None, weights)
    assert torch.isfinite(sums.pixel).all()  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_gradient_scale_meets_float32(dtype: torch.dtype) -> None:
    """GradScaler's 65536 is multiplied before the cast, so small gradients survive."""
    logits = torch.randn(1, 2, 300, device=DEVICE).to(dtype).requires_grad_()
    label = torch.softmax(torch.randn(1, 2, 300, device=DEVICE), 1)
    loss = JDTCELoss(softmax=True, backend="triton")(logits, label)
    assert loss.dtype is torch.float32
    (loss * 65536).backward()
    assert logits.grad is not None
    assert (logits.grad != 0).float().mean() > 0.99


@pytest.mark.parametrize(
    "arguments", [{"softmax": True}, {"sigmoid": True, "batch": True}, {"softmax": True, "include_background": False}]
)
def test_through_the_classes(arguments: dict) -> None:
    logits = torch.randn(2, 3, 5, 6, 7, device=DEVICE)
    label = torch.softmax(torch.randn(2, 3, 5, 6, 7, device=DEVICE), 1)
    for cls in (DiceSemimetricLoss, JDTCELoss, JDTFocalLoss):
        results = []
        for backend in ("eager", "triton"):
            given = logits.clone().requires_grad_()
            loss = cls(**arguments, backend=backend)
            value = loss(given, label)
            value.backward()
            assert loss.backend_used == backend
            results.append((value.detach(), given.grad))
        torch.testing.assert_close(*(value for value, _ in results), rtol=2e-6, atol=0)
        torch.testing.assert_close(*(grad for _, grad in results), rtol=1e-5, atol=1e-8)


@pytest.mark.skipif(DEVICE == "cuda", reason="values are looked at on a CPU only")
def test_wrong_values_are_still_found_on_a_cpu() -> None:
    with pytest.raises(ValueError, match="expected labels in"):
        JDTLoss(sigmoid=True, backend="triton")(torch.zeros(1, 1, 4), torch.full((1, 1, 4), 255.0))


def test_a_full_graph() -> None:
    loss = JDTCELoss(softmax=True, backend="triton")
    logits, label = torch.randn(2, 3, 65, device=DEVICE, requires_grad=True), torch.softmax(torch.randn(2, 3, 65, device=DEVICE), 1)
    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")(logits, label)
    torch.testing.assert_close(compiled, loss(logits, label))
    (gradient,) = torch.autograd.grad(compiled, logits)
    torch.testing.assert_close(gradient, *torch.autograd.grad(loss(logits, label), logits))
    # the next test that compiles the same functions has other shapes, and must not find these
    torch._dynamo.reset()


def test_too_many_channels_are_refused_with_the_number() -> None:
    logits = torch.zeros(1, MOST_CHANNELS + 1, 2, device=DEVICE)
    reason = refusal(Backend.TRITON, logits, logits, VoxelRecipe(SOFTMAX))
    assert reason is not None
    assert str(MOST_CHANNELS) in reason
    assert refusal(Backend.TRITON, logits[:, 1:], logits[:, 1:], VoxelRecipe(SOFTMAX)) is None


@pytest.mark.parametrize("channels", [200, 256, pytest.param(600, marks=pytest.mark.long), pytest.param(1024, marks=pytest.mark.long)])
def test_many_channels(channels: int) -> None:
    label = torch.randint(channels, (1, 1, 45), device=DEVICE)
    recipe = VoxelRecipe(SOFTMAX, None, LabelReading(INDEX), pixel=PixelRule(PixelTerm.CROSS_ENTROPY))
    assert_same(torch.randn(1, channels, 45, device=DEVICE), label, recipe)


@pytest.mark.long
@pytest.mark.parametrize("fill", [None, 0.3])
def test_sums_of_a_large_volume(fill: float | None) -> None:
    """Within 1e-6 of float64, also where every voxel is the same number, whose rounding errors all have one sign."""
    shape = (1, 1, 128, 128, 128)
    logits = torch.randn(shape) if fill is None else torch.full(shape, fill)
    label = torch.rand(shape) if fill is None else torch.full(shape, 0.7)
    recipe = VoxelRecipe(SIGMOID, pixel=PixelRule(PixelTerm.CROSS_ENTROPY))
    sums, _ = fast_voxel_sums(Backend.TRITON, logits.to(DEVICE), label.to(DEVICE), recipe)
    exact = eager_voxel_sums(logits.double(), label.double(), recipe)
    for name in ("tp", "fp", "fn", "pixel", "pixel_norm", "counted"):
        torch.testing.assert_close(getattr(sums, name).cpu().double(), getattr(exact, name), rtol=1e-6, atol=1e-6)


def compile_for(capabilities: list[str], tmp_path: Path) -> list[str]:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"} | {
        "TRITON_CACHE_DIR": str(tmp_path)
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.kernels.compile_triton", *capabilities], capture_output=True, text=True, cwd=ROOT, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_kernel_compiles_for_a_gpu(tmp_path: Path) -> None:
    assert len(compile_for(["90", "softmax alone"], tmp_path)) == 3


@pytest.mark.long
@pytest.mark.parametrize("capability", ["80", "90"])
def test_the_kernels_compile_for_a_gpu(capability: str, tmp_path: Path) -> None:
    lines = compile_for([capability], tmp_path)
    assert len(lines) == 3 * 20
    # registers that do not fit slow a kernel down; with more channels than these they are known not to
    assert all("stack   0" in line or "C=1024" in line or "KL" in line for line in lines)


@pytest.mark.long
def test_the_script_of_gpu_checks_runs_its_lines(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/gpu_checks.py", str(tmp_path), "--device", "cpu", "--small", "--tune"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "gpu_checks.md").read_text().count("PASS") > 20
