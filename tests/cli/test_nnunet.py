"""The verbs of `nnunet`: what they print is what a user goes on with."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from monai_jdt.cli import main
from tests.nnunet.tiny_data import NAME, write_list


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["nnunet", *arguments])
    return int(ended.value.code or 0)


def test_path_prints_the_folder_of_the_trainer(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("path") == 0
    folder = Path(capsys.readouterr().out.rstrip("\n"))
    assert [path.name for path in folder.glob("*.py") if path.name != "__init__.py"] == ["monai_jdt_nnunet_trainer.py"]
    assert "nnUNetTrainerJDT" in (folder / "monai_jdt_nnunet_trainer.py").read_text()


def test_convert_prints_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    listed = write_list(tmp_path, cases=2, missing={0: [2]})
    assert run("convert", str(listed), NAME, "--regions", '{"rim": [1]}', "--channel", "MRI") == 0
    printed = capsys.readouterr()
    assert f"raw/{NAME}: 2 training cases, 0 test cases, 2 to 3 raters per case" in printed.out
    assert (
        "  nnUNetv2_plan_and_preprocess -d 503 --verify_dataset_integrity --no_pp\n  monai-jdt nnunet preprocess 503\n" in printed.out
    )
    assert f"raw/{NAME}/datalist.json --regions '" + '{"rim": [1]}' + "'" in printed.out
    assert printed.err == "warning: label values in no region became background: 2\n"


def test_convert_counts_one_rater_in_the_singular(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = write_list(tmp_path, cases=2, missing={0: [1, 2], 1: [0, 1]})
    assert run("convert", str(listed), NAME, "--raw", str(tmp_path / "raw")) == 0
    assert "2 training cases, 0 test cases, 1 rater per case\n" in capsys.readouterr().out


def test_errors_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("nnUNet_raw", raising=False)
    assert run("convert", "list.json", NAME) == 1
    assert "monai_jdt: error: nnUNet_raw: expected a folder in this environment variable" in capsys.readouterr().err
    assert run("convert", "list.json", "Nodules", "--raw", str(tmp_path)) == 1
    assert "monai_jdt: error: dataset: expected a name of nnU-Net's form, got 'Nodules'" in capsys.readouterr().err


def test_without_nnunet_preprocess_says_what_to_install(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("monai_jdt.cli.nnunet.find_spec", lambda name: None)
    assert run("preprocess", "503") == 1
    assert "nnunetv2: expected the package, got none. Fix: pip install 'monai-jdt[nnunet]'" in capsys.readouterr().err
    assert importlib.util.find_spec("monai_jdt") is not None


def test_preprocess_prints_how_to_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("nnunetv2")
    from monai_jdt.nnunet import preprocessing

    done = preprocessing.PreprocessedRaters(NAME, "nnUNetPlansRaters", ("3d_fullres",), 3, 4, ("c0",))
    monkeypatch.setattr(preprocessing, "preprocess_raters", lambda *given: done)
    assert run("preprocess", "503", "3d_fullres") == 0
    printed = capsys.readouterr()
    assert "4 cases, 3 rater channels" in printed.out
    assert '  export nnUNet_extTrainer="$(monai-jdt nnunet path)"\n' in printed.out
    assert "  nnUNetv2_train 503 3d_fullres 0 -tr nnUNetTrainerJDT -p nnUNetPlansRaters\n" in printed.out
    assert "the label is the one opinion: c0" in printed.err
