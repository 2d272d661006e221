"""Arguments: one rule for sequences of any library, and numbers that came as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch

import monai_jdt.losses as losses
from monai_jdt.functional.thresholded_dice import threshold_rule
from monai_jdt.losses import JaccardDistance, JDTLoss, LovaszSoftmaxLoss, SoftDeepSupervisionLoss, loss_for_metric
from monai_jdt.validation import error_sentence
from tests.conftest import OwnSequence

#: argument -> (how it is used, a value as a list)
ARGUMENTS = {
    "weight": (lambda v: repr(JDTLoss(weight=v)), [1, 2, 3]),
    "classes": (lambda v: repr(JDTLoss(classes=v)), [0, 1, 2]),
    "classes of Lovász": (lambda v: LovaszSoftmaxLoss(classes=v).listed, [0, 1, 2]),
    "weights": (lambda v: SoftDeepSupervisionLoss(JDTLoss(), weights=v).weights, [1, 2, 3]),
    "dim": (lambda v: repr(JaccardDistance(dim=v)), [1, 2, 3]),
    "thresholds": (lambda v: threshold_rule(v, ">=").thresholds, [1]),
}


class OwnMapping(Mapping):
    def __init__(self, **items: Any) -> None:
        self.items_ = items

    def __getitem__(self, key: str) -> Any:
        return self.items_[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.items_)

    def __len__(self) -> int:
        return len(self.items_)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_any_sequence_is_a_sequence(name: str, own_sequence: type[OwnSequence]) -> None:
    use, numbers = ARGUMENTS[name]
    expected = use(numbers)
    forms = [tuple(numbers), np.array(numbers), torch.tensor(numbers), own_sequence(*numbers), [np.int64(n) for n in numbers]]
    for form in [*forms, range(numbers[0], numbers[-1] + 1)]:
        assert use(form) == expected, form
    for wrong in ({1, 2}, iter(numbers), b"12", object()):
        with pytest.raises(TypeError, match=name.split()[0]):
            use(wrong)


def test_regions_are_sequences_of_sequences(own_sequence: type[OwnSequence]) -> None:
    expected = JDTLoss(sigmoid=True, regions=[[1, 2], [2, 4]]).recipe
    forms: tuple[Any, ...] = (
        own_sequence(own_sequence(1, 2), [2, 4]),
        (np.array([1, 2]), torch.tensor([2, 4])),
        np.array([[1, 2], [2, 4]]),
        (range(1, 3), (2, 4)),
    )
    for regions in forms:
        assert JDTLoss(sigmoid=True, regions=regions).recipe == expected
    refused: tuple[list[list[int]], ...] = ([], [[]], [[1, 1]], [[-1]])
    for wrong in refused:
        with pytest.raises(ValueError, match="regions"):
            JDTLoss(sigmoid=True, regions=wrong)


def test_averages_are_any_mapping() -> None:
    average = {"image": 0.5, "class": 0.5}
    assert JDTLoss(average=OwnMapping(**average)).recipe == JDTLoss(average=average).recipe
    arguments = loss_for_metric("mIoU", average=OwnMapping(**average))
    assert arguments["average"] == average
    assert type(arguments["average"]) is dict


@pytest.mark.parametrize(
    ("text", "written"), [("1e-6", "1.0e-6"), ("1E-10", "1.0e-10"), ("2.5e-7", "2.5e-7"), ("1e3", "1000.0"), ("0.5", "0.5 without")]
)
def test_a_number_as_text_is_refused_with_how_to_write_it(text: Any, written: str) -> None:
    """YAML 1.1 reads 1e-6 as text."""
    uses = (
        ("smooth_nr", lambda: JDTLoss(smooth_nr=text)),
        ("weight", lambda: JDTLoss(weight=[text])),
        ("weights", lambda: SoftDeepSupervisionLoss(JDTLoss(), weights=[text])),
        ("smooth", lambda: JaccardDistance(smooth=text)),
        ("temperature", lambda: losses.DistillationLoss(softmax=True, temperature=text)),
    )
    for name, use in uses:
        with pytest.raises(TypeError, match=f"{name}: .*write {written}"):
            use()


def test_other_text_is_refused_as_well() -> None:
    number: Any = "255"
    flag: Any = "True"
    word: Any = "two"
    with pytest.raises(TypeError, match=r"ignore_index: .*write 255 without quotes"):
        JDTLoss(to_onehot_y=True, sigmoid=True, ignore_index=number)
    with pytest.raises(TypeError, match=r"batch: .*write true without quotes"):
        JDTLoss(batch=flag)
    with pytest.raises(TypeError, match=r"gamma: expected a number > 0, got str 'two'\.$"):
        JDTLoss(gamma=word)


def test_the_sentence_is_one_line_and_keeps_the_spaces_of_a_path() -> None:
    assert error_sentence("a  b.nii", "x", "two\n  lines") == "a  b.nii: expected x, got two lines."
