"""Any number of raters' files as one stack, and the file that is at fault."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_jdt.data.problems import DataProblemError
from monai_jdt.transforms import LoadRaters, LoadRatersd
from tests.transforms.rater_files import AFFINE, write


@pytest.mark.parametrize("count", [1, 2, 3])
def test_any_number_of_raters_as_one_stack(paths: list[str], labels: np.ndarray, count: int) -> None:
    votes = LoadRaters(label_values=[0, 1, 2, 4])(paths[:count])
    assert isinstance(votes, MetaTensor)
    assert votes.dtype == torch.uint8
    np.testing.assert_array_equal(votes.numpy(), labels[:count])
    np.testing.assert_allclose(votes.affine.numpy(), AFFINE)
    assert votes.meta["filename_or_obj"] == paths[0]


def test_a_single_path_is_one_rater_and_wide_values_are_int16(tmp_path: Path, paths: list[str]) -> None:
    assert LoadRaters()(paths[0]).shape == (1, 5, 6, 4)
    wide = write(tmp_path / "wide.nii.gz", np.full((2, 2, 2), -7), dtype=np.int16)
    assert LoadRaters()(wide).dtype == torch.int16
    floats = write(tmp_path / "floats.nii.gz", np.full((2, 2, 2), 3.0), dtype=np.float32)
    assert LoadRaters()(floats).unique().tolist() == [3]


def broken_files(tmp_path: Path, first: str) -> dict[str, Any]:
    rest = {
        "other_shape": write(tmp_path / "other_shape.nii.gz", np.zeros((5, 6, 3))),
        "other_affine": write(tmp_path / "other_affine.nii.gz", np.zeros((5, 6, 4)), AFFINE + np.eye(4) * [1, 1, 1, 0]),
        "half": write(tmp_path / "half.nii.gz", np.full((5, 6, 4), 0.5), dtype=np.float32),
        "nan": write(tmp_path / "nan.nii.gz", np.full((5, 6, 4), np.nan), dtype=np.float32),
        "unknown": write(tmp_path / "unknown.nii.gz", np.full((5, 6, 4), 7)),
    }
    garbage = tmp_path / "garbage.nii.gz"
    garbage.write_bytes(b"no image")
    truncated = tmp_path / "truncated.nii.gz"
    with open(first, "rb") as whole:
        truncated.write_bytes(whole.read()[:80])
    return rest | {"garbage": str(garbage), "truncated": str(truncated), "absent": str(tmp_path / "absent.nii.gz")}


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("other_shape", r"shape \(5, 6, 4\).*got \(5, 6, 3\)"),
        ("other_affine", r"voxels of 1\.5 x 2 x 3 mm, as .*rater0\.nii\.gz, got 0\.5 x 3 x 4 mm"),
        ("half", "whole label values.*0.5"),
        ("nan", "whole label values.*nan"),
        ("unknown", r"among \[0, 1, 2, 4\], got \[7\]"),
        ("garbage", "a readable NIfTI file.*neither a gzip file nor NIfTI"),
        ("truncated", "a whole gzip file.*truncated"),
        ("absent", "a file, got nothing at that path. Fix: add it, or correct the path"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, paths: list[str], kind: str, words: str) -> None:
    bad = broken_files(tmp_path, paths[0])[kind]
    with pytest.raises(DataProblemError, match=f"{kind}.nii.gz: expected .*{words}") as caught:
        LoadRaters(label_values=[0, 1, 2, 4])([*paths, bad])
    assert "\n" not in str(caught.value)


def test_raters_must_lie_on_the_image(paths: list[str]) -> None:
    item: dict[Hashable, Any] = {"raters": paths, "image": MetaTensor(torch.zeros(4, 5, 6, 4), affine=torch.as_tensor(AFFINE))}
    loaded = LoadRatersd("raters", image_key="image")(item)
    assert loaded["raters"].shape == (3, 5, 6, 4)
    assert item["raters"] is paths
    with pytest.raises(DataProblemError, match=r"rater0\.nii\.gz: expected voxels of 1 x 1 x 1 mm, as the image under 'image'"):
        LoadRatersd("raters", image_key="image")({**item, "image": MetaTensor(torch.zeros(4, 5, 6, 4))})
    with pytest.raises(DataProblemError, match=r"rater0\.nii\.gz: expected shape"):
        LoadRatersd("raters", image_key="image")({**item, "image": MetaTensor(torch.zeros(4, 5, 6, 5))})
    with pytest.raises(DataProblemError, match="at least one rater"):
        LoadRatersd("raters")({"raters": []})


def test_rounding_of_an_affine_is_no_other_affine(paths: list[str]) -> None:
    close = torch.as_tensor(AFFINE + 1e-3 * np.eye(4) * [1, 1, 1, 0])
    item: dict[Hashable, Any] = {"raters": paths, "image": MetaTensor(torch.zeros(4, 5, 6, 4), affine=close)}
    assert LoadRatersd("raters", image_key="image")(item)["raters"].shape == (3, 5, 6, 4)


def test_missing_keys() -> None:
    assert LoadRatersd("raters", allow_missing_keys=True)({"image": 1}) == {"image": 1}
    with pytest.raises(KeyError):
        LoadRatersd("raters")({"image": 1})
