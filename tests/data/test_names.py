"""Names of cases and files as people write them: the paths that they become, and how they are printed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from monai_jdt.data import folded_name, one_line, safe_relative_name, user_path


@pytest.mark.parametrize("name", ["case01", "site 1/case[3]", "O'Brien", "-x", "Ä", ".hidden", "..x", "a..b"])
def test_a_harmless_name_stays(name: str) -> None:
    assert safe_relative_name(name) == name


HOSTILE = [
    "../../x",
    "/etc/x",
    "..",
    ".",
    "",
    "/",
    "a/../../x",
    "..\\..\\x",
    "C:\\x",
    "x\0y",
    "x\ny",
    "//x",
    "x/",
    "n" * 300,
    "é" * 200,
]


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_leads_out_of_a_folder(tmp_path: Path, name: str) -> None:
    safe = safe_relative_name(name)
    place = os.path.normpath(os.path.join(tmp_path, safe))
    assert place != str(tmp_path)
    assert os.path.commonpath([tmp_path, place]) == str(tmp_path)
    os.makedirs(place)  # legal for the file system


def test_two_names_never_become_one() -> None:
    names = [*HOSTILE, "x", "etc/x", "a/x", "_", "x_y", "n" * 200, "n" * 301, 3, "3.0"]
    assert len({safe_relative_name(name) for name in names}) == len(names)


def test_home_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    assert [user_path(path) for path in ("~", "~/a b", "a/~", "~nobody-of-that-name/x")] == [
        "/somewhere",
        "/somewhere/a b",
        "a/~",
        "~nobody-of-that-name/x",
    ]


def test_one_line() -> None:
    assert one_line("a  b\n\t\udcff Ä 漢") == "a  b\\n\\t\\udcff Ä 漢"
    assert one_line("a  b\n\t\udcff Ä 漢").encode()


def test_a_folded_name_knows_no_case_and_no_encoding_of_accents() -> None:
    assert folded_name("SEG_\u00c4") == folded_name("seg_a\u0308")
    assert folded_name("a1") != folded_name("a2")
