"""One run at a time in an output folder."""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from monai_jdt.validation import error_sentence

logger = logging.getLogger(__name__)

#: The file in a folder that its run holds.
LOCK_NAME = ".monai_jdt.lock"


@contextmanager
def sole_run_in(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Hold a folder for the run that writes to it.

    The operating system keeps the lock, and gives it back when the process ends in whatever way. So the file that a killed run leaves
    holds nobody up. Where a file system knows no such locks, or the system is Windows, the log says so, and the run goes on.

    Args:
        folder: where the run writes. It is made.

    Yields:
        Nothing.

    Raises:
        BlockingIOError: another run writes there.
        OSError: the folder cannot be written to.
    """
    folder = os.fspath(folder)
    path = os.path.join(folder, LOCK_NAME)
    try:
        os.makedirs(folder, exist_ok=True)
        descriptor = _locked(path)
    except BlockingIOError as error:
        fix = "wait until that run has ended, or name another folder"
        raise BlockingIOError(error_sentence(folder, "a folder that no other run writes to", str(error), fix)) from None
    except OSError as error:
        fix = "name another folder, or make this one writable"
        raise type(error)(error_sentence(folder, "a folder that can be written to", str(error.strerror), fix)) from error
    try:
        yield
    finally:
        if descriptor is not None:
            with suppress(FileNotFoundError):
                os.remove(path)
            os.close(descriptor)


def _locked(path: str) -> int | None:
    """Return the descriptor of the locked file, or None where the system has no such locks.

    Raises:
        BlockingIOError: another process has it; its text says which.
    """
    try:
        import fcntl
    except ImportError:
        logger.warning("%s: this system has no file locks for Python, so that a second run there would not be noticed", path)
        return None
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(descriptor, 200).decode(errors="replace")
            os.close(descriptor)
            raise BlockingIOError(f"one that {owner or 'another process'} writes to") from None
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
                os.close(descriptor)
                raise
            logger.warning("%s: its file system knows no locks, so that a second run there would not be noticed", path)
            return descriptor
        if _is_file_of(descriptor, path):
            os.truncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} of {socket.gethostname()}".encode())
            return descriptor
        # its former holder has removed the file between the two calls: whoever made a new one holds that
        os.close(descriptor)


def _is_file_of(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
