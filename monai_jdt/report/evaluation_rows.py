"""Every score of one case's prediction against its raters, as rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from monai_jdt.data.files.foreground import Foreground
from monai_jdt.data.files.grids import VoxelGrid, voxel_edges, without_last_ones
from monai_jdt.data.files.volumes import WITHOUT_PLACE
from monai_jdt.functional.expected_overlap import best_expected_mask, expected_overlap
from monai_jdt.functional.generalized_energy_distance import generalized_energy_distance
from monai_jdt.functional.metric_labels import LabelRule
from monai_jdt.functional.rater_brier_score import BrierPart, rater_brier_score
from monai_jdt.functional.rater_dice import EmptyPair, RaterDiceKind, rater_dice
from monai_jdt.functional.rater_nll import rater_nll
from monai_jdt.functional.region_members import region_members
from monai_jdt.functional.set_overlap import SetOverlap, set_overlap
from monai_jdt.functional.soft_overlap import OverlapKind, soft_overlap
from monai_jdt.functional.thresholded_dice import THRESHOLD_PRESETS, thresholded_dice
from monai_jdt.functional.volume_crps import volume_crps
from monai_jdt.report.challenge_scores import challenge_scores
from monai_jdt.report.prediction_files import PredictionKind, read_region_prediction
from monai_jdt.transforms.load_raters import LoadRaters

#: The columns of a row.
EVALUATION_COLUMNS = ("model", "case", "patient", "region", "rater", "score", "value")
#: Scores, what they are, and whether more is better; None: neither, so that models are not compared by it.
EVALUATION_SCORES: dict[str, tuple[str, bool | None]] = {
    "dice_raters": ("Dice with each rater, mean", True),
    "dice_majority": ("Dice with the majority", True),
    "qubiq_dice": ("thresholded Dice (QUBIQ)", True),
    "soft_dice": ("soft Dice with the mean rater", True),
    "soft_jaccard": ("soft Jaccard with the mean rater", True),
    "ged": ("generalised energy distance, squared", False),
    "brier": ("Brier score over raters", False),
    "brier_distance": ("Brier score without the raters' spread", False),
    "nll": ("negative log-likelihood", False),
    "volume_error": ("CRPS of the volume, ml or cm\u00b2", False),
    "volume_error_voxels": ("CRPS of the volume, voxels", False),
    "expected_dice": ("expected Dice of the mask, without a label", None),
    "brats_dice": ("lesion-wise Dice (BraTS)", True),
    "brats_hd95": ("lesion-wise HD95 (BraTS), mm", False),
    "curvas_crps": ("CRPS of the volume (CURVAS), ml or cm\u00b2", False),
    "curvas_consensus_dice": ("Dice where the raters agree (CURVAS)", True),
    "curvas_dice": ("thresholded Dice (CURVAS-PDACVI)", True),
}


@dataclass(frozen=True)
class EvaluationCase:
    """A case and its prediction.

    Args:
        model: the name of the predictions.
        name: the case's.
        patient: whose it is.
        prediction: the file.
        files: each rater's label map.
        raters: each rater's name.
        regions: name to label values.
        kind: what the numbers of the prediction are.
        decision: "threshold" (.5), "expected_dice" or "expected_jaccard": how masks are made of probabilities.
        empty_below: a mask that is expected to score less is empty; see :class:`monai_jdt.transforms.DecideMask`.
        challenge: whose scores are added: see :func:`monai_jdt.report.challenge_scores.challenge_scores`.
        exclusive: whether no voxel can be in two regions; see :func:`decided_mask`.
        foreground: of the raters' files; see :class:`monai_jdt.transforms.LoadRaters`.
    """

    model: str
    name: str
    patient: str
    prediction: str
    files: tuple[str, ...]
    raters: tuple[str, ...]
    regions: Mapping[str, tuple[int, ...]]
    kind: PredictionKind = PredictionKind.AUTO
    decision: str = "threshold"
    empty_below: float = 0.0
    challenge: str = "none"
    exclusive: bool = False
    foreground: Foreground | None = None


def evaluation_rows(case: EvaluationCase) -> list[dict[str, Any]]:
    """Score a prediction.

    Scores of masks: Dice with each rater (a row for each, with the rater's name), with the raters' majority, the generalised energy
    distance. Scores of probabilities: :data:`EVALUATION_SCORES` says which. A label map is a probability of 0 and 1, and has no
    likelihood and no expectation. Two empty sets are undefined (NaN) for Dice.

    Args:
        case: its files and regions.

    Returns:
        Rows with the keys :data:`EVALUATION_COLUMNS`.

    Raises:
        DataProblemError: a file that cannot be read, or files that do not fit each other.
    """
    stack, grid = read_votes_on_grid(case.files, case.foreground)
    values, is_map = read_region_prediction(case.prediction, grid, case.regions, case.kind)
    # a file of one slice is a flat image, whose volume is an area
    space = without_last_ones(grid.shape)
    prob, stack = torch.from_numpy(values).reshape(1, -1, *space), stack.reshape(1, -1, *space)
    spacing = None if grid.affine is None else voxel_edges(grid.affine)[: len(space)].tolist()
    start = {"model": case.model, "case": case.name, "patient": case.patient}
    return [
        start | {"region": region, "rater": rater, "score": score, "value": value}
        for region, rater, score, value in _scores(case, prob, stack, is_map, spacing)
    ]


def read_votes_on_grid(files: Sequence[str], foreground: Foreground | None = None) -> tuple[torch.Tensor, VoxelGrid]:
    """Read the raters of a case.

    Args:
        files: each rater's label map.
        foreground: of the files; see :class:`monai_jdt.transforms.LoadRaters`.

    Returns:
        Votes `(R, *S)`, and where their voxels lie. The affine is None where no file says it.

    Raises:
        DataProblemError: a file that cannot be read, or files that do not fit each other.
    """
    votes = LoadRaters(foreground=foreground)(list(files))
    stack = votes.as_tensor()
    placed = not all(path.lower().endswith(WITHOUT_PLACE) for path in files)
    return stack, VoxelGrid(files[0], tuple(stack.shape[1:]), np.asarray(votes.affine, dtype=np.float64) if placed else None)


def exclude_each_other(regions: Mapping[str, Sequence[int]]) -> bool:
    """Return whether no two regions share a label value. A voxel has one value, so it can then be in one region only.

    Args:
        regions: name to label values.

    Example:
        >>> exclude_each_other({"liver": [1], "kidney": [2, 3]}), exclude_each_other({"core": [1, 4], "whole": [1, 2, 4]})
        (True, False)
    """
    values = [value for group in regions.values() for value in set(group)]
    return len(set(values)) == len(values)


def decided_mask(prob: torch.Tensor, decision: str, empty_below: float = 0.0, exclusive: bool = False) -> torch.Tensor:
    """Make masks of probabilities.

    With `exclusive`, the best expected masks are those that :class:`monai_jdt.transforms.DecideMask` makes with `softmax`: a voxel that
    several regions claim goes to the most probable one. Probabilities above .5 that sum to 1 do not meet anyway.

    Args:
        prob: `(N, C, *S)`.
        decision: "threshold" (.5), "expected_dice" or "expected_jaccard".
        empty_below: a mask that is expected to score less is empty; not with the threshold.
        exclusive: whether no voxel can be in two regions; not with the threshold.
    """
    if decision == "threshold":
        return prob > 0.5
    score = decision.removeprefix("expected_")
    if not exclusive:
        return best_expected_mask(prob, score, empty_below=empty_below)[0]
    # the background is what no region claims, whatever its probability
    classes = torch.cat([torch.zeros_like(prob[:, :1]), prob], 1)
    return best_expected_mask(classes, score, softmax=True, empty_below=empty_below)[0][:, 1:]


def _scores(
    case: EvaluationCase, prob: torch.Tensor, votes: torch.Tensor, is_map: bool, spacing: list[float] | None
) -> Iterator[tuple[str, str, str, float]]:
    rule = LabelRule(votes=True, regions=tuple(case.regions.values()))
    mask = decided_mask(prob, case.decision, case.empty_below, case.exclusive)
    found = {
        "dice_raters": rater_dice(mask, votes, RaterDiceKind.MEAN, EmptyPair.UNDEFINED, rule),
        "qubiq_dice": thresholded_dice(prob, votes, THRESHOLD_PRESETS["qubiq"], rule),
        "soft_dice": soft_overlap(prob, votes, OverlapKind.DICE, rule),
        "soft_jaccard": soft_overlap(prob, votes, OverlapKind.JACCARD, rule),
        "ged": generalized_energy_distance(mask, votes, rule=rule),
        "brier": rater_brier_score(prob, votes, BrierPart.TOTAL, rule),
        "brier_distance": rater_brier_score(prob, votes, BrierPart.DISTANCE, rule),
    }
    if spacing is None:
        # 1 mm per voxel: back from cm2 or ml to voxels
        unit = 100 if votes.ndim == 4 else 1000
        found["volume_error_voxels"] = unit * volume_crps(prob, votes, spacing=[1.0] * (votes.ndim - 2), rule=rule)
    else:
        found["volume_error"] = volume_crps(prob, votes, spacing=spacing, rule=rule)
    if not is_map:
        found["expected_dice"] = expected_overlap(prob, mask)
        found["nll"] = rater_nll(prob, votes, classwise=True, rule=rule)
    found |= challenge_scores(case.challenge, prob, mask, votes, spacing, rule)
    for channel, (region, group) in enumerate(case.regions.items()):
        marks = [region_members(rater, group).flatten() for rater in votes[0]]
        chosen = mask[0, channel].flatten()
        for rater, mark in zip(case.raters, marks, strict=True):
            yield region, rater, "dice", set_overlap(chosen, mark, SetOverlap.DICE, float("nan"))
        majority = torch.stack(marks).sum(0) * 2 > len(marks)
        yield region, "", "dice_majority", set_overlap(chosen, majority, SetOverlap.DICE, float("nan"))
        for score, numbers in found.items():
            yield region, "", score, float(numbers[0, channel])
