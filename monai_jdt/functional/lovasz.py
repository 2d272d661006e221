"""The Lovász extension of the Jaccard loss (Berman et al., CVPR 2018, arXiv:1705.08790), for hard labels."""

from __future__ import annotations

import torch


def lovasz_extension(errors: torch.Tensor, foreground: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """The Lovász extension of `1 - Jaccard index`, taken at errors.

    With the errors sorted from large to small, `sum_i e_i (J_i - J_{i-1})`, where J_i is the Jaccard loss if the first i voxels were
    wrong and all others right.

    Args:
        errors: `(..., V)` in [0, 1].
        foreground: bool `(..., V)`.
        counted: bool `(..., V)`; voxels that do not count come last and weigh nothing.

    Returns:
        `(...)`, 0 where there is no foreground and no error.

    Example:
        >>> errors = torch.tensor([0.0, 1.0, 1.0])  # one of two foreground voxels missed, one false alarm: 1 - 1/3
        >>> round(float(lovasz_extension(errors, torch.tensor([True, True, False]), torch.ones(3, dtype=torch.bool))), 4)
        0.6667
    """
    order = torch.where(counted, errors.detach(), -1.0).argsort(-1, descending=True)
    foreground = (foreground & counted).gather(-1, order)
    background = counted.gather(-1, order) & ~foreground
    # Whole numbers and float64 ratios: neighbours of J differ by less than float32 resolves in a large volume.
    missed = foreground.cumsum(-1, dtype=torch.int64)
    union = (foreground.sum(-1, keepdim=True) + background.cumsum(-1, dtype=torch.int64)).to(torch.float64)
    kept = (foreground.sum(-1, keepdim=True) - missed).to(torch.float64)
    jaccard = 1 - kept / union.clamp_min(1)
    jaccard = torch.where(union > 0, jaccard, 0.0)
    steps = jaccard.diff(dim=-1, prepend=torch.zeros_like(jaccard[..., :1]))
    return (torch.where(counted, errors, 0.0).gather(-1, order) * steps.to(errors.dtype)).sum(-1)
