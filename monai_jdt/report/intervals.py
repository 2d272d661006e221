"""Confidence intervals of means over cases, where a patient may have several cases."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from monai_jdt.validation import error_sentence

#: How many numbers of patients are drawn at once; 8 bytes each, twice.
_NUMBERS_AT_ONCE = 2**20


@dataclass(frozen=True)
class Estimate:
    """A mean over cases with its 95 % interval.

    Args:
        label: what it is.
        mean: NaN if undefined.
        low: lower bound.
        high: upper bound.
        cases: how many have it.
    """

    label: str
    mean: float
    low: float
    high: float
    cases: int

    def text(self) -> str:
        """Return "0.791 [0.776, 0.804]", or a dash if undefined."""
        if math.isnan(self.mean):
            return "\u2013"
        size = abs(self.mean)
        shown = ",.0f" if size >= 100 else ".3f" if size >= 0.01 or size == 0 else ".2e"
        interval = "" if math.isnan(self.low) else f" [{self.low:{shown}}, {self.high:{shown}}]"
        return f"{self.mean:{shown}}{interval}"


def clustered_interval(
    values: Sequence[float], clusters: Sequence[str], *, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """Return the mean of values, and its percentile bootstrap interval over clusters.

    Values of one patient are alike. So whole patients are drawn with replacement, each with all values: Field and Welsh, Bootstrapping
    clustered data, JRSS B 69(3), 2007.

    Args:
        values: numbers; NaN is undefined and left out.
        clusters: the patient of each value.
        level: of the interval, in (0, 1).
        draws: how many bootstrap samples.
        seed: of the draws.

    Returns:
        Mean, lower and upper bound. All are NaN without a defined value, the bounds also with fewer than two patients,
        or an infinite value.

    Raises:
        ValueError: numbers of values and clusters that differ.

    Example:
        >>> mean, low, high = clustered_interval([0.5, 0.7, 0.9], ["a", "a", "b"])
        >>> round(mean, 3), round(low, 3), round(high, 3)
        (0.7, 0.6, 0.9)
    """
    if len(values) != len(clusters):
        got = f"{len(values)} values and {len(clusters)} clusters"
        raise ValueError(error_sentence("clusters", "one for each value", got))
    numbers = np.asarray(values, dtype=np.float64)
    defined = ~np.isnan(numbers)
    if not defined.any():
        return (float("nan"),) * 3
    numbers = numbers[defined]
    _, member = np.unique(np.asarray(clusters, dtype=str)[defined], return_inverse=True)
    sums, counts = np.bincount(member, numbers), np.bincount(member)
    mean = float(numbers.mean())
    if len(sums) < 2 or not math.isfinite(mean):
        return mean, float("nan"), float("nan")
    random, shares, means = np.random.default_rng(seed), np.full(len(sums), 1 / len(sums)), []
    # in blocks, or 10,000 patients would take 320 MB
    at_once = max(1, _NUMBERS_AT_ONCE // len(sums))
    for start in range(0, draws, at_once):
        # how often each patient is drawn
        drawn = random.multinomial(len(sums), shares, min(at_once, draws - start))
        means.append((drawn @ sums) / (drawn @ counts))
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return mean, float(low), float(high)
