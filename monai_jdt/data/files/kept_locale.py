"""The process's locale, which a library may leave changed."""

from __future__ import annotations

import locale
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def kept_locale() -> Iterator[None]:
    """Set the locale back at the end of the block, and after an exception.

    GDCM, with which SimpleITK writes DICOM, leaves "C" behind. From then on Python would open every text file as ASCII.
    """
    before = locale.setlocale(locale.LC_ALL)
    try:
        yield
    finally:
        locale.setlocale(locale.LC_ALL, before)
