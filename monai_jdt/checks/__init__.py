"""Checks of tensors before they are used.

Static checks (`shapes`: types, shapes, dtypes, devices) always run. Value checks (`values`: ranges, whole numbers, softmax labels that
sum to 1) read the data, which costs a pass and, on an accelerator, a synchronisation. By default they run on eager CPU tensors only;
:class:`value_checks` (`switch`) changes that.
"""

from monai_jdt.checks.shapes import (
    check_activated,
    check_class_weight,
    check_input,
    check_mask,
    check_pair,
    check_rater_weights,
    check_target,
    check_teacher,
)
from monai_jdt.checks.switch import can_read_values, value_checks
from monai_jdt.checks.values import (
    RANGE_TOLERANCE,
    SUM_TOLERANCE,
    check_hard_values,
    check_label_values,
    check_mask_values,
    check_non_negative,
    check_predictions,
    check_rater_weight_values,
    check_teacher_values,
)

__all__ = [
    "RANGE_TOLERANCE",
    "SUM_TOLERANCE",
    "can_read_values",
    "check_activated",
    "check_class_weight",
    "check_hard_values",
    "check_input",
    "check_label_values",
    "check_mask",
    "check_mask_values",
    "check_non_negative",
    "check_pair",
    "check_predictions",
    "check_rater_weight_values",
    "check_rater_weights",
    "check_target",
    "check_teacher",
    "check_teacher_values",
    "value_checks",
]
