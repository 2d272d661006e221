"""Masks whose mark is a grey value or a colour: they become label maps of 0 and 1."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from monai_jdt.data.files.file_volume import FileVolume, one_problem
from monai_jdt.data.files.label_values import first_as_text
from monai_jdt.data.files.voxel_blocks import blocks_of_array
from monai_jdt.data.problems import DataProblem
from monai_jdt.validation import error_sentence

#: The value of what a rater marked: a number, or a colour as "#rrggbb".
Foreground = int | str

_COLOUR = re.compile(r"#[0-9a-f]{6}\Z")
# More colours are a photograph, or a drawing with soft edges, whose pixels would be lost in silence.
_MOST_COLOURS = 64
_FIX = "name the value of what the rater marked, or None if the files hold label values"


def checked_foreground(given: Any, where: str = "foreground") -> Foreground | None:
    """Return a foreground in its one spelling.

    Args:
        given: a whole number such as 255 or 0, or a colour: "#ff0000", "255,0,0", or three numbers from 0 to 255. None: none.
        where: the argument, for the error.

    Raises:
        ValueError: anything else.

    Example:
        >>> checked_foreground("255"), checked_foreground([255, 0, 0]), checked_foreground("#FF0000")
        (255, '#ff0000', '#ff0000')
    """
    if given is None or (isinstance(given, int) and not isinstance(given, bool)):
        return given
    if isinstance(given, str) and _COLOUR.match(given.strip().lower()):
        return given.strip().lower()
    parts = given.split(",") if isinstance(given, str) else given
    try:
        numbers = [int(part) for part in parts]
        same = not isinstance(parts, str) and all(isinstance(part, str) or part == int(part) for part in parts)
    except (TypeError, ValueError, OverflowError):
        numbers, same = [], False
    if same and len(numbers) == 3 and all(0 <= number <= 255 for number in numbers):
        return "#" + "".join(f"{number:02x}" for number in numbers)
    if same and len(numbers) == 1:
        return numbers[0]
    raise ValueError(error_sentence(where, "a whole number, or a colour such as '#ff0000' or '255,0,0'", repr(given), _FIX))


def foreground_volume(volume: FileVolume, foreground: Foreground) -> FileVolume:
    """Return the mask of a file as a volume of 1 where it has the foreground, and 0 elsewhere.

    A grey mask has at most one other value. In a file of bits, 255 means 1. A drawing in colours may have other colours, which are
    background. One that has others alone is legal, since its class may be missing in a case, but the volume warns of it.

    Args:
        volume: one value per voxel, as :func:`monai_jdt.data.files.volumes.label_volume` returns it; for a colour the picture itself.
        foreground: as :func:`checked_foreground` returns it.

    Raises:
        DataProblemError: a colour, and a file without colours or with too many. When its voxels are read: other values than two.
    """
    if isinstance(foreground, str):
        mask, warnings = _colour_mask(volume, foreground)
        return FileVolume(
            volume.path, mask.shape, volume.affine, 0, volume.format, lambda: blocks_of_array(mask), lambda: mask, warnings
        )

    def stream() -> Iterator[np.ndarray]:
        seen = _TwoValues(volume.path, foreground)
        for block in volume.stream():
            yield seen.mask(block)
        seen.check()

    def load() -> np.ndarray:
        return foreground_mask(volume.load(), foreground, volume.path)

    return FileVolume(volume.path, volume.shape, volume.affine, 0, volume.format, stream, load, volume.warnings)


def foreground_mask(values: np.ndarray, foreground: int, path: str) -> np.ndarray:
    """Return 1 where a grey mask has the foreground, and 0 elsewhere.

    Args:
        values: any shape, one value per voxel.
        foreground: the value of the mark.
        path: the file, for the error.

    Raises:
        DataProblemError: more than two values, or two values of which none is the foreground.

    Example:
        >>> foreground_mask(np.array([0, 255, 255]), 0, "a.png").tolist()
        [1, 0, 0]
    """
    seen = _TwoValues(path, foreground)
    mask = seen.mask(values)
    seen.check()
    return mask


class _TwoValues:
    """Makes the blocks of one file a mask, and checks that the file has no third value."""

    def __init__(self, path: str, foreground: int) -> None:
        self._path, self._foreground = path, foreground
        self._others: set[float] = set()
        self._found = False

    def mask(self, block: np.ndarray) -> np.ndarray:
        # a file of bits holds 0 and 1, whatever a viewer shows
        target = int(self._foreground != 0) if block.dtype.kind == "b" else self._foreground
        mask = np.asarray(block == target)
        rest = block[~mask]
        self._found |= bool(mask.any())
        if rest.size:
            self._others.update((rest.min().item(), rest.max().item()))
        if len(self._others) > 1:
            self._refuse()
        return mask.view(np.uint8)

    def check(self) -> None:
        if len(self._others) > 1:
            self._refuse()

    def _refuse(self) -> None:
        others = first_as_text(np.array(sorted(self._others)))
        held = f"{self._foreground}, and also {others}" if self._found else f"{others}, without {self._foreground}"
        raise one_problem(self._path, f"a mask of the foreground {self._foreground} and one other value", held, _FIX)


def _colour_mask(volume: FileVolume, foreground: str) -> tuple[np.ndarray, tuple[DataProblem, ...]]:
    colours = volume.read()
    if volume.components not in (3, 4):
        got = f"one value per pixel (shape {volume.shape})" if not volume.components else f"{volume.components} numbers per pixel"
        raise one_problem(volume.path, f"a picture in colours, of which {foreground} is the mark", got, "name the grey value instead")
    bands = [colours[..., band].astype(np.uint32) for band in range(3)]
    packed = (bands[0] << 16) | (bands[1] << 8) | bands[2]
    found = np.unique(packed)
    if found.size > _MOST_COLOURS:
        fix = "export the mask without smoothing, as PNG"
        raise one_problem(volume.path, f"a drawing in at most {_MOST_COLOURS} colours", f"{found.size} colours", fix)
    mask = packed == int(foreground[1:], 16)
    warnings = volume.warnings
    # one colour is a background on which the rater marked nothing
    if found.size > 1 and not mask.any():
        got = "none, but " + ", ".join(f"#{colour:06x}" for colour in found[:8]) + (", ..." if found.size > 8 else "")
        fix = "correct the foreground, if it is another colour"
        warnings += (DataProblem(volume.path, f"a pixel in the foreground {foreground}", got, fix, fatal=False),)
    return mask.view(np.uint8), warnings
