"""Runs side by side: names that stay apart, and runs that cannot be compared."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from monai_jdt.report.evaluation_rows import EVALUATION_COLUMNS
from monai_jdt.report.joined_runs import join_runs, predictions_of
from monai_jdt.report.rated_cases import RatedCase
from monai_jdt.report.run_folder import RunModel, RunRecord, write_run


def write(
    folder: Path,
    models: tuple[str, ...] = ("net",),
    raters: str = "a",
    regions: tuple[int, ...] = (1,),
    failed: str = "",
    patient: str = "p",
) -> Path:
    case = RatedCase("c", "c", patient, (f"/data/{raters}.png",), ("rater 1",), False)
    recorded = tuple(RunModel(name, str(folder / name)) for name in models)
    failures = {failed: "no prediction"} if failed else {}
    folder.mkdir(parents=True)
    with open(folder / "evaluation.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(EVALUATION_COLUMNS)
        writer.writerows([[name, "c", "p", "cord", "", "dice_raters", "0.5"] for name in models])
    write_run(folder, RunRecord("evaluate", {}, "/data/list.json", (case,), recorded, {"cord": regions}, failures=failures))
    return folder


def test_models_of_one_name_are_named_by_their_runs(tmp_path: Path) -> None:
    runs = join_runs([write(tmp_path / "first", ("net", "other")), write(tmp_path / "second", failed="d")])
    assert [model.name for model in runs.models] == ["first: net", "other", "second: net"]
    assert [(row["model"], row["value"]) for row in runs.rows] == [("first: net", 0.5), ("other", 0.5), ("second: net", 0.5)]
    assert runs.failures == {"second: d": "no prediction"}
    assert list(runs.cases) == ["c"]


def test_runs_in_folders_of_one_name(tmp_path: Path) -> None:
    runs = join_runs([write(tmp_path / "a" / "eval"), write(tmp_path / "b" / "eval")])
    assert list(runs.runs) == ["a/eval", "b/eval"]


def test_predictions_that_are_there(tmp_path: Path) -> None:
    runs = join_runs([write(tmp_path / "run")])
    assert predictions_of(runs.models[0]) == {}
    (tmp_path / "run" / "net").mkdir()
    assert predictions_of(runs.models[0]) == {}
    (tmp_path / "run" / "net" / "c.png").touch()
    assert predictions_of(runs.models[0]) == {"c": str(tmp_path / "run" / "net" / "c.png")}


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"raters": "b"}, "expected the raters of the other runs in case 'c'"),
        ({"patient": "q"}, "got other files, raters or patients"),
        ({"regions": (1, 2)}, "expected the regions of first"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path: Path, other: dict, words: str) -> None:
    folders = [write(tmp_path / "first"), write(tmp_path / "second", **other)]
    with pytest.raises(ValueError, match="second: ") as refused:
        join_runs(folders)
    assert words in str(refused.value)
    with pytest.raises(ValueError, match="expected each folder once"):
        join_runs([folders[0], folders[0]])
