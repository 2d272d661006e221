"""How the pixels of an image become grey or colour: photographs, CT in Hounsfield units, and everything else."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Names of CT windows, and their lowest and highest Hounsfield unit.
CT_WINDOWS: dict[str, tuple[float, float]] = {
    "lung": (-1350.0, 150.0),
    "soft tissue": (-160.0, 240.0),
    "bone": (-500.0, 1300.0),
    "brain": (0.0, 80.0),
}
# Air is -1000 HU, and padding is lower. No other image has whole numbers down there and positive ones too.
_AIR = -900


@dataclass(frozen=True)
class GreyRange:
    """What is black and what is white.

    Args:
        low: the value shown black.
        high: the value shown white.
        note: text for the reader; "" for a range chosen by percentiles.
    """

    low: float
    high: float
    note: str = ""


def is_photograph(image: np.ndarray) -> bool:
    """Return whether a 2D image `(C, X, Y, 1)` has the red, green and blue of a picture file.

    Args:
        image: 3 or 4 channels of whole numbers in [0, 255] are colours (a fourth one is opacity).
    """
    if image.shape[0] not in (3, 4) or image.shape[3] != 1:
        return False
    if image.dtype == np.uint8:
        return True
    some = image[:, :: max(image.shape[1] // 64, 1), :: max(image.shape[2] // 64, 1)]
    return bool(some.min() >= 0 and 1 < some.max() <= 255 and np.array_equal(some, np.round(some)))


def is_hounsfield(channel: np.ndarray) -> bool:
    """Return whether a channel looks like CT: whole numbers with air below -900 HU and something above 0.

    Args:
        channel: intensities of one channel, any shape.
    """
    # fmin ignores NaN
    if channel.size == 0 or not (np.fmin.reduce(channel, axis=None) <= _AIR and np.fmax.reduce(channel, axis=None) > 0):
        return False
    some = channel.ravel()[:: max(channel.size // 4096, 1)]
    some = some[np.isfinite(some)]
    return bool(np.array_equal(some, np.round(some)))


def grey_range(pixels: np.ndarray, window: str | tuple[float, float] | None, ct: bool, around: np.ndarray) -> GreyRange:
    """Choose black and white for a slice.

    Args:
        pixels: the slice as it is shown.
        window: a name of :data:`CT_WINDOWS`, or (low, high); None: for CT the lung window where much of `around` is air,
            else the soft tissue window; for other images the 1st and the 99.5th percentile.
        ct: whether the values are Hounsfield units.
        around: the pixels near what is labelled.
    """
    if window is None and ct:
        window = "lung" if np.mean(around < -500) > 0.3 else "soft tissue"
    if isinstance(window, str):
        low, high = CT_WINDOWS[window]
        return GreyRange(low, high, f"CT, {window} window: {_signed(low)} to {_signed(high)} HU")
    if window is not None:
        low, high = window
        return GreyRange(low, high, f"grey: {_signed(low)} to {_signed(high)}" + (" HU" if ct else ""))
    finite = pixels[np.isfinite(pixels)]
    if finite.size == 0:
        return GreyRange(0.0, 1.0, "no finite value")
    low, high = (float(v) for v in np.percentile(finite, (1, 99.5)))
    if high <= low:
        low, high = float(finite.min()), float(finite.max())
    if high <= low:
        half = max(1.0, abs(low) / 2)  # 1 is lost beside a value of 1e30
        return GreyRange(low - half, low + half, f"every value is {low:g}")
    return GreyRange(low, high)


def _signed(value: float) -> str:
    return f"{value:g}".replace("-", "\N{MINUS SIGN}")
