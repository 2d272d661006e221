"""The contract of a fast kernel: the definition's sums and gradients, whatever the recipe, the label and the layout.

Every row of the table of kernels runs every test here that it can run on this machine: `triton` on a GPU, or under its interpreter.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable

import pytest
import torch

from monai_jdt.checks import value_checks
from monai_jdt.definitions import Activation, Backend, LabelForm, PixelRule, PixelTerm, VoxelRecipe
from monai_jdt.kernels.choice import refusal
from monai_jdt.kernels.chunked import chunks
from monai_jdt.kernels.labels import ignore_index_as
from monai_jdt.kernels.numpy import blocks
from monai_jdt.kernels.registry import KERNELS
from monai_jdt.losses import JDTCELoss
from tests.kernels.comparison import REGIONS, assert_agrees, close, device_of, label_of, recipe_of, run
from tests.present import present

pytestmark = pytest.mark.usefixtures("poisoned_memory")

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


@pytest.fixture(params=list(KERNELS), ids=lambda kernel: kernel.value)
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Backend:
    sample = torch.zeros(1, 2, 3, device=device_of(request.param))
    reason = refusal(request.param, sample, sample, VoxelRecipe())
    if reason is not None:
        pytest.skip(reason)
    # several chunks, the last one short, each in several slices
    monkeypatch.setattr(chunks, "_SMALLEST", 3000)
    monkeypatch.setattr(chunks, "_SMALLEST_SLICE", 1)
    monkeypatch.setattr(chunks, "_LARGEST", 3000)
    monkeypatch.setattr(blocks, "_LARGEST", 1000)
    # fresh memory, which the fixture above fills
    monkeypatch.setattr(blocks, "_of_thread", threading.local())
    return request.param


def test_fresh_memory_is_poisoned() -> None:
    assert torch.empty(3).isnan().all()


def possible(activation: Activation, form: str, pixel: PixelRule | None, smoothing: float) -> bool:
    if "regions" in form and activation is Activation.SOFTMAX:
        return False
    return activation is not Activation.NONE or (pixel is None and smoothing == 0)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda activation: activation.value)
def test_every_recipe(kernel: Backend, activation: Activation, form: str, examples: Callable[[int, int], int]) -> None:
    if "regions" in form and activation is Activation.SOFTMAX:
        return
    n, c, space = 2, 3, (7, 9, 5)
    every = examples(85 if kernel is Backend.TRITON else 5, 1)
    logits = torch.randn(n, c, *space) * 3 if activation is not Activation.NONE else torch.rand(n, c, *space)
    tried = []
    a_value = 3 if "regions" in form else 2  # a label value, of no region
    settings = itertools.product(PIXELS, (1, 2), (None, 255, a_value), (0.0, 0.1), (None, 1, c), (False, True))
    for pixel, norm, ignore, smoothing, mask_rows, weighted in settings:
        if not possible(activation, form, pixel, smoothing) or (mask_rows == c and activation is not Activation.SIGMOID):
            continue
        if weighted and pixel is None:
            continue
        tried.append((pixel, norm, ignore, smoothing, mask_rows, weighted))
    # 5 is prime to the number of values of each setting, so a fifth of the settings has every pair of values. Triton's interpreter is
    # too slow for these.
    for pixel, norm, ignore, smoothing, mask_rows, weighted in tried[::every]:
        label, label_form, regions, weights = label_of(form, n, c, space, activation, ignore)
        recipe = recipe_of(activation, label_form, regions, pixel, norm, ignore, smoothing, include_background=not weighted)
        mask = None if mask_rows is None else torch.rand(n, mask_rows, *space) < 0.6
        class_weight = torch.tensor([0.5, 2.0, 1.5]) if weighted else None
        assert not assert_agrees(kernel, logits, label, recipe, mask, weights, class_weight)
    assert len(tried) >= 6


@pytest.mark.parametrize("channels", [1, 2, 5, 9, 17, 130])
@pytest.mark.parametrize("voxels", [1, 63, 511, 513, 4095, 4097])
def test_awkward_sizes(kernel: Backend, channels: int, voxels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "_LARGEST", 20000)
    monkeypatch.setattr(chunks, "_SMALLEST", 20000)
    monkeypatch.setattr(chunks, "_SMALLEST_SLICE", 1)
    if channels * voxels > (2**13 if kernel is Backend.TRITON else 2**16):
        voxels = 63 if kernel is Backend.TRITON else 1025
    for form in ("dense", "index", "votes"):
        for activation in ACTIVATIONS:
            if channels == 1 and (activation is Activation.SOFTMAX or form == "index"):
                continue
            label, label_form, _, weights = label_of(form, 1, channels, (voxels,), activation, None)
            logits = torch.randn(1, channels, voxels) if activation is not Activation.NONE else torch.rand(1, channels, voxels)
            pixel = None if activation is Activation.NONE else PixelRule(PixelTerm.CROSS_ENTROPY)
            class_weight = torch.full((channels,), 1.5) if pixel is not None else None
            assert_agrees(
                kernel, logits, label, recipe_of(activation, label_form, None, pixel), None, weights, class_weight, tolerance=3e-6
            )


@pytest.mark.parametrize("factor", [1.0, 50.0, 500.0])
@pytest.mark.parametrize("activation", [Activation.SOFTMAX, Activation.SIGMOID], ids=lambda activation: activation.value)
def test_saturated_logits(kernel: Backend, activation: Activation, factor: float) -> None:
    for pixel, form in itertools.product(PIXELS, ("dense", "index")):
        label, label_form, _, _ = label_of(form, 2, 4, (700,), activation, None)
        assert_agrees(kernel, torch.randn(2, 4, 700) * factor, label, recipe_of(activation, label_form, None, pixel), tolerance=3e-6)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda activation: activation.value)
@pytest.mark.parametrize("norm", [1, 2])
def test_ties_are_split(kernel: Backend, activation: Activation, norm: int) -> None:
    logits = torch.zeros(2, 4, 300)
    label = torch.full((2, 4, 300), 0.25 if activation is Activation.SOFTMAX else 0.5)
    if activation is Activation.NONE:
        logits = label.clone()
    label[:, :, ::3] = torch.tensor([1.0, 0.0, 0.0, 0.0]).reshape(1, 4, 1)
    for pixel in PIXELS if activation is not Activation.NONE else [None]:
        assert_agrees(kernel, logits, label, recipe_of(activation, LabelForm.DENSE, None, pixel, norm), judge=torch.float32)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("activation", [Activation.SOFTMAX, Activation.SIGMOID], ids=lambda activation: activation.value)
def test_logits_that_are_no_numbers(kernel: Backend, activation: Activation, value: float) -> None:
    logits = torch.randn(2, 3, 500)
    logits[0, 1, 77] = value
    for pixel in PIXELS:
        for form in ("dense", "index"):
            label, label_form, _, _ = label_of(form, 2, 3, (500,), activation, None)
            if form == "dense" and value == -math.inf:
                label[0, 1, 77] = 0
            recipe = recipe_of(activation, label_form, None, pixel)
            mine, gradient, _ = run(kernel, logits, label, recipe)
            theirs, expected, _ = run(Backend.EAGER, logits, label, recipe)
            for name in ("tp", "fp", "fn", "pixel"):
                if getattr(mine, name) is not None:
                    close(getattr(mine, name), getattr(theirs, name), 1e-5, name)
            differs = gradient.isnan() != expected.isnan()
            if pixel is not None and pixel.term is PixelTerm.FOCAL and activation is Activation.SIGMOID and math.isinf(value):
                # eager takes the slope of the focal weight as 0 at p = t, others as that times an infinite cross-entropy
                differs[0, 1, 77] = False
            assert not differs.any()
            # where such a voxel is ignored, it is as if it were another
            mask = torch.ones(2, 1, 500, dtype=torch.bool)
            mask[0, 0, 77] = False
            assert_agrees(kernel, logits, label, recipe, mask)


def test_class_masked_out_by_the_network_costs_nothing(kernel: Backend) -> None:
    logits = torch.randn(1, 4, 300)
    logits[:, 2] = -math.inf
    label = torch.randint(0, 2, (1, 1, 300))
    for pixel in PIXELS:
        recipe = recipe_of(Activation.SOFTMAX, LabelForm.INDEX, None, pixel)
        sums, gradient, _ = run(kernel, logits, label, recipe)
        assert torch.isfinite(gradient).all()
        assert all(torch.isfinite(part).all() for part in (sums.tp, sums.fp, sums.fn))
        assert pixel is None or torch.isfinite(present(sums.pixel)).all()


def test_indices_out_of_range_are_nan_and_suspect(kernel: Backend) -> None:
    for dtype in (torch.int64, torch.uint8, torch.float32):
        label = torch.randint(0, 3, (2, 1, 400)).to(dtype)
        label[1, 0, 5] = 3
        for form, activation in itertools.product((LabelForm.INDEX, LabelForm.VOTES), (Activation.SOFTMAX, Activation.SIGMOID)):
            recipe = recipe_of(activation, form, None, PixelRule(PixelTerm.CROSS_ENTROPY))
            sums, _, suspicious = run(kernel, torch.randn(2, 3, 400), label, recipe)
            assert torch.isfinite(sums.fn[0]).all()
            assert sums.fn[1].isnan().all()
            assert suspicious is not False
            mask = torch.ones(2, 1, 400, dtype=torch.bool)
            mask[1, 0, 5] = False
            assert_agrees(kernel, torch.randn(2, 3, 400), label, recipe, mask)
    fractional = torch.full((1, 1, 50), 0.5)
    _, _, suspicious = run(kernel, torch.randn(1, 3, 50), fractional, recipe_of(Activation.SOFTMAX, LabelForm.INDEX, None))
    assert suspicious is not False


CLASS_FORMS = {"index": (1, None), "votes": (3, None), "regions": (1, REGIONS), "votes of regions": (3, REGIONS)}


@pytest.mark.parametrize("form", CLASS_FORMS)
@pytest.mark.parametrize("ignore", [None, -1, 255])
@pytest.mark.parametrize("value", [0.5, math.nan, math.inf, -math.inf, -0.5, -2.0, 3e9, 2.0**31, 2.0**40])
def test_floats_that_are_no_class(kernel: Backend, form: str, ignore: int | None, value: float) -> None:
    raters, regions = CLASS_FORMS[form]
    for dtype in (torch.float32, torch.float64):
        label = torch.randint(0, 3, (2, raters, 300)).to(dtype)
        if ignore is not None:
            label[:, :, ::7] = ignore
        label[1, 0, 40] = value
        label_form = LabelForm.VOTES if raters > 1 else LabelForm.INDEX
        recipe = recipe_of(Activation.SIGMOID, label_form, regions, PixelRule(PixelTerm.CROSS_ENTROPY), ignore=ignore)
        logits = torch.randn(2, 3, 300)
        # regions have no highest value: one above all of them belongs to none
        legal = regions is not None and value > 1
        assert assert_agrees(kernel, logits, label, recipe) in (not legal, None)
        assert run(kernel, logits, label, recipe)[0].fn.isnan().any() == (not legal)
        loss = JDTCELoss(
            sigmoid=True,
            backend=kernel.value,
            votes=raters > 1,
            regions=regions,
            to_onehot_y=raters == 1 and regions is None,
            ignore_index=ignore,
        )
        logits, label = logits.to(device_of(kernel)), label.to(device_of(kernel))
        with value_checks("off"):
            assert loss(logits, label).isnan() == (not legal)
        with value_checks("on"):
            if legal:
                loss(logits, label)
            else:
                with pytest.raises(ValueError, match="target: expected"):
                    loss(logits, label)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda activation: activation.value)
def test_nothing_ignored_reaches_value_or_gradient(kernel: Backend, activation: Activation) -> None:
    clean, mask = torch.rand(2, 3, 21), torch.rand(2, 1, 21) < 0.5
    label, label_form, _, _ = label_of("dense", 2, 3, (21,), activation, None)
    recipe = recipe_of(activation, label_form, None, None if activation is Activation.NONE else PixelRule(PixelTerm.FOCAL, 1.5))
    spoiled = torch.tensor([math.nan, math.inf, -math.inf]).reshape(1, 3, 1)
    results = [
        run(kernel, logits, target, recipe, mask)
        for logits, target in ((clean, label), (torch.where(mask, clean, spoiled), torch.where(mask, label, spoiled)))
    ]
    for a, b in zip((*results[0][0], results[0][1]), (*results[1][0], results[1][1]), strict=True):
        assert a is b is None or torch.equal(present(a), present(b))
    assert torch.isfinite(results[1][1]).all()


def test_costs_of_well_predicted_voxels_keep_their_digits(kernel: Backend) -> None:
    """Cross-entropies of 1e-7 each: `log(1 + x)` that rounds `1 + x` would be off by half."""
    recipe = recipe_of(Activation.SIGMOID, LabelForm.DENSE, None, PixelRule(PixelTerm.CROSS_ENTROPY))
    for label, z in ((torch.ones(1, 1, 500), 16.0), (torch.zeros(1, 1, 500), -16.0)):
        sums, _, _ = run(kernel, torch.full((1, 1, 500), z), label, recipe)
        assert present(sums.pixel).item() == pytest.approx(500 * math.log1p(math.exp(-16)), rel=2e-6)


def test_a_marker_may_be_any_whole_number(kernel: Backend) -> None:
    for marker, dtype in itertools.product((2**31, 2**40, -(2**31) - 1, -2), (torch.float32, torch.float64, torch.int64)):
        if dtype is torch.float32 and marker == -(2**31) - 1:
            continue
        label = torch.randint(0, 3, (2, 1, 300))
        label[:, :, ::7] = marker
        recipe = recipe_of(Activation.SIGMOID, LabelForm.INDEX, None, PIXELS[1], ignore=marker)
        assert not assert_agrees(kernel, torch.randn(2, 3, 300), label.to(dtype), recipe)
        label[1, 0, 40] = -1
        assert assert_agrees(kernel, torch.randn(2, 3, 300), label.to(dtype), recipe) is not False


@pytest.mark.parametrize("form", CLASS_FORMS)
@pytest.mark.parametrize(("dtype", "marker"), [(torch.bfloat16, 999), (torch.bfloat16, 257), (torch.float16, 2049)])
def test_a_marker_is_rounded_as_the_label_is(kernel: Backend, form: str, dtype: torch.dtype, marker: int) -> None:
    raters, regions = CLASS_FORMS[form]
    label = torch.randint(0, 3, (2, raters, 300)).to(dtype)
    label[:, :, ::7] = marker
    assert not (label.float() == marker).any()
    recipe = recipe_of(Activation.SIGMOID, LabelForm.VOTES if raters > 1 else LabelForm.INDEX, regions, PIXELS[1], ignore=marker)
    logits = torch.randn(2, 3, 300)
    assert not assert_agrees(kernel, logits, label, recipe)
    _, gradient, _ = run(kernel, logits, label, recipe)
    assert not gradient[:, :, ::7].any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_markers_are_rounded_as_torch_does(dtype: torch.dtype) -> None:
    for marker in (0, -1, 255, 257, 259, 999, -999, 2049, 2051, 4095, 2**24 + 1, 2**24 + 3, -(2**31) - 1):
        if abs(marker) <= torch.finfo(dtype).max:
            assert ignore_index_as(marker, dtype) == torch.tensor(marker).to(dtype).to(torch.float64).item()
    assert ignore_index_as(2**40 + 1, torch.int64) == 2**40 + 1
    assert ignore_index_as(None, dtype) is None


@pytest.mark.parametrize("form", CLASS_FORMS)
@pytest.mark.parametrize("value", [2**31 - 1, 2**31, 2**32 + 1, 2**40])
def test_large_class_values(kernel: Backend, form: str, value: int) -> None:
    raters, regions = CLASS_FORMS[form]
    label = torch.randint(0, 3, (2, raters, 300))
    label[1, 0, 40] = value
    recipe = recipe_of(Activation.SIGMOID, LabelForm.VOTES if raters > 1 else LabelForm.INDEX, regions, PIXELS[1])
    for each in (label, label.double()):
        assert assert_agrees(kernel, torch.randn(2, 3, 300), each, recipe) in (regions is None, None)
    # a region of that value, where the kernel has it, and never another one's
    recipe = recipe_of(Activation.SIGMOID, recipe.label.form, ((value,), (2,), (1, 2)), PIXELS[1])
    highest = KERNELS[kernel].highest_region_value
    if highest is not None and value > highest:
        assert refusal(kernel, torch.randn(2, 3, 300), label, recipe) is not None
    else:
        assert not assert_agrees(kernel, torch.randn(2, 3, 300), label, recipe)


def test_an_illegal_vote_is_found_in_every_channel_that_counts(kernel: Backend) -> None:
    some_channels = [[0], [1], [2], [0, 1], [0, 2], [1, 2], [0, 1, 2]]
    for form, silent in itertools.product((LabelForm.VOTES, LabelForm.INDEX), some_channels):
        label = torch.randint(0, 3, (2, 3 if form is LabelForm.VOTES else 1, 400))
        label[1, 0, 50] = 9
        mask = torch.ones(2, 3, 400, dtype=torch.bool)
        mask[1, silent, 50] = False
        recipe = recipe_of(Activation.SIGMOID, form, None, PixelRule(PixelTerm.CROSS_ENTROPY))
        assert assert_agrees(kernel, torch.randn(2, 3, 400), label, recipe, mask) in (bool(mask[1, :, 50].any()), None)


@pytest.mark.parametrize(
    ("value", "activation"),
    [(1.01, Activation.SIGMOID), (-0.01, Activation.SIGMOID), (math.nan, Activation.SIGMOID), (0.9, Activation.SOFTMAX)],
)
def test_labels_that_a_check_refuses_are_suspect(kernel: Backend, value: float, activation: Activation) -> None:
    label = torch.zeros(2, 2, 600)
    label[:, 0] = 1
    recipe = recipe_of(activation, LabelForm.DENSE, None)
    assert not run(kernel, torch.randn(2, 2, 600), label, recipe)[2]
    label[1, 0, 300] = value
    assert run(kernel, torch.randn(2, 2, 600), label, recipe)[2] is not False
    mask = torch.ones(2, 1, 600, dtype=torch.bool)
    mask[1, 0, 300] = False
    assert not run(kernel, torch.randn(2, 2, 600), label, recipe, mask)[2]


def test_predictions_out_of_range_are_suspect(kernel: Backend) -> None:
    recipe = recipe_of(Activation.NONE, LabelForm.DENSE, None)
    for value in (1.01, -0.01):
        prob = torch.rand(1, 2, 300)
        prob[0, 1, 299] = value
        assert run(kernel, prob, torch.ones(1, 2, 300), recipe)[2] is not False


LABEL_DTYPES = {
    "dense": (torch.float64, torch.float16, torch.bfloat16, torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    "index": (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.uint8, torch.int8, torch.int16, torch.int32),
    "votes": (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int8, torch.int16, torch.int32, torch.int64),
}


@pytest.mark.parametrize(("form", "dtype"), [(form, dtype) for form, dtypes in LABEL_DTYPES.items() for dtype in dtypes], ids=str)
def test_labels_of_any_dtype(kernel: Backend, form: str, dtype: torch.dtype) -> None:
    label, label_form, _, _ = label_of(form, 2, 3, (350,), Activation.SIGMOID, None)
    if form == "dense" and not dtype.is_floating_point:
        label = label.round()
    marker = None
    if form != "dense" and dtype is not torch.bool:
        marker = 100
        label = torch.where(torch.rand(label.shape) < 0.2, marker, label)
    recipe = recipe_of(Activation.SIGMOID, label_form, None, PixelRule(PixelTerm.CROSS_ENTROPY), ignore=marker)
    assert_agrees(kernel, torch.randn(2, 3, 350), label.to(dtype), recipe)


@pytest.mark.parametrize(
    ("dtype", "channels"),
    [(torch.int8, 129), (torch.int8, 300), (torch.uint8, 257), (torch.uint8, 300), (torch.bool, 257), (torch.int16, 33000)],
    ids=str,
)
def test_more_classes_than_the_label_can_hold(kernel: Backend, dtype: torch.dtype, channels: int) -> None:
    most = KERNELS[kernel].most_channels
    if most is not None and channels > most:
        return
    voxels = 5 if channels > 1000 else 60
    largest = 1 if dtype is torch.bool else min(torch.iinfo(dtype).max, channels - 1)
    for form, raters in ((LabelForm.INDEX, 1), (LabelForm.VOTES, 3)):
        label = torch.randint(0, largest + 1, (1, raters, voxels))
        label[0, 0, 0] = largest
        recipe = recipe_of(Activation.SOFTMAX, form, None, PixelRule(PixelTerm.CROSS_ENTROPY), ignore=channels + 1)
        logits = torch.randn(1, channels, voxels)
        assert not assert_agrees(kernel, logits, label.to(dtype), recipe, tolerance=1e-5)
        narrow, wide = (run(kernel, logits, each, recipe) for each in (label.to(dtype), label))
        assert torch.equal(narrow[1], wide[1])
        assert torch.equal(narrow[0].tp, wide[0].tp)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda activation: activation.value)
def test_halves(kernel: Backend, activation: Activation, dtype: torch.dtype) -> None:
    for pixel in PIXELS if activation is not Activation.NONE else [None]:
        label, label_form, _, _ = label_of("dense", 2, 3, (700,), activation, None)
        logits = torch.randn(2, 3, 700) * 4 if activation is not Activation.NONE else torch.rand(2, 3, 700)
        assert_agrees(kernel, logits.to(dtype), label, recipe_of(activation, label_form, None, pixel))


LAYOUTS = {
    "channels last": lambda x: x.movedim(1, -1).contiguous().movedim(-1, 1),
    "crop": lambda x: torch.nn.functional.pad(x, (1, 2), value=1)[..., 1:-2],
    "transposed": lambda x: x.transpose(-1, -2).contiguous().transpose(-1, -2),
    "every second": lambda x: torch.stack([x, x], -1).flatten(-2)[..., ::2],
    "batch of one image": lambda x: x[:1].expand(x.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_layouts(kernel: Backend, layout: str, dtype: torch.dtype) -> None:
    n, c, space = 2, 3, (6, 7, 9)
    arrange = LAYOUTS[layout]
    logits = arrange(torch.randn(n, c, *space).to(dtype))
    mask = arrange((torch.rand(n, 1, *space) < 0.7).to(torch.uint8)).to(torch.bool)
    for form in ("dense", "index", "votes"):
        label, label_form, _, _ = label_of(form, n, c, space, Activation.SOFTMAX, None)
        recipe = recipe_of(Activation.SOFTMAX, label_form, None, PixelRule(PixelTerm.CROSS_ENTROPY))
        assert_agrees(kernel, logits, arrange(label), recipe, mask)


@pytest.mark.parametrize("shape", [(0, 3, 5), (2, 3, 0), (2, 3), (2, 3, 7), (2, 3, 4, 5), (1, 3, 2, 3, 4), (1, 3, 2, 3, 2, 2)], ids=str)
def test_shapes(kernel: Backend, shape: tuple[int, ...]) -> None:
    for form in ("dense", "index", "votes"):
        label, label_form, _, _ = label_of(form, shape[0], shape[1], shape[2:], Activation.SOFTMAX, None)
        recipe = recipe_of(Activation.SOFTMAX, label_form, None, PixelRule(PixelTerm.CROSS_ENTROPY))
        if 0 in shape:
            sums, gradient, suspicious = run(kernel, torch.randn(shape), label, recipe)
            assert all((part == 0).all() for part in (sums.tp, sums.fp, sums.fn, sums.counted, present(sums.pixel)))
            assert not suspicious
            assert gradient.shape == shape
        else:
            assert_agrees(kernel, torch.randn(shape), label, recipe)


def test_gradient_keeps_the_layout(kernel: Backend) -> None:
    logits = torch.randn(2, 4, 6, 6, 6).to(memory_format=torch.channels_last_3d)
    label = torch.randint(0, 4, (2, 1, 6, 6, 6))
    _, gradient, _ = run(kernel, logits, label, recipe_of(Activation.SOFTMAX, LabelForm.INDEX, None))
    assert gradient.stride() == logits.stride()


def test_inputs_are_left_alone(kernel: Backend) -> None:
    label = torch.rand(2, 3, 300)
    logits, mask = torch.randn(2, 3, 300), torch.rand(2, 1, 300) < 0.5
    before = [tensor.clone() for tensor in (logits, label, mask)]
    run(kernel, logits, label, recipe_of(Activation.SIGMOID, LabelForm.DENSE, None, PIXELS[2], ignore=255), mask)
    assert all(torch.equal(a, b) for a, b in zip(before, (logits, label, mask), strict=True))
