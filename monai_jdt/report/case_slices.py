"""The slices of a case for the viewer of a page: cropped around what is marked, shrunk to a limit, and packed into text.

A browser draws them on a canvas, without WebGL. The image is one JPEG of all slices. Marks and probabilities are bytes, a bit for each
rater and model and a percentage, and exact but for the shrinking.
"""

from __future__ import annotations

import base64
import io
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from monai_jdt.report.intensities import grey_range, is_hounsfield, is_photograph
from monai_jdt.report.planes import SlicePlane
from monai_jdt.report.regions_shown import block_means, window_around

#: The most slices of a case. Of more, every second (third, ...) is shown.
MOST_SLICES = 64
#: The most bytes of a case, and of all cases of a page: 43 MB as text. Above, blocks of pixels are averaged.
MOST_BYTES, BYTES_OF_PAGE = 2_000_000, 32_000_000
#: Slices shown beyond the first and the last with a mark.
_MARGIN = 2
#: The most channels of an image.
_MOST_CHANNELS = 4
#: Above so many pixels, encoding only to find that it is too much would take seconds.
_MOST_PIXELS = 4_000_000
_JPEG_QUALITY = 85
#: JPEG's blocks: tiles that are not multiples of them would bleed into each other.
_JPEG_BLOCK = 8


@dataclass(frozen=True, eq=False)
class ViewedCase:
    """What the viewer shows of a case, every array with three axes of space.

    Args:
        image: `(C, X, Y, Z)`, or None.
        marks: region to what each rater, and then each model, marked: bool `(X, Y, Z)` each, the same number in every region.
        probabilities: region and model to `(X, Y, Z)`.
        plane: the cut.
    """

    image: np.ndarray | None
    marks: Mapping[str, Sequence[np.ndarray]]
    probabilities: Mapping[str, Mapping[str, np.ndarray]]
    plane: SlicePlane


def packed_slices(case: ViewedCase, most_bytes: int = MOST_BYTES) -> dict[str, Any]:
    """Return a case for the viewer.

    Args:
        case: the arrays.
        most_bytes: the limit of the packed data, before they become text.

    Returns:
        What JSON can hold. `size`: rows and columns. `numbers`: of the slices, from 1. `of`: how many the volume has. `pixel`: height
        and width, mm. `open`: the slice where most is marked. `shrunk`: voxels of a pixel along an axis. `tiles`: how many stand in a
        row, height and width of one. `images`, `marks`, `probabilities`: base64. `notes`: sentences.
    """
    union: np.ndarray = np.zeros(next(iter(case.marks.values()))[0].shape, bool)
    for masks in case.marks.values():
        for mask in masks:
            union |= mask
    depth = int(union.shape[case.plane.axis])
    window = window_around(case.plane.turned(np.asarray(union.any(axis=case.plane.axis))), case.plane)
    indices, best = _chosen_slices(union.sum(axis=tuple(a for a in range(3) if a != case.plane.axis)))

    def cut(volume: np.ndarray) -> np.ndarray:
        """Return rows, columns and slices of a volume. Further axes stay last."""
        return case.plane.turned(np.moveaxis(volume, case.plane.axis, 2)[:, :, indices])[window]

    images, colours, note = _grey_images(case.image, cut, cut(union))
    rows, columns = (ends.stop - ends.start for ends in window)
    factor = max(math.ceil(math.sqrt(rows * columns * len(indices) / _MOST_PIXELS)), 1)
    while True:
        found, size = _packed(images, case, cut, factor)
        if size <= most_bytes or factor >= min(rows, columns):
            break
        factor = min(max(factor + 1, math.floor(factor * math.sqrt(size / most_bytes))), min(rows, columns))
    step = int(indices[1] - indices[0]) if len(indices) > 1 else 1
    notes = [note] if note else []
    if step > 1:
        notes.append(f"1 of {step} slices is shown")
    if factor > 1:
        notes.append(f"{factor} \u00d7 {factor} voxels are one pixel, and a mark is shown where it fills at least half of them")
    if case.image is None:
        notes.append("no image")
    elif len(case.image) > _MOST_CHANNELS and not colours:
        notes.append(f"{len(case.image)} channels, the first {_MOST_CHANNELS} are shown")
    return {
        **found,
        "numbers": [int(index) + 1 for index in indices],
        "of": depth,
        "open": best,
        "pixel": [edge * factor for edge in case.plane.spacing],
        "shrunk": factor,
        "plane": case.plane.name,
        "letters": case.plane.letters,
        "notes": notes,
    }


def _chosen_slices(marked: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the slices to show, and which of them has the most marked voxels."""
    used = np.flatnonzero(marked)
    low, high = (max(int(used[0]) - _MARGIN, 0), min(int(used[-1]) + _MARGIN + 1, len(marked))) if len(used) else (0, len(marked))
    step = -(-(high - low) // MOST_SLICES)
    best = int(np.argmax(marked)) if len(used) else (low + high) // 2
    indices = np.arange(low + (best - low) % step, high, step)
    return indices, int(np.flatnonzero(indices == best)[0])


def _grey_images(image: np.ndarray | None, cut: Any, marked: np.ndarray) -> tuple[list[np.ndarray], bool, str]:
    """Return images as bytes `(rows, columns, slices)`, a photograph's colours last, whether it is one, and a note on the greys."""
    if image is None:
        return [], False, ""
    if is_photograph(image):
        return [cut(np.moveaxis(image[:3], 0, -1)).clip(0, 255).astype(np.uint8)], True, ""
    found, note = [], ""
    for channel in image[:_MOST_CHANNELS]:
        pixels = cut(channel).astype(np.float32)
        grey = grey_range(pixels, None, is_hounsfield(channel), pixels[marked] if marked.any() else pixels)
        note = note or grey.note
        scaled = (np.nan_to_num(pixels, nan=grey.low, posinf=grey.high, neginf=grey.low) - grey.low) / (grey.high - grey.low)
        found.append((255 * scaled.clip(0, 1)).round().astype(np.uint8))
    return found, False, note


def _packed(images: Sequence[np.ndarray], case: ViewedCase, cut: Any, factor: int) -> tuple[dict[str, Any], int]:
    """Return the packed arrays of a case, shrunk by a factor, and their bytes."""
    tiles = [_jpeg_of(block_means(pixels, factor)) for pixels in images]
    marks, size = {}, (0, 0)
    for region, masks in case.marks.items():
        shown = [block_means(cut(mask), factor) >= 0.5 for mask in masks]
        size = shown[0].shape[:2]
        planes = [
            sum((mask.astype(np.uint8) << bit for bit, mask in enumerate(shown[start : start + 8])), np.zeros(shown[0].shape, np.uint8))
            for start in range(0, len(shown), 8)
        ]
        marks[region] = _deflated(np.stack(planes))
    percent = {
        region: {
            model: _deflated((100 * block_means(cut(prob), factor)).round().astype(np.uint8)[None]) for model, prob in models.items()
        }
        for region, models in case.probabilities.items()
    }
    everything = [data for data, *_ in tiles] + list(marks.values()) + [data for models in percent.values() for data in models.values()]
    found = {
        "size": [int(n) for n in size],
        "tiles": tiles[0][1:] if tiles else None,
        "images": [_as_base64(data) for data, *_ in tiles],
        "marks": {region: _as_base64(data) for region, data in marks.items()},
        "probabilities": {region: {model: _as_base64(data) for model, data in models.items()} for region, models in percent.items()},
    }
    return found, sum(map(len, everything))


def _deflated(planes: np.ndarray) -> bytes:
    """Compress `(planes, rows, columns, slices)` in the order plane, slice, row, column."""
    return zlib.compress(np.ascontiguousarray(planes.transpose(0, 3, 1, 2)).tobytes(), 9)


def _as_base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _jpeg_of(pixels: np.ndarray) -> tuple[bytes, int, int, int]:
    """Return slices as tiles of one picture, tiles in a row, and the height and width of a tile."""
    from PIL import Image

    pixels = np.moveaxis(pixels, 2, 0)
    count, rows, columns = pixels.shape[:3]
    height, width = (-(-n // _JPEG_BLOCK) * _JPEG_BLOCK for n in (rows, columns))
    across = max(round(math.sqrt(count * height / width)), 1)
    down = -(-count // across)
    # repeated edges cost JPEG fewer bytes than a step to black
    padded = np.pad(pixels, [(0, 0), (0, height - rows), (0, width - columns), *[(0, 0)] * (pixels.ndim - 3)], "edge")
    sheet = np.zeros((down * height, across * width, *pixels.shape[3:]), np.uint8)
    for number, tile in enumerate(padded.round().clip(0, 255).astype(np.uint8) if padded.dtype != np.uint8 else padded):
        top, left = number // across * height, number % across * width
        sheet[top : top + height, left : left + width] = tile
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    return buffer.getvalue(), across, height, width
