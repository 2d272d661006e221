"""The verb `phantom`: write a data set of phantoms."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from monai_jdt.data.layouts.brats import brats_datalist
from monai_jdt.data.layouts.qubiq import qubiq_datalist
from monai_jdt.data.phantoms.brats import write_brats_phantoms
from monai_jdt.data.phantoms.lidc import write_lidc_phantoms
from monai_jdt.data.phantoms.qubiq import write_qubiq_phantoms
from monai_jdt.validation import error_sentence


def phantom_command(
    dest: Annotated[str, typer.Argument(help="The folder to make: free, empty, or with these same phantoms.")],
    layout: Annotated[str, typer.Option(help="brats2018, brats2021, brats2023, msd, qubiq2020, qubiq2021 or lidc.")] = "brats2021",
    cases: Annotated[int, typer.Option(help="Number of cases of each data set.")] = 12,
    size: Annotated[int | None, typer.Option(help="Voxels along each axis; by default 48, 64 for QUBIQ's slices and LIDC's.")] = None,
    slices: Annotated[int | None, typer.Option(help="lidc: slices of each CT; by default 24.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
    dataset: Annotated[list[str] | None, typer.Option(help="qubiq: brain-growth, kidney, ..., or all; repeat it for more.")] = None,
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
) -> None:
    """Make phantoms: brains with tumours, QUBIQ-like slices or CT of lung nodules, several raters, each voxel's true probability.

    The files are named and nested as in the real data sets, with the raters beside the fused label, so that a bundle or a script can be
    tried before the real data are at hand. Nothing in DEST is overwritten.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if dataset and not layout.startswith("qubiq"):
        fix = "--layout qubiq2021, or leave --dataset out"
        raise ValueError(error_sentence("--dataset", "the layout qubiq2020 or qubiq2021", layout, fix))
    if slices is not None and layout != "lidc":
        raise ValueError(error_sentence("--slices", "the layout lidc", layout, "--layout lidc, or leave --slices out"))
    if layout == "lidc":
        shape = (size or 64, size or 64, slices or 24)
        write_lidc_phantoms(dest, cases=cases, shape=shape, seed=seed, progress=progress)
        typer.echo(f"{dest}: {cases} phantom cases, {4 * cases} reading sessions, layout {layout}, seed {seed}")
        return
    if layout.startswith("qubiq"):
        sets = "all" if not dataset or "all" in dataset else dataset
        flat = None if size is None else (size, size)
        write_qubiq_phantoms(dest, datasets=sets, layout=layout, cases=cases, shape=flat, seed=seed, progress=progress)
        items = qubiq_datalist(dest)
    else:
        edge = 48 if size is None else size
        write_brats_phantoms(dest, layout=layout, cases=cases, shape=(edge,) * 3, seed=seed, progress=progress)
        items = brats_datalist(dest, layout)
    raters = sum(len(item["raters"]) for item in items)
    typer.echo(f"{dest}: {items.found.cases} phantom cases, {raters} rater files, layout {layout}, seed {seed}")
