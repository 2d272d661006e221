"""Label values in pictures: as the indices of a palette, which viewers show in colours and readers find as they are."""

from __future__ import annotations

import os

import numpy as np

from monai_jdt.data.files.file_volume import one_problem

#: The largest index of a palette.
LARGEST_INDEX = 255


def write_palette_picture(path: str | os.PathLike[str], values: np.ndarray) -> None:
    """Write a map of label values as a PNG with a palette, in which 0 is black, and 1 white if there is no other value.

    Args:
        path: the file.
        values: whole numbers from 0 to 255, `(x, y)`, with any number of axes of length 1 after these. A picture's rows are the
            second axis.

    Raises:
        DataProblemError: other numbers, or more axes.
    """
    import matplotlib as mpl
    from PIL import Image

    path = os.fspath(path)
    if values.ndim < 2 or any(edge != 1 for edge in values.shape[2:]):
        raise one_problem(path, "one map of a flat image in a PNG", f"shape {values.shape}", "name a .nii.gz file")
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    if values.dtype.kind not in "iub" or low < 0 or high > LARGEST_INDEX:
        got = f"{low} to {high}" if values.dtype.kind in "iub" else f"numbers of type {values.dtype}"
        raise one_problem(path, f"label values from 0 to {LARGEST_INDEX} in a PNG", got, "name a .nii.gz file")
    picture = Image.fromarray(np.ascontiguousarray(values.reshape(values.shape[:2]).T.astype(np.uint8)), mode="P")
    colours = [(0, 0, 0), (255, 255, 255)] if high < 2 else [(0, 0, 0)]
    ring = [tuple(round(255 * band) for band in colour[:3]) for colour in mpl.colormaps["tab10"].colors]  # type: ignore[attr-defined]
    colours += [ring[(value - 1) % len(ring)] for value in range(len(colours), LARGEST_INDEX + 1)]
    picture.putpalette([band for colour in colours for band in colour])
    picture.save(path, format="PNG")


def is_palette_picture(path: str | os.PathLike[str]) -> bool:
    """Return whether a picture's numbers are the indices of a palette, and so no intensities.

    Args:
        path: a file that :func:`monai_jdt.data.files.volumes.open_volume` has opened as a picture.
    """
    from PIL import Image

    with Image.open(path) as picture:
        return bool(picture.mode == "P")
