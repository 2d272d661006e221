r"""BraTS' lesion-wise scores: the Dice score and the 95 % Hausdorff distance of each lesion, with those that are missed or invented.

The definition is that of the BraTS challenges from 2023 on. Lesions are the components of the reference. Components that meet when they
are dilated are one lesion. A component of the mask belongs to every lesion whose dilation it touches. Neighbours share a face, an
edge or a corner, and a step of the dilation goes over faces and edges.

.. math::
    \mathrm{Dice} = \frac{\sum_l \mathrm{Dice}(l, S_l)}{L + F}, \qquad
    \mathrm{HD95} = \frac{\sum_l \mathrm{HD95}(l, S_l) + F \cdot \mathrm{penalty}}{L + F}

with L the lesions l above the smallest volume, S_l the components that belong to l, and F the components that belong to no lesion. A
lesion without a component scores 0 and the penalty. Without lesions and without F, Dice is 1 and HD95 is 0.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import torch
from monai.metrics.utils import get_edge_surface_distance
from monai.utils import optional_import

from monai_jdt.plain_tensors import plain_tensor
from monai_jdt.validation import check_int, check_number, error_sentence

_ndimage, _ = optional_import("scipy.ndimage")


class LesionScore(Enum):
    """The score of a lesion."""

    DICE = "dice"
    HD95 = "hd95"


@dataclass(frozen=True)
class LesionRule:
    """What a lesion is. The defaults are BraTS' for gliomas. For meningiomas `dilation` is 1, for metastases 1 and `smallest` 2.

    Args:
        dilation: steps by which lesions are dilated.
        smallest: mm3; lesions up to this volume do not count.
        penalty: mm; the distance of a lesion that is missed, and of a component that is none.

    Raises:
        TypeError: no numbers.
        ValueError: a number below 0, or a dilation below 1.
    """

    dilation: int = 3
    smallest: float = 50.0
    penalty: float = 374.0

    def __post_init__(self) -> None:
        if check_int("dilation", self.dilation) < 1:
            raise ValueError(error_sentence("dilation", "a whole number of at least 1", str(self.dilation)))
        check_number("smallest", self.smallest, 0)
        check_number("penalty", self.penalty, 0)


def lesion_wise_overlap(
    y_pred: Any,
    y: Any,
    score: LesionScore = LesionScore.DICE,
    spacing: Sequence[Sequence[float]] | None = None,
    rule: LesionRule | None = None,
) -> torch.Tensor:
    """Score masks lesion by lesion, in each image and class.

    Args:
        y_pred: masks `(N, C, X, Y, Z)`, 0 and 1.
        y: reference masks of the same shape.
        score: Dice or HD95, in mm. Distances are between surfaces, weighted by area.
        spacing: voxel sizes of each image, mm; None: 1 mm.
        rule: what a lesion is; None: the defaults.

    Returns:
        `(N, C)`, float64.

    Raises:
        TypeError: no tensors.
        ValueError: no volumes, shapes that differ, values other than 0 and 1, or a spacing that is not three lengths.
        ImportError: scipy is not installed.

    Example:
        >>> mask = torch.zeros(1, 1, 9, 9, 9)
        >>> mask[..., 2:6, 2:6, 2:6] = 1  # 64 mm3
        >>> lesion_wise_overlap(mask, mask).item(), lesion_wise_overlap(torch.zeros_like(mask), mask, LesionScore.HD95).item()
        (1.0, 374.0)
    """
    masks, references = plain_tensor("y_pred", y_pred), plain_tensor("y", y)
    if masks.shape != references.shape or masks.ndim != 5:
        got = f"{tuple(masks.shape)} and {tuple(references.shape)}"
        raise ValueError(error_sentence("y_pred, y", "two tensors of one shape (N, C, X, Y, Z)", got, "pass masks of volumes"))
    rule = rule or LesionRule()
    found = torch.empty(masks.shape[:2], dtype=torch.float64, device="cpu")
    for image in range(masks.shape[0]):
        steps = (1.0, 1.0, 1.0) if spacing is None else tuple(float(step) for step in spacing[image])
        if len(steps) != 3 or not min(steps) > 0:
            raise ValueError(error_sentence("spacing", "three lengths > 0 in mm for each image", str(steps)))
        for channel in range(masks.shape[1]):
            mask, reference = _mask("y_pred", masks[image, channel]), _mask("y", references[image, channel])
            found[image, channel] = _score_of_pair(mask, reference, score, steps, rule)
    return found


def _mask(name: str, values: torch.Tensor) -> np.ndarray:
    found = values.detach().cpu().numpy()
    wrong = found[(found != 0) & (found != 1)]
    if wrong.size:
        raise ValueError(error_sentence(name, "masks of 0 and 1", f"{wrong[0]:g}", "decide a mask first, by DecideMask or AsDiscrete"))
    return found != 0


def _score_of_pair(mask: np.ndarray, reference: np.ndarray, score: LesionScore, steps: tuple[float, ...], rule: LesionRule) -> float:
    corners = _ndimage.generate_binary_structure(3, 3)
    components, number = _ndimage.label(mask, corners)
    grown = _ndimage.binary_dilation(reference, _ndimage.generate_binary_structure(3, 2), rule.dilation)
    grown, lesions = _ndimage.label(grown, corners)
    # the components of each lesion, as rows of (lesion, component)
    pairs = np.unique(np.stack([grown[mask], components[mask]]), axis=1)
    pairs = pairs[:, pairs[0] > 0]
    scores = [0.0 if score is LesionScore.DICE else rule.penalty] * (number - len(np.unique(pairs[1])))
    for lesion in range(1, lesions + 1):
        own = (grown == lesion) & reference
        if own.sum() * np.prod(steps) <= rule.smallest:
            continue
        matched = np.isin(components, pairs[1, pairs[0] == lesion])
        if score is LesionScore.DICE:
            scores.append(2 * float((matched & own).sum()) / float(matched.sum() + own.sum()))
        else:
            scores.append(_surface_hd95(matched, own, steps) if matched.any() else rule.penalty)
    if scores:
        return float(np.mean(scores))
    return 1.0 if score is LesionScore.DICE else 0.0


def _surface_hd95(mask: np.ndarray, reference: np.ndarray, steps: tuple[float, ...]) -> float:
    """The larger one of both directions: the distance up to which 95 % of a surface's area lie from the other surface."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # MONAI 1.6.1 calls itself with an argument that it has deprecated
        edges, distances, areas = get_edge_surface_distance(
            torch.from_numpy(mask), torch.from_numpy(reference), spacing=list(steps), use_subvoxels=True, symmetric=True
        )
    largest = 0.0
    for edge, distance, area in zip(edges, distances, areas, strict=True):
        order = torch.argsort(distance)
        share = area[edge][order].double().cumsum(0) / area[edge].double().sum()
        largest = max(largest, float(distance[order][min(int(torch.searchsorted(share, 0.95)), len(share) - 1)]))
    return largest
