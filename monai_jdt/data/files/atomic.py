"""The one way to write: a file or folder is there as a whole or not at all, since it is made under another name and then renamed."""

from __future__ import annotations

import errno
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from monai_jdt.validation import error_sentence

# Writers choose the format by the ending, so a draft has that of its target.
_ENDING = re.compile(r"(\.nii)?\.\w{1,8}\Z", re.IGNORECASE)


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[str]:
    """Yield the name of a draft to write. At the end of the block the draft becomes `path`.

    The draft lies in the same folder, under a short hidden name with the same ending, so that a name of 255 bytes, the limit of file
    systems, can be written. After an exception the draft is removed, and a file at `path` is as it was.

    Args:
        path: the file to write. Its folder is made, and a file that is there is replaced. A link stays, and its target is replaced.

    Yields:
        The path of the draft.

    Raises:
        OSError: if `path` is a folder, its name is too long, or its folder cannot be written to. The message names `path`.

    Example:
        >>> with whole_file("labels/fused.txt") as draft:  # doctest: +SKIP
        ...     Path(draft).write_text("whole or not at all")
    """
    path = os.fspath(path)
    target = _target(path)
    if os.path.isdir(target):
        raise IsADirectoryError(error_sentence(path, "the name of a file to write", "a folder", "add a file name"))
    ending = _ENDING.search(os.path.basename(target))
    draft = _draft_beside(target, path, ending[0] if ending else "")
    try:
        with _errors_of(path, draft):
            yield draft
            os.replace(draft, target)
    finally:
        if os.path.exists(draft):
            os.remove(draft)


@contextmanager
def whole_folder(path: str | os.PathLike[str]) -> Iterator[str]:
    """Yield a new folder to fill. At the end of the block it becomes `path`.

    Args:
        path: the folder to make: a free name, or an empty folder. A link stays, and its target is replaced.

    Yields:
        The path of the draft folder, which is made already, with the usual mode of new folders.

    Raises:
        OSError: if there is something at `path` at the end, its name is too long, or its parent cannot be written to.
    """
    path = os.fspath(path)
    target = _target(path)
    draft = _draft_beside(target, path, "")
    try:
        with _errors_of(path, draft):
            os.mkdir(draft)  # tempfile would make it with mode 0700, which would stay
            yield draft
            os.rename(draft, target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _target(path: str) -> str:
    target = os.path.realpath(path)
    try:
        os.lstat(target)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # before the work, not when the draft is renamed
            got = f"{len(os.fsencode(os.path.basename(target)))} bytes"
            raise OSError(error_sentence(path, "a name that the file system takes", got, "name it shorter")) from error
    return target


def _draft_beside(target: str, path: str, ending: str) -> str:
    folder = os.path.dirname(target)
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise NotADirectoryError(error_sentence(path, "a place in a folder", f"one below a file ({folder})", "name another place"))
    with _errors_of(path, folder):
        os.makedirs(folder, exist_ok=True)
    return os.path.join(folder, f".{uuid.uuid4().hex[:12]}{ending}")


@contextmanager
def _errors_of(path: str, place: str) -> Iterator[None]:
    """Make errors of the draft, whose name means nothing to the user, name the path that was asked for."""
    try:
        yield
    except OSError as error:
        about = os.fspath(error.filename) if isinstance(error.filename, str) else ""
        full = error.errno in (errno.ENOSPC, errno.EDQUOT) and not about
        if not full and not (about and (about.startswith(place) or place.startswith(about))):
            raise
        fix = "name another place, or make this one writable"
        raise type(error)(error_sentence(path, "a place that can be written to", str(error.strerror), fix)) from error
