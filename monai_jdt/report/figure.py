"""One case in one picture: the image, every rater's contour, their average, and the prediction if there is one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from monai_jdt.data.files.atomic import whole_file
from monai_jdt.data.files.label_values import distinct_values
from monai_jdt.data.names import one_line, user_path
from monai_jdt.raters.named_regions import RegionSpec, named_regions
from monai_jdt.raters.votes import rater_shares
from monai_jdt.report.intensities import CT_WINDOWS, GreyRange, grey_range, is_hounsfield, is_photograph
from monai_jdt.report.layout import add_axes, add_colour_bar, draw_legend, fitted, panel_size, plan_body, plan_legend, quiet_fonts
from monai_jdt.report.panels import PanelWords, draw_letters, draw_panel, legend_lines, notes_of, panels_of
from monai_jdt.report.planes import SlicePlane, slice_plane
from monai_jdt.report.regions_shown import CaseArrays, RegionNumbers, region_numbers, region_pictures, shown_window, shrunk
from monai_jdt.validation import error_sentence

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LEAST_WIDTH = 5.0


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
    axis: int = 2,
    zoom: bool = True,
    rater_names: Sequence[str] | None = None,
    rater_weights: Sequence[float] | None = None,
    window: str | Sequence[float] | None = None,
    dpi: int = 110,
) -> Figure:
    """Draw one case.

    One block a region, on the slice where most of it is marked. Panels, each left out where there is nothing to show: the
    image; the image with a contour for each rater; the raters' average; the true probability; the predicted probability with
    its contour at 0.5 and that of the raters' majority; prediction minus average. Numbers below the panels belong to the
    whole case, not to the slice.

    Args:
        image: intensities `(C, X, Y, Z)` or `(C, X, Y)`, any units.
        prediction: probabilities `(K, *S)` in [0, 1], one channel a region; None before there is a model.
        votes: label values of R raters `(R, *S)`, integers.
        average: the raters' average `(K, *S)` in [0, 1]; None computes it from `votes`.
        truth: true probability `(K, *S)` in [0, 1].
        regions: the K channels (see :func:`monai_jdt.raters.named_regions`). None: each label value but 0 that occurs in
            `votes`; without votes the channels are numbered.
        case: the case's name, the title.
        spacing: voxel sizes along the axes, mm; None: those of `affine`, or 1.
        affine: `(4, 4)`, voxels to mm in RAS+, which gives the radiological view (see
            :func:`monai_jdt.report.planes.slice_plane`). None: the first axis runs to the right, the second one down.
        channel: the image channel to show; one for all regions, or one a region. None: the colours of a 2D photograph
            (three or four channels of whole numbers up to 255), else channel 0.
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
    arrays = _checked_arrays(image, prediction, votes, average, truth, regions, rater_weights)
    names = _checked_names(rater_names, rater_weights, votes)
    if axis not in (0, 1, 2):
        raise ValueError(error_sentence("axis", "0, 1 or 2", repr(axis)))
    channels, limits = _checked_channels(channel, arrays), _checked_window(window)
    plane = slice_plane(_stated_affine(affine, arrays), axis, _three(spacing))
    shown = _without_repeats([region_numbers(arrays, plane, k) for k in range(len(arrays.regions))], arrays)
    view = shown_window(shown, plane, zoom)
    pictures = [region_pictures(arrays, plane, numbers, k, view) for k, numbers in enumerate(shown)]
    near = shown_window(shown, plane, zoom=True)
    images = [_image_slice(arrays, plane, numbers.cut, c, view, near, limits) for numbers, c in zip(shown, channels, strict=False)]
    words = PanelWords(len(names) or None, prediction is not None, truth is not None)
    kinds = [panels_of(region, words) for region in shown]
    notes = [
        {kind: notes_of(kind, region, words, grey) for kind in row} for row, region, (_, grey) in zip(kinds, shown, images, strict=True)
    ]

    height, width = ((ends.stop - ends.start) * step for ends, step in zip(view, plane.spacing, strict=True))
    size = panel_size(len({kind for row in kinds for kind in row}), height / width)
    body = plan_body(kinds, [max(len(lines) for lines in row.values()) for row in notes], size)
    entries = legend_lines(names, shown, [kind for row in kinds for kind in row])
    across = max(body.width, _LEAST_WIDTH)
    legend_columns, legend_height = plan_legend(entries, across, dpi)
    caption = _caption(plane, words, kinds, notes, arrays.image.shape[1 + axis])
    low = 0.12 + 0.17 * len(caption) + legend_height + (0.1 if entries else 0.0)

    # matplotlib is imported late: `import monai_jdt` needs torch and monai only
    from matplotlib.figure import Figure

    figure = Figure(figsize=(across, low + body.height + 0.36), dpi=dpi)
    left = (across - body.width) / 2
    for planned in body.panels:
        region, x, y = shown[planned.region], planned.x + left, planned.y + low
        axes = add_axes(figure, x, y, size.width, size.height)
        picture = draw_panel(axes, planned.kind, pictures[planned.region], *images[planned.region], plane)
        axes.set_label(f"{region.name}: {planned.kind}")
        if planned.titled:
            axes.set_title(fitted(words.title(planned.kind), 11, size.width), fontsize=11, pad=4)
        axes.set_xlabel("\n".join(fitted(line, 9, size.width) for line in notes[planned.region][planned.kind]), fontsize=9, labelpad=3)
        if planned.kind == kinds[planned.region][0]:
            draw_letters(axes, plane.letters)
        if planned.bar:
            ticks = (-1, 0, 1) if planned.kind == "difference" else (0, 0.5, 1)
            add_colour_bar(figure, picture, ticks, x + size.width, y, size.height)
    for region, (x, y) in zip(shown, body.headers, strict=True):
        text = fitted(_header(region, plane, arrays.image.shape[1 + axis]), 10, body.width - 0.3, bold=True)
        _write(figure, x + left, y + low, text, fontsize=10, fontweight="bold", ha="left", va="bottom")
    _write(figure, across / 2, low + body.height + 0.07, fitted(_title(case, shown, words), 13, across - 0.6, bold=True),
           fontsize=13, fontweight="bold", ha="center", va="bottom")  # fmt: skip
    for number, line in enumerate(reversed(caption)):
        style = {"fontsize": 8, "color": "#555555", "ha": "center", "va": "bottom"}
        _write(figure, across / 2, 0.1 + 0.17 * number, fitted(line, 8, across - 0.2), **style)
    if entries:
        draw_legend(figure, entries, legend_columns, 0.12 + 0.17 * len(caption))
    return figure


def _checked_arrays(
    image: np.ndarray,
    prediction: np.ndarray | None,
    votes: np.ndarray | None,
    average: np.ndarray | None,
    truth: np.ndarray | None,
    regions: RegionSpec | None,
    rater_weights: Sequence[float] | None,
) -> CaseArrays:
    if votes is None and average is None:
        raise ValueError(error_sentence("votes", "`votes` or `average`", "neither", "pass the raters' label maps, or their average"))
    image = _with_depth("image", image)
    space = image.shape[1:]
    if votes is not None:
        votes = _with_depth("votes", votes)
        if rater_weights is not None:
            there = rater_shares(rater_weights, len(votes)).numpy() > 0
            votes = votes if there.all() else votes[there]
        if votes.dtype.kind not in "iub" or len(votes) == 0:
            raise ValueError(error_sentence("votes", "label values of at least one rater, integers", f"{votes.dtype} {votes.shape}"))
        _same_space("votes", votes, space)
    groups: dict[str, tuple[int, ...]]
    channels = next((len(a) for a in (prediction, average, truth) if a is not None), None)
    if regions is not None:
        groups = named_regions(regions)
    elif votes is not None:
        values = [int(v) for v in distinct_values(votes) if v != 0] or [1]
        groups = {f"label {value}": (value,) for value in values}
    else:
        groups = {f"channel {k}": () for k in range(channels or 1)}
    stacks = {"prediction": prediction, "average": average, "truth": truth}
    for name, array in stacks.items():
        if array is None:
            continue
        stacks[name] = array = _with_depth(name, array)
        if len(array) != len(groups):
            fix = "name the regions of its channels by `regions`" if regions is None else "give one channel for each region"
            expected = f"{len(groups)} channels, one for each of {', '.join(groups)}"
            raise ValueError(error_sentence(name, f"a {name} of {expected}", str(len(array)), fix))
        _same_space(name, array, space)
    return CaseArrays(image, stacks["prediction"], votes, stacks["average"], stacks["truth"], groups)


def _with_depth(name: str, array: np.ndarray) -> np.ndarray:
    array = np.asarray(array)
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or 0 in array.shape:
        raise ValueError(error_sentence(name, "an array (C, X, Y, Z) or (C, X, Y)", f"shape {array.shape}"))
    return array


def _same_space(name: str, array: np.ndarray, space: tuple[int, ...]) -> None:
    if array.shape[1:] != space:
        raise ValueError(error_sentence(name, f"a {name} on the image's {space} voxels", str(array.shape[1:])))


def _checked_names(names: Sequence[str] | None, weights: Sequence[float] | None, votes: np.ndarray | None) -> list[str]:
    if votes is None:
        return []
    raters = len(votes)
    if names is not None and len(names) != raters:
        raise ValueError(error_sentence("rater_names", f"{raters} names", str(len(names))))
    # matplotlib reads $ as mathematics, and leaves out labels that begin with _
    given = [f"rater {r + 1}" for r in range(raters)] if names is None else [one_line(name).lstrip("_") or "?" for name in names]
    every = [fitted(name, 9, 2.2).replace("$", r"\$") for name in given]
    return every if weights is None else [name for name, weight in zip(every, weights, strict=True) if weight > 0]


def _checked_channels(channel: int | Sequence[int] | None, arrays: CaseArrays) -> list[int | None]:
    if channel is None:
        channel = 0
        if is_photograph(arrays.image):
            return [None] * len(arrays.regions)
    chosen = [channel] * len(arrays.regions) if isinstance(channel, int) else list(channel)
    if len(chosen) != len(arrays.regions) or not all(0 <= c < len(arrays.image) for c in chosen):
        expected = f"a number below {len(arrays.image)}, or {len(arrays.regions)} of them"
        raise ValueError(error_sentence("channel", expected, repr(channel)))
    return list(chosen)


def _stated_affine(affine: np.ndarray | None, arrays: CaseArrays) -> np.ndarray | None:
    if affine is None:
        return None
    affine = np.asarray(affine, dtype=np.float64)
    # arrays without a place, pictures among them, are given the identity by most tools
    plain = np.array_equal(affine[:3, :3], np.diag(np.abs(np.diag(affine)[:3]))) and not affine[:3, 3].any()
    return None if plain and arrays.image.shape[3] == 1 else affine


def _three(spacing: Sequence[float] | None) -> tuple[float, ...] | None:
    return None if spacing is None else tuple(float(s) for s in [*spacing, 1.0, 1.0][:3])


def _checked_window(window: str | Sequence[float] | None) -> str | tuple[float, float] | None:
    if isinstance(window, str):
        if window not in CT_WINDOWS:
            raise ValueError(error_sentence("window", f"one of {', '.join(CT_WINDOWS)}, or (low, high)", repr(window)))
        return window
    return None if window is None else (float(window[0]), float(window[1]))


def _image_slice(
    arrays: CaseArrays,
    plane: SlicePlane,
    cut: int,
    channel: int | None,
    view: tuple[slice, slice],
    near: tuple[slice, slice],
    window: str | tuple[float, float] | None,
) -> tuple[np.ndarray, GreyRange | None]:
    """The image's pixels, and what is black and white; None for the colours of a photograph."""
    if channel is None:
        return shrunk(plane.slice_of(np.moveaxis(arrays.image[:3], 0, -1), cut)[view]), None
    pixels = plane.slice_of(arrays.image[channel], cut)
    shown = shrunk(pixels[view])
    return shown, grey_range(shown, window, is_hounsfield(arrays.image[channel]), shrunk(pixels[near]))


def _without_repeats(shown: list[RegionNumbers], arrays: CaseArrays) -> list[RegionNumbers]:
    """Regions of which there is nothing but the image are one block: it would be the same each time."""
    if arrays.prediction is not None or arrays.truth is not None or any(region.labelled for region in shown):
        return shown
    return [replace(shown[0], name=", ".join(region.name for region in shown))]


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


def _caption(
    plane: SlicePlane, words: PanelWords, kinds: Sequence[Sequence[str]], notes: Sequence[dict[Any, list[str]]], slices: int
) -> list[str]:
    numbers = [line for row in notes for lines in row.values() for line in lines]
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
