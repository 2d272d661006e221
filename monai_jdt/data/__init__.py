"""Files and folders: layouts to lists of cases, phantoms, label conventions, and what is wrong with data."""

from monai_jdt.data.brats import (
    LAYOUT_CONVENTIONS,
    MODALITIES,
    MSD_CHANNELS,
    brats_datalist,
    brats_layout,
    pattern_datalist,
    split_cases,
)
from monai_jdt.data.inspection import check_items, find_problems
from monai_jdt.data.phantoms import (
    DEFAULT_STYLES,
    PhantomCase,
    PhantomLatent,
    RaterStyle,
    brats_phantom,
    draw_rater,
    ensure_brats_phantoms,
    rater_probability,
    write_brats_phantoms,
)
from monai_jdt.data.problems import DataProblem, DataProblemError, error_line
from monai_jdt.data.regions import REGION_CONVENTIONS, RegionConvention, region_convention

__all__ = [
    "DEFAULT_STYLES",
    "LAYOUT_CONVENTIONS",
    "MODALITIES",
    "MSD_CHANNELS",
    "REGION_CONVENTIONS",
    "DataProblem",
    "DataProblemError",
    "PhantomCase",
    "PhantomLatent",
    "RaterStyle",
    "RegionConvention",
    "brats_datalist",
    "brats_layout",
    "brats_phantom",
    "check_items",
    "draw_rater",
    "ensure_brats_phantoms",
    "error_line",
    "find_problems",
    "pattern_datalist",
    "rater_probability",
    "region_convention",
    "split_cases",
    "write_brats_phantoms",
]
