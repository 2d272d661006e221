"""Seeded inputs of the losses with a teacher, heads or hard labels."""

from __future__ import annotations

import torch


def generator(seed):
    return torch.Generator().manual_seed(seed)


def some(seed, *shape, softmax=True):
    """(logits, soft label, teacher logits, mask)."""
    g = generator(seed)
    x, raw, teacher = (2 * torch.randn(*shape, generator=g, dtype=torch.float64) for _ in range(3))
    label = torch.softmax(raw, 1) if softmax else torch.sigmoid(raw)
    mask = torch.rand(shape[0], 1, *shape[2:], generator=g) < 0.7
    return x, label, teacher, mask
