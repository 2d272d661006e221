"""Slices for the viewer: unpacked by another program, they are the arrays that went in; limits hold, and notes say what was done."""

from __future__ import annotations

import base64
import io
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from monai_jdt.report.case_slices import MOST_SLICES, ViewedCase, packed_slices
from monai_jdt.report.planes import slice_plane

SHAPE = (60, 50, 40)


def inflated(packed: dict[str, Any], text: str) -> np.ndarray:
    """Planes, slices, rows, columns."""
    values = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
    return values.reshape(-1, len(packed["numbers"]), *packed["size"])


def tiles_of(packed: dict[str, Any], number: int = 0) -> np.ndarray:
    """Slices, rows, columns of an image."""
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(packed["images"][number]))))
    across, height, width = packed["tiles"]
    rows, columns = packed["size"]
    places = [(n // across * height, n % across * width) for n in range(len(packed["numbers"]))]
    return np.stack([sheet[top : top + rows, left : left + columns] for top, left in places])


def case_of(raters: int = 10, channels: int = 1) -> ViewedCase:
    """Rater r marks a box of 10 + r rows, 12 columns and 6 slices; slice 14 has a voxel more. The image rises along x."""
    marks = []
    for rater in range(raters):
        mask = np.zeros(SHAPE, bool)
        mask[20 : 30 + rater, 22:34, 12:18] = True
        mask[20, 34, 13] = True
        marks.append(mask)
    image = np.broadcast_to(np.arange(SHAPE[0], dtype=np.float32)[:, None, None], (channels, *SHAPE))
    prob = np.where(marks[0], np.float32(0.734), np.float32(0.002))
    return ViewedCase(image, {"cord": marks}, {"cord": {"net": prob}}, slice_plane(None, 2))


def test_marks_and_probabilities_are_exact() -> None:
    case = case_of()
    packed = packed_slices(case)
    # two slices beyond the first and the last with a mark, counted from 1
    assert packed["numbers"] == list(range(11, 21))
    assert (packed["of"], packed["open"], packed["shrunk"], packed["notes"]) == (40, 3, 1, [])
    planes = inflated(packed, packed["marks"]["cord"])
    assert len(planes) == 2  # ten raters in bytes of eight
    for rater, mask in enumerate(case.marks["cord"]):
        found = (planes[rater // 8] >> rater % 8) & 1
        assert found.sum() == mask.sum()  # nothing is cropped
        # without an affine the first axis runs to the right
        assert np.flatnonzero(found[3].any(axis=0)).size == 10 + rater
        assert np.flatnonzero(found[4].any(axis=1)).size == 12
    percent = inflated(packed, packed["probabilities"]["cord"]["net"])[0]
    assert set(np.unique(percent)) == {0, 73}
    assert np.array_equal(percent == 73, planes[0] & 1)


def test_the_image_lies_under_its_marks() -> None:
    case = case_of(1)
    packed = packed_slices(replace(case, image=np.asarray(100.0 * case.marks["cord"][0][None], np.float32)))
    bright = tiles_of(packed).astype(int) > 127
    marked = inflated(packed, packed["marks"]["cord"])[0] > 0
    assert (bright != marked).mean() < 0.002  # the single voxel is blurred by JPEG


def test_the_affine_turns_slices_as_radiologists_look_at_them() -> None:
    case = replace(case_of(1), plane=slice_plane(np.diag([1.0, 1.0, 3.0, 1.0]), 2))
    packed = packed_slices(case)
    assert (packed["letters"], packed["plane"], packed["pixel"]) == ("RLAP", "axial", [1.0, 1.0])
    image = tiles_of(packed)[0].astype(float)
    assert image[:, 0].mean() > image[:, -1].mean()  # x rises to the patient's left, which is on the right


def test_long_volumes_are_thinned_around_the_largest_slice() -> None:
    mask = np.zeros((20, 20, 300), bool)
    mask[5:10, 5:10, 10:290] = True
    mask[5:11, 5:10, 171] = True
    packed = packed_slices(ViewedCase(None, {"cord": [mask]}, {}, slice_plane(None, 2)))
    assert len(packed["numbers"]) <= MOST_SLICES
    assert packed["numbers"][packed["open"]] == 172
    assert set(np.diff(packed["numbers"])) == {5}
    assert packed["notes"] == ["1 of 5 slices is shown", "no image"]


def test_large_cases_are_shrunk_below_the_limit() -> None:
    case = case_of(2)
    noise = np.random.default_rng(0).normal(size=(1, *SHAPE)).astype(np.float32)
    whole = packed_slices(replace(case, image=noise))
    small = packed_slices(replace(case, image=noise), most_bytes=3000)
    assert whole["shrunk"] == 1
    assert small["shrunk"] > 1
    assert small["size"][0] == whole["size"][0] // small["shrunk"]
    assert small["pixel"] == [float(small["shrunk"])] * 2
    assert sum(len(base64.b64decode(text)) for text in (*small["images"], small["marks"]["cord"])) <= 3000
    assert f"{small['shrunk']} \u00d7 {small['shrunk']} voxels are one pixel" in small["notes"][0]


def test_nothing_marked_shows_everything() -> None:
    empty = np.zeros((30, 20, 5), bool)
    packed = packed_slices(ViewedCase(None, {"cord": [empty]}, {}, slice_plane(None, 2)))
    assert (packed["size"], packed["numbers"], packed["open"]) == ([20, 30], [1, 2, 3, 4, 5], 2)


@pytest.mark.parametrize(("dtype", "colours"), [(np.uint8, True), (np.float32, False)])
def test_photographs_keep_their_colours(dtype: type, colours: bool) -> None:
    image: np.ndarray = np.zeros((3, 24, 16, 1), dtype)
    image[0] = 200 if colours else 0.5
    mask = np.ones((24, 16, 1), bool)
    packed = packed_slices(ViewedCase(image, {"vessel": [mask]}, {}, slice_plane(None, 2)))
    assert len(packed["images"]) == (1 if colours else 3)
    if colours:
        assert tiles_of(packed)[0, 8, 8].tolist() == pytest.approx([200, 0, 0], abs=3)


def test_more_channels_than_are_shown_are_named() -> None:
    packed = packed_slices(case_of(1, channels=6))
    assert len(packed["images"]) == 4
    assert packed["notes"] == ["6 channels, the first 4 are shown"]
