"""Paths as a page shows them: a page is sent to others, and the folders above the data are nobody's business."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

#: The start of an absolute path, or of one in the home folder: not within a word, a relative path or an address such as https://x/y.
_START = r"(?<![\w./\\~)\]}>-])"
_ROOT = rf"{_START}(?:(?:\.\.[/\\])+|(?:file://|~|[A-Za-z]:)?[/\\](?![/\\\s]))"
#: Where a path may end. The first alternative that fits counts, so that a path with spaces is found where its end is known.
_PATHS = re.compile(
    rf"(?P<quote>['\"]){_ROOT}[^'\"\n]*(?P=quote)"  # in quotes
    rf"|{_ROOT}(?:(?!{_ROOT})[^:\n])*(?=: expected )"  # before what is wrong with it, the last of several
    rf"|{_ROOT}[^\s:,;'\")\]}}]*"
)


def shown_paths(text: str, folders: Sequence[str | os.PathLike[str]] = ()) -> str:
    """Return text whose absolute paths are relative to one of the folders, or a file name where they lie in none of them.

    Args:
        text: a setting, or what went wrong with a file.
        folders: of the list and of the run.

    Example:
        >>> shown_paths("/home/ann/lists/raters/a.nii.gz: expected a file, got '/mnt/b c/d.png'", ["/home/ann/lists"])
        "raters/a.nii.gz: expected a file, got 'd.png'"
        >>> shown_paths("/home/ann/my lists")
        'my lists'
    """
    for place in sorted({os.path.abspath(folder) for folder in folders} - {os.sep}, key=len, reverse=True):
        text = re.sub(rf"{_START}{re.escape(place)}{re.escape(os.sep)}(?=[^\s{re.escape(os.sep)}])", "", text)
    if re.fullmatch(rf"{_ROOT}[^:\n]*", text):
        return _last_part(text)
    return _PATHS.sub(_without_folders, text)


def _without_folders(found: re.Match[str]) -> str:
    quote = found["quote"] or ""
    return f"{quote}{_last_part(found[0].strip(quote) if quote else found[0])}{quote}"


def _last_part(path: str) -> str:
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]
