"""The verb `report`: a page of runs, and what it says of files that are gone."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from monai_jdt.cli import main
from monai_jdt.report.joined_runs import join_runs
from monai_jdt.report.run_folder import read_run, write_run
from tests.report.run_folders import CASES, change_scores, write_list, write_run_of


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["report", *arguments, "--no-progress"])
    return int(ended.value.code or 0)


def test_a_page_of_two_runs(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    datalist = write_list(tmp_path, named=False)
    first = write_run_of(tmp_path, "first", datalist, {"net": 0})
    second = write_run_of(tmp_path, "second", datalist, {"late": 2}, "--decision", "expected_dice")
    assert run(str(first), str(second)) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(first / "report.html")
    page = (first / "report.html").read_text()
    assert "3 cases of 3 patients, 2 raters per case" in page
    assert "Difference to net, case by case" in page
    assert "the best expected Dice" in page
    assert "The list gives raters no names" in page


def test_without_the_files_the_scores_remain(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    datalist = write_list(tmp_path)
    folder = write_run_of(tmp_path, "run", datalist, {"net": 0})
    for file in (tmp_path / "data").iterdir():
        file.unlink()
    assert run(str(folder), "--dest", str(tmp_path / "page.html")) == 1
    assert "one: " in (shown := capsys.readouterr().err)
    assert "Traceback" not in shown
    page = (tmp_path / "page.html").read_text()
    assert "Dice with each rater, mean" in page
    assert 'id="viewer"' not in page
    # the page may go to others: of paths it has what the list has
    assert "<li>one: data/0_0.nii.gz: expected " in page
    assert str(tmp_path) not in page


def test_names_that_are_no_text_join_scores_and_files(tmp_path: Path) -> None:
    odd = os.fsdecode(b"odd\xff")
    datalist = Path(write_list(tmp_path))
    for old, new in (("one", odd), ("p0", f"p{odd}"), ("Anna", f"Anna{odd}")):
        datalist.write_text(datalist.read_text().replace(json.dumps(old), json.dumps(new)))
    folder = write_run_of(
        tmp_path, "run", str(datalist), {f"net{odd}": 0}, "--regions", json.dumps({f"cord{odd}": [1]}), cases=(odd, *CASES[1:])
    )
    written = r"odd\udcff"
    joined = join_runs([folder])
    assert {row["case"] for row in joined.rows} == set(joined.cases) == {written, *CASES[1:]}
    assert {row["patient"] for row in joined.rows} == {case.patient for case in joined.cases.values()}
    assert {row["rater"] for row in joined.rows if row["rater"]} == set(joined.cases[written].raters) == {f"Anna{written}", "Ben<b>"}
    assert {row["region"] for row in joined.rows} == set(joined.regions) == {f"cord{written}"}
    assert [model.name for model in joined.models] == [f"net{written}"]
    assert run(str(folder)) == 0
    page = (folder / "report.html").read_text(encoding="utf-8")
    # all three cases have their pictures, which need the prediction's file
    assert "3 cases of 3 patients, 2 raters per case" in page
    assert all(f'id="case-{number}"' in page for number in range(3))
    assert f'">2. {written}' in page


def test_of_paths_in_settings_names_are_shown(tmp_path: Path) -> None:
    folder = write_run_of(tmp_path, "run", write_list(tmp_path), {"net": 0})
    record = read_run(folder)
    settings = {"dataset_dir": "/home/ann/brain scans", "ckpt_path": str(folder / "models" / "net.pt"), "files": "['/home/ann/a.png']"}
    write_run(folder, replace(record, settings=settings))
    assert run(str(folder), "--cases", "0") == 0
    page = (folder / "report.html").read_text()
    for shown in ("<td>brain scans</td>", "<td>models/net.pt</td>", "<td>[&#39;a.png&#39;]</td>"):
        assert shown in page


def test_infinite_scores(tmp_path: Path) -> None:
    folder = write_run_of(tmp_path, "run", write_list(tmp_path), {"net": 0, "late": 2})
    change_scores(folder, lambda row: {**row, "value": "inf"} if row["score"] == "nll" else row)
    assert run(str(folder), "--cases", "2") == 0
    page = (folder / "report.html").read_text()
    assert '["negative log-likelihood", "\\u221e"]' in page


def test_the_number_of_cases_with_pictures(tmp_path: Path) -> None:
    folder = write_run_of(tmp_path, "run", write_list(tmp_path), {"net": 0})
    assert run(str(folder), "--cases", "1") == 0
    page = (folder / "report.html").read_text()
    assert "1 of 3 cases, worst first" in page
    # case three's second rater marks nothing: Dice 0
    assert '<option value="0">1. three' in page
    assert 'id="case-1"' not in page


def test_a_folder_that_is_no_run_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert run(str(tmp_path / "nowhere")) == 1
    assert "run.json: expected the record of a run, got no such folder" in capsys.readouterr().err
    assert not (tmp_path / "nowhere").exists()
