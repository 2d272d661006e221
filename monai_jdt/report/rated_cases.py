"""The cases of a list that have raters: what every table and page over cases is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from monai_jdt.data.datalist_file import read_datalist
from monai_jdt.data.files.foreground import Foreground, checked_foreground
from monai_jdt.data.splits import patients_of
from monai_jdt.validation import error_sentence


@dataclass(frozen=True)
class RatedCase:
    """One case.

    Args:
        name: differs from the names of all other cases.
        plain: the case's name in the list. Tasks of a case share it.
        patient: the item's "patient", or what the name says.
        files: each rater's label map.
        raters: each rater's name, or "rater 1", ...
        named: whether the list names its raters.
        others: the item's "dataset" and "task", where it has them.
        image: one file, or one for each channel. Empty: the list names none.
        foreground: the value or the colour of what a rater marked in the files; None: they hold label values.
    """

    name: str
    plain: str
    patient: str
    files: tuple[str, ...]
    raters: tuple[str, ...]
    named: bool
    others: Mapping[str, str] = field(default_factory=dict)
    image: tuple[str, ...] = ()
    foreground: Foreground | None = None


def rated_cases(datalist: str, section: str) -> list[RatedCase]:
    """Read the cases that have raters.

    Args:
        datalist: the JSON file.
        section: one list of it, or "all".

    Raises:
        DataProblemError: a list that cannot be read.
        ValueError: no case has raters.
    """
    cases = rated_cases_of(read_datalist(datalist, section, rater_names=True))
    if not cases:
        raise ValueError(error_sentence(datalist, "cases with raters", "none", "list the raters' files under 'raters'"))
    return cases


def rated_cases_of(items: Sequence[Mapping[str, Any]]) -> list[RatedCase]:
    """Return the cases of items that have raters.

    Args:
        items: of a data list, with "case", "image", "raters", and maybe "patient", "rater_names", "foreground", "dataset" and "task".
            Items without raters are left out.

    Example:
        >>> (case,) = rated_cases_of([{"case": "P1_2", "image": "i.png", "raters": ["a.png", "b.png"]}, {"case": "P2"}])
        >>> case.patient, case.raters, case.image
        ('P1_2', ('rater 1', 'rater 2'), ('i.png',))
    """
    items = [item for item in items if item.get("raters")]
    return [
        RatedCase(
            name=name,
            plain=str(item["case"]),
            patient=str(item.get("patient", patient)),
            files=tuple(item["raters"]),
            raters=_names_of_raters(item),
            named=isinstance(item.get("rater_names"), list),
            others={key: str(item[key]) for key in ("dataset", "task") if item.get(key)},
            image=_files_of(item.get("image")),
            foreground=checked_foreground(item.get("foreground"), f"{name}: foreground"),
        )
        for item, name, patient in zip(items, _names(items), patients_of(items), strict=True)
    ]


def _files_of(image: Any) -> tuple[str, ...]:
    if image is None:
        return ()
    return tuple(map(str, image)) if isinstance(image, (list, tuple)) else (str(image),)


def _names_of_raters(item: Mapping[str, Any]) -> tuple[str, ...]:
    names = item.get("rater_names")
    return tuple(map(str, names)) if isinstance(names, list) else tuple(f"rater {n + 1}" for n in range(len(item["raters"])))


def _names(items: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a name for each item that tells the tasks and data sets of one case apart."""
    plain = [str(item["case"]) for item in items]
    if len(set(plain)) == len(plain):
        return plain
    return [" ".join(str(item[key]) for key in ("dataset", "case", "task") if item.get(key)) for item in items]
