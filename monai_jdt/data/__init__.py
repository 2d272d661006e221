"""Files and folders: layouts to lists of cases, phantoms, label conventions, and what is wrong with data."""

from monai_jdt.data.atomic import whole_file, whole_folder
from monai_jdt.data.brats import (
    LAYOUT_CONVENTIONS,
    MODALITIES,
    MSD_CHANNELS,
    brats_datalist,
    brats_layout,
)
from monai_jdt.data.curvas import curvas_datalist
from monai_jdt.data.datalist_file import read_datalist, write_datalist
from monai_jdt.data.grids import AFFINE_TOLERANCE, VoxelGrid, grid_problem
from monai_jdt.data.inspection import check_items, find_problems
from monai_jdt.data.kits import KITS21_PAINT_ORDER, KITS21_REGIONS, kits21_datalist, merge_kits21
from monai_jdt.data.label_values import WHOLE_TOLERANCE, distinct_values, whole_labels
from monai_jdt.data.listing import PATH_KEYS, CaseList, ListingRecord, SkippedPath, record_of
from monai_jdt.data.msseg import MSSEG_MODALITIES, msseg_datalist
from monai_jdt.data.names import folded_name, one_line, safe_relative_name, user_path
from monai_jdt.data.patterns import pattern_datalist
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
from monai_jdt.data.qubiq import QUBIQ_SETS, QubiqSet, qubiq_datalist
from monai_jdt.data.qubiq_phantoms import (
    QUBIQ_LAYOUTS,
    QubiqPhantom,
    ensure_qubiq_phantoms,
    qubiq_phantom,
    qubiq_styles,
    write_qubiq_phantoms,
)
from monai_jdt.data.regions import REGION_CONVENTIONS, RegionConvention, region_convention, regions_without_label
from monai_jdt.data.splits import folds, split_cases

__all__ = [
    "AFFINE_TOLERANCE",
    "DEFAULT_STYLES",
    "KITS21_PAINT_ORDER",
    "KITS21_REGIONS",
    "LAYOUT_CONVENTIONS",
    "MODALITIES",
    "MSD_CHANNELS",
    "MSSEG_MODALITIES",
    "PATH_KEYS",
    "QUBIQ_LAYOUTS",
    "QUBIQ_SETS",
    "REGION_CONVENTIONS",
    "WHOLE_TOLERANCE",
    "CaseList",
    "DataProblem",
    "DataProblemError",
    "ListingRecord",
    "PhantomCase",
    "PhantomLatent",
    "QubiqPhantom",
    "QubiqSet",
    "RaterStyle",
    "RegionConvention",
    "SkippedPath",
    "VoxelGrid",
    "brats_datalist",
    "brats_layout",
    "brats_phantom",
    "check_items",
    "curvas_datalist",
    "distinct_values",
    "draw_rater",
    "ensure_brats_phantoms",
    "ensure_qubiq_phantoms",
    "error_line",
    "find_problems",
    "folded_name",
    "folds",
    "grid_problem",
    "kits21_datalist",
    "merge_kits21",
    "msseg_datalist",
    "one_line",
    "pattern_datalist",
    "qubiq_datalist",
    "qubiq_phantom",
    "qubiq_styles",
    "rater_probability",
    "read_datalist",
    "record_of",
    "region_convention",
    "regions_without_label",
    "safe_relative_name",
    "split_cases",
    "user_path",
    "whole_file",
    "whole_folder",
    "whole_labels",
    "write_brats_phantoms",
    "write_datalist",
    "write_qubiq_phantoms",
]
