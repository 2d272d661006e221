"""What the chunked kernel is made of: slices, memory that is used again, choices by bits, labels read as numbers, slopes far apart."""

from __future__ import annotations

import math

import pytest
import torch

from monai_jdt.definitions import LabelForm, LabelReading, VoxelRecipe
from monai_jdt.kernels.chunked.kernel import chunked_gradient
from monai_jdt.kernels.chunked.labels import read_chunk_label
from monai_jdt.kernels.chunked.scratch import ChunkView, Scratch
from monai_jdt.kernels.kernel_input import KernelInput
from monai_jdt.kernels.labels import read_label
from monai_jdt.kernels.rows import DIFFERENTIABLE_ROWS, Row


def test_sides_have_each_voxel_once() -> None:
    values = torch.arange(2 * 3 * 40).reshape(2, 3, 40)
    seen = ChunkView(slice(1, 2), slice(8, 32), 8).of(values)
    assert seen.shape == (8, 3, 3)
    assert torch.equal(seen.transpose(0, 1).reshape(3, 24), values[1, :, 8:32])
    seen.fill_(-1)
    assert int((values == -1).sum()) == 3 * 24
    assert torch.equal(ChunkView(slice(0, 2), slice(0, 5), 1).of(values), values[:, :, :5])


def test_a_name_is_the_same_memory_in_any_shape() -> None:
    scratch = Scratch(torch.float32, 3)
    first = scratch.take("a", torch.Size((2, 3))).fill_(1.0)
    assert scratch.take("a", torch.Size((2, 3))) is first
    assert torch.equal(scratch.take("a", torch.Size((4, 1))), torch.ones(4, 1))
    larger = scratch.take("a", torch.Size((5, 4)))
    assert scratch.take("a", torch.Size((2, 3))).data_ptr() == larger.data_ptr()
    assert scratch.take("b", torch.Size((2, 3))).data_ptr() != larger.data_ptr()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_not_kept_is_zero(dtype: torch.dtype, channels: int) -> None:
    values = torch.randn(2, 3, 50, dtype=dtype)
    values[:, :, ::3] = math.nan
    values[:, :, 1::7] = -math.inf
    values = values.transpose(0, 1).contiguous().transpose(0, 1)
    chosen = torch.rand(2, channels, 50) < 0.5
    scratch = Scratch(dtype, 3)
    kept = scratch.keep("x", values, scratch.bits(chosen))
    assert torch.equal(kept.nan_to_num(7.0), torch.where(chosen, values, 0.0).nan_to_num(7.0))
    assert not torch.signbit(kept[~chosen.expand_as(kept)]).any()


REGIONS = ((1,), (1, 2, 2), (0, 4))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.float32])
@pytest.mark.parametrize(
    ("regions", "marker"), [(None, None), (None, -1), (None, 0), (None, 2), (None, 100), *((REGIONS, m) for m in (None, -1, 3, 100))]
)
@pytest.mark.parametrize("raters", [0, 1, 3, 4])
def test_labels_are_what_the_definition_reads(
    dtype: torch.dtype, marker: int | None, regions: tuple[tuple[int, ...], ...] | None, raters: int
) -> None:
    """0 raters: class indices. And they are read fast: nothing here is odd enough for the definition itself to be asked."""
    if marker == -1 and dtype is torch.uint8:
        pytest.skip("has no -1")
    torch.manual_seed(raters)
    label = torch.randint(0, 5 if regions else 3, (2, max(raters, 1), 64)).to(dtype)
    if marker is not None:
        label[torch.rand(label.shape) < 0.4] = marker
    form = LabelForm.VOTES if raters else LabelForm.INDEX
    recipe = VoxelRecipe(label=LabelReading(form=form, regions=regions, ignore_index=marker))
    weights = torch.tensor([[1.0, 0.25, 0.5, 0.0], [0.25, 1.0, 0.0, 0.5]])[:, :raters] if raters else None
    scratch = Scratch(torch.float32, 3)
    values, counted = read_chunk_label(label, 3, recipe, weights, scratch)
    assert values.data_ptr() == scratch.take("label", values.shape).data_ptr()
    expected, labelled = read_label(label, 3, recipe, weights)
    assert (counted is None) == (marker is None)
    everywhere = torch.ones(2, 1, 64, dtype=torch.bool)
    counted = everywhere if counted is None else counted
    assert torch.equal(counted, everywhere if labelled is None else labelled)
    assert torch.equal(torch.where(counted, values, 0.0), torch.where(counted, expected, 0.0))


@pytest.mark.parametrize(
    ("value", "dtype"), [(1 + 2.0**-40, torch.float64), (1.5, torch.float32), (math.nan, torch.float32), (-1, torch.int8)]
)
def test_a_value_that_is_no_class_is_nan(value: float, dtype: torch.dtype) -> None:
    label = torch.ones(1, 1, 20).to(dtype)
    label[0, 0, 3] = value
    for form in (LabelForm.INDEX, LabelForm.VOTES):
        recipe = VoxelRecipe(label=LabelReading(form=form))
        values, _ = read_chunk_label(label, 3, recipe, torch.ones(1, 1), Scratch(torch.float32, 3))
        assert values[0, :, 3].isnan().all()
        assert torch.isfinite(values[0, :, :3]).all()


def test_votes_of_nobody_say_nothing() -> None:
    votes = torch.randint(0, 3, (2, 2, 30))
    recipe = VoxelRecipe(label=LabelReading(form=LabelForm.VOTES))
    for weights in (torch.zeros(2, 2), torch.tensor([[1.0, 1.0], [0.0, 0.0]]), torch.tensor([[0.0, math.nan], [0.5, -1.0]])):
        weights, given = weights.clamp(min=0).nan_to_num(0.0), weights
        values, counted = read_chunk_label(votes, 3, recipe, given, Scratch(torch.float32, 3))
        expected, _ = read_label(votes, 3, recipe, given)
        assert counted is not None
        assert torch.equal(torch.where(counted, values, 0.0), torch.where(counted, expected, 0.0))
        assert torch.equal(counted.all(2), weights.sum(1, keepdim=True) > 0)
        assert torch.equal(counted.any(2), weights.sum(1, keepdim=True) > 0)


@pytest.mark.parametrize(
    ("below", "above"), [(1e12, 1e-12), (1e-12, 1e12), (-1e12, 1e-12), (3.0, 3.0), (0.0, -2.0), (-0.74248809, 0.57606411)]
)
def test_the_smaller_slope_is_not_lost_beside_the_larger(below: float, above: float) -> None:
    p = torch.tensor([[[0.25, 0.5, 0.75]]])
    t = torch.full_like(p, 0.5)
    upstream = torch.zeros(DIFFERENTIABLE_ROWS, 1, 1)
    upstream[Row.FN], upstream[Row.FP] = -below, above
    gradient = chunked_gradient(KernelInput(p, t, VoxelRecipe(), None, None, None), upstream)
    expected = torch.tensor([below, below / 2 + above / 2, above])
    smaller = 0 if abs(below) < abs(above) else 2
    assert gradient[0, 0, smaller] == expected[smaller]
    assert (gradient[0, 0] - expected).abs().max() <= 2.0**-23 * max(abs(below), abs(above))
