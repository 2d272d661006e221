"""`python -m tests.promises`: measure every promise for every loss, and write docs/promises.md; exit code 1 if one of ours fails."""

from __future__ import annotations

import argparse
import datetime
import platform
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import monai
import torch

import monai_jdt
from tests.promises.measures import PROMISES, Measured, measure
from tests.promises.subjects import SUBJECTS, Subject

PAGE = Path(__file__).resolve().parents[2] / "docs" / "promises.md"
GROUPS = {"Soft labels": (1, 3, 11), "Numbers and ranks": (2, 4), "Labels and mistakes": (5, 6, 7), "Tensors and state": (8, 9, 10)}
FAMILIES = {"ours": "monai_jdt", "MONAI": "MONAI", "torch": "torch", "formula": "formula"}
WORDS = {True: "yes", False: "NO", None: "-"}

Table = dict[str, dict[int, Measured]]

INTRODUCTION = """\
# The promises, measured

Each promise about losses, for each loss of this package and for the losses one would otherwise use, by one and the same
measurement: `yes`, `NO`, or `-` where it does not apply, with the figure. {kept} of the {asked} promises that apply to our
losses are kept.

To make this page again (a minute or two on one core; the code is in `tests/promises/`):

    python -m tests.promises

Made on {date} with monai_jdt {ours}, MONAI {monai}, torch {torch}, Python {python}. The rows marked *formula* are plain
formulas written for this page from the literature: *product Dice + CE* is the loss that nnU-Net trains with, as described (soft
Dice in product form, sums in float32, smoothing 1e-5, masks as factors, no sums over ranks), and *norm-form Jaccard* the
Jaccard metric loss as arXiv:2302.05666 writes it, `tp = (|p| + |t| - |p - t|) / 2` with smoothing 1e-3. They are no program of
anyone's, so promises about label forms, errors, layouts, compilation and state do not apply to them. MONAI's losses are called
with `softmax=True` or `sigmoid=True` and the arguments in the row's name (`soft_label` is `soft_label=True`), otherwise with
their defaults.

## What is promised
"""

NOTES = """\
## What the failures mean

* **1, 3, Dice and Tversky in product form** (`DiceLoss`, `TverskyLoss` and what contains them; the default): on a soft label
  the best prediction is 0 or 1, and which of the two depends on the rest of the volume. With cross-entropy or focal loss beside
  it, it lies somewhere between. `soft_label=True` mends `DiceLoss`, `TverskyLoss` and `GeneralizedDiceLoss`; the compounds and
  `DeepSupervisionLoss` cannot pass it on. `DeepSupervisionLoss` also gives a coarse head the label of one voxel instead of the
  mean of the block.
* **1, weighted cross-entropy**: a class weight inside the logarithm moves the minimiser of a soft label. Ours weigh a voxel.
* **3, `GeneralizedDiceLoss`**: with an empty label and one channel every prediction costs 0. The *norm form*: its gradient at
  the label is not finite for an exponent below 1.
* **2, norm form and `soft_label=True`**: `linalg.vector_norm` in float32 loses digits on the CPU, and large sums are then
  subtracted. Half precision here means that the whole call is in it: sums pass 65504 in fp16, and the result is NaN. Under
  autocast some operations are done in float32, which hides a part of it. `DeepSupervisionLoss` starts from a float32 zero and
  casts the heads, not the label.
* **4**: without sums shared over ranks a class that only one rank has is judged twice, and with uneven batches even a mean over
  voxels (cross-entropy) is another mean. Our `LovaszSoftmaxLoss` has no `sync` either; its figure is given.
* **5**: a factor 0 does not remove a NaN, and cross-entropy's `ignore_index` removes it from the value only.
* **6**: `soft_label=True` needs floating point labels, and `TverskyLoss` any but bool. Weighted cross-entropy divides by the
  sum of weights for class indices, and by the number of voxels for one-hot labels, so one label has two losses.
* **7**: MONAI raises an AssertionError with both shapes when shapes differ, which is counted as another error; ranges are not
  checked.
* **8**: without spatial dimensions a reduction over no axes is one over all of them; the mean of nothing is NaN. That nothing
  to count is 0 is our choice: a metric would be NaN there.
* **9**: MONAI's list of axes is made by `torch.arange(...).tolist()`, which breaks the graph.
* **10**: the caller's weight tensor is kept, not copied; a single weight is replaced in the state by one for each class.
* **11**: only where the formula is one of a metric (Jaccard) or semimetric (Dice). `DiceLoss` in product form is not 0 between
  equal soft labels.

What is measured here is small, so our losses run on the `eager` kernel, which `backend="auto"` takes for the smallest inputs (the
64^3 of promise 2 are large enough for `numba`, their float64 for `chunked`). The long tier of the tests measures promises 1 - 6
and 8 on `numpy`, `chunked` and `numba` too, the last in float32, and runs the laws of `tests/losses` on all three. The tests of
each promise (`tests/losses`, `tests/functional`) go further, with random arguments, shapes and labels.
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.promises", description=__doc__)
    parser.add_argument("--date", default=datetime.date.today().isoformat(), help="the date on the page; today's if left out")
    parser.add_argument("--output", type=Path, default=PAGE)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()
    table: Table = {subject.name: {} for subject in SUBJECTS}
    for number, promise in PROMISES.items():
        print(f"{number:2}/{len(PROMISES)} {promise.title} ...", end="", flush=True)
        began = time.perf_counter()
        for subject in SUBJECTS:
            table[subject.name][number] = measure(number, subject)
        print(f" {time.perf_counter() - began:.0f} s", flush=True)
    seconds = time.perf_counter() - start
    broken = [(s.name, n, m.figure) for s in SUBJECTS if s.family == "ours" for n, m in table[s.name].items() if m.passed is False]
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(page(table, arguments.date))
    print(f"wrote {arguments.output} after {seconds:.0f} s")
    for name, number, figure in broken:
        print(f"broken: promise {number} by {name}: {figure}")
    return 1 if broken else 0


def page(table: Table, date: str) -> str:
    """The whole page."""
    asked = [m.passed for s in SUBJECTS if s.family == "ours" for m in table[s.name].values() if m.passed is not None]
    lines = [
        INTRODUCTION.format(
            kept=sum(asked),
            asked=len(asked),
            date=date,
            ours=monai_jdt.__version__,
            monai=monai.__version__,
            torch=torch.__version__,
            python=platform.python_version(),
        )
    ]
    for number, promise in PROMISES.items():
        lines.append(f"{number}. **{promise.title}.** {promise.says} *Figure:* {promise.figure}.")
    lines += ["", "## All of it in one table", ""]
    lines += rows(["loss", "of", *(str(number) for number in PROMISES)], lambda s: [WORDS[table[s.name][n].passed] for n in PROMISES])
    for title, numbers in GROUPS.items():
        lines += ["", f"## {title}", ""]
        heads = [f"{number}. {PROMISES[number].title}" for number in numbers]

        def cells(subject: Subject, numbers: Sequence[int] = numbers) -> list[str]:
            return [cell(table[subject.name][n]) for n in numbers]

        lines += rows(["loss", "of", *heads], cells)
    lines += ["", NOTES]
    return "\n".join(lines)


def rows(heads: list[str], cells: Callable[[Subject], list[str]]) -> list[str]:
    """A Markdown table with a row for each subject, columns aligned so that it reads as plain text too."""
    body = [heads] + [[row_name(s), FAMILIES[s.family], *cells(s)] for s in SUBJECTS]
    widths = [max(len(row[column]) for row in body) for column in range(len(heads))]
    lines = ["| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |" for row in body]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def row_name(subject: Subject) -> str:
    return subject.name if subject.family == "formula" else f"`{subject.name}`"


def cell(measured: Measured) -> str:
    return f"{WORDS[measured.passed]} {measured.figure}"


if __name__ == "__main__":
    sys.exit(main())
