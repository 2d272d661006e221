"""Means and paired differences of runs, with intervals over patients and seeds, and corrected p-values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from benchmarks.study.results import OF_ROW, Result
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
        by_structure: a mean over structures of what each has, and not over all cases of all structures.
        worst: the mean of that share of images of all seeds, in percent, whose IoU is lowest, in place of `of`; 0: not that. Images
            whose majority is empty have no IoU.
    """

    title: str
    of: Callable[[Mapping[str, np.ndarray]], np.ndarray | tuple[np.ndarray, np.ndarray]]
    factor: float = 1.0
    digits: int = 3
    best: int = 1
    by_structure: bool = False
    worst: int = 0


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
    "iou_dataset": Score(
        "mIoU D",
        lambda columns: (columns["right_half"], columns["marked_half"] + columns["majority"] - columns["right_half"]),
        by_structure=True,
    ),
    "iou_image": Score("mIoU I, majority not empty", lambda columns: (columns["iou_of_images"], columns["filled_images"])),
    "iou_class": Score(
        "mIoU C, majority not empty", lambda columns: (columns["iou"], columns["cases"] - columns["empty"]), by_structure=True
    ),
    "iou_worst": Score("mIoU I, worst quarter", _column("filled_images"), worst=25),
    "brier": Score("Brier score x 1000", _column("brier"), 1000, 2, -1),
    "excess": Score("Brier score less the readers' spread x 1000", lambda columns: columns["brier"] - columns["spread"], 1000, 2, -1),
    "nll": Score("NLL x 1000", _column("nll"), 1000, 1, -1),
    "nll_excess": Score("NLL less the readers' own x 1000", lambda columns: columns["nll"] - columns["nll_spread"], 1000, 1, -1),
    "ece": Score("ECE of an image x 1000", _column("ece"), 1000, 2, -1),
    "bias": Score("volume bias", lambda columns: columns["volume"] - columns["readers_volume"], 1, 1, 0),
    "confidence_error": Score(
        "expected less reached Dice", lambda columns: columns["expected_dice"] - columns["dice_expected"], 1, 3, 0
    ),
    "truth_error": Score("mean distance of p to the true p x 1000", _column("truth_error"), 1000, 2, -1),
}


#: Scores that need a column, or more than one structure.
NEEDED = {"truth_error": "truth_error", "nll_excess": "nll_spread", "iou_image": "iou", "iou_class": "iou", "iou_worst": "iou"}


@dataclass(frozen=True)
class ScoreTable:
    """The scores of a set's test patients, a row for each seed, patient and structure, in the same order for every cell.

    Args:
        seeds: of each row.
        patients: of each row.
        structures: of each row.
        cases: how many each row has.
        cells: columns of each cell, by network and name: sums over the cases, and their number.
        images: of each cell, the IoU of each image, a mean over the structures that its majority has; NaN where it has none.
        row_of_image: in which row each image is: that of its first structure.
    """

    seeds: np.ndarray
    patients: np.ndarray
    structures: np.ndarray
    cases: np.ndarray
    cells: dict[Key, dict[str, np.ndarray]]
    images: dict[Key, np.ndarray]
    row_of_image: np.ndarray

    def has(self, score: str) -> bool:
        """Return whether there is what the score is made of: a true probability, an empty majority, several structures."""
        if score in ("dice_of_filled", "dice_of_empty"):
            return all(columns["empty"][self.seeds == seed].any() for columns in self.cells.values() for seed in np.unique(self.seeds))
        if score == "iou_class" and len(set(self.structures.tolist())) == 1:
            return False  # the mean over images
        return score not in NEEDED or all(NEEDED[score] in columns for columns in self.cells.values())


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
    identity = [(seed, row["patient"], row["structure"], row["cases"]) for seed, row in first]
    for key, rows in whole.items():
        if [(seed, row["patient"], row["structure"], row["cases"]) for seed, row in rows] != identity:
            got = f"others in {key}"
            raise ValueError(error_sentence("OUT", f"the same patients in every cell of {name}", got, "name a folder of one study"))
        if set(rows[0][1]) != set(first[0][1]):
            got = f"others in {key}: {', '.join(sorted(set(rows[0][1]) ^ set(first[0][1])))}"
            raise ValueError(error_sentence("OUT", f"the same scores in every cell of {name}", got, "repeat the runs of one of them"))
    # a set without a true probability has no value in that column
    numbers = [column for column, value in first[0][1].items() if column not in OF_ROW and value]
    cells = {key: {column: np.array([float(row[column]) for _, row in rows]) for column in numbers} for key, rows in whole.items()}
    seed_of, patient_of, structure_of, cases_of = (np.array([value[place] for value in identity]) for place in range(4))
    # rows of one patient in one seed, one for each structure
    groups: dict[tuple[int, str], list[int]] = {}
    for number, about in enumerate(identity):
        groups.setdefault(about[:2], []).append(number)
    images = {}
    for key, rows in whole.items():
        ious = [np.array(row["ious"].split(), dtype=float) for _, row in rows]
        images[key] = np.concatenate([mean_of_there(np.stack([ious[number] for number in group])) for group in groups.values()])
        cells[key]["iou"] = np.array([np.nansum(values) for values in ious])
    row_of_image = np.repeat([group[0] for group in groups.values()], [int(identity[group[0]][3]) for group in groups.values()])
    for key, values in images.items():
        there = ~np.isnan(values)
        for column, weights in (("iou_of_images", values[there]), ("filled_images", None)):
            cells[key][column] = np.bincount(row_of_image[there], weights, len(identity)).astype(float)
    return ScoreTable(seed_of, patient_of, structure_of, cases_of.astype(int), cells, images, row_of_image)


def mean_of_there(ious: np.ndarray) -> np.ndarray:
    """Return the mean over the first axis of what is not NaN; NaN where all are."""
    there = ~np.isnan(ious)
    return np.where(there.any(0), np.nansum(ious, 0) / np.maximum(there.sum(0), 1), np.nan)


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
    seeds, patients = len(np.unique(table.seeds)), len(np.unique(table.patients))
    tested = _by_seed_and_patient(table, np.arange(len(table.seeds)), table.cases) > 0
    draws = _draws(seeds, patients, seeds > 1 and bool((tested.sum(0) == 1).all()))
    each = np.eye(seeds), np.ones((seeds, patients))
    ratios, by_seed = (_means(table, score, first, *weights) for weights in (draws, each))
    if second is not None:
        # all cells of a table have the same draws
        ratios, by_seed = (
            mine - _means(table, of_second or score, second, *weights) for mine, weights in ((ratios, draws), (by_seed, each))
        )
    low, high = np.quantile(ratios[1:], [0.025, 0.975])
    below, above = (ratios[1:] <= 0).mean(), (ratios[1:] >= 0).mean()
    p = min(1.0, 2 * max(min(below, above), 1 / DRAWS))
    return Estimate(float(ratios[0]), float(low), float(high), float(p), tuple(by_seed.tolist()))


def mean_of_seed(table: ScoreTable, score: str, key: Key, seed: int) -> float:
    """Return the mean of one run."""
    of_seed = (np.unique(table.seeds) == seed)[None].astype(float)
    return float(_means(table, score, key, of_seed, np.ones((1, len(np.unique(table.patients)))))[0])


def _means(table: ScoreTable, score: str, key: Key, of_seeds: np.ndarray, of_patients: np.ndarray) -> np.ndarray:
    """Return the score's mean in each draw.

    Args:
        table: of the set.
        score: a key of SCORES.
        key: of the cell.
        of_seeds: how often each draw has each seed, `(draws, seeds)`.
        of_patients: how often it has each patient, `(draws, patients)`.
    """
    shown = SCORES[score]
    if shown.worst:
        return _worst_means(table, shown.worst, key, of_seeds, of_patients)
    values = shown.of(table.cells[key])
    over, under = values if isinstance(values, tuple) else (values, table.cases)
    of_structures = []
    for structure in np.unique(table.structures) if shown.by_structure else [None]:
        rows = np.flatnonzero(table.structures == structure) if shown.by_structure else np.arange(len(over))
        sums = [((of_seeds @ _by_seed_and_patient(table, rows, part[rows])) * of_patients).sum(1) for part in (over, under)]
        of_structures.append(sums[0] / sums[1])
    return np.mean(of_structures, axis=0)


def _by_seed_and_patient(table: ScoreTable, rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the sums of values in some rows of a table, `(seeds, patients)`."""
    seeds, seed = np.unique(table.seeds, return_inverse=True)
    patients, patient = np.unique(table.patients, return_inverse=True)
    at = seed[rows] * len(patients) + patient[rows]
    return np.bincount(at, values, len(seeds) * len(patients)).reshape(len(seeds), -1)


def _worst_means(table: ScoreTable, percent: int, key: Key, of_seeds: np.ndarray, of_patients: np.ndarray) -> np.ndarray:
    """Return in each draw the mean IoU of the `max(1, n * percent // 100)` worst of its n images."""
    _, seed = np.unique(table.seeds, return_inverse=True)
    _, patient = np.unique(table.patients, return_inverse=True)
    ious = table.images[key]
    order = np.argsort(ious)[: int((~np.isnan(ious)).sum())]  # NaN is last
    ious, rows = ious[order], table.row_of_image[order]
    found = []
    for draw_of_seeds, draw_of_patients in zip(of_seeds, of_patients, strict=True):
        times = draw_of_seeds[seed[rows]] * draw_of_patients[patient[rows]]
        up_to = times.cumsum()
        count = max(1, up_to[-1] * percent // 100)
        found.append((np.clip(count - (up_to - times), 0, times) @ ious) / count)
    return np.array(found)


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
