"""Make tables and pictures of the runs of benchmarks/real_raters.py.

    python benchmarks/real_raters_results.py OUT --data FOLDER

Writes into OUT: `real_raters.csv`, the means of each patient and loss; `real_raters_runs.csv`, one row for each look at a training
and what was chosen; `real_raters.md`, the tables; `real_raters.png`, the scores; `real_raters_case.png`, one test case.

A score is averaged over the seeds in each image, then over images. Two losses are compared image by image. Intervals (95 %) are
bootstrapped over patients: they hold for other patients, not for other seeds, whose range stands beside them.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.lidc_arrays import RatedArray, parts_of
from benchmarks.rater_training import LOSSES, majority_of
from benchmarks.real_raters import SEEDS, SETS, probabilities, run_name, write_rows
from monai_jdt.data.files.atomic import whole_file
from monai_jdt.functional.rater_calibration_error import CalibrationKind, error_of_bins
from monai_jdt.report.colours import MAJORITY_STYLE, MODEL_COLOURS, PROBABILITY_MAP, rater_style
from monai_jdt.report.intervals import clustered_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CE, JDT, DICE = LOSSES
#: The losses that are compared, first minus second.
PAIRS = ((JDT, DICE), (JDT, CE), (CE, DICE))
#: How many bootstrap samples.
DRAWS = 2000
#: Column or computed score, the name in the tables, the factor for showing it, digits after the point, and what is best.
SCORES: dict[str, tuple[str, float, int, str]] = {
    "thresholded_dice": ("thresholded Dice", 1.0, 3, "more is better"),
    "dice_half": ("majority Dice, p > .5", 1.0, 3, "more is better"),
    "dice_validated": ("majority Dice, validated threshold", 1.0, 3, "more is better"),
    "dice_expected": ("majority Dice, expected Dice", 1.0, 3, "more is better"),
    "dice_expected_level": ("majority Dice, expected Dice, level", 1.0, 3, "more is better"),
    "brier": ("Brier score x 1000", 1000.0, 2, "less is better"),
    "ece": ("ECE of an image x 1000", 1000.0, 2, "less is better"),
    "pooled_ece": ("ECE of all voxels x 1000", 1000.0, 2, "less is better"),
    "bias": ("volume bias", 1.0, 1, "0 is best"),
}


@dataclass(frozen=True)
class Runs:
    """The runs of one set.

    Args:
        seeds: that every loss has.
        patients: of each image, `(images,)`.
        table: by loss and column, `(seeds, images)`.
        bins: by loss, `(seeds, images, bins, 3)`: voxels, summed probabilities, summed shares of readers.
        records: of the runs.
    """

    seeds: tuple[int, ...]
    patients: np.ndarray
    table: dict[tuple[str, str], np.ndarray]
    bins: dict[str, np.ndarray]
    records: list[dict[str, Any]]


def runs_of(out: Path, name: str, losses: Sequence[str] = tuple(LOSSES), seeds: Sequence[int] = SEEDS) -> Runs | None:
    """Return the runs of the seeds that every loss has, or None if there is no such seed."""
    seeds = tuple(seed for seed in seeds if all((out / f"{run_name(name, loss, seed)}.json").exists() for loss in losses))
    if not seeds:
        return None
    table, bins, records = {}, {}, []
    patients: list[str] = []
    for loss in losses:
        places = [out / run_name(name, loss, seed) for seed in seeds]
        records += [json.loads(place.with_suffix(".json").read_text()) for place in places]
        rows = [list(csv.DictReader(place.with_suffix(".csv").read_text().splitlines())) for place in places]
        patients = [row["patient"] for row in rows[0]]
        for column in rows[0][0]:
            if column not in ("set", "loss", "arm", "seed", "case", "patient"):
                table[loss, column] = np.array([[float(row[column]) for row in run] for run in rows])
        table[loss, "bias"] = table[loss, "volume"] - table[loss, "readers_volume"]
        bins[loss] = np.stack([np.load(place.with_suffix(".npy")) for place in places])
    return Runs(seeds, np.array(patients), table, bins, records)


@dataclass(frozen=True)
class Difference:
    """A mean, or the mean of differences, with its interval and what each seed gives."""

    mean: float
    low: float
    high: float
    seeds: tuple[float, ...]

    def text(self, factor: float, digits: int, sign: str = "") -> str:
        """Return the mean, the interval in brackets, and the range of the seeds."""
        numbers = (self.mean, self.low, self.high, min(self.seeds), max(self.seeds))
        mean, low, high, least, most = (f"{factor * number:{sign}.{digits}f}" for number in numbers)
        return f"{mean} [{low}, {high}] ({least} to {most})"


def estimate(runs: Runs, score: str, first: str, second: str | None = None, chosen: np.ndarray | None = None) -> Difference:
    """Return the mean score of a loss, or its mean difference to a second one, over the chosen images (None: all)."""
    chosen = np.ones(len(runs.patients), dtype=bool) if chosen is None else chosen
    if score == "pooled_ece":
        return pooled_difference(runs, first, second, chosen)
    values = runs.table[first, score] - (0 if second is None else runs.table[second, score])
    values = values[:, chosen]
    interval = clustered_interval(values.mean(0).tolist(), runs.patients[chosen].tolist(), draws=DRAWS)
    return Difference(*interval, tuple(values.mean(1).tolist()))


def pooled_difference(runs: Runs, first: str, second: str | None, chosen: np.ndarray) -> Difference:
    """Return the same of the calibration error whose bins are added over the images of each bootstrap sample."""
    names, member = np.unique(runs.patients[chosen], return_inverse=True)
    drawn = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), DRAWS)
    weights = np.concatenate([np.ones((1, len(names))), drawn])

    def errors(loss: str) -> np.ndarray:
        by_patient = np.zeros((len(names), *runs.bins[loss][:, 0].shape))
        np.add.at(by_patient, member, runs.bins[loss][:, chosen].swapaxes(0, 1))
        summed = torch.from_numpy(np.tensordot(weights, by_patient, 1))
        return error_of_bins(summed, CalibrationKind.ECE).numpy()

    found = errors(first) - (0 if second is None else errors(second))
    low, high = np.quantile(found[1:].mean(1), [0.025, 0.975])
    return Difference(float(found[0].mean()), float(low), float(high), tuple(found[0].tolist()))


def subsets(runs: Runs) -> dict[str, np.ndarray]:
    """Return which images are counted: all, and those with a majority where some have none."""
    empty = runs.table[CE, "majority_empty"][0] > 0
    everything = np.ones(len(empty), dtype=bool)
    return {"All": everything} | ({"With a majority": ~empty} if 0 < empty.sum() < len(empty) else {})


def scores_of(subset: str) -> list[str]:
    """Return the scores of a table: without a majority in half of the images, Dice with it is the one that changes."""
    return list(SCORES) if subset == "All" else [score for score in SCORES if score.startswith("dice")]


def tables(runs: Runs, unit: str) -> str:
    """Return the tables of one set in Markdown: the scores of each loss, and the differences of two."""
    text = []
    for subset, chosen in subsets(runs).items():
        means = [["score", *LOSSES]]
        gaps = [["score", *(f"{first} minus {second}" for first, second in PAIRS)]]
        for score in scores_of(subset):
            label, factor, digits, _ = SCORES[score]
            label += f", {unit}" if score == "bias" else ""
            means.append([label, *(estimate(runs, score, loss, None, chosen).text(factor, digits) for loss in LOSSES)])
            gaps.append([label, *(estimate(runs, score, *pair, chosen).text(factor, digits, "+") for pair in PAIRS)])
        images, patients = f"{chosen.sum():,}", len(set(runs.patients[chosen].tolist()))
        for title, rows in ((f"{subset}: {images} images of {patients} patients", means), ("Differences", gaps)):
            text += [f"**{title}**", "", *markdown(rows), ""]
    return "\n".join(text)


def markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in [rows[0], ["---"] * len(rows[0]), *rows[1:]]]


def patient_rows(runs: Runs, name: str) -> list[dict[str, Any]]:
    """Return the means of each patient and loss over images and seeds."""
    rows = []
    for loss in LOSSES:
        means = {column: values.mean(0) for (at, column), values in runs.table.items() if at == loss and column != "bias"}
        for patient in np.unique(runs.patients).tolist():
            own = runs.patients == patient
            about = {"set": name, "loss": loss, "seeds": len(runs.seeds), "patient": patient, "images": int(own.sum())}
            rows.append(about | {column: float(values[own].mean()) for column, values in means.items()})
    return rows


def course_rows(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each look at a training, with what was chosen at its end."""
    rows = []
    for record in records:
        about = {key: record[key] for key in ("set", "loss", "seed")}
        rows += [about | look | record["decisions"] | {"seconds": record["seconds"][0]} for look in record["course"]]
    return rows


def draw_scores(path: Path, sets: dict[str, Runs]) -> None:
    """Draw the scores of each loss with intervals, a column for each set and a row for each score."""
    from matplotlib.figure import Figure

    shown = ("thresholded_dice", "dice_half", "dice_expected_level", "brier", "pooled_ece", "bias")
    figure = Figure(figsize=(10, 1.2 * len(shown) + 0.5), layout="constrained")
    axes = figure.subplots(len(shown), len(sets), squeeze=False)
    for column, (name, runs) in enumerate(sets.items()):
        for row, score in enumerate(shown):
            draw_score(axes[row, column], runs, score, name, first=column == 0)
    figure.suptitle("LIDC-IDRI's readers: means, intervals over patients (bars), and means of single seeds (ticks)", fontsize=11)
    save(figure, path)


def draw_score(axis: Axes, runs: Runs, score: str, name: str, *, first: bool) -> None:
    """Draw one score: a bar from end to end of the interval of each loss, a dot at its mean, and a tick for each seed."""
    label, factor, _, best = SCORES[score]
    for place, loss in enumerate(LOSSES):
        found = estimate(runs, score, loss)
        colour = MODEL_COLOURS[place]
        axis.plot([factor * found.low, factor * found.high], [place, place], color=colour, linewidth=2)
        axis.plot(factor * found.mean, place, "o", color=colour, markersize=6)
        axis.plot([factor * seed for seed in found.seeds], [place + 0.35] * len(found.seeds), "|", color=colour, markersize=7)
    if score == "bias":
        axis.axvline(0, color="0.5", linewidth=0.8)
        label += f", {SETS[name].unit}"
    axis.set_title(f"{name.upper()}: {label} ({best})", fontsize=9, loc="left")
    axis.set_yticks(range(len(LOSSES)), list(LOSSES) if first else [""] * len(LOSSES), fontsize=8)
    axis.set_ylim(len(LOSSES) - 0.4, -0.6)
    axis.tick_params(axis="x", labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)


def draw_test_case(path: Path, out: Path, folder: Path, name: str, seed: int = 0) -> str:
    """Draw a test case that has a majority and whose readers disagree as much as the median. Returns its name."""
    from matplotlib.figure import Figure

    cases = [case for case in parts_of(SETS[name].read(folder))["test"] if majority_of(torch.from_numpy(case.votes)[None]).any()]
    case = typical(cases)
    plane = slice_of(case)
    probs = {loss: probability_of(out, name, loss, seed, case)[0][plane].numpy() for loss in LOSSES}
    figure = Figure(figsize=(3.1 * (len(LOSSES) + 2), 3.5), layout="constrained")
    axes = figure.subplots(1, len(LOSSES) + 2)
    votes = np.stack([marked[plane] for marked in case.votes])
    axes[0].imshow(case.image[plane], cmap="gray")
    for reader, marked in enumerate(votes):
        style = rater_style(reader, len(votes))
        axes[0].contour(marked, [0.5], colors=style["color"], linestyles=[style["linestyle"]], linewidths=1.5)
    axes[0].set_title("image, four readers", fontsize=10)
    for axis, (title, shown) in zip(axes[1:], {"share of readers": votes.mean(0), **probs}.items(), strict=True):
        drawn = axis.imshow(shown, cmap=PROBABILITY_MAP, vmin=0, vmax=1)
        axis.contour(votes.sum(0) >= 3, [0.5], colors=MAJORITY_STYLE["color"], linestyles=[MAJORITY_STYLE["linestyle"]], linewidths=1.2)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel(f"sum {shown.sum():.0f} pixels", fontsize=9)
    for axis in axes:
        axis.set_xticks([])
        axis.set_yticks([])
    figure.colorbar(drawn, ax=axes[-1], label="probability", shrink=0.75)
    figure.suptitle(f"{case.name}, a test case of median disagreement. Dashed: the readers' majority. LIDC-IDRI, CC BY 3.0", fontsize=9)
    save(figure, path)
    return case.name


def typical(cases: Sequence[RatedArray]) -> RatedArray:
    """Return the case of median disagreement: the share of the voxels that anyone marked at which the readers differ."""
    share = [float((case.votes.any(0) & ~case.votes.all(0)).sum() / case.votes.any(0).sum()) for case in cases]
    return cases[int(np.argsort(share, kind="stable")[len(share) // 2])]


def slice_of(case: RatedArray) -> tuple[Any, ...]:
    """Return the index of the slice where most is marked; of a slice, all of it."""
    return () if case.image.ndim == 2 else (int(case.votes.sum((0, 2, 3)).argmax()),)


def probability_of(out: Path, name: str, loss: str, seed: int, case: RatedArray) -> torch.Tensor:
    network = SETS[name].network()
    network.load_state_dict(torch.load(out / f"{run_name(name, loss, seed)}.pt", weights_only=True))
    return probabilities(network, [case], SETS[name].multiples())[0]


def save(figure: Any, path: Path) -> None:
    with whole_file(path) as draft:
        figure.savefig(draft, dpi=90)


def main() -> None:
    """Make tables and pictures of the runs that are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of the runs")
    parser.add_argument("--data", type=Path, required=True, help="folder of lidc2d.npz and lidc3d.npz")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = {name: runs_of(arguments.out, name) for name in tqdm(SETS, desc="runs", disable=None)}
    sets = {name: runs for name, runs in found.items() if runs is not None}
    if not sets:
        parser.error(f"out: expected the runs of every loss, got none in {arguments.out}. Fix: run benchmarks/real_raters.py first.")
    text = "\n".join(f"### {name.upper()}\n\n{tables(runs, SETS[name].unit)}" for name, runs in sets.items())
    with whole_file(arguments.out / "real_raters.md") as draft:
        Path(draft).write_text(text)
    write_rows(arguments.out / "real_raters.csv", [row for name, runs in sets.items() for row in patient_rows(runs, name)])
    write_rows(arguments.out / "real_raters_runs.csv", [row for runs in sets.values() for row in course_rows(runs.records)])
    draw_scores(arguments.out / "real_raters.png", sets)
    name = draw_test_case(arguments.out / "real_raters_case.png", arguments.out, arguments.data, list(sets)[-1])
    print(f"{text}\n\nPicture: {name}")


if __name__ == "__main__":
    main()
