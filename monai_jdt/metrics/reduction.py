"""MONAI's reductions of a score for each image and class, with undefined scores that stay undefined."""

from __future__ import annotations

import torch
from monai.utils import MetricReduction

from monai_jdt.functional.undefined import UndefinedPolicy, mean_of_defined
from monai_jdt.validation import check_choice, error_sentence


def metric_reduction_of(reduction: str | MetricReduction) -> MetricReduction:
    """Return the reduction of that name.

    Raises:
        ValueError: an unknown name.
    """
    return check_choice("reduction", reduction, MetricReduction)


def reduce_scores(
    scores: torch.Tensor, reduction: MetricReduction, policy: UndefinedPolicy = UndefinedPolicy.LEAVE_OUT
) -> tuple[torch.Tensor, torch.Tensor]:
    """Reduce scores `(N, C)` as MONAI does, except that nothing defined gives NaN where MONAI gives 0.

    Args:
        scores: `(N, C)`; NaN is undefined.
        reduction: "mean" is the mean over an image's classes, then over images; "mean_batch" and "sum_batch" keep the classes,
            "mean_channel" and "sum_channel" the images; "none" changes nothing.
        policy: what undefined scores do to means and sums.

    Returns:
        The result, and how many defined scores it comes from: for "mean", how many images with a defined score.

    Example:
        >>> nan = float("nan")
        >>> result, defined = reduce_scores(torch.tensor([[0.5, nan], [1.0, 0.0], [nan, nan]]), MetricReduction.MEAN)
        >>> float(result), int(defined)
        (0.5, 2)
    """
    known = ~scores.isnan()
    if reduction is MetricReduction.NONE:
        return scores, known.float()
    if reduction is MetricReduction.MEAN:
        of_images = mean_of_defined(scores, 1, policy)
        return mean_of_defined(of_images, 0, policy), known.any(1).sum().float()
    dims = {MetricReduction.SUM: (0, 1)}.get(reduction, (0,) if "batch" in reduction else (1,))
    result = mean_of_defined(scores, dims, policy)
    number = known.sum(dims)
    if reduction.startswith("sum"):
        # nothing defined: NaN times 0, still NaN
        result = result * number
    return result, number.float()


def nothing_scored() -> tuple[torch.Tensor, torch.Tensor]:
    """Return the result of a run without an image, and the number of its scores: NaN, and 0."""
    # "cpu": no tensor says where, and a default device may hold no values
    return torch.tensor(float("nan"), dtype=torch.float64, device="cpu"), torch.tensor(0.0, device="cpu")


def reduce_classes(
    scores: torch.Tensor, reduction: MetricReduction, policy: UndefinedPolicy = UndefinedPolicy.LEAVE_OUT
) -> tuple[torch.Tensor, torch.Tensor]:
    """Reduce scores `(C,)` that are pooled over a data set and have no images.

    Args:
        scores: `(C,)`; NaN is undefined.
        reduction: "mean", "sum" or "none".
        policy: what undefined scores do to means and sums.

    Returns:
        The result, and how many defined scores it is made of.

    Raises:
        ValueError: another reduction.
    """
    known = ~scores.isnan()
    if reduction is MetricReduction.NONE:
        return scores, known.float()
    if reduction not in (MetricReduction.MEAN, MetricReduction.SUM):
        expected = "'mean', 'sum' or 'none' for scores of a data set, which has classes only"
        raise ValueError(error_sentence("reduction", expected, repr(reduction.value)))
    mean, number = mean_of_defined(scores, 0, policy), known.sum().float()
    return (mean if reduction is MetricReduction.MEAN else mean * number), number
