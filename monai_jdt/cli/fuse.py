"""The verb `fuse`: one label file from several raters' files, for people who want files."""

from __future__ import annotations

import json
import os
import uuid
from typing import Annotated, Any

import typer

from monai_jdt.data.label_values import distinct_values
from monai_jdt.data.regions import regions_without_label


def fuse_command(
    dest: Annotated[str, typer.Argument(help="The NIfTI file to write, .nii or .nii.gz; it must be free.")],
    rater: Annotated[list[str], typer.Argument(help="The raters' label maps.")],
    method: Annotated[str, typer.Option(help="As `FuseRaters` names them: average, majority, dice_weighted, staple, ...")] = "average",
    regions: Annotated[str, typer.Option(help="A convention, or JSON: '{\"cord\": [1]}', [[1, 4], [4]].")] = "[[1]]",
    weights: Annotated[str | None, typer.Option(help="A weight for each rater, such as 1,1,0.5; 0 leaves one out.")] = None,
    paper_compatible: Annotated[bool, typer.Option(help="dice_weighted as published: a rater without overlap weighs 1.")] = False,
    seed: Annotated[int, typer.Option(help="For the method random.")] = 0,
) -> None:
    """Fuse raters into one map for each region (on the last axis if there are several), float32, on the raters' grid."""
    # MONAI's transforms and nibabel take seconds to import; `--help` should not
    import nibabel
    import numpy as np

    from monai_jdt.transforms import FuseRaters, LoadRaters

    if not dest.lower().endswith((".nii", ".nii.gz")):
        raise ValueError(f"{dest}: expected a name that ends in .nii or .nii.gz, got another. Fix: name it so")
    if os.path.exists(dest):
        raise FileExistsError(f"{dest}: expected a free name, got a file that is there. Fix: name another, or remove it")
    groups: Any = json.loads(regions) if regions.lstrip().startswith(("{", "[")) else regions
    numbers = None if weights is None else [float(weight) for weight in weights.split(",")]
    votes = LoadRaters()(rater)
    fuse = FuseRaters(groups, method=method, rater_weights=numbers, paper_compatible=paper_compatible, seed=seed)
    empty = regions_without_label(fuse.regions, distinct_values(votes.numpy()).tolist(), where="--regions")
    if empty is not None:
        typer.echo(empty, err=True)
    label = fuse(votes)
    values = label.numpy().astype(np.float32)
    data = values[0] if len(values) == 1 else np.moveaxis(values, 0, -1)
    folder, name = os.path.split(os.path.abspath(dest))
    os.makedirs(folder, exist_ok=True)
    draft = os.path.join(folder, f".{uuid.uuid4().hex}.{name}")
    try:
        nibabel.save(nibabel.Nifti1Image(data, np.asarray(votes.affine, dtype=np.float64)), draft)
        os.replace(draft, dest)
    finally:
        if os.path.exists(draft):
            os.remove(draft)
    typer.echo(f"{dest}: {method} of {len(rater)} raters; regions {', '.join(fuse.regions)}")
