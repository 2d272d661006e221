"""Scans, readers' marks and contours of LIDC-IDRI as frozen records, whatever they were read from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from monai_jdt.validation import error_sentence

#: How many radiologists read each scan.
LIDC_READERS = 4
#: The characteristics that a reader rates, in the order of the XML. Ratings are whole numbers from 1 to 5, of internalStructure to 4,
#: of calcification to 6.
LIDC_CHARACTERISTICS = (
    "subtlety",
    "internalStructure",
    "calcification",
    "sphericity",
    "margin",
    "lobulation",
    "spiculation",
    "texture",
    "malignancy",
)
#: A contour belongs to a slice if it is nearer than this share of the smallest distance between slices.
_SLICE_TOLERANCE = 0.25


@dataclass(frozen=True)
class LidcContour:
    """One outline that a reader drew on one slice.

    Args:
        z: the slice's position along the patient in mm, DICOM's z.
        points: pixel indices `(x, y)`, x the column and y the row, both from 0, one after the other around the outline.
        inclusion: True: the pixels inside belong to the nodule. False: they are cut out of it.
        sop_uid: the UID of the slice's image; empty if the source does not name it.
    """

    z: float
    points: tuple[tuple[int, int], ...]
    inclusion: bool = True
    sop_uid: str = ""


@dataclass(frozen=True)
class LidcMark:
    """What one reader outlined as one nodule of at least 3 mm.

    Args:
        reader: 0 to 3, the place of the reading session in the XML. Readers are exchangeable: reader 0 of one scan is not reader 0 of
            the next. None: the source does not tell the readers apart.
        name: the reader's own name of the nodule, `noduleID`.
        contours: the outlines, on one or more slices.
        characteristics: ratings by the names of `LIDC_CHARACTERISTICS`. Those that the reader left out are absent.
    """

    reader: int | None
    name: str
    contours: tuple[LidcContour, ...]
    characteristics: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class LidcScan:
    """The grid of one CT series.

    Args:
        patient: such as LIDC-IDRI-0001.
        series_uid: DICOM's SeriesInstanceUID, which the XML names.
        study_uid: DICOM's StudyInstanceUID.
        rows: pixels along y.
        columns: pixels along x.
        pixel_spacing: mm between columns (x) and mm between rows (y).
        slice_positions: z of each slice in mm, in increasing order.

    Raises:
        ValueError: no slice, or positions that do not increase.
    """

    patient: str
    series_uid: str
    study_uid: str
    rows: int
    columns: int
    pixel_spacing: tuple[float, float]
    slice_positions: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.slice_positions or not (np.diff(self.slice_positions) > 0).all():
            got = "none" if not self.slice_positions else "positions that repeat or go back"
            raise ValueError(error_sentence("slice_positions", "z of at least one slice in mm, in increasing order", got, "sort them"))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along x, y and z, the order of a NIfTI file's axes."""
        return self.columns, self.rows, len(self.slice_positions)

    @property
    def slice_spacing(self) -> float:
        """The median distance between slices in mm. It is 1 for a single slice."""
        return float(np.median(np.diff(self.slice_positions))) if len(self.slice_positions) > 1 else 1.0

    @property
    def spacing(self) -> tuple[float, float, float]:
        """The mm between voxels along x, y and z, where slices have one distance up to rounding."""
        positions = self.slice_positions
        mean = (positions[-1] - positions[0]) / (len(positions) - 1) if len(positions) > 1 else 1.0
        return (*self.pixel_spacing, mean)

    def slice_index(self, z: float) -> int:
        """Return the number of the slice at a position.

        A slice is at `z` if it is nearer than a quarter of the smallest distance between slices, so that rounded numbers match and a
        missing slice is not replaced by its neighbour.

        Args:
            z: in mm.

        Raises:
            ValueError: no slice is there.
        """
        positions = np.asarray(self.slice_positions)
        nearest = int(np.abs(positions - z).argmin())
        smallest = float(np.diff(positions).min()) if len(positions) > 1 else 1.0
        if not abs(positions[nearest] - z) < _SLICE_TOLERANCE * smallest:  # nan is nowhere
            got = f"a contour at {z:g} mm, where the nearest slice is at {positions[nearest]:g} mm"
            fix = "download the series again, since the slice is missing"
            raise ValueError(error_sentence(f"series {self.series_uid}", "a slice at each contour", got, fix))
        return nearest
