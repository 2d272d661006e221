"""Value checks: what is refused, what passes by a rounding, and that what does not count is not judged."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

from monai_jdt import checks, value_checks
from monai_jdt.checks import values
from monai_jdt.definitions import Activation, LabelForm, LabelReading, VoxelRecipe

X = torch.zeros(1, 2, 4)
HALF = torch.full((1, 2, 4), 0.5)
FIRST = torch.tensor([[[True, False, False, False]]])
NAN, INF = float("nan"), float("inf")


def placed(values: torch.Tensor, value: float) -> torch.Tensor:
    """`values`, and `value` at the first voxel of the first channel."""
    changed = values.clone()
    changed[0, 0, 0] = value
    return changed


def reading(form: LabelForm, activation: Activation = Activation.SIGMOID, **given: Any) -> VoxelRecipe:
    return VoxelRecipe(activation, label=LabelReading(form, **given))


DENSE, SOFTMAX = reading(LabelForm.DENSE), reading(LabelForm.DENSE, Activation.SOFTMAX)
INDICES, ANSWERS = reading(LabelForm.INDEX), reading(LabelForm.VOTES)
BYTES = torch.zeros(1, 1, 4, dtype=torch.uint8)
VOTES = torch.zeros(1, 2, 4, dtype=torch.uint8)

REFUSED: dict[str, tuple[Callable[..., None], tuple[Any, ...], str]] = {
    "a mask of halves": (checks.check_mask_values, (HALF,), "mask: expected bool, or 0 and 1 only (1 = counts), got 0.5"),
    "a mask of NaN": (checks.check_mask_values, (placed(X, NAN),), "mask: expected bool, or 0 and 1 only (1 = counts), got nan"),
    "a negative rater": (checks.check_rater_weight_values, (torch.tensor([1.0, -1]),), "rater_weights: expected finite numbers >= 0"),
    "an infinite rater": (
        checks.check_rater_weight_values,
        (torch.tensor([1, INF]),),
        "rater_weights: expected finite numbers >= 0 (0",
    ),
    "a rater of NaN": (
        checks.check_rater_weight_values,
        (torch.tensor([1, NAN]),),
        "rater_weights: expected finite numbers >= 0 (0 = m",
    ),
    "a teacher of NaN": (
        checks.check_teacher_values,
        (placed(X, NAN), None),
        "teacher_logits: expected finite logits, got nan at 1 places",
    ),
    "a teacher without end": (checks.check_teacher_values, (placed(X, INF), FIRST), "teacher_logits: expected finite logits, got inf"),
    "255": (
        checks.check_label_values,
        (X, placed(HALF, 255), None, None, DENSE),
        "target: expected labels in [0, 1], got 255 (and 0 more",
    ),
    "-0.1": (
        checks.check_label_values,
        (X, placed(HALF, -0.1), None, None, DENSE),
        "target: expected labels in [0, 1], got -0.1 (and 0",
    ),
    "NaN": (
        checks.check_label_values,
        (X, placed(HALF, NAN), None, None, DENSE),
        "target: expected labels in [0, 1], got nan (and 0 more ",
    ),
    "a sum of 0.9": (
        checks.check_label_values,
        (X, placed(HALF, 0.4), None, None, SOFTMAX),
        "target: expected softmax labels that sum to",
    ),
    "class 2 of 2": (
        checks.check_label_values,
        (X, placed(BYTES, 2), None, None, INDICES),
        "target: expected class indices 0 to 1, got 2 ",
    ),
    "class 0.5": (
        checks.check_label_values,
        (X, placed(BYTES.float(), 0.5), None, None, INDICES),
        "target: expected class indices, whole",
    ),
    "class -1": (
        checks.check_label_values,
        (X, placed(BYTES.char(), -1), None, None, INDICES),
        "target: expected class indices 0 to 1, ",
    ),
    "a class without end": (
        checks.check_label_values,
        (X, placed(BYTES.float(), INF), None, None, INDICES),
        "target: expected class indices 0 to 1, got inf at 1 voxels. Fix: check how the label was made",
    ),
    "bools that are no softmax label": (
        checks.check_label_values,
        (X, torch.ones(1, 2, 4, dtype=torch.bool), None, None, SOFTMAX),
        "target: expected softmax labels that sum to 1 over the channels (within 0.01), got a sum of 2 at 4 voxels",
    ),
    "vote 7": (
        checks.check_label_values,
        (X, placed(VOTES, 7), None, torch.ones(2), ANSWERS),
        "target: expected votes 0 to 1, got 7 at 1",
    ),
    "a soft label as hard": (
        checks.check_hard_values,
        (X, placed(X, 0.5), None, DENSE),
        "target: expected a hard label, one-hot with 0 an",
    ),
    "a negative vector": (
        checks.check_non_negative,
        (X, placed(X, -1)),
        "y: expected numbers >= 0, got -1. Fix: map signed vectors to the",
    ),
    "logits": (
        checks.check_predictions,
        (placed(HALF, 3), None, VoxelRecipe()),
        "input: expected probabilities in [0, 1], got 3. Fix: ",
    ),
    "an activation beyond 1": (
        checks.check_predictions,
        (placed(HALF, 3), FIRST, VoxelRecipe(Activation.OTHER, torch.exp)),
        "other_act(input): expected probabilities in [0, 1], got 3. Fix: use an activation with values in [0, 1]",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_value_is_refused_where_values_are_read(case: str) -> None:
    check, given, line = REFUSED[case]
    with pytest.raises(ValueError, match="^" + re.escape(line)):
        check(*given)
    with value_checks("off"):
        check(*given)


#: An error of what is judged in float32 lies just inside the tolerance.
PASSED: dict[str, tuple[Callable[..., None], tuple[Any, ...]]] = {
    "a mask of 0 and 1": (checks.check_mask_values, (FIRST.float(),)),
    "a missing rater": (checks.check_rater_weight_values, (torch.tensor([0.0, 2.0]),)),
    "no rater": (checks.check_rater_weight_values, (torch.zeros(0),)),
    "a teacher wrong outside of the mask": (checks.check_teacher_values, (placed(X, NAN), ~FIRST)),
    "a rounded label": (checks.check_label_values, (X, placed(HALF, 1 + 0.9 * checks.RANGE_TOLERANCE), None, None, DENSE)),
    "a rounded sum": (checks.check_label_values, (X, placed(HALF, 0.5 + 0.9 * checks.SUM_TOLERANCE), None, None, SOFTMAX)),
    "a label wrong outside of the mask": (checks.check_label_values, (X, placed(HALF, NAN), ~FIRST, None, DENSE)),
    "a sum wrong outside of the mask": (checks.check_label_values, (X, placed(HALF, 0), ~FIRST, None, SOFTMAX)),
    "an ignored class": (checks.check_label_values, (X, placed(BYTES, 9), None, None, reading(LabelForm.INDEX, ignore_index=9))),
    "bools and a marker that none of them is": (
        checks.check_label_values,
        (X, X > 0, None, None, reading(LabelForm.DENSE, ignore_index=255)),
    ),
    "a region's value in float": (
        checks.check_label_values,
        (X, placed(BYTES.float(), 9), None, None, reading(LabelForm.INDEX, regions=((1,), (9,)))),
    ),
    "a class outside of the mask": (checks.check_label_values, (X, placed(BYTES, 9), ~FIRST, None, INDICES)),
    "a vote of a missing rater": (checks.check_label_values, (X, placed(VOTES, 9), None, torch.tensor([0.0, 1.0]), ANSWERS)),
    "a value in no region": (
        checks.check_label_values,
        (X, placed(BYTES, 9), None, None, reading(LabelForm.INDEX, regions=((1,), (2,)))),
    ),
    "no voxel": (checks.check_label_values, (X[..., :0], X[..., :0], None, None, SOFTMAX)),
    "a soft voxel outside of the mask": (checks.check_hard_values, (X, placed(X, 0.5), ~FIRST, DENSE)),
    "indices are hard": (checks.check_hard_values, (X, placed(BYTES, 9), None, INDICES)),
    "a rounded prediction": (checks.check_predictions, (placed(HALF, -0.9 * checks.RANGE_TOLERANCE), None, VoxelRecipe())),
    "a prediction of NaN, which shows in the loss": (checks.check_predictions, (placed(HALF, NAN), None, VoxelRecipe())),
    "logits of a sigmoid": (checks.check_predictions, (placed(HALF, 3), None, DENSE)),
    "a wrong prediction outside of the mask": (checks.check_predictions, (placed(HALF, 3), ~FIRST, VoxelRecipe())),
}


@pytest.mark.parametrize("case", PASSED)
def test_what_is_right_or_does_not_count_passes(case: str) -> None:
    check, given = PASSED[case]
    check(*given)


def test_an_ignored_voxel_of_a_dense_label_has_the_marker_in_every_channel() -> None:
    recipe = reading(LabelForm.DENSE, ignore_index=-1)
    label = HALF.clone()
    label[..., 0] = -1
    checks.check_label_values(X, label, None, None, recipe)
    checks.check_hard_values(X, label.round(), None, recipe)
    with pytest.raises(ValueError, match=r"labels in \[0, 1\], got -1 "):
        checks.check_label_values(X, placed(HALF, -1), None, None, recipe)


def test_a_class_is_compared_in_the_numbers_of_its_dtype() -> None:
    """130 classes and a label of int8: the last class, 129, is -127 there. 300 is 44 in uint8."""
    many = torch.zeros(1, 130, 4)
    checks.check_label_values(many, placed(BYTES.char(), 127), None, None, INDICES)
    recipe = reading(LabelForm.INDEX, ignore_index=300)
    with pytest.raises(ValueError, match="class indices 0 to 1, got 44 at 1 voxels"):
        checks.check_label_values(X, placed(BYTES, 44), None, None, recipe)


def test_a_batch_without_raters_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    values._log_no_rater.cache_clear()
    for _ in range(2):
        checks.check_rater_weight_values(torch.zeros(3))
    (message,) = caplog.messages
    assert message.startswith("rater_weights: every rater of a batch has weight 0 (is missing)")
