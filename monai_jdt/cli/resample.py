"""The verb `resample`: raters onto their image's grid, and a list of the result."""

from __future__ import annotations

import math
from typing import Annotated

import typer

from monai_jdt.data.datalist_file import read_sections
from monai_jdt.data.names import user_path


def resample_command(
    datalist: Annotated[str, typer.Argument(help="A data list, e.g. of `python -m monai_jdt datalist ... --write`.")],
    dest: Annotated[str, typer.Argument(help="The folder to write the maps, resampling.csv and datalist.json to.")],
    soft: Annotated[bool, typer.Option("--soft", help="The maps are probabilities: interpolate linearly.")] = False,
    same_view: Annotated[
        bool, typer.Option("--same-view", help="Pictures of another size show the image's field of view: scale them.")
    ] = False,
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 1,
    scheduler: Annotated[str | None, typer.Option(help="The address of a Dask scheduler, instead of processes here.")] = None,
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
) -> None:
    """Write raters that lie on another grid on their image's, by the nearest voxel, and a list of all cases.

    Raters that fit stay where they are. An interrupted run goes on by the same command. A case whose grids do not overlap is named, and
    the exit code is 1. The last lines say how much of the marks was lost.
    """
    # SimpleITK and nibabel take a second to import; `--help` should not
    from monai_jdt.data.resampling import resample_raters

    done = resample_raters(
        read_sections(datalist),
        user_path(dest),
        soft=soft,
        same_view=same_view,
        source=user_path(datalist),
        workers=workers,
        scheduler=scheduler,
        progress=progress,
    )
    changed = [row for row in done.rows if row["file"]]
    typer.echo(f"resampled {len(changed)} of {len(done.rows)} maps")
    lost = [(row["lost"], f"{row['case']}, rater {row['rater']}") for row in changed if not math.isnan(row["lost"])]
    if lost:
        worst, where = max(lost)
        typer.echo(
            f"share of the mark that is lost: mean {sum(share for share, _ in lost) / len(lost):.1%}, most {worst:.1%} ({where})"
        )
    for name, failure in done.failures.items():
        typer.echo(f"{name}: {failure}", err=True)
    if done.failures:
        raise typer.Exit(1)
    typer.echo(done.datalist)
