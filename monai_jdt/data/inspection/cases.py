"""The check of a data list: it opens the files of every case, compares them, and reports what is wrong."""

from __future__ import annotations

import logging
import os
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from monai_jdt.data.case_runner import CaseOutcome, run_cases
from monai_jdt.data.files.foreground import Foreground, checked_foreground
from monai_jdt.data.inspection.one_case import CaseFindings, CaseRules, CaseToCheck, image_files, look_at_case
from monai_jdt.data.layouts.regions import regions_without_label
from monai_jdt.data.names import folded_name
from monai_jdt.data.problems import DataProblem, DataProblemError
from monai_jdt.validation import error_sentence

logger = logging.getLogger(__name__)

# The number of problems that one error names, and of warnings that are logged.
_SHOWN = 20


def find_problems(
    items: Sequence[Mapping[str, Any]],
    *,
    channels: int | None = None,
    label_values: Sequence[int] | None = None,
    read: Literal["full", "headers"] = "full",
    labelled: bool = True,
    raters: int | None = None,
    regions: Mapping[str, Sequence[int]] | None = None,
    ignored: int | None = None,
    spatial_dims: int | None = None,
    foreground: Foreground | None = None,
    progress: bool = True,
    workers: int = 1,
    scheduler: str | None = None,
) -> Generator[DataProblem, None, frozenset[int]]:
    """Look through the files of a data list, and yield each problem as it is found.

    Problems of a case are files that are missing, truncated, unreadable or of an unknown format; an image with too few or too many
    channels; modalities, raters or a true probability whose shape, voxel size or affine is not the image's; no rater at all; values
    that are not finite; label values that are not whole or not known; a case or a rater that is listed twice.
    Warnings (`fatal` False) are of what is legal: a rater who marked nothing, two raters with the same voxels, a rater who agrees with
    the others only after a flip or a swap of axes (see `turned_raters` in :mod:`monai_jdt.data.inspection.mirrored_raters`), a NIfTI
    header with two places or without millimetres, fewer or more raters than `raters`, one image file in two cases. Headers are
    compared before voxels are read, and voxels are read in blocks of 2^20.

    NIfTI, Analyze, FreeSurfer (`.mgz`), MetaImage (`.mhd`, `.mha`), NRRD, DICOM (a file, or a folder with one series), NumPy arrays
    and pictures (`.png`, ...; these two have no affine) are opened as :class:`monai_jdt.transforms.LoadRatersd` opens them. Affines
    that differ by rounding are the same, and last axes of length 1 are no difference in shape: see :func:`grid_problem`. Label values
    within 1e-3 of a whole number are that number: see :func:`whole_labels`.

    Args:
        items: as :func:`monai_jdt.data.brats_datalist` gives them: "case", "image" (a list of files of one channel, or
            one file with the channels on its last axis), "raters", and maybe "channels", "probability" and "consensus".
            One case may stand once for each "task" and "dataset". A rater may be a list of lists of masks of instances, one
            list per label value.
        channels: how many channels an image has; None: any number.
        label_values: the values that a label file may hold, e.g. `region_convention("brats2021").values`; None: any
            whole numbers.
        read: "full" reads every voxel; "headers" is quick, but finds neither truncation nor wrong values.
        labelled: whether a case must have raters. False: raters are neither needed nor opened, as for cases to predict.
        raters: how many raters a case should have; None: any number of at least one.
        regions: region name to its label values, as :func:`monai_jdt.raters.named_regions` gives them. A region without a label value
            in any file of the list is a problem: nothing could be learnt of it. Not checked with None or `read="headers"`.
        ignored: a value that says "nothing is known here" in training, which no label file may hold.
        spatial_dims: how many axes of space an image has, axes of length 1 at the end aside; None: any number.
        foreground: the value or the colour of what a rater marked; the label is then 1 there and 0 elsewhere, and `label_values` are
            those. None: each item's own "foreground", or the files hold label values.
        progress: whether to show a progress bar.
        workers: processes. The problems and their order do not depend on it.
        scheduler: the address of a Dask scheduler, whose workers then check the cases.

    Yields:
        One :class:`DataProblem` for each thing that is wrong, in the order of the items. They come case by case. The generator's value
        is the label values of the raters' files: with `foreground` 0 and 1, with `read="headers"` none.

    Raises:
        ValueError: if `read` is unknown, `workers` is below 1, or `scheduler` is given without the extra `dask`.
        ConnectionError: if no scheduler answers at that address.
    """
    if read not in ("full", "headers"):
        raise ValueError(error_sentence("read", "full or headers", repr(read), "name one of these"))
    if not labelled:
        left = ("raters", "probability", "consensus")
        items = [{key: value for key, value in item.items() if key not in left} for item in items]
    rules = CaseRules(channels, label_values, read == "full", labelled, raters, spatial_dims, checked_foreground(foreground))
    cases = [CaseToCheck(str(item.get("case", f"items[{number}]")), item, rules) for number, item in enumerate(items)]
    names = [case.name for case in cases]
    found = run_cases(look_at_case, cases, names, what="checking the data", workers=workers, scheduler=scheduler, progress=progress)
    return _stream(cases, found, regions, ignored)


def check_items(
    items: Sequence[Mapping[str, Any]],
    *,
    channels: int | None = None,
    label_values: Sequence[int] | None = None,
    read: Literal["full", "headers"] = "full",
    labelled: bool = True,
    raters: int | None = None,
    regions: Mapping[str, Sequence[int]] | None = None,
    ignored: int | None = None,
    spatial_dims: int | None = None,
    foreground: Foreground | None = None,
    progress: bool = True,
    workers: int = 1,
    scheduler: str | None = None,
) -> None:
    """Raise one error with every problem of a data list, and log the warnings.

    Args:
        items: as in :func:`find_problems`.
        channels: as in :func:`find_problems`.
        label_values: as in :func:`find_problems`.
        read: as in :func:`find_problems`.
        labelled: as in :func:`find_problems`.
        raters: as in :func:`find_problems`.
        regions: as in :func:`find_problems`.
        ignored: as in :func:`find_problems`.
        spatial_dims: as in :func:`find_problems`.
        foreground: as in :func:`find_problems`.
        progress: as in :func:`find_problems`.
        workers: as in :func:`find_problems`.
        scheduler: as in :func:`find_problems`.

    Raises:
        DataProblemError: with the first 20 problems, one per line, and the number of the others.
        ValueError: if `read` is unknown, or `workers` is below 1.
    """
    problems = find_problems(
        items,
        channels=channels,
        label_values=label_values,
        read=read,
        labelled=labelled,
        raters=raters,
        regions=regions,
        ignored=ignored,
        spatial_dims=spatial_dims,
        foreground=foreground,
        progress=progress,
        workers=workers,
        scheduler=scheduler,
    )
    _log_or_raise(problems)


def _log_or_raise(problems: Iterable[DataProblem]) -> None:
    shown: list[DataProblem] = []
    warnings: list[DataProblem] = []
    more = 0
    for problem in problems:
        if not problem.fatal:
            warnings.append(problem)
        elif len(shown) < _SHOWN:
            shown.append(problem)
        else:
            more += 1
    # Logged when the progress bar is closed, since the bar would share its line with them.
    for problem in warnings[:_SHOWN]:
        logger.warning("%s", problem)
    if len(warnings) > _SHOWN:
        logger.warning("and %d more warnings", len(warnings) - _SHOWN)
    if shown:
        raise DataProblemError(shown, more)


def _stream(
    cases: Sequence[CaseToCheck],
    found: Iterable[CaseOutcome[CaseFindings]],
    regions: Mapping[str, Sequence[int]] | None,
    ignored: int | None,
) -> Generator[DataProblem, None, frozenset[int]]:
    """Yield the problems of each case, and those that only several cases together show. The generator's value is the label values."""
    if not cases:
        yield DataProblem("the data list", "at least one case", "an empty list", "name a list or a folder with cases")
    listed: set[tuple[str, str, str]] = set()  # data set, case, task
    values: set[int] = set()
    # the place of each image file, to the data set and case that it belongs to
    owners: dict[str, tuple[str, str]] = {}
    spellings: dict[str, str] = {}
    for case, outcome in zip(cases, found, strict=True):
        key = (str(case.item.get("dataset")), case.name, str(case.item.get("task")))
        if key in listed:
            yield DataProblem(case.name, "each case once in the data list", "it is there again", "remove one of them")
        listed.add(key)
        if outcome.result is None:
            fix = "see which of its files does that, and export it again"
            yield DataProblem(case.name, "files that can be looked at", str(outcome.failure), fix)
        else:
            yield from outcome.result.problems
            values |= outcome.result.label_values
        yield from _shared_image(case, owners)
        yield from _other_spelling(case, spellings)
    if regions is not None and values:
        empty = regions_without_label(regions, values, fatal=True)
        if empty is not None:
            yield empty
    if ignored in values:
        yield DataProblem("ignore_index", "a value that no label file holds", f"{ignored}, which some hold", "choose another one")
    return frozenset(values)


def _other_spelling(case: CaseToCheck, spellings: dict[str, str]) -> Iterator[DataProblem]:
    """Look for a rater's name that another case writes otherwise: they would be two people."""
    names = case.item.get("rater_names")
    for name in map(str, names) if isinstance(names, (list, tuple)) else ():
        first = spellings.setdefault(folded_name(name), name)
        if first != name:
            fix = "write it the same in every case"
            yield DataProblem(f"{case.name}: rater_names", f"{first!r}, as in other cases", repr(name), fix, fatal=False)


def _shared_image(case: CaseToCheck, owners: dict[str, tuple[str, str]]) -> Iterator[DataProblem]:
    """Look for an image that belongs to another case too: in a split, one may be trained on and the other validated with."""
    own = (str(case.item.get("dataset")), case.name)
    owner_of = {path: owners.setdefault(os.path.realpath(path), own) for path in image_files(case.item)}
    shared = [path for path, owner in owner_of.items() if owner != own]
    if shared:
        fix = "list all raters of an image under one case, or remove one of the cases"
        yield DataProblem(
            case.name, "an image of its own", f"the image of case {owner_of[shared[0]][1]}, {shared[0]}", fix, fatal=False
        )
