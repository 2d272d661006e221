"""Means and paired differences of runs, with intervals over patients and seeds, and corrected p-values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from benchmarks.study.results import Result
from monai_jdt.validation import error_sentence

DRAWS = 5000
#: (network, cell).
Key = tuple[str, str]


@dataclass(frozen=True)
class Score:
    """What a table shows.

    Args:
        title: for people.
        of: from the columns of cases to a number for each; a ratio of two sums where it gives a pair.
        factor: by which it is multiplied when shown.
        digits: after the point.
        best: 1 where more is better, -1 where less is, 0 where 0 is best.
    """

    title: str
    of: Callable[[Mapping[str, np.ndarray]], np.ndarray | tuple[np.ndarray, np.ndarray]]
    factor: float = 1.0
    digits: int = 3
    best: int = 1


def _column(name: str) -> Callable[[Mapping[str, np.ndarray]], np.ndarray]:
    return lambda columns: columns[name]


SCORES: dict[str, Score] = {
    "thresholded_dice": Score("thresholded Dice", _column("thresholded_dice")),
    "dice_of_filled": Score(
        "thresholded Dice, majority not empty",
        lambda columns: (columns["thresholded_dice"] - columns["thresholded_dice_of_empty"], columns["cases"] - columns["empty"]),
    ),
    "dice_of_empty": Score(
        "thresholded Dice, majority empty", lambda columns: (columns["thresholded_dice_of_empty"], columns["empty"])
    ),
    "soft_dice": Score("soft Dice with the readers' mean", _column("soft_dice")),
    "dice_half": Score("majority Dice, p > .5", _column("dice_half")),
    "dice_validated": Score("majority Dice, validated threshold", _column("dice_validated")),
    "dice_expected": Score("majority Dice, expected Dice", _column("dice_expected")),
    "dice_expected_level": Score("majority Dice, expected Dice, level", _column("dice_expected_level")),
    "dataset_dice": Score(
        "majority Dice of all voxels, p > .5", lambda columns: (2 * columns["right_half"], columns["marked_half"] + columns["majority"])
    ),
    "brier": Score("Brier score x 1000", _column("brier"), 1000, 2, -1),
    "excess": Score("Brier score less the readers' spread x 1000", lambda columns: columns["brier"] - columns["spread"], 1000, 2, -1),
    "nll": Score("NLL x 1000", _column("nll"), 1000, 1, -1),
    "ece": Score("ECE of an image x 1000", _column("ece"), 1000, 2, -1),
    "bias": Score("volume bias", lambda columns: columns["volume"] - columns["readers_volume"], 1, 1, 0),
    "confidence_error": Score(
        "expected less reached Dice", lambda columns: columns["expected_dice"] - columns["dice_expected"], 1, 3, 0
    ),
    "truth_error": Score("mean distance of p to the true p x 1000", _column("truth_error"), 1000, 2, -1),
}


@dataclass(frozen=True)
class ScoreTable:
    """The scores of a set's test patients, a row for each seed and patient, in the same order for every cell.

    Args:
        seeds: of each row.
        patients: of each row.
        cases: how many each row has.
        cells: columns of each cell, by network and name: sums over the cases, and their number.
    """

    seeds: np.ndarray
    patients: np.ndarray
    cases: np.ndarray
    cells: dict[Key, dict[str, np.ndarray]]

    def has(self, score: str) -> bool:
        """Return whether there is what the score is made of: a true probability, which phantoms have, or an empty majority."""
        if score in ("dice_of_filled", "dice_of_empty"):
            return all(columns["empty"][self.seeds == seed].any() for columns in self.cells.values() for seed in np.unique(self.seeds))
        return score != "truth_error" or all("truth_error" in columns for columns in self.cells.values())


def table_of(results: Sequence[Result], name: str, seeds: Sequence[int]) -> ScoreTable | None:
    """Return the scores of the cells of a set that have every seed, or None if none has."""
    found: dict[Key, list[Result]] = {}
    for result in results:
        of_set, network, cell, seed = result.about
        if of_set == name and int(seed) in seeds:
            found.setdefault((network, cell), []).append(result)
    whole: dict[Key, list[tuple[int, Mapping[str, str]]]] = {}
    for key, runs in found.items():
        if len(runs) < len(seeds):
            print(f"{name}: {key[1]} ({key[0]}) is left out, with {len(runs)} of {len(seeds)} seeds")
        else:
            runs.sort(key=lambda run: int(run.about[3]))
            whole[key] = [(int(run.about[3]), row) for run in runs for row in run.patients]
    if not whole:
        return None
    first = next(iter(whole.values()))
    identity = [(seed, row["patient"], row["cases"]) for seed, row in first]
    for key, rows in whole.items():
        if [(seed, row["patient"], row["cases"]) for seed, row in rows] != identity:
            got = f"others in {key}"
            raise ValueError(error_sentence("OUT", f"the same patients in every cell of {name}", got, "name a folder of one study"))
    # a set without a true probability has no value in that column
    numbers = [column for column, value in first[0][1].items() if column != "patient" and value]
    cells = {key: {column: np.array([float(row[column]) for _, row in rows]) for column in numbers} for key, rows in whole.items()}
    about = ([value[place] for value in identity] for place in (0, 1, 2))
    seed_of, patient_of, cases_of = (np.array(values) for values in about)
    return ScoreTable(seed_of, patient_of, cases_of.astype(int), cells)


@dataclass(frozen=True)
class Estimate:
    """A mean, or a mean difference.

    Args:
        mean: over cases and seeds.
        low: of the 95 % interval.
        high: of it.
        p: of a difference: how likely one as far from 0 is, if there were none.
        by_seed: the mean of each seed.
    """

    mean: float
    low: float
    high: float
    p: float
    by_seed: tuple[float, ...]

    def text(self, score: Score, sign: str = "") -> str:
        """Return the mean and the interval in brackets."""
        mean, low, high = (f"{score.factor * number:{sign}.{score.digits}f}" for number in (self.mean, self.low, self.high))
        return f"{mean} [{low}, {high}]"


def estimate(table: ScoreTable, score: str, first: Key, second: Key | None = None, of_second: str = "") -> Estimate:
    """Return the mean of a cell, or its paired difference to a second one, whose score may be another one.

    Patients and seeds are drawn with replacement, both, so that the interval holds for other patients and for other seeds. Where each
    patient is tested by one seed alone, as in cross-validation, patients are drawn.
    """
    numerators, denominators = _sums(table, score, first)
    ratios = _bootstrap(table, numerators, denominators)
    by_seed = _by_seed(numerators, denominators)
    if second is not None:
        others = _sums(table, of_second or score, second)
        ratios, by_seed = ratios - _bootstrap(table, *others), by_seed - _by_seed(*others)
    low, high = np.quantile(ratios[1:], [0.025, 0.975])
    below, above = (ratios[1:] <= 0).mean(), (ratios[1:] >= 0).mean()
    p = min(1.0, 2 * max(min(below, above), 1 / DRAWS))
    return Estimate(float(ratios[0]), float(low), float(high), float(p), tuple(by_seed.tolist()))


def mean_of_seed(table: ScoreTable, score: str, key: Key, seed: int) -> float:
    """Return the mean of one run."""
    numerators, denominators = _sums(table, score, key)
    return float(_by_seed(numerators, denominators)[np.unique(table.seeds).tolist().index(seed)])


def _sums(table: ScoreTable, score: str, key: Key) -> tuple[np.ndarray, np.ndarray]:
    """Return numerators and denominators, `(seeds, patients)`, of a mean over cases or of a ratio of sums."""
    values = SCORES[score].of(table.cells[key])
    over, under = values if isinstance(values, tuple) else (values, table.cases)
    seeds, seed = np.unique(table.seeds, return_inverse=True)
    patients, patient = np.unique(table.patients, return_inverse=True)
    at = seed * len(patients) + patient
    return tuple(np.bincount(at, part, len(seeds) * len(patients)).reshape(len(seeds), -1) for part in (over, under))  # type: ignore[return-value]


def _by_seed(numerators: np.ndarray, denominators: np.ndarray) -> np.ndarray:
    return numerators.sum(1) / denominators.sum(1)


def _bootstrap(table: ScoreTable, numerators: np.ndarray, denominators: np.ndarray) -> np.ndarray:
    """Return the ratio of the sums, and of each draw. All cells of a table have the same draws."""
    seeds, patients = numerators.shape
    folds = seeds > 1 and bool(((_cases(table) > 0).sum(0) == 1).all())
    of_seeds, of_patients = _draws(seeds, patients, folds)
    over, under = (((of_seeds @ part) * of_patients).sum(1) for part in (numerators, denominators))
    return over / under


@lru_cache(maxsize=2)
def _draws(seeds: int, patients: int, folds: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return how often each seed and each patient is drawn, `(1 + DRAWS, seeds)` and `(1 + DRAWS, patients)`; first each once."""
    random = np.random.default_rng(0)
    of_patients = np.concatenate([np.ones((1, patients)), random.multinomial(patients, np.full(patients, 1 / patients), DRAWS)])
    of_seeds = np.ones((DRAWS + 1, seeds))
    if not folds:
        # one fewer, so that the variance over seeds is that of an unbiased estimate
        of_seeds[1:] = random.multinomial(max(seeds - 1, 1), np.full(seeds, 1 / seeds), DRAWS)
    return of_seeds, of_patients


def _cases(table: ScoreTable) -> np.ndarray:
    """Return the number of cases of each seed and patient."""
    seeds, seed = np.unique(table.seeds, return_inverse=True)
    patients, patient = np.unique(table.patients, return_inverse=True)
    return np.bincount(seed * len(patients) + patient, table.cases, len(seeds) * len(patients)).reshape(len(seeds), -1)


def holm(ps: Sequence[float], planned: int = 0) -> list[float]:
    """Return the p-values of a family of comparisons, corrected for their number by Holm's steps.

    Args:
        ps: those that are there.
        planned: the size of the family, if some are missing.
    """
    size = max(len(ps), planned)
    order = np.argsort(ps, kind="stable")
    corrected, highest = [0.0] * len(ps), 0.0
    for rank, place in enumerate(order.tolist()):
        highest = max(highest, min(1.0, (size - rank) * ps[place]))
        corrected[place] = highest
    return corrected
