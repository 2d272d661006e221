"""The Jaccard and Dice distances between any two non-negative vectors, with a gradient to both."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

import torch
from torch.nn import functional as F
from torch.nn.modules.loss import _Loss

from monai_jdt.checks import check_non_negative, check_pair
from monai_jdt.definitions import RatioRule
from monai_jdt.definitions.recipes import REDUCTIONS
from monai_jdt.functional.overlap import overlap_sums, ratio_loss
from monai_jdt.losses._script import NotScriptable
from monai_jdt.plain_tensors import kept_for_backward, plain_tensor
from monai_jdt.validation import check_int, check_name, check_number, check_sequence, error_sentence

_NEGATIVE = ("refuse", "softplus", "sigmoid")


class JaccardDistance(NotScriptable, _Loss):
    r"""The Jaccard (Tanimoto, Ruzicka) distance :math:`1 - \frac{\sum \min(x, y)}{\sum \max(x, y)}` of non-negative vectors: a metric.

    The quantity of :class:`~monai_jdt.losses.JaccardMetricLoss`, for other uses: features, histograms, weights.

    Args:
        dim: the dimension, or dimensions, along which a vector lies.
        reduction: "mean", "sum" or "none".
        smooth: >= 0, added to ``2 sum min`` above and below, as the losses do; 0: none.
        negative: what to do with negative numbers. "refuse" them; or map every number of both vectors by "softplus" or "sigmoid"
            first. The distance is not usable for signed vectors as such: where x and y have opposite signs its two usual forms are
            flat, or push x to minus infinity, so features are scaled to the positive domain first (FAQ of the authors' code of
            arXiv:2302.05666).

    Shapes:
        - x, y: the same, floating point.
        - result: float32 or wider, in [0, 1]: a scalar, or with ``reduction="none"`` the shape without ``dim``. Two zero vectors: 0.
          Nothing to reduce: 0.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: shapes that differ; negative numbers (where values are checked; elsewhere they make the result NaN).

    Example:
        >>> import torch
        >>> x, y = torch.tensor([3.0, 0.0, 1.0]), torch.tensor([1.0, 2.0, 1.0])
        >>> round(float(JaccardDistance()(x, y)), 4)  # 1 - (1 + 0 + 1) / (3 + 2 + 1)
        0.6667
    """

    _coefficient = 1.0

    def __init__(
        self, dim: int | Sequence[int] = -1, reduction: str = "mean", smooth: float = 0.0, *, negative: str = "refuse"
    ) -> None:
        super().__init__()
        dims = [dim] if isinstance(dim, Integral | str) else check_sequence("dim", dim, "a dimension or a sequence of them")
        self.dim = tuple(check_int("dim", d) for d in dims)
        if not self.dim:
            raise ValueError(error_sentence("dim", "at least one dimension", "none"))
        self.reduction = check_name("reduction", reduction, REDUCTIONS)
        self.negative = check_name("negative", negative, _NEGATIVE)
        smooth = check_number("smooth", smooth, 0)
        self.rule = RatioRule(self._coefficient, self._coefficient, smooth_nr=smooth, smooth_dr=smooth, smooths_double=True)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Return the distance.

        Args:
            x: one vector, or many.
            y: as many, of the same shape.

        Returns:
            See the class.

        Raises:
            TypeError: no floating point tensors.
            ValueError: shapes that differ, or negative numbers.
        """
        x, y = kept_for_backward(plain_tensor("x", x)), kept_for_backward(plain_tensor("y", y))
        check_pair(x, y)
        for d in self.dim:
            if not -x.ndim <= d < x.ndim:
                raise ValueError(error_sentence("dim", f"{-x.ndim} to {x.ndim - 1} for shape {tuple(x.shape)}", str(d)))
        if len({d % x.ndim for d in self.dim}) < len(self.dim):
            raise ValueError(error_sentence("dim", f"different dimensions for shape {tuple(x.shape)}", str(self.dim)))
        wide = torch.promote_types(torch.promote_types(x.dtype, y.dtype), torch.float32)
        x, y = x.to(wide), y.to(wide)
        if self.negative == "refuse":
            check_non_negative(x, y)
            x, y = (torch.where(v < 0, float("nan"), v) for v in (x, y))
        else:
            positive = F.softplus if self.negative == "softplus" else torch.sigmoid
            x, y = positive(x), positive(y)
        distance = ratio_loss(*overlap_sums(x, y, self.dim), self.rule)
        if self.reduction == "none":
            return distance
        total = distance.sum()
        return total if self.reduction == "sum" else total / max(distance.numel(), 1)

    def extra_repr(self) -> str:
        """Return the settings."""
        return f"dim={self.dim}, reduction={self.reduction}, smooth={self.rule.smooth_dr:g}, negative={self.negative}"


class DiceDistance(JaccardDistance):
    r"""The Dice (Bray-Curtis) distance :math:`1 - \frac{2 \sum \min(x, y)}{\sum x + \sum y}` of non-negative vectors: a semimetric.

    The quantity of :class:`~monai_jdt.losses.DiceSemimetricLoss`. Symmetric, 0 only for equal vectors, but the triangle inequality
    can fail (arXiv:2303.16296). Arguments, shapes and errors as :class:`JaccardDistance`.

    Example:
        >>> import torch
        >>> x, y = torch.tensor([3.0, 0.0, 1.0]), torch.tensor([1.0, 2.0, 1.0])
        >>> float(DiceDistance()(x, y))  # 1 - 2 * 2 / (4 + 4)
        0.5
    """

    _coefficient = 0.5
