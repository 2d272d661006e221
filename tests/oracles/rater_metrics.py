"""Metrics against several raters as plain loops over voxels: one image, numpy arrays, no code of the package.

`p` is `(C, V)`, `votes` `(R, V)`, `weights` has R numbers, `groups` the label values of each channel. A vote of `ignored` is silence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import pairwise, permutations
from typing import TypeVar

import numpy as np

NAN = float("nan")

#: The label values of one channel.
Group = Collection[float]
#: The weight of a rater, and the pairs (confidence, outcome) of the voxels.
Weighted = tuple[float, list[tuple[float, float]]]

X = TypeVar("X")
Y = TypeVar("Y")


def there(votes: np.ndarray, weights: Sequence[float], ignored: int | None) -> list[int]:
    return [r for r in range(len(votes)) if weights[r] > 0 and any(value != ignored for value in votes[r])]


def mean_label(votes: np.ndarray, weights: Sequence[float], group: Group, ignored: int | None) -> list[float | None]:
    """The weighted share at each voxel; None where nobody speaks."""
    label, raters = [], there(votes, weights, ignored)
    for v in range(votes.shape[1]):
        mass = total = 0.0
        for r in raters:
            if votes[r, v] != ignored:
                mass += weights[r]
                total += weights[r] * (votes[r, v] in group)
        label.append(total / mass if mass > 0 else None)
    return label


def soft_overlap(p: Sequence[float], m: Sequence[float | None], jaccard: bool) -> float:
    pairs = [(a, b) for a, b in zip(p, m, strict=True) if b is not None]
    distance = sum(abs(a - b) for a, b in pairs)
    below = sum(max(a, b) for a, b in pairs) if jaccard else sum(a + b for a, b in pairs)
    return 1 - distance / below if below else NAN


def brier(p: np.ndarray, votes: np.ndarray, weights: Sequence[float], group: Group, ignored: int | None, part: str) -> float:
    """Each part by its own sum: the total from the raters one by one, the spread as their variance."""
    terms, raters = [], there(votes, weights, ignored)
    for v in range(votes.shape[1]):
        speaking = [(weights[r], float(votes[r, v] in group)) for r in raters if votes[r, v] != ignored]
        mass = sum(w for w, _ in speaking)
        if mass == 0:
            continue
        mean = sum(w * y for w, y in speaking) / mass
        terms.append(
            {
                "total": sum(w * (p[v] - y) ** 2 for w, y in speaking) / mass,
                "distance": (p[v] - mean) ** 2,
                "spread": sum(w * (y - mean) ** 2 for w, y in speaking) / mass,
            }[part]
        )
    return sum(terms) / len(terms) if terms else NAN


def nll(
    p: np.ndarray,
    votes: np.ndarray,
    weights: Sequence[float],
    groups: Sequence[Group],
    ignored: int | None,
    classwise: bool,
    eps: float = 1e-7,
) -> list[float]:
    """Minus log of the probability of each rater's vote, rater by rater."""
    scores, raters = [], there(votes, weights, ignored)
    for own, group in enumerate(groups):
        terms = []
        for v in range(votes.shape[1]):
            speaking = [r for r in raters if votes[r, v] != ignored]
            if not speaking:
                continue
            total = 0.0
            for r in speaking:
                if classwise:
                    q = min(max(p[own, v], eps), 1 - eps)
                    total -= weights[r] * math.log(q if votes[r, v] in group else 1 - q)
                elif votes[r, v] in group:
                    total -= weights[r] * math.log(max(p[own, v], eps))
            terms.append(total / sum(weights[r] for r in speaking))
        scores.append(sum(terms) / len(terms) if terms else NAN)
    return scores if classwise else [sum(scores)]


def overlap(a: set[int], b: set[int], dice: bool, empty: float) -> float:
    both, first, second = len(a & b), len(a), len(b)
    if not first and not second:
        return empty
    return 2 * both / (first + second) if dice else both / len(a | b)


def marked(values: np.ndarray, group: Group, voxels: Iterable[int]) -> set[int]:
    return {v for v in voxels if values[v] in group}


def dice_matrix(
    samples: np.ndarray, votes: np.ndarray, weights: Sequence[float], group: Group, ignored: int | None, empty: float
) -> np.ndarray:
    matrix = []
    for r in there(votes, weights, ignored):
        voxels = [v for v in range(votes.shape[1]) if votes[r, v] != ignored]
        y = marked(votes[r], group, voxels)
        matrix.append([overlap(y, {v for v in voxels if s[v]}, True, empty) for s in samples])
    return np.array(matrix)


def nanmean(values: Iterable[float]) -> float:
    found = [value for value in values if not math.isnan(value)]
    return sum(found) / len(found) if found else NAN


def rater_dice(matrix: np.ndarray, weights: Sequence[float], kind: str) -> float:
    """`weights` of the raters that are there."""
    if matrix.size == 0:
        return NAN
    if kind == "mean":
        pairs = [(w, d) for w, row in zip(weights, matrix, strict=True) for d in row if not math.isnan(d)]
        return sum(w * d for w, d in pairs) / sum(w for w, _ in pairs) if pairs else NAN
    if kind in ("max", "max_reverse"):
        lines = matrix.T if kind == "max" else matrix
        best = [max((d for d in line if not math.isnan(d)), default=NAN) for line in lines]
        return nanmean(best)
    if kind == "each":
        return nanmean(np.diag(matrix))
    # every assignment, one by one
    table = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    filled = np.where(np.isnan(table), 1.0, table)
    chosen = max(permutations(range(table.shape[1]), table.shape[0]), key=lambda c: sum(filled[i, j] for i, j in enumerate(c)))
    return nanmean([table[i, j] for i, j in enumerate(chosen)])


def consensus_dice(
    samples: np.ndarray, votes: np.ndarray, weights: Sequence[float], group: Group, ignored: int | None, empty: float
) -> float:
    """The mean over samples of Dice with the voxels that all who speak marked, without those on which they differ."""
    inside: set[int] = set()
    disputed: set[int] = set()
    silent: set[int] = set()
    for v in range(votes.shape[1]):
        said = {votes[r, v] in group for r in there(votes, weights, ignored) if votes[r, v] != ignored}
        (silent if not said else disputed if len(said) == 2 else inside if said == {True} else set()).add(v)
    if len(disputed | silent) == votes.shape[1]:
        return NAN
    agreed = [v for v in range(votes.shape[1]) if v not in disputed | silent]
    return nanmean(overlap(inside, marked(s, (1,), agreed), True, empty) for s in samples)


def energy_distance(
    samples: np.ndarray,
    votes: np.ndarray,
    weights: Sequence[float],
    group: Group,
    ignored: int | None,
    dice: bool,
    diagonal: bool,
    empty: float,
) -> float:
    """`empty` is the distance of two empty sets."""
    raters = there(votes, weights, ignored)

    def mean(
        items: Sequence[tuple[float, X]], others: Sequence[tuple[float, Y]], distance: Callable[[X, Y], float], same: bool
    ) -> float:
        total = mass = 0.0
        for i, (w, a) in enumerate(items):
            for j, (u, b) in enumerate(others):
                if same and not diagonal and i == j:
                    continue
                d = distance(a, b)
                if not math.isnan(d):
                    total, mass = total + w * u * d, mass + w * u
        return total / mass if mass else NAN

    def of_sets(a: set[int], b: set[int]) -> float:
        return 1 - overlap(a, b, dice, 1 - empty)

    def speaks(r: int) -> set[int]:
        return {v for v in range(votes.shape[1]) if votes[r, v] != ignored}

    def across(r: int, s: np.ndarray) -> float:
        return of_sets(marked(votes[r], group, speaks(r)), {v for v in speaks(r) if s[v]})

    def of_raters(r: int, q: int) -> float:
        voxels = speaks(r) & speaks(q)
        if not voxels:
            return NAN  # never compared
        return of_sets(marked(votes[r], group, voxels), marked(votes[q], group, voxels))

    anybody = set().union(*(speaks(r) for r in raters)) if raters else set()

    def of_samples(s: np.ndarray, t: np.ndarray) -> float:
        return of_sets({v for v in anybody if s[v]}, {v for v in anybody if t[v]})

    given, drawn = [(weights[r], r) for r in raters], [(1.0, s) for s in samples]
    return 2 * mean(given, drawn, across, False) - mean(drawn, drawn, of_samples, True) - mean(given, given, of_raters, True)


def pair_overlap(votes: np.ndarray, weights: Sequence[float], group: Group, ignored: int | None, dice: bool) -> float:
    raters, scores = there(votes, weights, ignored), []
    for i, r in enumerate(raters):
        for q in raters[i + 1 :]:
            voxels = [v for v in range(votes.shape[1]) if votes[r, v] != ignored and votes[q, v] != ignored]
            scores.append(overlap(marked(votes[r], group, voxels), marked(votes[q], group, voxels), dice, NAN))
    return nanmean(scores)


def fleiss_kappa(votes: np.ndarray, weights: Sequence[float], groups: Sequence[Group], ignored: int | None) -> float:
    """Pairs of raters counted one by one; a single group is a category against the rest."""
    raters, agreeing = there(votes, weights, ignored), []
    counts: dict[int, int] = {}

    def category(value: float) -> int:
        return next((j for j, group in enumerate(groups) if value in group), -1)

    for v in range(votes.shape[1]):
        given = [category(votes[r, v]) for r in raters if votes[r, v] != ignored]
        if len(given) < 2:
            continue
        same = [given[i] == given[j] for i in range(len(given)) for j in range(len(given)) if i != j]
        agreeing.append(sum(same) / len(same))
        for one in given:
            counts[one] = counts.get(one, 0) + 1
    if len(counts) < 2:
        return NAN
    observed = sum(agreeing) / len(agreeing)
    expected = sum((count / sum(counts.values())) ** 2 for count in counts.values())
    return (observed - expected) / (1 - expected)


def crps_by_steps(volume: float, points: Sequence[float], shares: Sequence[float]) -> float:
    """The integral of (F(x) - 1[x >= v])^2 of a step function F, interval by interval."""
    ends = sorted({volume, *points})
    return sum(
        (high - low) * (sum(w for x, w in zip(points, shares, strict=True) if x <= low) - (low >= volume)) ** 2
        for low, high in pairwise(ends)
    )


def calibration_pairs(
    p: np.ndarray,
    votes: np.ndarray,
    weights: Sequence[float],
    groups: Sequence[Group],
    ignored: int | None,
    channel: int | None,
    against: str,
    voxels: Sequence[int],
) -> list[Weighted]:
    """For each rater, or for their mean, `(weight, [(confidence, outcome), ...])`; `channel` None: the largest.

    The weights of an image's raters add up to their number, so that an image with weights counts as one without.
    """

    def one(v: int) -> int:
        return int(np.argmax(p[:, v])) if channel is None else channel

    raters = there(votes, weights, ignored)
    if against == "mean":
        labels = [mean_label(votes, weights, group, ignored) for group in groups]
        outcomes = [(v, labels[one(v)][v]) for v in voxels]
        return [(1.0, [(p[one(v), v], outcome) for v, outcome in outcomes if outcome is not None])] if raters else []
    total = sum(weights[r] for r in raters)
    found = []
    for r in raters:
        pairs = [(p[one(v), v], float(votes[r, v] in groups[one(v)])) for v in voxels if votes[r, v] != ignored]
        found.append((len(raters) * weights[r] / total, pairs))
    return found


def calibration_error(weighted: Sequence[Weighted], count: int, kind: str, mass: bool) -> float:
    """The error of `(weight, [(confidence, outcome), ...])` that share their bins."""
    bins: dict[int, list[float]] = {}
    for weight, pairs in weighted:
        ordered = sorted(confidence for confidence, _ in pairs)
        edges = (
            [ordered[k * len(ordered) // count] for k in range(1, count)] if mass and pairs else [k / count for k in range(1, count)]
        )
        for confidence, outcome in pairs:
            own = bins.setdefault(sum(confidence >= edge for edge in edges), [0.0, 0.0, 0.0])
            for place, value in enumerate((1, confidence, outcome)):
                own[place] += weight * value
    if not bins:
        return NAN
    gaps = [(n, abs(confidence - outcome) / n) for n, confidence, outcome in bins.values()]
    if kind == "ece":
        return sum(n * gap for n, gap in gaps) / sum(n for n, _ in gaps)
    return max(gap for _, gap in gaps) if kind == "mce" else sum(gap for _, gap in gaps) / len(gaps)


def bounding_box(
    votes: np.ndarray, weights: Sequence[float], groups: Sequence[Group], ignored: int | None, shape: tuple[int, ...]
) -> list[int]:
    """The voxels in the joint bounding box of what the raters put into any of the groups."""
    raters = there(votes, weights, ignored)
    marked = [v for r in raters for v in range(votes.shape[1]) if any(votes[r, v] in g for g in groups)]
    if not marked:
        return []
    places = np.array([np.unravel_index(v, shape) for v in marked])
    low, high = places.min(0), places.max(0)
    return [v for v in range(votes.shape[1]) if all(low <= np.unravel_index(v, shape)) and all(np.unravel_index(v, shape) <= high)]
