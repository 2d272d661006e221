"""The verb `evaluate`: scores that are known, files of other programs, and several folders compared."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from monai_jdt.cli import main
from monai_jdt.data.files.folder_lock import sole_run_in
from monai_jdt.metrics import SoftDice, ThresholdedDice
from monai_jdt.report.run_folder import RunModel, read_run, read_scores
from monai_jdt.transforms import DecideMask
from tests.nifti_files import save_nifti

AFFINE = np.diag([1.0, 2, 3, 1])
SHAPE = (8, 9, 7)


def marks(start: int, stop: int) -> np.ndarray:
    values = np.zeros(SHAPE, np.uint8)
    values[start:stop, 2:6, 1:5] = 1
    return values


@pytest.fixture
def datalist(tmp_path: Path) -> str:
    """Two cases of two raters each."""
    items = []
    for case, raters in (("one", (marks(1, 5), marks(2, 6))), ("two", (marks(0, 2), marks(0, 4)))):
        paths = [save_nifti(tmp_path / "raters" / f"{case}_{n}.nii.gz", values, AFFINE) for n, values in enumerate(raters)]
        image = save_nifti(tmp_path / "raters" / f"{case}.nii.gz", np.zeros(SHAPE, np.float32), AFFINE)
        items.append({"case": case, "image": image, "raters": dict(zip(("Anna", "Ben"), paths, strict=True))})
    path = tmp_path / "list.json"
    path.write_text(json.dumps({"validation": items}))
    return str(path)


def predict(folder: Path, **values: np.ndarray) -> str:
    for case, prediction in values.items():
        save_nifti(folder / f"{case}.nii.gz", prediction, AFFINE)
    return str(folder)


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", *arguments])
    return int(ended.value.code or 0)


def rows_in(folder: Path) -> list[dict[str, str]]:
    with open(folder / "evaluation.csv", newline="") as file:
        return list(csv.DictReader(file))


def value(rows: list[dict[str, str]], score: str, case: str, **wanted: str) -> float:
    found = [row for row in rows if row["score"] == score and row["case"] == case]
    (row,) = [row for row in found if all(row[key] == text for key, text in wanted.items())]
    return float(row["value"])


def test_known_scores(tmp_path: Path, datalist: str) -> None:
    dest = tmp_path / "out"
    mean = [(marks(1, 5) + marks(2, 6)) / np.float32(2), (marks(0, 2) + marks(0, 4)) / np.float32(2)]
    folder = predict(tmp_path / "mean", one=mean[0] * np.float32(0.9), two=mean[1])
    assert run(folder, datalist, "--dest", str(dest)) == 0
    rows = rows_in(dest)
    # above .5 of case two are the 2 x 4 x 4 voxels of both raters; Ben has 4 x 4 x 4
    assert value(rows, "dice", "two", rater="Anna") == pytest.approx(1)
    assert value(rows, "dice", "two", rater="Ben") == pytest.approx(2 * 32 / 96)
    assert value(rows, "dice_raters", "two") == pytest.approx((1 + 2 * 32 / 96) / 2)
    assert value(rows, "soft_dice", "two") == pytest.approx(1)
    assert value(rows, "brier_distance", "two") == pytest.approx(0, abs=1e-12)
    # half of Ben's voxels have the spread 1/4
    assert value(rows, "brier", "two") == pytest.approx(32 / 4 / np.prod(SHAPE))
    # volumes 32 and 64 voxels of 6 mm3, predicted 48: |48 - 32| - half of the mean distance of two raters
    assert value(rows, "volume_error", "two") == pytest.approx((16 - 0.5 * 16) * 6 / 1000)
    # the metrics of the package on the same arrays
    p, y = torch.from_numpy(mean[0] * np.float32(0.9))[None, None], torch.from_numpy(mean[0])[None, None]
    assert value(rows, "soft_dice", "one") == pytest.approx(float(SoftDice()(p, y)))
    assert value(rows, "qubiq_dice", "one") == pytest.approx(float(ThresholdedDice()(p, y)))
    page = (dest / "evaluation.html").read_text()
    assert "2 cases of 2 patients" in page
    assert "src=" not in page


def test_folders_are_compared_case_by_case(tmp_path: Path, datalist: str, capsys: pytest.CaptureFixture) -> None:
    good = predict(tmp_path / "good", one=marks(1, 5), two=marks(0, 2))
    bad = predict(tmp_path / "bad<b>", one=marks(4, 8), two=marks(0, 2))
    assert run(good, bad, datalist, "--dest", str(tmp_path / "out")) == 0
    rows = rows_in(tmp_path / "out")
    assert {row["model"] for row in rows} == {"good", "bad<b>"}
    assert not [row for row in rows if row["score"] in ("nll", "expected_dice")]  # a label map has neither
    page = (tmp_path / "out" / "evaluation.html").read_text()
    assert "Difference to good, in the same cases" in page
    assert "<b>" not in page
    one = [value(rows, "dice_raters", "one", model=model) for model in ("bad<b>", "good")]
    assert f"{(one[0] - one[1]) / 2:.3f}" in page
    assert "0, 1" in page


def test_the_run_is_recorded(tmp_path: Path, datalist: str) -> None:
    folder = predict(tmp_path / "some", one=marks(1, 5))
    assert run(folder, datalist, "--dest", str(tmp_path / "out"), "--regions", '{"cord": [1]}') == 1
    record = read_run(tmp_path / "out")
    assert [(case.name, case.raters) for case in record.cases] == [("one", ("Anna", "Ben")), ("two", ("Anna", "Ben"))]
    assert record.cases[0].image == (str(tmp_path / "raters" / "one.nii.gz"),)
    assert record.models == (RunModel("some", folder),)
    assert record.regions == {"cord": (1,)}
    assert record.datalist == datalist
    assert list(record.failures) == ["two"]
    assert read_scores(tmp_path / "out") == rows_in(tmp_path / "out")


def test_a_case_without_a_prediction_is_named(tmp_path: Path, datalist: str, capsys: pytest.CaptureFixture) -> None:
    folder = predict(tmp_path / "some", one=marks(1, 5))
    assert run(folder, datalist, "--dest", str(tmp_path / "out")) == 1
    assert "two: " in (shown := capsys.readouterr().err)
    assert "expected one file of predictions, got none" in shown
    page = (tmp_path / "out" / "evaluation.html").read_text()
    assert "<li>two: some/two: expected one file of predictions, got none" in page
    assert str(tmp_path) not in page
    assert {row["case"] for row in rows_in(tmp_path / "out")} == {"one"}


def test_one_run_at_a_time(tmp_path: Path, datalist: str, capsys: pytest.CaptureFixture) -> None:
    folder, dest = predict(tmp_path / "model", one=marks(1, 5), two=marks(0, 4)), tmp_path / "out"
    with sole_run_in(dest):
        assert run(folder, datalist, "--dest", str(dest)) == 1
    assert f"{dest}: expected a folder that no other run writes to, got one that " in capsys.readouterr().err
    assert list(dest.iterdir()) == []


def test_a_new_prediction_is_scored_anew(tmp_path: Path, datalist: str) -> None:
    """A run that has a bad case keeps the rows of the others, but not those of files that have changed."""
    folder = predict(tmp_path / "some", one=marks(1, 5), two=marks(0, 2))
    (tmp_path / "some" / "two.nii.gz").write_bytes(b"no NIfTI")
    dest = tmp_path / "out"
    assert run(folder, datalist, "--dest", str(dest)) == 1
    predict(tmp_path / "some", one=marks(2, 6), two=marks(0, 2))
    assert run(folder, datalist, "--dest", str(dest)) == 0
    assert run(folder, datalist, "--dest", str(tmp_path / "again")) == 0
    assert (dest / "evaluation.csv").read_bytes() == (tmp_path / "again" / "evaluation.csv").read_bytes()
    assert value(rows_in(dest), "dice", "one", rater="Ben") == pytest.approx(1)


def test_new_scores_are_never_those_of_an_old_record(
    tmp_path: Path, datalist: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill between the two files of a run leaves a folder that the report refuses, and the same command mends it."""
    folder, dest = predict(tmp_path / "some", one=marks(1, 5), two=marks(0, 2)), tmp_path / "out"
    assert run(folder, datalist, "--dest", str(dest)) == 0
    predict(tmp_path / "some", one=marks(2, 6), two=marks(0, 2))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("monai_jdt.report.run_folder.write_run", killed)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            main(["evaluate", folder, datalist, "--dest", str(dest)])
    assert value(rows_in(dest), "dice", "one", rater="Ben") == pytest.approx(1)
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["report", str(dest)])
    assert ended.value.code == 1
    assert len((shown := capsys.readouterr().err).splitlines()) == 1
    assert "run.json: expected the record of the scores in evaluation.csv, got one of other scores" in shown
    assert not (dest / "report.html").exists()
    assert run(folder, datalist, "--dest", str(dest)) == 0
    read_run(dest)


def test_the_first_folder_is_the_baseline_of_every_score(tmp_path: Path, datalist: str) -> None:
    maps = predict(tmp_path / "maps", one=marks(1, 5), two=marks(0, 2))
    prob = np.where(marks(1, 6) > 0, np.float32(0.7), np.float32(0.1))
    others = [predict(tmp_path / name, one=prob, two=prob) for name in ("b", "c")]
    assert run(maps, *others, datalist, "--dest", str(tmp_path / "out")) == 0
    page = (tmp_path / "out" / "evaluation.html").read_text()
    compared = page[page.index("Difference to maps") : page.index("Worst cases of maps")]
    assert "Dice with each rater" in compared
    assert "log-likelihood" not in compared
    assert "expected Dice" not in compared


def test_scores_of_a_challenge(tmp_path: Path, datalist: str, capsys: pytest.CaptureFixture) -> None:
    folder = predict(tmp_path / "some", one=marks(1, 5), two=marks(0, 2))
    assert run(folder, datalist, "--dest", str(tmp_path / "brats"), "--challenge", "brats") == 0
    rows = rows_in(tmp_path / "brats")
    # the majority of two raters are the voxels of both, and both have those of rows 0 to 2 in case two: one lesion of 32 * 6 mm3
    assert value(rows, "brats_dice", "two") == 1
    assert value(rows, "brats_hd95", "two") == 0
    assert run(folder, datalist, "--dest", str(tmp_path / "curvas"), "--challenge", "curvas") == 0
    rows = rows_in(tmp_path / "curvas")
    p = torch.from_numpy(marks(0, 2)).float()[None, None]
    y = (p + torch.from_numpy(marks(0, 4))) / 2
    assert value(rows, "curvas_dice", "two") == pytest.approx(float(ThresholdedDice(thresholds="curvas-pdacvi")(p, y)))
    assert value(rows, "curvas_crps", "two") > 0
    # case one: rows 1 to 5 against 1 to 5 and 2 to 6: the raters agree on 2 to 5, where the mask is right
    assert value(rows, "curvas_consensus_dice", "one") == 1
    assert value(rows, "dice_majority", "one") < 1
    assert run(folder, datalist, "--challenge", "isles") == 1
    assert "--challenge: expected one of ['none', 'brats', 'qubiq', 'curvas'], got 'isles'" in capsys.readouterr().err


def test_a_file_of_one_slice_has_an_area(tmp_path: Path) -> None:
    for name, size in {"one": 200, "two": 160, "prediction": 300}.items():
        values = np.zeros((20, 20, 1), np.float32)
        values.reshape(-1)[:size] = 1
        (tmp_path / name).mkdir()
        save_nifti(tmp_path / name / "a.nii.gz", values, np.diag([2.0, 3, 5, 1]))
    entry = {"case": "a", "raters": [f"{rater}/a.nii.gz" for rater in ("one", "two")]}
    (tmp_path / "list.json").write_text(json.dumps({"training": [{**entry, "image": entry["raters"][0]}]}))
    assert run(str(tmp_path / "prediction"), str(tmp_path / "list.json"), "--dest", str(tmp_path / "out")) == 0
    # 300 pixels of 6 mm2 against 200 and 160: 120 minus half of the mean distance of two raters, 20
    assert value(rows_in(tmp_path / "out"), "volume_error", "a") == pytest.approx((120 - 10) * 6 / 100)


def test_pictures_have_errors_in_voxels(tmp_path: Path) -> None:
    sizes = {"one": 200, "two": 160, "prediction": 300}
    for name, size in sizes.items():
        values = np.zeros(20 * 20, np.uint8)
        values[:size] = 1
        (tmp_path / name).mkdir()
        Image.fromarray(values.reshape(20, 20)).save(tmp_path / name / "a.png")
    path = tmp_path / "list.json"
    raters = [str(tmp_path / name / "a.png") for name in ("one", "two")]
    path.write_text(json.dumps({"test": [{"case": "a", "image": raters[0], "raters": raters}]}))
    assert run(str(tmp_path / "prediction"), str(path), "--dest", str(tmp_path / "out")) == 0
    # |300 - 180| on average, less half of the mean distance of two raters, 20
    assert value(rows_in(tmp_path / "out"), "volume_error_voxels", "a") == pytest.approx(120 - 10)


def test_masks_by_the_expected_dice(tmp_path: Path, datalist: str) -> None:
    faint = np.where(marks(1, 6) > 0, np.float32(0.45), np.float32(0.01))
    folder = predict(tmp_path / "faint", one=faint, two=faint)
    assert run(folder, datalist, "--dest", str(tmp_path / "half")) == 0
    assert run(folder, datalist, "--dest", str(tmp_path / "best"), "--decision", "expected_dice") == 0
    assert value(rows_in(tmp_path / "half"), "dice_majority", "one") == 0
    # 5 x 4 x 4 voxels against the majority's 3 x 4 x 4
    assert value(rows_in(tmp_path / "best"), "dice_majority", "one") == pytest.approx(2 * 48 / 128)


def test_structures_exclude_each_other_as_classes_do(tmp_path: Path, datalist: str) -> None:
    """The same masks as by the bundles' `DecideMaskd` with `softmax`: both claim rows 2 to 6, where the second is more probable."""
    prob = np.full((3, *SHAPE), 0.02, np.float32)
    prob[1] += 0.38 * marks(0, 6)
    prob[2] += 0.48 * marks(2, 6)
    prob[0] = 1 - prob[1:].sum(0)
    classes = np.moveaxis(prob, 0, -1)
    folder, regions = predict(tmp_path / "net", one=classes, two=classes), '{"first": [1], "second": [2]}'
    options = (folder, datalist, "--regions", regions, "--decision", "expected_dice")
    expected = {}
    for name, softmax in (("exclusive", True), ("independent", False)):
        mask = DecideMask("expected_dice", softmax=softmax)(torch.from_numpy(prob))[1].numpy()
        expected[name] = 2 * (mask * marks(1, 5)).sum() / (mask.sum() + marks(1, 5).sum())
        assert run(*options, "--dest", str(tmp_path / name), f"--{name}") == 0
        assert value(rows_in(tmp_path / name), "dice", "one", region="first", rater="Anna") == pytest.approx(expected[name])
        assert read_run(tmp_path / name).exclusive is softmax
    assert expected["exclusive"] < expected["independent"]
    assert run(*options, "--dest", str(tmp_path / "auto")) == 0
    assert (tmp_path / "auto" / "evaluation.csv").read_bytes() == (tmp_path / "exclusive" / "evaluation.csv").read_bytes()
    shared = ("--regions", '{"first": [1], "both": [1, 2]}')
    assert run(folder, datalist, *shared, "--decision", "expected_dice", "--dest", str(tmp_path / "shared")) == 0
    assert read_run(tmp_path / "shared").exclusive is False


def test_a_mask_that_is_expected_to_score_little_is_empty(tmp_path: Path, datalist: str) -> None:
    faint = np.where(marks(1, 6) > 0, np.float32(0.2), np.float32(0.01))
    sure = np.where(marks(0, 2) > 0, np.float32(0.95), np.float32(0.0))
    folder = predict(tmp_path / "faint", one=faint, two=sure)
    assert run(folder, datalist, "--dest", str(tmp_path / "out"), "--decision", "expected_dice", "--empty-below", "0.5") == 0
    assert value(rows_in(tmp_path / "out"), "dice_majority", "one") == 0
    assert value(rows_in(tmp_path / "out"), "dice_majority", "two") > 0.9
    assert read_run(tmp_path / "out").empty_below == 0.5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "nowhere: expected a folder of predictions, got nothing"),
        (["some", "--decision", "argmax"], "--decision: expected one of"),
        (["some", "--empty-below", "0.2"], "--empty-below: expected 0 with --decision threshold, got 0.2"),
        (["some", "--kind", "onehot"], "--kind: expected auto"),
        (["some", "some"], "predictions: expected each folder once"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, datalist: str, arguments: list[str], words: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    predict(tmp_path / "some", one=marks(1, 5))
    folders = [name for name in arguments if not name.startswith("-")][: 2 if "some" in arguments[1:] else 1]
    options = arguments[len(folders) :]
    assert run(*folders, datalist, "--dest", str(tmp_path / "out"), *options) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_raters_whose_mark_is_black(tmp_path: Path) -> None:
    for name, row in (("anna", [0, 0, 255]), ("ben", [0, 255, 255]), ("image", [9, 9, 9]), ("out/a", [255, 0, 0])):
        (tmp_path / "out").mkdir(exist_ok=True)
        Image.fromarray(np.array([row, row], np.uint8)).save(tmp_path / f"{name}.png")
    item = {"case": "a", "image": "image.png", "raters": {"Anna": "anna.png", "Ben": "ben.png"}, "foreground": 0}
    (tmp_path / "list.json").write_text(json.dumps([item]))
    dest = tmp_path / "scores"
    assert run(str(tmp_path / "out"), str(tmp_path / "list.json"), "--dest", str(dest)) == 0
    rows = rows_in(dest)
    assert value(rows, "dice", "a", rater="Anna") == pytest.approx(2 / 3)
    assert value(rows, "dice", "a", rater="Ben") == 1
    assert read_run(str(dest)).cases[0].foreground == 0
