"""A list of cases with a record of its making: what was found below a folder, what was left out, and why."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from monai_jdt.data.names import one_line
from monai_jdt.data.problems import DataProblem

#: The keys of an item whose values are paths, or lists of paths of any depth.
PATH_KEYS: tuple[str, ...] = ("image", "raters", "probability", "label", "consensus", "mask")

# The number of left-out things that are printed. The record holds all of them.
_PRINTED = 50


@dataclass(frozen=True)
class SkippedPath:
    """A file, folder or case that is not in the list.

    Args:
        where: its path, or the case's name.
        why: the reason, in a few words.
        count: how many files or cases these are. If more than one, `where` is their folder.
    """

    where: str
    why: str
    count: int = 1

    def __str__(self) -> str:
        return one_line(f"{self.where}: {self.why}")


@dataclass(frozen=True)
class ListingRecord:
    """What a lister found.

    Args:
        root: where it looked.
        items: how many items the list has. A case with two tasks is two items.
        cases: how many different names of cases, counted in each data set.
        raters: pairs (raters of an item, items with so many), in rising order.
        tasks: the tasks' names, sorted.
        skipped: what was left out, in the order in which it was met.
        names: pairs (name of a rater, items that have this rater), in alphabetical order. Empty: raters have no names.

    Example:
        >>> print(ListingRecord("qubiq", 4, 2, ((5, 1), (6, 3)), ("task01", "task02"), (SkippedPath("qubiq/case09", "no image"),)))
        qubiq: 2 cases, 4 items (task01, task02); raters of an item: 5 (1 item), 6 (3 items); skipped: 1
          qubiq/case09: no image
    """

    root: str
    items: int
    cases: int
    raters: tuple[tuple[int, int], ...]
    tasks: tuple[str, ...] = ()
    skipped: tuple[SkippedPath, ...] = ()
    names: tuple[tuple[str, int], ...] = ()

    def __str__(self) -> str:
        counts = ", ".join(f"{raters} ({_counted(number, 'item')})" for raters, number in self.raters) or "none"
        tasks = f" ({', '.join(self.tasks)})" if self.tasks else ""
        size = f"{_counted(self.cases, 'case')}, {_counted(self.items, 'item')}{tasks}"
        named = f" by name: {', '.join(f'{one_line(name)} {number}' for name, number in self.names)};" if self.names else ""
        left = sum(skipped.count for skipped in self.skipped)
        lines = [f"{one_line(self.root)}: {size}; raters of an item: {counts};{named} skipped: {left}"]
        lines += [f"  {skipped}" for skipped in self.skipped[:_PRINTED]]
        return "\n".join(lines + [f"  and {len(self.skipped) - _PRINTED} more lines"] * (len(self.skipped) > _PRINTED))


class CaseList(list[dict[str, Any]]):
    """A data list as MONAI takes it, a `list` of dictionaries, with a record of how it was found.

    Slices, sums and comprehensions of it are plain lists.

    Args:
        items: the dictionaries.
        root: where they were found.
        skipped: what was left out.

    Attributes:
        found: the :class:`ListingRecord`.
    """

    def __init__(self, items: Iterable[dict[str, Any]], root: str = "", skipped: Iterable[SkippedPath] = ()) -> None:
        super().__init__(items)
        self.found = record_of(self, root, skipped)


def record_of(items: Iterable[Mapping[str, Any]], root: str = "", skipped: Iterable[SkippedPath] = ()) -> ListingRecord:
    """Count what a data list holds.

    Args:
        items: the dictionaries.
        root: where they were found.
        skipped: what was left out.

    Example:
        >>> record_of([{"case": "a", "raters": ["1", "2"]}, {"case": "b", "raters": ["1"]}]).raters
        ((1, 1), (2, 1))
    """
    items = list(items)
    cases = {(item.get("dataset"), item.get("case", number)) for number, item in enumerate(items)}
    raters = Counter(1 if isinstance(item.get("raters"), str) else len(item.get("raters") or ()) for item in items)
    tasks = sorted({str(item["task"]) for item in items if item.get("task") is not None})
    names = Counter(str(name) for item in items if isinstance(item.get("rater_names"), list) for name in item["rater_names"])
    counts = tuple(sorted(raters.items())), tuple(tasks), tuple(skipped), tuple(sorted(names.items()))
    return ListingRecord(root, len(items), len(cases), *counts)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def item_files(item: Mapping[str, Any], keys: Iterable[str] = PATH_KEYS) -> Iterator[str]:
    """Walk through every path of an item.

    Args:
        item: the dictionary.
        keys: where paths, or lists of paths of any depth, may stand.

    Yields:
        The paths as they are written there.
    """

    def walk(value: Any) -> Iterator[str]:
        if isinstance(value, (str, os.PathLike)):
            yield os.fspath(value)
        elif isinstance(value, (list, tuple)):
            for part in value:
                yield from walk(part)

    for key in keys:
        yield from walk(item.get(key))


def files_not_taken(files: Iterable[str], items: Iterable[Mapping[str, Any]], why: str) -> list[SkippedPath]:
    """Return the files that are in no item, as one line per folder.

    Args:
        files: all files that might have been taken.
        items: the dictionaries.
        why: the reason, in a few words.

    Example:
        >>> print(*files_not_taken(["a/im.nii", "a/old.nii", "a/new.nii"], [{"image": "a/im.nii"}], "no known name"))
        a: 2 files (no known name): old.nii, new.nii
    """
    taken = {path for item in items for path in item_files(item)}
    left: dict[str, list[str]] = {}
    for file in files:
        if file not in taken:
            left.setdefault(os.path.dirname(file), []).append(os.path.basename(file))
    told = {folder: f"{_counted(len(names), 'file')} ({why}): {_first(names)}" for folder, names in left.items()}
    return [SkippedPath(folder, told[folder], len(names)) for folder, names in left.items()]


def _first(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def one_of_each_case(items: Iterable[dict[str, Any]], skipped: list[SkippedPath]) -> tuple[list[dict[str, Any]], list[DataProblem]]:
    """Take each case once. The same files again, through a link, are left out. Other files under a known name are a problem.

    Args:
        items: the dictionaries. A case may stand once for each task of each data set.
        skipped: what is left out is added.

    Returns:
        The items, and the problems.
    """
    first: dict[tuple[Any, Any, Any], dict[str, Any]] = {}
    problems = []
    for item in items:
        key = (item.get("dataset"), item["case"], item.get("task"))
        if key not in first:
            first[key] = item
            continue
        here, there = (next(item_files(one)) for one in (item, first[key]))
        if [os.path.realpath(f) for f in item_files(item)] == [os.path.realpath(f) for f in item_files(first[key])]:
            skipped.append(SkippedPath(here, f"the same files as {there}, by a link"))
        else:
            fix = "remove one, or name the folder of one data set"
            problems.append(DataProblem(item["case"], "each case once", f"{there} and {here}", fix))
    return list(first.values()), problems
