"""The former place of :mod:`monai_jdt.bundle_runtime`.

Bundles that users copied before it moved, and their overlays, import this module by name. What only they call stands here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

from monai_jdt.bundle_runtime import check_processes, checked_file, data_folder, exit_with_error, or_exit, run_or_exit
from monai_jdt.bundle_runtime.keys import key_problems
from monai_jdt.bundle_runtime.values import closest
from monai_jdt.bundle_runtime.workflow import started_run
from monai_jdt.validation import error_sentence

__all__ = [
    "check_choice",
    "check_processes",
    "check_settings",
    "checked_file",
    "data_folder",
    "exit_with_error",
    "or_exit",
    "refuse_unknown_overrides",
    "run_or_exit",
]


def refuse_unknown_overrides() -> None:
    """End a run that is given unknown keys; see :func:`monai_jdt.bundle_runtime.keys.key_problems`.

    Raises:
        SystemExit: with code 1, after one line for each of them.
    """
    run = started_run()
    problems = [] if run is None else key_problems(run)
    if problems:
        for line in problems[1:]:
            print(line, file=sys.stderr)
        exit_with_error(problems[0])


def check_settings(*, epochs: int, blocks: int, **sizes: Sequence[int]) -> None:
    """Hold epochs and sizes against what the network takes.

    Args:
        epochs: the number of epochs.
        blocks: the number of resolutions of the network; each but the first halves the size.
        sizes: sizes of what the network sees, voxels, under the names that they have in the config.

    Raises:
        ValueError: `epochs` below 1, or a size that the network cannot halve so often.
    """
    if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1:
        raise ValueError(error_sentence("epochs", "a whole number >= 1", repr(epochs), "--epochs 20"))
    multiple = 2 ** (blocks - 1)
    for name, size in sizes.items():
        if any(edge < multiple or edge % multiple for edge in size):
            near = [max(round(edge / multiple), 1) * multiple for edge in size]
            expected = f"multiples of {multiple}, since the network halves them {blocks - 1} times"
            raise ValueError(error_sentence(name, expected, str(list(size)), str(near)))


def check_choice(name: str, value: Any, choices: Iterable[Any]) -> None:
    """Refuse a setting that is not one of a few.

    Args:
        name: its key in the config.
        value: what was given.
        choices: what may be given.

    Raises:
        ValueError: for anything else.
    """
    known = list(choices)
    if value not in known:
        fix = f"--{name} {closest(str(value), [str(choice) for choice in known])}"
        raise ValueError(error_sentence(name, f"one of {known}", repr(value), fix))
