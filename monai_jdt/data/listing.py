"""A list of cases that says how it came about: what was found below a folder, and what was left out and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from monai_jdt.data.problems import DataProblem


@dataclass(frozen=True)
class SkippedPath:
    """A file, folder or case that is not in the list.

    Args:
        where: its path, or the case's name.
        why: the reason, in a few words.
    """

    where: str
    why: str

    def __str__(self) -> str:
        return f"{self.where}: {self.why}"


@dataclass(frozen=True)
class ListingRecord:
    """What a lister found.

    Args:
        root: where it looked.
        items: how many items the list has; a case with two tasks is two items.
        cases: how many cases (a case's name in each data set counts once).
        raters: pairs (raters of an item, items with so many), in rising order.
        tasks: the tasks' names, sorted.
        skipped: what was left out, in the order in which it was met.

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

    def __str__(self) -> str:
        counts = ", ".join(f"{raters} ({_counted(number, 'item')})" for raters, number in self.raters) or "none"
        tasks = f" ({', '.join(self.tasks)})" if self.tasks else ""
        first = f"{self.root}: {_counted(self.cases, 'case')}, {_counted(self.items, 'item')}{tasks}; raters of an item: {counts}"
        return "\n".join([f"{first}; skipped: {len(self.skipped)}", *(f"  {skipped}" for skipped in self.skipped)])


class CaseList(list[dict[str, Any]]):
    """A data list as MONAI takes it (a `list` of dictionaries), with a record of how it was found.

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
    return ListingRecord(root, len(items), len(cases), tuple(sorted(raters.items())), tuple(tasks), tuple(skipped))


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def doubled_cases(items: Iterable[Mapping[str, Any]]) -> list[DataProblem]:
    """The problems of cases that are in a list twice.

    Args:
        items: the dictionaries; a case may stand once for each task of each data set.
    """
    first: dict[tuple[Any, Any, Any], str] = {}
    problems = []
    for item in items:
        key = (item.get("dataset"), item["case"], item.get("task"))
        image = item["image"] if isinstance(item["image"], str) else item["image"][0]
        if key in first:
            fix = "remove one, or name the folder of one data set"
            problems.append(DataProblem(item["case"], "each case once", f"{first[key]} and {image}", fix))
        first.setdefault(key, image)
    return problems
