"""Labels in the form in which they are written."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import SaveImage
from PIL import Image

from monai_jdt.data.problems import DataProblemError
from monai_jdt.raters import regions_to_label_map
from monai_jdt.transforms import RegionForm, RegionFormd
from monai_jdt.transforms.region_form import LABEL_FORMS

PROB = MetaTensor(torch.tensor([[[0.9, 0.6], [0.5, 0.1]], [[0.8, 0.2], [0.3, 0.0]]]), affine=torch.diag(torch.tensor([2.0, 3, 4, 1])))


def test_each_form_keeps_the_place() -> None:
    hard = [[[1, 1], [0, 0]], [[1, 0], [0, 0]]]
    # at (0.5, 0.3) no region is 0.8 away, the outer alone 0.8 as well: the lower value is taken
    expected = {"soft": PROB.tolist(), "hard": hard, "map": [[[5, 1], [0, 0]]]}
    for form in LABEL_FORMS:
        item: dict[Hashable, Any] = {"pred": PROB, "other": 1}
        got = RegionFormd("pred", form, {"outer": [1, 5], "inner": [5]})(item)["pred"]
        assert got.tolist() == expected[form]
        assert torch.equal(got.affine, PROB.affine)
        assert item["pred"] is PROB
    assert RegionForm("hard")(PROB).dtype == torch.uint8


def test_what_cannot_be_written_is_refused() -> None:
    with pytest.raises(ValueError, match="form: expected one of soft, hard, map, got 'one'"):
        RegionForm("one")
    with pytest.raises(ValueError, match="regions: expected the label values of each channel, since form is map"):
        RegionForm("map")
    with pytest.raises(ValueError, match="regions: expected 2 regions"):
        RegionForm("map", [[1]])(PROB)
    for value in (32768, -32769):
        line = rf"regions: expected label values from -32768 to 32767 for one label map, got {value}\. Fix: "
        with pytest.raises(ValueError, match=line):
            RegionForm("map", {"a": [1], "b": [2, value]})
        with pytest.raises(ValueError, match=line):
            regions_to_label_map(PROB, [[1], [value]])
        RegionForm("hard", [[value]])
    assert RegionForm("map", [[32767], [-32768]])(PROB).unique().tolist() == [0, 32767]


def test_a_label_picture_is_a_palette(tmp_path: Path) -> None:
    save = SaveImage(
        tmp_path, "", ".png", writer="monai_jdt.transforms.LabelPictureWriter", output_dtype=np.uint8, separate_folder=False
    )
    save.set_options(data_kwargs={"channel_dim": -1})
    values = MetaTensor(torch.tensor([[0, 1, 2], [4, 0, 0]], dtype=torch.uint8), meta={"filename_or_obj": "a.png"})
    save(values)
    picture = Image.open(tmp_path / "a.png")
    assert picture.mode == "P"
    np.testing.assert_array_equal(np.asarray(picture), values.T)
    with pytest.raises((DataProblemError, RuntimeError), match="label values from 0 to 255"):
        save(MetaTensor(torch.full((2, 3), 300, dtype=torch.int16), meta={"filename_or_obj": "b.png"}))
