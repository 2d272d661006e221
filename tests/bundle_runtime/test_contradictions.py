"""Settings that are wrong together only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from monai_jdt.bundle_runtime.contradictions import contradictions

BRATS = {"regions": "brats2021", "label_values": [0, 1, 2, 4]}
MASKS = {"regions": {"cell": [255]}, "label_values": [0, 255]}


@pytest.mark.parametrize("ignored", [0, 1])
def test_with_a_softmax_the_ignored_value_is_no_class(ignored: int) -> None:
    """Votes of 0 and 255 become classes 0 and 1: with 1 ignored, nothing but background would be trained."""
    (line,) = contradictions({**MASKS, "loss#votes": True, "loss#softmax": True, "loss#ignore_index": ignored})
    owner = "the classes that votes become"
    assert line.startswith(f"loss#ignore_index: expected a value that is no label, got {ignored}, which is one of {owner}.")
    assert line.endswith("Fix: --loss#ignore_index 255.")


def test_with_a_softmax_the_values_in_the_files_are_free() -> None:
    assert contradictions({**MASKS, "loss#votes": True, "loss#softmax": True, "loss#ignore_index": 255}) == []


@pytest.mark.parametrize(
    ("loss", "owner"),
    [
        ({"loss#votes": True, "loss#ignore_index": 255}, "label_values"),
        ({"loss#votes": True, "loss#ignore_index": 255, "label_values": None}, "the regions"),
        ({"loss#to_onehot_y": True, "loss#ignore_index": 0}, "label_values"),
        ({"loss#ignore_index": 1}, "the values of a soft label, 0 to 1"),
    ],
    ids=str,
)
def test_the_ignored_value_is_no_label(loss: dict[str, Any], owner: str) -> None:
    (line,) = contradictions({**MASKS, **loss})
    assert f"which is one of {owner}. Fix: --loss#ignore_index 254." in line or "--loss#ignore_index 255" in line


def test_a_soft_label_has_no_label_values() -> None:
    """The raters' average lies between 0 and 1, whatever the values in the files."""
    assert contradictions({**BRATS, "loss#ignore_index": 4}) == []


@pytest.mark.parametrize(
    "regions", [[[7], [1, 2, 4], [4]], [[1, 2, 4], [1, 4], [4]], [[1, 4]], {"a": [1, 4], "b": [1, 2, 4], "c": [2]}, "brats2023"]
)
def test_the_loss_has_the_regions_of_the_run(regions: Any) -> None:
    (line,) = contradictions({**BRATS, "loss#regions": regions, "loss#votes": True})
    assert line.startswith("loss#regions: expected the label values of regions, in their order: [[1, 4], [1, 2, 4], [4]], got ")
    assert "Fix: " in line


@pytest.mark.parametrize("regions", [[[4, 1], [1, 2, 4], [4]], [(1, 4), (1, 2, 4), 4], {"a": [1, 4], "b": [1, 2, 4], "c": [4]}])
def test_the_regions_of_the_loss_may_be_written_in_any_way(regions: Any) -> None:
    assert contradictions({**BRATS, "loss#regions": regions, "loss#votes": True}) == []


def test_a_rule_waits_for_what_it_looks_at() -> None:
    """255 is a label value, and no class: with softmax the loss sees classes."""
    votes = {"regions": {"nodule": [255]}, "label_values": [0, 255], "loss#ignore_index": 255, "loss#votes": True}
    assert contradictions(votes, pending=["loss#softmax"]) == []
    assert contradictions(votes | {"loss#softmax": True}) == []
    (line,) = contradictions(votes | {"loss#softmax": False})
    assert line.startswith("loss#ignore_index: expected a value that is no label, got 255, which is one of label_values")


@pytest.mark.parametrize("name", ["lr_scheduler#T_max", "train#trainer#max_epochs"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "x"])
def test_components_that_count_epochs_need_one(name: str, value: Any) -> None:
    (line,) = contradictions({name: value})
    assert line.startswith(f"{name}: expected a whole number >= 1, got {value!r}. Fix: ")
    assert contradictions({name: 1}) == []


@pytest.mark.parametrize(
    ("name", "dims", "channels", "refused"),
    [
        ("a.nii.gz", 3, 5, False),
        ("a.png", 2, 2, False),
        ("a.png", 3, 2, True),
        ("a.png", 2, 3, True),
        ("a.nii", 2, 2, True),
        ("../a.nii.gz", 2, 2, True),
        ("/a.nii.gz", 3, 2, True),
    ],
)
def test_a_prediction_has_a_format_that_can_hold_it(name: str, dims: int, channels: int, refused: bool) -> None:
    lines = contradictions({"prediction_name": name, "network_def#spatial_dims": dims, "out_channels": channels})
    assert [line.partition(":")[0] for line in lines] == ["prediction_name"] * refused


def test_a_table_without_entries_is_reported() -> None:
    (line,) = contradictions({"normalize": "mr", "normalizations": ()})
    assert line == "normalizations: expected at least one entry, got none. Fix: leave normalizations out, or give it entries."


@pytest.mark.parametrize(
    ("split", "got"),
    [(3, "3"), ([[1]], "[[1]]"), ([[1], 2], "[[1], 2]"), ([[], [1]], "none for training"), ([[1], []], "none for validation")],
)
def test_a_split_has_cases_on_both_sides(split: Any, got: str) -> None:
    (line,) = contradictions({"split": split})
    assert line.startswith("split: expected ")
    assert f", got {got}. Fix: " in line
    assert contradictions({"split": ([1], [2])}) == []


def test_an_evaluation_needs_no_case_to_train_on(tmp_path: Path) -> None:
    (tmp_path / "model.pt").touch()
    weights = {"ckpt_path": str(tmp_path / "model.pt")}
    assert contradictions({"split": [[], [1]], **weights}) == []
    (line,) = contradictions({"split": [[1], []], **weights})
    assert line.startswith("split: expected at least one case for validation, got none for validation.")
