"""Tables, CSV and figures of the study's runs.

    python -m benchmarks.study.tables OUT [--seeds 0,1,2,3,4] [--kept]

OUT gets `study.md`, `study_comparisons.csv` (a row for each comparison and score, with interval and p), `study_runs.csv` (a row for
each run, with its seed: test means, and those of the validation patients), and figures of differences to the reference: one for each
set of real images, and one for all phantoms.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.real_raters_results import markdown, save
from benchmarks.study.cells import CE, CELLS, JDT, SEEDS, USUAL, at_faster_rate, core
from benchmarks.study.estimates import SCORES, Estimate, Key, Score, ScoreTable, estimate, holm, mean_of_seed, table_of
from benchmarks.study.results import Result, read_results
from benchmarks.study.run import write_rows
from benchmarks.study.sets import SETS
from monai_jdt.data.files.atomic import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: The comparisons of the plan that are corrected together in each set: first, second, score of the first, and of the second if another.
PLANNED: tuple[tuple[str, str, str, str], ...] = (
    (JDT, USUAL, "thresholded_dice", ""),
    (JDT, USUAL, "brier", ""),
    (JDT, USUAL, "dice_expected_level", ""),
    (JDT, CE, "dice_expected_level", ""),
    (JDT, "DiceCE, average", "thresholded_dice", ""),
    (JDT, JDT, "dice_expected_level", "dice_half"),
    (JDT, "CE + JML norm 2, average", "brier", ""),
)
#: Comparisons without correction that the page names: of cells without the reference, and of masks.
NAMED: tuple[tuple[str, str, str, str], ...] = (
    ("DiceCE, average", USUAL, "thresholded_dice", ""),
    ("DiceCE, average", USUAL, "brier", ""),
    ("DiceCE, average", USUAL, "dice_expected_level", ""),
    ("soft DiceCE, average", "DiceCE, average", "thresholded_dice", ""),
    ("soft DiceCE, average", "DiceCE, average", "brier", ""),
    *((cell, cell, "dice_expected_level", "dice_half") for cell in (USUAL, CE, "DiceCE, average", "CE + JML norm 2, average")),
    *(
        (first, second, score, "")
        for first, second in (
            ("CE + JML, majority", USUAL),
            ("CE, majority", USUAL),
            ("CE + JML, random rater", "DiceCE, random rater"),
            ("CE + JML, random rater", "CE + JML, majority"),
            ("CE + JML, majority, smoothed everywhere", "CE + JML, majority"),
            ("CE + JML, majority, smoothed near borders", "CE + JML, majority"),
            *((f"{JDT}, {how}", f"{cell}, {how}") for how in ("half the epochs", "batches of 4") for cell in (USUAL, CE)),
            *((f"{cell}, half the epochs", cell) for cell in (USUAL, CE)),
            *((f"{cell}, batches of 4", cell) for cell in (USUAL, CE)),
            (f"{JDT}, two ranks, sync on", f"{JDT}, two ranks, sync off"),
        )
        for score in ("thresholded_dice", "brier")
    ),
    *(
        (f"CE + JML by {first}, average", f"CE + JML by {second}, average", score, "")
        for first, second in (("class, present", "image, present"), ("class, present", "image"))
        for score in ("iou_dataset", "iou_image", "iou_class", "iou_worst")
    ),
    # the mask with the best expected Dice and a level, against the best threshold
    (JDT, JDT, "dice_expected_level", "dice_validated"),
    (JDT, JDT, "dice_validated", "dice_half"),
    # the usual mask for the usual score
    *((JDT, cell, "dice_half", "") for cell in (USUAL, CE, "DiceCE, average", "CE + JML norm 2, average")),
    *(("CE + Lovasz, majority", USUAL, score, "") for score in ("thresholded_dice", "dice_half")),
    ("CE + JML, majority, smoothed near borders", "CE + JML, majority", "dice_expected_level", ""),
    (f"{JDT}, half the epochs", CE, "thresholded_dice", ""),
    (at_faster_rate(JDT), at_faster_rate(JDT), "dice_expected_level", "dice_half"),
    *(
        (at_faster_rate(JDT), at_faster_rate(cell), score, "")
        for cell in (USUAL, CE, "DiceCE, average", "CE + JML norm 2, average")
        for score in ("thresholded_dice", "brier", "ece", "truth_error", "dice_half", "dice_expected_level")
    ),
)
#: Of cells with another network than the others', without correction.
OF_OTHER_NETWORKS: tuple[tuple[str, str, str, str], ...] = tuple(
    (JDT, other, score, "") for other in (USUAL, CE) for score in ("thresholded_dice", "brier", "dice_expected_level")
)
#: Of phantoms, in one figure.
OF_PHANTOMS = ("thresholded_dice", "dice_expected_level", "brier", "ece", "truth_error")
SHOWN = ("thresholded_dice", "dice_half", "dice_expected_level", "brier", "ece", "bias")


@dataclass(frozen=True)
class Comparison:
    """A planned one with its result.

    Args:
        title: of the two cells.
        score: a key of SCORES.
        found: the difference.
        corrected: its p-value after Holm's steps.
    """

    title: str
    score: str
    found: Estimate
    corrected: float


def compared(table: ScoreTable, network: str, pairs: Sequence[tuple[str, str, str, str]]) -> list[tuple[str, str, Estimate]]:
    """Return title, score and difference of the comparisons whose cells are there."""
    found = []
    for first, second, score, other in pairs:
        keys = (network, first), (network, second)
        if all(key in table.cells for key in keys):
            title = f"{first} minus {second}" if not other else f"{first}: {SCORES[score].title} minus {SCORES[other].title}"
            found.append((title, score, estimate(table, score, *keys, other)))
    return found


def planned(table: ScoreTable, network: str) -> list[Comparison]:
    """Return the planned comparisons whose cells are there, corrected together."""
    found = compared(table, network, PLANNED)
    corrected = holm([one.p for _, _, one in found], len(PLANNED))
    return [Comparison(title, score, one, p) for (title, score, one), p in zip(found, corrected, strict=True)]


def text_of(name: str, table: ScoreTable) -> str:
    """Return the tables of a set in Markdown."""
    network = network_of(name)
    patients = len(set(table.patients.tolist()))
    seeds = sorted(set(table.seeds.tolist()))
    images = len(table.row_of_image) // len(seeds)
    about = f"{images:,} test images in each seed, {patients} patients in all, seeds {', '.join(map(str, seeds))}."
    about += " What no prediction undercuts: " + ", ".join(floors(table)) + "."
    lines = [f"## {name}", "", about, ""]
    rows = [["planned comparison", "score", "difference", "p", "p, corrected", "seeds of this sign"]]
    for one in planned(table, network):
        score = SCORES[one.score]
        rows.append(
            [one.title, score.title, one.found.text(score, "+"), f"{one.found.p:.4f}", f"{one.corrected:.4f}", same_sign(one.found)]
        )
    lines += [*markdown(rows), ""]
    rows = [["other comparison", "score", "difference", "p", "seeds of this sign"]]
    others = sorted({key[0] for key in table.cells} - {network})
    named = compared(table, network, NAMED)
    for other in others:
        named += [(f"{title} ({other})", score, found) for title, score, found in compared(table, other, OF_OTHER_NETWORKS)]
    for title, name_of_score, found in named:
        score = SCORES[name_of_score]
        rows.append([title, score.title, found.text(score, "+"), f"{found.p:.4f}", same_sign(found)])
    lines += [*markdown(rows), ""]
    scores = [score for score in SCORES if table.has(score)]
    middle, last = scores.index("iou_dataset"), scores.index("brier")
    for part in (scores[:middle], scores[middle:last], scores[last:]):
        rows = [["cell", *(SCORES[score].title for score in part)]]
        rows += [[title_of(key, network), *(estimate(table, score, key).text(SCORES[score]) for score in part)] for key in table.cells]
        lines += [*markdown(rows), ""]
        reference = (network, JDT)
        rows = [[f"cell minus {JDT}", *(SCORES[score].title for score in part)]]
        for key in table.cells:
            if key != reference and reference in table.cells:
                rows.append(
                    [title_of(key, network), *(estimate(table, score, key, reference).text(SCORES[score], "+") for score in part)]
                )
        lines += [*markdown(rows), ""]
    return "\n".join(lines)


def floors(table: ScoreTable) -> list[str]:
    """Return the scores of the readers' own share: their spread in the Brier score, and their NLL."""
    columns = next(iter(table.cells.values()))
    found = [("Brier score x 1000", "spread", 2), ("NLL x 1000", "nll_spread", 1)]
    return [f"{title} {1000 * columns[name].sum() / table.cases.sum():.{digits}f}" for title, name, digits in found if name in columns]


def in_order(name: str, table: ScoreTable) -> ScoreTable:
    """Return the table with its cells as `CELLS` has them."""
    places = {(cell.network, cell.name): number for number, cell in enumerate(CELLS) if cell.set == name}
    ordered = sorted(table.cells.items(), key=lambda item: places.get(item[0], len(CELLS)))
    return replace(table, cells=dict(ordered))


def network_of(name: str) -> str:
    """Return the network of a set's core cells."""
    return next(cell.network for cell in CELLS if cell.set == name)


def title_of(key: Key, network: str) -> str:
    return key[1] if key[0] == network else f"{key[1]} ({key[0]})"


def same_sign(found: Estimate) -> str:
    seeds = np.array(found.by_seed)
    return f"{int((np.sign(seeds) == np.sign(found.mean)).sum())} of {len(seeds)}"


def comparison_rows(name: str, table: ScoreTable) -> list[dict[str, Any]]:
    """Return a row for each cell and score: its difference to the reference."""
    reference = (network_of(name), JDT)
    rows: list[dict[str, Any]] = []
    for key in table.cells:
        if key == reference or reference not in table.cells:
            continue
        for score in (score for score in SCORES if table.has(score)):
            found = estimate(table, score, key, reference)
            about = {"set": name, "network": key[0], "cell": key[1], "minus": JDT, "score": score}
            rows.append(
                about | {"difference": found.mean, "low": found.low, "high": found.high, "p": found.p, "seeds": same_sign(found)}
            )
    return rows


def run_rows(tables: Mapping[str, ScoreTable], results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return a row for each run: test means, and the validation's beside them."""
    rows = []
    for result in results:
        name, network, cell, seed = result.about
        table, key = tables.get(name), (network, cell)
        if table is None or key not in table.cells or int(seed) not in table.seeds:
            continue
        about = {"set": name, "network": network, "cell": cell, "seed": seed}
        about |= {column: result.run[column] for column in ("threshold", "level", "seconds", "device", "torch")}
        test = {score: mean_of_seed(table, score, key, int(seed)) if table.has(score) else "" for score in SCORES}
        looked_at = [f"validation_{score}" for score in ("thresholded_dice", "brier", "dice_expected_level")]
        rows.append(about | test | {column: float(result.run[column]) for column in looked_at})
    return rows


def draw(path: Path, name: str, table: ScoreTable) -> None:
    """Draw the differences of all cells to the reference, a column for each score."""
    from matplotlib.figure import Figure

    reference = (network_of(name), JDT)
    keys = [key for key in table.cells if key != reference]
    figure = Figure(figsize=(3.2 + 2.1 * len(SHOWN), 0.8 + 0.28 * len(keys)), layout="constrained")
    axes = figure.subplots(1, len(SHOWN), sharey=True, squeeze=False)[0]
    for axis, score in zip(axes, SHOWN, strict=True):
        draw_score(axis, table, score, keys, reference)
    axes[0].set_yticks(range(len(keys)), [title_of(key, reference[0]) for key in keys], fontsize=8)
    axes[0].set_ylim(len(keys) - 0.5, -0.5)
    figure.suptitle(f"{name}: difference to {JDT}, 95 % interval over patients and seeds. Green: better, red: worse", fontsize=10)
    save(figure, path)


def draw_phantoms(path: Path, tables: Mapping[str, ScoreTable]) -> None:
    """Draw the same for all sets of phantoms, a row for each cell and set."""
    from matplotlib.figure import Figure

    sets = [(name, table) for name, table in tables.items() if name.startswith("phantom")]
    cells = [cell.name for cell in core("phantom") if cell.name != JDT]
    figure = Figure(figsize=(3.2 + 2.6 * len(OF_PHANTOMS), 1.2 + 0.22 * len(sets) * (len(cells) + 1)), layout="constrained")
    axes = figure.subplots(1, len(OF_PHANTOMS), sharey=True, squeeze=False)[0]
    reference = (network_of("phantom plain"), JDT)
    rows = [(name, table, (reference[0], cell)) for name, table in sets for cell in cells]
    places = [row + row // len(cells) for row in range(len(rows))]
    for axis, score in zip(axes, OF_PHANTOMS, strict=True):
        for place, (_, table, key) in zip(places, rows, strict=True):
            if table.has(score):
                draw_difference(axis, place, SCORES[score], estimate(table, score, key, reference))
        style(axis, SCORES[score])
    labels = [f"{name.removeprefix('phantom ')}:  {cell}" for name, _, (_, cell) in rows]
    axes[0].set_yticks(places, labels, fontsize=8)
    axes[0].set_ylim(places[-1] + 0.5, -0.5)
    figure.suptitle(f"phantoms: difference to {JDT}, 95 % interval over cases and seeds. Green: better, red: worse", fontsize=10)
    save(figure, path)


def draw_score(axis: Axes, table: ScoreTable, score: str, keys: Sequence[Key], reference: Key) -> None:
    for place, key in enumerate(keys):
        draw_difference(axis, place, SCORES[score], estimate(table, score, key, reference))
    style(axis, SCORES[score])


def draw_difference(axis: Axes, place: int, shown: Score, found: Estimate) -> None:
    better = found.mean * shown.best
    certain = found.low > 0 or found.high < 0
    colour = "0.55" if not certain or shown.best == 0 else "tab:green" if better > 0 else "tab:red"
    axis.plot([shown.factor * found.low, shown.factor * found.high], [place, place], color=colour, linewidth=2)
    axis.plot(shown.factor * found.mean, place, "o", color=colour, markersize=4)


def style(axis: Axes, shown: Score) -> None:
    axis.axvline(0, color="0.3", linewidth=0.8)
    axis.set_title(shown.title, fontsize=8, loc="left", wrap=True)
    axis.tick_params(axis="x", labelsize=7)
    axis.locator_params(axis="x", nbins=4)
    axis.spines[["top", "right"]].set_visible(False)


def main() -> None:
    """Write everything of the runs that are there."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.study.tables", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder of the runs")
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)), help="that a cell must have, separated by commas")
    parser.add_argument("--kept", action="store_true", help="take the runs of benchmarks/study/kept that OUT has not")
    arguments = parser.parse_args()
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    try:
        results = read_results(arguments.out, arguments.kept)
        tables = {name: in_order(name, table) for name in SETS if (table := table_of(results, name, seeds)) is not None}
    except ValueError as error:
        parser.error(str(error))
    if not tables:
        parser.error(
            f"out: expected cells with the seeds {arguments.seeds}, got none in {arguments.out}. Fix: run benchmarks.study first."
        )
    arguments.out.mkdir(parents=True, exist_ok=True)
    with whole_file(arguments.out / "study.md") as draft:
        Path(draft).write_text("\n".join(text_of(name, table) for name, table in tables.items()))
    write_rows(arguments.out / "study_comparisons.csv", [row for name, table in tables.items() for row in comparison_rows(name, table)])
    write_rows(arguments.out / "study_runs.csv", run_rows(tables, results))
    for name, table in tables.items():
        if not name.startswith("phantom"):
            draw(arguments.out / f"study_{name}.png", name, table)
    if any(name.startswith("phantom") for name in tables):
        draw_phantoms(arguments.out / "study_phantoms.png", tables)
    print((arguments.out / "study.md").read_text())


if __name__ == "__main__":
    main()
