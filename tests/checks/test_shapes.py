"""Static checks: each refuses one misfit in one sentence, and passes what fits."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

from monai_jdt import checks
from monai_jdt.definitions import Activation, LabelForm, LabelReading, VoxelRecipe

X = torch.zeros(2, 3, 4, 5)
INDEX = torch.zeros(2, 1, 4, 5, dtype=torch.uint8)
VOTES = torch.zeros(2, 6, 4, 5, dtype=torch.uint8)
ELSEWHERE = torch.device("meta")

DENSE = VoxelRecipe()
SOFTMAX = VoxelRecipe(Activation.SOFTMAX)
SIGMOID = VoxelRecipe(Activation.SIGMOID)
INDICES = VoxelRecipe(label=LabelReading(LabelForm.INDEX))
ANSWERS = VoxelRecipe(label=LabelReading(LabelForm.VOTES))
REGIONS = VoxelRecipe(label=LabelReading(LabelForm.INDEX, regions=((1,), (1, 2), (300, 400))))
NO_BACKGROUND = VoxelRecipe(include_background=False)

REFUSED: dict[str, tuple[Callable[..., None], tuple[Any, ...], str]] = {
    "no axis of channels": (
        checks.check_input,
        (X[0, 0, 0], DENSE),
        "input: expected shape (N, C, *spatial) with C >= 1, got shape (5,)",
    ),
    "no channel": (checks.check_input, (X[:, :0], DENSE), "input: expected shape (N, C, *spatial) with C >= 1, got shape (2, 0, 4, 5)"),
    "a softmax of one channel": (
        checks.check_input,
        (X[:, :1], SOFTMAX),
        "softmax: expected at least 2 channels in input with softmax=T",
    ),
    "one channel, the background": (
        checks.check_input,
        (X[:, :1], NO_BACKGROUND),
        "include_background: expected at least 2 channels in",
    ),
    "indices of one channel": (
        checks.check_input,
        (X[:, :1], INDICES),
        "to_onehot_y: expected at least 2 channels in input with to_one",
    ),
    "two channels for three regions": (
        checks.check_input,
        (X[:, :2], REGIONS),
        "regions: expected one for each of the 2 channels of in",
    ),
    "a dense label of one channel": (
        checks.check_target,
        (X, INDEX, DENSE),
        "target: expected shape (2, 3, 4, 5), the shape of input, ",
    ),
    "the maps of five raters without votes": (
        checks.check_target,
        (X, X[:, :1].expand(-1, 5, -1, -1), DENSE),
        "target: expected shape (2, 3, 4, 5), the shape of input, got shape (2, 5, 4, 5). "
        "Fix: for the maps of several raters pass votes=True",
    ),
    "a soft label as indices": (
        checks.check_target,
        (X, X, INDICES),
        "target: expected class indices of shape (2, 1, 4, 5), got shape (2",
    ),
    "votes of nobody": (
        checks.check_target,
        (X, VOTES[:, :0], ANSWERS),
        "target: expected shape (2, 'R', 4, 5), one map of label values ",
    ),
    "votes of other images": (
        checks.check_target,
        (X, VOTES[:1], ANSWERS),
        "target: expected shape (2, 'R', 4, 5), one map of label values",
    ),
    "votes of another size": (
        checks.check_target,
        (X, VOTES[..., 1:], ANSWERS),
        "target: expected shape (2, 'R', 4, 5), one map of label",
    ),
    "a label elsewhere": (
        checks.check_target,
        (X, X.to(ELSEWHERE), DENSE),
        "target: expected a tensor on cpu, where input is, got one on meta",
    ),
    "a region beyond the dtype": (
        checks.check_target,
        (X, INDEX, REGIONS),
        "regions: expected values that a label of torch.uint8 can have",
    ),
    "a teacher of other classes": (
        checks.check_teacher,
        (X, X[:, 1:]),
        "teacher_logits: expected shape (2, 3, 4, 5), the shape of input, g",
    ),
    "a teacher elsewhere": (
        checks.check_teacher,
        (X, X.to(ELSEWHERE)),
        "teacher_logits: expected a tensor on cpu, where input is, got one o",
    ),
    "a mask of channels": (
        checks.check_mask,
        (X, X, SOFTMAX),
        "mask: expected shape (2, 1, 4, 5), got shape (2, 3, 4, 5). Fix: pass sigmoid",
    ),
    "a mask of two channels": (
        checks.check_mask,
        (X, X[:, 1:], SIGMOID),
        "mask: expected shape (2, 1, 4, 5) or (2, 3, 4, 5), got shape (2, 2,",
    ),
    "a mask elsewhere": (
        checks.check_mask,
        (X, INDEX.to(ELSEWHERE), DENSE),
        "mask: expected a tensor on cpu, where input is, got one on meta",
    ),
    "weights without votes": (
        checks.check_rater_weights,
        (X, INDEX, torch.ones(1), INDICES),
        "rater_weights: expected None without votes",
    ),
    "a weight too few": (
        checks.check_rater_weights,
        (X, VOTES, torch.ones(5), ANSWERS),
        "rater_weights: expected shape (2, 6) or (6,), g",
    ),
    "weights elsewhere": (
        checks.check_rater_weights,
        (X, VOTES, torch.ones(6, device=ELSEWHERE), ANSWERS),
        "rater_weights: expected a tensor on cpu, where input is, got one on meta",
    ),
    "a class too few": (
        checks.check_class_weight,
        (X, torch.ones(2), DENSE),
        "weight: expected 3 entries (one for each channel in the ove",
    ),
    "a class too many": (
        checks.check_class_weight,
        (X, torch.ones(3), NO_BACKGROUND),
        "weight: expected 2 entries (one for each channel",
    ),
    "class weights elsewhere": (
        checks.check_class_weight,
        (X, torch.ones(3, device=ELSEWHERE), DENSE),
        "weight: expected a tensor on cpu, where input is, got one on meta. Fix: move the loss with .to(input.device)",
    ),
    "an activation that drops a class": (
        checks.check_activated,
        (X[:, 1:], X),
        "other_act(input): expected shape (2, 3, 4, 5), the shape ",
    ),
    "a number as a vector": (
        checks.check_pair,
        (X[0, 0, 0, 0], X[0, 0, 0, 0]),
        "x: expected a vector or several, got a number. Fix: pass x",
    ),
    "vectors of two lengths": (
        checks.check_pair,
        (X, X[..., 1:]),
        "y: expected shape (2, 3, 4, 5), the shape of x, got shape (2, 3, 4, 4)",
    ),
    "vectors in two places": (checks.check_pair, (X, X.to(ELSEWHERE)), "y: expected a tensor on cpu, where x is, got one on meta"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_misfit_is_refused(case: str) -> None:
    check, given, line = REFUSED[case]
    with pytest.raises(ValueError, match="^" + re.escape(line)):
        check(*given)


@pytest.mark.parametrize(
    ("check", "given", "line"),
    [
        (checks.check_input, (X.long(), DENSE), "input: expected a floating point dtype, got torch.int64"),
        (checks.check_teacher, (X, X.long()), "teacher_logits: expected a floating point dtype, got torch.int64"),
        (checks.check_activated, (X > 0, X), "other_act(input): expected a floating point tensor, got torch.bool"),
        (checks.check_activated, ([X], X), "other_act(input): expected a floating point tensor, got list"),
        (checks.check_pair, (X, X.long()), "y: expected a floating point dtype, got torch.int64"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_dtype_that_is_not_floating_point_is_refused(check: Callable[..., None], given: tuple[Any, ...], line: str) -> None:
    with pytest.raises(TypeError, match="^" + re.escape(line)):
        check(*given)


@pytest.mark.parametrize(
    ("recipe", "label", "fix"),
    [
        (DENSE, INDEX, "for a map of class indices pass to_onehot_y=True (or regions=...)"),
        (DENSE, INDEX[:, 0], "add the channel dimension with target[:, None] and pass to_onehot_y=True"),
        (INDICES, X, "leave to_onehot_y and regions out: the target looks one-hot or soft"),
        (INDICES, INDEX[:, 0], "add the channel dimension with target[:, None]"),
    ],
    ids=["an index map", "an index map without channels", "one-hot", "indices without channels"],
)
def test_a_label_of_another_form_has_its_fix(recipe: VoxelRecipe, label: torch.Tensor, fix: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"Fix: {fix}.") + "$"):
        checks.check_target(X, label, recipe)


def test_what_fits_passes() -> None:
    for recipe in (DENSE, SOFTMAX, SIGMOID, INDICES, REGIONS):
        checks.check_input(X, recipe)
    checks.check_input(X[:, :1], SIGMOID)
    for label, recipe in ((X, DENSE), (INDEX, INDICES), (VOTES, ANSWERS), (INDEX.short(), REGIONS), (INDEX.float(), REGIONS)):
        checks.check_target(X, label, recipe)
    checks.check_teacher(X, X)
    checks.check_mask(X, INDEX, SOFTMAX)
    checks.check_mask(X, X, SIGMOID)
    for weights in (torch.ones(6), torch.ones(2, 6)):
        checks.check_rater_weights(X, VOTES, weights, ANSWERS)
    for weight, recipe in ((torch.ones(()), DENSE), (torch.ones(3), DENSE), (torch.ones(2), NO_BACKGROUND)):
        checks.check_class_weight(X, weight, recipe)
    checks.check_activated(X, X)
    checks.check_pair(X, X)
