"""Runs of known cases, written as `evaluate` writes them, for the tests of reports."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from monai_jdt.cli import main
from monai_jdt.report.run_folder import read_run, read_scores, write_run
from tests.nifti_files import save_nifti

AFFINE = np.diag([-1.0, -1, 2, 1])
SHAPE = (20, 18, 9)
#: A name that would run if a page did not escape it, and whose slash makes a folder.
HOSTILE = "<script>alert(1)</script>"
CASES = ("one", HOSTILE, "three")


def block(start: int, stop: int, value: int = 1) -> np.ndarray:
    """A box of `stop - start` rows, 6 columns and 4 slices."""
    values = np.zeros(SHAPE, np.uint8)
    values[start:stop, 5:11, 2:6] = value
    return values


def raters_of(case: int) -> list[np.ndarray]:
    """Two raters; the second one marks three rows more, and in case 2 nothing. Label 2 is the first rows of label 1's object."""
    first, second = block(3, 9), block(3, 12) if case < 2 else np.zeros(SHAPE, np.uint8)
    first[3:5][first[3:5] > 0] = 2
    return [first, second]


def write_list(folder: Path, named: bool = True) -> str:
    """Write three cases of two raters, and return the list's path."""
    rng = np.random.default_rng(0)
    items = []
    for number, case in enumerate(CASES):
        paths = [save_nifti(folder / "data" / f"{number}_{r}.nii.gz", values, AFFINE) for r, values in enumerate(raters_of(number))]
        image = save_nifti(folder / "data" / f"{number}.nii.gz", rng.normal(100, 20, SHAPE).astype(np.float32), AFFINE)
        raters = dict(zip(("Anna", "Ben<b>"), paths, strict=True)) if named else paths
        items.append({"case": case, "image": image, "raters": raters, "patient": f"p{number}"})
    path = folder / "list.json"
    path.write_text(json.dumps({"validation": items}))
    return str(path)


def write_run_of(folder: Path, name: str, datalist: str, shifts: dict[str, int], *options: str, cases: Sequence[str] = CASES) -> Path:
    """Evaluate models whose probability is .8 in rows from 3 + shift to 9 + shift, and .05 elsewhere. Return the run's folder."""
    for model, shift in shifts.items():
        for case in cases:
            prob = np.where(block(3 + shift, 9 + shift) > 0, np.float32(0.8), np.float32(0.05))
            save_nifti(folder / model / f"{case}.nii.gz", prob, AFFINE)
    models = [str(folder / model) for model in shifts]
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", *models, datalist, "--dest", str(folder / name), "--pattern", "{case}.nii.gz", "--no-progress", *options])
    assert not ended.value.code
    return folder / name


def change_scores(folder: Path, change: Callable[[dict[str, str]], dict[str, str]]) -> None:
    """Write each row of a run anew, and the record of the run with it."""
    record, rows = read_run(folder), read_scores(folder)
    with open(folder / "evaluation.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(map(change, rows))
    write_run(folder, record)
