"""What is measured of a case, and the decisions that are chosen on the validation patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.rater_training import majority_of
from benchmarks.real_raters import THRESHOLDS, Decisions, majority_dice
from monai_jdt.functional.expected_overlap import best_empty_level, best_expected_mask
from monai_jdt.functional.region_members import region_members
from monai_jdt.metrics import RaterBrierScore, RaterCalibrationError, RaterNLL, SoftDice, ThresholdedDice


@dataclass(frozen=True)
class ScoredCase:
    """A prediction of a structure and its raters.

    Args:
        name: of the case.
        patient: who is in it.
        structure: which.
        prob: of the structure, `(1, *S)`.
        votes: bool, `(1, R, *S)`.
        truth: the share of the population of raters, `(1, *S)`, which phantoms have; or None.
        voxel: its size, in the unit of a volume.
    """

    name: str
    patient: str
    structure: str
    prob: torch.Tensor
    votes: torch.Tensor
    truth: torch.Tensor | None
    voxel: float

    @classmethod
    def all_of(cls, item: Mapping[str, Any], found: Mapping[str, Any], regions: Mapping[str, Sequence[int]]) -> list[ScoredCase]:
        """Return the structures of a list's item and of what the bundle's evaluation makes of it.

        Args:
            item: of the data list.
            found: probabilities and votes.
            regions: the label values of each structure, in the order of the probabilities.
        """
        prob, votes, truth = (
            None if found.get(name) is None else torch.as_tensor(found[name]).cpu() for name in ("prob", "raters", "probability")
        )
        assert prob is not None
        assert votes is not None
        voxel = float(np.prod(item.get("spacing", [1.0])))
        return [
            cls(
                str(item["case"]),
                str(item["patient"]),
                structure,
                prob[number : number + 1].float(),
                region_members(votes, values)[None],
                None if truth is None else truth[number : number + 1],
                voxel,
            )
            for number, (structure, values) in enumerate(regions.items())
        ]


def chosen(cases: Sequence[ScoredCase]) -> Decisions:
    """Choose the threshold, and the level of "nothing is there", that have the best mean Dice with the majority."""
    by_threshold, expected, overlap, empty = [], [], [], []
    for case in cases:
        by_threshold.append(majority_dice(torch.stack([case.prob > threshold for threshold in THRESHOLDS]), case.votes))
        mask, score = best_expected_mask(case.prob[None])
        expected.append(float(score))
        overlap.append(float(majority_dice(mask, case.votes)))
        empty.append(not majority_of(case.votes).any())
    threshold = THRESHOLDS[int(torch.stack(by_threshold).mean(0).argmax())]
    level, _ = best_empty_level(torch.tensor(expected), torch.tensor(overlap), torch.tensor(empty))
    return Decisions(threshold, level)


def scores(case: ScoredCase, decisions: Decisions) -> dict[str, float]:
    """Return the scores of one case, and the counts of which those of a whole set are made."""
    prob, votes = case.prob[None], case.votes.byte()
    majority = majority_of(case.votes)[0]
    _, expected = best_expected_mask(prob)
    found = {
        "readers_volume": float(case.votes.sum()) / case.votes.shape[1] * case.voxel,
        "volume": float(prob.double().sum()) * case.voxel,
        "thresholded_dice": float(ThresholdedDice(votes=True)(prob, votes)),
        "soft_dice": float(SoftDice(votes=True)(prob, votes)),
        "brier": float(RaterBrierScore()(prob, votes)),
        "spread": float(RaterBrierScore(part="spread")(prob, votes)),
        "nll": float(RaterNLL()(prob, votes)),
        "nll_spread": float(RaterNLL()(votes.float().mean(1, keepdim=True), votes)),
        "ece": float(RaterCalibrationError(level="image")(prob, votes)),
        "expected_dice": float(expected),
        "majority": float(majority.sum()),
    }
    for name, mask in decisions.masks(case.prob).items():
        found[f"dice_{name}"] = float(majority_dice(mask[None], case.votes))
        found[f"right_{name}"], found[f"marked_{name}"] = float((mask & majority).sum()), float(mask.sum())
    if case.truth is not None:
        found["truth_error"] = float((case.prob - case.truth).abs().mean())
    return found


def bins_of(cases: Sequence[ScoredCase]) -> np.ndarray:
    """Return the calibration bins of each case, `(cases, bins, 3)`: voxels, summed probabilities, summed shares of raters."""
    metric = RaterCalibrationError()
    return np.stack([metric(case.prob[None], case.votes.byte())[0, 0].numpy() for case in cases])
