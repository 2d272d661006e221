"""Transforms in MONAI's calling conventions, as `X` and `Xd`."""

from monai_jdt.transforms.rater_stacks import (
    PadRaters,
    PadRatersd,
    RandSampleRater,
    RandSampleRaterd,
    rater_collate,
)
from monai_jdt.transforms.raters import FuseRaters, FuseRatersd, LoadRaters, LoadRatersd

__all__ = [
    "FuseRaters",
    "FuseRatersd",
    "LoadRaters",
    "LoadRatersd",
    "PadRaters",
    "PadRatersd",
    "RandSampleRater",
    "RandSampleRaterd",
    "rater_collate",
]
