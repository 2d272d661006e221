"""The scores by which challenges rank, beside those of every evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

import torch

from monai_jdt.functional.lesion_wise_overlap import LesionScore, lesion_wise_overlap
from monai_jdt.functional.metric_labels import LabelRule
from monai_jdt.functional.rater_dice import EmptyPair, RaterDiceKind, rater_dice
from monai_jdt.functional.region_members import region_members
from monai_jdt.functional.thresholded_dice import THRESHOLD_PRESETS, thresholded_dice
from monai_jdt.functional.volume_crps import CrpsKind, volume_crps
from monai_jdt.validation import error_sentence

#: Challenges by name. QUBIQ's score, `qubiq_dice`, is among those of every evaluation.
CHALLENGES = ("none", "brats", "qubiq", "curvas")


def check_challenge(challenge: str) -> None:
    """Refuse an unknown challenge, and BraTS without scipy.

    Args:
        challenge: a name.

    Raises:
        ValueError: one of these.
    """
    if challenge not in CHALLENGES:
        raise ValueError(error_sentence("--challenge", f"one of {list(CHALLENGES)}", repr(challenge), "name one of them"))
    if challenge == "brats" and find_spec("scipy") is None:
        raise ValueError(error_sentence("--challenge", "scipy for brats", "it is not installed", "pip install 'monai-jdt[scipy]'"))


def challenge_scores(
    challenge: str, prob: torch.Tensor, mask: torch.Tensor, votes: torch.Tensor, spacing: Sequence[float] | None, rule: LabelRule
) -> dict[str, torch.Tensor]:
    """Return the scores of a challenge, each `(N, C)`.

    * "brats": lesion-wise Dice and HD95 of the mask against the raters' majority;
    * "curvas": the CRPS of the volume as CURVAS computes it, the Dice score where the raters agree, and the thresholded Dice score of
      CURVAS-PDACVI;
    * "none", "qubiq": none.

    Args:
        challenge: a name.
        prob: probabilities `(N, C, *S)`.
        mask: masks `(N, C, *S)`.
        votes: `(N, R, *S)`, by every rater at every voxel.
        spacing: voxel sizes, mm; None: 1 mm.
        rule: how the votes are read; it has regions.

    Raises:
        ValueError: "brats" with flat images.
    """
    if challenge == "curvas":
        return {
            "curvas_crps": volume_crps(prob, votes, CrpsKind.CURVAS, spacing, rule),
            "curvas_consensus_dice": rater_dice(mask, votes, RaterDiceKind.CONSENSUS, EmptyPair.UNDEFINED, rule),
            "curvas_dice": thresholded_dice(prob, votes, THRESHOLD_PRESETS["curvas-pdacvi"], rule),
        }
    if challenge != "brats":
        return {}
    marks = torch.stack([region_members(votes, group).sum(1) * 2 > votes.shape[1] for group in rule.regions or ()], dim=1)
    steps = None if spacing is None else [spacing] * len(votes)
    return {f"brats_{score.value}": lesion_wise_overlap(mask, marks, score, steps) for score in LesionScore}
