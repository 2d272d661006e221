"""The suites of laws do run on the kernels that they name: see conftest.py."""

from __future__ import annotations

import pytest
import torch

import monai_jdt.losses as losses
from tests.losses.strategies import COMPOUND, OVERLAP


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", OVERLAP + COMPOUND)
def test_a_few_voxels_run_on_the_forced_kernel(name: str, dtype: torch.dtype, kernel_taken: str) -> None:
    loss = getattr(losses, name)(softmax=True)
    for shape in ((2, 3, 4), (2, 3), (0, 3, 4), (2, 3, 0)):
        loss(torch.randn(shape).to(dtype).requires_grad_(), torch.full(shape, 1 / 3)).backward()
        wide = "chunked" if kernel_taken == "numba" else kernel_taken
        expected = {"auto": "eager"}.get(kernel_taken, wide if dtype is torch.float64 else kernel_taken)
        assert loss.backend_used == expected, shape
