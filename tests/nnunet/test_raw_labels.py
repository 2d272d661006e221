"""Label values as nnU-Net numbers them."""

from __future__ import annotations

import numpy as np
import pytest

from monai_jdt.nnunet.raw_labels import raw_labels


def test_classes_keep_the_order_of_the_regions() -> None:
    labels = raw_labels({"cyst": (7,), "kidney": (1, 2)})
    assert not labels.overlap
    assert labels.dataset_entries() == {"labels": {"background": 0, "cyst": 1, "kidney": 2}}
    np.testing.assert_array_equal(labels.renumbered(np.array([0, 1, 2, 7, 5])), [0, 2, 2, 1, 0])


def test_regions_go_from_the_largest_to_the_smallest_and_overwrite_each_other() -> None:
    labels = raw_labels({"ET": (4,), "WT": (1, 2, 4), "TC": (1, 4)})
    entries = labels.dataset_entries()
    assert list(entries["labels"].items()) == [("background", 0), ("WT", [1, 2, 3]), ("TC", [1, 3]), ("ET", [3])]
    # nnU-Net's rule: where channel i is above 0.5, the value of regions_class_order[i] is written over the ones before
    for value in (1, 2, 4):
        written = 0
        for group, order in zip(labels.regions.values(), entries["regions_class_order"], strict=True):
            written = order if labels.values[value] in group else written
        assert written == labels.values[value]


def test_values_in_the_same_regions_become_one() -> None:
    labels = raw_labels({"all": (1, 2, 3), "part": (2, 3)})
    assert labels.values == {1: 1, 2: 2, 3: 2}
    assert labels.regions == {"all": (1, 2), "part": (2,)}


def test_the_ignore_label_is_the_highest_value() -> None:
    labels = raw_labels({"lesion": (3,)}, ignored=1)
    assert labels.dataset_entries()["labels"] == {"background": 0, "lesion": 1, "ignore": 2}
    np.testing.assert_array_equal(labels.renumbered(np.array([0, 1, 3])), [0, 2, 1])
    assert raw_labels({"lesion": (3,)}).ignore_label is None


@pytest.mark.parametrize(
    ("regions", "ignored", "message"),
    [
        ({"a": (0, 1)}, None, "region a: expected label values other than 0"),
        ({"a": (1,)}, 1, "ignore value: expected none of the region a, got 1"),
        ({"a": (1,)}, 0, "ignore value: expected a value other than 0"),
        ({"A": ()}, None, "region A: expected one or more whole numbers above 0"),
        ({"A": (1.5,)}, None, "region A: expected one or more whole numbers above 0"),
        ({"A": (-1,)}, None, "region A: expected one or more whole numbers above 0"),
        ({"A": (1, 2), "B": (2, 3)}, None, "regions that lie in each other or apart"),
        ({"ignore": (1,)}, None, "names other than nnU-Net's background and ignore"),
        ({"a": (1, 2), "b": (2, 1)}, None, "regions that differ"),
        ({f"r{n}": (n,) for n in range(1, 257)}, None, "at most 254 regions, got 256"),
    ],
)
def test_what_nnunet_cannot_have_is_refused(regions: dict[str, tuple[int, ...]], ignored: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        raw_labels(regions, ignored)
