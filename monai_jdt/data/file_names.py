"""Find the names of a case and its raters in the names of their files."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

_ENDING = re.compile(r"(\.seg)?(\.nii\.gz|\.[A-Za-z]\w{1,4})\Z", re.IGNORECASE)


def case_name(image: str, raters: Sequence[str] = ()) -> str:
    """Find the name of a case in the paths of its files.

    The image's name is the case's if it has a digit and the raters' paths repeat it; else what the names of all files begin
    with, if that has a digit; else the name of the image's folder.

    Args:
        image: path of the image.
        raters: paths of the raters' label maps.

    Example:
        >>> case_name("raw/B01.png", ["ann/seg_B01.png"]), case_name("BraTS_0007_t1.nii.gz", ["BraTS_0007_seg.nii.gz"])
        ('B01', 'BraTS_0007')
        >>> case_name("LIDC-0001/ct.nii.gz", ["LIDC-0001/reader1.nii.gz"])
        'LIDC-0001'
    """
    own, others = _stem(image), [_stem(path) for path in raters]
    if _numbered(own) and others and all(own.casefold() in other.casefold() for other in others):
        return own
    shared = re.sub(r"[\W_]+\Z", "", _shared_start([own, *others])) if others else ""
    # a cut through a number would make a name of another case
    whole = all(not stem[len(shared) : len(shared) + 1].isalnum() for stem in [own, *others])
    if _numbered(shared) and whole:
        return shared
    folder = os.path.basename(os.path.dirname(os.path.abspath(image)))
    return folder if folder and not _numbered(own) else own


def rater_names_of(raters: Sequence[str]) -> list[str]:
    """Find a name for each rater in the paths of their label maps: the part by which the paths differ.

    Args:
        raters: one path for each rater.

    Returns:
        The part of the file names, or of the folders' names where the files' are the same, that begins after the last
        separator that all share. Names of digits alone become "rater 1"; "rater 1", "rater 2", ... where the paths do not
        differ in a name.

    Example:
        >>> rater_names_of(["a/case1_seg_1stHO.png", "a/case1_seg_2ndHO.png"])
        ['1stHO', '2ndHO']
        >>> rater_names_of(["Anna/seg.nii", "Ben/seg.nii"])
        ['Anna', 'Ben']
    """
    return names_by_difference(raters, "rater")


def names_by_difference(paths: Sequence[str], word: str) -> list[str]:
    """Find a name for each path: the part by which they differ, as in :func:`rater_names_of`.

    Args:
        paths: of files.
        word: what stands before a number.

    Example:
        >>> names_by_difference(["c1_t1.nii", "c1_t1ce.nii"], "channel"), names_by_difference(["c1_0000.nii", "c1_0001.nii"], "channel")
        (['t1', 't1ce'], ['channel 0000', 'channel 0001'])
    """
    plain = [f"{word} {number + 1}" for number in range(len(paths))]
    if len(paths) < 2:
        return plain
    levels = [_stem(path) for path in paths], *zip(*(_folders(path) for path in paths), strict=False)
    for names in levels:
        parts = _differing([str(name) for name in names])
        if len({part.casefold() for part in parts}) == len(paths) and all(parts):
            return [f"{word} {part}" if part.isdecimal() else part for part in parts]
    return plain


def _stem(path: str) -> str:
    return _ENDING.sub("", os.path.basename(path))


def _folders(path: str) -> list[str]:
    """Return the names of the folders above a file, the nearest first."""
    return [part for part in reversed(os.path.dirname(os.path.abspath(path)).split(os.sep)) if part]


def _numbered(name: str) -> bool:
    # the number of a sequence, as in T1w, names no case
    return any(character.isdigit() for character in re.sub(r"(?i)(?<![a-z0-9])t[12][a-z]*", "", name))


def _differing(names: Sequence[str]) -> list[str]:
    """Return the names without what all begin and end with, cut at separators only."""
    first = len(re.sub(r"[^\W_]*\Z", "", _shared_start(names)))
    last = len(re.sub(r"[^\W_]*\Z", "", _shared_start([name[first:][::-1] for name in names])))
    return [name[first : len(name) - last] for name in names]


def _shared_start(names: Sequence[str]) -> str:
    """Return what all names begin with, upper and lower case alike."""
    length = 0
    for characters in zip(*names, strict=False):
        if len({character.casefold() for character in characters}) > 1:
            break
        length += 1
    return names[0][:length]
