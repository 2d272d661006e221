"""The people of a list: each name once, in natural order, and weights by name."""

from typing import Any

import pytest

from monai_jdt.data import names_of_raters
from monai_jdt.data.rater_names import checked_weights


def test_every_rater_of_a_list_once_and_in_order() -> None:
    items: list[dict[str, Any]] = [
        {"raters": ["x", "y"], "rater_names": ["rater 10", "rater 2"]},
        {"image": "to predict"},
        {"raters": "z", "rater_names": ["rater 2"]},
    ]
    assert names_of_raters(items) == ["rater 2", "rater 10"]


@pytest.mark.parametrize(
    ("item", "got"),
    [
        ({"case": "c1", "raters": ["x"]}, r"items\[0\] \(case c1\): rater_names: expected 1 names, got none"),
        ({"raters": ["x", "y"], "rater_names": ["anna"]}, "one name for each of 2 raters, all different, got 1 names"),
        ({"raters": ["x", "y"], "rater_names": ["anna", "anna"]}, "got 'anna' twice"),
        ({"image": "x"}, "got no rater"),
    ],
)
def test_names_that_do_not_tell_raters_apart_are_refused(item: dict[str, object], got: str) -> None:
    with pytest.raises(ValueError, match=got):
        names_of_raters([item])


def test_weights_by_name_are_for_known_people() -> None:
    assert checked_weights({"ben": 0}, ["anna", "ben"]) == {"anna": 1.0, "ben": 0.0}
    with pytest.raises(ValueError, match=r"got 'ana'\. Fix: name anna"):
        checked_weights({"ana": 2}, ["anna", "ben"])
    with pytest.raises(ValueError, match="at least 0, got -1"):
        checked_weights({"anna": -1}, ["anna"])
