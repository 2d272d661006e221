"""The verb `lidc`: what TCIA hands out of LIDC-IDRI becomes NIfTI files and a data list."""

from __future__ import annotations

from typing import Annotated

import typer

from monai_jdt.data.lidc.conversion import convert_lidc


def lidc_command(
    root: Annotated[str, typer.Argument(help="The download: DICOM series and XML files, at any depth.")],
    dest: Annotated[str, typer.Argument(help="The folder to write: new, empty, or of the same settings, which then goes on.")],
    whole: Annotated[bool, typer.Option("--whole", help="Whole scans instead of a crop around each nodule.")] = False,
    size: Annotated[float, typer.Option(help="The edge of a crop in mm.")] = 64.0,
    margin: Annotated[float, typer.Option(help="The least distance in mm from a nodule to the side of its crop.")] = 8.0,
    unmarked: Annotated[str, typer.Option(help="What a reader who did not mark a nodule says: background or missing.")] = "background",
    min_readers: Annotated[int, typer.Option(help="Leave out nodules that fewer readers marked.", min=1, max=4)] = 1,
    tolerance: Annotated[
        float | None, typer.Option(help="Marks so many mm apart are one nodule; by default the distance of slices and 2 %.")
    ] = None,
    duplicates: Annotated[str, typer.Option(help="Two images at one position: refuse, or first by InstanceNumber.")] = "refuse",
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 1,
    scheduler: Annotated[str | None, typer.Option(help="The address of a Dask scheduler, instead of processes here.")] = None,
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
) -> None:
    """Convert LIDC-IDRI, CT and the outlines of four radiologists, to NIfTI files with one mask per reader, and DEST/datalist.json.

    An interrupted run goes on by the same command, which also adds what was downloaded meanwhile. Exit code 1 if a scan or file could
    not be used.
    """
    done = convert_lidc(
        root,
        dest,
        whole=whole,
        size=size,
        margin=margin,
        unmarked=unmarked,
        min_readers=min_readers,
        tolerance=tolerance,
        duplicates=duplicates,
        workers=workers,
        scheduler=scheduler,
        progress=progress,
    )
    nodules = ", ".join(f"{count} by {_with_count(readers, 'reader')}" for readers, count in done.nodules.items())
    counts = f"{_with_count(done.scans, 'scan')}, {_with_count(len(done.items), 'case')}"
    typer.echo(f"{done.datalist or dest}: {counts}; nodules: {nodules or 'none'}")
    for note in done.notes:
        typer.echo(note, err=True)
    for name, failure in done.failures.items():
        typer.echo(failure if failure.startswith(name) else f"{name}: {failure}", err=True)
    if done.failures:
        raise typer.Exit(1)


def _with_count(number: int, what: str) -> str:
    return f"{number} {what if number == 1 else what + 's'}"
