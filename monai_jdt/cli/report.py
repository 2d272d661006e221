"""The verb `report`: one page of one or several runs."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from monai_jdt.data.names import user_path


def report_command(
    runs: Annotated[
        list[str], typer.Argument(help="Folders of runs, written by `evaluate` or by a bundle; others are compared with the first.")
    ],
    dest: Annotated[str | None, typer.Option(help="The HTML file to write; by default report.html in the first run.")] = None,
    cases: Annotated[int, typer.Option(help="Cases with pictures, the worst first.", min=0)] = 100,
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 1,
    scheduler: Annotated[str | None, typer.Option(help="The address of a Dask scheduler, instead of processes here.")] = None,
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
) -> None:
    """Write a page of runs: scores with intervals, models compared case by case, calibration, raters beside models, and slices.

    The page is one file that needs no network. Exit code 1 if a file of a case could not be read.
    """
    # torch takes seconds to import; `--help` should not
    from monai_jdt.report.run_page import write_run_report

    folders = [user_path(run) for run in runs]
    page = os.path.join(folders[0], "report.html") if dest is None else user_path(dest)
    unread = write_run_report(folders, page, most_cases=cases, workers=workers, scheduler=scheduler, progress=progress)
    typer.echo(page)
    for name, failure in unread.items():
        typer.echo(f"{name}: {failure}", err=True)
    if unread:
        raise typer.Exit(1)
