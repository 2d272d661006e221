"""The CRPS of a predicted volume as a MONAI metric."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

import torch
from monai.data.meta_tensor import MetaTensor

from monai_jdt.data.files.grids import voxel_edges
from monai_jdt.functional.volume_crps import CrpsKind, volume_crps
from monai_jdt.metrics.rater_scores import RaterScores
from monai_jdt.validation import check_choice, check_number, check_sequence, error_sentence


class VolumeCRPS(RaterScores):
    r"""The continuous ranked probability score of a predicted volume against the raters' volumes.

    Formula, conventions and errors: :func:`~monai_jdt.functional.volume_crps.volume_crps`.

    Args:
        include_background: False leaves channel 0 out.
        reduction: as in :class:`monai.metrics.DiceMetric`; a result without a defined score, an empty run's among them, is NaN.
        get_not_nans: `aggregate` returns the number of defined scores too.
        kind: "empirical", "gaussian", or "curvas" to compare with that challenge.
        spacing: voxel sizes along the axes of space, mm, of all images, or a row for each image of a call; None: those of each image,
            if `y_pred` or else `y` is a MetaTensor, or 1.
        regions: the label values of each channel; None: channel c is value c, and a single channel is the value 1.
        ignore_index: the vote of a rater who says nothing at that voxel.
        undefined: "leave_out" or "spread": what the reduction does with an undefined score.

    Shapes:
        - y_pred: probabilities `(N, C, *S)`, or lists without N.
        - y: votes `(N, R, *S)`, different R in the items of a list; rater_weights at the call: `(N, R)` or `(R,)`, 0 = missing.
        - result of a call: `(N, C)`, ml in 3D, cm2 in 2D, float64; of `aggregate`: as the reduction says.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: an argument that makes no sense; at a call, tensors that do not fit each other.

    Example:
        >>> metric = VolumeCRPS(spacing=[10, 10])
        >>> scores = metric(torch.ones(1, 1, 2, 2), torch.tensor([[[[1, 1], [0, 0]]]]))  # 4 cm2 against one rater's 2
        >>> metric.aggregate().item()
        2.0
    """

    def __init__(
        self,
        include_background: bool = True,
        reduction: Any = "mean",
        get_not_nans: bool = False,
        *,
        kind: str | CrpsKind = "empirical",
        spacing: Sequence[float] | Sequence[Sequence[float]] | None = None,
        regions: Any = None,
        ignore_index: int | None = None,
        undefined: Any = "leave_out",
    ) -> None:
        super().__init__(include_background, reduction, get_not_nans, regions=regions, ignore_index=ignore_index, undefined=undefined)
        self.kind = check_choice("kind", kind, CrpsKind)
        self.spacing = None if spacing is None else _checked_spacing(spacing)

    def score(self, y_pred: torch.Tensor, y: torch.Tensor | None, rater_weights: Any = None) -> torch.Tensor:
        """Score a batch as the function does."""
        spacing = self.spacing or spacing_of(y_pred) or spacing_of(y)
        return self._scored(y_pred, y, rater_weights, spacing)

    def score_item(self, number: int, y_pred: torch.Tensor, y: torch.Tensor | None, rater_weights: Any) -> torch.Tensor:
        """Score an item of a list, with its own row of spacings where there are several."""
        if self.spacing is None or not isinstance(self.spacing[0], tuple):
            return self.score(y_pred, y, rater_weights)
        return self._scored(y_pred, y, rater_weights, self.spacing[number])

    def _score_lists(self, y_pred: Any, y: Any, rater_weights: Any) -> torch.Tensor:
        if self.spacing is not None and isinstance(self.spacing[0], tuple) and len(self.spacing) != len(y_pred):
            expected = f"a row for each of the {len(y_pred)} predictions, or one row of numbers for all"
            raise ValueError(error_sentence("spacing", expected, f"{len(self.spacing)} rows"))
        return super()._score_lists(y_pred, y, rater_weights)

    def _scored(self, y_pred: torch.Tensor, y: torch.Tensor | None, rater_weights: Any, spacing: Any) -> torch.Tensor:
        return volume_crps(
            y_pred, y, self.kind, spacing, self.rule, rater_weights=rater_weights, include_background=self.include_background
        )


def _checked_spacing(spacing: Any) -> tuple[float, ...] | tuple[tuple[float, ...], ...]:
    """Return voxel sizes, or rows of them, as positive numbers."""
    expected = "voxel sizes, mm along each axis of space, or a row of them for each image"
    steps = check_sequence("spacing", spacing, expected)
    if not steps:
        raise ValueError(error_sentence("spacing", expected, "nothing"))
    if isinstance(steps[0], Real):
        return tuple(check_number("spacing", step, 0, strict=True) for step in steps)
    rows = [check_sequence("spacing", row, expected) for row in steps]
    return tuple(tuple(check_number("spacing", step, 0, strict=True) for step in row) for row in rows)


def spacing_of(images: torch.Tensor | None) -> list[list[float]] | None:
    """Return the voxel sizes of each image of a MetaTensor `(N, C, *S)`, or None for other tensors.

    A voxel's edge is a column of the affine over all rows: the axes of a sagittal picture are not the first two of space.

    Args:
        images: the images, batch first.
    """
    if not isinstance(images, MetaTensor):
        return None
    affines = images.affine if images.affine.ndim == 3 else images.affine[None].expand(len(images), -1, -1)
    return [voxel_edges(affine.cpu().numpy())[: images.ndim - 2].tolist() for affine in affines]
