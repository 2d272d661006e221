"""The continuous ranked probability score of a predicted volume against the raters' volumes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import Enum
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from monai_jdt.functional.metric_labels import VOTES, LabelRule, as_rows, read_prediction, read_rater_stack, wide_dtype
from monai_jdt.validation import error_sentence


class CrpsKind(Enum):
    """The distribution of the raters' volumes: as it is, a Gaussian, or the CURVAS challenge's approximation of that Gaussian."""

    EMPIRICAL = "empirical"
    GAUSSIAN = "gaussian"
    CURVAS = "curvas"


def volume_crps(
    y_pred: Any,
    y: Any,
    kind: CrpsKind = CrpsKind.EMPIRICAL,
    spacing: Sequence[float] | Sequence[Sequence[float]] | None = None,
    rule: LabelRule = VOTES,
    *,
    rater_weights: Any = None,
    include_background: bool = True,
) -> torch.Tensor:
    r"""Score a predicted volume v against the distribution F of the raters' volumes: :math:`\int (F(x) - 1[x \ge v])^2 dx`.

    v is the sum of the probability, a rater's volume the number of marked voxels, both times the volume of a voxel.

    * "empirical": F gives each rater's volume its weight: :math:`E|V - v| - \frac12 E|V - V'|`.
    * "gaussian": F has the raters' mean and standard deviation (divided by R): with z = (v - mean) / sd,
      :math:`sd\,(z (2\Phi(z) - 1) + 2\varphi(z) - 1/\sqrt\pi)`. One rater, or sd 0: :math:`|v - mean|`, the limit.
    * "curvas": reproduces the CURVAS challenge (MICCAI 2024): the Gaussian's F is interpolated between 100 points from its 1 % to its
      99 % quantile, 0 and 1 beyond, and integrated over mean +- 3 sd only. So it saturates far from the raters: 19.9 where "gaussian"
      is 95.4, for v = 200 and raters of 90, 100, 110. Take it to compare with the challenge, not to judge a model.

    A rater that says nothing at some voxels has no volume and is left out.

    Args:
        y_pred: probabilities, `(N, C, *S)`, in [0, 1].
        y: votes `(N, R, *S)`.
        kind: which distribution.
        spacing: voxel sizes along the axes of space, mm, of all images or one row for each; None: 1 each.
        rule: regions and the ignored value; `rule.votes` is True.
        rater_weights: `(N, R)` or `(R,)`, 0 = missing; other unequal weights for "empirical" only. None: 1 each.
        include_background: False leaves channel 0 out.

    Returns:
        `(N, C)`, or `(N, C - 1)`, >= 0, float64 (Apple's MPS: float32): ml in 3D, cm2 in 2D (mm in 1D). NaN without a rater's volume.

    Raises:
        TypeError: no tensors.
        ValueError: shapes that do not fit, a spacing that is not one positive number for each axis, or unequal weights.

    Example:
        >>> p, votes = torch.full((1, 1, 10, 10, 10), 0.5), torch.zeros(1, 2, 10, 10, 10, dtype=torch.int64)
        >>> votes[0, 0] = 1  # 1000 and 0 voxels of 1 mm3 against 500: E|V - v| = .5 ml, E|V - V'| = .5 ml
        >>> volume_crps(p, votes)
        tensor([[0.2500]], dtype=torch.float64)
    """
    prob = read_prediction(y_pred, include_background)
    stack = read_rater_stack(prob, y, rule, rater_weights)
    if kind is not CrpsKind.EMPIRICAL:
        stack.check_equal_weights(f"kind {kind.value!r}")
    rows, first = as_rows(prob), 0 if include_background else 1
    scores: list[list[float]] = []
    for image, unit in enumerate(_voxel_volumes(spacing, prob.shape[0], prob.ndim - 2)):
        whole = [rater for rater in stack.raters(image) if (speaks := stack.speaks(image, rater)) is None or bool(speaks.all())]
        weights = np.array([stack.weights[image][rater] for rater in whole])
        scores.append([])
        for channel in range(first, prob.shape[1]):
            volume = unit * float(rows[image, channel].sum(dtype=wide_dtype(prob.device)))
            volumes = np.array([unit * int(torch.count_nonzero(stack.marks(image, rater, channel))) for rater in whole])
            scores[-1].append(_crps(volume, volumes, weights, kind) if whole else math.nan)
    return torch.tensor(scores, dtype=wide_dtype(prob.device), device=prob.device).reshape(len(prob), prob.shape[1] - first)


def _voxel_volumes(spacing: Sequence[float] | Sequence[Sequence[float]] | None, images: int, dimensions: int) -> list[float]:
    """Return the volume of a voxel of each image, in ml or cm2."""
    steps = np.ones(dimensions) if spacing is None else np.asarray(spacing, dtype=np.float64)
    if steps.shape not in ((dimensions,), (images, dimensions)) or not ((steps > 0) & np.isfinite(steps)).all():
        expected = f"{dimensions} positive numbers, mm along each axis of space"
        raise ValueError(error_sentence("spacing", expected, str(steps.tolist())))
    # mm3 to ml, mm2 to cm2
    scale = {3: 1000.0, 2: 100.0}.get(dimensions, 1.0)
    return (np.broadcast_to(steps, (images, dimensions)).prod(axis=1) / scale).tolist()


def _crps(volume: float, volumes: np.ndarray, weights: np.ndarray, kind: CrpsKind) -> float:
    shares = weights / weights.sum()
    if kind is CrpsKind.EMPIRICAL:
        between = np.abs(volumes[:, None] - volumes[None])
        return float(shares @ np.abs(volumes - volume) - 0.5 * shares @ between @ shares)
    mean, deviation = float(volumes.mean()), float(volumes.std())
    if deviation == 0:
        return abs(volume - mean)
    z = (volume - mean) / deviation
    if kind is CrpsKind.CURVAS:
        return deviation * _curvas_integral(z)
    density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return deviation * (z * math.erf(z / math.sqrt(2)) + 2 * density - 1 / math.sqrt(math.pi))


#: The 99 % quantile of the standard normal distribution, the end of the challenge's table.
_QUANTILE_99 = 2.3263478740408408


def _curvas_integral(z: float) -> float:
    """Return the integral of (F - 1[x >= z])^2 over -3 to 3, F the interpolated distribution of a standard normal variable.

    F is linear between the points, so that Simpson's rule is exact on each piece.
    """
    points = np.linspace(-_QUANTILE_99, _QUANTILE_99, 100)
    values = np.array([0.5 * (1 + math.erf(x / math.sqrt(2))) for x in points])
    ends = np.unique(np.concatenate([[-3.0, 3.0], points, [z] if -3 < z < 3 else []]))
    total = 0.0
    for low, high in pairwise(ends):
        middle = (low + high) / 2
        step = 1.0 if middle >= z else 0.0
        # the table has jumps at its ends: the values just inside of this piece
        inside = [np.interp(x, points, values) if abs(middle) < _QUANTILE_99 else float(middle > 0) for x in (low, middle, high)]
        squares = [(value - step) ** 2 for value in inside]
        total += (high - low) * (squares[0] + 4 * squares[1] + squares[2]) / 6
    return total
