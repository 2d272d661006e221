"""The verb `fuse`, in this process: files in, one file out, on the raters' grid; and one line for what cannot be done."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from monai_jdt.cli import main
from tests.nifti_files import save_nifti

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
    return ended.value.code or 0


def test_the_average_of_a_region_lies_on_the_raters_grid(tmp_path: Path, raters: list[str]) -> None:
    dest = str(tmp_path / "out" / "average.nii.gz")
    assert run(dest, *raters) == 0
    image = nibabel.load(dest)
    np.testing.assert_array_equal(image.affine, AFFINE)
    assert image.get_data_dtype() == np.float32
    # rows 0 and 1: raters 1 and 2 of 3; row 2: rater 2; value 4 is no part of the region [1]
    np.testing.assert_allclose(image.get_fdata()[:, 0, 0], [2 / 3, 2 / 3, 1 / 3, 0], rtol=1e-6)


def test_regions_stand_on_the_last_axis(tmp_path: Path, raters: list[str]) -> None:
    dest = str(tmp_path / "majority.nii")
    assert run(dest, *raters, "--method", "majority", "--regions", '{"all": [1, 4], "four": [4]}') == 0
    data = nibabel.load(dest).get_fdata()
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
    np.testing.assert_array_equal(nibabel.load(dest).get_fdata().reshape(4, 2), [[1, 0], [0, 0], [0, 0], [0, 1]])


def test_weights(tmp_path: Path, raters: list[str]) -> None:
    dest = str(tmp_path / "weighted.nii")
    assert run(dest, *raters, "--method", "weighted", "--weights", "1,3,0") == 0
    np.testing.assert_allclose(nibabel.load(dest).get_fdata()[:, 0, 0], [1, 1, 0.75, 0], rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["fused.png"], "expected a name that ends in .nii"),
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
        (["fused.png"], "Fix: name it fused.nii.gz."),
        (["n" * 256 + ".nii"], "expected a name that the file system takes, got 260 bytes. Fix: name it shorter."),
    ],
)
def test_what_cannot_be_done_is_one_line(tmp_path: Path, raters: list[str], capsys, arguments: list[str], says: str) -> None:
    before = sorted(tmp_path.iterdir())
    assert run(str(tmp_path / arguments[0]), *raters, *arguments[1:]) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("monai_jdt: error: ")
    assert says in last
    assert sorted(tmp_path.iterdir()) == before


def test_a_region_that_no_value_belongs_to_is_told(tmp_path: Path, raters: list[str], capsys) -> None:
    for name, value in (("a.nii", 255), ("b.nii", 0)):
        save_nifti(tmp_path / name, np.full((4, 4, 2), value, np.uint8), AFFINE)
    assert run(str(tmp_path / "black.nii"), str(tmp_path / "a.nii"), str(tmp_path / "b.nii")) == 0
    assert capsys.readouterr().err.splitlines() == [
        "warning: --regions: expected label values that the files hold (0, 255), got label_1 [1]: an empty region. "
        "Fix: name values that are there, such as [255]."
    ]
    assert run(str(tmp_path / "fine.nii"), *raters, "--regions", '{"all": [1, 4], "four": [4, 7]}') == 0
    assert capsys.readouterr().err == ""


def test_regions_in_pythons_quoting(tmp_path: Path, raters: list[str], capsys) -> None:
    assert run(str(tmp_path / "a.nii"), *raters, "--regions", "{'all': [1, 4]}") == 0
    assert capsys.readouterr().out.strip().endswith("regions all")


def test_home_and_odd_names(tmp_path: Path, raters: list[str], monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    odd = tmp_path / 'O\'Brien [1] *? "Ä"' / "-r.nii"
    odd.parent.mkdir()
    odd.write_bytes(nibabel.Nifti1Image(np.ones((4, 4, 2), np.uint8), AFFINE).to_bytes())
    assert run("~/out/x.nii", "~/rater0.nii.gz", str(odd)) == 0
    np.testing.assert_allclose(nibabel.load(tmp_path / "out" / "x.nii").get_fdata()[:, 0, 0], [1, 1, 0.5, 0.5])


def test_all_missing_files_are_named(tmp_path: Path, raters: list[str], capsys) -> None:
    assert run(str(tmp_path / "x.nii"), raters[0], str(tmp_path / "no.nii"), str(tmp_path)) == 1
    first, second, last = capsys.readouterr().err.splitlines()
    assert first == f"{tmp_path}/no.nii: expected a rater's label map, got nothing at that path. Fix: correct the path."
    assert second == f"{tmp_path}: expected a rater's label map, got a folder. Fix: correct the path."
    assert last.startswith("monai_jdt: error: 2 problems in the data")
    assert not (tmp_path / "x.nii").exists()


def test_a_file_given_twice_is_told(tmp_path: Path, raters: list[str], capsys) -> None:
    assert run(str(tmp_path / "x.nii"), raters[0], raters[1], raters[0]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"warning: {raters[0]}: expected each rater's file once, got it is there again. Fix: remove one."


def test_a_region_named_twice_is_told(tmp_path: Path, raters: list[str], capsys) -> None:
    for text in ('{"a": [1], "a": [4]}', "{'a': [1], 'a': [4]}"):
        assert run(str(tmp_path / "x.nii"), *raters, "--regions", text) == 1
        line = "monai_jdt: error: --regions: expected each region once, got 'a' twice. Fix: give it all its label values: [1, 2]."
        assert capsys.readouterr().err.splitlines() == [line]


def test_a_negative_seed_is_told(tmp_path: Path, raters: list[str], capsys) -> None:
    assert run(str(tmp_path / "x.nii"), *raters, "--seed", "-1") == 1
    assert capsys.readouterr().err.splitlines() == ["monai_jdt: error: --seed: expected a whole number >= 0, got -1. Fix: --seed 0."]
    assert not (tmp_path / "x.nii").exists()
