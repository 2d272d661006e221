"""STAPLE voxel by voxel, in plain numbers: one EM for label values from a vote, one for a region from the share of marks.

Probabilities are multiplied, not added as logarithms, and tables are dictionaries by label value.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

Table = dict[tuple[int, int], float]


def winner(votes: Sequence[int]) -> int | None:
    """The value that more raters gave than any other; None at a tie."""
    ranked = Counter(votes).most_common(2)
    return None if len(ranked) == 2 and ranked[0][1] == ranked[1][1] else ranked[0][0]


def multilabel_staple(maps: Sequence[Sequence[int]], steps: int = 1000) -> tuple[list[int], list[Table]]:
    """The fused map, 0 where undecided, and for each rater P(says i | truth j) by (i, j).

    Args:
        maps: for each rater the label of every voxel.
        steps: the most iterations.
    """
    voxels = list(zip(*maps, strict=True))
    values = sorted({value for votes in voxels for value in votes})
    said = Counter(value for votes in voxels for value in votes)
    prior = {value: said[value] / sum(said.values()) for value in values}
    tables = [first_table([votes[r] for votes in voxels], [winner(votes) for votes in voxels], values) for r in range(len(maps))]

    def posterior(votes: tuple[int, ...]) -> dict[int, float]:
        found = {j: prior[j] * math.prod(table[i, j] for table, i in zip(tables, votes, strict=True)) for j in values}
        total = sum(found.values())
        return {j: found[j] / total for j in values} if total > 0 else found

    for _ in range(steps):
        counts: list[Table] = [{(i, j): 0.0 for i in values for j in values} for _ in maps]
        for votes in voxels:
            for j, probability in posterior(votes).items():
                for count, i in zip(counts, votes, strict=True):
                    count[i, j] += probability
        change = 0.0
        for table, count in zip(tables, counts, strict=True):
            for j in values:
                total = sum(count[i, j] for i in values)
                for i in values:
                    new = count[i, j] / total if total > 0 else count[i, j]
                    change = max(change, abs(new - table[i, j]))
                    table[i, j] = new
        if change < 1e-5:
            break
    return [decided(posterior(votes)) for votes in voxels], tables


def first_table(says: Sequence[int], winners: Sequence[int | None], values: Sequence[int]) -> Table:
    """P(the vote's winner is j | the rater says i); a voxel without a winner counts nowhere."""
    table: Table = {}
    for i in values:
        with_i = [won for said, won in zip(says, winners, strict=True) if said == i and won is not None]
        for j in values:
            table[i, j] = with_i.count(j) / len(with_i) if with_i else 0.0
    return table


def decided(posterior: dict[int, float]) -> int:
    """The likelier value; 0 if two are the likeliest, or none is possible."""
    best = max(posterior.values())
    likeliest = [value for value, p in posterior.items() if math.isclose(p, best, rel_tol=1e-9)]
    return likeliest[0] if best > 0 and len(likeliest) == 1 else 0


def binary_staple(marks: Sequence[Sequence[bool]], steps: int = 1000) -> tuple[list[float], list[float], list[float]]:
    """P(inside) of every voxel, sensitivities and specificities; a rate over no voxel is NaN."""
    voxels = list(zip(*marks, strict=True))
    inside = [sum(votes) / len(votes) for votes in voxels]
    prior = math.fsum(inside) / len(inside)
    p, q = [math.inf] * len(marks), [math.inf] * len(marks)
    for _ in range(steps):
        last = p + q
        mass, rest = math.fsum(inside), math.fsum(1 - w for w in inside)
        p = [math.fsum(w for w, yes in zip(inside, own, strict=True) if yes) / mass if mass else math.nan for own in marks]
        q = [math.fsum(1 - w for w, yes in zip(inside, own, strict=True) if not yes) / rest if rest else math.nan for own in marks]
        if not mass or not rest:
            break
        for v, votes in enumerate(voxels):
            a = prior * math.prod(p[r] if yes else 1 - p[r] for r, yes in enumerate(votes))
            b = (1 - prior) * math.prod(1 - q[r] if yes else q[r] for r, yes in enumerate(votes))
            inside[v] = a / (a + b)
        if max(abs(new - old) for new, old in zip(p + q, last, strict=True)) <= 1e-7:
            break
    return inside, p, q
