"""The verb `raters`: numbers that can be computed by hand, and a page that says them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance
from PIL import Image

from monai_jdt.cli import main
from monai_jdt.data.files.folder_lock import sole_run_in
from tests.nifti_files import save_nifti

#: Voxels of 1 x 2 x 3 mm.
AFFINE = np.diag([1.0, 2, 3, 1])


def cube(start: int, shape: tuple[int, ...] = (14, 12, 10)) -> np.ndarray:
    values = np.zeros(shape, np.uint8)
    values[start : start + 4, 3:7, 2:6] = 1
    return values


def write_list(folder: Path, cases: dict[str, Any]) -> str:
    """Write each rater's map and the list; a rater is an array, or None for one who is missing."""
    items = []
    for case, raters in cases.items():
        entries = raters.items() if isinstance(raters, dict) else [(str(n), r) for n, r in enumerate(raters)]
        paths = {
            name: None if values is None else save_nifti(folder / f"{case}_{number}.nii.gz", values, AFFINE)
            for number, (name, values) in enumerate(entries)
        }
        image = save_nifti(folder / f"{case}_image.nii.gz", np.zeros((14, 12, 10), np.float32), AFFINE)
        items.append({"case": case, "image": image, "raters": paths if isinstance(raters, dict) else list(paths.values())})
    path = folder / "list.json"
    path.write_text(json.dumps({"training": items}))
    return str(path)


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["raters", *arguments])
    return int(ended.value.code or 0)


def rows_in(folder: Path) -> list[dict[str, str]]:
    with open(folder / "agreement.csv", newline="") as file:
        return list(csv.DictReader(file))


def value(rows: list[dict[str, str]], **wanted: str) -> float:
    (row,) = [row for row in rows if all(row[key] == text for key, text in wanted.items())]
    return float(row["value"])


def test_numbers_of_two_cubes(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    one, two = cube(4), cube(5)
    datalist = write_list(tmp_path, {"LIDC-IDRI-0001_1": [one, two], "LIDC-IDRI-0001_2": [one, one, np.zeros_like(one)]})
    assert run(datalist, str(tmp_path / "out")) == 0
    rows = rows_in(tmp_path / "out")
    pair: dict[str, Any] = {"case": "LIDC-IDRI-0001_1", "rater": "rater 1", "other": "rater 2"}
    # 4 x 4 x 4 voxels each, 3 x 4 x 4 in both
    assert value(rows, score="dice", **pair) == pytest.approx(2 * 48 / 128)
    assert value(rows, score="jaccard", **pair) == pytest.approx(48 / 80)
    assert value(rows, score="volume_ml", case="LIDC-IDRI-0001_1", rater="rater 1") == pytest.approx(64 * 6 / 1000)
    assert {row["patient"] for row in rows} == {"LIDC-IDRI-0001"}
    # MONAI's distances in the whole image
    a, b = (torch.from_numpy(mark)[None, None] for mark in (one, two))
    settings: dict[str, Any] = {"include_background": True, "spacing": [1.0, 2.0, 3.0]}
    expected = compute_average_surface_distance(a, b, symmetric=True, **settings)
    assert value(rows, score="surface_distance_mm", **pair) == pytest.approx(float(expected))
    expected = compute_hausdorff_distance(a, b, percentile=95, **settings)
    assert value(rows, score="hausdorff95_mm", **pair) == pytest.approx(float(expected))
    # who is suspicious
    notes = {(row["rater"], row["other"]): row["score"] for row in rows if row["note"]}
    assert notes == {("rater 1", "rater 2"): "identical", ("rater 3", ""): "marked_nothing"}
    # with STAPLE, two who agree are right against one who marked nothing
    third: dict[str, Any] = {"case": "LIDC-IDRI-0001_2", "rater": "rater 3"}
    assert value(rows, score="staple_sensitivity", **third) == pytest.approx(0, abs=1e-6)
    page = (tmp_path / "out" / "agreement.html").read_text()
    assert "2 cases of 1 patient, 2 to 3 raters" in page
    assert "gives raters no names" in page
    assert "http://www.w3.org" in page  # the pictures
    assert "src=" not in page  # nothing is fetched
    assert "pairwise Dice" in capsys.readouterr().out


def test_raters_with_names_have_a_matrix_and_may_be_missing(tmp_path: Path) -> None:
    cases = {"a": {"Anna": cube(4), "<b>": cube(5), "Cem": None}, "b": {"Anna": cube(4), "<b>": cube(6), "Cem": cube(4)}}
    datalist = write_list(tmp_path, cases)
    assert run(datalist, str(tmp_path / "out"), "--no-boundary") == 0
    rows = rows_in(tmp_path / "out")
    assert not [row for row in rows if row["score"] == "hausdorff95_mm"]
    page = (tmp_path / "out" / "agreement.html").read_text()
    assert "<b>" not in page
    assert "&lt;b&gt;" in page
    assert "Cem: in 1 of 2 cases" in page
    # Anna with the one in angle brackets: (.75 + .5) / 2 over 2 cases
    assert "0.625 (2)" in page


def test_pictures_are_measured_in_pixels(tmp_path: Path) -> None:
    paths = []
    for start in (4, 6):
        values = np.zeros((20, 20), np.uint8)
        values[start : start + 4, 4:8] = 1
        paths.append(str(tmp_path / f"{start}.png"))
        Image.fromarray(values).save(paths[-1])
    datalist = tmp_path / "list.json"
    items = [{"case": "a", "patient": "p", "image": paths[0], "raters": paths}]
    datalist.write_text(json.dumps({"training": items}))
    assert run(str(datalist), str(tmp_path / "out")) == 0
    rows = rows_in(tmp_path / "out")
    assert value(rows, score="volume_voxels", rater="rater 1") == 16
    assert value(rows, score="hausdorff95_px") == pytest.approx(2)
    assert not [row for row in rows if row["score"].endswith(("_mm", "_ml", "_cm2"))]
    assert {row["patient"] for row in rows} == {"p"}


def test_a_mirrored_rater_is_noted(tmp_path: Path) -> None:
    corner = np.zeros((14, 12, 10), np.uint8)
    corner[1:6, 1:9, 2:6] = 1
    corner[1:3, 1:3, 2:9] = 1
    datalist = write_list(tmp_path, {"a": [corner, corner.copy(), corner[::-1].copy()]})
    assert run(datalist, str(tmp_path / "out")) == 0
    (row,) = [row for row in rows_in(tmp_path / "out") if row["score"] == "mirrored"]
    assert row["rater"] == "rater 3"


def test_a_bad_case_does_not_end_the_run(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    datalist = write_list(tmp_path, {"a": [cube(4), cube(5)], "b": [cube(4), cube(5)]})
    (tmp_path / "a_1.nii.gz").write_bytes(b"no NIfTI")
    dest = tmp_path / "out"
    assert run(datalist, str(dest)) == 1
    assert {row["case"] for row in rows_in(dest)} == {"b"}
    assert "a_1.nii.gz" in capsys.readouterr().err
    assert "a_1.nii.gz" in (dest / "agreement.html").read_text()
    # mended: the same command reads the rest, and the table is that of one run
    save_nifti(tmp_path / "a_1.nii.gz", cube(5), AFFINE)
    assert run(datalist, str(dest)) == 0
    assert run(datalist, str(tmp_path / "again")) == 0
    assert (dest / "agreement.csv").read_bytes() == (tmp_path / "again" / "agreement.csv").read_bytes()
    assert (dest / "agreement.html").read_bytes() == (tmp_path / "again" / "agreement.html").read_bytes()


def test_one_run_at_a_time(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    datalist = write_list(tmp_path, {"a": [cube(4), cube(5)]})
    with sole_run_in(tmp_path / "out"):
        assert run(datalist, str(tmp_path / "out")) == 1
    assert f"{tmp_path}/out: expected a folder that no other run writes to, got one that " in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


def test_a_list_without_raters_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "list.json"
    path.write_text(json.dumps({"training": [{"image": save_nifti(tmp_path / "a.nii.gz", cube(0), AFFINE)}]}))
    assert run(str(path), str(tmp_path / "out")) == 1
    assert "expected cases with raters, got none" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_names_that_are_no_text_are_written_as_escapes(tmp_path: Path) -> None:
    path = Path(write_list(tmp_path, {"\u4e2d\u6587": [cube(4), cube(5)], "ab": [cube(4), cube(5)]}))
    path.write_text(path.read_text().replace('"case": "ab"', '"case": "a\\udcff"'))
    assert run(str(path), str(tmp_path / "out"), "--no-boundary", "--no-progress") == 0
    assert {row["case"] for row in rows_in(tmp_path / "out")} == {"\u4e2d\u6587", r"a\udcff"}
    page = (tmp_path / "out" / "agreement.html").read_text(encoding="utf-8")
    assert r"<td>a\udcff</td>" in page
    assert "<td>\u4e2d\u6587</td>" in page


def test_masks_whose_mark_is_black(tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{name}.png") for name in ("anna", "ben", "image")]
    for path, row in zip(paths, ([0, 0, 255, 255], [0, 255, 255, 255], [9, 9, 9, 9]), strict=True):
        Image.fromarray(np.array([row], np.uint8)).save(path)
    item = {"case": "a", "image": paths[2], "raters": paths[:2]}
    (tmp_path / "list.json").write_text(json.dumps({"training": [{**item, "foreground": 0}]}))
    (tmp_path / "plain.json").write_text(json.dumps([item]))
    assert run(str(tmp_path / "list.json"), str(tmp_path / "x"), "--no-progress") == 0
    assert value(rows_in(tmp_path / "x"), score="dice") == pytest.approx(2 / 3)  # two pixels and one, one in common
    assert run(str(tmp_path / "plain.json"), str(tmp_path / "y"), "--foreground", "255", "--no-progress") == 0
    assert value(rows_in(tmp_path / "y"), score="dice") == pytest.approx(4 / 5)  # two pixels and three of white
