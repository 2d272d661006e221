"""One case in one picture: the image with every rater's contour, their average, the prediction, and where they differ."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from monai_jdt.data.atomic import whole_file
from monai_jdt.data.names import user_path
from monai_jdt.raters.fusion import RegionSpec, fuse_average, fuse_majority, named_regions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours without black and the near-whites: told apart by colour-blind eyes, visible on grey.
_RATER_COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#D55E00", "#CC79A7", "#0072B2")
_PREDICTION_COLOUR = "#FFFFFF"


def draw_case(
    path: str | os.PathLike[str],
    image: np.ndarray,
    prediction: np.ndarray,
    votes: np.ndarray | None = None,
    average: np.ndarray | None = None,
    truth: np.ndarray | None = None,
    *,
    regions: RegionSpec | None = None,
    case: str = "",
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    channel: int | Sequence[int] = 0,
    axis: int = 2,
    zoom: bool = True,
    dpi: int = 110,
) -> str:
    """Draw one case and save it as a PNG, whole or not at all.

    One row a region, on the slice where the region is largest. Columns: the image with a contour for each rater; the raters'
    average; the predicted probability with its 0.5 contour (and the raters' majority dashed); prediction minus average; the
    true probability, if there is one.

    Args:
        path: the PNG to write; folders are made.
        image: intensities `(C, X, Y, Z)` or `(C, X, Y)`, any units.
        prediction: probabilities `(K, *S)` in [0, 1], one channel a region.
        votes: label values of R raters `(R, *S)`, integers; needs `regions`.
        average: the raters' average `(K, *S)` in [0, 1]; None computes it from `votes`.
        truth: true probability `(K, *S)` in [0, 1].
        regions: the K channels (see :func:`monai_jdt.raters.named_regions`); None numbers them.
        case: words for the title.
        spacing: voxel sizes along the three axes, mm.
        channel: the image channel to show; one for all regions, or one a region.
        axis: the axis that is cut: 0, 1 or 2.
        zoom: show the surroundings of what is labelled or predicted instead of whole slices.
        dpi: dots per inch; a panel is about 2.6 inches wide.

    Returns:
        `path` as a string.

    Raises:
        ValueError: if there is neither `votes` nor `average`, or shapes do not fit.
    """
    image, prediction = _as_volume(image), _as_volume(prediction)
    average, truth, votes = (None if a is None else _as_volume(a) for a in (average, truth, votes))
    groups = None if regions is None else named_regions(regions)
    if average is None:
        if votes is None or groups is None:
            raise ValueError("expected `average`, or `votes` with `regions`, got neither")
        average = fuse_average(torch.as_tensor(votes), tuple(groups.values())).numpy()
    names = [f"channel {k}" for k in range(len(prediction))] if groups is None else list(groups)
    for what, array in {"average": average, "truth": truth}.items():
        if array is not None and array.shape != prediction.shape:
            raise ValueError(f"expected {what} of the prediction's shape {prediction.shape}, got {array.shape}")
    if image.shape[1:] != prediction.shape[1:] or len(names) != len(prediction):
        raise ValueError(f"expected a prediction ({len(names)}, {', '.join(map(str, image.shape[1:]))}), got {prediction.shape}")
    if votes is not None and groups is not None:
        majority = fuse_majority(torch.as_tensor(votes), tuple(groups.values())).numpy()
    else:
        majority = (average > 0.5).astype(np.float32)

    # matplotlib is imported late: `import monai_jdt` needs torch and monai only
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    channels = [channel] * len(names) if isinstance(channel, int) else list(channel)
    if len(channels) != len(names) or not all(0 <= c < len(image) for c in channels):
        raise ValueError(f"expected a channel below {len(image)}, or {len(names)} of them, got {channel!r}")
    columns = 4 if truth is None else 5
    width, height = _panel_size(average, prediction, spacing, axis, zoom)
    size = (columns * width + 1.3, len(names) * (height + 0.2) + 1.1)
    # the legend stands in the strip that the layout leaves free below the panels
    strip = 0.35 / size[1]
    figure = Figure(figsize=size, dpi=dpi, layout=ConstrainedLayoutEngine(rect=(0, strip, 1, 1 - strip)))
    grid = figure.subplots(len(names), columns, squeeze=False)
    for k, name in enumerate(names):
        cut = _best_slice(average[k], prediction[k], axis)
        panels = [np.take(a, cut, axis) for a in (image[channels[k]], average[k], prediction[k], majority[k])]
        row = grid[k]
        limits = _window(average, prediction, axis, zoom)
        for panel in row:
            _prepare(panel, spacing, axis, limits)
        slices = image.shape[1 + axis]
        row[0].set_ylabel(f"{name}\nslice {cut + 1} of {slices}" if slices > 1 else name, fontsize=10)
        drawn_votes = None
        if votes is not None and groups is not None:
            drawn_votes = np.isin(np.take(votes, cut, 1 + axis), groups[name])
        drawn_truth = None if truth is None else np.take(truth[k], cut, axis)
        _draw_row(figure, row, panels, drawn_votes, drawn_truth)
        soft = _soft_dice(prediction[k], average[k])
        hard = _soft_dice((prediction[k] > 0.5).astype(np.float32), majority[k])
        row[2].set_xlabel(f"Dice with majority {_number(hard)}", fontsize=9)
        row[3].set_xlabel(f"soft Dice error {_number(1 - soft)}", fontsize=9)
        if truth is not None:
            row[4].set_xlabel(f"soft Dice error to truth {_number(1 - _soft_dice(prediction[k], truth[k]))}", fontsize=9)
    raters = None if votes is None else len(votes)
    titles = [
        "image and raters" if raters else "image",
        "average of the raters" if raters is None else f"average of {raters} rater{'s' if raters > 1 else ''}",
        "predicted probability",
        "prediction − average",
        "true probability",
    ]
    for panel, title in zip(grid[0], titles, strict=False):
        panel.set_title(title, fontsize=11)
    _legend(figure, raters if groups is not None else None)
    scores = [_soft_dice((p > 0.5).astype(np.float32), m) for p, m in zip(prediction, majority, strict=True)]
    defined = [score for score in scores if not np.isnan(score)]
    mean = sum(defined) / len(defined) if defined else float("nan")
    figure.suptitle(f"{case}   mean Dice with the majority {_number(mean)}".strip(), fontsize=13, fontweight="bold")
    return _save_png(figure, os.fspath(path))


def _as_volume(array: np.ndarray) -> np.ndarray:
    array = np.asarray(array)
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4:
        raise ValueError(f"expected arrays (C, X, Y, Z) or (C, X, Y), got shape {array.shape}")
    return array


def _best_slice(average: np.ndarray, prediction: np.ndarray, axis: int) -> int:
    other = tuple(a for a in range(3) if a != axis)
    area = average.sum(axis=other)
    return int(np.argmax(area if area.any() else prediction.sum(axis=other)))


def _window(average: np.ndarray, prediction: np.ndarray, axis: int, zoom: bool) -> list[tuple[float, float]]:
    """First and last voxel to show along the two axes that remain; the same for every row, so that rows compare."""
    shown = np.any((average > 0) | (prediction > 0.5), axis=(0, 1 + axis))
    limits = []
    for along in (0, 1):
        size = shown.shape[along]
        used = np.flatnonzero(np.any(shown, axis=(1 - along,)))
        if not zoom or used.size == 0:
            limits.append((-0.5, size - 0.5))
            continue
        length = used[-1] - used[0] + 1
        # a third of the object around it, and never a keyhole of a few voxels
        margin = max(length / 3, (24 - length) / 2, 4)
        limits.append((max(used[0] - margin, -0.5), min(used[-1] + margin, size - 0.5)))
    return limits


def _panel_size(average: np.ndarray, prediction: np.ndarray, spacing: Sequence[float], axis: int, zoom: bool) -> tuple[float, float]:
    (x0, x1), (y0, y1) = _window(average, prediction, axis, zoom)
    first, second = (s for a, s in enumerate(spacing) if a != axis)
    return 2.6, 2.6 * min(max((y1 - y0) * second / ((x1 - x0) * first), 0.4), 2.0)


def _prepare(panel: Axes, spacing: Sequence[float], axis: int, limits: list[tuple[float, float]]) -> None:
    first, second = (s for a, s in enumerate(spacing) if a != axis)
    panel.set_xticks([])
    panel.set_yticks([])
    panel.set_aspect(second / first)
    panel.set_xlim(*limits[0])
    panel.set_ylim(*limits[1])


def _draw_row(
    figure: Figure,
    row: Sequence[Axes],
    panels: Sequence[np.ndarray],
    votes: np.ndarray | None,
    truth: np.ndarray | None,
) -> None:
    image, average, prediction, majority = panels
    finite = image[np.isfinite(image)]
    low, high = np.percentile(finite, (1, 99.5)) if finite.size else (0.0, 1.0)
    # imshow and contour put the first axis on y: transpose, so that x runs to the right and y up
    plain: dict[str, Any] = {"origin": "lower", "interpolation": "nearest", "aspect": row[0].get_aspect()}
    row[0].imshow(image.T, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), **plain)
    for r, vote in enumerate(() if votes is None else votes):
        _contour(row[0], vote, colors=_RATER_COLOURS[r % len(_RATER_COLOURS)], linewidths=1.3)
    probability = row[1].imshow(average.T, cmap="magma", vmin=0, vmax=1, **plain)
    row[2].imshow(prediction.T, cmap="magma", vmin=0, vmax=1, **plain)
    _contour(row[2], prediction, colors=_PREDICTION_COLOUR, linewidths=1.3)
    _contour(row[2], majority, colors="#56B4E9", linewidths=1.1, linestyles="dashed")
    difference = row[3].imshow((prediction - average).T, cmap="RdBu_r", vmin=-1, vmax=1, **plain)
    if truth is not None:
        row[4].imshow(truth.T, cmap="magma", vmin=0, vmax=1, **plain)
        _contour(row[4], truth, colors=_PREDICTION_COLOUR, linewidths=1.0)
    figure.colorbar(probability, ax=row[2], fraction=0.046, pad=0.02, ticks=[0, 0.5, 1]).ax.tick_params(labelsize=8)
    figure.colorbar(difference, ax=row[3], fraction=0.046, pad=0.02, ticks=[-1, 0, 1]).ax.tick_params(labelsize=8)


def _contour(panel: Axes, values: np.ndarray, **style: Any) -> None:
    values = values.astype(np.float32)
    if min(values.shape) > 1 and values.min() < 0.5 <= values.max():
        panel.contour(values.T, levels=[0.5], **style)


def _legend(figure: Figure, raters: int | None) -> None:
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], color=_RATER_COLOURS[r % len(_RATER_COLOURS)], label=f"rater {r + 1}") for r in range(raters or 0)]
    lines.append(Line2D([], [], color="#999999", label="probability 0.5 (white)"))
    lines.append(Line2D([], [], color="#56B4E9", linestyle="dashed", label="majority of the raters"))
    figure.legend(handles=lines, loc="lower center", ncols=min(len(lines), 8), fontsize=9, frameon=False)


def _soft_dice(prediction: np.ndarray, label: np.ndarray) -> float:
    """`1 - |p - m| / (|p| + |m|)`; NaN where both are empty."""
    total = float(np.sum(prediction, dtype=np.float64) + np.sum(label, dtype=np.float64))
    return float("nan") if total == 0 else 1 - float(np.abs(prediction - label).sum(dtype=np.float64)) / total


def _number(value: float) -> str:
    return "undefined" if np.isnan(value) else f"{value:.3f}"


def _save_png(figure: Figure, path: str) -> str:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    path = user_path(path)
    with whole_file(path) as draft, open(draft, "wb") as file:
        FigureCanvasAgg(figure).print_png(file)
    return path
