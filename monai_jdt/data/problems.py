"""The one-line report of a fault in a file or a data set, and the error that carries such lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from monai_jdt.validation import error_sentence


@dataclass(frozen=True)
class DataProblem:
    """One fault: where it is, what was expected, what was given, and how to mend it.

    Args:
        where: the file (or folder, or key) at fault.
        expected: what should be there.
        got: what is there.
        fix: what the user can do.
        fatal: False for a warning: legal, but worth a look. Its line begins with "warning: ".
        opened: False if the file could not be opened, so that nothing else is known of it.

    Example:
        >>> print(DataProblem("case01_seg.nii.gz", "shape (32, 32, 32), as the image's", "(32, 32, 30)", "resample it"))
        case01_seg.nii.gz: expected shape (32, 32, 32), as the image's, got (32, 32, 30). Fix: resample it.
    """

    where: str
    expected: str
    got: str
    fix: str
    fatal: bool = True
    opened: bool = True

    def __str__(self) -> str:
        return ("" if self.fatal else "warning: ") + error_sentence(self.where, self.expected, self.got, self.fix)


class DataProblemError(ValueError):
    """Raised when data cannot be used. The message has one line for each :class:`DataProblem`.

    Args:
        problems: what was found, in the order of the message. At least one.
        more: how many more there are. The last line of the message gives their number.
    """

    def __init__(self, problems: Sequence[DataProblem], more: int = 0) -> None:
        self.problems = tuple(problems)
        self.more = more
        lines = [str(problem) for problem in self.problems]
        super().__init__("\n".join([*lines, f"and {more} more"] if more else lines))

    def __reduce__(self) -> tuple[type[DataProblemError], tuple[tuple[DataProblem, ...], int]]:
        # Pickle would rebuild an error of a worker process from its message alone, one problem per letter.
        return type(self), (self.problems, self.more)


def error_line(error: BaseException) -> str:
    """Return what a command prints last when it ends with an error.

    Args:
        error: any exception. Of a :class:`DataProblemError` with several problems the line gives the first, and their number.

    Returns:
        One line: `monai_jdt: error: ...`.

    Example:
        >>> error_line(ValueError("cases: expected at least 1, got 0"))
        'monai_jdt: error: cases: expected at least 1, got 0'
    """
    lines = str(error).splitlines() or [type(error).__name__]
    if isinstance(error, DataProblemError) and len(error.problems) + error.more > 1:
        return f"monai_jdt: error: {len(error.problems) + error.more} problems in the data, the first: {lines[0]}"
    return "monai_jdt: error: " + " ".join(lines)
