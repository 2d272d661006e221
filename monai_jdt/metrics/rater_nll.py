"""The negative log likelihood of several raters as a MONAI metric."""

from __future__ import annotations

from typing import Any

import torch

from monai_jdt.functional.rater_nll import rater_nll
from monai_jdt.metrics.rater_scores import RaterScores
from monai_jdt.validation import check_bool, check_number


class RaterNLL(RaterScores):
    r"""The negative log likelihood of what each rater says.

    Formula, conventions and errors: :func:`~monai_jdt.functional.rater_nll.rater_nll`.

    Args:
        include_background: False leaves channel 0 out.
        reduction: as in :class:`monai.metrics.DiceMetric`; a result without a defined score, an empty run's among them, is NaN.
        get_not_nans: `aggregate` returns the number of defined scores too.
        classwise: True: each channel is a binary problem. None: True for one channel and for regions, else False.
        eps: probabilities are clipped to at least this, in (0, .5).
        regions: the label values of each channel; None: channel c is value c, and a single channel is the value 1.
        ignore_index: the vote of a rater who says nothing at that voxel.
        undefined: "leave_out" or "spread": what the reduction does with an undefined score.

    Shapes:
        - y_pred: probabilities `(N, C, *S)`, or lists without N.
        - y: votes `(N, R, *S)`, different R in the items of a list; rater_weights at the call: `(N, R)` or `(R,)`, 0 = missing.
        - result of a call: `(N, 1)`, or `(N, C)` by class, float64; of `aggregate`: as the reduction says.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: an argument that makes no sense; at a call, tensors that do not fit each other.

    Example:
        >>> metric = RaterNLL()
        >>> scores = metric(torch.tensor([[[0.5, 0.5]]]), torch.tensor([[[0, 1], [1, 1]]]))
        >>> round(metric.aggregate().item(), 4)  # log 2
        0.6931
    """

    def __init__(
        self,
        include_background: bool = True,
        reduction: Any = "mean",
        get_not_nans: bool = False,
        *,
        classwise: bool | None = None,
        eps: float = 1e-7,
        regions: Any = None,
        ignore_index: int | None = None,
        undefined: Any = "leave_out",
    ) -> None:
        super().__init__(include_background, reduction, get_not_nans, regions=regions, ignore_index=ignore_index, undefined=undefined)
        self.classwise = None if classwise is None else check_bool("classwise", classwise)
        self.eps = check_number("eps", eps, 0, strict=True, high=0.5)

    def score(self, y_pred: torch.Tensor, y: torch.Tensor | None, rater_weights: Any = None) -> torch.Tensor:
        """Score a batch as the function does."""
        return rater_nll(
            y_pred, y, self.classwise, self.eps, self.rule, rater_weights=rater_weights, include_background=self.include_background
        )
