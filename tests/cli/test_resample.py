"""The verb `resample`: maps and a list, told in two lines."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from monai_jdt.cli import main
from monai_jdt.data import read_datalist
from tests.nifti_files import save_nifti


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["resample", *arguments, "--no-progress"])
    return int(ended.value.code or 0)


def test_sections_stay_and_the_loss_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = save_nifti(tmp_path / "image.nii.gz", np.zeros((4, 4, 4), np.float32), np.diag([2.0, 1, 1, 1]))
    # half of the mark lies outside of the image
    drawn = save_nifti(tmp_path / "drawn.nii.gz", np.ones((4, 4, 8), np.uint8), np.diag([2.0, 1, 1, 1]))
    items = [{"case": case, "image": image, "raters": {"anna": drawn, "ben": None}} for case in ("a", "b")]
    (tmp_path / "list.json").write_text(json.dumps({"training": items[:1], "validation": items[1:]}))
    dest = str(tmp_path / "out")
    assert run(str(tmp_path / "list.json"), dest) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "resampled 2 of 2 maps"
    assert lines[1].startswith("share of the mark that is lost: mean 50.0%, most 50.0% (")
    assert lines[2] == f"{dest}/datalist.json"
    (item,) = read_datalist(f"{dest}/datalist.json", "validation", rater_names=True)
    assert (item["raters"], item["rater_names"]) == ([f"{dest}/b/anna.nii.gz"], ["anna"])
    assert run(str(tmp_path / "list.json"), dest) == 1
    assert "expected a folder without a finished run" in capsys.readouterr().err


def test_a_case_that_cannot_be_resampled_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = save_nifti(tmp_path / "image.nii.gz", np.zeros((4, 4, 4), np.float32), np.eye(4))
    away = np.eye(4)
    away[0, 3] = 100
    drawn = save_nifti(tmp_path / "drawn.nii.gz", np.ones((4, 4, 4), np.uint8), away)
    (tmp_path / "list.json").write_text(json.dumps([{"case": "a", "image": image, "raters": [drawn]}]))
    assert run(str(tmp_path / "list.json"), str(tmp_path / "out")) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"a: {drawn}: expected a grid that overlaps with that of {image}")
