"""What layouts share: the walk through a data set's folder, the order of cases, and the list or the error at the end."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import Any

from monai_jdt.data.layouts.listing import CaseList, SkippedPath, files_not_taken, one_of_each_case
from monai_jdt.data.problems import DataProblem, DataProblemError

#: The end of a NIfTI file's name, in upper or lower case.
NIFTI_SUFFIX = re.compile(r"\.nii(\.gz)?\Z", re.IGNORECASE)

#: The end of the name of a file that may hold an image or a label, in upper or lower case.
VOLUME_SUFFIX = re.compile(r"\.(nii(\.gz)?|mha|mhd|nrrd|nhdr|hdr|mg[hz]|dcm|np[yz]|tiff?|png|jpe?g|bmp)\Z", re.IGNORECASE)

# The number of names under which one folder is walked. Folders full of links to each other have endlessly many.
_MOST_NAMES = 16


def natural_key(name: str) -> tuple[Any, str]:
    """Return a sort key that puts rater2 before rater10, whatever the case of letters.

    Args:
        name: the name to sort. Names that natsort takes for equal ("1" and "01") are sorted as text.

    Example:
        >>> sorted(["case10", "case9", "Case2"], key=natural_key)
        ['Case2', 'case9', 'case10']
    """
    return _natsort_key()(name), name


@cache
def _natsort_key() -> Callable[[str], Any]:
    from natsort import natsort_keygen, ns  # on use: `import monai_jdt` needs torch and MONAI only

    return natsort_keygen(alg=ns.IGNORECASE)


def walk_files(root: str, skipped: list[SkippedPath] | None = None) -> Iterator[str]:
    """Walk through every file at any depth below a folder, in the order of names. Hidden files are left out.

    Links are followed: a folder that is linked under two names is walked under both. A link to a folder above itself is not followed.

    Args:
        root: the folder.
        skipped: links to a folder above themselves and folders that cannot be read are added.

    Yields:
        Paths that begin with `root`.
    """
    told = skipped if skipped is not None else []
    visits: Counter[str] = Counter()

    def walk(folder: str, above: tuple[str, ...]) -> Iterator[str]:
        real = os.path.realpath(folder)
        visits[real] += 1
        if real in above:
            told.append(SkippedPath(folder, f"a link back to {real}"))
            return
        if visits[real] > _MOST_NAMES:
            told.append(SkippedPath(folder, f"{real} again, a folder with more than {_MOST_NAMES} names"))
            return
        try:
            with os.scandir(folder) as found:
                entries = sorted((entry for entry in found if not entry.name.startswith(".")), key=lambda entry: entry.name)
        except OSError as error:
            told.append(SkippedPath(folder, f"cannot be read: {error.strerror}"))
            return
        folders = [entry.is_dir() for entry in entries]
        yield from (os.path.join(folder, entry.name) for entry, is_folder in zip(entries, folders, strict=True) if not is_folder)
        for entry, is_folder in zip(entries, folders, strict=True):
            if is_folder:
                yield from walk(os.path.join(folder, entry.name), (*above, real))

    yield from walk(root, ())


def nifti_files(root: str, expected: str, skipped: list[SkippedPath] | None = None) -> list[str]:
    """Return the NIfTI files below a folder.

    Args:
        root: the folder.
        expected: what it should hold, for the error.
        skipped: what :func:`walk_files` leaves out and volumes of other formats are added.

    Returns:
        Paths that begin with `root`.

    Raises:
        DataProblemError: if there is no such folder.
    """
    require_folder(root, expected)
    files = [file for file in walk_files(root, skipped) if VOLUME_SUFFIX.search(file)]
    taken = [file for file in files if NIFTI_SUFFIX.search(file)]
    if skipped is not None:
        skipped += files_not_taken(files, [{"image": taken}], "another format than NIfTI")
    return taken


def require_folder(root: str, expected: str) -> None:
    """Refuse a path that is no folder.

    Args:
        root: the path.
        expected: what the folder should hold, for the error.

    Raises:
        DataProblemError: if there is a file, or nothing.
    """
    if not os.path.isdir(root):
        got = "a file" if os.path.exists(root) else "nothing at that path"
        problem = DataProblem(root or "''", f"a folder with {expected}", got, "name the data set's folder")
        raise DataProblemError([problem])


def two_files(folder: str, what: str, first: str, second: str) -> DataProblem:
    """Return the problem of two files, such as image.nii and image.nii.gz, in the place of one: choosing one would be a guess.

    Args:
        folder: where they are.
        what: what they both are.
        first: one file.
        second: the other one.
    """
    got = f"{os.path.basename(first)} and {os.path.basename(second)}"
    return DataProblem(folder, f"one {what}", got, "remove one of them")


def nothing_found(
    root: str, expected: str, files: Iterable[str], fix: str = "name the folder that holds the cases, or use pattern_datalist"
) -> DataProblem:
    """Return the problem of a folder in which no file fits the layout.

    Args:
        root: the folder.
        expected: what was looked for.
        files: what is there instead.
        fix: what the user can do.
    """
    files = list(files)
    got = f"{len(files)} other files, e.g. {files[0]}" if files else "no NIfTI file"
    return DataProblem(root, expected, got, fix)


def finished_list(root: str, items: Iterable[dict[str, Any]], problems: Sequence[DataProblem], skipped: list[SkippedPath]) -> CaseList:
    """Return the list of a layout's cases, or raise every problem that was found.

    Args:
        root: the folder.
        items: the dictionaries.
        problems: what was found so far. A case that is there twice is added.
        skipped: what is left out. A case that is found again through a link is added.

    Returns:
        Each case once, by data set, natural order of the case's name, and task.

    Raises:
        DataProblemError: if there is a problem.
    """
    items, doubled = one_of_each_case(items, skipped)
    if problems or doubled:
        raise DataProblemError([*problems, *doubled])
    items.sort(key=lambda item: (item.get("dataset", ""), natural_key(item["case"]), item.get("task", "")))
    return CaseList(items, root, skipped)
