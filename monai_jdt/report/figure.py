"""One case in one picture: the image, every rater's contour, their average, and the prediction if there is one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from monai_jdt.data.files.atomic import whole_file
from monai_jdt.data.names import one_line, user_path
from monai_jdt.raters.region_names import RegionSpec
from monai_jdt.report.arguments import (
    check_arrays,
    check_axis,
    check_channels,
    check_rater_names,
    check_window,
    known_affine,
    three_spacings,
)
from monai_jdt.report.blocks import RegionBlock, region_blocks
from monai_jdt.report.layout import (
    PanelSize,
    PlannedPanel,
    add_axes,
    add_colour_bar,
    draw_legend,
    fitted,
    panel_size,
    plan_body,
    plan_legend,
    quiet_fonts,
)
from monai_jdt.report.panels import PanelWords, draw_letters, draw_panel, legend_lines
from monai_jdt.report.planes import SlicePlane, slice_plane
from monai_jdt.report.regions_shown import RegionNumbers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Inches: the least width of a picture, and a line of the caption (8 points).
_LEAST_WIDTH = 5.0
_CAPTION_LINE = 0.17


def draw_case(
    path: str | os.PathLike[str],
    image: np.ndarray,
    prediction: np.ndarray | None = None,
    votes: np.ndarray | None = None,
    average: np.ndarray | None = None,
    truth: np.ndarray | None = None,
    **options: Any,
) -> str:
    """Draw one case and save it as a PNG, whole or not at all.

    Args:
        path: the PNG to write; folders are made.
        image: as in :func:`case_picture`.
        prediction: as in :func:`case_picture`.
        votes: as in :func:`case_picture`.
        average: as in :func:`case_picture`.
        truth: as in :func:`case_picture`.
        options: further arguments of :func:`case_picture`.

    Returns:
        `path` as a string.

    Raises:
        ValueError: as :func:`case_picture`.

    Example:
        >>> draw_case("raters.png", image, votes=votes, case="case01")  # doctest: +SKIP
    """
    return _save_png(case_picture(image, prediction, votes, average, truth, **options), os.fspath(path))


def case_picture(
    image: np.ndarray,
    prediction: np.ndarray | None = None,
    votes: np.ndarray | None = None,
    average: np.ndarray | None = None,
    truth: np.ndarray | None = None,
    *,
    regions: RegionSpec | None = None,
    case: str = "",
    spacing: Sequence[float] | None = None,
    affine: np.ndarray | None = None,
    channel: int | Sequence[int] | None = None,
    grey_channel: int = 0,
    axis: int = 2,
    zoom: bool = True,
    rater_names: Sequence[str] | None = None,
    rater_weights: Sequence[float] | None = None,
    window: str | Sequence[float] | None = None,
    dpi: int = 110,
) -> Figure:
    """Draw one case.

    There is one block for each region, on the slice where most of it is marked. Its panels: the image; the image with a contour
    for each rater; the raters' average; the true probability; the predicted probability with its contour at 0.5 and that of the
    raters' majority; prediction minus average. A panel that would show nothing is left out. Numbers are of the whole case.

    Args:
        image: intensities `(C, X, Y, Z)` or `(C, X, Y)`, any units.
        prediction: probabilities `(K, *S)` in [0, 1], one channel for each region; None before there is a model.
        votes: label values of R raters `(R, *S)`, integers.
        average: the raters' average `(K, *S)` in [0, 1]; None computes it from `votes`.
        truth: true probability `(K, *S)` in [0, 1].
        regions: the K channels (see :func:`monai_jdt.raters.named_regions`). None: each label value but 0 that occurs in
            `votes`; without votes the channels are numbered.
        case: the case's name, the title.
        spacing: voxel sizes along the axes, mm; None: those of `affine`, or 1.
        affine: `(4, 4)`, voxels to mm in RAS+, which gives the radiological view (see
            :func:`monai_jdt.report.planes.slice_plane`). None: the first axis runs to the right, the second one down.
        channel: the image channel to show, one for all regions or one for each. None: the colours of a 2D photograph (three or
            four channels of whole numbers up to 255), else `grey_channel`.
        grey_channel: the channel to show of an image without colours where `channel` is None; -1 is the last one.
        axis: the axis that is cut: 0, 1 or 2.
        zoom: show the surroundings of what is labelled or predicted instead of whole slices.
        rater_names: R names for the legend; None: "rater 1", ...
        rater_weights: `(R,)`, 0 = the rater is missing and left out; other values say only that it is there.
        window: for grey images: "lung", "soft tissue", "bone" or "brain" for CT, or (low, high). None chooses.
        dpi: dots per inch; a picture is 5 to 14 inches wide.

    Returns:
        A matplotlib figure. It is on no screen and needs no closing.

    Raises:
        ValueError: if there is neither `votes` nor `average`, or shapes do not fit.
    """
    arrays = check_arrays(image, prediction, votes, average, truth, regions, rater_weights)
    names = check_rater_names(rater_names, rater_weights, votes)
    plane = slice_plane(known_affine(affine, arrays), check_axis(axis), three_spacings(spacing))
    words = PanelWords(len(names) or None, prediction is not None, truth is not None)
    blocks = region_blocks(arrays, plane, words, check_channels(channel, grey_channel, arrays), check_window(window), zoom)
    return _composed(blocks, plane, words, names, case, arrays.image.shape[1 + axis], dpi)


def _composed(
    blocks: Sequence[RegionBlock], plane: SlicePlane, words: PanelWords, names: Sequence[str], case: str, slices: int, dpi: int
) -> Figure:
    """Place blocks, title, caption and legend on a figure that has room for them."""
    # matplotlib is imported late: `import monai_jdt` needs torch and monai only
    from matplotlib.figure import Figure

    shown, kinds = [block.numbers for block in blocks], [list(block.notes) for block in blocks]
    height, width = blocks[0].size
    size = panel_size(len({kind for row in kinds for kind in row}), height / width)
    body = plan_body(kinds, [max(len(lines) for lines in block.notes.values()) for block in blocks], size)
    entries = legend_lines(names, shown, [kind for row in kinds for kind in row])
    across = max(body.width, _LEAST_WIDTH)
    legend_columns, legend_height = plan_legend(entries, across, dpi)
    caption = _caption(plane, words, blocks, slices)
    above_caption = 0.12 + _CAPTION_LINE * len(caption)
    left, low = (across - body.width) / 2, above_caption + legend_height + (0.1 if entries else 0.0)

    figure = Figure(figsize=(across, low + body.height + 0.36), dpi=dpi)
    for planned in body.panels:
        moved = replace(planned, x=planned.x + left, y=planned.y + low)
        _draw_block_panel(figure, moved, blocks[planned.region], plane, words, size)
    for region, (x, y) in zip(shown, body.headers, strict=True):
        text = fitted(_header(region, plane, slices), 10, body.width - 0.3, bold=True)
        _write(figure, x + left, y + low, text, fontsize=10, fontweight="bold", ha="left", va="bottom")
    title = fitted(_title(case, shown, words), 13, across - 0.6, bold=True)
    _write(figure, across / 2, low + body.height + 0.07, title, fontsize=13, fontweight="bold", ha="center", va="bottom")
    for number, line in enumerate(reversed(caption)):
        style = {"fontsize": 8, "color": "#555555", "ha": "center", "va": "bottom"}
        _write(figure, across / 2, 0.1 + _CAPTION_LINE * number, fitted(line, 8, across - 0.2), **style)
    if entries:
        draw_legend(figure, entries, legend_columns, above_caption)
    return figure


def _draw_block_panel(
    figure: Figure, planned: PlannedPanel, block: RegionBlock, plane: SlicePlane, words: PanelWords, size: PanelSize
) -> None:
    """Draw one panel of a block, with its title, the lines below it, and its colour bar."""
    axes = add_axes(figure, planned.x, planned.y, size.width, size.height)
    picture = draw_panel(axes, planned.kind, block.pictures, block.image, block.grey, plane)
    axes.set_label(f"{block.numbers.name}: {planned.kind}")
    if planned.titled:
        axes.set_title(fitted(words.title(planned.kind), 11, size.width), fontsize=11, pad=4)
    axes.set_xlabel("\n".join(fitted(line, 9, size.width) for line in block.notes[planned.kind]), fontsize=9, labelpad=3)
    if planned.kind == next(iter(block.notes)):
        draw_letters(axes, plane.letters)
    if planned.bar:
        ticks = (-1, 0, 1) if planned.kind == "difference" else (0, 0.5, 1)
        add_colour_bar(figure, picture, ticks, planned.x + size.width, planned.y, size.height)


def _header(region: RegionNumbers, plane: SlicePlane, slices: int) -> str:
    if slices == 1:
        return region.name
    return f"{region.name}   {f'{plane.name} slice'.strip()} {region.cut + 1} of {slices}"


def _title(case: str, shown: Sequence[RegionNumbers], words: PanelWords) -> str:
    scores = [region.dice for region in shown if not np.isnan(region.dice)]
    if not scores or len(shown) == 1:
        return one_line(case)  # one region's Dice stands below its prediction
    label = "rater" if words.raters == 1 else "majority"
    return f"{one_line(case)}   mean Dice with the {label} {sum(scores) / len(scores):.2f}".strip()


def _caption(plane: SlicePlane, words: PanelWords, blocks: Sequence[RegionBlock], slices: int) -> list[str]:
    """Return the lines at the foot of the picture: what the star means, and what pictures and numbers show."""
    numbers = [line for block in blocks for lines in block.notes.values() for line in lines]
    lines = []
    if any("*" in line for line in numbers):
        marks = "the rater" if words.raters == 1 else "a rater"
        lines.append(f"* over the voxels that {marks} marks or the prediction puts above 0.5")
    said = []
    if slices > 1:
        said.append("pictures: the slice where most is marked")
        if any("Dice" in line or "*" in line for line in numbers):
            said.append("numbers: the whole case")
    if plane.letters:
        said.append(f"radiological view: {_SIDES[plane.letters[0]]} on the left")
    if said:
        text = "; ".join(said)
        lines.append(text[0].upper() + text[1:])
    return lines


_SIDES = {"R": "the patient's right", "A": "anterior", "L": "the patient's left", "P": "posterior", "S": "superior", "I": "inferior"}


def _write(figure: Figure, x: float, y: float, text: str, **style: Any) -> None:
    across, up = figure.get_size_inches()
    figure.text(x / across, y / up, text, parse_math=False, **style)


def _save_png(figure: Figure, path: str) -> str:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    path = user_path(path)
    with whole_file(path) as draft, open(draft, "wb") as file, quiet_fonts():
        FigureCanvasAgg(figure).print_png(file)
    return path
