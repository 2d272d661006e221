"""Models beside the raters: a matrix of who agrees with whom, with each model as one more rater."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from monai_jdt.report.case_study import CaseStudy
from monai_jdt.report.intervals import Estimate, clustered_interval
from monai_jdt.report.rated_cases import RatedCase

#: What raters without names are called: rater 2 of two cases may be two people.
ANY_RATER = "a rater"
#: The most named raters of a matrix.
_MOST_RATERS = 20


@dataclass(frozen=True)
class AgreementMatrix:
    """The mean Dice of each two.

    Args:
        names: of raters, then of models.
        cells: rows of estimates; None: never both in a case. Without names, two raters of a case are the cell of "a rater" with itself.
        left_out: how many named raters are not shown.
    """

    names: tuple[str, ...]
    cells: tuple[tuple[Estimate | None, ...], ...]
    left_out: int = 0


def agreement_matrix(
    studies: Mapping[str, CaseStudy], cases: Mapping[str, RatedCase], models: Sequence[str], region: str
) -> AgreementMatrix:
    """Compare raters and models. A case counts once, with the mean over the pairs of the same two names.

    Args:
        studies: by case.
        cases: by name; whether raters have names decides whether they are told apart.
        models: their names.
        region: which.
    """
    named = all(cases[name].named for name in studies)
    by_pair: dict[tuple[str, str], dict[str, list[float]]] = {}
    for name, study in studies.items():
        case = cases[name]
        for pair, dice in study.pairs.get(region, {}).items():
            # a rater and a model may have one name
            first, second = (who if isinstance(who, str) else f"\0{case.raters[who]}" if named else f"\0{ANY_RATER}" for who in pair)
            for key in dict.fromkeys(((first, second), (second, first))):
                by_pair.setdefault(key, {}).setdefault(name, []).append(dice)
    raters = sorted({who for pair in by_pair for who in pair if who.startswith("\0")})
    shown = [*raters[:_MOST_RATERS], *[model for model in models if any(model in pair for pair in by_pair)]]
    cells = tuple(tuple(_cell_of(by_pair.get((a, b)), cases) for b in shown) for a in shown)
    return AgreementMatrix(tuple(name.removeprefix("\0") for name in shown), cells, max(len(raters) - _MOST_RATERS, 0))


def _cell_of(by_case: Mapping[str, list[float]] | None, cases: Mapping[str, RatedCase]) -> Estimate | None:
    if by_case is None:
        return None
    means = {name: mean_without_nan(values) for name, values in by_case.items()}
    estimate = clustered_interval(list(means.values()), [cases[name].patient for name in means])
    return Estimate("Dice", *estimate, cases=sum(not math.isnan(mean) for mean in means.values()))


def mean_without_nan(values: Sequence[float]) -> float:
    """Return the mean of the values that are defined, or NaN if there is none.

    Args:
        values: numbers.
    """
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan
