"""What the Triton kernel promises beyond the contract of every kernel: programs that add up, wide channels, code for a GPU.

Without a GPU they run under Triton's interpreter on CPU tensors (see tests/conftest.py). With one they run natively, and every test
here is about the real thing.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.present import present

pytest.importorskip("triton")

from monai_jdt.definitions import Activation, Backend, LabelForm, LabelReading, PixelRule, PixelTerm, VoxelRecipe
from monai_jdt.kernels.choice import refusal
from monai_jdt.kernels.eager import eager_voxel_sums
from monai_jdt.kernels.kernel_input import KernelInput
from monai_jdt.kernels.operators import fast_voxel_sums
from monai_jdt.kernels.registry import KERNELS
from monai_jdt.kernels.triton import launch as triton_launch
from monai_jdt.losses import JDTLoss
from tests.kernels.comparison import assert_agrees, run

MOST_CHANNELS = KERNELS[Backend.TRITON].most_channels
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ROOT = Path(__file__).resolve().parents[3]
SOFTMAX, SIGMOID = Activation.SOFTMAX, Activation.SIGMOID
INDEX, VOTES = LabelForm.INDEX, LabelForm.VOTES

pytestmark = pytest.mark.usefixtures("poisoned_memory")


@pytest.mark.parametrize("activation", [SOFTMAX, SIGMOID])
@pytest.mark.parametrize("term", [None, *PixelTerm])
def test_blocks_and_programs_add_up(activation: Activation, term: PixelTerm | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several programs of several blocks, and a last one that is not full."""
    monkeypatch.setattr(triton_launch, "_VOXELS", 1)
    monkeypatch.setattr(triton_launch, "_PROGRAMS", 4)
    monkeypatch.setattr(triton_launch, "block_shape", lambda *_: (4, 16, 4))
    monkeypatch.setattr(triton_launch, "_PARTS", 2)
    logits = torch.randn(2, 3, 301, device=DEVICE)
    label = torch.softmax(torch.randn(2, 3, 301, device=DEVICE), 1)
    recipe = VoxelRecipe(activation, pixel=None if term is None else PixelRule(term))
    _, _, parts = triton_launch._call(KernelInput(logits, label, recipe, None, None, None), False)
    assert parts > 2
    assert_agrees(Backend.TRITON, logits.cpu(), label.cpu(), recipe)
    first, again = (fast_voxel_sums(Backend.TRITON, logits, label, recipe)[0] for _ in range(2))
    assert torch.equal(first.tp, again.tp)


def test_regions_of_more_channels_than_a_word_has_bits() -> None:
    regions = tuple((channel % 7, 7 + channel % 3) for channel in range(70))
    logits = torch.randn(1, 70, 40)
    for form, raters in ((INDEX, 1), (VOTES, 3)):
        label = torch.randint(11, (1, raters, 40), dtype=torch.uint8)
        assert_agrees(Backend.TRITON, logits, label, VoxelRecipe(SIGMOID, None, LabelReading(form, regions)))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32])
def test_numbers_that_a_label_cannot_hold(dtype: torch.dtype) -> None:
    """A marker or a region's value far outside is equal to nothing, instead of wrapping around."""
    logits = torch.randn(1, 2, 30)
    label = torch.randint(3, (1, 1, 30)).to(dtype)
    assert_agrees(Backend.TRITON, logits, label, VoxelRecipe(SIGMOID, None, LabelReading(INDEX, ((1, 2**40 + 2), (2**40,)), 2**41 + 1)))
    assert_agrees(Backend.TRITON, logits, label.clamp(max=1), VoxelRecipe(SOFTMAX, None, LabelReading(INDEX, None, -(2**40))))


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
    logits = torch.randn(1, 3, 40)
    votes = torch.randint(3, (1, 1, 40)).expand(1, 7, 40)
    weights = torch.tensor([0.1, 0.7, 0.3, 0.9, 0.77, 0.13, 0.37]).expand(1, 7)
    recipe = VoxelRecipe(SIGMOID, None, LabelReading(VOTES), pixel=PixelRule(PixelTerm.DIVERGENCE))
    assert_agrees(Backend.TRITON, logits, votes, recipe, None, weights)
    sums, _, _ = run(Backend.TRITON, logits, votes, recipe, None, weights)
    assert sums.pixel is not None
    assert torch.isfinite(sums.pixel).all()


@pytest.mark.skipif(DEVICE == "cuda", reason="values are looked at on a CPU only")
def test_wrong_values_are_still_found_on_a_cpu() -> None:
    with pytest.raises(ValueError, match="expected labels in"):
        JDTLoss(sigmoid=True, backend="triton")(torch.zeros(1, 1, 4), torch.full((1, 1, 4), 255.0))


def test_too_many_channels_are_refused_with_the_number() -> None:
    logits = torch.zeros(1, present(MOST_CHANNELS) + 1, 2, device=DEVICE)
    reason = refusal(Backend.TRITON, logits, logits, VoxelRecipe(SOFTMAX))
    assert reason is not None
    assert str(MOST_CHANNELS) in reason
    assert refusal(Backend.TRITON, logits[:, 1:], logits[:, 1:], VoxelRecipe(SOFTMAX)) is None


@pytest.mark.parametrize("channels", [200, 256, pytest.param(600, marks=pytest.mark.long), pytest.param(1024, marks=pytest.mark.long)])
def test_many_channels(channels: int) -> None:
    label = torch.randint(channels, (1, 1, 45))
    recipe = VoxelRecipe(SOFTMAX, None, LabelReading(INDEX), pixel=PixelRule(PixelTerm.CROSS_ENTROPY))
    assert_agrees(Backend.TRITON, torch.randn(1, channels, 45), label, recipe)


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
        [sys.executable, "-m", "benchmarks.compile_triton", *capabilities], capture_output=True, text=True, cwd=ROOT, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_kernel_compiles_for_a_gpu(tmp_path: Path) -> None:
    assert len(compile_for(["90", "softmax alone"], tmp_path)) == 3
    assert len(compile_for(["90", "one image and channel"], tmp_path)) == 1


@pytest.mark.long
@pytest.mark.parametrize("capability", ["80", "90"])
def test_the_kernels_compile_for_a_gpu(capability: str, tmp_path: Path) -> None:
    lines = compile_for([capability], tmp_path)
    assert len(lines) == 3 * 20 + 4
    # Registers that do not fit slow a kernel down; with more channels than these they are known not to. For sm_80, ptxas puts two
    # registers of the half precision sums on the stack by itself, at 128 of the 255 that it could take: one more program fits then.
    for line in lines:
        stack = re.search(r"stack +(\d+)", line)
        assert stack
        assert int(stack[1]) <= 8 or "C=1024" in line or "KL" in line, line


@pytest.mark.long
def test_the_script_of_gpu_checks_runs_its_lines(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/gpu_checks.py", str(tmp_path), "--device", "cpu", "--small", "--tune"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "gpu_checks.md").read_text().count("PASS") > 20
