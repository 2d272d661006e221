"""Data lists as tables: CSV and TSV, as a spreadsheet writes them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
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
_JSON = "write a .json file"


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
    `foreground`, `probability`, `consensus` and `section`. Or one row for each rater, with the columns `rater` (the name) and `file`.
    The fields are separated by commas or semicolons, in a TSV by tabs.

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
    rows = list(_rows_of_text(path, text, mark))
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
        DataProblemError: an item that a table cannot hold: raters without names, who have no column; nested lists; keys without a
            column, such as `rater_weights`; another number of image files than in the other items.
    """
    rows: list[dict[str, Any]] = []
    for section, items in sections.items():
        for item in items:
            row = {} if list(sections) == ["training"] else {"section": section}
            rows.append(row | _row_of_item(item))
            if _image_names(rows[-1]) != _image_names(rows[0]):
                got = f"{len(_image_names(rows[-1]))}, and {len(_image_names(rows[0]))} in the first item"
                raise _table_problem(str(item.get("case")), "as many image files as in the other items", got, _JSON)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    columns.sort(key=lambda column: 0 if column in ("section", *_PLAIN) else 1 if _IMAGE.match(column) else 2)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, delimiter="\t" if ending == ".tsv" else ",", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _rows_of_text(path: str, text: str, mark: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of the line and the fields of each row that is not empty."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True)
    line = 1
    try:
        for row in reader:
            if any("\n" in field or "\r" in field for field in row):
                got = f"a quote that is closed in line {reader.line_num}"
                raise _table_problem(f"{path}: line {line}", "a row on one line", got, "close the quote, or remove it")
            if any(field.strip() for field in row):
                yield line, [field.strip() for field in row]
            line = reader.line_num + 1
    except csv.Error as error:
        fix = "close the quote, or remove it"
        raise _table_problem(f"{path}: line {line}", "fields that are quoted as a whole or not at all", str(error), fix) from error


def _row_of_item(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of one item, or refuse what no column can hold."""
    where, raters, names = str(item.get("case")), item.get("raters") or [], item.get("rater_names")
    plain = {key: item[key] for key in _PLAIN if key != "section" and item.get(key) is not None}
    other = next((key for key in item if item[key] is not None and key not in (*plain, "image", "raters", "rater_names")), None)
    if other is not None:
        raise _table_problem(where, "keys that are columns of a table", repr(other), _JSON)
    if not all(isinstance(rater, str) for rater in raters):
        raise _table_problem(where, "raters that are columns of a table, one file each", "lists of files", _JSON)
    if names is None and raters == [plain.get("label")]:
        raters = names = []  # a label is the one rater when the table is read
    names = [str(name) for name in names or ()]
    clash = next((name for name in names if name.lower() in (*_PLAIN, *_LONG) or _IMAGE.match(name.lower())), None)
    if clash is not None:
        raise _table_problem(where, "raters that are columns of a table", f"the rater {clash!r}", _JSON)
    if len(set(names)) != len(raters) or len(names) != len(raters):
        raise _table_problem(where, f"a name for each of {len(raters)} raters", ", ".join(names) or "none", _JSON)
    images = [item["image"]] if isinstance(item["image"], str) else list(item["image"])
    row = (
        {**plain, **{f"image_{n}": image for n, image in enumerate(images, start=1)}}
        if len(images) > 1
        else {**plain, "image": images[0]}
    )
    row |= dict(zip(names, raters, strict=True))
    for text in (*row, *row.values()):
        if not isinstance(text, (str, int)) or str(text).strip() != str(text) or len(str(text).splitlines()) > 1:
            raise _table_problem(where, "text of one line, without blanks at its ends", repr(text)[:60], _JSON)
    return row


def _image_names(row: Mapping[str, Any]) -> list[str]:
    return [name for name in row if _IMAGE.match(name)]


def _check_heading(where: str, names: Sequence[str]) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None or "" in names:
        got = "an empty name" if "" in names else f"{twice!r} twice"
        raise _table_problem(where, "a heading with a name for each column, all different", got, _FIX)
    if not any(_IMAGE.match(name) for name in names):
        raise _table_problem(where, "a column image, or image_1, image_2, ...", ", ".join(names)[:80], _FIX)
    if "weight" in names:
        fix = "remove it, and give weights by name: fuse --weights anna=2, LoadRatersd(rater_weights={'anna': 2})"
        raise _table_problem(where, "no column weight, which no verb follows", "one", fix)
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
        entry = _entry(path, first_line, {name: value for name, value in first.items() if name not in _LONG}, raters)
        entries.append(entry)
    return entries


def _image_columns(row: Mapping[str, str]) -> str:
    return "\n".join(value for name, value in row.items() if _IMAGE.match(name))


def _table_problem(where: str, expected: str, got: str, fix: str) -> DataProblemError:
    return DataProblemError([DataProblem(where, expected, got, fix)])
