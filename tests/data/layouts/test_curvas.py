"""CURVAS 2024 and CURVAS-PDACVI 2025."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monai_jdt.data import (
    DataProblemError,
    curvas_datalist,
    find_problems,
)
from monai_jdt.transforms import LoadRaters
from tests.data.layouts.small_volumes import SHAPE, box, save_image, save_small


@pytest.mark.parametrize("raters", [3, 5])
def test_curvas(tmp_path: Path, raters: int) -> None:
    for n in (1, 2):
        save_image(tmp_path / f"training_set/UKCHLL00{n}/image.nii.gz", n)
        for r in range(1, raters + 1):
            save_small(tmp_path / f"training_set/UKCHLL00{n}/annotation_{r}.nii.gz", box((0, 0, 0), (r, 3, n)) * 3)
    save_image(tmp_path / "training_set/UKCHLL003/IMAGE.NII.GZ")
    save_small(tmp_path / "training_set/UKCHLL004/annotation_1.nii.gz", box((0, 0, 0), (1, 1, 1)))
    items = curvas_datalist(tmp_path)
    assert items[1]["case"] == "UKCHLL002"
    assert items[1]["raters"] == [f"{tmp_path}/training_set/UKCHLL002/annotation_{r}.nii.gz" for r in range(1, raters + 1)]
    assert [skipped.why for skipped in items.found.skipped] == ["an image without annotations", "annotations without an image.nii.gz"]
    settings: dict[str, Any] = {"channels": 1, "label_values": (0, 1, 2, 3), "raters": raters, "progress": False}
    assert list(find_problems(items, **settings)) == []
    # one annotation with another header, one of scaled floats: whole values come out of float files as they are
    wrong, floats = items[0]["raters"][:2]
    save_small(tmp_path / os.path.relpath(floats, tmp_path), (box((0, 0, 0), (2, 3, 1)) * 2.0).astype(np.float64))
    assert list(find_problems(items, **settings)) == []
    assert LoadRaters(label_values=(0, 1, 2, 3))(items[0]["raters"]).shape == (raters, *SHAPE)
    save_small(tmp_path / os.path.relpath(wrong, tmp_path), box((0, 0, 0), (1, 3, 1)) * 3, np.eye(4))
    (problem,) = find_problems(items, **settings)
    assert (problem.where, problem.got) == (wrong, "1 x 1 x 1 mm")
    with pytest.raises(DataProblemError, match="expected CURVAS cases"):
        curvas_datalist(tmp_path / "training_set/UKCHLL003")


def test_curvas_with_two_files_for_one_thing(tmp_path: Path) -> None:
    """Which of image.nii and image.nii.gz was meant is not for a lister to choose."""
    save_image(tmp_path / "UKCHLL001/image.nii.gz")
    save_small(tmp_path / "UKCHLL001/annotation_1.nii.gz", box((0, 0, 0), (1, 3, 1)))
    save_small(tmp_path / "UKCHLL001/annotation_01.nii", box((0, 0, 0), (2, 3, 1)))
    save_image(tmp_path / "UKCHLL001/image.nii")
    with pytest.raises(DataProblemError) as caught:
        curvas_datalist(tmp_path)
    where = f"{tmp_path}/UKCHLL001"
    assert str(caught.value).splitlines() == [
        f"{where}: expected one file of annotation 1, got annotation_01.nii and annotation_1.nii.gz. Fix: remove one of them.",
        f"{where}: expected one image, got image.nii and image.nii.gz. Fix: remove one of them.",
    ]
