"""Seeded inputs of the losses with a teacher, heads or hard labels."""

from __future__ import annotations

from typing import Any

import torch


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def chosen(activation: str) -> dict[str, Any]:
    """The argument of a loss that chooses the activation of this name."""
    return {activation: True}


def some(seed: int, *shape: int, softmax: bool = True) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """(logits, soft label, teacher logits, mask)."""
    g = generator(seed)
    x, raw, teacher = (2 * torch.randn(*shape, generator=g, dtype=torch.float64) for _ in range(3))
    label = torch.softmax(raw, 1) if softmax else torch.sigmoid(raw)
    mask = torch.rand(shape[0], 1, *shape[2:], generator=g) < 0.7
    return x, label, teacher, mask
