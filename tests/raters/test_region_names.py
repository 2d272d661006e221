"""Every spelling of regions gives one form."""

from typing import Any

import pytest

from monai_jdt.raters import named_regions


def test_named_regions() -> None:
    assert named_regions("msd") == {"TC": (2, 3), "WT": (1, 2, 3), "ET": (3,)}
    assert named_regions({"cord": 1}) == named_regions({"cord": [1]}) == {"cord": (1,)}
    assert named_regions([[1, 4], 4]) == {"label_1_4": (1, 4), "label_4": (4,)}
    wrong: Any
    for wrong in ([], [[]], [1, [1]], "brats1999"):
        with pytest.raises(ValueError, match="expected"):
            named_regions(wrong)
    wrong = [[1.5]]
    with pytest.raises(TypeError, match="whole label values"):
        named_regions(wrong)
