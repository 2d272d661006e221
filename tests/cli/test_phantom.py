from pathlib import Path

import pytest

from monai_jdt.cli import main
from monai_jdt.data import brats_datalist


def _run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    output = capsys.readouterr()
    return int(ended.value.code or 0), output.out, output.err


def test_phantom_makes_a_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dest = str(tmp_path / "set")
    code, out, _ = _run(capsys, "phantom", dest, "--cases", "2", "--size", "12", "--layout", "brats2023", "--no-progress")
    items = brats_datalist(dest, "brats2023")
    raters = sum(len(item["raters"]) for item in items)
    assert code == 0
    assert len(items) == 2
    assert out.strip() == f"{dest}: 2 phantom cases, {raters} rater files, layout brats2023, seed 0"


def test_phantom_in_qubiqs_layout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dest = str(tmp_path / "set")
    settings = ["--cases", "1", "--size", "16", "--layout", "qubiq2021", "--no-progress"]
    code, out, _ = _run(capsys, "phantom", dest, "--dataset", "kidney", "--dataset", "brain-tumor", *settings)
    assert code == 0
    assert out.strip() == f"{dest}: 2 phantom cases, 12 rater files, layout qubiq2021, seed 0"
    code, out, _ = _run(capsys, "phantom", str(tmp_path / "all"), *settings)
    assert out.startswith(f"{tmp_path / 'all'}: 6 phantom cases")
    code, _, err = _run(capsys, "phantom", str(tmp_path / "no"), "--dataset", "kidney")
    assert (
        err.splitlines()[-1]
        == "monai_jdt: error: --dataset: expected the layout qubiq2020 or qubiq2021, got brats2021. Fix: --layout qubiq2021, or leave "
        "--dataset out."
    )


def test_phantom_in_lidcs_layout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dest = str(tmp_path / "set")
    settings = ["--cases", "1", "--size", "40", "--slices", "12", "--no-progress"]
    code, out, _ = _run(capsys, "phantom", dest, "--layout", "lidc", *settings)
    assert code == 0
    assert out.strip() == f"{dest}: 1 phantom cases, 4 reading sessions, layout lidc, seed 0"
    assert len(list((tmp_path / "set").glob("LIDC-IDRI-9001/*/*/1-0*.dcm"))) == 12
    code, _, err = _run(capsys, "phantom", str(tmp_path / "no"), "--slices", "12")
    assert code == 1
    assert err.splitlines()[-1].startswith("monai_jdt: error: --slices: expected the layout lidc, got brats2021")


def test_errors_are_one_last_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").touch()
    code, out, err = _run(capsys, "phantom", str(tmp_path))
    assert code == 1
    assert out == ""
    assert err.splitlines()[-1].startswith(f"monai_jdt: error: {tmp_path}: expected a free name")
    assert "Traceback" not in err
    code, _, err = _run(capsys, "phantom", str(tmp_path / "set"), "--size", "4")
    assert code == 1
    assert err.startswith("monai_jdt: error: shape: expected three whole numbers of at least 12")


def test_several_problems_end_in_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from monai_jdt.data import DataProblem, DataProblemError

    def fail(**_: list[str] | str) -> None:
        raise DataProblemError([DataProblem("a", "b", "c", "d"), DataProblem("e", "f", "g", "h")], more=3)

    monkeypatch.setattr("monai_jdt.cli.app", lambda **settings: fail(**settings))
    code, _, err = _run(capsys, "phantom")
    assert code == 1
    assert err.splitlines() == [
        "a: expected b, got c. Fix: d.",
        "e: expected f, got g. Fix: h.",
        "and 3 more",
        "monai_jdt: error: 5 problems in the data, the first: a: expected b, got c. Fix: d.",
    ]


def test_help_names_verbs_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = _run(capsys, "--help")
    assert code == 0
    assert "phantom" in out
    code, out, _ = _run(capsys, "phantom", "--help")
    assert code == 0
    assert all(option in out for option in ("--layout", "--cases", "--size", "--seed"))
    assert _run(capsys, "phantom")[0] == 2  # no DEST
