"""Data lists as MONAI's datalist JSON: written beside the data, with paths that survive a move of both."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from monai_jdt.data.atomic import whole_file
from monai_jdt.data.listing import PATH_KEYS, CaseList
from monai_jdt.data.problems import DataProblem, DataProblemError

_FIX = "write it again by `python -m monai_jdt datalist`"


def write_datalist(
    items: Sequence[Mapping[str, Any]] | Mapping[str, Sequence[Mapping[str, Any]]],
    path: str | os.PathLike[str],
    *,
    relative: bool = True,
    path_keys: Sequence[str] = PATH_KEYS,
) -> str:
    """Write a data list as a datalist JSON; a file that is there is replaced as a whole.

    The form is that of the Medical Segmentation Decathlon: `{"training": [item, ...], ...}`.
    :func:`monai.data.load_decathlon_datalist` reads it too, with two differences to :func:`read_datalist`: it takes any
    text for a path that happens to be one (a case's name with a folder of that name beside the JSON), and it leaves
    lists of lists (KiTS21's raters) relative.

    Args:
        items: the items, which become the section "training"; or a mapping from sections ("training", "validation",
            ...) to items.
        path: the file to write; its folder is made.
        relative: whether paths are written relative to the file's folder; False: absolute.
        path_keys: which keys of an item hold paths.

    Returns:
        `path`, as a string.

    Raises:
        ValueError: if there is no item, or one is no mapping.
        TypeError: if an item holds what JSON cannot.
    """
    path = os.fspath(path)
    sections = items if isinstance(items, Mapping) else {"training": items}
    folder = os.path.dirname(os.path.abspath(path))

    def place(file: str) -> str:
        # The link's own place, not its target: a data set of links moves as one.
        return os.path.relpath(os.path.abspath(file), folder).replace(os.sep, "/") if relative else os.path.abspath(file)

    content: dict[str, Any] = {}
    for section, cases in sections.items():
        for number, item in enumerate(cases):
            if not isinstance(item, Mapping):
                raise ValueError(f"items[{number}] of {section!r}: expected a dictionary, got {type(item).__name__}")
        content[section] = [_with_paths(item, path_keys, place) for item in cases]
    if not any(content.values()):
        raise ValueError("items: expected at least one item to write, got an empty list")
    text = json.dumps({f"num{section.capitalize()}": len(cases) for section, cases in content.items()} | content, indent=2)
    with whole_file(path) as draft, open(draft, "w", encoding="utf-8") as file:
        file.write(text + "\n")
    return path


def read_datalist(path: str | os.PathLike[str], section: str = "training", *, path_keys: Sequence[str] = PATH_KEYS) -> CaseList:
    """Read a data list from a datalist JSON: one of ours, or any of MONAI's form.

    Args:
        path: the file.
        section: the key of the list in it; "all": the lists of every section, one after the other.
        path_keys: which keys of an item hold paths. A relative one begins at the file's folder.

    Returns:
        The items, with paths that begin with the file's folder. An item that is a path alone (the Decathlon's "test") is
        an item with that image.

    Raises:
        DataProblemError: if the file is missing, is no JSON of this form, or has no such section.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        got = "a folder" if os.path.isdir(path) else "nothing at that path"
        raise _datalist_error(path, "a datalist JSON", got, "name the file")
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except ValueError as error:
        raise _datalist_error(path, "a datalist JSON", f"no JSON ({' '.join(str(error).split())})", _FIX) from error
    if not isinstance(content, dict):
        raise _datalist_error(path, "an object with a list of cases in it", f"a {type(content).__name__}", _FIX)
    lists = {key: value for key, value in content.items() if isinstance(value, list) and (value == [] or _is_section(value))}
    if section != "all" and section not in lists:
        got = "the sections " + ", ".join(lists) if lists else "none"
        raise _datalist_error(path, f"the section {section!r}, a list of cases", got, "name one that is there")
    folder = os.path.dirname(path)
    chosen = [item for key, value in lists.items() if section in ("all", key) for item in value]
    items = [item if isinstance(item, dict) else {"image": item} for item in chosen]
    return CaseList((_with_paths(item, path_keys, lambda file: _below(folder, file)) for item in items), path)


def _is_section(value: list[Any]) -> bool:
    if all(isinstance(item, dict) and "image" in item for item in value):
        return True
    return all(isinstance(item, str) and "." in os.path.basename(item) for item in value)


def _below(folder: str, file: str) -> str:
    return os.path.normpath(os.path.join(folder, file))


def _with_paths(item: Mapping[str, Any], keys: Sequence[str], change: Any) -> dict[str, Any]:
    def walk(value: Any) -> Any:
        if isinstance(value, (str, os.PathLike)):
            return change(os.fspath(value))
        return [walk(part) for part in value] if isinstance(value, (list, tuple)) else value

    return {key: walk(value) if key in keys else value for key, value in item.items()}


def _datalist_error(where: str, expected: str, got: str, fix: str) -> DataProblemError:
    return DataProblemError([DataProblem(where, expected, got, fix)])
