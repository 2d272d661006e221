"""What every metric with one score for each image and class shares: calls, buffers, ranks and reductions."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from monai.data.meta_tensor import MetaTensor
from monai.metrics import CumulativeIterationMetric
from monai.utils import MetricReduction

from monai_jdt.functional.undefined import UndefinedPolicy, undefined_policy_of
from monai_jdt.metrics.gathering import rows_of_all_ranks
from monai_jdt.metrics.reduction import metric_reduction_of, nothing_scored, reduce_scores
from monai_jdt.plain_tensors import plain_tensor
from monai_jdt.validation import check_bool, error_sentence


class ImageScores(CumulativeIterationMetric):
    """A metric with scores `(N, C)`. Subclasses define :meth:`score`.

    Args:
        include_background: False leaves channel 0 out.
        reduction: as in :class:`monai.metrics.DiceMetric`: "mean", "sum", "mean_batch", "sum_batch", "mean_channel", "sum_channel",
            "none". A result to which no defined score contributes, an empty run's among them, is NaN.
        get_not_nans: `aggregate` returns the number of defined scores too.
        undefined: what the reduction does with an undefined score: "leave_out", or "spread", which makes the result undefined.
    """

    def __init__(
        self,
        include_background: bool = True,
        reduction: MetricReduction | str = "mean",
        get_not_nans: bool = False,
        *,
        undefined: str | UndefinedPolicy = "leave_out",
    ) -> None:
        super().__init__()
        self.include_background = check_bool("include_background", include_background)
        self.reduction = metric_reduction_of(reduction)
        self.get_not_nans = check_bool("get_not_nans", get_not_nans)
        self.undefined = undefined_policy_of(undefined)

    #: False in a metric of the prediction alone, whose `y` is None.
    needs_label = True

    @abstractmethod
    def score(self, y_pred: torch.Tensor, y: torch.Tensor | None, rater_weights: Any) -> torch.Tensor:
        """Score a batch.

        Args:
            y_pred: batch first; a MetaTensor stays one, and the function called has to make it plain.
            y: batch first, likewise; None for metrics of the prediction alone.
            rater_weights: `(N, R)` or `(R,)`, or None.

        Returns:
            `(N, C)`, NaN where a score is undefined.
        """

    def score_item(self, number: int, y_pred: torch.Tensor, y: torch.Tensor | None, rater_weights: Any) -> torch.Tensor:
        """Score an item of a list, as a batch of one. Metrics with an argument for each image override it.

        Args:
            number: the item's place in the list.
            y_pred: as in :meth:`score`.
            y: as there.
            rater_weights: as there.
        """
        return self.score(y_pred, y, rater_weights)

    def __call__(self, y_pred: Any, y: Any = None, rater_weights: Any = None) -> torch.Tensor:  # type: ignore[override]
        """Score images and keep the scores for :meth:`aggregate`.

        Args:
            y_pred: predictions, batch first, or a list of them, channel first.
            y: labels, batch first, or a list of as many, channel first. Items of a list may have different shapes and raters.
            rater_weights: for votes: `(N, R)` or `(R,)`, 0 = missing; with lists a list of `(R,)`, or None.

        Returns:
            Scores `(N, C)`.

        Raises:
            TypeError: no tensors.
            ValueError: lists of different lengths, or tensors that do not fit each other.
        """
        if isinstance(y_pred, list | tuple) or isinstance(y, list | tuple):
            scores = self._score_lists(y_pred, y, rater_weights)
        else:
            for name, tensor in (("y_pred", y_pred), ("y", y)):
                if tensor is not None or name == "y_pred":
                    plain_tensor(name, tensor)  # raises where it is no tensor
            scores = self.score(y_pred, y, rater_weights)
        self.extend(scores)
        return scores

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None, **kwargs: Any) -> torch.Tensor:
        return self.score(y_pred, y, kwargs.get("rater_weights"))

    def _score_lists(self, y_pred: Any, y: Any, rater_weights: Any) -> torch.Tensor:
        labels = [None] * len(y_pred) if y is None and not self.needs_label else y
        if labels is None or len(labels) != len(y_pred):
            got = "None" if labels is None else f"{len(labels)} items"
            raise ValueError(error_sentence("y", f"a label for each of the {len(y_pred)} predictions", got))
        weights = [rater_weights] * len(y_pred) if rater_weights is None or isinstance(rater_weights, torch.Tensor) else rater_weights
        if isinstance(rater_weights, torch.Tensor) and rater_weights.ndim == 2:
            weights = list(rater_weights)
        if len(weights) != len(y_pred):
            raise ValueError(
                error_sentence("rater_weights", f"weights for each of the {len(y_pred)} predictions", f"{len(weights)} items")
            )
        rows = [
            self.score_item(
                number,
                _batch_of_one("y_pred", p),
                None if label is None else _batch_of_one("y", label),
                None if weight is None else torch.as_tensor(weight, device="cpu"),
            )
            for number, (p, label, weight) in enumerate(zip(y_pred, labels, weights, strict=True))
        ]
        return torch.cat(rows) if rows else torch.empty(0, 0, dtype=torch.float64, device="cpu")

    def extend(self, *data: Any) -> None:
        """Keep scores for `aggregate`. A batch without an image, which MONAI's buffer cannot hold, adds nothing."""
        if len(data[0]) > 0:
            super().extend(*data)

    def _sync(self) -> None:
        # never kept: a rank with further cases would gather again while the others use what they have
        own = None if self._buffers is None else torch.stack(self._buffers[0])
        every = rows_of_all_ranks(own)
        self._synced_tensors = None if every is None else [every]

    def aggregate(self, reduction: MetricReduction | str | None = None) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Reduce the scores of all calls since the last `reset`, those of other processes included.

        Every process has to call it equally often; one without a case takes part.

        Args:
            reduction: instead of the constructor's.

        Returns:
            The result, float64 (on Apple's MPS, which has no float64, float32); with `get_not_nans` also the number of defined
            scores. NaN, and 0, where there was no image.
        """
        scores = self.get_buffer()
        if scores is None:
            # the number of classes is not known, so neither is the shape
            result, number = nothing_scored()
        else:
            result, number = reduce_scores(scores, metric_reduction_of(reduction or self.reduction), self.undefined)
        return (result, number) if self.get_not_nans else result


def _batch_of_one(name: str, item: Any) -> torch.Tensor:
    """Return one image as a batch, with its affine if it has one."""
    batch = plain_tensor(name, item).detach()[None]
    return MetaTensor(batch, meta=dict(item.meta), device=batch.device) if isinstance(item, MetaTensor) else batch
