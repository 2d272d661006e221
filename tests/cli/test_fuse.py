"""The verb `fuse`: files in, one file out for each case, on the raters' grid; and one line for what cannot be done."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

from monai_jdt.cli import main
from monai_jdt.cli.fused_case import fused_case_rows
from monai_jdt.data.files.folder_lock import sole_run_in
from tests.nifti_files import load_nifti, save_nifti

AFFINE = np.array([[-1.0, 0, 0, 10], [0, -1, 0, 20], [0, 0, 2.5, -30], [0, 0, 0, 1]])


@pytest.fixture
def raters(tmp_path: Path) -> list[str]:
    maps = np.zeros((3, 4, 4, 2), np.uint8)
    maps[0, :2], maps[1, :3], maps[2, :1] = 1, 1, 4
    paths = []
    for number, label in enumerate(maps):
        paths.append(str(tmp_path / f"rater{number}.nii.gz"))
        save_nifti(paths[-1], label, AFFINE)
    return paths


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["fuse", *arguments])
    return int(ended.value.code or 0)


def test_the_average_of_a_region_lies_on_the_raters_grid(tmp_path: Path, raters: list[str]) -> None:
    dest = str(tmp_path / "out" / "average.nii.gz")
    assert run(dest, *raters) == 0
    image = load_nifti(dest)
    np.testing.assert_array_equal(image.affine, AFFINE)
    assert image.get_data_dtype() == np.float32
    # rows 0 and 1: raters 1 and 2 of 3; row 2: rater 2; value 4 is no part of the region [1]
    np.testing.assert_allclose(image.get_fdata()[:, 0, 0], [2 / 3, 2 / 3, 1 / 3, 0], rtol=1e-6)


def test_regions_stand_on_the_last_axis(tmp_path: Path, raters: list[str]) -> None:
    dest = str(tmp_path / "majority.nii")
    assert run(dest, *raters, "--method", "majority", "--regions", '{"all": [1, 4], "four": [4]}') == 0
    data = load_nifti(dest).get_fdata()
    assert data.shape == (4, 4, 2, 2)
    np.testing.assert_array_equal(data[:, 0, 0, 0], [1, 1, 0, 0])  # three, two, one and none of three
    assert not data[..., 1].any()


def test_multilabel_staple_at_ties(tmp_path: Path) -> None:
    # both say 2 in the last voxel; the two in the middle are ties, which have the value 0
    paths = [str(tmp_path / f"{name}.nii.gz") for name in "ab"]
    for path, label in zip(paths, ([1, 1, 0, 2], [1, 0, 1, 2]), strict=True):
        save_nifti(path, np.array(label, np.uint8).reshape(4, 1, 1), AFFINE)
    dest = str(tmp_path / "fused.nii")
    assert run(dest, *paths, "--method", "multilabel_staple", "--regions", "[[1], [2]]") == 0
    np.testing.assert_array_equal(load_nifti(dest).get_fdata().reshape(4, 2), [[1, 0], [0, 0], [0, 0], [0, 1]])


def test_weights(tmp_path: Path, raters: list[str]) -> None:
    dest = str(tmp_path / "weighted.nii")
    assert run(dest, *raters, "--method", "weighted", "--weights", "1,3,0") == 0
    np.testing.assert_allclose(load_nifti(dest).get_fdata()[:, 0, 0], [1, 1, 0.75, 0], rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["fused.jpg"], "expected a name that ends in .nii"),
        (["rater0.nii.gz"], "expected a free name"),
        (["fused.nii", "--method", "guess"], "got 'guess'"),
        (["fused.nii", "--regions", "brats1999"], "brats1999"),
        (
            ["fused.nii", "--regions", "{cell: 1}"],
            "--regions: expected a convention or JSON, got '{cell: 1}'. Fix: name ",
        ),
        (["fused.nii", "--weights", "1,a,1"], "--weights: expected 3 numbers, one for each rater, with commas, got '1,a,1'. Fix: "),
        (["fused.nii", "--weights", "1,1"], "--weights: expected 3 numbers"),
        (["fused.nii", "--regions", "lidc"], "--regions: expected a convention or JSON, got 'lidc'. Fix: name one of brats2018, "),
        (
            ["fused.nii", "--regions", "[[]]"],
            "--regions: expected at least one region, each with at least one label value, got [[]].",
        ),
        (["fused.nii", "--regions", "['x']"], "--regions: expected whole label values, got 'x'. Fix: "),
        (["fused.jpg"], "Fix: name it fused.nii.gz."),
        (["fused.nii", "--form", "map", "--regions", "[[40000]]"], "regions: expected label values from -32768 to 32767 for one label"),
        (["n" * 256 + ".nii"], "expected a name that the file system takes, got 260 bytes. Fix: name it shorter."),
    ],
)
def test_what_cannot_be_done_is_one_line(
    tmp_path: Path, raters: list[str], capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    before = sorted(tmp_path.iterdir())
    assert run(str(tmp_path / arguments[0]), *raters, *arguments[1:]) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("monai_jdt: error: ")
    assert says in last
    assert sorted(tmp_path.iterdir()) == before


def test_a_region_that_no_value_belongs_to_is_reported(tmp_path: Path, raters: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for name, value in (("a.nii", 255), ("b.nii", 0)):
        save_nifti(tmp_path / name, np.full((4, 4, 2), value, np.uint8), AFFINE)
    assert run(str(tmp_path / "black.nii"), str(tmp_path / "a.nii"), str(tmp_path / "b.nii")) == 0
    assert capsys.readouterr().err.splitlines() == [
        "warning: --regions: expected label values that the files hold (0, 255), got label_1 [1]: an empty region. "
        "Fix: name values that are there, such as [255]."
    ]
    assert run(str(tmp_path / "fine.nii"), *raters, "--regions", '{"all": [1, 4], "four": [4, 7]}') == 0
    assert capsys.readouterr().err == ""


def test_regions_in_pythons_quoting(tmp_path: Path, raters: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(str(tmp_path / "a.nii"), *raters, "--regions", "{'all': [1, 4]}") == 0
    assert capsys.readouterr().out.strip().endswith("regions all")


def test_home_and_odd_names(tmp_path: Path, raters: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    odd = tmp_path / 'O\'Brien [1] *? "Ä"' / "-r.nii"
    odd.parent.mkdir()
    odd.write_bytes(nibabel.Nifti1Image(np.ones((4, 4, 2), np.uint8), AFFINE).to_bytes())
    assert run("~/out/x.nii", "~/rater0.nii.gz", str(odd)) == 0
    np.testing.assert_allclose(load_nifti(tmp_path / "out" / "x.nii").get_fdata()[:, 0, 0], [1, 1, 0.5, 0.5])


def test_all_missing_files_are_named(tmp_path: Path, raters: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(str(tmp_path / "x.nii"), raters[0], str(tmp_path / "no.nii"), str(tmp_path)) == 1
    first, second, last = capsys.readouterr().err.splitlines()
    assert first == f"{tmp_path}/no.nii: expected a rater's label map, got nothing at that path. Fix: correct the path."
    assert second == f"{tmp_path}: expected a rater's label map, got a folder. Fix: correct the path."
    assert last.startswith("monai_jdt: error: 2 problems in the data")
    assert not (tmp_path / "x.nii").exists()


def test_a_file_given_twice_is_refused(tmp_path: Path, raters: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(str(tmp_path / "x.nii"), raters[0], raters[1], raters[0]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"warning: {raters[0]}: expected each rater's file once, got it is there again. Fix: remove one."


def test_a_region_named_twice_is_refused(tmp_path: Path, raters: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for text in ('{"a": [1], "a": [4]}', "{'a': [1], 'a': [4]}"):
        assert run(str(tmp_path / "x.nii"), *raters, "--regions", text) == 1
        line = "monai_jdt: error: --regions: expected each region once, got 'a' twice. Fix: give it all its label values: [1, 2]."
        assert capsys.readouterr().err.splitlines() == [line]


def test_a_negative_seed_is_refused(tmp_path: Path, raters: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(str(tmp_path / "x.nii"), *raters, "--seed", "-1") == 1
    assert capsys.readouterr().err.splitlines() == ["monai_jdt: error: --seed: expected a whole number >= 0, got -1. Fix: --seed 0."]
    assert not (tmp_path / "x.nii").exists()


#: The raters' files of each case, with names or without.
Cases = Mapping[str, Any]


def write_list(path: Path, cases: Cases) -> str:
    items = [{"case": name, "image": "image.nii.gz", "raters": raters} for name, raters in cases.items()]
    path.write_text(json.dumps({"training": items[:2], "validation": items[2:]}))
    return str(path)


@pytest.fixture
def cases(tmp_path: Path, raters: list[str]) -> dict[str, list[str]]:
    return {"b": raters, "site1/a": raters[::-1], "c": raters[:2]}


def rows_in(folder: Path) -> list[dict[str, str]]:
    with open(folder / "fusion.csv", newline="") as file:
        return list(csv.DictReader(file))


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_list_gives_the_label_of_each_case(tmp_path: Path, cases: dict[str, list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    dest, arguments = tmp_path / "labels", ["--method", "staple", "--regions", "[[1], [4]]"]
    assert run(str(dest), write_list(tmp_path / "list.json", cases), *arguments) == 0
    assert capsys.readouterr().out == f"{dest}/fusion.csv: staple of 3 cases; regions label_1, label_4\n"
    assert set(files_in(dest)) == {"b.nii.gz", "site1/a.nii.gz", "c.nii.gz", "fusion.csv"}
    assert rows_in(dest)[1:] == [
        {"case": "site1/a", "label": "site1/a.nii.gz", "method": "staple", "raters": "3", "label_values": "0 1 4"},
        {"case": "c", "label": "c.nii.gz", "method": "staple", "raters": "2", "label_values": "0 1"},
    ]
    alone = tmp_path / "alone.nii.gz"
    for name, files in cases.items():
        assert run(str(alone), *files, *arguments) == 0
        one, listed = load_nifti(alone), load_nifti(dest / f"{name}.nii.gz")
        np.testing.assert_array_equal(listed.get_fdata(), one.get_fdata())
        np.testing.assert_array_equal(listed.affine, one.affine)
        alone.unlink()
    # one section, and a region that no case has
    part = tmp_path / "part"
    assert run(str(part), str(tmp_path / "list.json"), "--section", "validation", "--regions", "[[4]]") == 0
    assert "--regions: expected label values that the files hold (0, 1), got label_4 [4]" in capsys.readouterr().err
    assert [row["case"] for row in rows_in(part)] == ["c"]


@pytest.mark.long
def test_two_processes_write_what_one_writes(tmp_path: Path, cases: dict[str, list[str]]) -> None:
    datalist = write_list(tmp_path / "list.json", cases)
    assert run(str(tmp_path / "one"), datalist) == 0
    assert run(str(tmp_path / "two"), datalist, "--workers", "2") == 0
    assert files_in(tmp_path / "one") == files_in(tmp_path / "two")


def test_a_bad_case_is_tried_again_alone(
    tmp_path: Path, cases: dict[str, list[str]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = tmp_path / "bad.nii.gz"
    cases["site1/a"] = [*cases["b"], str(bad)]
    datalist, dest = write_list(tmp_path / "list.json", cases), tmp_path / "labels"
    assert run(str(dest), datalist) == 1
    assert capsys.readouterr().err == f"site1/a: {bad}: expected a file, got nothing at that path. Fix: add it, or correct the path.\n"
    assert [row["case"] for row in rows_in(dest)] == ["b", "c"]
    # mended, and the label of another case removed
    bad.write_bytes(Path(cases["b"][0]).read_bytes())
    (dest / "c.nii.gz").unlink()
    done = []

    def fused(case: Any) -> list[dict[str, Any]]:
        done.append(case.name)
        return fused_case_rows(case)

    monkeypatch.setattr("monai_jdt.cli.fuse.fused_case_rows", fused)
    assert run(str(dest), datalist) == 0
    assert done == ["site1/a", "c"]
    assert set(files_in(dest)) == {"b.nii.gz", "site1/a.nii.gz", "c.nii.gz", "fusion.csv"}
    # a finished run's labels are not replaced
    before = files_in(dest)
    assert run(str(dest), datalist, "--method", "union") == 1
    says = f"{dest}: expected a folder without these labels, got 3 that are there, such as {dest}/b.nii.gz. Fix: name another folder, "
    assert says in capsys.readouterr().err
    assert files_in(dest) == before


def test_the_label_of_an_earlier_run_does_not_outlive_a_failure(tmp_path: Path, cases: dict[str, list[str]]) -> None:
    dest = tmp_path / "labels"
    cases["site1/a"] = [str(tmp_path / "bad.nii.gz")]
    datalist = write_list(tmp_path / "list.json", cases)
    assert run(str(dest), datalist) == 1
    Path(cases["c"][1]).unlink()
    assert run(str(dest), datalist) == 1
    assert rows_in(dest) == []
    assert set(files_in(dest)) == {"fusion.csv", "fusion.csv.unfinished"}


def test_weights_of_a_list_need_the_same_raters_everywhere(
    tmp_path: Path, cases: dict[str, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, third = cases["b"]
    names = ("Anna", "Ben", "Cem")
    others = {"a": dict(zip(names, (first, second, third), strict=True)), "b": {"Ben": second, "Anna": first, "Cem": third}}
    listed: Cases
    for listed, got in (
        (cases, "rater 1, rater 2, rater 3 in b, rater 1, rater 2 in c"),
        (others, "Anna, Ben, Cem in a, Ben, Anna, Cem in b"),
    ):
        assert run(str(tmp_path / "x"), write_list(tmp_path / "list.json", listed), "--weights", "1,2,3") == 1
        expected = "--weights: expected a list whose cases all have the same raters in the same order"
        assert f"{expected}, got {got}. Fix: " in capsys.readouterr().err
    assert run(str(tmp_path / "x"), write_list(tmp_path / "list.json", {"a": others["a"]}), "--weights", "1,2") == 1
    assert "--weights: expected 3 numbers, one for each rater" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
    assert run(str(tmp_path / "x"), write_list(tmp_path / "list.json", {"a": others["a"]}), "--weights", "1,3,0") == 0
    np.testing.assert_allclose(load_nifti(tmp_path / "x" / "a.nii.gz").get_fdata()[:, 0, 0], [1, 1, 0.5, 0], rtol=1e-6)


def test_what_cannot_be_done_with_a_list_is_one_line(
    tmp_path: Path, cases: dict[str, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    datalist, dest = write_list(tmp_path / "list.json", cases), str(tmp_path / "labels")
    assert run(str(tmp_path / "x.nii"), *cases["b"], "--section", "training") == 1
    assert "--section: expected no such option without a data list, got 'training'. Fix: " in capsys.readouterr().err
    assert run(dest, datalist, "--method", "guess") == 1
    assert "got 'guess'" in capsys.readouterr().err
    assert run(dest, datalist, "--form", "map", "--regions", "[[40000]]") == 1
    assert "regions: expected label values from -32768 to 32767 for one label map, got 40000" in capsys.readouterr().err
    assert not Path(dest).exists()
    twins = write_list(tmp_path / "twins.json", {"A": cases["b"], "a": cases["b"]})
    assert run(dest, twins) == 1
    assert "names: expected cases whose names differ, got 'A' and 'a', which are one file name where" in capsys.readouterr().err
    with sole_run_in(dest):
        assert run(dest, datalist) == 1
    assert f"{dest}: expected a folder that no other run writes to, got one that process " in capsys.readouterr().err
    assert files_in(Path(dest)) == {}


def test_weights_by_name_follow_the_person(tmp_path: Path, cases: dict[str, list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    first, second, _ = cases["b"]
    listed = {"a": {"anna": first, "ben": second}, "b": {"ben": second, "anna": first}, "c": {"ben": second}}
    arguments = [write_list(tmp_path / "list.json", listed), "--method", "weighted", "--weights"]
    assert run(str(tmp_path / "x"), *arguments, "anna=3") == 0
    for case in ("a", "b"):  # row 2 is marked by ben alone, who has 1 of 4
        np.testing.assert_allclose(load_nifti(tmp_path / "x" / f"{case}.nii.gz").get_fdata()[:, 0, 0], [1, 1, 0.25, 0], rtol=1e-6)
    np.testing.assert_array_equal(load_nifti(tmp_path / "x" / "c.nii.gz").get_fdata()[:, 0, 0], [1, 1, 1, 0])
    capsys.readouterr()
    assert run(str(tmp_path / "y"), *arguments, "ana=3") == 1
    assert "--weights: expected names among anna, ben, got 'ana'. Fix: name anna" in capsys.readouterr().err
    assert run(str(tmp_path / "y"), *arguments, "anna=3,2") == 1
    assert "--weights: expected NAME=NUMBER, with commas, got '2'" in capsys.readouterr().err
    nameless = write_list(tmp_path / "list.json", {"a": [first, second]})
    assert run(str(tmp_path / "y"), nameless, "--weights", "anna=3") == 1
    assert "--weights by name: expected a list that names its raters, got none in a. Fix: " in capsys.readouterr().err
    assert not (tmp_path / "y").exists()
    # files alone are named by what differs in their names
    assert run(str(tmp_path / "y.nii"), first, second, "--method", "weighted", "--weights", "rater0=3") == 0
    np.testing.assert_allclose(load_nifti(tmp_path / "y.nii").get_fdata()[:, 0, 0], [1, 1, 0.25, 0], rtol=1e-6)


class Killed(BaseException):
    """A kill, which no handler of errors sees."""


def test_an_interrupted_run_is_not_gone_on_with_under_other_settings(
    tmp_path: Path, cases: dict[str, list[str]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    datalist, dest = write_list(tmp_path / "list.json", cases), tmp_path / "labels"

    def stopped_after_the_label(case: Any) -> list[dict[str, Any]]:
        fused_case_rows(case)
        raise Killed  # between the label and its line

    with monkeypatch.context() as patched:
        patched.setattr("monai_jdt.cli.fuse.fused_case_rows", stopped_after_the_label)
        with pytest.raises(Killed):
            main(["fuse", str(dest), datalist])
    before = files_in(dest)
    assert set(before) == {"b.nii.gz", "fusion.csv.unfinished"}
    capsys.readouterr()
    for other in (["--method", "union"], ["--foreground", "255"], ["--form", "hard"], ["--section", "training"]):
        assert run(str(dest), datalist, *other) == 1
        assert "expected an interrupted run with " in capsys.readouterr().err
        assert files_in(dest) == before
    assert run(str(dest), datalist, "--method", "union") == 1
    error = capsys.readouterr().err
    assert f"{dest}/fusion.csv.unfinished: expected an interrupted run with {datalist}; section all; union; soft; " in error
    assert "got one with" in error
    assert run(str(dest), datalist) == 0
    assert set(files_in(dest)) == {"b.nii.gz", "site1/a.nii.gz", "c.nii.gz", "fusion.csv"}


def test_hard_labels_and_one_label_map(tmp_path: Path, raters: list[str]) -> None:
    arguments = ["--regions", '{"all": [1, 4], "four": [4]}', "--method", "union"]
    assert run(str(tmp_path / "hard.nii.gz"), *raters, *arguments, "--form", "hard") == 0
    hard = load_nifti(tmp_path / "hard.nii.gz")
    assert hard.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(hard.get_fdata()[:, 0, 0], [[1, 1], [1, 0], [1, 0], [0, 0]])
    assert run(str(tmp_path / "map.nii.gz"), *raters, *arguments, "--form", "map") == 0
    np.testing.assert_array_equal(load_nifti(tmp_path / "map.nii.gz").get_fdata()[:, 0, 0], [4, 1, 1, 0])
    np.testing.assert_array_equal(load_nifti(tmp_path / "map.nii.gz").affine, AFFINE)


def test_tiff_volumes_give_a_volume(tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{name}.tif") for name in ("anna", "ben", "cem")]
    for path in paths:
        pages = [Image.fromarray(np.full((2, 5), page, np.uint8)) for page in range(3)]
        pages[0].save(path, save_all=True, append_images=pages[1:])
    assert run(str(tmp_path / "labels"), write_list(tmp_path / "list.json", {"a": paths}), "--form", "map") == 0
    np.testing.assert_array_equal(load_nifti(tmp_path / "labels" / "a.nii.gz").get_fdata()[0, 0], [0, 1, 0])


def test_pictures_give_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawn = np.zeros((3, 2, 5), np.uint8)
    drawn[:2, 0, 1:3], drawn[2] = 255, 255
    paths = [str(tmp_path / f"{name}.png") for name in ("anna", "ben", "cem")]
    for path, values in zip(paths, drawn, strict=True):
        Image.fromarray(values).save(path)
    datalist = write_list(tmp_path / "list.json", {"a": paths})
    arguments = ["--foreground", "255", "--form", "map"]
    assert run(str(tmp_path / "labels"), datalist, *arguments) == 0
    assert set(files_in(tmp_path / "labels")) == {"a.png", "fusion.csv"}
    with Image.open(tmp_path / "labels" / "a.png") as picture:
        assert picture.mode == "P"
        np.testing.assert_array_equal(np.asarray(picture), [[0, 1, 1, 0, 0], [0, 0, 0, 0, 0]])
        assert picture.convert("RGB").getpixel((1, 0)) == (255, 255, 255)
    # a soft label is no picture
    assert run(str(tmp_path / "soft"), datalist, "--foreground", "255") == 0
    assert set(files_in(tmp_path / "soft")) == {"a.nii.gz", "fusion.csv"}
    assert run(str(tmp_path / "one.png"), *paths, *arguments) == 0
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "labels" / "a.png").read_bytes()
    capsys.readouterr()
    assert run(str(tmp_path / "two.png"), *paths, "--foreground", "255") == 1
    assert (
        "two.png: expected one map of label values for a PNG, got --form soft of 1 regions. Fix: add --form map"
        in capsys.readouterr().err
    )
    assert run(str(tmp_path / "two.nii"), *paths, "--form", "firm") == 1
    assert "--form: expected soft, hard or map, got 'firm'" in capsys.readouterr().err
    assert run(str(tmp_path / "two.nii"), *paths, "--workers", "2") == 1
    assert "--workers: expected no such option without a data list, got 2" in capsys.readouterr().err
