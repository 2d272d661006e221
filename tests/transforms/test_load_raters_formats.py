"""Every format that raters come in, written by one library and read through MONAI's reader of another."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
import torch
from monai.data import ImageReader, ITKReader, NibabelReader, PILReader
from PIL import Image

from monai_jdt.data.problems import DataProblemError
from monai_jdt.transforms import LoadRaters, LoadRatersd
from tests.nifti_files import save_nifti

#: voxels to mm in RAS: spacing 1.5, 2, 3 along axes of which ITK's LPS flips two; origin -10, 7, 4
AFFINE = np.array([[-1.5, 0, 0, -10], [0, -2.0, 0, 7], [0, 0, 3.0, 4], [0, 0, 0, 1]])


def write(path: Path, values: np.ndarray) -> str:
    """`values` are indexed (x, y, z); SimpleITK takes (z, y, x) and LPS coordinates."""
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(values.T))
    image.SetSpacing((1.5, 2.0, 3.0))
    image.SetOrigin((10.0, -7.0, 4.0))
    SimpleITK.WriteImage(image, str(path))
    return str(path)


def draw(raters: int = 2, shape: tuple[int, ...] = (5, 6, 4)) -> np.ndarray:
    return np.random.default_rng(0).choice([0, 1, 2, 4], size=(raters, *shape)).astype(np.uint8)


FORMATS = [
    (".nii", NibabelReader),
    (".nii.gz", NibabelReader),
    (".nii.gz", ITKReader),
    (".mhd", ITKReader),
    (".mha", ITKReader),
    (".nrrd", ITKReader),
]


def reader_used(monkeypatch: pytest.MonkeyPatch) -> list[type[ImageReader]]:
    """Which readers' `read` ran."""
    used = []
    for reader in (ITKReader, NibabelReader, PILReader):
        own = reader.read

        def spied(self: ImageReader, *args: Any, _own: Callable[..., Any] = own, **kwargs: Any) -> Any:
            used.append(type(self))
            return _own(self, *args, **kwargs)

        monkeypatch.setattr(reader, "read", spied)
    return used


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize(("suffix", "reader"), FORMATS)
def test_volumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, reader: type[ITKReader | NibabelReader], named: bool
) -> None:
    labels = draw()
    paths = [write(tmp_path / f"rater{i}{suffix}", values) for i, values in enumerate(labels)]
    used = reader_used(monkeypatch)
    votes = LoadRaters(reader=reader.__name__ if named else None, label_values=[0, 1, 2, 4])(paths)
    assert set(used) == ({reader} if named else set())  # what the check reads is read by one function
    assert votes.dtype == torch.uint8
    np.testing.assert_array_equal(votes.numpy(), labels)
    np.testing.assert_allclose(votes.affine.numpy(), AFFINE, atol=1e-5)


def test_raters_in_different_formats_are_one_stack(tmp_path: Path) -> None:
    labels = draw(4)
    suffixes = [".nii.gz", ".mha", ".nrrd", ".mhd"]
    paths = [write(tmp_path / f"rater{i}{s}", values) for i, (s, values) in enumerate(zip(suffixes, labels, strict=True))]
    np.testing.assert_array_equal(LoadRatersd("raters")({"raters": paths})["raters"].numpy(), labels)


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha", ".nrrd"])
def test_slices(tmp_path: Path, suffix: str) -> None:
    values = draw(1, (5, 6))[0]
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(values.T))
    SimpleITK.WriteImage(image, str(tmp_path / f"a{suffix}"))
    np.testing.assert_array_equal(LoadRaters()(str(tmp_path / f"a{suffix}")).numpy(), values[None])


@pytest.mark.parametrize("mode", ["L", "P", "1"])
def test_png(tmp_path: Path, mode: str) -> None:
    values = draw(2, (7, 5))
    values = (values > 0).astype(np.uint8) if mode == "1" else values
    paths = []
    for number, one in enumerate(values):
        # a picture's rows are the second axis of MONAI's arrays
        image = (
            Image.fromarray(np.ascontiguousarray(one.T) * np.uint8(255)).convert("1") if mode == "1" else Image.fromarray(one.T.copy())
        )
        if mode == "P":
            image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 0])
        paths.append(str(tmp_path / f"rater{number}.png"))
        image.save(paths[-1])
    np.testing.assert_array_equal(LoadRaters(label_values=[0, 1, 2, 4])(paths).numpy(), values)
    np.testing.assert_array_equal(LoadRaters(PILReader, label_values=[0, 1, 2, 4])(paths).numpy(), values)


def test_a_picture_in_colour_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "colour.png"
    Image.fromarray(np.eye(3, dtype=np.uint8)[np.arange(35).reshape(5, 7) % 3]).save(path)
    with pytest.raises(DataProblemError, match=r"colour\.png: expected a label map of one channel"):
        LoadRaters()(str(path))


@pytest.mark.parametrize("suffix", [".mha", ".nrrd", ".png", ".mhd"])
def test_a_broken_file_of_any_format_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(b"no image")
    with pytest.raises(DataProblemError, match=rf"broken\{suffix}: expected a readable {suffix} file") as caught:
        LoadRaters()(str(path))
    assert "\n" not in str(caught.value)


def test_a_channel_axis_of_one_is_dropped(tmp_path: Path) -> None:
    values = draw(1)[0]
    path = str(tmp_path / "four.nii.gz")
    save_nifti(path, values[..., None], AFFINE)
    votes = LoadRaters()([path, write(tmp_path / "three.nii.gz", values)])
    np.testing.assert_array_equal(votes.numpy(), np.stack([values] * 2))
    save_nifti(path, np.stack([values] * 2, -1), AFFINE)
    with pytest.raises(DataProblemError, match=r"four\.nii\.gz: expected a label map of one channel"):
        LoadRaters()(path)
