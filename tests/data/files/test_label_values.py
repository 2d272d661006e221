"""The values of label files: which ones occur, and which are whole numbers."""

from __future__ import annotations

import numpy as np
import pytest

from monai_jdt.data import distinct_values, whole_labels
from monai_jdt.data.files import voxel_blocks
from monai_jdt.data.files.label_values import LabelTally
from tests.present import present

# around 16 different values (found by comparison), around 2^16 (by counting, by sorting), and the ends of dtypes
RANGES = [(0, 0), (0, 15), (0, 16), (-3, 12), (-3, 13), (250, 255), (-40, 40_000), (-40_000, 40_000), (2**31 - 9, 2**31 + 9)]
DTYPES = ["bool", "uint8", "int8", "uint16", "int16", ">i2", "int32", "int64", "uint64", "float32", "float64"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("limits", RANGES)
def test_the_distinct_values_are_numpys(limits: tuple[int, int], dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voxel_blocks, "BLOCK_VOXELS", 200)  # several blocks
    low, high = max(limits[0], 0) if dtype == "uint64" else limits[0], limits[1]  # no values near 2^64, which no label has
    values = np.random.default_rng(0).integers(low, high + 1, size=(12, 10, 9)).astype(dtype)
    expected = np.unique(values).tolist()
    assert distinct_values(values).tolist() == expected
    tally = LabelTally()
    for block in voxel_blocks.blocks_of_array(values):
        tally.add(block)
    assert tally.values.tolist() == expected
    assert (tally.voxels, tally.not_finite) == (values.size, 0)


def test_values_that_are_not_finite_are_counted_and_no_values() -> None:
    values = np.array([1.0, np.nan, 4.0, np.inf, -np.inf, 1.0])
    assert distinct_values(values).tolist() == [1, 4]
    tally = LabelTally()
    assert tally.add(values) is None
    assert (tally.values.tolist(), tally.not_finite) == ([1, 4], 3)


def test_within_a_thousandth_of_a_whole_number() -> None:
    assert whole_labels(np.array([0, 0.9991, 2.0009]))[0].tolist() == [0, 1, 2]
    assert whole_labels(np.array([0, 0.9991, 2.0009]))[1] is None
    got, fix = present(whole_labels(np.array([0.0, 1.0, 1.4]))[1])
    assert (got, fix) == ("1.4", "resample labels with nearest-neighbour only")
    # nothing but values near 0: rounding would leave an empty label
    assert whole_labels(np.array([0.0, 0.0005]))[1] is not None
