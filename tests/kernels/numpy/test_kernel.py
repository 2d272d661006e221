"""What is particular to the numpy kernel: blocks, memory that a thread keeps, threads that change nothing, labels."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from monai_jdt.definitions import Activation, Backend, LabelForm, LabelReading, PixelRule, PixelTerm, VoxelRecipe
from monai_jdt.kernels.kernel_input import KernelInput
from monai_jdt.kernels.labels import read_label
from monai_jdt.kernels.numpy import blocks, kernel
from monai_jdt.kernels.numpy.kernel import _FACTORS, _FOLD, _MANY, _sum_of_logarithms, _sum_of_rows, numpy_gradient, numpy_sums
from monai_jdt.losses import JDTCELoss, JDTLoss
from tests.kernels.comparison import assert_agrees
from tests.present import present

TERM = PixelRule(PixelTerm.CROSS_ENTROPY)


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def step(activation: Activation, shape: tuple[int, int, int], mask: torch.Tensor | None = None) -> KernelInput:
    label = torch.rand(shape)
    if activation is Activation.SOFTMAX:
        label = torch.softmax(3 * torch.randn(shape), 1)
    return KernelInput(2 * torch.randn(shape), label, VoxelRecipe(activation=activation, pixel=TERM), mask, None, None)


@pytest.mark.parametrize("shape", [(2, 3, 27777), (1, 4, 40011), (1, 1, 165537), (3, 118, 999)], ids=str)
@pytest.mark.parametrize("activation", [Activation.SOFTMAX, Activation.SIGMOID], ids=lambda activation: activation.value)
def test_threads_change_no_bit(activation: Activation, shape: tuple[int, int, int]) -> None:
    if shape[1] == 1 and activation is Activation.SOFTMAX:
        return
    given, upstream = step(activation, shape, torch.rand(shape[0], 1, shape[2]) < 0.8), torch.randn(4, *shape[:2])
    for case in (given, replace(given, mask=None)):
        results = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append((numpy_sums(case), numpy_gradient(case, upstream)))
        for sums, gradient in results[1:]:
            assert torch.equal(sums, results[0][0])
            assert torch.equal(gradient, results[0][1])


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 500), (7, 2, 333), (1, 5, 1001), (3, 1, 999), (2, 3000, 2)], ids=str)
def test_every_voxel_is_in_one_block(shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_LARGEST", 1000)
    given = step(Activation.SIGMOID, shape)
    seen = torch.zeros(shape)
    for places in blocks.places_of(given):
        assert len({place.images.start for place in places}) == 1
        for place in places:
            part = place.of(seen)
            part += 1
            # a single voxel of one image may be larger
            assert part.numel() <= max(1000, shape[1])
    assert (seen == 1).all()
    assert not list(blocks.places_of(step(Activation.SIGMOID, (2, 3, 0))))


def test_memory_is_kept_by_each_thread_and_stays_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_of_thread", threading.local())
    monkeypatch.setattr(blocks, "_LARGEST", 5000)
    for voxels in range(100, 4000, 13):
        loss = JDTCELoss(softmax=True, backend="numpy")
        logits = torch.randn(1, 3, voxels, requires_grad=True)
        loss(logits, torch.full((1, 3, voxels), 1 / 3)).backward()
    memory = blocks.memory_of_thread(torch.float32)
    assert len(memory._views) <= blocks._MOST_VIEWS
    assert sum(buffer.numel() for buffer in memory._buffers.values()) <= 10 * 5000
    others: list[blocks.Memory] = []
    thread = threading.Thread(target=lambda: others.append(blocks.memory_of_thread(torch.float32)))
    thread.start()
    thread.join()
    assert others[0] is not memory
    assert blocks.memory_of_thread(torch.float32) is memory
    assert blocks.memory_of_thread(torch.float64).dtype is torch.float64


def test_results_are_not_written_over_by_the_next_step() -> None:
    loss, label = JDTLoss(backend="numpy"), torch.rand(1, 2, 300)
    first, second = (torch.rand(1, 2, 300, requires_grad=True) for _ in range(2))
    values = [loss(first, label), loss(second, label)]
    before = values[0].clone()
    values[0].backward()
    gradient = present(first.grad).clone()
    values[1].backward()
    assert torch.equal(values[0], before)
    assert torch.equal(present(first.grad), gradient)


@pytest.mark.parametrize("marker", [None, 255, 2])
@pytest.mark.parametrize("raters", [1, 3, 300])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_shares_are_those_of_the_definition(dtype: torch.dtype, raters: int, marker: int | None) -> None:
    votes = torch.randint(0, 4, (2, raters, 200))
    votes[:, :, :50] = votes[:, :1, :50]  # all agree
    if marker is not None:
        votes[:, :, 20:90] = torch.where(torch.rand(2, raters, 70) < 0.5, marker, votes[:, :, 20:90])
    votes = votes.to(dtype)
    for weights in (torch.ones(2, raters), torch.rand(2, raters).round(decimals=1)):
        recipe = VoxelRecipe(Activation.SOFTMAX, label=LabelReading(LabelForm.VOTES, ignore_index=marker))
        given = KernelInput(torch.zeros(2, 4, 200), votes, recipe, None, weights, None)
        (places,) = blocks.places_of(given)
        block = blocks.Block(given, places[0], blocks.memory_of_thread(torch.float32))
        values, labelled = read_label(votes, 4, recipe, weights)
        values = torch.where(present(labelled), values, 0.0)
        torch.testing.assert_close(torch.from_numpy(block.raw), values, rtol=1e-5, atol=1e-7)
        if weights.all():
            counted = present(labelled)[..., :50].expand(2, 4, 50)
            assert set(np.unique(torch.from_numpy(block.raw)[..., :50][counted].numpy())) <= {0.0, 1.0}


def test_probabilities_as_small_as_they_come() -> None:
    """The side of the label on which they are decides, however near it is."""
    label = torch.tensor([0.0, 1e-45, 2e-38, 0.25]).reshape(1, 1, 4).repeat(1, 2, 100)
    prob = label.clone()
    prob[..., 1::8] = 0
    prob[..., 0::8] = 1e-45
    assert_agrees(Backend.NUMPY, prob, label, VoxelRecipe(), judge=torch.float32)


@pytest.mark.parametrize("voxels", [0, 1, 2 * _FOLD - 1, 2 * _FOLD, 3 * _FOLD + 1, 40001])
def test_sums_of_rows(voxels: int) -> None:
    values = np.random.default_rng(0).random((4, 2, 3, voxels), np.float32)
    np.testing.assert_allclose(_sum_of_rows(values), values.sum(-1, dtype=np.float64), rtol=3e-7)


@pytest.mark.parametrize("voxels", [1, _FACTORS - 1, _FACTORS, _MANY, 5001])
def test_sums_of_logarithms(voxels: int) -> None:
    factors = 1 + np.random.default_rng(0).random((2, 3, voxels), np.float32)
    factors[0, 0] = 2  # the largest products
    expected = np.log(factors.astype(np.float64)).sum(-1)
    np.testing.assert_allclose(_sum_of_logarithms(factors), expected, rtol=3e-7)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("voxels", [_MANY - 1, _MANY, 3 * _MANY + 5])
def test_both_ways_of_the_cross_entropy_of_a_sigmoid(voxels: int, masked: bool) -> None:
    shape = (2, 3, voxels)
    logits = 4 * torch.randn(shape)
    logits[0, 0, :3] = torch.tensor([0.0, 40.0, -40.0])
    mask = torch.rand(2, 1, voxels) < 0.7 if masked else None
    if mask is not None:
        logits = torch.where(mask, logits, torch.nan)
    recipe = VoxelRecipe(activation=Activation.SIGMOID, pixel=TERM)
    assert_agrees(Backend.NUMPY, logits, torch.rand(shape), recipe, mask=mask)


@pytest.mark.parametrize("logit", [0.5, 2.0, 3.0, 5.0, 6.5, 6.9])
def test_the_cross_entropy_of_equal_logits_keeps_its_digits(logit: float) -> None:
    """Each rounding of `1 + e^-z` is the same, so that they do not average out."""
    for number in range(5):
        logits = torch.full((1, 1, _MANY), logit + number * 1e-3)
        value = JDTCELoss(sigmoid=True, lambda_jdt=0, lambda_ce=1, backend="numpy")(logits, torch.ones(1, 1, _MANY))
        expected = torch.nn.functional.softplus(-logits[0, 0, 0].double())
        assert float(value) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("form", [LabelForm.INDEX, LabelForm.VOTES])
def test_softmax_of_one_channel_has_no_gradient(form: LabelForm) -> None:
    label = torch.randint(0, 2, (2, 1, 50))
    recipe = VoxelRecipe(Activation.SOFTMAX, label=LabelReading(form), pixel=TERM)
    assert_agrees(Backend.NUMPY, torch.randn(2, 1, 50), label, recipe)


def votes_step(activation: Activation, smoothing: float) -> KernelInput:
    reading = LabelReading(LabelForm.VOTES, smoothing=smoothing)
    channels = 4 if activation is Activation.SOFTMAX else 1
    votes = torch.randint(0, 4 if channels > 1 else 2, (2, 3, 500)).to(torch.uint8)
    recipe = VoxelRecipe(activation=activation, pixel=TERM, label=reading)
    return KernelInput(2 * torch.randn(2, channels, 500), votes, recipe, None, torch.ones(2, 3), None)


@pytest.mark.parametrize("activation", [Activation.SOFTMAX, Activation.SIGMOID], ids=lambda activation: activation.value)
@pytest.mark.parametrize("kind", ["dense", "votes", "smoothed", "half", "right"])
def test_what_the_sums_save_gives_the_same_gradient(activation: Activation, kind: str) -> None:
    """Predictions and label of a small step are saved for its gradient, which only reads them.

    With a sigmoid and cross-entropy they are computed from the smaller of p and 1 - p, so that their last bit differs.
    """
    given = step(activation, (2, 4, 500)) if kind in ("dense", "half", "right") else votes_step(activation, 0.1 * (kind == "smoothed"))
    if kind == "half":
        given = replace(given, logits=given.logits.half())
    elif kind == "right":  # the gradient is computed closely
        label = torch.nn.functional.one_hot(torch.randint(0, 4, (2, 500)), 4).movedim(2, 1).float()
        given = replace(given, label=label, logits=40 * label - 20)
    saved: list[torch.Tensor] = []
    assert torch.equal(numpy_sums(given, saved), numpy_sums(given))
    prob = saved[0]
    # a dense label is the caller's
    assert len(saved) == 1 + (kind in ("votes", "smoothed"))
    expected = torch.softmax(given.logits.float(), 1) if activation is Activation.SOFTMAX else torch.sigmoid(given.logits.float())
    torch.testing.assert_close(prob, expected)
    upstream = torch.randn(4, *given.logits.shape[:2]) / 1000
    alone = numpy_gradient(given, upstream)
    first = numpy_gradient(given, upstream, *saved)
    if activation is Activation.SOFTMAX:
        assert torch.equal(first, alone)
    torch.testing.assert_close(first, alone, rtol=1e-3 if kind == "half" else 1e-5, atol=1e-7 if kind == "half" else 1e-9)
    # a step of another size in between, and a second backward pass
    numpy_sums(step(activation, (1, 3, 2000)), [])
    assert torch.equal(numpy_gradient(given, upstream, *saved), first)


def test_nothing_is_saved_of_what_is_large_masked_or_begins_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[torch.Tensor] = []
    given = step(Activation.SIGMOID, (2, 3, 500))
    focal = replace(given.recipe, pixel=PixelRule(PixelTerm.FOCAL, focal_gamma=2.0))
    marked = replace(given.recipe, label=LabelReading(ignore_index=7))
    label = given.label.clone()
    label[0, :, 3] = 7
    for other in (
        replace(given, mask=torch.rand(2, 1, 500) < 0.5),
        replace(given, recipe=focal),
        replace(given, recipe=marked, label=label),
        replace(given, recipe=replace(given.recipe, activation=Activation.NONE, pixel=None), logits=torch.rand(2, 3, 500)),
    ):
        numpy_sums(other, saved)
    monkeypatch.setattr(blocks, "_LARGEST", 1000)
    numpy_sums(given, saved)
    assert not saved


@pytest.mark.parametrize("kind", ["dense", "votes", "masked"])
def test_a_loss_predicts_once_in_a_step(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless voxels do not count, backward begins with what forward has saved, whatever packs it, and however often."""
    logits = torch.randn(2, 3, 400, requires_grad=True)
    target = torch.randint(0, 3, (2, 5, 400)) if kind == "votes" else torch.softmax(torch.randn(2, 3, 400), 1)
    mask = torch.rand(2, 1, 400) < 0.5 if kind == "masked" else None
    gradients: list[torch.Tensor] = []
    calls: list[torch.Size] = []
    predictions = kernel._predictions

    def counted(block: blocks.Block, *given: Any) -> np.ndarray:
        calls.append(block.shape)
        return predictions(block, *given)

    monkeypatch.setattr(kernel, "_predictions", counted)
    for backend in ("eager", "numpy"):
        with torch.autograd.graph.save_on_cpu():
            loss = JDTCELoss(softmax=True, backend=backend, votes=kind == "votes")(logits, target, mask=mask)
        gradients += torch.autograd.grad(loss, logits, retain_graph=True)
    assert len(calls) == (2 if kind == "masked" else 1)
    gradients += torch.autograd.grad(loss, logits)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-7)
    assert torch.equal(gradients[1], gradients[2])
