"""Data lists as MONAI's datalist JSON, with paths relative to the file, so that list and data move together."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from monai_jdt.data.csv_lists import TABLE_ENDINGS, table_text
from monai_jdt.data.files.atomic import whole_file
from monai_jdt.data.layouts.listing import PATH_KEYS, CaseList
from monai_jdt.data.list_forms import ItemReader, chosen_section, list_sections
from monai_jdt.data.names import user_path
from monai_jdt.data.problems import DataProblem, DataProblemError
from monai_jdt.validation import error_sentence

# The number of problems that one error names.
_SHOWN = 20


def write_datalist(
    items: Sequence[Mapping[str, Any]] | Mapping[str, Sequence[Mapping[str, Any]]],
    path: str | os.PathLike[str],
    *,
    relative: bool = True,
    path_keys: Sequence[str] = PATH_KEYS,
) -> str:
    """Write a data list as a datalist JSON. An older list at that path is replaced as a whole.

    The form is that of the Medical Segmentation Decathlon: `{"training": [item, ...], ...}`.
    :func:`monai.data.load_decathlon_datalist` reads it too, with two differences to :func:`read_datalist`: it takes any text
    for a path if that path exists (a case's name with a folder of that name beside the JSON), and it leaves lists of lists
    (KiTS21's raters) relative.

    Args:
        items: the items of the section "training", or a mapping from sections ("training", "validation", ...) to items.
        path: the file to write, JSON, or a table (`.csv`, `.tsv`) with a column for each rater, as
            :func:`monai_jdt.data.csv_lists.table_sections` reads it. Its folder is made.
        relative: whether paths are written relative to the file's folder. False: absolute.
        path_keys: which keys of an item hold paths.

    Returns:
        `path`, as a string.

    Raises:
        ValueError: if there is no item, or an item is no mapping.
        TypeError: if an item holds what JSON cannot.
        FileExistsError: if there is a file at `path` that is no data list, such as an image.
    """
    path = user_path(path)
    sections = items if isinstance(items, Mapping) else {"training": items}
    folder = os.path.dirname(os.path.abspath(path))

    def place(file: str) -> str:
        # The place of a link, not that of its target, so that a data set of links moves as a whole.
        return os.path.relpath(os.path.abspath(file), folder).replace(os.sep, "/") if relative else os.path.abspath(file)

    content: dict[str, Any] = {}
    for section, cases in sections.items():
        for number, item in enumerate(cases):
            if not isinstance(item, Mapping):
                where = f"items[{number}] of {section!r}"
                raise ValueError(error_sentence(where, "a dictionary", type(item).__name__, 'write {"image": ..., "raters": [...]}'))
        content[section] = [with_changed_paths(item, place, path_keys) for item in cases]
    if not any(content.values()):
        raise ValueError(error_sentence("items", "at least one item to write", "an empty list", "see what the lister left out"))
    ending = os.path.splitext(path)[1].lower()
    if ending in TABLE_ENDINGS:
        text = table_text(content, ending)
    else:
        text = json.dumps({f"num{section.capitalize()}": len(cases) for section, cases in content.items()} | content, indent=2) + "\n"
    _refuse_other_content(path)
    with whole_file(path) as draft, open(draft, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def _refuse_other_content(path: str) -> None:
    """Refuse to replace a file that is no data list, such as an image."""
    if not os.path.isfile(path) or os.path.getsize(path) == 0:
        return
    with open(path, "rb") as file:
        start = file.read(256).lstrip(b"\xef\xbb\xbf \t\r\n")
    is_table = path.lower().endswith(TABLE_ENDINGS) and b"image" in start
    if not start.startswith((b"{", b"[")) and not is_table:
        raise FileExistsError(error_sentence(path, "a free name, or a data list to replace", "another file", "name a new .json file"))


def read_datalist(
    path: str | os.PathLike[str],
    section: str | Sequence[str] = "training",
    *,
    path_keys: Sequence[str] = PATH_KEYS,
    rater_names: bool = False,
) -> CaseList:
    """Read a data list from a datalist JSON: one of ours, or one of another tool.

    Known forms are the Decathlon's `dataset.json`, MONAI's and Auto3DSeg's lists, nnU-Net's lists (an image `case.nii.gz` that is
    not there means the files `case_0000.nii.gz`, ... of its channels), a list without sections, and one item per line. The file
    may begin with a byte order mark. A CSV or TSV has one column or one row for each rater: see
    :func:`monai_jdt.data.csv_lists.table_sections`.

    * A path is relative to the file's folder, absolute, begins with `~` or `file://`, or has the backslashes of Windows.
    * "label" is the one rater of an item without "raters". It stays under "label" too.
    * A rater that is null is missing: it is left out, and the list's `found` names it. Raters may be an object, by their names.
    * An item without "case" is named after its image, or after the image's folder where all images have one name.
    * The sections "train", "val" and "test" are "training", "validation" and "testing".

    Args:
        path: the file.
        section: the key of the list in it, or several, or "all" for the lists of every section, one after the other.
        path_keys: which keys of an item hold paths.
        rater_names: whether an item whose raters are an object keeps their names, under "rater_names", in the order of "raters". A
            collation of items with different numbers of raters has to drop that key.

    Returns:
        The items, with paths that begin with the file's folder. An item that is a path alone (the Decathlon's "test") is
        an item with that image.

    Raises:
        DataProblemError: if the file is missing, is no JSON of this form, has no such section, or if an item has no image, a path
            that cannot be one of this machine, or several files under "label". Each problem names file, item and case.
    """
    path = user_path(path)
    if not os.path.isfile(path):
        got = "a folder" if os.path.isdir(path) else "nothing at that path"
        raise DataProblemError([DataProblem(path or "''", "a datalist JSON", got, "name the file")])
    sections = list_sections(path)
    reader = ItemReader(path, path_keys, rater_names)
    asked = [section] if isinstance(section, str) else section
    chosen = list(sections) if section == "all" else [chosen_section(path, sections, name) for name in asked]
    items = reader.read({name: sections[name] for name in chosen})
    if reader.problems:
        raise DataProblemError(reader.problems[:_SHOWN], max(len(reader.problems) - _SHOWN, 0))
    return CaseList(items, path, reader.skipped)


def read_sections(path: str | os.PathLike[str]) -> dict[str, list[dict[str, Any]]]:
    """Read every section of a data list, with the names of raters.

    Args:
        path: the file.

    Returns:
        Section to items, as :func:`read_datalist` gives them with `section="all"` and `rater_names=True`.

    Raises:
        DataProblemError: as in :func:`read_datalist`.
    """
    # all sections are read as one: names of cases come from what differs in all of them
    items = iter(read_datalist(path, "all", rater_names=True))
    return {name: list(itertools.islice(items, len(entries))) for name, entries in list_sections(user_path(path)).items()}


def cases_to_predict(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return the items of a datalist JSON that are for prediction: the Decathlon's "test", Auto3DSeg's "testing".

    Args:
        path: the file.

    Returns:
        The items of such a section if none of them has raters, as :func:`read_datalist` gives them with `section="all"`. If there is
        no such section, an empty list.

    Raises:
        DataProblemError: as in :func:`read_datalist`.
    """
    found: list[dict[str, Any]] = []
    for name, part in read_sections(path).items():
        if name in ("test", "testing") and not any(item.get("raters") for item in part):
            found += part
    return found


def with_changed_paths(item: Mapping[str, Any], change: Callable[[str], str], keys: Sequence[str] = PATH_KEYS) -> dict[str, Any]:
    """Return an item with other paths.

    Args:
        item: of a data list. Paths may be in lists, and lists of lists.
        change: path to the new one.
        keys: which keys hold paths.

    Example:
        >>> with_changed_paths({"case": "a", "raters": ["1.nii", "2.nii"]}, lambda path: f"data/{path}")
        {'case': 'a', 'raters': ['data/1.nii', 'data/2.nii']}
    """

    def walk(value: Any) -> Any:
        if isinstance(value, (str, os.PathLike)):
            return change(os.fspath(value))
        return [walk(part) for part in value] if isinstance(value, (list, tuple)) else value

    return {key: walk(value) if key in keys else value for key, value in item.items()}
