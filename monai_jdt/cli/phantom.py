"""The verb `phantom`: a data set of phantoms to try things on."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from monai_jdt.data.brats import brats_datalist
from monai_jdt.data.phantoms import write_brats_phantoms


def phantom_command(
    dest: Annotated[str, typer.Argument(help="The folder to make: free, empty, or with these same phantoms.")],
    layout: Annotated[str, typer.Option(help="brats2018, brats2021, brats2023 or msd.")] = "brats2021",
    cases: Annotated[int, typer.Option(help="How many cases.")] = 12,
    size: Annotated[int, typer.Option(help="Voxels along each axis, at least 12.")] = 48,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
) -> None:
    """Make phantoms: MR-like brains with tumours, up to six raters each, and the true probability of every voxel.

    The files lie as in the real data sets, with the raters beside the fused label: a bundle or a script can be tried
    before the real data are there. What is in DEST already is never overwritten.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    write_brats_phantoms(dest, layout=layout, cases=cases, shape=(size,) * 3, seed=seed, progress=progress)
    items = brats_datalist(dest, layout)
    raters = sum(len(item["raters"]) for item in items)
    typer.echo(f"{dest}: {len(items)} phantom cases, {raters} rater files, layout {layout}, seed {seed}")
