"""The verb `figure`: draw one case from its files."""

from __future__ import annotations

import json
import os
from typing import Annotated, Any

import typer
from monai.data.meta_tensor import MetaTensor

from monai_jdt.data.problems import DataProblem, DataProblemError


def figure_command(
    dest: Annotated[str, typer.Argument(help="The PNG to write.")],
    image: Annotated[list[str], typer.Option(help="The image; once for each channel's file, or one file with all.")],
    prediction: Annotated[str, typer.Option(help="Probabilities, one channel a region (last axis of the NIfTI file).")],
    rater: Annotated[list[str], typer.Option(help="A rater's label map; once for each rater.")],
    truth: Annotated[str | None, typer.Option(help="True probabilities, laid out as the prediction.")] = None,
    regions: Annotated[str, typer.Option(help="A convention, or JSON: '{\"cord\": [1]}', [[1, 4], [4]].")] = "brats2021",
    case: Annotated[str, typer.Option(help="Words for the title; by default the image's file name.")] = "",
    channel: Annotated[int, typer.Option(help="The image channel to show.")] = 0,
    axis: Annotated[int, typer.Option(help="The axis that is cut: 0, 1 or 2.", min=0, max=2)] = 2,
    zoom: Annotated[bool, typer.Option(help="Show the surroundings of the labels, not whole slices.")] = True,
) -> None:
    """Draw a case: the image with each rater's contour, the raters' average, the prediction, and where they differ."""
    # MONAI's transforms take seconds to import; `--help` should not
    from monai_jdt.report.figure import draw_case
    from monai_jdt.transforms import LoadRaters

    volume = _load(image)
    votes = LoadRaters()(rater)
    groups: Any = json.loads(regions) if regions.lstrip().startswith(("{", "[")) else regions
    draw_case(
        dest,
        volume.numpy(),
        _load([prediction]).numpy(),
        votes.numpy(),
        truth=None if truth is None else _load([truth]).numpy(),
        regions=groups,
        case=case or os.path.basename(image[0]),
        spacing=tuple(float(s) for s in volume.pixdim[:3]),
        channel=channel,
        axis=axis,
        zoom=zoom,
    )
    typer.echo(dest)


def _load(paths: list[str]) -> MetaTensor:
    from monai.transforms import LoadImage

    for path in paths:
        if not os.path.isfile(path):
            raise DataProblemError([DataProblem(path, "an image file", "no file at that path", "correct the path")])
    return LoadImage(image_only=True, ensure_channel_first=True)(paths if len(paths) > 1 else paths[0])
