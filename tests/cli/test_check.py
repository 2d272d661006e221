"""The verb `check` by several processes: it says word for word what it says by one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monai_jdt.cli import main
from monai_jdt.data import write_datalist
from monai_jdt.data.inspection import one_case
from tests.nifti_files import save_nifti


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str], list[str]]:
    with pytest.raises(SystemExit) as ended:
        main(["check", *arguments])
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out.splitlines(), err.splitlines()


@pytest.fixture
def cases(tmp_path: Path) -> list[dict[str, Any]]:
    """Six cases: one is missing a file, one has an empty rater, one a broken file, and two have one image."""
    mark = np.zeros((8, 8, 4), np.uint8)
    mark[2:5, 3:6, 1:3] = 1
    items: list[dict[str, Any]] = []
    for number in range(6):
        image = save_nifti(tmp_path / f"{number}_image.nii.gz", mark.astype(np.float32))
        raters = [save_nifti(tmp_path / f"{number}_{name}.nii.gz", np.roll(mark, step, 0)) for step, name in enumerate("ab")]
        items.append({"case": f"case{number}", "image": image, "raters": raters})
    Path(items[0]["raters"][1]).unlink()
    save_nifti(items[1]["raters"][0], np.zeros_like(mark))
    broken = Path(items[3]["raters"][0])
    broken.write_bytes(broken.read_bytes()[:-20])
    items[5]["image"] = items[2]["image"]
    return items


def test_two_processes_say_what_one_says(cases: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    datalist = write_datalist({"training": cases[:4], "validation": cases[4:]}, tmp_path / "list.json")
    arguments = [datalist, "--label-values", "0,2", "--raters", "3", "--channels", "1"]
    code, lines, errors = run(capsys, *arguments)
    assert (code, errors) == (1, [])
    # what is said of cases comes in their order, and what several cases show after the later of them
    wheres = [line.removeprefix("warning: ").split(": ")[0].replace(str(tmp_path), "")[1:] for line in lines[:-3]]
    places = [int(next(letter for letter in where if letter.isdigit())) for where in wheres]
    assert sorted(places) == places
    assert {0, 1, 2, 3, 4, 5} == set(places)
    assert any(line.startswith("warning: case5: expected an image of its own") for line in lines)
    assert run(capsys, *arguments, "--workers", "2") == (code, lines, errors)


def test_a_case_that_breaks_a_reader_is_a_problem(
    cases: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    datalist = write_datalist(cases[4:5] + cases[2:3], tmp_path / "list.json")
    opened = one_case.open_volume

    def fail(path: str) -> Any:
        if path == cases[4]["raters"][0]:
            raise RuntimeError("the reader gave up")
        return opened(path)

    monkeypatch.setattr(one_case, "open_volume", fail)
    code, lines, _ = run(capsys, datalist)
    assert (code, lines[-1]) == (1, "looked at every voxel: 1 problem, 0 warnings")
    assert lines[0] == (
        "case4: expected files that can be looked at, got RuntimeError: the reader gave up. "
        "Fix: see which of its files does that, and export it again."
    )


def test_a_worker_needs_to_be_there(cases: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "list.json").write_text(json.dumps({"training": cases[2:3]}))
    with pytest.raises(SystemExit) as ended:
        main(["check", str(tmp_path / "list.json"), "--workers", "0"])
    assert ended.value.code == 2


def test_label_values_are_printed(cases: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    datalist = write_datalist(cases[4:5], tmp_path / "list.json")

    def printed(*arguments: str) -> list[str]:
        code, lines, _ = run(capsys, datalist, *arguments)
        return [line for line in lines if line.startswith("label values")] if code == 0 else ["failed"]

    assert printed() == []  # 0 and 1
    mark = np.zeros((8, 8, 4), np.int16)
    mark[2:5, 3:6, 1:3] = 255
    save_nifti(cases[4]["raters"][0], mark)
    assert printed() == ["label values: 0, 1, 255; --label-values refuses others"]
    assert printed("--label-values", "0,1,255") == printed("--headers-only") == []
    mark.ravel()[:20] = range(-20, 0)
    save_nifti(cases[4]["raters"][0], mark)
    first = "-20, -19, -18, -17, -16, -15, -14, -13, -12, -11"
    assert printed() == [f"label values: {first}, ..., 255 (23 values); --label-values refuses others"]
