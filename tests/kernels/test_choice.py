"""Which kernel runs, what is said where one cannot, and what the fast ones refuse."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from monai.data import MetaTensor
from torch.autograd import forward_ad

from monai_jdt.checks import value_checks
from monai_jdt.definitions import Activation, Backend, VoxelRecipe
from monai_jdt.functional.inputs import prepare, voxel_sums
from monai_jdt.kernels import choice
from monai_jdt.kernels.choice import choose_kernel, refusal
from monai_jdt.kernels.operators import _text_of, recipe_of_text
from monai_jdt.kernels.registry import KERNELS
from monai_jdt.losses import DistillationLoss, JDTCELoss, JDTFocalLoss, JDTLoss, SoftDeepSupervisionLoss
from tests.present import present

FAST = list(KERNELS)
#: Can run here for plain tensors.
HERE = [kernel for kernel in FAST if refusal(kernel, torch.zeros(1, 2, 3), torch.zeros(1, 2, 3), VoxelRecipe()) is None]
SOFTMAX = VoxelRecipe(activation=Activation.SOFTMAX)


def tensors(side: int = 6, channels: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    source = torch.Generator().manual_seed(3)
    shape = (2, channels, side, side, side)
    logits = torch.randn(shape, generator=source).requires_grad_()
    return logits, torch.randn(shape, generator=source).softmax(1)


def test_the_backends_of_the_issue_are_the_names() -> None:
    assert [member.value for member in Backend] == ["auto", "eager", "numpy", "chunked", "numba", "triton"]
    with pytest.raises(ValueError, match=r"backend: expected one of 'auto', .*got 'cuda'"):
        JDTLoss(backend="cuda")


def test_auto_takes_eager_for_small_inputs_and_a_fast_kernel_for_large_ones() -> None:
    loss = JDTCELoss(softmax=True)
    assert loss.backend_used is None
    loss(*tensors(4))
    assert loss.backend_used == "eager"
    loss(*tensors(12))
    assert loss.backend_used == ("numba" if Backend.NUMBA in HERE else "numpy")


def test_auto_without_numba_takes_numpy_and_for_large_inputs_chunks(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(KERNELS, Backend.NUMBA, replace(KERNELS[Backend.NUMBA], installed=False))
    choice._log_once.cache_clear()
    with caplog.at_level("INFO"):
        assert choose_kernel(Backend.AUTO, *tensors(4), SOFTMAX) is Backend.EAGER
        assert choose_kernel(Backend.AUTO, *tensors(5), SOFTMAX) is Backend.NUMPY
        for threads in (1, 2, 4):
            monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
            logits = torch.zeros(1, 2, present(KERNELS[Backend.NUMPY].auto_until) // threads // 2)
            assert choose_kernel(Backend.AUTO, logits[..., :-1], logits[..., :-1], SOFTMAX) is Backend.NUMPY
            expected = Backend.NUMPY if threads == 1 else Backend.CHUNKED
            assert choose_kernel(Backend.AUTO, logits, logits, SOFTMAX) is expected
    (line,) = caplog.messages
    assert "numba: numba is not installed (pip install 'monai-jdt[cpu]')" in line
    with pytest.raises(ValueError, match=r"got 'numba': numba is not installed \(pip install 'monai-jdt\[cpu\]'\). Fix"):
        choose_kernel(Backend.NUMBA, *tensors(12), SOFTMAX)


def test_auto_takes_numpy_for_float64() -> None:
    logits, label = tensors(12)
    assert choose_kernel(Backend.AUTO, logits.double(), label, SOFTMAX) is Backend.NUMPY


@pytest.mark.parametrize("options", [{"to_onehot_y": True}, {"votes": True}], ids=["index", "votes"])
@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64])
def test_auto_takes_its_fastest_kernel_for_wide_unsigned_labels(dtype: torch.dtype, options: dict) -> None:
    logits, label = tensors(12)
    loss = JDTCELoss(softmax=True, **options)
    classes = label.argmax(1, keepdim=True)
    value = loss(logits, classes.to(dtype))
    assert loss.backend_used == ("numba" if Backend.NUMBA in HERE else "numpy")
    assert torch.equal(value, loss(logits, classes))


@pytest.mark.parametrize("kernel", FAST)
def test_a_named_kernel_that_cannot_run_says_why(kernel: Backend) -> None:
    logits, label = tensors()
    with pytest.raises(ValueError, match=f"backend: .*got '{kernel.value}': other_act is Python code.*Fix: backend='auto'"):
        JDTLoss(other_act=torch.sigmoid, backend=kernel.value)(logits, label)
    if kernel in HERE:
        with pytest.raises(ValueError, match="meta and fake tensors"):
            JDTLoss(sigmoid=True, backend=kernel.value)(logits.to("meta"), label.to("meta"))


def test_triton_needs_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KERNELS, Backend.TRITON, replace(KERNELS[Backend.TRITON], devices=("cuda",), installed=True))
    with pytest.raises(ValueError, match="got 'triton': it runs on cuda, and input is on cpu"):
        JDTLoss(sigmoid=True, backend="triton")(*tensors())


def test_every_loss_hands_the_backend_on() -> None:
    logits, label = tensors()
    distillation = DistillationLoss(softmax=True, backend="chunked")
    distillation(logits, label, torch.zeros_like(label))
    assert distillation.backend_used == "chunked"
    inner = JDTLoss(softmax=True, backend="chunked")
    SoftDeepSupervisionLoss(inner)([logits, logits[..., ::2, ::2, ::2]], label)
    assert inner.backend_used == "chunked"
    assert "backend=chunked" in repr(inner)
    assert "backend" not in repr(JDTLoss())


def test_meta_tensors_of_monai_run_on_a_fast_kernel() -> None:
    logits, label = tensors(12)
    loss = JDTCELoss(softmax=True)
    value = loss(MetaTensor(logits.detach()), MetaTensor(label))
    assert loss.backend_used in ("numba", "numpy")
    assert type(value) is torch.Tensor


@pytest.mark.parametrize("kernel", HERE)
def test_second_derivatives_and_vmap_name_the_eager_kernel(kernel: Backend) -> None:
    logits, label = tensors()
    loss = JDTCELoss(softmax=True, backend=kernel.value)
    (gradient,) = torch.autograd.grad(loss(logits, label), logits, create_graph=True)
    with pytest.raises(RuntimeError, match=r"no second derivative.*backend='eager'"):
        gradient.sum().backward()
    with pytest.raises((RuntimeError, ValueError), match="eager"):
        torch.func.vmap(loss)(logits.detach()[None], label[None])


@pytest.mark.parametrize("side", [6, 36])
def test_auto_is_eager_where_torch_must_see_through(side: int) -> None:
    logits, label = tensors(side)
    loss = JDTCELoss(softmax=True)
    expected = float(loss(logits, label).detach())
    with forward_ad.dual_level():
        loss(forward_ad.make_dual(logits.detach(), torch.ones_like(label)), label)
        assert loss.backend_used == "eager"
    loss.backend_used = None
    torch.func.grad(loss)(logits.detach(), label)
    assert loss.backend_used == "eager"
    loss.backend_used = None
    assert loss(logits.to("meta"), label.to("meta")).is_meta
    assert loss.backend_used == "eager"
    exported = torch.export.export(loss, (logits.detach(), label))
    assert not any("monai_jdt" in str(node.target) for node in exported.graph.nodes)
    assert float(exported.module()(logits.detach(), label)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kernel", HERE)
def test_a_named_kernel_stays_in_a_full_graph(kernel: Backend) -> None:
    logits, label = tensors()
    loss = JDTCELoss(softmax=True, backend=kernel.value)
    expected = loss(logits, label)
    (slope,) = torch.autograd.grad(expected, logits)
    torch._dynamo.reset()
    value = torch.compile(loss, fullgraph=True, backend="aot_eager")(logits, label)
    assert float(value.detach()) == float(expected.detach())
    assert torch.equal(torch.autograd.grad(value, logits)[0], slope)
    assert loss.backend_used == kernel.value


@pytest.mark.parametrize("kernel", HERE)
def test_the_operators_keep_torchs_rules(kernel: Backend) -> None:
    logits, label = tensors(3)
    settings = (kernel.value, "softmax True 1 0.01 dense None None 0.0 ce 2.0 None")
    assert recipe_of_text(settings[1]) == JDTCELoss(softmax=True).recipe.voxels
    flat = (logits.detach().flatten(2), label.flatten(2), None, None, None)
    # one gradient is left out: that of finite differences of a float32
    kinds = ("test_schema", "test_faketensor", "test_autograd_registration")
    assert set(torch.library.opcheck(torch.ops.monai_jdt.voxel_sums.default, (*flat, *settings), test_utils=kinds).values()) == {
        "SUCCESS"
    }


@pytest.mark.parametrize("kernel", HERE)
@pytest.mark.parametrize(
    ("options", "spoil", "words"),
    [
        ({"softmax": True}, lambda label: label * 1.5, "expected labels in|sum to 1"),
        ({"sigmoid": True}, lambda label: label - 0.2, r"labels in \[0, 1\]"),
        ({"softmax": True}, lambda label: label * 0.9, "sum to 1"),
        ({"softmax": True}, lambda label: label.index_fill(0, torch.tensor(0), float("nan")), r"labels in \[0, 1\]"),
        ({"softmax": True, "to_onehot_y": True}, lambda label: label.argmax(1, keepdim=True) + 1, "class indices 0 to 2"),
        ({"softmax": True, "to_onehot_y": True}, lambda label: label[:, :1], "whole numbers"),
        ({"softmax": True, "votes": True}, lambda label: label.argmax(1, keepdim=True).to(torch.uint8) + 9, "votes 0 to 2"),
        ({"softmax": True, "label_smoothing": 1.0}, lambda label: label * 2 - 0.5, "expected labels in|sum to 1"),
        ({"softmax": True, "label_smoothing": 1.0}, lambda label: label * 0.9, "sum to 1"),
        ({"sigmoid": True, "label_smoothing": 1.0}, lambda label: label - 0.2, r"labels in \[0, 1\]"),
        ({"softmax": True, "label_smoothing": 0.1}, lambda label: label * 0.98, "sum to 1"),
        ({}, lambda label: label, "expected probabilities"),
    ],
)
def test_value_checks_reach_through_a_fast_kernel(kernel: Backend, options: dict, spoil: object, words: str) -> None:
    logits, label = tensors()
    loss = JDTLoss(**options, backend=kernel.value)
    with pytest.raises(ValueError, match=words):
        loss(logits, spoil(label))  # type: ignore[operator]
    with value_checks("off"):
        loss(logits, spoil(label))  # type: ignore[operator]


@pytest.mark.parametrize("kernel", HERE)
def test_what_is_ignored_is_not_checked(kernel: Backend) -> None:
    logits, label = tensors()
    mask = torch.zeros(2, 1, 6, 6, 6, dtype=torch.bool)
    mask[..., :3] = True
    wrong = torch.where(mask, label, 7.0)
    clean = JDTCELoss(softmax=True, backend="eager")(logits, torch.where(mask, label, 0.0), mask)
    assert float(JDTCELoss(softmax=True, backend=kernel.value)(logits, wrong, mask)) == pytest.approx(float(clean), rel=1e-6)
    # probabilities outside [0, 1] on a voxel that the target ignores
    prob = torch.where(mask, label, -4.0)
    target = torch.where(mask, label, 255.0)
    loss = JDTLoss(ignore_index=255, backend=kernel.value)
    assert float(loss(prob, target)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("kernel", [kernel for kernel in HERE if kernel is not Backend.TRITON])
@pytest.mark.parametrize("shape", [(32, 4, 24, 24), (1, 32, 64, 32, 32)], ids=str)
def test_torchs_precision_of_products_changes_nothing(kernel: Backend, shape: tuple[int, ...]) -> None:
    """On some processors, "medium" lets torch multiply float32 matrices as bfloat16."""
    source = torch.Generator().manual_seed(3)
    logits, label = torch.randn(shape, generator=source), torch.randn(shape, generator=source).softmax(1)

    def step(backend: Backend) -> tuple[float, torch.Tensor]:
        given = logits.clone().requires_grad_()
        loss = JDTCELoss(softmax=True, backend=backend.value)(given, label)
        loss.backward()
        assert given.grad is not None
        return float(loss), given.grad

    value, gradient = step(Backend.EAGER)
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        got, slope = step(kernel)
    finally:
        torch.set_float32_matmul_precision(precision)
    assert got == pytest.approx(value, rel=1e-6)
    assert float((slope - gradient).abs().max()) < 1e-5 * float(gradient.abs().max())


@pytest.mark.parametrize("kernel", HERE)
def test_half_gradients_are_multiplied_in_float32(kernel: Backend) -> None:
    logits, label = tensors(8)
    half = logits.detach().half().requires_grad_()
    loss = JDTCELoss(softmax=True, backend=kernel.value)
    loss_value = loss(half, label)
    assert loss_value.dtype is torch.float32
    (loss_value * 65536).backward()
    wide = half.detach().float().requires_grad_()
    (JDTCELoss(softmax=True, backend="eager")(wide, label) * 65536).backward()
    assert half.grad is not None
    assert wide.grad is not None
    assert half.grad.dtype is torch.float16
    torch.testing.assert_close(half.grad, wide.grad.half(), rtol=2e-3, atol=2e-3)


def test_a_loss_with_a_backend_is_copied_and_pickled() -> None:
    loss = JDTCELoss(softmax=True, backend="chunked")
    logits, label = tensors()
    value = loss(logits, label)
    for other in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert other.backend is Backend.CHUNKED
        assert torch.equal(other(logits, label), value)
    assert not loss.state_dict()


def test_sums_of_a_kernel_have_the_definitions_shapes() -> None:
    logits, label = tensors()
    recipe = JDTCELoss(softmax=True, include_background=False).recipe.voxels
    eager = voxel_sums(prepare(logits, label, recipe, backend=Backend.EAGER))
    for kernel in HERE:
        fast = voxel_sums(prepare(logits, label, recipe, backend=kernel))
        for name, expected, got in zip(eager._fields, eager, fast, strict=True):
            assert present(got).shape == present(expected).shape, name
            assert present(got).dtype == present(expected).dtype, name
            torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_importing_the_package_imports_no_compiler() -> None:
    code = "import sys, monai_jdt, monai_jdt.losses; print([n for n in ('numba', 'triton', 'llvmlite') if n in sys.modules])"
    code = "import monai.losses; import sys; before = set(sys.modules); " + code.replace(
        "in sys.modules", "in set(sys.modules) - before"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("options", [{}, {"to_onehot_y": True}, {"votes": True}], ids=["dense", "index", "votes"])
@pytest.mark.parametrize("backend", ["eager", "chunked"])
def test_a_full_graph_takes_shapes_that_change(options: dict, backend: str) -> None:
    torch._dynamo.reset()
    loss = JDTCELoss(softmax=True, backend=backend, **options)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    for side in (6, 5, 7):
        logits, label = tensors(side)
        target = label.argmax(1, keepdim=True) if options else label
        assert float(compiled(logits, target).detach()) == pytest.approx(float(loss(logits, target).detach()), rel=1e-6)


def test_losses_of_other_numbers_share_compiled_code() -> None:
    """From the second loss on, torch takes numbers that differ as symbols."""
    torch._dynamo.reset()
    logits, target = torch.randn(1, 3, 40), torch.randint(0, 3, (1, 1, 40))
    compiled = torch.compile(lambda loss: loss(logits, target), fullgraph=True, backend="aot_eager")
    for ignored, smoothing, gamma in ((255, 0.1, 2.0), (-1, 0.25, 1.5), (300, 0.0, 3.0)):
        options: dict = {"ignore_index": ignored, "label_smoothing": smoothing, "focal_gamma": gamma, "backend": "chunked"}
        regions = [[1], [1, 2], [ignored + 500]]
        for loss in (JDTFocalLoss(softmax=True, to_onehot_y=True, **options), JDTFocalLoss(sigmoid=True, regions=regions, **options)):
            assert float(compiled(loss)) == float(loss(logits, target))


def test_a_recipe_is_read_from_its_text() -> None:
    recipes = [JDTCELoss(softmax=True).recipe.voxels, JDTLoss(votes=True, norm=2, ignore_index=-1, threshold=1e-7).recipe.voxels]
    options: dict = {"focal_gamma": 1.5, "focal_alpha": 0.25, "label_smoothing": 0.1, "include_background": False}
    recipes.append(JDTFocalLoss(sigmoid=True, regions=[[1, 4], [1, 2, 4], [4]], **options).recipe.voxels)
    for recipe in recipes:
        assert recipe_of_text(_text_of(recipe)) == recipe


def test_auto_passes_over_a_compiler_that_is_broken(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    broken = replace(KERNELS[Backend.NUMBA], installed=True, module="tests.kernels.no_such_module")
    monkeypatch.setitem(KERNELS, Backend.NUMBA, broken)
    choice._log_once.cache_clear()
    with caplog.at_level("INFO"):
        assert choose_kernel(Backend.AUTO, *tensors(12), SOFTMAX) is Backend.NUMPY
    assert "it cannot be imported (ModuleNotFoundError: No module named 'tests.kernels.no_such_module')" in caplog.messages[0]
    with pytest.raises(ValueError, match="got 'numba': it cannot be imported"):
        JDTLoss(sigmoid=True, backend="numba")(*tensors())


def test_auto_is_eager_where_anything_is_transformed() -> None:
    logits, label = (tensor.detach() for tensor in tensors(36))
    loss = JDTCELoss(softmax=True)
    masks = torch.ones(2, 2, 1, 36, 36, 36, dtype=torch.bool)
    by_mask = torch.func.vmap(lambda mask: loss(logits, label, mask))(masks)
    assert loss.backend_used == "eager"
    assert by_mask.shape == (2,)
    distillation = DistillationLoss(softmax=True)
    teachers = torch.stack([logits, 2 * logits])
    by_teacher = torch.func.vmap(lambda teacher: distillation(logits, label, teacher))(teachers)
    assert distillation.backend_used == "eager"
    plain = torch.stack([distillation(logits, label, teacher) for teacher in teachers])
    assert distillation.backend_used != "eager"
    torch.testing.assert_close(by_teacher, plain)


@pytest.mark.parametrize("kernel", HERE)
def test_a_label_of_inference_mode_is_one(kernel: Backend) -> None:
    logits, label = tensors()
    with torch.inference_mode():
        made = label * 1
    loss = JDTCELoss(softmax=True, backend=kernel.value)
    assert torch.equal(torch.autograd.grad(loss(logits, made), logits)[0], torch.autograd.grad(loss(logits, label), logits)[0])


def test_a_full_graph_takes_any_number_of_raters() -> None:
    torch._dynamo.reset()
    loss = JDTCELoss(softmax=True, votes=True, ignore_index=255, backend="eager")
    graphs = 0

    def counting(graph: torch.fx.GraphModule, inputs: list) -> object:
        nonlocal graphs
        graphs += 1
        return graph.forward

    compiled = torch.compile(loss, fullgraph=True, dynamic=True, backend=counting)
    logits = torch.randn(1, 3, 5)
    for raters in (*range(2, 14), 40):
        votes = torch.randint(0, 3, (1, raters, 5), dtype=torch.uint8)
        votes[0, 0, 0] = 255
        weights = torch.rand(1, raters)
        expected = loss(logits, votes, rater_weights=weights)
        assert float(compiled(logits, votes, rater_weights=weights)) == pytest.approx(float(expected), rel=1e-6)
    assert graphs <= 2


def test_an_exported_loss_takes_any_number_of_raters() -> None:
    loss = JDTCELoss(sigmoid=True, votes=True, regions=[[1], [1, 2]])
    logits, raters = torch.randn(1, 2, 5), torch.export.Dim("raters", min=2, max=64)
    shapes = {"input": None, "target": {1: raters}}
    exported = torch.export.export(loss, (logits, torch.randint(0, 3, (1, 3, 5))), dynamic_shapes=shapes).module()
    for number in (2, 5, 17):
        votes = torch.randint(0, 3, (1, number, 5))
        assert float(exported(logits, votes)) == pytest.approx(float(loss(logits, votes)), rel=1e-6)


@pytest.mark.parametrize(("side", "expected"), [(6, {"eager"}), (18, {"numba", "eager"}), (36, {"numba", "chunked"})])
def test_auto_chooses_by_size_under_compile_too(side: int, expected: set[str]) -> None:
    logits, label = tensors(side)
    loss = JDTCELoss(softmax=True)
    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    (gradient,) = torch.autograd.grad(compiled(logits, label), logits)
    assert loss.backend_used in expected
    (by_eager,) = torch.autograd.grad(JDTCELoss(softmax=True, backend="eager")(logits, label), logits)
    torch.testing.assert_close(gradient, by_eager, rtol=1e-4, atol=1e-8)
