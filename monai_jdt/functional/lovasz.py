"""The Lovász extension of the Jaccard loss (Berman et al., CVPR 2018, arXiv:1705.08790), for hard labels."""

from __future__ import annotations

import torch


def lovasz_extension(errors: torch.Tensor, foreground: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """Return the Lovász extension of `1 - Jaccard index`, taken at errors.

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
    # J = 1 - kept / union. Its steps are written out: in a large volume, neighbouring J are the same number in float32, and a device
    # need not have float64. A missed foreground voxel takes 1 from kept, a false alarm adds 1 to union.
    total = foreground.sum(-1, keepdim=True)
    kept = (total - foreground.cumsum(-1, dtype=torch.int64)).to(errors.dtype)
    union = (total + background.cumsum(-1, dtype=torch.int64)).to(errors.dtype)
    missed = 1 / union.clamp_min(1)
    # Without foreground, the first false alarm takes J from 0 to 1.
    false_alarm = torch.where(union == 1, 1.0, kept * missed / (union - 1).clamp_min(1))
    steps = torch.where(foreground, missed, torch.where(background, false_alarm, 0.0))
    return (torch.where(counted, errors, 0.0).gather(-1, order) * steps).sum(-1)
