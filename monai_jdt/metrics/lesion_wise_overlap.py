"""BraTS' lesion-wise scores as a MONAI metric."""

from __future__ import annotations

from typing import Any

import torch

from monai_jdt.functional.lesion_wise_overlap import LesionRule, LesionScore, lesion_wise_overlap
from monai_jdt.metrics.image_scores import ImageScores
from monai_jdt.metrics.volume_crps import spacing_of
from monai_jdt.validation import check_choice


class LesionWiseOverlap(ImageScores):
    """The Dice score or the 95 % Hausdorff distance of each lesion, as in the BraTS challenges from 2023 on.

    It needs scipy. Formula, conventions and errors: :mod:`monai_jdt.functional.lesion_wise_overlap`.

    Args:
        include_background: False leaves channel 0 out.
        reduction: as in :class:`monai.metrics.DiceMetric`; an empty run's result is NaN.
        get_not_nans: `aggregate` returns the number of scores too.
        kind: "dice" or "hd95", in mm.
        dilation: steps by which lesions are dilated. Components that then meet are one lesion.
        smallest: mm3; lesions up to this volume do not count.
        penalty: mm; the distance of a lesion that is missed, and of a component that is none.

    Shapes:
        - y_pred: masks `(N, C, X, Y, Z)`, or lists of `(C, X, Y, Z)`. Voxel sizes are those of a MetaTensor, else 1 mm.
        - y: reference masks of the same shape.
        - result of a call: `(N, C)`, float64; of `aggregate`: as the reduction says.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: an argument that makes no sense; at a call, no volumes, or shapes that differ.

    Example:
        >>> reference = torch.zeros(1, 1, 20, 20, 20)
        >>> reference[..., 2:8, 2:8, 2:8] = 1
        >>> mask = reference.clone()
        >>> mask[..., 15:17, 15:17, 15:17] = 1  # far from it
        >>> scores = LesionWiseOverlap()(mask, reference)
        >>> scores.item()  # one lesion that is found, one that is not there
        0.5
    """

    def __init__(
        self,
        include_background: bool = True,
        reduction: Any = "mean",
        get_not_nans: bool = False,
        *,
        kind: str | LesionScore = "dice",
        dilation: int = 3,
        smallest: float = 50.0,
        penalty: float = 374.0,
    ) -> None:
        super().__init__(include_background, reduction, get_not_nans)
        self.kind = check_choice("kind", kind, LesionScore)
        self.rule = LesionRule(dilation, smallest, penalty)

    def score(self, y_pred: torch.Tensor, y: torch.Tensor | None, rater_weights: Any = None) -> torch.Tensor:
        """Score a batch as the function does."""
        assert y is not None  # `needs_label`
        first = 0 if self.include_background else 1
        spacing = spacing_of(y_pred) or spacing_of(y)
        return lesion_wise_overlap(y_pred[:, first:], y[:, first:], self.kind, spacing, self.rule)
