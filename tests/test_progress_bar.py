import ast
import json
import logging
from pathlib import Path
from typing import Any

import pytest

import monai_jdt
from monai_jdt.cli import main
from monai_jdt.data import check_items, write_brats_phantoms
from monai_jdt.progress_bar import shows_progress, with_progress

BrokenList = tuple[str, list[dict[str, Any]]]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monai_jdt.progress_bar._is_terminal", lambda stream: True)


def test_a_bar_needs_a_terminal_or_a_notebook(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert not shows_progress()
    assert list(with_progress([1, 2], "counting")) == [1, 2]
    assert capsys.readouterr().err == ""
    monkeypatch.setitem(__import__("sys").modules, "ipykernel", object())
    assert shows_progress()
    assert not shows_progress(False)


def test_a_process_without_a_standard_error_has_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", None)
    assert not shows_progress()


def test_a_terminal_sees_the_bar(terminal: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert list(with_progress([1, 2], "counting")) == [1, 2]
    assert "counting" in capsys.readouterr().err
    assert list(with_progress([1, 2], "counting", wanted=False)) == [1, 2]
    assert capsys.readouterr().err == ""


@pytest.fixture
def broken_list(tmp_path: Path) -> BrokenList:
    """A list of three cases without their files."""
    items = [{"case": f"case{i}", "image": f"{i}.nii.gz", "raters": [f"{i}_a.nii.gz"]} for i in range(3)]
    (tmp_path / "list.json").write_text(json.dumps({"training": items}))
    return str(tmp_path / "list.json"), items


def test_the_log_of_a_check_has_a_line_a_problem_and_no_bar(broken_list: BrokenList, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["check", broken_list[0]])
    out, err = capsys.readouterr()
    assert "checking the data" not in err
    # two files of each of three cases; the list, what was not opened, and the count
    assert len(out.splitlines()) == 6 + 3


def test_the_log_of_a_bundles_check_has_no_bar(broken_list: BrokenList, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="nothing at that path"):
        check_items(broken_list[1])
    assert capsys.readouterr().err == ""


def test_warnings_are_logged_below_the_bar_not_inside(
    tmp_path: Path, terminal: None, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    root = write_brats_phantoms(tmp_path / "set", cases=1, shape=(12, 12, 12), progress=False)
    folder = next(Path(root).glob("*_00001"))
    files = sorted(str(path) for path in folder.glob("*_seg_rater*"))
    item = {"case": "a", "image": str(next(folder.glob("*_flair*"))), "raters": files}
    open_bars = []
    from tqdm import tqdm

    class Watch(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            open_bars.append(len([bar for bar in vars(tqdm)["_instances"] if not bar.disable]))

    watch = Watch()
    logger = logging.getLogger("monai_jdt.data.inspection.cases")
    logger.addHandler(watch)
    try:
        check_items([item], raters=99)
    finally:
        logger.removeHandler(watch)
    assert "checking the data" in capsys.readouterr().err
    assert open_bars
    assert set(open_bars) == {0}


def test_phantoms_leave_no_bar_in_a_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_brats_phantoms(tmp_path / "set", cases=1, shape=(12, 12, 12))
    assert capsys.readouterr().err == ""


def test_every_bar_of_the_package_is_made_in_one_place() -> None:
    package = Path(monai_jdt.__file__).parent
    users = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            else:
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if any(name.split(".")[0] == "tqdm" for name in names):
                users.add(path.name)
    assert users == {"progress_bar.py"}
