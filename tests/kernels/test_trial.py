"""A kernel that is wrong on this device is found at its first use, whatever is wrong, and nothing else is disturbed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from monai_jdt.checks import value_checks
from monai_jdt.definitions import Activation, Backend, VoxelRecipe
from monai_jdt.kernels import trial
from monai_jdt.kernels.choice import choose_kernel, refusal
from monai_jdt.kernels.kernel_input import KernelInput
from monai_jdt.kernels.labels import read_label
from monai_jdt.kernels.registry import KERNELS
from monai_jdt.kernels.trial import SWITCH, failed_trial, trial_inputs
from monai_jdt.losses import JDTCELoss

CPU = torch.device("cpu")
SOFTMAX = VoxelRecipe(activation=Activation.SOFTMAX)
HERE = [kernel for kernel in KERNELS if refusal(kernel, torch.zeros(1, 2, 3), torch.zeros(1, 2, 3), SOFTMAX) is None]


@pytest.fixture(autouse=True)
def _untried(monkeypatch: pytest.MonkeyPatch) -> None:
    """No kernel has been used in this process, and inputs of any size are large."""
    monkeypatch.setattr(trial, "_verdicts", {})
    for kernel, row in KERNELS.items():
        monkeypatch.setitem(KERNELS, kernel, replace(row, auto_from=0))
    monkeypatch.delenv(SWITCH, raising=False)


def changed(monkeypatch: pytest.MonkeyPatch, kernel: Backend, what: str, change: Callable) -> None:
    """Spoil `<kernel>_sums` or `<kernel>_gradient`: `change(step, result)` is what comes back."""
    module = import_module(KERNELS[kernel].module)
    right = getattr(module, f"{kernel.value}_{what}")
    monkeypatch.setattr(module, f"{kernel.value}_{what}", lambda step, *others: change(step, right(step, *others)))


def raises(step: KernelInput, result: torch.Tensor) -> torch.Tensor:
    raise RuntimeError("no code for this device")


def tensors() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(1, 3, 40, requires_grad=True), torch.randn(1, 3, 40).softmax(1)


def test_no_input_of_the_trial_is_near_a_tie() -> None:
    names = []
    for given in trial_inputs(CPU):
        names.append(given.name)
        label, counted = read_label(given.label, 3, given.recipe, given.rater_weights)
        logits = given.logits.to(torch.float64)
        p = torch.softmax(logits, 1) if given.recipe.activation is Activation.SOFTMAX else torch.sigmoid(logits)
        assert float((p - label).abs().min()) > 1e-4
        assert counted is None or 0 < int(counted.sum()) < counted.numel()
    assert names == ["softmax, dense label", "softmax, class indices, float16", "sigmoid, votes"]


@pytest.mark.parametrize("kernel", HERE)
def test_a_right_kernel_passes(kernel: Backend, caplog: pytest.LogCaptureFixture) -> None:
    assert failed_trial(kernel, CPU) == ""
    assert trial._verdicts == {(f"their kernel {kernel.value}", CPU): ""}
    assert not caplog.records


def one_row(number: int) -> Callable:
    def change(step: KernelInput, rows: torch.Tensor) -> torch.Tensor:
        rows = rows.clone()
        rows[number, -1, -1 if number < 3 else 0] *= 1 + 1e-3
        return rows

    return change


def only_in(form: str, change: Callable) -> Callable:
    return lambda step, result: change(step, result) if step.recipe.label.form.value == form else result


FAULTS = {
    "tp": ("sums", one_row(0), "its tp is off by"),
    "fn of votes": ("sums", only_in("votes", one_row(2)), r"its fn is off by .*\(sigmoid, votes\)"),
    "pixel term": ("sums", one_row(3), "its pixel is off by"),
    "count": ("sums", one_row(5), "its counted is off by"),
    "NaN": ("sums", lambda step, rows: rows * torch.nan, "its tp is off by nan"),
    "gradient": ("gradient", lambda step, gradient: gradient * 1.01, "its gradient is off by"),
    "float16": ("gradient", only_in("index", lambda step, gradient: gradient * 1.01), r"its gradient is off by .*indices, float16\)"),
    "no gradient": ("gradient", lambda step, gradient: torch.zeros_like(gradient), "its gradient is off by 1.0e"),
    "exception forward": ("sums", raises, "its first use raised RuntimeError: no code for this device"),
    "exception backward": ("gradient", raises, "its first use raised RuntimeError: no code for this device"),
}


#: Triton's interpreter is slow.
BROKEN = [(kernel, fault) for kernel in HERE for fault in FAULTS if kernel is not Backend.TRITON or fault in ("tp", "gradient")]


@pytest.mark.parametrize(("kernel", "fault"), BROKEN, ids=str)
def test_a_broken_kernel_is_logged_once_and_refused(
    kernel: Backend, fault: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    what, change, words = FAULTS[fault]
    changed(monkeypatch, kernel, what, change)
    for _ in range(2):
        with pytest.raises(ValueError, match=rf"backend: expected .*got '{kernel.value}': {words}.*Fix: backend='auto'"):
            JDTCELoss(softmax=True, backend=kernel.value)(*tensors())
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.message.startswith(f"the losses do not use their kernel {kernel.value} on cpu: its ")


def test_auto_takes_the_next_kernel_and_then_eager(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("numba")
    changed(monkeypatch, Backend.NUMBA, "gradient", lambda step, gradient: -gradient)
    loss = JDTCELoss(softmax=True)
    logits, label = tensors()
    for _ in range(2):
        loss(logits, label)
        assert loss.backend_used == "numpy"
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    trial._verdicts.clear()
    changed(monkeypatch, Backend.NUMPY, "sums", raises)
    loss(logits, label)
    assert loss.backend_used == "chunked"
    trial._verdicts.clear()
    changed(monkeypatch, Backend.CHUNKED, "sums", raises)
    value = loss(logits, label)
    assert loss.backend_used == "eager"
    assert torch.equal(value, JDTCELoss(softmax=True, backend="eager")(logits, label))


@pytest.mark.parametrize("word", ["off", "0", "False"])
def test_the_trial_is_switched_off(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    changed(monkeypatch, Backend.CHUNKED, "sums", one_row(0))
    monkeypatch.setenv(SWITCH, word)
    JDTCELoss(softmax=True, backend="chunked")(*tensors())
    assert not trial._verdicts
    monkeypatch.setenv(SWITCH, "on")
    with pytest.raises(ValueError, match="off by"):
        JDTCELoss(softmax=True, backend="chunked")(*tensors())


def test_one_trial_for_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []
    right = trial._compare

    def compare(kernel: Backend, device: torch.device) -> str:
        ran.append(kernel)
        return right(kernel, device)

    monkeypatch.setattr(trial, "_compare", compare)
    callers = [threading.Thread(target=choose_kernel, args=(Backend.CHUNKED, *tensors(), SOFTMAX)) for _ in range(5)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert ran == [Backend.CHUNKED]


class _Refuses(TorchDispatchMode):
    """Every operation is an error."""

    def __torch_dispatch__(self, function: object, types: object, args: tuple = (), kwargs: dict | None = None) -> None:
        raise AssertionError(f"the caller's mode has seen {function}")


def surroundings() -> dict[str, Callable]:
    return {
        "no gradient": torch.no_grad,
        "inference": torch.inference_mode,
        "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
        "dispatch mode": _Refuses,
        "default device": lambda: torch.device("meta"),
        "value checks": lambda: value_checks("on"),
        "deterministic": _deterministic,
        "float64": _wide_default,
    }


class _deterministic:
    def __enter__(self) -> None:
        torch.use_deterministic_algorithms(True)

    def __exit__(self, *error: object) -> None:
        torch.use_deterministic_algorithms(False)


class _wide_default:
    def __enter__(self) -> None:
        torch.set_default_dtype(torch.float64)

    def __exit__(self, *error: object) -> None:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("name", surroundings())
@pytest.mark.parametrize("kernel", [kernel for kernel in HERE if kernel is not Backend.TRITON])
def test_the_callers_state_is_neither_seen_nor_changed(name: str, kernel: Backend) -> None:
    state = torch.get_rng_state()

    def settings() -> tuple:
        return (
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.is_autocast_enabled("cpu"),
            torch.get_default_dtype(),
            torch.are_deterministic_algorithms_enabled(),
            torch.get_num_threads(),
        )

    with surroundings()[name]():
        before = settings()
        assert failed_trial(kernel, CPU) == ""
        assert settings() == before
    assert trial._verdicts
    assert torch.equal(torch.get_rng_state(), state)


def test_inside_a_transform_of_something_else() -> None:
    """The loss's own tensors are plain, and so a fast kernel runs; its trial must not be a part of the transform."""
    loss = JDTCELoss(softmax=True, backend="chunked")
    logits, label = (tensor.detach() for tensor in tensors())

    def scaled(x: torch.Tensor) -> torch.Tensor:
        loss.requires_grad_(False)
        assert choose_kernel(Backend.CHUNKED, logits, label, SOFTMAX) is Backend.CHUNKED
        return x * 3

    assert float(torch.func.grad(scaled)(torch.tensor(2.0))) == 3
    assert trial._verdicts == {("their kernel chunked", CPU): ""}


def test_nothing_is_tried_under_compile_but_what_is_known_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    def step() -> torch.Tensor:
        torch._dynamo.reset()
        return torch.compile(JDTCELoss(softmax=True, backend="chunked"), fullgraph=True, backend="aot_eager")(*tensors())

    step()
    assert not trial._verdicts
    monkeypatch.setattr(trial, "_verdicts", {("their kernel chunked", CPU): "its tp is off"})
    with pytest.raises(Exception, match="its tp is off"):
        step()


def test_where_memory_or_threads_run_out_nothing_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(step: KernelInput, result: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    def no_thread(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as within:
        changed(within, Backend.CHUNKED, "sums", no_memory)
        assert failed_trial(Backend.CHUNKED, CPU) == ""
    with monkeypatch.context() as within:
        within.setattr(threading.Thread, "start", no_thread)
        assert failed_trial(Backend.CHUNKED, CPU) == ""
    assert not trial._verdicts
    assert failed_trial(Backend.CHUNKED, CPU) == ""
    assert trial._verdicts


def test_each_device_has_its_own_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: Iterator = iter(("", "its tp is off", ""))
    monkeypatch.setattr(trial, "_run_apart", lambda device, compare: next(seen))
    first, second = torch.device("cuda", 0), torch.device("cuda", 1)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: 0)
    assert failed_trial(Backend.TRITON, first) == ""
    assert failed_trial(Backend.TRITON, second) == "its tp is off"
    assert failed_trial(Backend.TRITON, first) == ""


@pytest.mark.parametrize(("capturing", "debug_mode"), [(True, 0), (False, 2)])
def test_nothing_is_tried_where_the_host_must_not_wait(capturing: bool, debug_mode: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: capturing)
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: debug_mode)
    monkeypatch.setattr(trial, "_run_apart", lambda device, compare: pytest.fail("tried"))
    assert failed_trial(Backend.TRITON, torch.device("cuda", 0)) == ""
    assert not trial._verdicts
