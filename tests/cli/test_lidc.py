"""The verb `lidc`: a download in, cases and a list out; and one line for what cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from monai_jdt.cli import main
from tests.data.lidc.tcia_files import POSITIONS, SERIES, annotation_text, four_readers, nodule, square, write_scan


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["lidc", *map(str, arguments), "--no-progress"])
    return int(ended.value.code or 0)


def test_a_download_becomes_a_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_scan(tmp_path / "in")
    (tmp_path / "in" / "other.xml").write_text(annotation_text([], root="IdriReadMessage"))
    assert run(tmp_path / "in", tmp_path / "out", "--size", 5, "--min-readers", 2) == 0
    told = capsys.readouterr()
    assert told.out == f"{tmp_path / 'out' / 'datalist.json'}: 1 scan, 1 case; nodules: 1 by 3 readers\n"
    assert told.err == "passed over: 1 XML file of X-rays (CR, DX)\n"


def test_other_settings_are_one_line_and_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_scan(tmp_path / "in")
    assert run(tmp_path / "in", tmp_path / "out", "--whole") == 0
    assert run(tmp_path / "in", tmp_path / "out") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        f"monai_jdt: error: {tmp_path / 'out'}: expected a folder of the same settings, got whole True instead of False."
    )


def other_slice(folder: Path) -> None:
    """The image that a contour names lies elsewhere than the contour says."""
    path = folder / "069.xml"
    path.write_text(path.read_text().replace(f"{SERIES}.950</imageSOP_UID>", f"{SERIES}.1000</imageSOP_UID>"))


def truncated(folder: Path) -> None:
    path = folder / "1-003.dcm"
    path.write_bytes(path.read_bytes()[:-100])


def no_slices(folder: Path) -> None:
    for path in folder.glob("*.dcm"):
        path.unlink()


def entities(folder: Path) -> None:
    (folder / "069.xml").write_text(annotation_text(four_readers(), doctype='<!DOCTYPE x [<!ENTITY a "b">]>'))


@pytest.mark.parametrize(
    ("faulty", "line"),
    [
        (
            {"positions": POSITIONS[:3] + POSITIONS[4:]},
            f"LIDC-IDRI-0001: series {SERIES}: expected a slice at every 2.5 mm, got 1 missing, the first",
        ),
        (
            {"positions": (-10.0, -7.5, -5.0, -2.5, 0.0, 1.0)},
            f"LIDC-IDRI-0001: series {SERIES}: expected slices at equal distances, got 1 to 2.5 mm",
        ),
        (
            {"positions": POSITIONS[:4]},
            f"LIDC-IDRI-0001: series {SERIES}: expected a slice at each contour, got a contour at 0 mm",
        ),
        (
            {"sessions": [nodule("a", [square(20, 5, 6, 0.0)])]},
            f"LIDC-IDRI-0001: nodule 'a' of series {SERIES}: expected outlines within 24 columns and 20 rows, got x 20 to 26",
        ),
        (
            other_slice,
            "{in}/069.xml: nodule 'a': expected contours that name one slice, got imageZposition -5 mm and an imageSOP_UID at 0 mm.",
        ),
        (truncated, "{in}/1-003.dcm: expected a whole DICOM file, got a damaged or truncated one. Fix: download the series again."),
        (
            no_slices,
            f"{{in}}/069.xml: expected its series {SERIES}, got none below the folder. Fix: download the series, if it is wanted.",
        ),
        (
            entities,
            "{in}/069.xml: expected an XML without entities, DTD and external files, got DTD declarations. Fix: use the",
        ),
    ],
)
def test_faulty_files_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], faulty: object, line: str) -> None:
    """The scan beside the faulty one is converted."""
    folder = tmp_path / "in" / "a"
    write_scan(folder, **faulty if isinstance(faulty, dict) else {})
    if callable(faulty):
        faulty(folder)
    write_scan(tmp_path / "in" / "b", series=f"{SERIES}.2", patient="LIDC-IDRI-0002")
    code = run(tmp_path / "in", tmp_path / "out")
    told = capsys.readouterr()
    assert "1 scan, 2 cases" in told.out
    lines = told.err.splitlines()
    assert line.replace("{in}", str(folder)) in lines[-1]
    # a series whose XML cannot be read has none
    assert len(lines) == (2 if faulty is entities else 1)
    # an XML whose series was not downloaded is no fault
    assert code == (0 if faulty is no_slices else 1)


def test_the_same_series_twice_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_scan(tmp_path / "in" / "a")
    write_scan(tmp_path / "in" / "b")
    assert run(tmp_path / "in", tmp_path / "out") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "expected one image at each position, got 6 twice, such as " in line
    assert line.endswith("Fix: remove one copy of the series.")


def test_the_commands_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).parents[2] / "docs" / "lidc.md"
    lines = [line.split("#")[0].split() for line in page.read_text(encoding="utf-8").splitlines() if "python -m monai_jdt" in line]
    commands = [words[3:] for words in lines if words[:3] == ["python", "-m", "monai_jdt"]]
    assert [words[0] for words in commands] == ["lidc", "check", "raters", "figure"]
    write_scan(tmp_path / "lidc")
    monkeypatch.chdir(tmp_path)
    for words in commands:  # in one process, and without a bar
        with pytest.raises(SystemExit) as ended:
            main([word.replace("/data/", f"{tmp_path}/").replace("--workers", "--no-progress") for word in words if word != "4"])
        assert not ended.value.code, words
