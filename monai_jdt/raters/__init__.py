"""Several raters of one image: how their label maps become one label."""

from monai_jdt.raters.fusion import fuse_average, fuse_majority, named_regions, region_votes

__all__ = ["fuse_average", "fuse_majority", "named_regions", "region_votes"]
