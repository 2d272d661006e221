"""Tasks shared among threads: each once, torch's own settings as they were, and a result that does not depend on their number."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import torch

from monai_jdt.kernels import chunked, threads
from monai_jdt.kernels.threads import share_out
from monai_jdt.losses import JDTCELoss


@pytest.mark.parametrize("on_caller", [True, False])
@pytest.mark.parametrize("wanted", [1, 2, 3])
def test_each_task_is_done_once(wanted: int, on_caller: bool) -> None:
    torch.set_num_threads(wanted)
    done: list[int] = []
    names = set()

    def work(numbers: Iterator[int]) -> None:
        assert not torch.is_grad_enabled()
        for number in numbers:
            time.sleep(0.002)
            done.append(number)
            names.add(threading.current_thread().name)

    share_out(20, work, on_caller=on_caller)
    assert sorted(done) == list(range(20))
    assert len(names) <= wanted
    assert (threading.current_thread().name in names) == (on_caller or wanted == 1)
    assert torch.get_num_threads() == wanted
    assert torch.is_grad_enabled()


def test_an_error_of_a_thread_is_the_callers() -> None:
    torch.set_num_threads(2)

    def work(numbers: Iterator[int]) -> None:
        for number in numbers:
            if number == 5:
                raise ZeroDivisionError("task 5")

    with pytest.raises(ZeroDivisionError, match="task 5"):
        share_out(9, work, on_caller=False)


def test_new_threads_still_begin_with_torchs_number() -> None:
    torch.set_num_threads(3)
    threads._forget_pool()
    share_out(4, lambda numbers: list(numbers) and None, on_caller=False)
    seen = []
    thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert seen == [3]


def test_chunks_give_the_same_bits_on_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked, "_LARGEST", 2000)
    monkeypatch.setattr(chunked, "_SMALLEST", 2000)
    logits = torch.randn(2, 3, 20, 20, 20, requires_grad=True)
    label = torch.randn(2, 3, 20, 20, 20).softmax(1)
    loss = JDTCELoss(softmax=True, backend="chunked")
    results = []
    for wanted in (1, 2, 3):
        torch.set_num_threads(wanted)
        value = loss(logits, label)
        results.append((value.detach(), torch.autograd.grad(value, logits)[0]))
    for value, gradient in results[1:]:
        assert torch.equal(value, results[0][0])
        assert torch.equal(gradient, results[0][1])


def test_an_interrupt_ends_what_is_under_way_first() -> None:
    torch.set_num_threads(2)
    threads._forget_pool()
    done, caller = [], threading.current_thread()

    def work(numbers: Iterator[int]) -> None:
        for number in numbers:
            if threading.current_thread() is caller:
                time.sleep(0.02)
                raise KeyboardInterrupt
            time.sleep(0.05)
            done.append(number)

    with pytest.raises(KeyboardInterrupt):
        share_out(50, work)
    before = len(done)
    assert before < 10
    time.sleep(0.2)
    assert len(done) == before
