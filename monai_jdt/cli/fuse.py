"""The verb `fuse`: write one label file from several raters' files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated

import typer

from monai_jdt.cli.region_text import regions_from_text
from monai_jdt.data.files.atomic import whole_file
from monai_jdt.data.files.label_values import distinct_values
from monai_jdt.data.files.volumes import can_be_volume
from monai_jdt.data.layouts.regions import regions_without_label
from monai_jdt.data.names import user_path
from monai_jdt.data.problems import DataProblem, DataProblemError
from monai_jdt.validation import error_sentence


def fuse_command(
    dest: Annotated[str, typer.Argument(help="The NIfTI file to write, .nii or .nii.gz; it must be free.")],
    rater: Annotated[list[str], typer.Argument(help="The raters' label maps.")],
    method: Annotated[str, typer.Option(help="A method of `FuseRaters`: average, majority, dice_weighted, staple, ...")] = "average",
    regions: Annotated[str, typer.Option(help="A convention, or JSON: '{\"cord\": [1]}', [[1, 4], [4]].")] = "[[1]]",
    weights: Annotated[str | None, typer.Option(help="One weight per rater, such as 1,1,0.5; 0 leaves a rater out.")] = None,
    paper_compatible: Annotated[bool, typer.Option(help="dice_weighted as published: a rater without overlap has weight 1.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the method random.")] = 0,
) -> None:
    """Fuse raters into one map for each region (on the last axis if there are several), float32, on the raters' grid.

    A region without a value in any rater's file is a warning on standard error.
    """
    # MONAI's transforms and nibabel take seconds to import; `--help` should not
    import nibabel
    import numpy as np

    from monai_jdt.transforms import FuseRaters, LoadRaters

    dest, paths = user_path(dest), [user_path(path) for path in rater]
    if not dest.lower().endswith((".nii", ".nii.gz")):
        fix = f"name it {os.path.basename(dest).split('.')[0] or 'fused'}.nii.gz"
        raise ValueError(error_sentence(dest, "a name that ends in .nii or .nii.gz", "another ending", fix))
    if os.path.lexists(dest):
        raise FileExistsError(error_sentence(dest, "a free name", "a file that is there", "name another, or remove it"))
    if seed < 0:
        raise ValueError(error_sentence("--seed", "a whole number >= 0", str(seed), "--seed 0"))
    numbers = None if weights is None else _weights(weights, len(paths))
    method = method.lower()
    fuse = FuseRaters(regions_from_text(regions), method=method, rater_weights=numbers, paper_compatible=paper_compatible, seed=seed)
    _require_files(paths)
    votes = LoadRaters()(paths)
    empty = regions_without_label(fuse.regions, distinct_values(votes.numpy()).tolist(), where="--regions")
    if empty is not None:
        typer.echo(empty, err=True)
    label = fuse(votes)
    values = label.numpy().astype(np.float32)
    data = values[0] if len(values) == 1 else np.moveaxis(values, 0, -1)
    with whole_file(dest) as draft:
        nibabel.save(nibabel.Nifti1Image(data, np.asarray(votes.affine, dtype=np.float64)), draft)
    typer.echo(f"{dest}: {method} of {len(rater)} raters; regions {', '.join(fuse.regions)}")


def _require_files(paths: Sequence[str]) -> None:
    """Report all missing files at once. Warn of a file that is given twice, since it votes twice."""
    problems = []
    for number, path in enumerate(paths):
        if not can_be_volume(path):
            got = "a folder" if os.path.isdir(path) else "nothing at that path"
            problems.append(DataProblem(path, "a rater's label map", got, "correct the path"))
        elif any(os.path.exists(other) and os.path.samefile(path, other) for other in paths[:number]):
            typer.echo(DataProblem(path, "each rater's file once", "it is there again", "remove one", fatal=False), err=True)
    if problems:
        raise DataProblemError(problems)


def _weights(text: str, raters: int) -> list[float]:
    try:
        numbers = [float(weight) for weight in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != raters:
        fix = f"--weights {','.join(['1'] * raters)}"
        raise ValueError(error_sentence("--weights", f"{raters} numbers, one for each rater, with commas", repr(text), fix))
    return numbers
