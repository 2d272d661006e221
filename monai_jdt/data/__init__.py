"""Lists of cases from folders and from JSON, the check of their files, region conventions, splits, and phantoms.

* `files`: volumes of any format are opened and read; files are written whole or not at all.
* `layouts`: a data set's folder becomes a list of cases, one file per layout.
* `lidc`: LIDC-IDRI's DICOM series and XML become cases.
* `inspection`: the check of a list, which opens every file.
* `phantoms`: synthetic data sets whose true probability is known.
* `datalist_file`, `list_forms`: lists as JSON, our own and those of other tools. `splits`: training, validation and folds.
* `problems`: the one line about a fault. `names`, `file_names`: names and paths as people write them. `rater_names`: the people.
"""

import sys

from monai_jdt.data.datalist_file import read_datalist, write_datalist
from monai_jdt.data.files import grids, label_values, nifti, volumes
from monai_jdt.data.files.atomic import whole_file, whole_folder
from monai_jdt.data.files.grids import AFFINE_TOLERANCE, VoxelGrid, grid_problem
from monai_jdt.data.files.label_values import WHOLE_TOLERANCE, distinct_values, whole_labels
from monai_jdt.data.inspection import mirrored_raters
from monai_jdt.data.inspection.cases import check_items, find_problems
from monai_jdt.data.layouts import regions
from monai_jdt.data.layouts.brats import (
    LAYOUT_CONVENTIONS,
    MODALITIES,
    MSD_CHANNELS,
    brats_datalist,
    brats_layout,
)
from monai_jdt.data.layouts.curvas import curvas_datalist
from monai_jdt.data.layouts.kits21 import KITS21_PAINT_ORDER, KITS21_REGIONS, kits21_datalist, merge_kits21
from monai_jdt.data.layouts.listing import PATH_KEYS, CaseList, ListingRecord, SkippedPath, record_of
from monai_jdt.data.layouts.msseg import MSSEG_MODALITIES, msseg_datalist
from monai_jdt.data.layouts.patterns import pattern_datalist
from monai_jdt.data.layouts.qubiq import QUBIQ_SETS, QubiqSet, qubiq_datalist
from monai_jdt.data.layouts.regions import REGION_CONVENTIONS, RegionConvention, region_convention, regions_without_label
from monai_jdt.data.lidc import LidcConversion, convert_lidc
from monai_jdt.data.names import folded_name, one_line, safe_relative_name, user_path
from monai_jdt.data.phantoms.brats import PhantomCase, brats_phantom, ensure_brats_phantoms, write_brats_phantoms
from monai_jdt.data.phantoms.lidc import (
    LIDC_STYLES,
    LidcPhantom,
    LidcPhantomNodule,
    ensure_lidc_phantoms,
    lidc_phantom,
    write_lidc_phantoms,
)
from monai_jdt.data.phantoms.qubiq import (
    QUBIQ_LAYOUTS,
    QubiqPhantom,
    ensure_qubiq_phantoms,
    qubiq_phantom,
    qubiq_styles,
    write_qubiq_phantoms,
)
from monai_jdt.data.phantoms.raters import DEFAULT_STYLES, PhantomLatent, RaterStyle, draw_rater, rater_probability
from monai_jdt.data.problems import DataProblem, DataProblemError, error_line
from monai_jdt.data.rater_names import names_of_raters
from monai_jdt.data.resampling import ResampledRaters, resample_raters
from monai_jdt.data.splits import folds, split_cases

__all__ = [
    "AFFINE_TOLERANCE",
    "DEFAULT_STYLES",
    "KITS21_PAINT_ORDER",
    "KITS21_REGIONS",
    "LAYOUT_CONVENTIONS",
    "LIDC_STYLES",
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
    "LidcConversion",
    "LidcPhantom",
    "LidcPhantomNodule",
    "ListingRecord",
    "PhantomCase",
    "PhantomLatent",
    "QubiqPhantom",
    "QubiqSet",
    "RaterStyle",
    "RegionConvention",
    "ResampledRaters",
    "SkippedPath",
    "VoxelGrid",
    "brats_datalist",
    "brats_layout",
    "brats_phantom",
    "check_items",
    "convert_lidc",
    "curvas_datalist",
    "distinct_values",
    "draw_rater",
    "ensure_brats_phantoms",
    "ensure_lidc_phantoms",
    "ensure_qubiq_phantoms",
    "error_line",
    "find_problems",
    "folded_name",
    "folds",
    "grid_problem",
    "kits21_datalist",
    "lidc_phantom",
    "merge_kits21",
    "msseg_datalist",
    "names_of_raters",
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
    "resample_raters",
    "safe_relative_name",
    "split_cases",
    "user_path",
    "whole_file",
    "whole_folder",
    "whole_labels",
    "write_brats_phantoms",
    "write_datalist",
    "write_lidc_phantoms",
    "write_qubiq_phantoms",
]

# Module paths that docstrings named before the rooms: `from monai_jdt.data.volumes import open_volume` still works.
_FORMER_PATHS = {
    "grids": grids,
    "label_values": label_values,
    "mirrored": mirrored_raters,
    "nifti": nifti,
    "regions": regions,
    "volumes": volumes,
}
sys.modules.update({f"{__name__}.{_name}": _module for _name, _module in _FORMER_PATHS.items()})
