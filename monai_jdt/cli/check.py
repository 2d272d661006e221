"""The verb `check`: read every file of a data list, before a training fails on one of them."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator
from itertools import chain
from typing import Annotated, Any

import typer

from monai_jdt.data.datalist_file import cases_to_predict, read_datalist
from monai_jdt.data.files.foreground import checked_foreground
from monai_jdt.data.inspection.cases import find_problems
from monai_jdt.data.layouts.regions import REGION_CONVENTIONS, region_convention
from monai_jdt.data.problems import DataProblem
from monai_jdt.progress_bar import print_above_bar
from monai_jdt.validation import error_sentence

# The number of label values that are printed one by one.
_SHOWN = 12


def check_command(
    datalist: Annotated[str, typer.Argument(help="A datalist JSON, e.g. of `python -m monai_jdt datalist ... --write`.")],
    section: Annotated[str, typer.Option(help="One list of the JSON, e.g. training; or all.")] = "all",
    headers_only: Annotated[bool, typer.Option(help="Read headers only: wrong values and most truncation stay unseen.")] = False,
    channels: Annotated[int | None, typer.Option(help="Number of channels of an image.", min=1)] = None,
    label_values: Annotated[str | None, typer.Option(help="Values that a label may have: '0,1,2', or a BraTS convention.")] = None,
    raters: Annotated[int | None, typer.Option(help="Number of raters of a case; another number is a warning.", min=1)] = None,
    foreground: Annotated[str | None, typer.Option(help="Masks of two values: that of the mark, 255 or 0, or a colour.")] = None,
    labelled: Annotated[bool, typer.Option(help="Whether cases must have raters.")] = True,
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 1,
    scheduler: Annotated[str | None, typer.Option(help="The address of a Dask scheduler, instead of processes here.")] = None,
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
) -> None:
    """Read every file of a data list and print each problem on a line. Exit code 1 if any is more than a warning.

    Cases to predict need no raters: those of a section "test" or "testing" in which no case has raters.
    """
    values = None if label_values is None else _label_values(label_values)
    items = read_datalist(datalist, section, rater_names=True)
    settings: dict[str, Any] = {"channels": channels, "label_values": values, "read": "headers" if headers_only else "full"}
    settings |= {
        "foreground": checked_foreground(foreground, "--foreground"),
        "raters": raters,
        "progress": progress,
        "workers": workers,
        "scheduler": scheduler,
    }
    to_predict = cases_to_predict(datalist) if section == "all" and labelled else []
    others = [item for item in items if item not in to_predict]
    runs = [find_problems(others, labelled=labelled, **settings)] if others or not to_predict else []
    runs += [find_problems(to_predict, labelled=False, **settings)] if to_predict else []
    fatal = warnings = unopened = 0
    held: set[int] = set()
    for problem in chain.from_iterable(_kept_values(run, held) for run in runs):
        fatal += problem.fatal
        warnings += not problem.fatal
        unopened += not problem.opened
        print_above_bar(str(problem))
    typer.echo(items.found if items.found.skipped else str(items.found).rpartition("; skipped")[0])
    if values is None and not held <= {0, 1}:
        typer.echo(f"label values: {_values_text(held)}; --label-values refuses others")
    looked = "headers" if headers_only else "every voxel"
    counts = [f"{n} {what if n == 1 else what + 's'}" for n, what in ((fatal, "problem"), (warnings, "warning"))]
    if unopened:
        typer.echo(f"not opened, so that no voxel of theirs was looked at: {unopened} {'file' if unopened == 1 else 'files'}")
    typer.echo(f"looked at {looked}: {', '.join(counts)}")
    if fatal:
        raise typer.Exit(1)


def _kept_values(problems: Generator[DataProblem, None, frozenset[int]], held: set[int]) -> Iterator[DataProblem]:
    """Yield the problems of a run, and add the label values that it has found."""
    held |= yield from problems


def _values_text(values: Collection[int]) -> str:
    """Return the values in their order, the first and the last ones of many."""
    words = [str(value) for value in sorted(values)]
    shown = words if len(words) <= _SHOWN else [*words[: _SHOWN - 2], "...", words[-1]]
    return ", ".join(shown) + (f" ({len(words)} values)" if len(words) > _SHOWN else "")


def _label_values(text: str) -> tuple[int, ...]:
    if text in REGION_CONVENTIONS:
        return region_convention(text).values
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        known = ", ".join(REGION_CONVENTIONS)
        fix = "--label-values 0,1,2"
        raise ValueError(error_sentence("--label-values", f"whole numbers, or one of {known}", repr(text), fix)) from None
