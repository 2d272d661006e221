"""Transforms in MONAI's calling conventions, as `X` and `Xd`."""

from monai_jdt.transforms.collation import rater_collate
from monai_jdt.transforms.decide_mask import DecideMask, DecideMaskd
from monai_jdt.transforms.draw_samples import DrawSamples, DrawSamplesd
from monai_jdt.transforms.fuse_raters import FuseRaters, FuseRatersd
from monai_jdt.transforms.label_interpolation import nearest_only
from monai_jdt.transforms.label_regions import LabelRegions, LabelRegionsd
from monai_jdt.transforms.load_raters import LoadRaters, LoadRatersd
from monai_jdt.transforms.load_volume import LoadVolume, LoadVolumed, VolumeReader
from monai_jdt.transforms.pad_raters import PadRaters, PadRatersd
from monai_jdt.transforms.rand_sample_rater import RandSampleRater, RandSampleRaterd
from monai_jdt.transforms.region_form import LabelPictureWriter, RegionForm, RegionFormd
from monai_jdt.transforms.restore_soft_label import RestoreSoftLabel, RestoreSoftLabeld
from monai_jdt.transforms.restore_votes import RestoreVotes, RestoreVotesd
from monai_jdt.transforms.same_grid_writer import SameGridWriter
from monai_jdt.transforms.save_samples import SaveSamples, SaveSamplesd
from monai_jdt.transforms.smooth_label import SmoothLabel, SmoothLabeld

__all__ = [
    "DecideMask",
    "DecideMaskd",
    "DrawSamples",
    "DrawSamplesd",
    "FuseRaters",
    "FuseRatersd",
    "LabelPictureWriter",
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
    "RegionForm",
    "RegionFormd",
    "RestoreSoftLabel",
    "RestoreSoftLabeld",
    "RestoreVotes",
    "RestoreVotesd",
    "SameGridWriter",
    "SaveSamples",
    "SaveSamplesd",
    "SmoothLabel",
    "SmoothLabeld",
    "VolumeReader",
    "nearest_only",
    "rater_collate",
]
