"""Folders that a run of a bundle holds for itself until it ends."""

from __future__ import annotations

import atexit
import os
from contextlib import ExitStack

from monai_jdt.data.files.folder_lock import sole_run_in

_held: dict[str, ExitStack] = {}


def hold_folder(folder: str | os.PathLike[str]) -> None:
    """Hold a folder until :func:`release_folder`, or until the process ends. One that this process already holds stays held.

    Args:
        folder: where the run writes. It is made.

    Raises:
        BlockingIOError: another run writes there.
        OSError: the folder cannot be written to.
    """
    path = os.path.realpath(os.path.expanduser(os.fspath(folder)))
    if path in _held:
        return  # by a run of this process that ended early
    stack = ExitStack()
    stack.enter_context(sole_run_in(path))
    _held[path] = stack
    atexit.register(release_folder, path)


def release_folder(folder: str | os.PathLike[str]) -> None:
    """Give a held folder back, if it is held.

    Args:
        folder: the folder.
    """
    path = os.path.realpath(os.path.expanduser(os.fspath(folder)))
    stack = _held.pop(path, None)
    if stack is not None:
        stack.close()
