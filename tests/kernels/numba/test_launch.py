"""What the numba kernel promises beyond parity: its numbers, its threads, its cache on disk, its memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import types
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import kernels
from benchmarks.contenders import Case
from monai_jdt.definitions import Activation, Backend, LabelForm, LabelReading, VoxelRecipe
from monai_jdt.kernels import choice, registry
from monai_jdt.kernels.choice import choose_kernel, refusal
from monai_jdt.kernels.kernel_input import KernelInput
from monai_jdt.losses import JDTCELoss
from tests.present import present

numba = pytest.importorskip("numba")
compilation = pytest.importorskip("monai_jdt.kernels.numba.compilation")
launch = pytest.importorskip("monai_jdt.kernels.numba.launch")
memory_rows = pytest.importorskip("monai_jdt.kernels.numba.memory_rows")
program = pytest.importorskip("monai_jdt.kernels.numba.program")
records = pytest.importorskip("monai_jdt.kernels.numba.records")
vectors = pytest.importorskip("monai_jdt.kernels.numba.vectors")

#: What numba compiles: a function of numbers or of lanes, which no annotation can name.
Compiled = Callable[..., Any]
Arrays = Callable[[np.ndarray], np.ndarray]


def over(function: Compiled, result: type[np.generic]) -> Arrays:
    """A function of one number on arrays."""

    @numba.njit
    def each(values: np.ndarray, out: np.ndarray) -> None:
        for i in range(len(values)):
            out[i] = function(values[i])

    def apply(values: np.ndarray) -> np.ndarray:
        out = np.empty(len(values), result)
        each(values, out)
        return out

    return apply


def last_places(got: np.ndarray, exact: np.ndarray) -> float:
    """The largest error in units of the last place of the exact value."""
    return float((np.abs(got.astype(np.float64) - exact) / np.spacing(np.abs(exact).astype(np.float32))).max())


def over_lanes(function: Compiled) -> Arrays:
    """A function of lanes on float32 arrays."""

    @numba.njit
    def each(values: int, out: int, n: int) -> None:
        for i in range(0, 4 * n, records.LANES):
            vectors.store(out + i, function(vectors.lanes_at(values + i)))

    def apply(values: np.ndarray) -> np.ndarray:
        padded = np.ones(-(-len(values) // vectors.WIDTH) * vectors.WIDTH, np.float32)
        padded[: len(values)] = values
        out = np.empty_like(padded)
        each(padded.ctypes.data, out.ctypes.data, len(padded))
        return out[: len(values)]

    return apply


def test_operators_of_lanes() -> None:
    """Each against numpy, lanes and single numbers mixed."""
    half, three = np.float32(0.5), np.float32(3)

    @numba.njit
    def arithmetic(x: Any) -> Any:
        return -(three * x + half) / (x - three) + abs(x) * x

    x = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    expected = -(3 * x.astype(np.float64) + 0.5) / (x.astype(np.float64) - 3) + np.abs(x) * x.astype(np.float64)
    np.testing.assert_allclose(over_lanes(arithmetic)(x), expected, rtol=3e-6, atol=3e-6)

    @numba.njit
    def choices(x: Any) -> Any:
        middle = ((x > -half) & (x < half)) | ~(x <= three)
        edges = (x >= three) & (three >= x) | (x == -three)
        return vectors.select(edges, x, vectors.select(middle, three, half))

    x = np.array([-3, -0.5, 0.1, 0.5, 1, 3, 4, np.nan, np.inf, -np.inf] * 7, np.float32)
    expected = np.where(np.abs(x) == 3, x, np.where((np.abs(x) < 0.5) | ~(x <= 3), np.float32(3), np.float32(0.5)))
    np.testing.assert_array_equal(over_lanes(choices)(x), expected)


def test_sum_of_lanes_has_one_order() -> None:
    """Halves are added to each other until one number is left."""

    @numba.njit
    def total(address: int) -> float:
        return vectors.total(vectors.lanes_at(address))

    values = np.random.default_rng(0).normal(size=vectors.WIDTH).astype(np.float32)
    expected = values
    while len(expected) > 1:
        expected = expected[: len(expected) // 2] + expected[len(expected) // 2 :]
    assert total(values.ctypes.data) == expected[0]


def test_any_of_lanes() -> None:
    @numba.njit
    def any_negative(address: int) -> bool:
        return vectors.any_lane(vectors.lanes_at(address) < np.float32(0))

    values = np.ones(vectors.WIDTH, np.float32)
    assert not any_negative(values.ctypes.data)
    for lane in range(vectors.WIDTH):
        alone = values.copy()
        alone[lane] = -1
        assert any_negative(alone.ctypes.data)


def test_exponential() -> None:
    exponential = over_lanes(vectors.exponential)
    x = np.concatenate([np.linspace(-87.3, 0, 2_000_001), -np.logspace(-40, 0, 100_000)]).astype(np.float32)
    assert last_places(exponential(x), np.exp(x.astype(np.float64))) < 1.5
    special = np.array([0, -0.0, -88, -1000, -np.inf, np.nan], np.float32)
    np.testing.assert_array_equal(exponential(special), np.array([1, 1, 0, 0, 0, np.nan], np.float32))


def test_logarithm() -> None:
    logarithm = over_lanes(vectors.logarithm)
    bits = np.arange(1, 0x7F800000, 997, dtype=np.uint32)
    x = np.concatenate([bits.view(np.float32), np.linspace(0.5, 2, 1_000_001).astype(np.float32)])
    x = x[x != 1]
    assert last_places(logarithm(x), np.log(x.astype(np.float64))) < 1.5
    special = np.array([1, 0, -0.0, np.inf, -1, np.nan, -np.inf], np.float32)
    np.testing.assert_array_equal(logarithm(special), np.array([0, -np.inf, -np.inf, np.inf, np.nan, np.nan, np.nan], np.float32))


def test_log_of_one_plus() -> None:
    one = np.float32(1)

    @numba.njit
    def alone(x: Any) -> Any:
        return vectors.log_of_one_plus(x, one / (one + x))

    function = over_lanes(alone)
    x = np.concatenate([np.logspace(-37, 0, 500_001), np.linspace(0, 1, 500_001)]).astype(np.float32)
    x = x[x > 0]
    assert last_places(function(x), np.log1p(x.astype(np.float64))) < 3
    np.testing.assert_array_equal(function(np.array([0, np.nan], np.float32)), np.array([0, np.nan], np.float32))


def test_power() -> None:
    for exponent in (0.25, 1.0, 1.5, 3.0):
        e = np.float32(exponent)
        each = over_lanes(numba.njit(lambda x, e=e: vectors.power(x, e)))
        x = np.logspace(-6, 2, 100_001).astype(np.float32)
        np.testing.assert_allclose(each(x), x.astype(np.float64) ** exponent, rtol=5e-6)


def test_float16() -> None:
    every = np.arange(2**16, dtype=np.uint16)
    widened = over(memory_rows.from_float16, np.float32)(every)
    np.testing.assert_array_equal(widened, every.view(np.float16).astype(np.float32))
    bits = np.random.default_rng(0).integers(0, 2**32, 2_000_000, dtype=np.uint32)
    near_ties = (widened.view(np.uint32)[:, None] + np.array([0xFFF, 0x1000, 0x1001, 0x2000], np.uint32)).ravel()
    values = np.concatenate([bits, near_ties]).view(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = values.astype(np.float16)
    np.testing.assert_array_equal(over(memory_rows.to_float16, np.uint16)(values).view(np.float16), expected)


def test_bfloat16() -> None:
    every = np.arange(2**16, dtype=np.uint16)
    widened = over(memory_rows.from_bfloat16, np.float32)(every)
    expected = torch.from_numpy(every.view(np.int16)).view(torch.bfloat16).float().numpy()
    np.testing.assert_array_equal(widened, expected)
    bits = np.random.default_rng(0).integers(0, 2**32, 2_000_000, dtype=np.uint32)
    values = np.concatenate([bits, bits & 0xFFFF8000]).astype(np.uint32).view(np.float32)
    got = torch.from_numpy(over(memory_rows.to_bfloat16, np.uint16)(values).view(np.int16)).view(torch.bfloat16).float().numpy()
    np.testing.assert_array_equal(got, torch.from_numpy(values).to(torch.bfloat16).float().numpy())


def pair(seed: int = 0, size: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and a label, made once: torch's softmax may round by the number of threads."""
    generator = torch.Generator().manual_seed(seed)
    shape = (2, 3, size, size, size)
    return torch.randn(shape, generator=generator), torch.softmax(torch.randn(shape, generator=generator), 1)


def step(logits: torch.Tensor, label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    logits = logits.detach().requires_grad_()
    loss = JDTCELoss(softmax=True, backend="numba")(logits, label)
    loss.backward()
    return loss.detach(), present(logits.grad)


def test_number_of_threads_changes_nothing() -> None:
    data, results = pair(), []
    for threads in (1, 2, 3, 8):
        torch.set_num_threads(threads)
        results.append(step(*data))
    for loss, gradient in results[1:]:
        assert torch.equal(loss, results[0][0])
        assert torch.equal(gradient, results[0][1])


def test_several_callers_at_once() -> None:
    data = [pair(seed) for seed in range(4)]
    expected = [step(*each) for each in data]
    got: dict[int, tuple] = {}
    callers = [threading.Thread(target=lambda seed=seed: got.update({seed: step(*data[seed])})) for seed in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for seed, (loss, gradient) in enumerate(expected):
        assert torch.equal(got[seed][0], loss)
        assert torch.equal(got[seed][1], gradient)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_forked_child_has_threads_of_its_own() -> None:
    torch.set_num_threads(2)
    # the kernel alone: OpenMP, which torch's own operations may use, does not survive a fork
    logits, label = torch.randn(2, 3, 40000), torch.randint(0, 3, (2, 1, 40000))
    reading = LabelReading(form=LabelForm.INDEX)
    whole = KernelInput(logits, label, VoxelRecipe(activation=Activation.SOFTMAX, label=reading), None, None, None)
    expected = launch.numba_sums(whole)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(60)
            code = 0 if torch.equal(launch.numba_sums(whole), expected) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


CHILD = """
import torch
from monai_jdt.losses import JDTCELoss
from monai_jdt.kernels.numba import program
x = torch.randn(1, 3, 40, requires_grad=True)
JDTCELoss(sigmoid=True, backend="numba")(x, torch.rand(1, 3, 40)).backward()
print(len(program.run_range.stats.cache_hits), len(program.run_range.stats.cache_misses))
"""


def child(**environment: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, env={**os.environ, **environment})
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_second_process_needs_no_compiler() -> None:
    step(*pair(size=8))  # on disk from here on
    assert child() == ["1", "0"]


def test_without_a_folder_it_is_compiled_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_folder(*functions: Compiled, cache: bool = False, **options: Any) -> Any:
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return numba.njit(*functions, **options)

    monkeypatch.setattr(compilation, "njit", without_folder)
    assert compilation.on_disk(lambda x: x + 1)(1) == 2


@pytest.mark.long
@pytest.mark.parametrize(("contender", "most"), [("numba", 1.05), ("chunked", 1.15)])
@pytest.mark.parametrize(
    "case", [Case("soft", 4, 128, 1), Case("votes", 4, 128, 1), Case("index", 32, 64, 1)], ids=lambda case: case.form
)
def test_memory_is_the_gradient(case: Case, contender: str, most: float) -> None:
    """By the benchmark's measure: the high-water mark of a process, set back before the step."""
    task = {"case": asdict(case), "what": "memory", "contender": contender}
    done = subprocess.run([sys.executable, kernels.__file__, "--task", json.dumps(task)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 0.9 < float(done.stdout) < most


def test_what_only_eager_has_is_refused() -> None:
    x = torch.randn(1, 3, 40, requires_grad=True)
    loss = JDTCELoss(sigmoid=True, backend="numba")
    (gradient,) = torch.autograd.grad(loss(x, torch.rand(1, 3, 40)), x, create_graph=True)
    with pytest.raises(RuntimeError, match="backend='eager'"):
        gradient.sum().backward()
    with pytest.raises((RuntimeError, ValueError), match="eager"):
        torch.vmap(loss)(torch.randn(2, 1, 3, 40), torch.rand(2, 1, 3, 40))


def test_what_the_loops_cannot_read_is_refused() -> None:
    loss = JDTCELoss(sigmoid=True, backend="numba", regions=[[1], [2**31]])
    with pytest.raises(ValueError, match=r"backend: .* 2147483648"):
        loss(torch.randn(1, 2, 40), torch.zeros(1, 1, 40))
    logits, label = torch.randn(1, 3, 2**12), torch.zeros(1, 3, 2**12).to(torch.float8_e4m3fn)
    assert "no labels of torch.float8_e4m3fn" in str(refusal(Backend.NUMBA, logits, label, VoxelRecipe()))
    assert choose_kernel(Backend.AUTO, logits, label, VoxelRecipe(activation=Activation.SIGMOID)) is Backend.NUMPY
    for dtype in launch._KINDS:
        assert refusal(Backend.NUMBA, logits, label.to(dtype), VoxelRecipe()) is None


def test_a_first_compilation_is_announced(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    loss = JDTCELoss(softmax=True, backend="numba")
    logits, label = torch.zeros(1, 2, 8), torch.full((1, 2, 8), 0.5)
    loss(logits, label)  # now it is on disk
    with caplog.at_level("INFO"):
        launch._program.cache_clear()
        loss(logits, label)
        assert not caplog.messages
        monkeypatch.setattr(launch, "glob", lambda pattern: [])
        launch._program.cache_clear()
        loss(logits, label)
    (line,) = caplog.messages
    assert line.startswith("numba compiles the losses' kernel")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), EOFError("Ran out of input")], ids=str)
def test_a_folder_that_fails_is_left_out(error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """numba looks for its folder at import, and passes on what goes wrong there later."""
    right = program.run_range

    class Failing:
        stats, py_func = right.stats, staticmethod(right.py_func)

        def __call__(self, *arguments: object) -> None:
            raise error

    given = []

    def in_memory(function: Compiled) -> Any:
        given.append(function)
        return right

    monkeypatch.setattr(program, "run_range", Failing())
    monkeypatch.setattr(compilation, "in_memory", in_memory)
    launch._program.cache_clear()
    logits, label = torch.zeros(1, 2, 8), torch.full((1, 2, 8), 0.5)
    with caplog.at_level("INFO"):
        for _ in range(2):
            JDTCELoss(softmax=True, backend="numba")(logits, label)
    launch._program.cache_clear()
    assert given == [right.py_func]
    (line,) = [message for message in caplog.messages if "on disk" in message]
    assert repr(error) in line


def test_without_its_compiler_numba_is_passed_over(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """NUMBA_DISABLE_JIT=1, which debuggers set."""
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    for name in [name for name in sys.modules if name.startswith("monai_jdt.kernels.numba.")]:
        monkeypatch.delitem(sys.modules, name)
    registry.import_failure.cache_clear()
    choice._log_once.cache_clear()
    logits, label = torch.zeros(1, 2, 2**12), torch.full((1, 2, 2**12), 0.5)
    loss = JDTCELoss(softmax=True)
    with caplog.at_level("INFO"):
        loss(logits, label)
    assert loss.backend_used == "numpy"
    assert "NUMBA_DISABLE_JIT is set" in caplog.messages[0]
    with pytest.raises(ValueError, match=r"backend: .*'numba': it cannot be imported .*NUMBA_DISABLE_JIT is set"):
        JDTCELoss(softmax=True, backend="numba")(logits, label)
    registry.import_failure.cache_clear()


def test_a_stand_in_for_numba_does_not_break_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Documentation tools put modules without a spec in its place."""
    monkeypatch.setitem(sys.modules, "numba", types.ModuleType("numba"))
    assert registry.is_installed("numba")
    monkeypatch.setitem(sys.modules, "numba", None)
    assert not registry.is_installed("numba")
