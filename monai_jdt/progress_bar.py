"""The progress bar of the package: a bar where a line can be written over, nothing in a log."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, TextIO, TypeVar

_Item = TypeVar("_Item")


def shows_progress(wanted: bool = True) -> bool:
    """Return whether a progress bar is to be shown.

    A bar rewrites its line. In a file or a pipe each state of the bar, and each line printed beside it, would add a line.

    Args:
        wanted: what the user asked for; False is never shown.

    Returns:
        True if it is wanted and standard error is a terminal, or the process is a notebook's.
    """
    return wanted and (_is_terminal(sys.stderr) or "ipykernel" in sys.modules)


def with_progress(items: Iterable[_Item], what: str, *, wanted: bool = True, total: int | None = None) -> Iterable[_Item]:
    """Iterate over cases with a progress bar on standard error.

    Args:
        items: what is iterated over.
        what: the text before the bar.
        wanted: False shows no bar, as :func:`shows_progress` says.
        total: how many there are; None: as many as `len` says, or unknown.

    Returns:
        An iterable of the same items.
    """
    if not shows_progress(wanted):
        return items
    # imported late: `import monai_jdt` needs torch and monai only
    from tqdm import tqdm

    return tqdm(items, desc=what, unit="case", total=total)


def print_above_bar(line: str, file: TextIO | None = None) -> None:
    """Print a line, and draw an open bar anew below it.

    Args:
        line: the text, without its end of line.
        file: where to; None: standard output.
    """
    from tqdm import tqdm

    tqdm.write(line, file=sys.stdout if file is None else file)


def close_bars() -> None:
    """Close every open bar, so that the next line on standard error stands alone."""
    from tqdm import tqdm

    for bar in list(getattr(tqdm, "_instances", ())):
        bar.close()


def _is_terminal(stream: Any) -> bool:
    isatty = getattr(stream, "isatty", None)
    return bool(isatty is not None and isatty())
