"""Advice to the system is about whole pages of the tensor itself, and only of large ones."""

from __future__ import annotations

import mmap

import pytest
import torch

from monai_jdt.kernels.numba import prefault

PAGE = mmap.PAGESIZE


@pytest.fixture
def advised(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int]]:
    """Every call of the system, which refuses them all."""
    calls: list[tuple[int, int, int]] = []

    def refuse(first: int, size: int, advice: int) -> int:
        calls.append((first, size, advice))
        return -1

    monkeypatch.setattr(prefault, "_madvise", lambda: refuse)
    return calls


@pytest.mark.parametrize("offset", [0, 1, 16, PAGE // 4 - 1])
def test_advice_stays_within_the_tensor(advised: list[tuple[int, int, int]], offset: int) -> None:
    whole = torch.empty(prefault.LARGE // 4 + 5000)
    tensor = whole[offset : offset + prefault.LARGE // 4 + 100]
    start, size = tensor.data_ptr(), tensor.numel() * 4
    for first, last in ((0, size // 4), (0, 1), (PAGE // 4 - 1, PAGE // 4 + 1), (size // 4 - 1, size // 4), (12345, 12345 + 3 * PAGE)):
        prefault.claim(tensor, first, last)
    assert len(advised) >= 3
    for place, length, _ in advised:
        assert place % PAGE == length % PAGE == 0
        assert length > 0
        assert start <= place < place + length <= start + size
    # what was asked for is covered, but for pages that others may have a part of
    for place, length, first, last in ((*advised[0][:2], 0, size), (*advised[-1][:2], 4 * 12345, 4 * (12345 + 3 * PAGE))):
        assert place - (start + first) < PAGE
        assert start + last - (place + length) < PAGE


def test_a_small_tensor_is_left_alone(advised: list[tuple[int, int, int]]) -> None:
    tensor = torch.empty(prefault.LARGE // 4 - 1)
    prefault.claim(tensor, 0, tensor.numel())
    assert not advised


def test_a_system_without_advice_gives_none(monkeypatch: pytest.MonkeyPatch) -> None:
    prefault._madvise.cache_clear()
    monkeypatch.setattr("sys.platform", "darwin")
    try:
        tensor = torch.zeros(prefault.LARGE // 4)
        prefault.claim(tensor, 0, tensor.numel())
        assert prefault._madvise() is None
        assert not tensor.any()
    finally:
        prefault._madvise.cache_clear()


def test_claimed_memory_is_as_it_was() -> None:
    tensor = torch.arange(prefault.LARGE // 4, dtype=torch.float32)
    prefault.claim(tensor, 0, tensor.numel())
    assert torch.equal(tensor, torch.arange(prefault.LARGE // 4, dtype=torch.float32))
