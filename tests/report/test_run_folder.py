"""The record of a run: read as it was written, movable, and refused where it is no such record."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from monai_jdt.report.rated_cases import RatedCase
from monai_jdt.report.run_folder import RunModel, RunRecord, read_run, read_scores, read_training, write_run


def record_of(folder: Path) -> RunRecord:
    """One case whose prediction lies in the run's folder, and whose files lie beside it."""
    data = folder.parent / "data"
    case = RatedCase(
        "set case/1 2",
        "case/1",
        "case",
        (f"{data}/a.nii.gz",),
        ("Änne",),
        True,
        {"task": "2"},
        (f"{data}/t1.nii.gz", f"{data}/t2.nii.gz"),
    )
    return RunRecord(
        what="evaluate",
        settings={"kind": "auto"},
        datalist=str(data / "list.json"),
        cases=(case,),
        models=(RunModel("net", str(folder / "predictions"), "probabilities", "{case}.npz"),),
        regions={"cord": (1, 2)},
        decision="expected_dice",
        section="validation",
        failures={"case/2": "no prediction"},
        channel_dim="no_channel",
    )


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    record = record_of(tmp_path / "run")
    write_run(tmp_path / "run", record)
    assert read_run(tmp_path / "run") == record
    assert record.versions["python"].startswith("3.")
    assert record.date.endswith("+00:00")


def test_a_moved_folder_finds_its_predictions_and_the_data(tmp_path: Path) -> None:
    record = record_of(tmp_path / "run")
    write_run(tmp_path / "run", record)
    moved = tmp_path / "elsewhere" / "run"
    shutil.move(tmp_path / "run", moved)
    assert read_run(moved) == replace(record, models=(replace(record.models[0], folder=str(moved / "predictions")),))


def test_a_relative_folder_is_the_same_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    record = replace(record_of(tmp_path / "run"), datalist="data/list.json")
    write_run("run", record)
    assert read_run(tmp_path / "run").datalist == str(tmp_path / "data" / "list.json")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["models"][0]["folder"] == "predictions"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "expected the record of a run, got no such file"),
        ("{", "expected JSON, got"),
        ("[]", "expected an object, got list"),
        ('{"format": 99}', "expected a run in format 2, got another format"),
        ('{"format": 2, "scores": null, "what": "x"}', "expected the fields of a run, got"),
    ],
)
def test_what_is_no_record_is_refused(tmp_path: Path, text: str | None, words: str) -> None:
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    with pytest.raises(ValueError, match=r"run\.json: ") as refused:
        read_run(tmp_path)
    assert words in str(refused.value)
    assert "Fix: write the folder again" in str(refused.value)


def test_scores_of_another_run_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "evaluation.csv").write_text("old\n")
    write_run(folder, record_of(folder))
    assert read_run(folder) == replace(record_of(folder), date=read_run(folder).date)
    for change in (lambda path: path.write_text("new\n"), Path.unlink):
        change(folder / "evaluation.csv")
        with pytest.raises(ValueError, match=r"expected the record of the scores in evaluation\.csv, got") as refused:
            read_run(folder)
        assert "\n" not in str(refused.value)


def test_tables_of_a_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a table of the run, got nothing"):
        read_scores(tmp_path)
    assert read_training(tmp_path) == []
    (tmp_path / "evaluation.csv").write_text("model,case,patient,region,rater,score,value\nm,c,p,r,,dice_raters,0.5\n")
    (tmp_path / "training.csv").write_text("epoch,value\n1,2\n")
    assert read_scores(tmp_path)[0]["value"] == "0.5"
    with pytest.raises(ValueError, match="expected the columns epoch, name, value, got epoch, value"):
        read_training(tmp_path)
