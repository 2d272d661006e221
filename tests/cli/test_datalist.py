import json
import os
import re
from pathlib import Path

import nibabel
import numpy as np
import pytest

from monai_jdt.cli import main
from monai_jdt.data import qubiq_datalist, read_datalist, write_brats_phantoms, write_qubiq_phantoms
from tests.nifti_files import load_nifti, save_nifti


def _run(capsys: pytest.CaptureFixture[str], *arguments: Path | str) -> tuple[int, list[str], list[str]]:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    output = capsys.readouterr()
    return int(ended.value.code or 0), output.out.splitlines(), output.err.splitlines()


@pytest.fixture
def root(tmp_path: Path) -> str:
    return write_qubiq_phantoms(tmp_path / "set", datasets=["kidney", "prostate"], cases=5, shape=(16, 16), seed=1, progress=False)


def test_list_write_and_check(root: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = _run(capsys, "datalist", "qubiq", root, "--dataset", "prostate", "--task", "2")
    assert code == 0
    assert out[0].startswith(f"{root}: 5 cases, 5 items (task02); raters of an item: 6 (5 items); skipped: 0")
    assert out[1].startswith("prostate case01 task02: ")
    file = tmp_path / "lists" / "kidney.json"
    code, out, _ = _run(capsys, "datalist", "qubiq", root, "--dataset", "kidney", "--write", file, "--validation", "0.4")
    assert (code, out[-1]) == (0, f"{file}: training 3, validation 2 items")
    assert sorted(i["case"] for i in read_datalist(file, "all")) == [f"case0{n}" for n in range(1, 6)]
    assert json.loads(file.read_text())["training"][0]["image"].startswith("../set/")
    code, out, err = _run(capsys, "check", file, "--label-values", "0,1", "--raters", "3", "--channels", "1")
    assert (code, out) == (
        0,
        [f"{file}: 5 cases, 5 items (task01); raters of an item: 3 (5 items)", "looked at every voxel: 0 problems, 0 warnings"],
    )
    assert err == []  # no progress bar in a log
    assert _run(capsys, "check", file, "--no-progress", "--headers-only")[1:] == (
        [out[0], "looked at headers: 0 problems, 0 warnings"],
        [],
    )


def test_problems_are_lines_and_the_exit_code_is_1(root: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "kidney.json"
    _run(capsys, "datalist", "qubiq", root, "--dataset", "kidney", "--write", file)
    first, second = (item["raters"] for item in qubiq_datalist(root, "kidney")[:2])
    save_nifti(first[0], np.zeros((16, 16), np.uint8), load_nifti(first[0]).affine)
    code, out, _ = _run(capsys, "check", file, "--no-progress")
    assert (code, out[-1]) == (0, "looked at every voxel: 0 problems, 1 warning")
    assert out[0] == (
        f"warning: {first[0]}: expected a mark, got none: every value of 256 is 0. Fix: nothing, if the rater saw nothing there."
    )
    os.remove(second[1])
    code, out, err = _run(capsys, "check", file, "--section", "training", "--no-progress")
    assert (code, out[-1]) == (1, "looked at every voxel: 1 problem, 1 warning")
    assert out[1] == f"{second[1]}: expected a file, got nothing at that path. Fix: add it, or correct the path."
    assert err == []


def test_folds_stand_in_the_items(root: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "prostate.json"
    settings: list[str | Path] = ["datalist", "qubiq", root, "--dataset", "prostate", "--write", file, "--absolute", "--folds", "5"]
    assert _run(capsys, *settings)[0] == 0
    items = read_datalist(file)
    assert [(i["case"], i["fold"]) for i in items] == [(f"case0{n}", n - 1) for n in range(1, 6) for _ in range(2)]
    assert "index" not in items[0]
    assert json.loads(file.read_text())["training"][0]["image"].startswith(root)
    _run(capsys, *settings, "--seed", "3")
    assert sorted(i["fold"] for i in read_datalist(file)) == sorted(2 * list(range(5)))


def test_brats_and_patterns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_brats_phantoms(tmp_path / "set", cases=2, shape=(12, 12, 12), seed=1, progress=False)
    code, out, _ = _run(capsys, "datalist", "brats", root)
    assert code == 0
    assert out[0].startswith(f"{root}: 2 cases, 2 items (brats2021); raters of an item: ")
    file = tmp_path / "p.json"
    patterns = ["--image", "{case}/{case}_t1.nii.gz", "--image", "{case}/{case}_t2.nii.gz"]
    patterns += ["--raters", "{case}/{case}_seg_rater{rater}.nii.gz"]
    assert _run(capsys, "datalist", "pattern", root, *patterns, "--task", "glioma", "--write", file)[0] == 0
    assert [(len(item["image"]), item["task"]) for item in read_datalist(file)] == [(2, "glioma")] * 2
    assert _run(capsys, "check", file, "--label-values", "brats2021", "--no-progress")[0] == 0
    code, out, _ = _run(capsys, "check", file, "--label-values", "0,1,2", "--no-progress")
    assert code == 1
    assert "expected label values among 0, 1, 2, got 4. Fix: " in out[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["datalist", "acdc", "."], "LAYOUT: expected one of brats, brats2018, .*, got 'acdc'"),
        (["datalist", "pattern", "."], "LAYOUT pattern: expected --image and --raters, got no --image and --raters"),
        (["datalist", "qubiq", "nowhere"], r"nowhere: expected a folder with QUBIQ cases .*, got nothing at that path. Fix: "),
        (["datalist", "qubik", "."], r"got 'qubik'\. Fix: name qubiq\."),
        (
            ["datalist", "brats", ".", "--raters", "x"],
            "--raters: expected no such option with the layout brats",
        ),
        (["datalist", "pattern", ".", "--no-labelled"], "--no-labelled: expected no such option with the layout pattern"),
        (["datalist", "kits21", ".", "--folds", "1"], r"--folds: expected a whole number >= 2, got 1\. Fix: --folds 5\."),
        (["datalist", "kits21", ".", "--validation", "1"], r"--validation: expected a share above 0 and below 1, got 1.0\. Fix: "),
        (["datalist", "kits21", ".", "--validation", "nan"], r"--validation: expected a share above 0 and below 1, got nan\. Fix: "),
        (["datalist", "kits21", ".", "--seed", "-1"], r"--seed: expected a whole number >= 0, got -1\. Fix: --seed 0\."),
        (["check", "nowhere.json"], "nowhere.json: expected a datalist JSON, got nothing at that path. Fix: name the file"),
        (["check", "x.json", "--label-values", "a"], "--label-values: expected whole numbers, or one of brats2018"),
    ],
)
def test_errors_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = _run(capsys, *arguments)
    assert (code, out, len(err)) == (1, [], 1)
    assert re.search(message, err[0])


def test_validation_and_folds_exclude_each_other(root: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = _run(capsys, "datalist", "qubiq", root, "--validation", "0.2", "--folds", "2")
    assert (code, err) == (
        1,
        ["monai_jdt: error: --validation and --folds: expected one of them, got both. Fix: leave one of them out."],
    )


def test_kits21_is_merged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "case_00000"
    (place / "segmentations").mkdir(parents=True)
    mask = nibabel.Nifti1Image(np.ones((4, 4, 4), np.uint8), np.eye(4))
    for name in ("imaging", "segmentations/kidney_instance-1_annotation-1", "segmentations/kidney_instance-1_annotation-2"):
        nibabel.save(mask, place / f"{name}.nii.gz")
    file = tmp_path / "kits.json"
    code, out, _ = _run(capsys, "datalist", "kits21", tmp_path, "--merge", tmp_path / "merged", "--write", file)
    assert (code, out[0].rpartition(": ")[2]) == (0, "0")
    (item,) = read_datalist(file)
    assert item["raters"] == [f"{tmp_path}/merged/case_00000/annotation-{n}.nii.gz" for n in (1, 2)]
    code, out, _ = _run(capsys, "check", file, "--no-progress")
    assert (code, out[-1]) == (0, "looked at every voxel: 0 problems, 1 warning")  # the two are alike
