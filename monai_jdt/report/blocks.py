"""The blocks of a picture, one for each region: its numbers, pixels, panels, and the lines below them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from monai_jdt.report.intensities import GreyRange, grey_range, is_hounsfield
from monai_jdt.report.panels import PanelKind, PanelWords, notes_of, panels_of
from monai_jdt.report.planes import SlicePlane
from monai_jdt.report.regions_shown import (
    CaseArrays,
    RegionNumbers,
    RegionPictures,
    region_numbers,
    region_pictures,
    shown_window,
    shrunk,
)


@dataclass(frozen=True, eq=False)
class RegionBlock:
    """One region as it is drawn.

    Args:
        numbers: of the whole case.
        pictures: pixels of the panels.
        image: pixels of the image, `(H, W)`, or `(H, W, 3)` of a photograph.
        grey: what is black and white; None for colours.
        notes: the panels from left to right, each with the lines below it.
        size: height and width of what is shown, mm.
    """

    numbers: RegionNumbers
    pictures: RegionPictures
    image: np.ndarray
    grey: GreyRange | None
    notes: dict[PanelKind, list[str]]
    size: tuple[float, float]


def region_blocks(
    arrays: CaseArrays,
    plane: SlicePlane,
    words: PanelWords,
    channels: Sequence[int | None],
    window: str | tuple[float, float] | None,
    zoom: bool,
) -> list[RegionBlock]:
    """Make the blocks of a case. All show the same rows and columns, so that regions can be compared.

    Args:
        arrays: the case.
        plane: the cut.
        words: whether there are raters, a prediction and a truth.
        channels: the image channel of each region; None for the colours of a photograph.
        window: as in :func:`monai_jdt.report.intensities.grey_range`.
        zoom: whether to show the surroundings of what is marked instead of whole slices.
    """
    every = _without_repeats([region_numbers(arrays, plane, k) for k in range(len(arrays.regions))], arrays)
    view, near = shown_window(every, plane, zoom), shown_window(every, plane, zoom=True)
    height, width = ((ends.stop - ends.start) * step for ends, step in zip(view, plane.spacing, strict=True))
    blocks = []
    for k, numbers in enumerate(every):
        pixels = _image_slice(arrays.image, plane, numbers.cut, channels[k])
        grey = None
        if (channel := channels[k]) is not None:
            grey = grey_range(shrunk(pixels[view]), window, is_hounsfield(arrays.image[channel]), shrunk(pixels[near]))
        notes = {kind: notes_of(kind, numbers, words, grey) for kind in panels_of(numbers, words)}
        pictures = region_pictures(arrays, plane, numbers, k, view)
        blocks.append(RegionBlock(numbers, pictures, shrunk(pixels[view]), grey, notes, (height, width)))
    return blocks


def _image_slice(image: np.ndarray, plane: SlicePlane, cut: int, channel: int | None) -> np.ndarray:
    if channel is None:
        return plane.slice_of(np.moveaxis(image[:3], 0, -1), cut)
    return plane.slice_of(image[channel], cut)


def _without_repeats(every: list[RegionNumbers], arrays: CaseArrays) -> list[RegionNumbers]:
    """Join the regions of a case with neither a prediction nor a mark in any region: each block would show the image alone."""
    if arrays.prediction is not None or arrays.truth is not None or any(region.labelled for region in every):
        return every
    return [replace(every[0], name=", ".join(region.name for region in every))]
