"""Expectation maximisation (EM) between the hidden label and each rater's confusion matrix, for both forms of STAPLE.

It works on the combinations of votes that occur, so that its time does not grow with the number of voxels, and on logarithms, so that
products over hundreds of raters do not underflow.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch

from monai_jdt.raters.vote_patterns import VotePatterns, vote_patterns
from monai_jdt.raters.votes import checked_votes, rater_shares
from monai_jdt.validation import error_sentence

logger = logging.getLogger(__name__)

#: The EM stops after this many iterations. 12 are usual. Raters who contradict each other may need thousands.
MAX_ITERATIONS = 1000


def present_patterns(
    votes: torch.Tensor,
    regions: Sequence[int | Sequence[int]],
    rater_weights: torch.Tensor | Sequence[float] | None,
    max_iterations: int,
) -> tuple[torch.Tensor, tuple[tuple[int, ...], ...], list[int], VotePatterns]:
    """Check the arguments. Return votes, regions, which raters are there, and the combinations of their votes."""
    votes, groups = checked_votes(votes, regions)
    if isinstance(max_iterations, bool) or not isinstance(max_iterations, int) or max_iterations < 1:
        raise ValueError(error_sentence("max_iterations", "a whole number >= 1", repr(max_iterations), "leave it out"))
    there = (rater_shares(rater_weights, votes.shape[0]) > 0).nonzero().flatten().tolist()
    stack = votes if len(there) == votes.shape[0] else votes[there]
    return votes, groups, there, vote_patterns(stack.detach().cpu().reshape(len(there), -1).numpy())


def log_prior_of(patterns: VotePatterns) -> np.ndarray:
    """Return the log of the share of each value in all votes, `(L,)`, -inf for a value without votes."""
    given = np.zeros(len(patterns.values))
    for votes in patterns.votes.T:
        given += np.bincount(votes, weights=patterns.voxels, minlength=len(given))
    with np.errstate(divide="ignore"):
        return np.log(given / max(given.sum(), 1))


def confusion_by_voting(patterns: VotePatterns) -> np.ndarray:
    """Return `(R, L, L)`: how the votes of each rater divide among the values that most raters gave at the same voxel.

    As in ITK each row, not each column, sums to 1: the start is P(truth | vote). A vote that occurs at ties only has a row of 0.
    """
    counts = np.stack([(patterns.votes == value).sum(axis=1) for value in range(len(patterns.values))], axis=1)
    most = counts.max(axis=1, keepdims=True)
    winner = np.where(counts == most, patterns.voxels[:, None], 0) * ((counts == most).sum(axis=1, keepdims=True) == 1)
    start = _joint_counts(patterns, winner.astype(np.float64))
    return start / np.maximum(start.sum(axis=2, keepdims=True), 1)


def _joint_counts(patterns: VotePatterns, truth_voxels: np.ndarray) -> np.ndarray:
    """Return `(R, L, L)`: in how many voxels rater r says i and the truth is j, at (r, i, j), from `(U, L)` voxels by truth."""
    raters, labels = patterns.votes.shape[1], len(patterns.values)
    joint = np.empty((raters, labels, labels))
    for rater, votes in enumerate(patterns.votes.T):
        for truth in range(labels):
            joint[rater, :, truth] = np.bincount(votes, weights=truth_voxels[:, truth], minlength=labels)
    return joint


def expected_truth(patterns: VotePatterns, log_prior: np.ndarray, confusion: np.ndarray) -> np.ndarray:
    """Take the E step. Return `(U, L)`, P(truth | votes) of each combination: all 0 where the votes are impossible with every truth."""
    with np.errstate(divide="ignore"):
        log_confusion = np.log(confusion)
    log_joint = np.repeat(log_prior[None], len(patterns.votes), axis=0)
    for votes, of_rater in zip(patterns.votes.T, log_confusion, strict=True):
        log_joint += of_rater[votes]
    largest = log_joint.max(axis=1, keepdims=True)
    joint = np.exp(log_joint - np.where(np.isfinite(largest), largest, 0))
    return joint / np.maximum(joint.sum(axis=1, keepdims=True), 1)  # the sum is >= 1, or 0


def expectation_maximisation(
    patterns: VotePatterns, truth: np.ndarray, smallest_change: float, max_iterations: int, name: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Alternate M and E steps from a first guess of the truth until no confusion matrix changes.

    A combination with a probability > 0 for some truth keeps one, since each rater's estimate for it is then > 0. So only a
    combination that the first guess leaves out is all 0 at the end.

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
    log_prior = log_prior_of(patterns)
    before: np.ndarray | None = None
    for _ in range(max_iterations):
        joint = _joint_counts(patterns, truth * patterns.voxels[:, None])
        mass = joint.sum(axis=1, keepdims=True)
        confusion = np.divide(joint, mass, out=np.zeros_like(joint), where=mass > 0)
        truth = expected_truth(patterns, log_prior, confusion)
        if before is not None and np.abs(confusion - before).max(initial=0) <= smallest_change:
            break
        before = confusion
    else:
        _warn_of_last_iteration(name, smallest_change, max_iterations)
    return confusion, truth, mass[0, 0]


@cache  # once in a process for each configuration: a data set with such raters would repeat the line for each case
def _warn_of_last_iteration(name: str, smallest_change: float, max_iterations: int) -> None:
    logger.warning(
        "%s: an estimate still changed by more than %g in iteration %d, the last (max_iterations). The label is that iteration's. "
        "Further cases are not reported",
        name,
        smallest_change,
        max_iterations,
    )
