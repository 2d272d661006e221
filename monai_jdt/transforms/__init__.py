"""Transforms in MONAI's calling conventions, as `X` and `Xd`."""

from monai_jdt.transforms.load_raters import LoadRaters, LoadRatersd
from monai_jdt.transforms.load_volumes import LoadVolume, LoadVolumed, VolumeReader
from monai_jdt.transforms.rater_stacks import (
    PadRaters,
    PadRatersd,
    RandSampleRater,
    RandSampleRaterd,
    rater_collate,
)
from monai_jdt.transforms.raters import FuseRaters, FuseRatersd
from monai_jdt.transforms.soft_labels import (
    LabelRegions,
    LabelRegionsd,
    RestoreSoftLabel,
    RestoreSoftLabeld,
    RestoreVotes,
    RestoreVotesd,
    SmoothLabel,
    SmoothLabeld,
    nearest_only,
)

__all__ = [
    "FuseRaters",
    "FuseRatersd",
    "LabelRegions",
    "LabelRegionsd",
    "LoadRaters",
    "LoadRatersd",
    "LoadVolume",
    "LoadVolumed",
    "PadRaters",
    "PadRatersd",
    "RandSampleRater",
    "RandSampleRaterd",
    "RestoreSoftLabel",
    "RestoreSoftLabeld",
    "RestoreVotes",
    "RestoreVotesd",
    "SmoothLabel",
    "SmoothLabeld",
    "VolumeReader",
    "nearest_only",
    "rater_collate",
]
