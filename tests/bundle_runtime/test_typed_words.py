"""Settings that are text are what the user typed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from fire import Fire
from monai.bundle import create_workflow

from monai_jdt.bundle_runtime.typed_words import as_typed
from tests.bundles import test_brats_bundle as brats


@pytest.mark.parametrize("word", ["2024_01_15", "run#1", "3.10", "1e3", "007", "a,b", "True", "[x]", "0x10", "-5"])
def test_fire_changes_a_word_and_it_is_found_again(word: str) -> None:
    line = ["run", "--output_dir", word]
    given = Fire(lambda **settings: dict(settings), command=line[1:])
    assert as_typed(given, line) == ({} if given["output_dir"] == word else {"output_dir": word})


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        ({"output_dir": 20240115}, ["--output_dir", "2024_02_15"]),  # given otherwise, e.g. in a file of arguments
        ({"output_dir": "a b"}, ["--output_dir", "'a b'"]),
        ({"output_dir": None}, ["--output_dir", "None"]),
        ({"output_dir": 3}, []),
        ({"output_dir": True}, ["--output_dir", "--amp", "1"]),
    ],
)
def test_other_values_are_left_alone(overrides: dict[str, Any], line: list[str]) -> None:
    assert as_typed(overrides, line) == {}


@pytest.mark.parametrize(
    ("name", "word"), [("output_dir", "2024_01_15"), ("figure_case", "3.10"), ("figure_case", "run"), ("ckpt_dir", "1e3")]
)
def test_a_run_takes_the_word(name: str, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    line = [f"--{name}", word]
    monkeypatch.setattr(sys, "argv", ["monai.bundle", "run", *line])
    data: dict[str, Any] = {"datalist": [{"case": str(n), "image": "a.nii", "raters": ["b.nii"]} for n in range(4)], "dataset_dir": "."}
    (tmp_path / "a.nii").touch()
    (tmp_path / "check.yaml").write_text("initialize: ['$bundle_start.check_run(bundle_start.BratsTraining)']\n")
    files = [*brats.configs("train.yaml"), "check.yaml"]
    given = Fire(lambda **settings: dict(settings), command=line)
    run = create_workflow(config_file=files, logging_file=False, bundle_root=str(tmp_path), **data, **given)
    assert run.parser.get_parsed_content(name) == word
