"""What an undefined score is, and what it does to a mean."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

import torch

from monai_jdt.validation import check_choice

#: The score that means nothing: of two empty masks, or of no case.
UNDEFINED = float("nan")


class UndefinedPolicy(Enum):
    """What a mean does with undefined scores: leave them out, or be undefined itself."""

    LEAVE_OUT = "leave_out"
    SPREAD = "spread"


def undefined_policy_of(policy: str | UndefinedPolicy) -> UndefinedPolicy:
    """Return the policy of that name.

    Raises:
        ValueError: an unknown name.

    Example:
        >>> undefined_policy_of("spread")
        <UndefinedPolicy.SPREAD: 'spread'>
    """
    return check_choice("undefined", policy, UndefinedPolicy)


def mean_of_defined(
    scores: torch.Tensor, dim: int | Sequence[int], policy: UndefinedPolicy = UndefinedPolicy.LEAVE_OUT
) -> torch.Tensor:
    """Return the mean of scores some of which may be undefined, that is NaN.

    Every mean of this package's metrics is taken here, so that a score which means nothing can neither count as 0 nor as 1.

    Args:
        scores: floating point, any shape.
        dim: the dimension or dimensions to average over.
        policy: `LEAVE_OUT`: the mean of the defined scores; `SPREAD`: NaN as soon as one of them is NaN.

    Returns:
        The means; NaN under both policies where there is no score at all, or no defined one.

    Example:
        >>> scores = torch.tensor([[0.5, float("nan"), 1.0], [float("nan")] * 3])
        >>> mean_of_defined(scores, 1)
        tensor([0.7500,    nan])
        >>> mean_of_defined(scores, 1, UndefinedPolicy.SPREAD)
        tensor([nan, nan])
    """
    dims = [dim] if isinstance(dim, int) else list(dim)
    return scores.mean(dims) if policy is UndefinedPolicy.SPREAD else scores.nanmean(dims)
