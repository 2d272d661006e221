"""Results of runs: those in a study's folder, and those that are kept beside this file.

    python -m benchmarks.study.results OUT

Adds OUT's runs to those that are kept, each in place of an earlier one of the same cell and seed. Tables can be made of what is
kept, and a study goes on elsewhere: `--kept` of `benchmarks.study` and of `benchmarks.study.tables`.

`kept/runs.csv` has a row for each run: settings, device, validation scores. `kept/SET.csv.xz` has a row for each run, patient and
structure: the number of its test cases, the sum of each score over them, and the IoU of each, of which every mean, interval and p
of the tables follows.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import lzma
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_jdt.data.files.atomic import whole_file
from monai_jdt.validation import error_sentence

KEPT = Path(__file__).resolve().parent / "kept"
ABOUT = ("set", "network", "cell", "seed")
#: Columns of a case that are no score.
NAMES = (*ABOUT, "case", "patient", "structure")
#: Columns of a case from which others are made.
NEEDED = ("thresholded_dice", "majority", "marked_half", "right_half")
#: Columns of a patient and a structure that are no sum.
OF_ROW = ("patient", "structure", "ious")
#: How many cases have an empty majority, and the sum over these.
OF_EMPTY = ("empty", "thresholded_dice_of_empty")


@dataclass(frozen=True)
class Result:
    """What a run has found.

    Args:
        about: set, network, cell and seed, as texts.
        run: settings, decisions, where it ran, and the validation scores.
        patients: of each test patient and structure, their names, the cases, the sum of each score over them, and the IoU of
            p > .5 with each case's majority, "nan" where that is empty.
    """

    about: tuple[str, ...]
    run: Mapping[str, str]
    patients: Sequence[Mapping[str, str]]


def read_results(out: Path, kept: bool = False) -> list[Result]:
    """Return the results of a study's folder and, where it has none of a cell and seed, those that are kept."""
    found = {result.about: result for result in (read_kept() if kept else [])}
    found |= {result.about: result for result in map(read_run, sorted(out.glob("runs/*/seed*/record.json")))}
    return [found[about] for about in sorted(found)]


def read_run(record_file: Path) -> Result:
    """Return the result of one run."""
    record = json.loads(record_file.read_text())
    with (record_file.parent / "cases.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    missing = {*NAMES, *NEEDED} - set(rows[0])
    if missing:
        what = f"scores as {Path(__file__).with_name('scores.py')} makes them"
        fix = f"delete {record_file}, and run the study again, which trains again"
        raise ValueError(error_sentence(str(record_file.with_name("cases.csv")), what, f"none of {', '.join(sorted(missing))}", fix))
    run = {
        "settings": record["settings"],
        **record["decisions"],
        "seconds": round(record["seconds"]["all"]),
        "device": record["device"],
        "torch": record["versions"]["torch"],
        **{f"validation_{score}": value for score, value in record["validation"].items()},
    }
    return Result(tuple(rows[0][name] for name in ABOUT), texts(run), sums(rows))


def sums(rows: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Return the sums over the cases of each patient and structure."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        about = {"patient": row["patient"], "structure": row["structure"]}
        sum_of = found.setdefault((row["patient"], row["structure"]), {**about, "cases": 0, "ious": []})
        sum_of["cases"] += 1
        scores = {score: float(value) for score, value in row.items() if score not in NAMES}
        empty = scores["majority"] == 0
        union = scores["marked_half"] + scores["majority"] - scores["right_half"]
        sum_of["ious"].append("nan" if empty else f"{scores['right_half'] / union:.4g}")
        scores |= {OF_EMPTY[0]: float(empty), OF_EMPTY[1]: empty * scores["thresholded_dice"]}
        for score, value in scores.items():
            sum_of[score] = sum_of.get(score, 0.0) + value
    for sum_of in found.values():
        sum_of["ious"] = " ".join(sum_of["ious"])
    columns = [*(score for score in rows[0] if score not in NAMES), *OF_EMPTY, "ious"]
    return [texts({name: sum_of[name] for name in ("patient", "structure", "cases", *columns)}) for _, sum_of in sorted(found.items())]


def texts(row: Mapping[str, Any]) -> dict[str, str]:
    """Return the row for a table, numbers with six digits."""
    return {key: f"{value:.6g}" if isinstance(value, float) else str(value) for key, value in row.items()}


def read_kept() -> list[Result]:
    """Return what is kept. Of a `keep` that was interrupted, what has both its row in `runs.csv` and its patients."""
    runs = {tuple(row[name] for name in ABOUT): row for row in _read(KEPT / "runs.csv")}
    patients: dict[tuple[str, ...], list[dict[str, str]]] = {about: [] for about in runs}
    for path in sorted(KEPT.glob("*.csv.xz")):
        for row in _read(path):
            about = tuple(row[name] for name in ABOUT)
            if about in patients:
                patients[about].append({key: value for key, value in row.items() if key not in ABOUT})
    whole = {about: run for about, run in runs.items() if patients[about]}
    return [Result(about, {key: run[key] for key in run if key not in ABOUT}, patients[about]) for about, run in whole.items()]


def keep(results: Iterable[Result]) -> None:
    """Add results to those that are kept."""
    found = {result.about: result for result in (*read_kept(), *results)}
    ordered = [found[about] for about in sorted(found)]
    KEPT.mkdir(exist_ok=True)
    for name in sorted({result.about[0] for result in ordered}):
        own = [result for result in ordered if result.about[0] == name]
        rows = [named(result) | dict(patient) for result in own for patient in result.patients]
        with whole_file(KEPT / f"{name.replace(' ', '_')}.csv.xz") as draft:
            Path(draft).write_bytes(lzma.compress(_table(rows).encode(), preset=9))
    with whole_file(KEPT / "runs.csv") as draft:
        Path(draft).write_text(_table([named(result) | dict(result.run) for result in ordered]))


def named(result: Result) -> dict[str, str]:
    """Return set, network, cell and seed by their names."""
    return dict(zip(ABOUT, result.about, strict=True))


def _read(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    content = path.read_bytes()
    text = (lzma.decompress(content) if path.suffix == ".xz" else content).decode()
    return list(csv.DictReader(io.StringIO(text)))


def _table(rows: Sequence[Mapping[str, str]]) -> str:
    columns = dict.fromkeys(key for row in rows for key in row)
    file = io.StringIO()
    writer = csv.DictWriter(file, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def main() -> None:
    """Keep the runs of a study."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.study.results", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder of the runs")
    out = parser.parse_args().out
    try:
        found = read_results(out)
    except ValueError as error:
        parser.error(str(error))
    if not found:
        parser.error(f"out: expected runs that are done, got none in {out}. Fix: run benchmarks.study first.")
    keep(found)
    print(f"{len(found)} runs added, {len(read_kept())} kept in {KEPT}")


if __name__ == "__main__":
    main()
