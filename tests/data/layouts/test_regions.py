"""Regions held against the label values of a data set."""

from collections.abc import Mapping, Sequence

import pytest

from monai_jdt.data import DataProblem, region_convention, regions_without_label


@pytest.mark.parametrize(
    ("regions", "values"),
    [({"a": (1,)}, [0, 1]), ({"a": (1, 7)}, [7]), ({"background": (0,)}, [0]), (region_convention("brats2021").regions, (0, 4))],
)
def test_a_region_with_a_value_is_fine(regions: Mapping[str, Sequence[int]], values: Sequence[int]) -> None:
    assert regions_without_label(regions, values) is None


def test_every_empty_region_is_named_with_what_is_there() -> None:
    problem = regions_without_label({"a": (7,), "b": (1,), "c": (8, 9)}, [3, 0, 1, 2], where="regions of train.yaml", fatal=True)
    assert problem == DataProblem(
        "regions of train.yaml",
        "label values that the files hold (0, 1, 2, 3)",
        "a [7], c [8, 9]: empty regions",
        "name values that are there, such as [2, 3]",
    )


def test_a_case_without_the_region_is_no_mistake() -> None:
    problem = regions_without_label({"ET": (4,), "TC": (1, 4)}, [0, 1])
    assert problem is not None
    assert not problem.fatal
    assert problem.fix == "name values that are there, or nothing, if no rater marked this here"
    nothing = regions_without_label({"a": (1,)}, [])
    assert nothing is not None
    assert nothing.expected == "label values that the files hold (none)"
