"""Several raters of one image: how their label maps become one label."""

from monai_jdt.raters.fusion import (
    RaterEstimates,
    dice_weights,
    fuse_average,
    fuse_dice_weighted,
    fuse_intersection,
    fuse_majority,
    fuse_random,
    fuse_union,
    fuse_weighted,
    named_regions,
    region_votes,
)
from monai_jdt.raters.staple import estimate_multilabel_staple, estimate_staple, fuse_multilabel_staple, fuse_staple

__all__ = [
    "RaterEstimates",
    "dice_weights",
    "estimate_multilabel_staple",
    "estimate_staple",
    "fuse_average",
    "fuse_dice_weighted",
    "fuse_intersection",
    "fuse_majority",
    "fuse_multilabel_staple",
    "fuse_random",
    "fuse_staple",
    "fuse_union",
    "fuse_weighted",
    "named_regions",
    "region_votes",
]
