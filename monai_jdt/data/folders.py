"""Walking through a data set's folder: its files in a fixed order, and one error where nothing fits."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator

from monai_jdt.data.problems import DataProblem, DataProblemError

#: The end of a NIfTI file's name, in upper or lower case.
NIFTI_SUFFIX = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """A sort key that puts rater2 before rater10 and compares numbers with words.

    Args:
        name: the name to sort.

    Example:
        >>> sorted(["case10", "case9"], key=natural_key)
        ['case9', 'case10']
    """
    parts = re.split(r"(\d+)", name)
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part.lower()) for part in parts if part]


def walk_files(root: str) -> Iterator[str]:
    """Every file at any depth below a folder, in the order of names; hidden ones are left out, links are followed once.

    Args:
        root: the folder.

    Yields:
        Paths that begin with `root`.
    """
    seen: set[str] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link that leads back up
            folders[:] = []
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (os.path.join(folder, name) for name in sorted(files) if not name.startswith("."))


def nifti_files(root: str, expected: str) -> list[str]:
    """The NIfTI files below a folder.

    Args:
        root: the folder.
        expected: what it should hold, for the error.

    Returns:
        Paths that begin with `root`.

    Raises:
        DataProblemError: if there is no such folder.
    """
    require_folder(root, expected)
    return [file for file in walk_files(root) if NIFTI_SUFFIX.search(file)]


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
    """The problem of two files, as image.nii and image.nii.gz, where one must be: none is chosen in silence.

    Args:
        folder: where they are.
        what: what they both are.
        first: a file.
        second: the other.
    """
    got = f"{os.path.basename(first)} and {os.path.basename(second)}"
    return DataProblem(folder, f"one {what}", got, "remove one of them")


def nothing_found(
    root: str, expected: str, files: Iterable[str], fix: str = "name the folder that holds the cases, or use pattern_datalist"
) -> DataProblem:
    """The problem of a folder in which no file fits.

    Args:
        root: the folder.
        expected: what was looked for.
        files: what is there instead.
        fix: what the user can do.
    """
    files = list(files)
    got = f"{len(files)} other files, e.g. {files[0]}" if files else "no NIfTI file"
    return DataProblem(root, expected, got, fix)
