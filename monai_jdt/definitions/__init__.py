"""Decisions as enums, losses as frozen records, and what turns arguments into them.

`enums` holds the named decisions, `recipes` the records, `sums` what a kernel returns, `arguments` the way from a constructor's
arguments to enums. Everything can be imported from here.
"""

from monai_jdt.definitions.arguments import activation_of, active_classes_of, average_of, backend_of, label_form_of, regions_of
from monai_jdt.definitions.enums import Activation, ActiveClasses, Backend, LabelForm, PixelTerm
from monai_jdt.definitions.recipes import AveragingRule, LabelReading, LossRecipe, PixelRule, RatioRule, VoxelRecipe
from monai_jdt.definitions.sums import VoxelSums

__all__ = [
    "Activation",
    "ActiveClasses",
    "AveragingRule",
    "Backend",
    "LabelForm",
    "LabelReading",
    "LossRecipe",
    "PixelRule",
    "PixelTerm",
    "RatioRule",
    "VoxelRecipe",
    "VoxelSums",
    "activation_of",
    "active_classes_of",
    "average_of",
    "backend_of",
    "label_form_of",
    "regions_of",
]
