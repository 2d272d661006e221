"""Data lists as tables: CSV and TSV, as a spreadsheet writes them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from monai_jdt.data.files.volumes import FORMATS
from monai_jdt.data.problems import DataProblem, DataProblemError

#: The endings of tables.
TABLE_ENDINGS: tuple[str, ...] = (".csv", ".tsv")

_IMAGE = re.compile(r"image(?:_(\d+))?\Z")
#: Columns with a meaning of their own; every other one is a rater's, named by its heading.
_PLAIN = ("case", "section", "patient", "task", "dataset", "fold", "foreground", "probability", "consensus", "label", "mask")
_LONG = ("rater", "file", "weight")
_FIX = "write a heading such as case,image,anna,ben"


class TableRow(dict[str, Any]):
    """An entry of a list, with the place in the file that it came from.

    Args:
        entry: the dictionary.
        line: the number of the line, from 1.
    """

    def __init__(self, entry: Mapping[str, Any], line: int) -> None:
        super().__init__(entry)
        self.line = line


def table_sections(path: str) -> dict[str, list[Any]]:
    """Read the lists of cases of a table.

    The first row names the columns: `case`; `image`, or `image_1`, `image_2`, ... for one file per channel; one column for each rater,
    headed by the rater's name, with an empty field for a rater who is missing; and maybe `patient`, `fold`, `task`, `dataset`,
    `foreground`, `probability`, `consensus` and `section`. Or one row for each rater, with the columns `rater` (the name), `file`, and
    maybe `weight`. The fields are separated by commas or semicolons, in a TSV by tabs.

    Args:
        path: the file, in UTF-8.

    Returns:
        Section to entries, as :func:`monai_jdt.data.list_forms.list_sections` gives them.

    Raises:
        DataProblemError: a table without these columns, or rows that contradict it. Each problem names the line.
    """
    with open(path, "rb") as file:
        raw = file.read()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _table_problem(path, "a table in UTF-8", f"other text ({error.reason})", "save it as CSV UTF-8") from error
    first = text.partition("\n")[0]
    mark = "\t" if path.lower().endswith(".tsv") else ";" if first.count(";") > first.count(",") else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark)
    rows = [(reader.line_num, [field.strip() for field in row]) for row in reader if any(field.strip() for field in row)]
    if not rows:
        raise _table_problem(path, "a heading and one row per case", "an empty file", _FIX)
    (number, heading), *body = rows
    names = [name.lower() if name.lower() in (*_PLAIN, *_LONG) or _IMAGE.match(name.lower()) else name for name in heading]
    _check_heading(f"{path}: line {number}", names)
    problems = [
        DataProblem(f"{path}: line {line}", f"{len(names)} fields, as the heading", str(len(row)), "quote fields that hold commas")
        for line, row in body
        if len(row) != len(names)
    ]
    if problems:
        raise DataProblemError(problems[:20], max(len(problems) - 20, 0))
    lines = [(line, dict(zip(names, row, strict=True))) for line, row in body]
    entries = _of_long_rows(path, lines) if "rater" in names else [_entry(path, line, row) for line, row in lines]
    sections: dict[str, list[Any]] = {}
    for entry in entries:
        sections.setdefault(str(entry.pop("section", None) or "training"), []).append(entry)
    return sections


def table_text(sections: Mapping[str, Sequence[Mapping[str, Any]]], ending: str) -> str:
    """Return a list as the text of a table, which :func:`table_sections` reads.

    Args:
        sections: name to items, with paths as they are to be written.
        ending: ".csv" or ".tsv".

    Raises:
        ValueError: an item that a table cannot hold: raters without names, who have no column, or nested lists.
    """
    rows: list[dict[str, Any]] = []
    for section, items in sections.items():
        for item in items:
            raters = item.get("raters") or []
            names = item.get("rater_names") or [f"rater {number + 1}" for number in range(len(raters))]
            clash = [name for name in names if str(name).lower() in (*_PLAIN, *_LONG) or _IMAGE.match(str(name).lower())]
            if clash or not all(isinstance(rater, str) for rater in raters):
                got = f"the rater {clash[0]!r}" if clash else "lists of files"
                raise _table_problem(
                    str(item.get("case")), "raters that are columns of a table, one file each", got, "write a .json file"
                )
            images = item["image"]
            row = {"section": section} if len(sections) > 1 else {}
            row |= {key: item[key] for key in _PLAIN if key != "section" and item.get(key) is not None}
            row |= {"image": images} if isinstance(images, str) else {f"image_{n}": image for n, image in enumerate(images, start=1)}
            rows.append(row | dict(zip(map(str, names), raters, strict=True)))
    columns = list(dict.fromkeys(column for row in rows for column in row))
    columns.sort(key=lambda column: 0 if column in ("section", *_PLAIN) else 1 if _IMAGE.match(column) else 2)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, delimiter="\t" if ending == ".tsv" else ",", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _check_heading(where: str, names: Sequence[str]) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None or "" in names:
        got = "an empty name" if "" in names else f"{twice!r} twice"
        raise _table_problem(where, "a heading with a name for each column, all different", got, _FIX)
    if not any(_IMAGE.match(name) for name in names):
        raise _table_problem(where, "a column image, or image_1, image_2, ...", ", ".join(names)[:80], _FIX)
    if "weight" in names and "rater" not in names:
        raise _table_problem(where, "a weight beside the columns rater and file", "none of these", "write one row per rater")
    if ("rater" in names) != ("file" in names):
        raise _table_problem(where, "the columns rater and file together", "one of them", "name both, or give each rater a column")


def _entry(path: str, line: int, row: Mapping[str, str], raters: Mapping[str, str] | None = None) -> TableRow:
    entry: dict[str, Any] = {key: row[key] for key in _PLAIN if row.get(key)}
    images = sorted((int(match[1] or 0), row[name]) for name in row if (match := _IMAGE.match(name)))
    if not all(image for _, image in images):
        raise _table_problem(f"{path}: line {line}", "an image", "an empty field", "add its file, or remove the row")
    entry["image"] = images[0][1] if len(images) == 1 else [image for _, image in images]
    if "fold" in entry:
        if not re.fullmatch(r"\d+", entry["fold"]):
            raise _table_problem(f"{path}: line {line}: fold", "a whole number", repr(entry["fold"]), "number the folds 0, 1, ...")
        entry["fold"] = int(entry["fold"])
    own = (
        {name: value for name, value in row.items() if name not in (*_PLAIN, *_LONG) and not _IMAGE.match(name)}
        if raters is None
        else dict(raters)
    )
    for name, value in own.items():
        if value and not (value.lower().endswith(FORMATS) or "/" in value):
            fix = f"remove the column, or name one of {', '.join(_PLAIN)}"
            raise _table_problem(f"{path}: line {line}: {name}", "a rater's file", repr(value), fix)
    if own:
        entry["raters"] = {name: value or None for name, value in own.items()}
    return TableRow(entry, line)


def _of_long_rows(path: str, lines: Sequence[tuple[int, Mapping[str, str]]]) -> list[TableRow]:
    """Join the rows of each case, one for each rater, in the order in which the cases come first."""
    cases: dict[tuple[str, ...], list[tuple[int, Mapping[str, str]]]] = {}
    for line, row in lines:
        own = [row.get(name, "") for name in ("section", "dataset", "task", "case")]
        key = (*own, "" if row.get("case") else _image_columns(row))
        cases.setdefault(key, []).append((line, row))
    entries = []
    for rows in cases.values():
        first_line, first = rows[0]
        raters: dict[str, str] = {}
        weights: list[float] = []
        for line, row in rows:
            where = f"{path}: line {line}"
            other = next((name for name in row if name not in _LONG and row[name] != first[name]), None)
            if other is not None:
                got = f"{row[other]!r}, and {first[other]!r} in line {first_line}"
                raise _table_problem(f"{where}: {other}", "one value for all rows of a case", got, "correct one of them")
            if not row["rater"] and not row["file"]:
                continue
            if not row["rater"] or row["rater"] in raters:
                got = f"{row['rater']!r} twice" if row["rater"] else "an empty field"
                raise _table_problem(f"{where}: rater", "each rater's name once in a case", got, "correct the name")
            raters[row["rater"]] = row["file"]
            if row["file"]:
                weights.append(_weight(where, row.get("weight") or "1"))
        entry = _entry(path, first_line, {name: value for name, value in first.items() if name not in _LONG}, raters)
        if "weight" in first:
            entry["rater_weights"] = weights
        entries.append(entry)
    return entries


def _image_columns(row: Mapping[str, str]) -> str:
    return "\n".join(value for name, value in row.items() if _IMAGE.match(name))


def _weight(where: str, text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = -1.0
    if not 0 <= weight < float("inf"):
        raise _table_problem(f"{where}: weight", "a number of at least 0", repr(text), "0 leaves a rater out, empty is 1")
    return weight


def _table_problem(where: str, expected: str, got: str, fix: str) -> DataProblemError:
    return DataProblemError([DataProblem(where, expected, got, fix)])
