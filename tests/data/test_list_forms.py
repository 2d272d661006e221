"""Lists of other tools: read, or refused by one line that names file, item, case and fix."""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monai_jdt.cli import main
from monai_jdt.data import DataProblemError, find_problems, read_datalist, split_cases, write_datalist
from monai_jdt.data.datalist_file import cases_to_predict
from tests.nifti_files import save_nifti


def written(root: Path, content: Any, name: str = "list.json") -> Path:
    path = root / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_the_decathlon(tmp_path: Path) -> None:
    content = {
        "name": "Task",
        "tensorImageSize": "3D",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "x"},
        "numTraining": 2,
        "training": [{"image": f"./imagesTr/c_{n}.nii.gz", "label": f"./labelsTr/c_{n}.nii.gz"} for n in (1, 2)],
        "test": ["./imagesTs/c_3.nii.gz"],
    }
    items = read_datalist(written(tmp_path, content))
    label = f"{tmp_path}/labelsTr/c_1.nii.gz"
    assert items[0] == {"case": "c_1", "image": f"{tmp_path}/imagesTr/c_1.nii.gz", "label": label, "raters": [label]}
    assert items.found.raters == ((1, 2),)
    assert [len(side) for side in split_cases(items, 0.5)] == [1, 1]
    assert read_datalist(tmp_path / "list.json", "testing") == [{"case": "c_3", "image": f"{tmp_path}/imagesTs/c_3.nii.gz"}]
    assert len(read_datalist(tmp_path / "list.json", "all")) == 3


def test_check_needs_no_raters_of_cases_to_predict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mark = np.zeros((4, 4, 4), np.uint8)
    mark[1] = 1
    for name in ("a", "b", "l"):
        save_nifti(tmp_path / f"{name}.nii", mark, np.eye(4))
    training = [{"image": "a.nii", "label": "l.nii"}]

    def check(**content: Any) -> tuple[int, list[str]]:
        with pytest.raises(SystemExit) as ended:
            main(["check", str(written(tmp_path, content)), "--no-progress"])
        return int(ended.value.code or 0), capsys.readouterr().out.splitlines()

    assert check(training=training, test=["b.nii"])[0] == 0
    assert check(training=training, testing=[{"image": "b.nii"}])[0] == 0
    code, lines = check(training=training, test=["none.nii"])
    assert (code, lines[0].partition(": ")[0]) == (1, f"{tmp_path}/none.nii")
    code, lines = check(training=training, validation=["b.nii"])
    assert (code, lines[0]) == (1, "b: expected at least one rater, got none. Fix: add a label file, or remove the case.")
    code, lines = check(training=[{"image": "a.nii", "raters": ["l.nii", None]}])
    assert (code, lines[:2]) == (
        0,
        [
            f"{tmp_path}/list.json: 1 case, 1 item; raters of an item: 1 (1 item); skipped: 1",
            f"  {tmp_path}/list.json: training[0]: raters[1]: null, a rater who is missing",
        ],
    )


def test_auto3dseg_and_other_names_of_sections(tmp_path: Path) -> None:
    item = {"image": ["a_t1.nii", "a_t2.nii"], "label": "a.nii", "fold": 0, "case": 7}
    path = written(tmp_path, {"train": [item], "val": [{"image": "b.nii"}], "test": []})
    assert read_datalist(path) == [
        {"case": 7, "image": [f"{tmp_path}/a_t1.nii", f"{tmp_path}/a_t2.nii"], "label": f"{tmp_path}/a.nii", "fold": 0}
        | {"raters": [f"{tmp_path}/a.nii"]}
    ]
    assert [item["case"] for item in read_datalist(path, "validation")] == ["b"]


def test_a_missing_rater_takes_name_and_weight_along(tmp_path: Path) -> None:
    item = {"case": 7, "image": "a.nii", "raters": ["x.nii", None, "z.nii"], "rater_names": ["x", "y", "z"], "rater_weights": [1, 2, 3]}
    (read,) = read_datalist(written(tmp_path, [item]))
    assert (read["rater_names"], read["rater_weights"]) == (["x", "z"], [1, 3])
    (read,) = read_datalist(written(tmp_path, [item | {"raters": {"x": None, "y": "y.nii", "z": None}}]), rater_names=True)
    assert (read["rater_names"], read["rater_weights"]) == (["y"], [2])
    for key, wrong, got in (("rater_weights", [1, 3], "2"), ("rater_weights", {"x": 1}, '{"x": 1}'), ("rater_names", ["x"], "1")):
        line = f"training[0] (case 7): {key}: expected a list of 3, one for each of the raters, got {got}. Fix: "
        with pytest.raises(DataProblemError, match=re.escape(line)):
            read_datalist(written(tmp_path, [item | {key: wrong}]))


def test_nnunet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "imagesTr").mkdir()
    for name in ("a [1]_0000", "a [1]_0001", "b_0000"):
        (tmp_path / "imagesTr" / f"{name}.nii.gz").touch()
    first = [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in ("a [1]", "b")]
    items = read_datalist(written(tmp_path, {"modality": {"0": "T1", "1": "T2"}, "training": first}))
    assert [item["image"] for item in items] == [
        [f"{tmp_path}/imagesTr/a [1]_000{n}.nii.gz" for n in (0, 1)],
        f"{tmp_path}/imagesTr/b_0000.nii.gz",
    ]
    assert [item["case"] for item in items] == ["a [1]", "b"]
    dataset = {"a": {"images": ["a_0000.nii", "a_0001.nii"], "label": "a.nii"}}
    (item,) = read_datalist(written(tmp_path, {"channel_names": {"0": "T1"}, "file_ending": ".nii", "dataset": dataset}))
    assert (item["case"], item["image"]) == ("a", [f"{tmp_path}/a_0000.nii", f"{tmp_path}/a_0001.nii"])


def test_the_command_for_nnunets_second_form_works_as_it_is_printed(tmp_path: Path) -> None:
    root = tmp_path / "O'Brien 1"
    for name in ("imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz", "labelsTr/a.nii.gz"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    with pytest.raises(DataProblemError, match="expected a list of cases, got nnU-Net's description, which has none") as caught:
        read_datalist(written(root, {"channel_names": {"0": "T1", "1": "T2"}, "numTraining": 1, "file_ending": ".nii.gz"}))
    words = shlex.split(str(caught.value).partition("Fix: ")[2].removesuffix("."))
    assert words[:3] == ["python", "-m", "monai_jdt"]
    with pytest.raises(SystemExit) as ended:
        main(words[3:])
    assert not ended.value.code
    (item,) = read_datalist(root / "list.json")
    assert [os.path.basename(file) for file in [*item["image"], *item["raters"]]] == ["a_0000.nii.gz", "a_0001.nii.gz", "a.nii.gz"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("form", ["sections", "list", "lines", "by case"])
def test_encodings_and_lists_without_sections(tmp_path: Path, encoding: str, form: str) -> None:
    items = [{"case": "Ü", "image": "ü.nii", "raters": ["r.nii"]}, {"case": "b", "image": "b.nii", "raters": ["r2.nii"]}]
    text = {
        "sections": json.dumps({"training": items}, ensure_ascii=False),
        "list": json.dumps(items, ensure_ascii=False),
        "lines": "\r\n".join(json.dumps(item, ensure_ascii=False) for item in items) + "\r\n\r\n",
        "by case": json.dumps({"training": {i["case"]: {k: i[k] for k in ("image", "raters")} for i in items}}, ensure_ascii=False),
    }[form]
    (tmp_path / "list.json").write_bytes(text.encode(encoding))
    expected = [{**i, "image": f"{tmp_path}/{i['image']}", "raters": [f"{tmp_path}/{i['raters'][0]}"]} for i in items]
    assert read_datalist(tmp_path / "list.json") == expected


def test_paths_of_every_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "odd\\name.nii").touch()
    paths = {
        "sub\\a.nii": f"{tmp_path}/sub/a.nii",
        ".\\sub\\..\\a.nii": f"{tmp_path}/a.nii",
        "odd\\name.nii": f"{tmp_path}/odd\\name.nii",
        "/data/a.nii": "/data/a.nii",
        "~/a.nii": f"{tmp_path}/home/a.nii",
        "file:///data/my%20set/a.nii": "/data/my set/a.nii",
        "file://localhost/data/a.nii": "/data/a.nii",
        "./a.nii": f"{tmp_path}/a.nii",
        "O'Brien [1]/#a*?.nii": f"{tmp_path}/O'Brien [1]/#a*?.nii",
    }
    items = read_datalist(written(tmp_path, {"training": [{"case": n, "image": path} for n, path in enumerate(paths)]}))
    assert [item["image"] for item in items] == list(paths.values())


def test_names_of_raters_are_kept_if_asked_for(tmp_path: Path) -> None:
    content: dict[str, list[dict[str, Any]]] = {
        "training": [
            {"image": "i.nii", "raters": {"anna": "a.nii", "ben": None, "cem": "c.nii"}},
            {"image": "j.nii", "raters": ["b.nii"]},
        ]
    }
    path = written(tmp_path, content)
    assert all("rater_names" not in item for item in read_datalist(path))
    named, nameless = read_datalist(path, rater_names=True)
    assert (named["rater_names"], named["raters"]) == (["anna", "cem"], [f"{tmp_path}/a.nii", f"{tmp_path}/c.nii"])
    assert "rater_names" not in nameless
    # they travel through splits and files
    train, validation = split_cases([named, nameless], 0.5)
    assert named in train + validation
    assert read_datalist(write_datalist([named, nameless], tmp_path / "again.json")) == [named, nameless]
    # a null in a list that has names takes its name with it
    content["training"][0] |= {"raters": ["a.nii", None, "c.nii"], "rater_names": ["anna", "ben", "cem"]}
    assert read_datalist(written(tmp_path, content))[0] == named


def test_raters_of_every_kind(tmp_path: Path) -> None:
    forms = [["a.nii", None], "a.nii", {"alice": "a.nii", "bob": None}, [["a.nii"]], ["a.nii", ""], ["a.nii"]]
    items = read_datalist(written(tmp_path, {"training": [{"image": f"{n}.nii", "raters": f} for n, f in enumerate(forms)]}))
    assert [item["raters"] for item in items] == [[f"{tmp_path}/a.nii"]] * len(forms)
    assert [str(skipped) for skipped in items.found.skipped] == [
        f"{tmp_path}/list.json: training[{n}]: raters[1]: null, a rater who is missing" for n in (0, 2, 4)
    ]
    assert str(items.found).splitlines()[0].endswith("skipped: 3")
    (item,) = read_datalist(written(tmp_path, {"training": [{"image": [["t1.nii"], ["t2.nii"]], "raters": [["a.nii"], ["b.nii"]]}]}))
    assert item["image"] == [f"{tmp_path}/t1.nii", f"{tmp_path}/t2.nii"]
    assert item["raters"] == [f"{tmp_path}/a.nii", f"{tmp_path}/b.nii"]
    nothing = {"image": "x.nii", "raters": None, "label": None, "probability": "", "case": "c"}
    assert read_datalist(written(tmp_path, {"training": [nothing]})) == [{"case": "c", "image": f"{tmp_path}/x.nii"}]


def test_cases_are_named_after_what_differs(tmp_path: Path) -> None:
    def names(*images: str) -> list[str]:
        return [item["case"] for item in read_datalist(written(tmp_path, {"training": [{"image": image} for image in images]}))]

    assert names("x/a.nii.gz", "y/b.NII") == ["a", "b"]
    assert names("d/p1/image.nii", "d/p2/image.nii") == ["p1", "p2"]
    assert names("s1/p1/image.nii", "s2/p1/image.nii", "s2/p2/image.nii") == ["s1_p1", "s2_p1", "s2_p2"]
    assert names("p1/a.nii", "p2/a.nii", "p2/b.nii") == ["p1_a", "p2_a", "p2_b"]
    assert names("a.nii", "a.nii") == ["a", "a"]  # one image twice is for `check` to tell


LINE = "{root}/list.json: training[1] (case c2): "


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        ({"img": "a.nii"}, LINE + "expected the key 'image', got case, img. Fix: rename 'img' to 'image'."),
        ({"image": None}, LINE + "image: expected a path, or one path per channel, got null. Fix: add it, or remove the case."),
        ({"image": 3}, LINE + "image: expected a path, or a list of paths, got 3. Fix: write the path as text."),
        (
            {"image": "a.nii", "raters": ["r.nii", {"x": 1}]},
            LINE + 'raters[1]: expected a path, or a list of paths, got {"x": 1}. Fix: write the path as text.',
        ),
        (
            {"image": "a.nii", "label": ["r1.nii", "r2.nii"]},
            LINE + "label: expected one label file, got 2 files. Fix: rename 'label' to 'raters' if each is one rater's drawing; "
            "merge them into one label map if each is one class.",
        ),
        (
            {"image": "C:\\data\\a.nii"},
            LINE + "image: expected a path on this machine, got a path of a Windows machine, C:\\data\\a.nii. "
            "Fix: write paths relative to the list's folder.",
        ),
        (
            {"image": "a.nii", "raters": ["r.nii", "\\\\server\\share\\r.nii"]},
            LINE + "raters[1]: expected a path on this machine, got a path of a Windows machine, \\\\server\\share\\r.nii. "
            "Fix: write paths relative to the list's folder.",
        ),
        (
            {"image": "https://x.org/a.nii"},
            LINE + "image: expected a path on this machine, got an address, https://x.org/a.nii. "
            "Fix: download the file, and list its path.",
        ),
        ({"image": "a.nii", "dataset": ["x"]}, LINE + 'dataset: expected text or a number, got ["x"]. Fix: write it as text.'),
    ],
)
def test_what_is_not_understood_names_file_case_and_fix(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], entry: dict[str, Any], line: str
) -> None:
    path = written(tmp_path, {"training": [{"case": "c1", "image": "a.nii"}, {"case": "c2", **entry}]})
    with pytest.raises(DataProblemError) as caught:
        read_datalist(path)
    assert str(caught.value) == line.replace("{root}", str(tmp_path))
    with pytest.raises(SystemExit) as ended:
        main(["check", str(path), "--no-progress"])
    assert ended.value.code == 1
    assert capsys.readouterr().err == f"monai_jdt: error: {caught.value}\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"training": [], "training": [{"image": "a.nii"}]}', "the key 'training' twice in one object"),
        ('{"image": "a.nii"}\n{"image": }\n', "got no JSON (Extra data"),
        ("\0\1\2", "got a file that is no text. Fix: name the list, not one of its files."),
        ('{"training": [{"img": "a.nii"}]}', "training[0]: expected the key 'image', got img. Fix: rename 'img' to 'image'."),
        ('{"training": {"image": ["a.nii"]}, "x": 1}', "got the keys training, x. Fix: "),
        ("{'training': []}", "got no JSON (Expecting property name"),
        ('[{"train": ["case1"], "val": ["case2"]}]', "expected an object with a list of cases in it, got a list."),
        (
            '{"validation": [{"image": "a.nii"}]}',
            "expected the section 'training', a list of cases, got the sections validation.",
        ),
    ],
)
def test_what_is_no_list_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(DataProblemError) as caught:
        read_datalist(written(tmp_path, text))
    (line,) = str(caught.value).splitlines()
    assert says in line


def test_many_problems_are_cut(tmp_path: Path) -> None:
    path = written(tmp_path, {"training": [{"image": "a.nii"}] + [{"img": "a.nii"}] * 30})
    with pytest.raises(DataProblemError) as caught:
        read_datalist(path)
    assert (len(caught.value.problems), caught.value.more) == (20, 10)


def test_what_was_read_can_be_written_and_read_again(tmp_path: Path) -> None:
    items = read_datalist(written(tmp_path, {"training": [{"image": "s\\a.nii", "label": "l\\a.nii"}]}))
    assert read_datalist(write_datalist(items, tmp_path / "new" / "again.json")) == items


def test_equal_names_in_two_sections_are_two_cases(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only the folders of the sections tell such cases apart; cases to predict are named among them."""
    names = {"training": "tr", "validation": "va", "test": "ts"}
    content = {name: [{"image": f"{folder}/001.nii", "label": f"{folder}/seg.nii"}] for name, folder in names.items()}
    path = written(tmp_path, content)
    assert [item["case"] for item in read_datalist(path, "all")] == ["tr", "va", "ts"]
    assert [item["case"] for item in read_datalist(path)] == ["001"]
    del content["test"][0]["label"]
    path = written(tmp_path, content)
    assert [item["case"] for item in cases_to_predict(path)] == ["ts"]
    with pytest.raises(SystemExit):
        main(["check", str(path), "--no-progress"])
    told = capsys.readouterr().out
    assert "at least one rater" not in told
    assert "each case once" not in told


def test_a_case_with_an_empty_name_is_named(tmp_path: Path) -> None:
    assert [item["case"] for item in read_datalist(written(tmp_path, {"training": [{"case": "", "image": "a.nii"}]}))] == ["a"]


@pytest.mark.parametrize("key", ["seg", "Raters", "mask", "annotations"])
def test_raters_under_another_key_are_reported(tmp_path: Path, key: str) -> None:
    value = {"A": "r.nii", "B": None} if key == "annotations" else ["r.nii"] if key == "Raters" else "r.nii"
    items = [{"case": "c", "image": "a.nii", key: value, "site": "x.org"}]
    (problem,) = [p for p in find_problems(items, progress=False) if p.expected == "at least one rater"]
    assert (problem.got, problem.fix) == (f"none, but files under {key!r}", f"list them under 'raters' instead of {key!r}")


@pytest.mark.parametrize("content", [b"\x1f\x8bvoxels", b"image,label", b"\x93NUMPY"])
def test_a_list_never_replaces_another_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.nii.gz"
    path.write_bytes(content)
    with pytest.raises(FileExistsError, match=r"a\.nii\.gz: expected a free name, or a data list to replace, got another file\. Fix: "):
        write_datalist([{"case": "a", "image": str(path)}], path)
    assert path.read_bytes() == content
    path.write_bytes(b"")
    for case in ("a", "b"):
        assert read_datalist(write_datalist([{"case": case, "image": str(path)}], path))[0]["case"] == case
