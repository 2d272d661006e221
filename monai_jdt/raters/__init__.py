"""Several raters of one image: how their label maps become one label, soft or hard.

**Missing and empty raters**, the same in every fusion. A rater of weight 0 is *missing*: its map in the stack is not read. A rater who
is there and marked nothing is *empty*: that is an answer, background everywhere, and counts as one.

An image whose raters are all missing has no label. A fusion, or a draw of one rater, raises. A loss ignores the image, as it ignores a
voxel at which no rater speaks.
"""

from monai_jdt.raters.average import fuse_average
from monai_jdt.raters.dice_weighted import dice_weights, fuse_dice_weighted
from monai_jdt.raters.estimates import RaterEstimates
from monai_jdt.raters.intersection import fuse_intersection
from monai_jdt.raters.label_map import regions_to_label_map
from monai_jdt.raters.majority import fuse_majority
from monai_jdt.raters.multilabel_staple import estimate_multilabel_staple, fuse_multilabel_staple
from monai_jdt.raters.random_rater import fuse_random
from monai_jdt.raters.region_names import named_regions
from monai_jdt.raters.staple import estimate_staple, fuse_staple
from monai_jdt.raters.union import fuse_union
from monai_jdt.raters.votes import region_votes
from monai_jdt.raters.weighted import fuse_weighted

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
    "regions_to_label_map",
]
