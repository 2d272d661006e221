"""The place of everything in a picture of a case, in inches. There is no automatic layout, so that nothing overlaps."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from monai_jdt.report.panels import PROBABILITIES, PanelKind

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_EDGE = 0.15
_GAP = 0.12
_BAR = 0.12
_BAR_ROOM = 0.52  # the bar, its ticks, and the gaps around
_LINE = 0.19  # a line of notes, 9 points
_HEADER = 0.27
_TITLE = 0.25


@dataclass(frozen=True)
class PanelSize:
    """How large the panels are, and how many stand beside each other.

    Args:
        width: inches.
        height: inches.
        in_line: panels in a line.
    """

    width: float
    height: float
    in_line: int


def panel_size(columns: int, ratio: float) -> PanelSize:
    """Choose the size of panels: wide, low images go below each other, so that they are large enough to see.

    Args:
        columns: how many panels a region has.
        ratio: height over width of what is shown, in millimetres.
    """
    ratio = min(max(ratio, 0.05), 4.0)
    if ratio < 0.25:
        return PanelSize(9.0, 9.0 * ratio, 1)
    if ratio < 0.55 and columns > 2:
        return PanelSize(5.0, 5.0 * ratio, 2)
    width = {1: 5.0, 2: 4.6, 3: 3.6}.get(columns, 2.7)
    height = width * ratio
    if height > 1.5 * width:
        # narrow, tall images: never narrower than the words around them
        height = 1.5 * width
        width = max(height / ratio, 2.1)
    return PanelSize(width, height, columns)


@dataclass(frozen=True)
class PlannedPanel:
    """A panel and the place of its lower left corner, in inches from the lower left corner of the picture's body.

    Args:
        region: number of the region.
        kind: what it shows.
        x: inches from the left.
        y: inches from the bottom of the body.
        bar: whether a colour bar stands to its right.
        titled: whether its title stands above it.
    """

    region: int
    kind: PanelKind
    x: float
    y: float
    bar: bool
    titled: bool


@dataclass(frozen=True)
class BodyPlan:
    """The body of a picture: regions below each other, without title and legend.

    Args:
        panels: with their places.
        headers: place of the left end of each region's header.
        width: inches, edges included.
        height: inches.
    """

    panels: tuple[PlannedPanel, ...]
    headers: tuple[tuple[float, float], ...]
    width: float
    height: float


def plan_body(kinds: Sequence[Sequence[PanelKind]], note_lines: Sequence[int], size: PanelSize) -> BodyPlan:
    """Give each panel its place.

    Args:
        kinds: the panels of each region.
        note_lines: for each region, the lines below its panels.
        size: of the panels.
    """
    every: list[PanelKind] = [
        kind for kind in ("image", "raters", "share", "truth", "prediction", "difference") if any(kind in row for row in kinds)
    ]
    lines = [every[start : start + size.in_line] for start in range(0, len(every), size.in_line)]
    panels: list[PlannedPanel] = []
    headers: list[tuple[float, float]] = []
    top = width = 0.0  # heights fall from 0; the body is moved up at the end
    for region, row in enumerate(kinds):
        headers.append((_EDGE, top - _HEADER + 0.06))
        top -= _HEADER
        for line in lines:
            if not any(kind in row for kind in line):
                continue
            titled = region == 0 or len(lines) > 1 or list(row) != list(kinds[0])
            top -= _TITLE if titled else 0.0
            x = _EDGE
            last = [kind for kind in line if kind in PROBABILITIES][-1:]  # one bar for all probabilities of a line
            for kind in line:
                bar = kind == "difference" or kind in last
                if kind in row:
                    panels.append(PlannedPanel(region, kind, x, top - size.height, bar, titled))
                x += size.width + (_BAR_ROOM if bar else _GAP)
            width = max(width, x)
            top -= size.height + note_lines[region] * _LINE + 0.12
    height = -top
    moved = tuple(PlannedPanel(p.region, p.kind, p.x, p.y + height, p.bar, p.titled) for p in panels)
    return BodyPlan(moved, tuple((x, y + height) for x, y in headers), width - _GAP + _EDGE, height)


def add_axes(figure: Figure, x: float, y: float, width: float, height: float) -> Axes:
    """Add axes by inches from the lower left corner of the picture.

    Args:
        figure: the picture, with its final size.
        x: left end.
        y: lower end.
        width: of the axes.
        height: of the axes.
    """
    across, up = figure.get_size_inches()
    return figure.add_axes((x / across, y / up, width / across, height / up))


def add_colour_bar(figure: Figure, shown: Any, ticks: Sequence[float], x: float, y: float, height: float) -> Axes:
    """Add a colour bar to the right of a panel.

    Args:
        figure: the picture.
        shown: the matplotlib image.
        ticks: its values.
        x: right end of the panel, inches.
        y: lower end of the panel.
        height: of the panel; a tall panel has a bar of at most 3 inches.
    """
    length = min(height, 3.0)
    axes = add_axes(figure, x + 0.06, y + (height - length) / 2, _BAR, length)
    figure.colorbar(shown, cax=axes, ticks=list(ticks))
    axes.tick_params(labelsize=8, pad=2)
    return axes


@contextmanager
def quiet_fonts() -> Iterator[None]:
    """Leave out matplotlib's warning for each letter that the font lacks: it is drawn as a box."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def plan_legend(entries: Sequence[Any], width: float, dpi: float) -> tuple[int, float]:
    """Find how many entries of a legend stand in a line, and how high it is.

    Args:
        entries: its lines.
        width: of the picture, inches.
        dpi: of the picture.

    Returns:
        The number of columns, and the height in inches; 0 and 0 for no entries.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    for columns in range(len(entries), 0, -1):
        if -(-len(entries) // (-(-len(entries) // columns))) < columns:
            continue  # as many lines as with fewer columns
        trial = Figure(figsize=(width, 4), dpi=dpi)
        canvas = FigureCanvasAgg(trial)
        with quiet_fonts():
            box = draw_legend(trial, entries, columns, 0.5).get_window_extent(canvas.get_renderer())
        if box.width <= (width - 2 * _EDGE) * dpi or columns == 1:
            return columns, box.height / dpi
    return 0, 0.0


def draw_legend(figure: Figure, entries: Sequence[Any], columns: int, bottom: float) -> Any:
    """Draw the legend.

    Args:
        figure: the picture.
        entries: its lines.
        columns: how many stand in a line.
        bottom: its lower end, inches.
    """
    return figure.legend(
        handles=list(entries),
        loc="lower center",
        bbox_to_anchor=(0.5, bottom / figure.get_size_inches()[1]),
        borderaxespad=0.0,
        ncols=columns,
        fontsize=9,
        frameon=False,
        handlelength=2.6,
        columnspacing=1.4,
    )


def fitted(text: str, size: float, width: float, bold: bool = False) -> str:
    """Return a text that fits a width. The middle of a longer one is left out.

    Args:
        text: one line.
        size: of the letters, points.
        width: inches.
        bold: whether it is set in bold.
    """
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=size, weight="bold" if bold else "normal")

    def fits(line: str) -> bool:
        with quiet_fonts():
            return bool(text_to_path.get_text_width_height_descent(line, font, ismath=False)[0] <= 72 * width)

    if fits(text):
        return text
    least, most = 0, len(text) - 1  # how many letters may stay: the least fits, more than the most do not
    while least < most:
        kept = (least + most + 1) // 2
        if fits(_without_middle(text, kept)):
            least = kept
        else:
            most = kept - 1
    return _without_middle(text, least)


def _without_middle(text: str, kept: int) -> str:
    return text[: (kept + 1) // 2].rstrip() + "…" + text[len(text) - kept // 2 :].lstrip()
