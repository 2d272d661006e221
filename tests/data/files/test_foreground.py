"""Masks of two values, black on white or white on black, and drawings in colours."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from monai_jdt.data import DataProblemError, find_problems
from monai_jdt.data.files.foreground import checked_foreground
from monai_jdt.data.files.volumes import label_volume, open_volume
from monai_jdt.transforms import LoadRaters, LoadRatersd
from tests.nifti_files import save_nifti

MARK = np.array([[1, 0, 0], [1, 1, 0]], bool)


def picture(path: Path, colours: np.ndarray, mode: str) -> str:
    Image.fromarray(colours).convert(mode).save(path)
    return str(path)


def grey(path: Path, mode: str, inside: int, outside: int) -> str:
    return picture(path, np.where(MARK, inside, outside).astype(np.uint8), mode)


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA"])
@pytest.mark.parametrize(("inside", "outside"), [(255, 0), (0, 255)])
def test_a_mask_of_two_values_in_every_kind_of_picture(tmp_path: Path, mode: str, inside: int, outside: int) -> None:
    path = grey(tmp_path / "a.png", mode, inside, outside)
    votes = LoadRaters(foreground=inside, label_values=[0, 1])([path])
    np.testing.assert_array_equal(votes.numpy()[0], MARK.T)  # rows of a picture are the second axis
    volume = label_volume(open_volume(path), None, inside)
    blocks = np.concatenate(list(volume.blocks())).reshape(volume.shape, order="F")
    np.testing.assert_array_equal(blocks, MARK.T)


def test_one_colour_of_a_drawing(tmp_path: Path) -> None:
    colours = np.zeros((2, 3, 3), np.uint8)
    colours[MARK] = 255, 0, 128
    colours[0, 2] = 0, 255, 0  # another class
    path = picture(tmp_path / "a.png", colours, "RGBA")
    for given in ("#FF0080", [255, 0, 128], "255,0,128"):
        np.testing.assert_array_equal(LoadRaters(foreground=given)([path]).numpy()[0], MARK.T)
    np.testing.assert_array_equal(LoadRaters(foreground="#00ff00")([path]).numpy()[0].T, [[0, 0, 1], [0, 0, 0]])
    with pytest.raises(DataProblemError, match="or name the colour of the mark by `foreground`"):
        LoadRaters()([path])


def test_a_foreground_in_a_volume_by_each_reader(tmp_path: Path) -> None:
    path = str(tmp_path / "a.nii.gz")
    save_nifti(path, np.where(MARK, 0, 255)[..., None].astype(np.uint8), np.eye(4))
    for reader in (None, "NibabelReader", "ITKReader"):
        np.testing.assert_array_equal(LoadRaters(reader, foreground=0)([path]).numpy()[0, ..., 0], MARK)


@pytest.mark.parametrize(
    ("values", "got"),
    [
        ([0, 255, 17, 255], "got 255, and also 0, 17. Fix: "),
        ([0, 1, 1, 0], "got 0, 1, without 255. Fix: "),
        ([0, 200, 17, 3], "without 255"),
    ],
)
def test_other_values_than_two_are_refused(tmp_path: Path, values: list[int], got: str) -> None:
    path = str(tmp_path / "a.nii.gz")
    save_nifti(path, np.array(values, np.uint8).reshape(2, 2, 1), np.eye(4))
    with pytest.raises(DataProblemError, match="a.nii.gz: expected a mask of the foreground 255 and one other value, .*" + got):
        LoadRaters(foreground=255)([path])


def test_a_photograph_has_no_foreground(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    with pytest.raises(DataProblemError, match="expected a drawing in at most 64 colours, got 256 colours"):
        LoadRaters(foreground="#ff0000")([picture(tmp_path / "a.png", noise, "RGB")])
    with pytest.raises(DataProblemError, match="of which #ff0000 is the mark, got one value per pixel"):
        LoadRaters(foreground="#ff0000")([picture(tmp_path / "b.png", noise, "L")])


@pytest.mark.parametrize("given", ["red", "#ff00", [1, 2], [0, 0, 256], True, 1.5, "", [0.5, 0, 0], [float("inf"), 0, 0]])
def test_what_is_no_foreground(given: Any) -> None:
    with pytest.raises(ValueError, match="expected a whole number, or a colour such as"):
        checked_foreground(given, "x")


def test_an_item_says_its_foreground(tmp_path: Path) -> None:
    paths = [grey(tmp_path / "black.png", "L", 0, 255), grey(tmp_path / "white.png", "RGB", 255, 0)]
    item: dict[Any, Any] = {"case": "a", "image": paths[1], "raters": paths[:1], "foreground": 0}
    loaded = LoadRatersd("raters", label_values=[0, 1])(item)
    np.testing.assert_array_equal(loaded["raters"].numpy()[0], MARK.T)
    assert "foreground" not in loaded
    assert item["foreground"] == 0
    # the transform's own foreground goes before the item's
    loaded = LoadRatersd("raters", foreground=255)({**item, "raters": paths[1:]})
    np.testing.assert_array_equal(loaded["raters"].numpy()[0], MARK.T)


def test_the_check_sees_masks_as_they_are_loaded(tmp_path: Path) -> None:
    image = grey(tmp_path / "image.png", "L", 9, 90)
    rater = grey(tmp_path / "black.png", "L", 0, 255)
    item: dict[str, Any] = {"case": "a", "image": image, "raters": [rater]}
    rules: dict[str, Any] = {"label_values": [0, 1], "progress": False}
    assert "among 0, 1, got 255" in str(next(iter(find_problems([item], **rules))))
    assert list(find_problems([item | {"foreground": 0}], **rules)) == []
    assert list(find_problems([item | {"foreground": 255}], foreground=0, **rules)) == []
    (problem,) = find_problems([item | {"foreground": "red"}], **rules | {"label_values": None})
    assert "a: foreground: expected a whole number, or a colour such as '#ff0000', got 'red'" in str(problem)
    third = picture(tmp_path / "third.png", np.array([[0, 255, 17], [0, 0, 0]], np.uint8), "L")
    (problem,) = find_problems([item | {"raters": [third]}], foreground=255, **rules)
    assert "expected a mask of the foreground 255 and one other value, got 255, and also 0, 17" in str(problem)


def test_the_check_warns_of_a_colour_that_is_not_there(tmp_path: Path) -> None:
    image = grey(tmp_path / "image.png", "L", 9, 90)
    colours = np.zeros((2, 3, 3), np.uint8)
    empty = picture(tmp_path / "empty.png", colours, "RGB")
    colours[MARK] = 254, 0, 0
    item = {"case": "a", "image": image, "raters": [picture(tmp_path / "a.png", colours, "RGB"), empty], "foreground": "#ff0000"}
    lines = [str(problem) for problem in find_problems([item], progress=False)]
    absent = [line for line in lines if "a pixel in the foreground" in line]
    assert absent == [
        f"warning: {tmp_path}/a.png: expected a pixel in the foreground #ff0000, got none, but #000000, #fe0000. "
        "Fix: correct the foreground, if it is another colour."
    ]
    assert list(find_problems([item | {"raters": item["raters"][:1]}], foreground="#fe0000", progress=False)) == []
