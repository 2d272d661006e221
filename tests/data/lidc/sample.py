"""The real scan that tests of LIDC-IDRI compare with. It is never in the repository: where it is absent, its tests skip.

LIDC-IDRI, CC BY 3.0, Armato et al. 2011, TCIA, DOI 10.7937/K9/TCIA.2015.LO9QL9SX: `dicom/LIDC-IDRI-0001` with 41 slices and the XML,
and `nifti/LIDC-IDRI-0001` with the crop of the same nodule and one mask per reader, made by another program.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

#: The folder of the sample: named by the environment, or beside the checkout.
SAMPLE = Path(os.environ.get("MONAI_JDT_LIDC", Path(__file__).resolve().parents[4] / "shared" / "data" / "lidc"))

needs_sample = pytest.mark.skipif(not (SAMPLE / "dicom").is_dir(), reason="needs the scan of LIDC-IDRI-0001 (MONAI_JDT_LIDC)")
