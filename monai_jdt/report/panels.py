"""The panels of a region: which there are, and how each is drawn on its axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from monai_jdt.report.colours import DIFFERENCE_MAP, MAJORITY_STYLE, PREDICTION_STYLE, PROBABILITY_MAP, rater_style
from monai_jdt.report.intensities import GreyRange
from monai_jdt.report.planes import SlicePlane
from monai_jdt.report.regions_shown import RegionNumbers, RegionPictures, shrunk

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PanelKind = Literal["image", "raters", "share", "truth", "prediction", "difference"]
#: Panels that show a probability from 0 to 1, and so have one colour bar.
PROBABILITIES: tuple[PanelKind, ...] = ("share", "truth", "prediction")


@dataclass(frozen=True)
class PanelWords:
    """What the titles call the label.

    Args:
        raters: how many raters drew it; None where only their average is known.
        predicted: whether there is a prediction.
        true: whether there is a true probability.
    """

    raters: int | None
    predicted: bool
    true: bool

    def title(self, kind: PanelKind) -> str:
        """Return the title of a panel."""
        single = self.raters == 1
        return {
            "image": "image",
            "raters": "image" if self.raters is None else "image and rater" if single else "image and raters",
            "share": "average of the raters" if self.raters is None else f"average of {self.raters} raters",
            "truth": "true probability",
            "prediction": "predicted probability",
            "difference": "prediction − rater" if single else "prediction − average",
        }[kind]


def panels_of(region: RegionNumbers, words: PanelWords) -> list[PanelKind]:
    """Choose the panels of a region, without those that would show nothing.

    Args:
        region: the region.
        words: how many raters there are, and whether there are a prediction and a truth.
    """
    marked = region.labelled
    kinds: list[PanelKind] = [] if words.predicted else ["image"]
    # beside a prediction the image itself would be one panel too many
    if words.predicted or (marked and words.raters is not None):
        kinds.append("raters")
    if marked and words.raters != 1:
        kinds.append("share")
    if words.true:
        kinds.append("truth")
    if words.predicted:
        kinds.append("prediction")
        if marked:
            kinds.append("difference")
    return kinds


def notes_of(kind: PanelKind, region: RegionNumbers, words: PanelWords, grey: GreyRange | None) -> list[str]:
    """Return the lines below a panel.

    Args:
        kind: of the panel.
        region: gives the numbers; one that is not defined is left out.
        words: as in :func:`panels_of`.
        grey: the image's range, for panels with the image.
    """
    first = panels_of(region, words)[0]
    lines = []
    if kind == first:
        if grey is not None and grey.note:
            lines.append(grey.note)
        if words.raters is not None and not region.labelled:
            lines.append("the rater did not mark it" if words.raters == 1 else "no rater marked it")
    if kind == "raters" and not np.isnan(region.pair_dice):
        lines.append(f"mean Dice of two raters {region.pair_dice:.2f}")
    if kind == "prediction" and not np.isnan(region.dice):
        label = "rater" if words.raters == 1 else "majority"
        lines.append(f"Dice with the {label} {region.dice:.2f}")
    if kind == "prediction" and not region.footprint.any():
        lines.append("nothing above 0.5")
    if kind == "difference" and not np.isnan(region.difference):
        lines.append(f"mean |difference| {region.difference:.2f}*")
    if kind == "truth" and not np.isnan(region.truth_difference):
        what = "prediction" if words.predicted else "average"
        lines.append(f"{what}: mean |difference| {region.truth_difference:.2f}*")
    return lines


def draw_panel(
    axes: Axes, kind: PanelKind, region: RegionPictures, image: np.ndarray, grey: GreyRange | None, plane: SlicePlane
) -> Any:
    """Draw one panel.

    Args:
        axes: where.
        kind: what.
        region: the region's pixels.
        image: the image's pixels, `(H, W)`, or `(H, W, 3)` in [0, 255].
        grey: what is black and white; None for colours.
        plane: gives the voxel sizes.

    Returns:
        The matplotlib image, which a colour bar needs.
    """
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_facecolor("#B0B0B0")  # where the image is NaN

    def show(pixels: np.ndarray, **how: Any) -> Any:
        aspect = plane.spacing[0] / plane.spacing[1]
        return axes.imshow(pixels, interpolation="antialiased", interpolation_stage="data", aspect=aspect, **how)

    if kind in ("image", "raters"):
        if grey is None:
            shown = show(np.clip(image, 0, 255) / np.float32(255))
        else:
            shown = show(image, cmap="gray", vmin=grey.low, vmax=grey.high)
        if kind == "raters":
            for rater, marked in enumerate(region.marked):
                _contour(axes, marked, rater_style(rater, len(region.marked)), outlined=False)
        return shown
    if kind == "difference":
        assert region.prediction is not None
        assert region.share is not None
        return show(region.prediction - region.share, cmap=DIFFERENCE_MAP, vmin=-1, vmax=1)
    pixels = {"share": region.share, "truth": region.truth, "prediction": region.prediction}[kind]
    assert pixels is not None
    shown = show(pixels, cmap=PROBABILITY_MAP, vmin=0, vmax=1)
    if kind == "prediction":
        _contour(axes, pixels, PREDICTION_STYLE, outlined=True)
        if region.majority is not None:
            _contour(axes, region.majority, MAJORITY_STYLE, outlined=True)
    return shown


def draw_letters(axes: Axes, letters: str) -> None:
    """Write what lies at the left, right, top and bottom edge of a panel, e.g. "RLAP"."""
    places = (
        (0.02, 0.5, "left", "center"),
        (0.98, 0.5, "right", "center"),
        (0.5, 0.98, "center", "top"),
        (0.5, 0.02, "center", "bottom"),
    )
    for letter, (x, y, across, up) in zip(letters, places, strict=False):
        text = axes.text(x, y, letter, transform=axes.transAxes, ha=across, va=up, fontsize=8, color="white", fontweight="bold")
        text.set_path_effects([outline(1.5)])


def outline(width: float) -> Any:
    """Return a path effect: a black rim of `width` points, so that white and bright lines are visible on any ground."""
    from matplotlib.patheffects import withStroke

    return withStroke(linewidth=width, foreground="black")


def _contour(axes: Axes, values: np.ndarray, style: dict[str, Any], outlined: bool) -> None:
    limits = axes.get_xlim(), axes.get_ylim()
    exact = 1
    if values.dtype == bool:
        # a mask's contour runs along the edges of its pixels: it would cut their corners
        exact = max(min(400 // max(values.shape), 6), 1)
        values = np.repeat(np.repeat(values, exact, 0), exact, 1)
    # a rim of zeros closes the contour of what reaches the edge
    values = np.pad(shrunk(values.astype(np.float32)), 1)
    if values.max() < 0.5:
        return
    across, down = ((np.arange(n) - 0.5) / exact - 0.5 for n in (values.shape[1], values.shape[0]))
    # thin lines on large images, whose structures are thin as well
    width = style["linewidth"] * min(max(300 / max(values.shape) * exact, 0.6), 1.0)
    lines = axes.contour(
        across, down, values, levels=[0.5], colors=[style["color"]], linestyles=[style["linestyle"]], linewidths=[width]
    )
    axes.set(xlim=limits[0], ylim=limits[1])
    if outlined:
        lines.set_path_effects([outline(width + 1.2)])


def legend_lines(names: Sequence[str], regions: Sequence[RegionNumbers], kinds: Sequence[PanelKind]) -> list[Any]:
    """Return the entries of the legend: what is drawn, as it is drawn.

    Args:
        names: the raters' names.
        regions: what is drawn; a rater who marked nothing anywhere is called empty.
        kinds: the panels that there are.
    """
    from matplotlib.lines import Line2D

    entries = []
    if "raters" in kinds:
        styles = [rater_style(r, len(names)) for r in range(len(names))]
        if len({style["color"] for style in styles}) < len(names):
            entries.append(Line2D([], [], **styles[0], label=f"each of {len(names)} raters"))
        else:
            for r, (name, style) in enumerate(zip(names, styles, strict=True)):
                absent = all(region.empty[r] for region in regions)
                entries.append(Line2D([], [], **style, label=f"{name} (marked nothing)" if absent else name))
    if "prediction" in kinds:
        entries.append(Line2D([], [], **PREDICTION_STYLE, label="predicted probability 0.5"))
        entries[-1].set_path_effects([outline(PREDICTION_STYLE["linewidth"] + 1.2)])
    if "prediction" in kinds and any(region.labelled for region in regions):
        label = "the rater's label" if len(names) == 1 else "majority of the raters"
        entries.append(Line2D([], [], **MAJORITY_STYLE, label=label))
        entries[-1].set_path_effects([outline(MAJORITY_STYLE["linewidth"] + 1.2)])
    return entries
