"""What masks are expected to score, as a MONAI metric that needs no label."""

from __future__ import annotations

from typing import Any

import torch

from monai_jdt.functional.expected_overlap import EmptyMatch, ExpectedScore, expected_overlap
from monai_jdt.metrics.image_scores import ImageScores
from monai_jdt.validation import check_choice


class ExpectedOverlap(ImageScores):
    """The Dice or Jaccard score that a mask is expected to have, by the probabilities that it was decided from.

    It is a confidence in each case, and its mean over cases an estimate of the score without labels, which is as good as the
    probabilities are. Formula and errors: :func:`~monai_jdt.functional.expected_overlap.expected_overlap`.

    Args:
        include_background: False leaves channel 0 out.
        reduction: as in :class:`monai.metrics.DiceMetric`; an empty run's result is NaN.
        get_not_nans: `aggregate` returns the number of scores too.
        expected: "dice" or "jaccard".
        both_empty: "one" or "zero": the score of an empty mask where the label would be empty too.

    Shapes:
        - y_pred: probabilities `(N, C, *S)`, or a list of `(C, *S)`.
        - y: the masks, of the same shape, 0 and 1.
        - result of a call: `(N, C)`, float64; of `aggregate`: as the reduction says.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: an unknown name; at a call, tensors that do not fit each other, or values outside [0, 1].

    Example:
        >>> metric = ExpectedOverlap()
        >>> scores = metric(torch.tensor([[[0.5, 0.5]]]), torch.tensor([[[1.0, 0.0]]]))
        >>> # the four labels 00, 01, 10, 11 score 0, 0, 1 and 2/3
        >>> round(metric.aggregate().item(), 4)
        0.4167
    """

    def __init__(
        self,
        include_background: bool = True,
        reduction: Any = "mean",
        get_not_nans: bool = False,
        *,
        expected: str | ExpectedScore = "dice",
        both_empty: str | EmptyMatch = "one",
    ) -> None:
        super().__init__(include_background, reduction, get_not_nans)
        self.expected = check_choice("expected", expected, ExpectedScore)
        self.both_empty = check_choice("both_empty", both_empty, EmptyMatch)

    def score(self, y_pred: torch.Tensor, y: torch.Tensor | None, rater_weights: Any = None) -> torch.Tensor:
        """Score a batch as the function does."""
        assert y is not None  # `needs_label`: the mask stands in the label's place
        first = 0 if self.include_background else 1
        return expected_overlap(y_pred[:, first:], y[:, first:], self.expected, both_empty=self.both_empty)
