"""The cases of a data list: which of its sections a run takes, and the split that the list brings along."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from monai_jdt.data.datalist_file import read_datalist
from monai_jdt.data.layouts.listing import CaseList
from monai_jdt.data.list_forms import chosen_section, list_sections
from monai_jdt.data.names import user_path
from monai_jdt.data.problems import DataProblemError
from monai_jdt.data.splits import folds as blocks_of
from monai_jdt.data.splits import patients_of
from monai_jdt.validation import error_sentence

logger = logging.getLogger(__name__)

#: Who splits the cases: the data list if it says how, the list for sure, or the bundle by its own keys.
SPLIT_SOURCES: tuple[str, ...] = ("auto", "list", "draw")

Split = tuple[list[dict[str, Any]], list[dict[str, Any]]]

# The key of an item that names the section of the list from which it was read.
_SECTION = "list_section"


def listed_cases(path: str, section: str | None = None) -> CaseList:
    """Read the cases of a data list that a training splits.

    Args:
        path: the list.
        section: one section of it, or "all". None: "training", and "validation" if the list has one.

    Returns:
        The items, as of :func:`monai_jdt.data.read_datalist`. With sections of both kinds each has its own under "list_section".

    Raises:
        DataProblemError: as :func:`monai_jdt.data.read_datalist`.
    """
    if section is not None:
        return read_datalist(path, section, rater_names=True)
    held = section_there(path, "validation")
    if held is None or not held[1]:
        return read_datalist(path, rater_names=True)
    items = read_datalist(path, ("training", "validation"), rater_names=True)
    trained = len(items) - held[1]
    for number, item in enumerate(items):
        item[_SECTION] = "training" if number < trained else "validation"
    return items


def section_to_predict(path: str) -> str:
    """Return the section of a data list that is predicted unless the user names one: testing, else validation, else training.

    Args:
        path: the list.

    Raises:
        DataProblemError: as :func:`monai_jdt.data.read_datalist`.
    """
    there = (name for name in ("testing", "validation") if (found := section_there(path, name)) is not None and found[1])
    section = next(there, "training")
    logger.info("%s: the section %s is predicted", path, section)
    return section


def section_there(path: str, section: str) -> tuple[str, int] | None:
    """Return the name that a list gives to a section, and the number of its items, or None without such a section.

    Args:
        path: the list.
        section: the section.
    """
    path = user_path(path)
    try:
        sections = list_sections(path)
        name = chosen_section(path, sections, section)
    except (DataProblemError, OSError):
        return None  # read_datalist says what is wrong with the file
    return name, len(sections[name])


def split_of_list(
    items: Sequence[Mapping[str, Any]],
    *,
    fold: int | None = None,
    split_by: str = "auto",
    drawn_folds: bool = True,
    all_validated: bool = False,
) -> Split | None:
    """Return the split that a data list brings along.

    It is a section "validation", as `python -m monai_jdt datalist --validation` writes it, or the key "fold" of items, as `--folds`
    writes it. An item without a fold is trained on, whatever the fold, as MONAI's Auto3DSeg has it. A patient on both sides is logged.

    Args:
        items: the cases.
        fold: the fold that is validated; None: the first. Only folds may be chosen from.
        split_by: "auto": as the list says, if it does; "list": as the list says; "draw": not as the list says.
        drawn_folds: whether a bundle that splits the cases itself cuts folds, so that `fold` may be given then.
        all_validated: whether the items are one section that is validated as a whole.

    Returns:
        The items that are trained on, and those that are validated. None: the bundle splits the cases.

    Raises:
        ValueError: `fold` is given for a list with a section "validation", is none of the list's folds, or is given where there are
            no folds; `split_by` is "list" and the list has no split.

    Example:
        >>> training, validation = split_of_list([{"case": "a", "fold": 0}, {"case": "b", "fold": 1}], fold=1)
        >>> [item["case"] for item in validation]
        ['b']
    """
    if all_validated:
        return [], [dict(item) for item in items]
    has_sections = any(item.get(_SECTION) == "validation" for item in items)
    folds = sorted({_list_fold(item) for item in items if item.get("fold") is not None})
    if split_by == "draw" or not (has_sections or folds):
        _refuse_without_split(fold, split_by, drawn_folds)
        return None
    if has_sections:
        if fold is not None:
            expected = "null for a data list with a section validation, which is validated"
            raise ValueError(error_sentence("fold", expected, str(fold), "leave fold out, or give --split_by draw"))
        sides = _two_sides([item.get(_SECTION) == "validation" for item in items], items)
        logger.info("the data list's section validation is validated: %d cases; %d are trained on", len(sides[1]), len(sides[0]))
    else:
        chosen = folds[0] if fold is None else fold
        if chosen not in folds:
            among = ", ".join(map(str, folds))
            raise ValueError(error_sentence("fold", f"one of the data list's folds, {among}", str(fold), f"--fold {folds[0]}"))
        sides = _two_sides([item.get("fold") is not None and _list_fold(item) == chosen for item in items], items)
        logger.info("fold %d of the data list is validated: %d cases; %d are trained on", chosen, len(sides[1]), len(sides[0]))
    shared = sorted(set(patients_of(sides[0])) & set(patients_of(sides[1])))
    if shared:
        logger.warning("the data list has patients in training and validation: %s", ", ".join(shared[:5]))
    return sides


def _two_sides(is_held: Sequence[bool], items: Sequence[Mapping[str, Any]]) -> Split:
    sides: Split = ([], [])
    for held, item in zip(is_held, items, strict=True):
        sides[held].append(dict(item))
    return sides


def split_by_blocks(items: Sequence[Mapping[str, Any]], folds: int, fold: int | None = None) -> Split:
    """Cut cases into blocks in their order, and validate one.

    Args:
        items: the cases.
        folds: the number of blocks.
        fold: the block that is validated; None: the first.

    Returns:
        The items that are trained on, and those that are validated.

    Raises:
        ValueError: there is no such block, or as :func:`monai_jdt.data.folds`.
    """
    blocks = blocks_of(items, k=folds)
    chosen = fold or 0
    if not chosen < len(blocks):
        raise ValueError(no_such_block(chosen, folds))
    return blocks[chosen]


def no_such_block(fold: int, folds: int) -> str:
    """Return the message for a fold that is beyond the number of folds.

    Args:
        fold: the fold.
        folds: the number of folds.
    """
    return error_sentence("fold", f"a whole number from 0 to {folds - 1}, since folds is {folds}", str(fold), f"--fold {folds - 1}")


def _list_fold(item: Mapping[str, Any]) -> int:
    fold = item["fold"]
    if isinstance(fold, str) and fold.isdigit():  # of a table
        return int(fold)
    if isinstance(fold, bool) or not isinstance(fold, int):
        where = f"fold of case {item.get('case')}"
        raise ValueError(error_sentence(where, "a whole number", repr(fold), "write it by `python -m monai_jdt datalist --folds 5`"))
    return fold


def _refuse_without_split(fold: int | None, split_by: str, drawn_folds: bool) -> None:
    if split_by == "list":
        expected = "a data list with its own split, since split_by is list"
        fix = "write the list by `python -m monai_jdt datalist` with --folds 5 or --validation 0.2, or give --split_by auto"
        raise ValueError(error_sentence("split_by", expected, "cases without folds and without a section validation", fix))
    if fold is not None and not drawn_folds:
        expected = "null where the cases have no folds"
        fix = "write a data list with folds by `python -m monai_jdt datalist --folds 5`, or leave fold out for val_fraction"
        raise ValueError(error_sentence("fold", expected, str(fold), fix))
