"""What is wrong with a file or a data set, said in one line each, and the one error that carries such lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class DataProblem:
    """One thing that is wrong: where it is, what was expected, what came, and how to mend it.

    Args:
        where: the file (or folder, or key) at fault.
        expected: what should be there.
        came: what is there.
        fix: what the user can do.

    Example:
        >>> print(DataProblem("a/case01_seg.nii.gz", "shape (32, 32, 32), as the image's", "(32, 32, 30)", "resample it"))
        a/case01_seg.nii.gz: expected shape (32, 32, 32), as the image's; came (32, 32, 30); fix: resample it
    """

    where: str
    expected: str
    came: str
    fix: str

    def __str__(self) -> str:
        return f"{self.where}: expected {self.expected}; came {self.came}; fix: {self.fix}"


class DataProblemError(ValueError):
    """Raised when data cannot be used; the message has one line for each :class:`DataProblem`.

    Args:
        problems: what was found, in the order in which it is to be read. At least one.
    """

    def __init__(self, problems: Sequence[DataProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(p) for p in self.problems))
