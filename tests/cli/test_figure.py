"""The verb `figure`, from files and from a data list, with and without a prediction."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from PIL import Image

from monai_jdt.cli import main
from tests.nifti_files import save_nifti

AFFINE = np.diag([-1.0, -1.0, 3.0, 1.0])


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A case of three raters with the values 0 and 255, and a list of it and another one."""
    monkeypatch.chdir(tmp_path)
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in (16, 18, 6)], indexing="ij"))
    distance = np.sqrt(((grid - np.array([8, 9, 3]).reshape(3, 1, 1, 1)) ** 2).sum(0))
    arrays = {f"reader{r}": np.where(distance < 4 + r, 255, 0).astype(np.uint8) for r in range(3)}
    arrays |= {"ct": (10 * distance).astype(np.float32), "prob": (1 / (1 + np.exp(distance - 5))).astype(np.float32)}
    (tmp_path / "data" / "case7").mkdir(parents=True)
    for name, values in arrays.items():
        save_nifti(tmp_path / "data" / "case7" / f"{name}.nii.gz", values, AFFINE)
    item = {"case": "case7", "image": "data/case7/ct.nii.gz", "raters": [f"data/case7/reader{r}.nii.gz" for r in range(3)]}
    (tmp_path / "list.json").write_text(json.dumps({"training": [item], "validation": [{**item, "case": "other/../8"}]}))
    return tmp_path


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list:
    """What the verb hands to the drawing, in place of a picture."""
    calls = []
    monkeypatch.setattr("monai_jdt.report.figure.draw_case", lambda path, **arguments: calls.append({"path": path, **arguments}))
    return calls


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str], list[str]]:
    with pytest.raises(SystemExit) as done:
        main(["figure", *map(str, arguments)])
    out, err = capsys.readouterr()
    return int(done.value.code or 0), out.splitlines(), err.splitlines()


def test_one_line_draws_the_raters_of_a_listed_case(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "--datalist", "list.json", "--case", "case7")
    assert (code, out) == (0, ["case7_figure.png"])
    assert err == ["regions by the values of the raters' files: label 255 [255]; choose others by --regions"]
    assert imread("case7_figure.png").size
    assert sorted(os.listdir()) == ["case7_figure.png", "data", "list.json"]


def test_the_picture_is_named_by_case_and_raters(files: Path, capsys: pytest.CaptureFixture[str], drawn: list) -> None:
    assert run(capsys, "--datalist", "list.json", "--case", "case7", "--prediction", "data/case7/prob.nii.gz")[0] == 0
    given = drawn[0]
    assert given["case"] == "case7"
    assert given["rater_names"] == ["reader0", "reader1", "reader2"]
    assert given["regions"] == {"label 255": [255]}
    assert given["prediction"].shape == (1, 16, 18, 6)
    assert given["image"].dtype == np.float32
    assert np.array_equal(given["affine"], AFFINE)
    assert given["axis"] == 2  # the long voxels


def test_files_name_their_case_themselves(files: Path, capsys: pytest.CaptureFixture[str], drawn: list) -> None:
    folder = "data/case7"
    raters = [a for r in (0, 2) for a in ("--rater", f"{folder}/reader{r}.nii.gz")]
    code, out, _ = run(capsys, "--image", f"{folder}/ct.nii.gz", *raters)
    assert (code, out) == (0, ["case7_figure.png"])
    assert drawn[0]["case"] == "case7"
    assert drawn[0]["rater_names"] == ["reader0", "reader2"]
    # the arguments of old: DEST, a title, a prediction, regions as JSON
    more = [
        "--prediction",
        f"{folder}/prob.nii.gz",
        "--truth",
        f"{folder}/prob.nii.gz",
        "--case",
        "my title",
        "--axis",
        "0",
        "--no-zoom",
    ]
    code, out, err = run(capsys, "a.png", "--image", f"{folder}/ct.nii.gz", *raters, "--regions", '{"x": 255}', *more)
    assert (code, out, err) == (0, ["a.png"], [])
    assert drawn[1]["case"] == "my title"
    assert (drawn[1]["axis"], drawn[1]["zoom"]) == (0, False)
    assert drawn[1]["truth"].shape == drawn[1]["prediction"].shape


@pytest.mark.parametrize("text", ["{'cell':[255]}", '{"cell": [255]}'])
def test_regions_in_the_quoting_that_bundles_take(files: Path, capsys: pytest.CaptureFixture[str], drawn: list, text: str) -> None:
    code, _, err = run(capsys, "--datalist", "list.json", "--regions", text)
    assert code == 0
    assert drawn[0]["regions"] == {"cell": (255,)}
    assert err == ["list.json: case7, the first of 2 items; choose another by --case"]


def test_a_region_without_a_label_is_one_warning(files: Path, capsys: pytest.CaptureFixture[str], drawn: list) -> None:
    code, _, err = run(capsys, "--datalist", "list.json", "--case", "case7", "--regions", "{'nodule': [1]}")
    assert code == 0
    assert len(err) == 1
    assert err[0].startswith("warning: --regions: expected label values that the files hold (0, 255), got nodule [1]")


def test_a_missing_rater_of_the_list_is_left_out(files: Path, capsys: pytest.CaptureFixture[str], drawn: list) -> None:
    content = json.loads((files / "list.json").read_text())
    content["training"][0]["raters"][1] = None
    (files / "list.json").write_text(json.dumps(content))
    assert run(capsys, "--datalist", "list.json", "--case", "case7")[0] == 0
    assert drawn[0]["rater_names"] == ["reader0", "reader2"]
    assert len(drawn[0]["votes"]) == 2


def test_a_name_from_a_list_stays_in_this_folder(files: Path, capsys: pytest.CaptureFixture[str], drawn: list) -> None:
    code, out, _ = run(capsys, "--datalist", "list.json", "--case", "other/../8")
    assert code == 0
    assert os.sep not in out[0]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--datalist", "list.json", "--case", "case8"], ["--case: expected a case of list.json, got 'case8'", "did you mean case7?"]),
        (["--datalist", "list.json", "--image", "x.png"], ["--datalist: expected a list, or --image and --rater, got both"]),
        (["--image", "data/case7/ct.nii.gz"], ["--rater: expected", "--datalist"]),
        ([], ["--image: expected", "--datalist"]),
        (["--datalist", "absent.json"], ["absent.json: expected a datalist JSON"]),
        (["--image", "absent.nii", "--rater", "absent2.nii"], ["absent.nii: expected an image file", "correct the path"]),
        (
            ["--image", "data/case7/ct.nii.gz", "--rater", "absent2.nii"],
            ["absent2.nii: expected a rater's label map", "correct the path"],
        ),
        (["--datalist", "list.json", "--prediction", "absent.nii"], ["absent.nii: expected", "correct the path"]),
        (["--datalist", "list.json", "--prediction", "data/case7/ct.nii.gz"], ["ct.nii.gz: expected probabilities in [0, 1]"]),
        (["--datalist", "list.json", "--window", "5"], ["--window: expected one of lung"]),
        (["out.nii.gz", "--datalist", "list.json"], ["DEST: expected the name of a PNG", "name it out.png"]),
        (["out.txt", "--datalist", "list.json"], ["DEST: expected the name of a PNG to write, got out.txt. Fix: name it out.png."]),
        (["out", "--datalist", "list.json"], ["DEST: expected the name of a PNG to write, got out. Fix: name it out.png."]),
    ],
)
def test_what_cannot_be_drawn_is_one_line_and_leaves_nothing(
    files: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], parts: list[str]
) -> None:
    code, _, err = run(capsys, *arguments)
    assert code == 1
    assert err[-1].startswith("monai_jdt: error: ")
    for part in parts:
        assert part in err[-1]
    assert sorted(os.listdir()) == ["data", "list.json"]


def test_a_file_of_the_case_is_never_overwritten(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(np.zeros((8, 8), np.uint8)).save("a1.png")
    Image.fromarray(np.eye(8, dtype=np.uint8)).save("a1_seg.png")
    before = (files / "a1.png").read_bytes()
    code, _, err = run(capsys, "a1.png", "--image", "a1.png", "--rater", "a1_seg.png")
    assert code == 1
    assert "a file of the case" in err[-1]
    assert (files / "a1.png").read_bytes() == before


def test_a_photograph_keeps_its_colours_and_bytes(files: Path, capsys: pytest.CaptureFixture[str], drawn: list) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 16, 3)).astype(np.uint8)).save("r1.png")
    Image.fromarray(np.eye(12, 16) > 0).save("r1_a.png")
    assert run(capsys, "--image", "r1.png", "--rater", "r1_a.png")[0] == 0
    assert drawn[0]["image"].shape == (3, 16, 12)
    assert drawn[0]["image"].dtype == np.uint8
    assert drawn[0]["affine"] is None
    assert drawn[0]["channel"] is None
    assert drawn[0]["case"] == "r1"


@pytest.mark.parametrize(("values", "channels", "regions"), [((1, 2), 2, ["label 1", "label 2"]), ((1, 2), 1, ["labels 1, 2"])])
def test_default_regions_fit_the_prediction(values: tuple[int, ...], channels: int, regions: list[str]) -> None:
    from monai_jdt.report.case_files import default_regions

    votes = np.array([[0, *values]], np.uint8)
    chosen, _ = default_regions(votes, np.full((channels, 3), 0.4, np.float32))
    assert list(chosen) == regions


def test_overlapping_channels_are_a_convention_or_must_be_named() -> None:
    from monai_jdt.report.case_files import default_regions

    nested = np.full((3, 4), 0.9, np.float32)
    assert list(default_regions(np.array([[0, 1, 2, 4]], np.uint8), nested)[0]) == ["TC", "WT", "ET"]
    with pytest.raises(ValueError, match="3 channels that overlap"):
        default_regions(np.array([[0, 1, 2, 3]], np.uint8), nested)  # brats2023 and msd
    with pytest.raises(ValueError, match="got 2 channels"):
        default_regions(np.array([[0, 1, 2, 4]], np.uint8), nested[:2])


def test_many_label_values_are_cut_to_the_largest_and_reported() -> None:
    from monai_jdt.report.case_files import default_regions

    votes = np.repeat(np.arange(10), np.arange(10, 0, -1))[None].astype(np.int16)
    chosen, told = default_regions(votes)
    assert list(chosen) == [f"label {v}" for v in range(1, 7)]
    assert "3 values with fewer voxels are left out" in told


def test_names_of_the_list_stand_in_the_picture(files: Path, capsys: pytest.CaptureFixture[str], drawn: list) -> None:
    content = json.loads((files / "list.json").read_text())
    item = content["training"][0]
    item["raters"] = {"anna": item["raters"][2], "ben": None, "cem": item["raters"][0]}
    (files / "list.json").write_text(json.dumps(content))
    assert run(capsys, "--datalist", "list.json", "--case", "case7")[0] == 0
    assert drawn[0]["rater_names"] == ["anna", "cem"]


def test_the_foreground_of_the_list_or_of_the_option(files: Path, capsys: pytest.CaptureFixture[str], drawn: list) -> None:
    content = json.loads((files / "list.json").read_text())
    content["training"][0]["foreground"] = 0
    (files / "list.json").write_text(json.dumps(content))
    assert run(capsys, "--datalist", "list.json", "--case", "case7")[0] == 0
    assert run(capsys, "--datalist", "list.json", "--case", "case7", "--foreground", "255")[0] == 0
    inverted, plain = (call["votes"] for call in drawn)
    assert set(np.unique(plain)) == {0, 1}
    assert np.array_equal(inverted, 1 - plain)
