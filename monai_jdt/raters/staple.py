"""STAPLE: the label that best explains the raters, together with how well each of them sees it.

Warfield, Zou, Wells: Simultaneous truth and performance level estimation (STAPLE), IEEE TMI 23(7), 2004; for several label values
Rohlfing, Russakoff, Maurer, IEEE TMI 23(8), 2004. An expectation maximisation (EM) between the unknown label and each rater's
confusion matrix (for one region: sensitivity and specificity).

Both forms are one EM here, over the combinations of votes that occur, in logarithms: its time does not grow with the number of
voxels, nor do its numbers underflow with the number of raters. Start, prior and stopping rule are those of ITK's two filters, with
which it agrees, except at voting ties. There ITK 5.4's multi-label filter counts a tied vote in the row of the next label value,
which gives wrong labels.

* Prior of a value: its share of all votes.
* Start: for one region, the share of raters that mark a voxel. For several values, confusion matrices counted against the value that
  most raters gave; a voxel where two values tie is counted for none.
* End: no estimate changed by more than 1e-7 (one region) or by 1e-5 (several values), or `max_iterations`, with a warning in the log.

What a rater of weight 0 and an empty rater are: see :mod:`monai_jdt.raters.fusion`. An empty rater is one of sensitivity 0: it
takes nothing away from two raters who agree, but makes a voxel .5 if it has only one rater against it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch

from monai_jdt.raters.fusion import RaterEstimates, checked_rater_weights, checked_votes, region_members
from monai_jdt.raters.vote_patterns import VotePatterns, region_patterns, vote_patterns
from monai_jdt.validation import error_sentence

logger = logging.getLogger(__name__)

#: The EM is stopped after so many iterations. 12 are usual; raters who contradict each other may need thousands.
MAX_ITERATIONS = 1000

#: The largest change of an estimate at which the EM ends: ITK's numbers.
_BINARY_CHANGE, _MULTILABEL_CHANGE = 1e-7, 1e-5

#: Two label values are equally likely if their probabilities differ by less: equal ones differ by rounding, in the raters' order.
_EQUALLY_LIKELY = 1e-9


def estimate_staple(
    votes: torch.Tensor,
    regions: Sequence[int | Sequence[int]],
    rater_weights: torch.Tensor | Sequence[float] | None = None,
    *,
    max_iterations: int = MAX_ITERATIONS,
) -> tuple[torch.Tensor, RaterEstimates]:
    """STAPLE of each region by itself, with the raters' sensitivity and specificity.

    Args:
        votes: label values `(R, *S)`, as in :func:`monai_jdt.raters.region_votes`.
        regions: one entry a channel, as there. Each is a binary problem: classes need not sum to exactly 1.
        rater_weights: `(R,)`, 0 = the rater is missing; other values say only that it is there.
        max_iterations: the EM stops after so many iterations, >= 1, and says so in the log.

    Returns:
        The probability `(C, *S)`, float32, in [0, 1], and the estimates: sensitivity and specificity `(R, C)`, NaN for a missing
        rater. A region that no rater marks is 0 everywhere, one that all mark everywhere is 1, and one rater is that rater. An
        undefined estimate is NaN: sensitivity if the label is all 0, specificity if it is all 1.

    Raises:
        ValueError: as :func:`monai_jdt.raters.fuse_weighted`, and for `max_iterations` < 1.
        TypeError: as :func:`monai_jdt.raters.region_votes`.

    Example:
        >>> votes = torch.tensor([[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]])
        >>> label, estimates = estimate_staple(votes, [1])
        >>> label.tolist(), estimates.sensitivity.round(decimals=3).flatten().tolist()
        ([[0.0, 1.0, 1.0, 0.0]], [1.0, 1.0, 0.0])
    """
    votes, groups, there, patterns = _present_patterns(votes, regions, rater_weights, max_iterations)
    label = torch.empty((len(groups), *votes.shape[1:]), dtype=torch.float32)
    sensitivity = torch.full((votes.shape[0], len(groups)), float("nan"), dtype=torch.float64)
    specificity = sensitivity.clone()
    for c, group in enumerate(groups):
        marks = region_patterns(patterns, group)
        share = marks.votes.mean(axis=1)
        confusion, truth, mass = _expectation_maximisation(
            marks, np.stack([1 - share, share], axis=1), _BINARY_CHANGE, max_iterations, f"staple of the region {list(group)}"
        )
        label[c] = torch.from_numpy(truth[marks.index, 1].astype(np.float32)[patterns.index]).reshape(votes.shape[1:])
        # a rate over no voxel is undefined
        if mass[1] > 0:
            sensitivity[there, c] = torch.from_numpy(confusion[:, 1, 1])
        if mass[0] > 0:
            specificity[there, c] = torch.from_numpy(confusion[:, 0, 0])
    return label.clamp_(0, 1).to(votes.device), RaterEstimates(sensitivity=sensitivity, specificity=specificity)


def fuse_staple(
    votes: torch.Tensor,
    regions: Sequence[int | Sequence[int]],
    rater_weights: torch.Tensor | Sequence[float] | None = None,
    *,
    max_iterations: int = MAX_ITERATIONS,
) -> torch.Tensor:
    """The label of :func:`estimate_staple`, which explains the arguments: `(C, *S)`, float32, in [0, 1].

    Example:
        >>> fuse_staple(torch.tensor([[0, 1, 1], [0, 1, 1], [0, 0, 1]]), [1])
        tensor([[0., 1., 1.]])
    """
    return estimate_staple(votes, regions, rater_weights, max_iterations=max_iterations)[0]


def estimate_multilabel_staple(
    votes: torch.Tensor,
    regions: Sequence[int | Sequence[int]],
    rater_weights: torch.Tensor | Sequence[float] | None = None,
    *,
    max_iterations: int = MAX_ITERATIONS,
) -> tuple[torch.Tensor, RaterEstimates]:
    """STAPLE of all label values at once, with confusion matrices.

    Args:
        votes: label values `(R, *S)`, as in :func:`monai_jdt.raters.region_votes`.
        regions: one entry a channel, as there, read from the fused label map: the values are fused, not the regions.
        rater_weights: `(R,)`, 0 = the rater is missing; other values say only that it is there.
        max_iterations: the EM stops after so many iterations, >= 1, and says so in the log.

    Returns:
        `(C, *S)`, float32, 0 or 1, and the estimates: `confusion` `(R, L, L)` over the L `values` that occur, NaN for a missing
        rater. A column of 0 belongs to a value that is the truth nowhere. With one value in all maps it is 1.

        A voxel is undecided, and then has the value 0, where two values are equally likely, or where a rater's vote occurs only at
        voxels without a value that most raters gave: the EM starts from those voxels, and says nothing about other votes.

    Raises:
        ValueError: as :func:`monai_jdt.raters.fuse_weighted`, and for `max_iterations` < 1.
        TypeError: as :func:`monai_jdt.raters.region_votes`.

    Example:
        >>> votes = torch.tensor([[0, 1, 4, 0], [0, 1, 4, 0], [0, 0, 4, 4]])
        >>> label, estimates = estimate_multilabel_staple(votes, [1, 4])
        >>> label.tolist(), estimates.values
        ([[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]], (0, 1, 4))
    """
    votes, groups, there, patterns = _present_patterns(votes, regions, rater_weights, max_iterations)
    values = torch.from_numpy(patterns.values.astype(np.int64))
    start = _expected_truth(patterns, _log_prior(patterns), _confusion_by_voting(patterns))
    if len(start) and not start.any():
        logger.warning(
            "multilabel_staple: at no voxel do most of the %d raters agree on a value. Nothing can be estimated, and the label is 0",
            len(there),
        )
    found, truth, _ = _expectation_maximisation(patterns, start, _MULTILABEL_CHANGE, max_iterations, "multilabel_staple")
    ordered = np.sort(truth, axis=1)
    second = ordered[:, -2] if len(values) > 1 else np.zeros(len(truth))
    decided = torch.from_numpy(ordered[:, -1] - second > _EQUALLY_LIKELY)
    fused = torch.where(decided, values[torch.from_numpy(truth.argmax(axis=1))], 0)
    index = torch.from_numpy(patterns.index)
    label = torch.stack([region_members(fused, group).to(torch.float32)[index].reshape(votes.shape[1:]) for group in groups])
    confusion = torch.full((votes.shape[0], len(values), len(values)), float("nan"), dtype=torch.float64)
    confusion[there] = torch.from_numpy(found)
    return label.to(votes.device), RaterEstimates(confusion=confusion, values=tuple(values.tolist()))


def fuse_multilabel_staple(
    votes: torch.Tensor,
    regions: Sequence[int | Sequence[int]],
    rater_weights: torch.Tensor | Sequence[float] | None = None,
    *,
    max_iterations: int = MAX_ITERATIONS,
) -> torch.Tensor:
    """The label of :func:`estimate_multilabel_staple`, which explains the arguments: `(C, *S)`, float32, 0 or 1.

    Example:
        >>> fuse_multilabel_staple(torch.tensor([[0, 1, 4, 0], [0, 1, 4, 0], [0, 0, 4, 4]]), [[1, 4]])
        tensor([[0., 1., 1., 0.]])
    """
    return estimate_multilabel_staple(votes, regions, rater_weights, max_iterations=max_iterations)[0]


def _present_patterns(
    votes: torch.Tensor,
    regions: Sequence[int | Sequence[int]],
    rater_weights: torch.Tensor | Sequence[float] | None,
    max_iterations: int,
) -> tuple[torch.Tensor, tuple[tuple[int, ...], ...], list[int], VotePatterns]:
    """Check the arguments; return votes, regions, which raters are there, and the combinations of their votes."""
    votes, groups = checked_votes(votes, regions)
    if isinstance(max_iterations, bool) or not isinstance(max_iterations, int) or max_iterations < 1:
        raise ValueError(error_sentence("max_iterations", "a whole number >= 1", repr(max_iterations), "leave it out"))
    there = (checked_rater_weights(rater_weights, votes.shape[0]) > 0).nonzero().flatten().tolist()
    stack = votes if len(there) == votes.shape[0] else votes[there]
    return votes, groups, there, vote_patterns(stack.detach().cpu().reshape(len(there), -1).numpy())


def _log_prior(patterns: VotePatterns) -> np.ndarray:
    """Return the log of the share of each value in all votes, `(L,)`; -inf for a value that nobody uses."""
    given = np.zeros(len(patterns.values))
    for votes in patterns.votes.T:
        given += np.bincount(votes, weights=patterns.voxels, minlength=len(given))
    with np.errstate(divide="ignore"):
        return np.log(given / max(given.sum(), 1))


def _confusion_by_voting(patterns: VotePatterns) -> np.ndarray:
    """`(R, L, L)`: how the votes of each rater divide among the values that most raters gave at the same voxel.

    As in ITK each row, not each column, sums to 1: the start is P(truth | vote). A vote that occurs at ties only has a row of 0.
    """
    counts = np.stack([(patterns.votes == value).sum(axis=1) for value in range(len(patterns.values))], axis=1)
    most = counts.max(axis=1, keepdims=True)
    winner = np.where(counts == most, patterns.voxels[:, None], 0) * ((counts == most).sum(axis=1, keepdims=True) == 1)
    start = _joint_counts(patterns, winner.astype(np.float64))
    return start / np.maximum(start.sum(axis=2, keepdims=True), 1)


def _joint_counts(patterns: VotePatterns, truth_voxels: np.ndarray) -> np.ndarray:
    """`(R, L, L)`: entry (r, i, j) is in how many voxels rater r says i and the truth is j, given `(U, L)` voxels by truth."""
    raters, labels = patterns.votes.shape[1], len(patterns.values)
    joint = np.empty((raters, labels, labels))
    for rater, votes in enumerate(patterns.votes.T):
        for truth in range(labels):
            joint[rater, :, truth] = np.bincount(votes, weights=truth_voxels[:, truth], minlength=labels)
    return joint


def _expected_truth(patterns: VotePatterns, log_prior: np.ndarray, confusion: np.ndarray) -> np.ndarray:
    """The E step: `(U, L)`, P(truth | votes) of each combination; all 0 where the votes are impossible with every truth."""
    with np.errstate(divide="ignore"):
        log_confusion = np.log(confusion)
    log_joint = np.repeat(log_prior[None], len(patterns.votes), axis=0)
    for votes, of_rater in zip(patterns.votes.T, log_confusion, strict=True):
        log_joint += of_rater[votes]
    largest = log_joint.max(axis=1, keepdims=True)
    joint = np.exp(log_joint - np.where(np.isfinite(largest), largest, 0))
    return joint / np.maximum(joint.sum(axis=1, keepdims=True), 1)  # the sum is >= 1, or 0


def _expectation_maximisation(
    patterns: VotePatterns, truth: np.ndarray, smallest_change: float, max_iterations: int, name: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Alternate M and E steps from a first guess of the truth until no confusion matrix changes.

    A combination with a probability > 0 for some truth keeps one: a rater's estimate for it is then > 0 too. So only a combination
    that the first guess leaves out is all 0 at the end.

    Args:
        patterns: the votes.
        truth: `(U, L)`, P(truth) of each combination.
        smallest_change: the EM ends when no entry of a confusion matrix changes by more.
        max_iterations: the most iterations.
        name: what is estimated, for the log.

    Returns:
        Confusion matrices `(R, L, L)`, a column of 0 for a value that is the truth nowhere; the truth `(U, L)`; and in how many
        voxels each value is the truth, `(L,)`.
    """
    log_prior = _log_prior(patterns)
    before: np.ndarray | None = None
    for _ in range(max_iterations):
        joint = _joint_counts(patterns, truth * patterns.voxels[:, None])
        mass = joint.sum(axis=1, keepdims=True)
        confusion = np.divide(joint, mass, out=np.zeros_like(joint), where=mass > 0)
        truth = _expected_truth(patterns, log_prior, confusion)
        if before is not None and np.abs(confusion - before).max(initial=0) <= smallest_change:
            break
        before = confusion
    else:
        logger.warning(
            "%s: an estimate still changed by more than %g in iteration %d, the last (max_iterations). The label is that iteration's",
            name,
            smallest_change,
            max_iterations,
        )
    return confusion, truth, mass[0, 0]
