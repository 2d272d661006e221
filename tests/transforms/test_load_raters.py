"""Any number of raters' files as one stack, and the file that is at fault."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor, NibabelReader

from monai_jdt.data.problems import DataProblemError
from monai_jdt.transforms import FuseRatersd, LoadRaters, LoadRatersd
from tests.nifti_files import save_nifti
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


def test_a_name_has_the_same_slot_in_every_case(paths: list[str], labels: np.ndarray) -> None:
    load = LoadRatersd("raters", rater_names=["anna", "ben", "cem", "dora"], rater_weights={"cem": 2, "ben": 0})
    item: dict[Hashable, Any] = {"raters": paths[:2], "rater_names": ["cem", "anna"]}
    loaded = load(item)
    votes = loaded["raters"]
    assert isinstance(votes, MetaTensor)
    # anna is the second file, cem the first, ben and dora are missing
    np.testing.assert_array_equal(votes.numpy(), [labels[1], 0 * labels[0], labels[0], 0 * labels[0]])
    np.testing.assert_allclose(votes.affine.numpy(), AFFINE)
    assert loaded["rater_weights"].tolist() == [1, 0, 2, 0]
    assert loaded["rater_names"] == ["anna", "ben", "cem", "dora"]
    assert item == {"raters": paths[:2], "rater_names": ["cem", "anna"]}
    # (2 cem + anna) / 3 of what each puts into the region
    fused = FuseRatersd("raters", [[4]], "weighted", weights_key="rater_weights")(loaded)["raters"]
    np.testing.assert_allclose(fused.numpy()[0], (2 * (labels[0] == 4) + (labels[1] == 4)) / 3, rtol=1e-6)


def test_weights_of_an_item_are_those_of_its_own_raters(paths: list[str]) -> None:
    load = LoadRatersd("raters", rater_names=["anna", "ben", "cem"], rater_weights={"cem": 2})
    item: dict[Hashable, Any] = {"case": "c1", "raters": paths[:2], "rater_names": ["cem", "anna"], "rater_weights": [0.5, 3]}
    assert load(item)["rater_weights"].tolist() == [3, 0, 1]
    with pytest.raises(ValueError, match="rater_weights: expected one weight for each of 2 raters, got 1"):
        load({**item, "rater_weights": [1]})


def test_names_that_cannot_be_matched_are_one_line(paths: list[str]) -> None:
    with pytest.raises(ValueError, match="together with rater_names, got no rater_names"):
        LoadRatersd("raters", rater_weights={"anna": 2})
    with pytest.raises(ValueError, match=r"got 'ana'\. Fix: name anna"):
        LoadRatersd("raters", rater_names=["anna", "ben"], rater_weights={"ana": 2})
    with pytest.raises(ValueError, match="each once"):
        LoadRatersd("raters", rater_names=["anna", "anna"])
    load = LoadRatersd("raters", rater_names=["anna"])
    with pytest.raises(ValueError, match="rater_names: expected names among anna, got ben"):
        load({"raters": paths[:1], "rater_names": ["ben"]})
    with pytest.raises(ValueError, match=r"the item \(case c1\): rater_names: expected 1 names, got none"):
        load({"case": "c1", "raters": paths[:1]})


@pytest.mark.parametrize("reader", [None, "NibabelReader"])
def test_a_foreground_is_1_whatever_its_value(tmp_path: Path, reader: str | None) -> None:
    path = write(tmp_path / "a.nii", np.array([[[0, 255, 255]]]))
    assert LoadRaters(reader=reader, foreground=255)(path).tolist() == [[[[0, 1, 1]]]]
    load = LoadRatersd("raters", reader=reader)
    assert load({"raters": [path], "foreground": 0})["raters"].tolist() == [[[[1, 0, 0]]]]
    third = write(tmp_path / "third.nii", np.array([[[0, 24, 255]]]))
    with pytest.raises(
        DataProblemError, match=r"third.nii: expected a mask of the foreground 0 and one other value, got 0, and also 24, 255"
    ):
        load({"raters": [third], "foreground": 0})


def test_colours_are_not_for_readers_of_monai(paths: list[str]) -> None:
    with pytest.raises(ValueError, match="foreground: expected a number together with `reader`, got #ff0000"):
        LoadRaters(reader="NibabelReader", foreground="#ff0000")
    with pytest.raises(DataProblemError, match=r"rater0.nii.gz: expected a foreground that is a number, with `reader`, got #ff0000"):
        LoadRatersd("raters", reader="NibabelReader")({"raters": paths, "foreground": "#FF0000"})


class Broken(NibabelReader):
    """A reader whose library gives up on the voxels."""

    def get_data(self, img: Any) -> Any:
        raise RuntimeError("no plane\nmore of it")


def test_a_file_that_a_reader_cannot_use_is_named(tmp_path: Path) -> None:
    channels = write(tmp_path / "channels.nii", np.zeros((5, 6, 4, 2)))
    words = r"channels.nii: expected a label map of one channel, got shape \(5, 6, 4, 2\), channels on axis -1"
    with pytest.raises(DataProblemError, match=words):
        LoadRaters(reader="NibabelReader")(channels)
    one = write(tmp_path / "one.nii", np.ones((5, 6, 4, 1)))
    assert LoadRaters(reader="NibabelReader")(one).shape == (1, 5, 6, 4)
    with pytest.raises(DataProblemError, match=r"one.nii: expected a label map that can be read, got RuntimeError: no plane. Fix: "):
        LoadRaters(reader=Broken)(one)
    empty = write(tmp_path / "empty.nii", np.zeros((0, 6, 4)))
    with pytest.raises(DataProblemError, match=r"empty.nii: expected a label map with voxels, got shape \(0, 6, 4\)"):
        LoadRaters()(empty)
    wide = save_nifti(tmp_path / "wide.nii", np.full((5, 6, 4), 40000, np.int32))
    with pytest.raises(DataProblemError, match=r"wide.nii: expected whole label values within int16, got 40000"):
        LoadRaters()(wide)
    with pytest.raises(DataProblemError, match=r"raters: expected one file per rater, got list \['a.nii'\]. Fix: merge_kits21"):
        LoadRaters()([["a.nii"]])  # type: ignore[list-item]


def test_itk_does_not_read_a_namesake_instead(tmp_path: Path) -> None:
    write(tmp_path / "a.nii", np.ones((5, 6, 4)))
    asked = write(tmp_path / "a.nii.gz", np.full((5, 6, 4), 2))
    assert LoadRaters(reader="ITKReader")(asked).unique().tolist() == [2]
