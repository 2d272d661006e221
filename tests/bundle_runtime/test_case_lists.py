"""The split that a data list brings along, and its sections."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest

from monai_jdt.bundle_runtime import listed_cases, section_to_predict, split_by_blocks, split_of_list
from monai_jdt.cli.datalist import _sections
from monai_jdt.data import write_datalist
from monai_jdt.data.layouts.listing import CaseList

NAMES = "abcdef"


def items(**keys: Any) -> list[dict[str, Any]]:
    """Six cases; each key gives its values, one for each case, None for no such key."""
    cases = [{"case": name, "image": f"{name}/i.nii", "raters": [f"{name}/r.nii"]} for name in NAMES]
    return [{**case, **{key: values[n] for key, values in keys.items() if values[n] is not None}} for n, case in enumerate(cases)]


def names(split: Any) -> list[str]:
    return ["".join(item["case"] for item in side) for side in split]


def written(path: Path, **options: Any) -> str:
    """The path of a list that the verb `datalist` would write of six cases."""
    made = _sections(CaseList(items()), options.get("validation"), options.get("folds"), options.get("seed"))
    return write_datalist(made, path / "list.json")


@pytest.mark.parametrize("fold", [None, 0, 1, 2])
def test_folds_of_the_verb_are_the_split(tmp_path: Path, fold: int | None) -> None:
    split = split_of_list(listed_cases(written(tmp_path, folds=3)), fold=fold)
    held = "abcdef"[2 * (fold or 0) : 2 * (fold or 0) + 2]
    assert names(split) == ["".join(name for name in NAMES if name not in held), held]


def test_the_section_of_the_verb_is_the_split(tmp_path: Path) -> None:
    path = written(tmp_path, validation=0.34, seed=1)
    sections = json.loads(Path(path).read_text())
    split = split_of_list(listed_cases(path))
    assert names(split) == ["".join(item["case"] for item in sections[name]) for name in ("training", "validation")]
    assert len(names(split)[1]) == 2
    # a section that is named is taken alone
    assert "".join(item["case"] for item in listed_cases(path, "validation")) == names(split)[1]
    assert split_of_list(listed_cases(path, "validation")) is None
    assert names(split_of_list(listed_cases(path, "validation"), all_validated=True)) == ["", names(split)[1]]


def test_other_names_of_sections_and_nameless_cases(tmp_path: Path) -> None:
    """Cases without a name are named by what differs in both sections."""
    content = {"train": [{"image": "tr/001.nii", "label": "x"}], "val": [{"image": "va/001.nii", "label": "y"}], "test": ["new/1.nii"]}
    (tmp_path / "list.json").write_text(json.dumps(content))
    split = split_of_list(listed_cases(str(tmp_path / "list.json")))
    assert split is not None
    assert [[item["case"] for item in side] for side in split] == [["tr"], ["va"]]


def test_a_list_without_a_split_leaves_it_to_the_bundle(tmp_path: Path) -> None:
    assert split_of_list(items()) is None
    assert split_of_list(items(fold=[0, 0, 0, 1, 1, 1]), split_by="draw", fold=1) is None
    (tmp_path / "list.json").write_text(json.dumps({"training": items(), "validation": []}))
    assert split_of_list(listed_cases(str(tmp_path / "list.json"))) is None


def test_cases_without_a_fold_are_trained_on() -> None:
    assert names(split_of_list(items(fold=[0, None, 1, "1", None, 0]), fold=1)) == ["abef", "cd"]


@pytest.mark.parametrize(
    ("keys", "options", "message"),
    [
        ({"fold": [0, 0, 2, 2, 3, 3]}, {"fold": 1}, "fold: expected one of the data list's folds, 0, 2, 3, got 1. Fix: --fold 0."),
        (
            {"list_section": ["validation", *["training"] * 5]},
            {"fold": 0},
            "fold: expected null for a data list with a section validation, which is validated, got 0. Fix: leave fold out",
        ),
        ({}, {"split_by": "list"}, "split_by: expected a data list with its own split, since split_by is list, got cases without"),
        ({}, {"fold": 0, "drawn_folds": False}, "fold: expected null where the cases have no folds, got 0. Fix: write a data list"),
        ({"fold": ["x"] * 6}, {}, "fold of case a: expected a whole number, got 'x'. Fix: "),
    ],
)
def test_contradictions_are_refused(keys: Any, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        split_of_list(items(**keys), **options)


def test_what_was_taken_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    split_of_list(items(fold=[0, 0, 1, 1, 1, 1]))
    assert "fold 0 of the data list is validated: 2 cases; 4 are trained on" in caplog.text
    two_scans = items(list_section=["training"] * 5 + ["validation"])
    two_scans[0]["case"], two_scans[-1]["case"] = "case7-1", "case7-2"
    split_of_list(two_scans)
    assert "the data list's section validation is validated: 1 cases; 5 are trained on" in caplog.text
    assert "the data list has patients in training and validation: case7" in caplog.text


def test_blocks_are_cut_in_the_order_of_the_cases() -> None:
    assert names(split_by_blocks(items(), 3)) == ["cdef", "ab"]
    assert names(split_by_blocks(items(), 3, 2)) == ["abcd", "ef"]
    with pytest.raises(ValueError, match=r"fold: expected a whole number from 0 to 2, since folds is 3, got 3. Fix: --fold 2"):
        split_by_blocks(items(), 3, 3)


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        (["training", "validation", "testing"], "testing"),
        (["training", "test"], "testing"),
        (["training", "val"], "validation"),
        (["training"], "training"),
    ],
)
def test_the_section_to_predict(tmp_path: Path, sections: list[str], expected: str) -> None:
    (tmp_path / "list.json").write_text(json.dumps({name: items() for name in sections}))
    assert section_to_predict(str(tmp_path / "list.json")) == expected
    assert section_to_predict(str(tmp_path / "absent.json")) == "training"
