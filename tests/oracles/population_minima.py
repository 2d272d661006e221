"""Where a loss of voxels that look alike is smallest, by its formula: Dinkelbach's iteration, or the zeros of its slope.

The package's losses are searched on a grid; here they are differentiated by hand. A ratio `cost / all` is smallest where
`cost - L all` is, with L the value at the minimum (Dinkelbach, Management Science 1967). With `cost = a fp + b fn`, `all = tp + cost`
and norm 1, a voxel changes `cost - L all` by `(1 - L) a` per unit of p above its label, and by `-((1 - L) b + L)` below it. The
slope of the sum changes its sign at a quantile of the labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from benchmarks.population_minima import Population
from tests.oracles.companions import lovasz_extension

Array = np.ndarray
#: How near to 0 and 1 a compound's minimum is looked for.
NEAREST = 1e-9


@dataclass(frozen=True)
class Part:
    """What one ratio, or one mean, is made of: the labels `t` of the voxels that look alike, and all others as `(p, t)`."""

    t: Array
    fixed_p: Array
    fixed_t: Array

    def all_t(self) -> Array:
        return np.concatenate([self.t, self.fixed_t])

    def all_p(self, p: float) -> Array:
        return np.concatenate([np.full(len(self.t), p), self.fixed_p])


def part_of(population: Population, change: Callable[[Array], Array] = lambda t: t) -> Part:
    """Return all images as one part, as sums of a batch have them; `change` is what label smoothing does to labels."""
    common = [v.label for image in population for v in image if v.prediction is None for _ in range(v.count)]
    fixed = [(v.prediction, v.label) for image in population for v in image if v.prediction is not None for _ in range(v.count)]
    fixed_p, fixed_t = (np.array(fixed, float).reshape(-1, 2)[:, k] for k in (0, 1))
    return Part(change(np.array(common, float)), fixed_p, change(fixed_t))


def background(part: Part) -> Part:
    """Return the part of the other channel of a softmax of two."""
    return Part(1 - part.t, 1 - part.fixed_p, 1 - part.fixed_t)


# ------------------------------------------------------------------------------------------------ one ratio: Dinkelbach


def quantile_level(loss: float, a: float, b: float) -> float:
    """Return which quantile of the labels has the best Tversky loss. For Dice, a = b = .5, it is `(1 + loss) / 2`."""
    pull, push = (1 - loss) * b + loss, (1 - loss) * a
    return pull / (pull + push)


def quantile(labels: Array, level: float) -> float:
    """Return the least label with at least a share `level` of the labels at or below it."""
    ordered = np.sort(labels)
    return float(ordered[int(np.ceil(level * len(ordered) - 1e-9)) - 1])


def tversky(p: Array, t: Array, a: float, b: float) -> float:
    both = np.where(p < t, p, t)
    cost = a * (p - both).sum() + b * (t - both).sum()
    return cost / (both.sum() + cost)


def squared_tversky(p: Array, t: Array, a: float) -> float:
    cost = a * ((p - t) ** 2).sum()
    return cost / ((p * t).sum() + cost)


def usual_tversky(p: Array, t: Array, a: float, b: float) -> float:
    """Products instead of minima: what is smallest at 0 or 1 for soft labels, too."""
    tp, fp, fn = (p * t).sum(), (p * (1 - t)).sum(), ((1 - p) * t).sum()
    return (a * fp + b * fn) / (tp + a * fp + b * fn)


def _iterated(value: Callable[[float], float], best: Callable[[float], float]) -> float:
    """Return the fixed point of `p -> L -> p`. L falls with every step, until it is the smallest value."""
    p = 0.5
    for _ in range(200):
        following = best(value(p))
        if abs(following - p) < 1e-13:
            return following
        p = following
    raise AssertionError("Dinkelbach's iteration did not end")


def jdt_minimum(part: Part, a: float, b: float) -> float:
    """Norm 1: a quantile of the labels."""
    return _iterated(lambda p: tversky(part.all_p(p), part.all_t(), a, b), lambda loss: quantile(part.t, quantile_level(loss, a, b)))


def squared_minimum(part: Part, a: float) -> float:
    """Norm 2: the mean of the labels times `1 + L / (2 a (1 - L))`, at most 1. For Dice this is `mean / (1 - L)`."""
    return _iterated(
        lambda p: squared_tversky(part.all_p(p), part.all_t(), a),
        lambda loss: min(1.0, part.t.mean() * (1 + loss / (2 * a * (1 - loss)))),
    )


def usual_minimum(part: Part, a: float, b: float) -> float:
    """The usual soft losses: 1 where the mean label is above `a T / (1 + (a + b - 1) T)`, T = 1 - L, for Dice above `T / 2`; or 0."""

    def best(loss: float) -> float:
        score = 1 - loss
        return float(part.t.mean() > a * score / (1 + (a + b - 1) * score))

    return _iterated(lambda p: usual_tversky(part.all_p(p), part.all_t(), a, b), best)


# ------------------------------------------------------------------------------------------ sums of terms: zeros of the slope


@dataclass(frozen=True)
class Term:
    """A part of a loss as a function of the common p, with its slope, and the p at which the slope jumps."""

    value: Callable[[float], float]
    slope: Callable[[float], float]
    kinks: tuple[float, ...] = ()


def jdt(part: Part, a: float, b: float) -> Term:
    def slope(p: float) -> float:
        loss = tversky(part.all_p(p), part.all_t(), a, b)
        above, below = (part.t > p).sum(), (part.t < p).sum()
        p_all, t_all = part.all_p(p), part.all_t()
        both = np.where(p_all < t_all, p_all, t_all)
        everything = (both + a * (p_all - both) + b * (t_all - both)).sum()
        return ((1 - loss) * a * below - ((1 - loss) * b + loss) * above) / everything

    return Term(lambda p: tversky(part.all_p(p), part.all_t(), a, b), slope, tuple(np.unique(part.t)))


def squared(part: Part, a: float) -> Term:
    def slope(p: float) -> float:
        loss = squared_tversky(part.all_p(p), part.all_t(), a)
        p_all, t_all = part.all_p(p), part.all_t()
        everything = (p_all * t_all).sum() + a * ((p_all - t_all) ** 2).sum()
        return (2 * (1 - loss) * a * (p - part.t).sum() - loss * part.t.sum()) / everything

    return Term(lambda p: squared_tversky(part.all_p(p), part.all_t(), a), slope)


def usual(part: Part, a: float, b: float) -> Term:
    def slope(p: float) -> float:
        p_all, t_all = part.all_p(p), part.all_t()
        score = 1 - usual_tversky(p_all, t_all, a, b)
        everything = (p_all * t_all + a * p_all * (1 - t_all) + b * (1 - p_all) * t_all).sum()
        hit, missed = part.t.sum(), (1 - part.t).sum()
        return -(hit - score * (hit + a * missed - b * hit)) / everything

    return Term(lambda p: usual_tversky(part.all_p(p), part.all_t(), a, b), slope)


def cross_entropy(part: Part, weigh: Callable[[Array], Array] = np.ones_like) -> Term:
    """The mean over all voxels, each with the weight `weigh(label)`. Voxels that do not look alike add a constant, left out."""
    t, w = part.t, weigh(part.t)
    norm = weigh(part.all_t()).sum()
    return Term(
        lambda p: (w * -(t * np.log(p) + (1 - t) * np.log1p(-p))).sum() / norm,
        lambda p: (w * (p - t)).sum() / (p * (1 - p)) / norm,
    )


def focal(part: Part, power: float) -> Term:
    """|p - t|^power BCE(p, t), mean over all voxels."""
    t, voxels = part.t, len(part.all_t())

    def entropy(p: float) -> Array:
        return -(t * np.log(p) + (1 - t) * np.log1p(-p))

    def slope(p: float) -> float:
        far = np.abs(p - t)
        terms = power * far ** (power - 1) * np.sign(p - t) * entropy(p) + far**power * (p - t) / (p * (1 - p))
        return terms.sum() / voxels

    return Term(lambda p: (np.abs(p - t) ** power * entropy(p)).sum() / voxels, slope)


def divergence(part: Part, temperature: float) -> Term:
    """T^2 KL(q_T || p_T) of the teacher's probabilities, which are the part's labels, mean over all voxels."""
    voxels = len(part.all_t())

    def cooled(p: Array | float) -> Array:
        return 1 / (1 + np.exp(-np.log(p / (1 - np.asarray(p))) / temperature))

    q = cooled(part.t)

    def value(p: float) -> float:
        c = cooled(p)
        return temperature**2 * (q * np.log(q / c) + (1 - q) * np.log((1 - q) / (1 - c))).sum() / voxels

    return Term(value, lambda p: temperature * (cooled(p) - q).sum() / (p * (1 - p)) / voxels)


def mirrored(term: Term) -> Term:
    """Return a term of the other channel of a softmax of two, as a function of this channel's p."""
    return Term(lambda p: term.value(1 - p), lambda p: -term.slope(1 - p), tuple(1 - kink for kink in term.kinks))


def lovasz_minimum(part: Part) -> float:
    """Return 0, .5 or 1: between them the order of the errors p and 1 - p does not change, and the loss is linear.

    Args:
        part: with hard labels and fixed predictions.
    """

    def value(p: float) -> float:
        errors = np.abs(part.all_p(p) - part.all_t()).tolist()
        return lovasz_extension(errors, (part.all_t() == 1).tolist()) + lovasz_extension(errors, (part.all_t() == 0).tolist())

    return min((0.0, 0.5, 1.0), key=value)


def weighted(terms: Sequence[tuple[float, Term]]) -> Term:
    return Term(
        lambda p: sum(w * term.value(p) for w, term in terms),
        lambda p: sum(w * term.slope(p) for w, term in terms),
        tuple(kink for _, term in terms for kink in term.kinks),
    )


def lowest(term: Term) -> float:
    """Return the p of the smallest value: of the kinks, the ends, and the zeros of the slope between them."""
    edges = sorted({NEAREST, *(k for k in term.kinks if NEAREST < k < 1 - NEAREST), 1 - NEAREST})
    candidates = list(edges)
    for first, last in pairwise(edges):
        inside = np.linspace(first, last, 14)[1:-1]
        inside = np.concatenate([[first + 1e-9 * (last - first)], inside, [last - 1e-9 * (last - first)]])
        slopes = [term.slope(p) for p in inside]
        for low, high, at_low, at_high in zip(inside, inside[1:], slopes, slopes[1:], strict=False):
            if at_low < 0 < at_high:
                for _ in range(45):
                    middle = (low + high) / 2
                    low, high = (middle, high) if term.slope(middle) < 0 else (low, middle)
                candidates.append((low + high) / 2)
    return min(candidates, key=term.value)
