"""What every metric against several raters shares: how their votes are read."""

from __future__ import annotations

from typing import Any

from monai.utils import MetricReduction

from monai_jdt.functional.metric_labels import label_rule
from monai_jdt.functional.undefined import UndefinedPolicy
from monai_jdt.metrics.image_scores import ImageScores


class RaterScores(ImageScores):
    """A metric against votes `(N, R, *S)`.

    Args:
        include_background: as in :class:`~monai_jdt.metrics.image_scores.ImageScores`.
        reduction: as there.
        get_not_nans: as there.
        regions: the label values of each channel, such as `[[1, 4], [1, 2, 4], [4]]`; None: channel c is value c, and a single channel
            the value 1.
        ignore_index: the vote of a rater who says nothing at a voxel.
        undefined: as there.
    """

    def __init__(
        self,
        include_background: bool = True,
        reduction: MetricReduction | str = "mean",
        get_not_nans: bool = False,
        *,
        regions: Any = None,
        ignore_index: int | None = None,
        undefined: str | UndefinedPolicy = "leave_out",
    ) -> None:
        super().__init__(include_background, reduction, get_not_nans, undefined=undefined)
        self.rule = label_rule(True, regions, ignore_index)
