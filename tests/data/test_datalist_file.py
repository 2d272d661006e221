"""Data lists as JSON: written, moved with their data, read back, read by MONAI."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from monai.data import load_decathlon_datalist

from monai_jdt.data import DataProblemError, brats_datalist, read_datalist, write_brats_phantoms, write_datalist
from monai_jdt.data.layouts.listing import CaseList


@pytest.fixture
def items(tmp_path: Path) -> CaseList:
    return brats_datalist(write_brats_phantoms(tmp_path / "set", cases=2, shape=(12, 12, 12), progress=False))


def test_round_trip_and_a_move(items: CaseList, tmp_path: Path) -> None:
    path = write_datalist({"training": items[:1], "validation": items[1:]}, tmp_path / "lists" / "a.json")
    with open(path) as file:
        content = json.load(file)
    assert content["numTraining"] == 1
    assert content["training"][0]["raters"][0].startswith("../set/")
    assert read_datalist(path) == items[:1]
    assert read_datalist(path, "validation") == items[1:]
    assert read_datalist(path, "all") == items
    assert read_datalist(path, "all").found.cases == 2
    assert os.listdir(tmp_path / "lists") == ["a.json"]
    os.mkdir(tmp_path / "new")
    for name in ("set", "lists"):
        os.rename(tmp_path / name, tmp_path / "new" / name)
    moved = read_datalist(tmp_path / "new" / "lists" / "a.json")
    assert moved == brats_datalist(tmp_path / "new" / "set")[:1]
    assert all(os.path.isfile(file) for file in moved[0]["image"] + moved[0]["raters"])


def test_nested_raters_and_relative_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    item = {"case": "a", "task": "x", "image": "d/i.nii", "raters": [[["d/k1.nii"], []], [["d/k2.nii", "d/k3.nii"], []]]}
    write_datalist([item], "d/list.json")
    with open("d/list.json") as file:
        content = json.load(file)
    assert content["training"][0]["raters"] == [[["k1.nii"], []], [["k2.nii", "k3.nii"], []]]
    assert read_datalist("d/list.json") == [item]


def test_monai_reads_it(items: CaseList, tmp_path: Path) -> None:
    path = write_datalist(items, tmp_path / "list.json")
    assert load_decathlon_datalist(path) == items
    absolute = write_datalist(items, tmp_path / "absolute.json", relative=False)
    assert load_decathlon_datalist(absolute, base_dir="/nowhere") == items


def test_we_read_the_decathlons(tmp_path: Path) -> None:
    root = write_brats_phantoms(tmp_path / "m", cases=1, shape=(12, 12, 12), layout="msd", progress=False)
    (item,) = read_datalist(os.path.join(root, "dataset.json"))
    label = f"{root}/labelsTr/BRATS_001.nii.gz"
    assert item == {"case": "BRATS_001", "image": f"{root}/imagesTr/BRATS_001.nii.gz", "label": label, "raters": [label]}
    path = tmp_path / "d.json"
    path.write_text('{"test": ["./imagesTs/a.nii.gz"], "training": []}')
    assert read_datalist(path, "test") == [{"case": "a", "image": f"{tmp_path}/imagesTs/a.nii.gz"}]
    assert read_datalist(path) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "expected a datalist JSON, got nothing at that path. Fix: name the file"),
        ("{", r"expected a datalist JSON, got no JSON \(Expecting property name"),
        ("[]", "expected an object with a list of cases in it, got a list. Fix: "),
        ("{}", "expected the section 'training', a list of cases, got none. Fix: "),
        ('{"testing": [{"image": "a"}], "training": 3}', "got the sections testing. Fix: name one that is there"),
    ],
)
def test_files_that_are_none(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "list.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataProblemError, match=message):
        read_datalist(path)


def test_nothing_to_write(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="items: expected at least one item to write, got an empty list"):
        write_datalist([], tmp_path / "a.json")
    no_items: Any = ["a"]
    with pytest.raises(ValueError, match=r"items\[0\] of 'training': expected a dictionary, got str"):
        write_datalist(no_items, tmp_path / "a.json")
    with pytest.raises(TypeError):
        write_datalist([{"case": object()}], tmp_path / "a.json")
    assert os.listdir(tmp_path) == []
