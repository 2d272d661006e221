"""LIDC's XML: which series was read, and what each reader outlined on it. Entities, DTDs and external files are refused."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from monai_jdt.data.lidc.records import LIDC_CHARACTERISTICS, LIDC_READERS, LidcContour, LidcMark
from monai_jdt.validation import error_sentence

# The first element of the XML of a CT. That of an X-ray (CR, DX) is IdriReadMessage.
_CT_ROOT = "lidcreadmessage"
_OTHER_ROOT = "readmessage"
# A UID is a file's name in the end.
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_TRUTH = {"true": True, "false": False}
# What `int` and `float` read beyond these (1_0, digits of other scripts) no file of LIDC-IDRI has.
_WHOLE = re.compile(r"-?[0-9]{1,9}")
_RATING = re.compile(r"[0-9]{1,2}")
_LENGTH = re.compile(r"[+-]?[0-9]{1,9}(\.[0-9]{0,20})?([eE][+-]?[0-9]{1,3})?|[+-]?\.[0-9]{1,20}")


@dataclass(frozen=True)
class AnnotationHeader:
    """What the head of an XML says.

    Args:
        path: the file.
        is_ct: whether CT slices were read. LIDC-IDRI has X-rays with readings too.
        series_uid: the series that was read; empty for other readings than of CT.
    """

    path: str
    is_ct: bool
    series_uid: str


@dataclass(frozen=True)
class ScanAnnotations:
    """What all readers of a scan said.

    Args:
        series_uid: the series that was read.
        readers: how many reading sessions there are.
        marks: the nodules of at least 3 mm that each reader outlined.
        small: how many nodules below 3 mm the readers marked, in the sum over readers. LIDC has one point for each, and no outline.
        non_nodules: how many other things of at least 3 mm the readers marked, by one point each.
    """

    series_uid: str
    readers: int
    marks: tuple[LidcMark, ...]
    small: int
    non_nodules: int


def read_annotation_header(path: str) -> AnnotationHeader | None:
    """Read which series an XML is about, without the outlines that follow.

    Args:
        path: the file.

    Returns:
        None for an XML that is no reading of LIDC-IDRI.

    Raises:
        ValueError: the file is no XML, has entities, a DTD or external files, names no series or one that is no UID, or
            defusedxml is not installed.
    """
    root = ""
    uid = None
    for event, element in _elements(path):
        name = _local_name(element.tag)
        if event == "start" and not root:
            root = name
            if not root.endswith(_OTHER_ROOT):
                return None
            if root != _CT_ROOT:
                return AnnotationHeader(path, False, "")
        if event == "end" and name == "seriesinstanceuid":
            uid = (element.text or "").strip()
        if event == "end" and name == "responseheader":
            break
    if not uid:
        raise ValueError(error_sentence(path, "the SeriesInstanceUid of the series that was read", "none", "download the file again"))
    if not _UID.fullmatch(uid):
        raise ValueError(error_sentence(path, "a SeriesInstanceUid of numbers with dots", repr(uid), "use the file as TCIA has it"))
    return AnnotationHeader(path, True, uid)


def read_annotations(path: str) -> ScanAnnotations:
    """Read what the readers of a CT outlined.

    A nodule is one of at least 3 mm if a contour of it has more than one point. One point marks a nodule below 3 mm. Ratings of 0 or
    without a number are left out.

    Args:
        path: the file.

    Raises:
        ValueError: as for :func:`read_annotation_header`; more than four reading sessions, a nodule without contours, a contour
            without a position or with a point that is no pair of whole numbers.
    """
    header = read_annotation_header(path)
    if header is None or not header.is_ct:
        got = "another XML" if header is None else "a reading of X-rays"
        raise ValueError(error_sentence(path, "the readings of a CT, a LidcReadMessage", got, "name the XML of the CT"))
    reader = small = non_nodules = 0
    marks: list[LidcMark] = []
    for event, element in _elements(path):
        if event == "start":
            continue
        name = _local_name(element.tag)
        if name == "unblindedreadnodule":
            mark = _nodule_mark(path, reader, element)
            if any(len(contour.points) > 1 for contour in mark.contours):
                marks.append(mark)
            else:
                small += 1
            element.clear()
        elif name == "nonnodule":
            non_nodules += 1
            element.clear()
        elif name == "readingsession":
            reader += 1
    if reader > LIDC_READERS:
        got = f"{reader} reading sessions"
        raise ValueError(error_sentence(path, f"the readings of at most {LIDC_READERS} readers", got, "use the file as TCIA has it"))
    return ScanAnnotations(header.series_uid, reader, tuple(marks), small, non_nodules)


def _elements(path: str) -> Iterator[tuple[str, Any]]:
    """Yield ("start" or "end", element), with one line for whatever is wrong with the file."""
    try:
        from defusedxml import DefusedXmlException
        from defusedxml.ElementTree import ParseError, iterparse
    except ImportError:
        fix = "pip install 'monai-jdt[lidc]'"
        raise ValueError(error_sentence(path, "the package defusedxml, which reads XML", "it is not installed", fix)) from None
    try:
        # LIDC's files need none of these. An entity may name a file of this machine, or grow to fill its memory
        yield from iterparse(path, events=("start", "end"), forbid_dtd=True, forbid_entities=True, forbid_external=True)
    except DefusedXmlException as error:
        got = f"{type(error).__name__.removesuffix('Forbidden')} declarations"
        fix = "use the file as TCIA has it"
        raise ValueError(error_sentence(path, "an XML without entities, DTD and external files", got, fix)) from None
    except (ParseError, UnicodeDecodeError, LookupError) as error:
        raise ValueError(error_sentence(path, "an XML", f"{error}", "download the file again")) from None


def _local_name(tag: str) -> str:
    """Return a tag in small letters without its namespace: LIDC's files have SeriesInstanceUid and SeriesInstanceUID."""
    return tag.rpartition("}")[2].lower()


def _text(element: Any, name: str) -> str:
    return next(((child.text or "").strip() for child in element if _local_name(child.tag) == name), "")


def _nodule_mark(path: str, reader: int, element: Any) -> LidcMark:
    name = _text(element, "noduleid")
    where = f"{path}: nodule {name!r} of reader {reader + 1}"
    rois = [child for child in element if _local_name(child.tag) == "roi"]
    if not rois:
        raise ValueError(error_sentence(where, "at least one roi", "none", "download the file again"))
    ratings = {}
    for part in (child for child in element if _local_name(child.tag) == "characteristics"):
        given = {_local_name(child.tag): (child.text or "").strip() for child in part}
        ratings = {key: int(given[key.lower()]) for key in LIDC_CHARACTERISTICS if _RATING.fullmatch(given.get(key.lower(), ""))}
    kept = {key: value for key, value in ratings.items() if value > 0}
    return LidcMark(reader, name, tuple(_roi_contour(where, roi) for roi in rois), kept)


def _roi_contour(where: str, roi: Any) -> LidcContour:
    inclusion = _text(roi, "inclusion").lower()
    points = [(_text(edge, "xcoord"), _text(edge, "ycoord")) for edge in roi if _local_name(edge.tag) == "edgemap"]
    try:
        if not _LENGTH.fullmatch(_text(roi, "imagezposition")) or not all(
            _WHOLE.fullmatch(number) for point in points for number in point
        ):
            raise ValueError
        z = float(_text(roi, "imagezposition"))
        pixels = tuple((int(x), int(y)) for x, y in points)
        included = _TRUTH[inclusion]
        if not math.isfinite(z):
            raise ValueError
    except (ValueError, KeyError):
        got = f"imageZposition {_text(roi, 'imagezposition')!r}, inclusion {inclusion!r}, {len(points)} points"
        bad = next((point for point in points if not all(map(_WHOLE.fullmatch, point))), None)
        got += f", one of them {bad}" if bad else ""
        expected = "a contour with its z in mm, TRUE or FALSE, and pairs of whole numbers"
        raise ValueError(error_sentence(where, expected, got, "download the file again")) from None
    return LidcContour(z, pixels, included, _text(roi, "imagesop_uid"))
