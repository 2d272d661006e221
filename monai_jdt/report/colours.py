"""Colours and line styles: each rater has its own of both, and so have the prediction and the majority."""

from __future__ import annotations

from typing import Any

# Okabe and Ito's palette without black and white: colour-blind readers can distinguish it, and it is visible on grey.
_PALETTE = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#D55E00", "#CC79A7", "#0072B2")
# Each round of the palette has a tint and a line style of its own: (mixed with, share of it, dashes).
_ROUNDS: tuple[tuple[str, float, Any], ...] = (
    ("#FFFFFF", 0.0, "solid"),
    ("#FFFFFF", 0.55, (0, (4, 1.5))),
    ("#000000", 0.45, (0, (1, 1))),
)

#: The most raters that have a style of their own.
STYLED_RATERS = len(_PALETTE) * len(_ROUNDS)
#: One style for all raters where there are more than :data:`STYLED_RATERS`.
CROWD_STYLE: dict[str, Any] = {"color": "#E69F00", "linestyle": "solid", "linewidth": 0.6}
#: The contour of the prediction at 0.5, and that of the raters' majority. Both stand on dark and on bright pixels.
PREDICTION_STYLE: dict[str, Any] = {"color": "#FFFFFF", "linestyle": "solid", "linewidth": 1.5}
MAJORITY_STYLE: dict[str, Any] = {"color": "#39FF14", "linestyle": (0, (3, 2)), "linewidth": 1.5}
#: Colours of the models in charts on white, the first one's first. Okabe and Ito's palette without what is too pale there.
MODEL_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
#: Colour maps of probabilities (0 to 1) and of differences (-1 to 1).
PROBABILITY_MAP = "magma"
DIFFERENCE_MAP = "RdBu_r"


def rater_style(rater: int, raters: int) -> dict[str, Any]:
    """Return the colour, line style and width of a rater's contour.

    Args:
        rater: number of the rater, from 0.
        raters: how many raters the case has.

    Returns:
        Arguments of a matplotlib line. Up to :data:`STYLED_RATERS` raters no two have the same colour; every seventh has
        another line style. Beyond, all have :data:`CROWD_STYLE`.

    Example:
        >>> rater_style(0, 3)["color"], rater_style(7, 9)["color"]
        ('#E69F00', '#F4D48C')
    """
    if raters > STYLED_RATERS:
        return CROWD_STYLE
    tint, share, dashes = _ROUNDS[rater // len(_PALETTE)]
    # few raters: the first ones have wider lines, so that contours which coincide stay visible side by side
    width = 1.2 if raters > 6 else 1.2 + 0.5 * (raters - 1 - rater)
    return {"color": _mixed(_PALETTE[rater % len(_PALETTE)], tint, share), "linestyle": dashes, "linewidth": width}


def _mixed(colour: str, other: str, share: float) -> str:
    parts = [(int(colour[i : i + 2], 16), int(other[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(a + share * (b - a)):02X}" for a, b in parts)
