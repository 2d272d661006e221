"""Dense labels made of chunks are those of the definition."""

from __future__ import annotations

import pytest
import torch

from monai_jdt.definitions import Activation, LabelForm, LabelReading, VoxelRecipe
from monai_jdt.kernels.chunked import labels
from monai_jdt.kernels.kernel_input import KernelInput
from monai_jdt.kernels.labels import read_label


@pytest.mark.parametrize("ignore_index", [None, 9])
@pytest.mark.parametrize("regions", [None, ((1, 2), (2,), (0,))])
@pytest.mark.parametrize("form", [LabelForm.INDEX, LabelForm.VOTES])
def test_a_dense_label_in_chunks_is_that_of_the_definition(
    form: LabelForm, regions: tuple[tuple[int, ...], ...] | None, ignore_index: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labels, "_CHUNK", 12)
    draw = torch.Generator().manual_seed(5)
    raters = 1 if form is LabelForm.INDEX else 4
    label = torch.randint(0, 3, (2, raters, 31), generator=draw, dtype=torch.uint8)
    label[torch.rand(label.shape, generator=draw) < 0.4] = 9 if ignore_index else 1
    label[:, :, 7] = 9 if ignore_index else 2
    weights = None if form is LabelForm.INDEX else torch.tensor([[1.0, 0.5, 0.0, 0.25], [0.5, 1.0, 1.0, 0.0]])
    recipe = VoxelRecipe(activation=Activation.SIGMOID, label=LabelReading(form, regions=regions, ignore_index=ignore_index))
    given = KernelInput(torch.zeros(2, 3, 31), label, recipe, None, weights, None)
    values, labelled = labels.dense_label_in_chunks(given)
    expected, expected_labelled = read_label(label, 3, recipe, weights)
    says = torch.ones_like(label[:, :1], dtype=torch.bool) if expected_labelled is None else expected_labelled
    assert (ignore_index is not None) == (not says.all())
    assert torch.equal(says, torch.ones_like(says) if labelled is None else labelled)
    torch.testing.assert_close(torch.where(says, values, 0.0), torch.where(says, expected, 0.0), rtol=1e-6, atol=0)
