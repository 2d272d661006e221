"""Label values as the indices of a palette."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_jdt.data.files.label_pictures import is_palette_picture, write_palette_picture
from monai_jdt.data.files.volumes import open_volume
from monai_jdt.data.problems import DataProblemError


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, bool])
def test_values_are_found_as_they_are(tmp_path: Path, dtype: type) -> None:
    values: np.ndarray = np.array([[0, 1, 0], [3, 0, 1]]).astype(dtype)
    write_palette_picture(tmp_path / "a.png", values[..., None])
    assert is_palette_picture(tmp_path / "a.png")
    np.testing.assert_array_equal(open_volume(str(tmp_path / "a.png")).read(), values)
    shown = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    assert shown[0, 0].tolist() == [0, 0, 0]  # the background
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) == len(np.unique(values))
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / "grey.png")
    assert not is_palette_picture(tmp_path / "grey.png")


@pytest.mark.parametrize(
    ("values", "line"),
    [
        (np.full((2, 2), 256), "expected label values from 0 to 255 in a PNG, got 256 to 256"),
        (np.full((2, 2), -1), "expected label values from 0 to 255 in a PNG, got -1 to -1"),
        (np.full((2, 2), 0.5), "expected label values from 0 to 255 in a PNG, got numbers of type float64"),
        (np.zeros((2, 2, 3), np.uint8), "expected one map of a flat image in a PNG, got shape"),
    ],
)
def test_what_a_palette_cannot_hold_is_refused(tmp_path: Path, values: np.ndarray, line: str) -> None:
    with pytest.raises(DataProblemError, match=line):
        write_palette_picture(tmp_path / "a.png", values)
    assert not (tmp_path / "a.png").exists()
