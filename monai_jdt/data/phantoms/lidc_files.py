"""The files of one LIDC case: a DICOM series, and the XML file of its reading sessions. The same content gives the same bytes."""

from __future__ import annotations

import hashlib
import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from monai_jdt.data.files.kept_locale import kept_locale
from monai_jdt.data.phantoms.chest import ChestGrid
from monai_jdt.data.phantoms.outlines import outlines_of


@dataclass(frozen=True)
class LidcPointMark:
    """One voxel that a reader pointed at."""

    slice: int
    row: int
    column: int


@dataclass(frozen=True)
class NoduleReading:
    """What a reader drew of one nodule of at least 3 mm.

    Args:
        corner: the first voxel of the box: slice, row, column.
        mask: `(d, h, w)` bool.
        characteristics: the reader's scores.
    """

    corner: tuple[int, int, int]
    mask: np.ndarray
    characteristics: Mapping[str, int]


@dataclass(frozen=True)
class LidcReading:
    """One reading session.

    Args:
        reader: the anonymous number of the radiologist.
        nodules: nodules of at least 3 mm.
        small: nodules of less than 3 mm.
        non_nodules: what looks like a nodule of at least 3 mm, and is none.
    """

    reader: int
    nodules: tuple[NoduleReading, ...]
    small: tuple[LidcPointMark, ...]
    non_nodules: tuple[LidcPointMark, ...]


@dataclass(frozen=True)
class SeriesToWrite:
    """A series and its readings.

    Args:
        patient: the patient's name.
        identity: a text from which the UIDs are made: the same text gives the same UIDs.
        image: `(D, H, W)` int16 in HU, slices upwards.
        grid: the voxels' places.
        readings: the sessions.
        xml_name: the name of the XML file.
    """

    patient: str
    identity: str
    image: np.ndarray
    grid: ChestGrid
    readings: tuple[LidcReading, ...]
    xml_name: str

    def uid(self, part: str) -> str:
        """Return a UID as it is made of a UUID: 2.25 and a number (DICOM PS3.5, B.2)."""
        return f"2.25.{int.from_bytes(hashlib.sha256(f'{self.identity} {part}'.encode()).digest()[:15], 'big')}"

    def slice_uid(self, number: int) -> str:
        """Return the UID of a slice, counted upwards."""
        return self.uid(f"slice {number}")


def write_lidc_series(patient_folder: str, series: SeriesToWrite) -> None:
    """Write `<study UID>/<series UID>/1-001.dcm, ...` and the XML file beside them.

    As in LIDC-IDRI, the slices are numbered from the head downwards.

    Args:
        patient_folder: the folder of the patient; it is made.
        series: what to write.
    """
    import SimpleITK

    folder = os.path.join(patient_folder, series.uid("study"), series.uid("series"))
    os.makedirs(folder)
    writer = SimpleITK.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    count = len(series.image)
    for number in range(count):
        instance = count - number
        piece = SimpleITK.GetImageFromArray(series.image[number : number + 1])
        piece.SetSpacing(series.grid.spacing[::-1])
        piece.SetOrigin((float(series.grid.x[0]), float(series.grid.y[0]), float(series.grid.z[number])))
        for tag, value in _tags(series, number, instance).items():
            piece.SetMetaData(tag, value)
        writer.SetFileName(os.path.join(folder, f"1-{instance:03d}.dcm"))
        with kept_locale():
            writer.Execute(piece)
    with open(os.path.join(folder, series.xml_name), "wb") as file:
        file.write(_xml(series))


def _tags(series: SeriesToWrite, number: int, instance: int) -> dict[str, str]:
    """Return the tags that SimpleITK does not make of the image. Without times of ours, GDCM writes those of the clock."""
    grid = series.grid
    height = f"{float(grid.z[number]):.6f}"
    return {
        "0008|0008": "ORIGINAL\\PRIMARY\\AXIAL",
        "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
        "0008|0018": series.slice_uid(number),
        "0008|0020": "20000101",
        "0008|0021": "20000101",
        "0008|0023": "20000101",
        "0008|0030": "000000",
        "0008|0060": "CT",
        "0008|0070": "monai_jdt phantom",
        "0010|0010": "",
        "0010|0020": series.patient,
        "0012|0062": "YES",
        "0018|0015": "CHEST",
        "0018|0050": f"{grid.spacing[0]:.6f}",
        "0018|0060": "120",
        # GDCM writes this one itself once the process has read a DICOM file: here in the same letters
        "0018|0088": f"{grid.spacing[0]:.10g}",
        "0020|000d": series.uid("study"),
        "0020|000e": series.uid("series"),
        "0020|0011": "1",
        "0020|0013": str(instance),
        "0020|0032": f"{float(grid.x[0]):.6f}\\{float(grid.y[0]):.6f}\\{height}",
        "0020|0037": "1\\0\\0\\0\\1\\0",
        "0020|0052": series.uid("frame of reference"),
        "0020|1041": height,
        "0028|1050": "-600",
        "0028|1051": "1600",
        # stored values are HU + 1024
        "0028|1052": "-1024",
        "0028|1053": "1",
    }


def _xml(series: SeriesToWrite) -> bytes:
    root = ElementTree.Element("LidcReadMessage", {"uid": series.uid("message"), "xmlns": "http://www.nih.gov"})
    header = ElementTree.SubElement(root, "ResponseHeader")
    for name, text in (
        ("Version", "1.8.1"),
        ("TaskDescription", "Second unblinded read"),
        ("SeriesInstanceUid", series.uid("series")),
        ("DateService", "2000-01-01"),
        ("TimeService", "00:00:00"),
        ("ResponseDescription", "1 - Reading complete"),
        ("StudyInstanceUID", series.uid("study")),
    ):
        ElementTree.SubElement(header, name).text = text
    for session, reading in enumerate(series.readings):
        root.append(_session(series, session, reading))
    ElementTree.indent(root)
    content: bytes = ElementTree.tostring(root, encoding="UTF-8", xml_declaration=True)
    return content


def _session(series: SeriesToWrite, session: int, reading: LidcReading) -> ElementTree.Element:
    node = ElementTree.Element("readingSession")
    ElementTree.SubElement(node, "annotationVersion").text = "3.12"
    ElementTree.SubElement(node, "servicingRadiologistID").text = str(reading.reader)
    # LIDC's sites named their nodules differently, and so do the sessions here
    name = ("Nodule {:03d}", "IL057_{:d}", "MI014_{:d}", "{:d}")[session % 4]
    numbers = iter(range(1, 1000))
    for nodule in reading.nodules:
        entry = ElementTree.SubElement(node, "unblindedReadNodule")
        ElementTree.SubElement(entry, "noduleID").text = name.format(next(numbers))
        scores = ElementTree.SubElement(entry, "characteristics")
        for score, value in nodule.characteristics.items():
            ElementTree.SubElement(scores, score).text = str(value)
        for piece, points, inside in _outlines(nodule):
            entry.append(_roi(series, session, piece, points, inside))
    for mark in reading.small:
        entry = ElementTree.SubElement(node, "unblindedReadNodule")
        ElementTree.SubElement(entry, "noduleID").text = name.format(next(numbers))
        entry.append(_roi(series, session, mark.slice, [(mark.column, mark.row)], True))
    for mark in reading.non_nodules:
        entry = ElementTree.SubElement(node, "nonNodule")
        ElementTree.SubElement(entry, "nonNoduleID").text = name.format(next(numbers))
        _name_slice(entry, series, session, mark.slice)
        _point(ElementTree.SubElement(entry, "locus"), mark.column, mark.row)
    return node


def _outlines(nodule: NoduleReading) -> Iterator[tuple[int, list[tuple[int, int]], bool]]:
    """Yield slice, pixels (column, row) and inclusion of each outline, from the head downwards."""
    first, top, left = nodule.corner
    for number in range(len(nodule.mask) - 1, -1, -1):
        for points, inside in outlines_of(nodule.mask[number]):
            yield first + number, [(left + column, top + row) for column, row in points], inside


def _roi(series: SeriesToWrite, session: int, piece: int, points: list[tuple[int, int]], inside: bool) -> ElementTree.Element:
    node = ElementTree.Element("roi")
    _name_slice(node, series, session, piece)
    ElementTree.SubElement(node, "inclusion").text = "TRUE" if inside else "FALSE"
    for column, row in points:
        _point(ElementTree.SubElement(node, "edgeMap"), column, row)
    return node


def _name_slice(node: ElementTree.Element, series: SeriesToWrite, session: int, piece: int) -> None:
    # the sessions of LIDC differ in how they write numbers, too
    height = float(series.grid.z[piece])
    ElementTree.SubElement(node, "imageZposition").text = f"{height:.6f} " if session == 0 else str(height)
    ElementTree.SubElement(node, "imageSOP_UID").text = series.slice_uid(piece)


def _point(node: ElementTree.Element, column: int, row: int) -> None:
    ElementTree.SubElement(node, "xCoord").text = str(column)
    ElementTree.SubElement(node, "yCoord").text = str(row)
