from __future__ import annotations

import sys
from pathlib import Path

import pytest

from monai_jdt.data.lidc.annotation_xml import read_annotation_header, read_annotations
from tests.data.lidc.sample import SAMPLE, needs_sample
from tests.data.lidc.tcia_files import NON_NODULE, SERIES, annotation_text, four_readers, nodule, sop_uid, square


def written(folder: Path, text: str) -> str:
    path = folder / "069.xml"
    path.write_text(text)
    return str(path)


def test_readers_marks_and_counts(tmp_path: Path) -> None:
    found = read_annotations(written(tmp_path, annotation_text(four_readers())))
    assert (found.series_uid, found.readers, found.small, found.non_nodules) == (SERIES, 4, 1, 1)
    assert [(mark.reader, mark.name) for mark in found.marks] == [(0, "a"), (1, "a"), (1, "b"), (2, "a")]
    assert [(contour.z, contour.inclusion) for contour in found.marks[0].contours] == [(-5.0, True), (-2.5, True), (-2.5, False)]
    assert found.marks[0].contours[0].points[:2] == ((4, 5), (10, 5))
    assert found.marks[0].contours[0].sop_uid == sop_uid(SERIES, -5.0)


@needs_sample
def test_the_real_file(tmp_path: Path) -> None:
    """Counted with grep: 13 unblindedReadNodule, 4 of them with characteristics, and 13 nonNodule."""
    found = read_annotations(str(SAMPLE / "dicom" / "LIDC-IDRI-0001" / "069.xml"))
    assert (found.readers, len(found.marks), found.small, found.non_nodules) == (4, 4, 9, 13)
    assert [len(mark.contours) for mark in found.marks] == [8, 7, 8, 9]
    assert found.marks[1].characteristics["lobulation"] == 5
    assert list(found.marks[0].characteristics.values()) == [5, 1, 6, 3, 3, 3, 4, 5, 5]


def test_ratings_that_are_none_are_left_out(tmp_path: Path) -> None:
    ratings = "<subtlety>5</subtlety><malignancy>0</malignancy><texture></texture><internalStructure>1</internalStructure>"
    ratings += "<margin>\u00b2</margin><lobulation>" + "9" * 5000 + "</lobulation>"
    session = nodule("a", [square(4, 5, 6, 0.0)], ratings=ratings)
    (mark,) = read_annotations(written(tmp_path, annotation_text([session]))).marks
    assert mark.characteristics == {"subtlety": 5, "internalStructure": 1}


def test_a_single_point_with_ratings_is_a_small_nodule(tmp_path: Path) -> None:
    found = read_annotations(written(tmp_path, annotation_text([nodule("a", [(0.0, [(4, 5)], True)]) + NON_NODULE])))
    assert (found.marks, found.small) == ((), 1)


def test_the_head_is_read_whatever_the_namespace_and_the_case_of_tags(tmp_path: Path) -> None:
    text = annotation_text([]).replace(' xmlns="http://www.nih.gov"', "").replace("SeriesInstanceUid", "SeriesInstanceUID")
    header = read_annotation_header(written(tmp_path, text))
    assert header is not None
    assert (header.is_ct, header.series_uid) == (True, SERIES)


def test_readings_of_x_rays_and_other_xml_have_no_series(tmp_path: Path) -> None:
    header = read_annotation_header(written(tmp_path, annotation_text([], root="IdriReadMessage")))
    assert header is not None
    assert not header.is_ct
    assert read_annotation_header(written(tmp_path, "<project/>")) is None
    with pytest.raises(ValueError, match="expected the readings of a CT, a LidcReadMessage, got another XML"):
        read_annotations(written(tmp_path, "<project/>"))


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
OUTSIDE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
EXTERNAL_DTD = '<!DOCTYPE x SYSTEM "http://example.org/x.dtd">'


@pytest.mark.parametrize("doctype", [BOMB, OUTSIDE, EXTERNAL_DTD])
def test_entities_dtds_and_external_files_are_refused(tmp_path: Path, doctype: str) -> None:
    path = written(tmp_path, annotation_text(["&a;"] if doctype is not EXTERNAL_DTD else [], doctype=doctype))
    for read in (read_annotation_header, read_annotations):
        with pytest.raises(
            ValueError, match="expected an XML without entities, DTD and external files, got DTD declarations"
        ) as caught:
            read(path)
        assert "\n" not in str(caught.value)


def test_no_defusedxml_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "defusedxml", None)
    with pytest.raises(ValueError, match=r"expected the package defusedxml.+pip install 'monai-jdt\[lidc\]'"):
        read_annotations(written(tmp_path, annotation_text([])))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("</LidcReadMessage>", "", "expected an XML, got no element found"),
        (
            f"<SeriesInstanceUid>{SERIES}</SeriesInstanceUid>",
            "",
            "expected the SeriesInstanceUid of the series that was read, got none",
        ),
        (
            f"<SeriesInstanceUid>{SERIES}<",
            "<SeriesInstanceUid>../../1.2<",
            r"SeriesInstanceUid of numbers with dots, got '\.\./\.\./1\.2'",
        ),
        (
            "<xCoord>4</xCoord>",
            "<xCoord>4.5</xCoord>",
            r"got imageZposition '-5.0', inclusion 'true', 5 points, one of them \('4.5', '5'\)",
        ),
        # what Python reads as 10 and 4
        ("<xCoord>4</xCoord>", "<xCoord>1_0</xCoord>", r"one of them \('1_0', '5'\)"),
        ("<xCoord>4</xCoord>", "<xCoord>\u0664</xCoord>", "5 points, one of them"),
        ("<imageZposition>-5.0 ", "<imageZposition>-5_0 ", "expected a contour with its z in mm.+got imageZposition '-5_0'"),
        ("<imageZposition>-5.0 </imageZposition>", "", "expected a contour with its z in mm.+got imageZposition ''"),
        ("<imageZposition>-5.0 ", "<imageZposition>NaN ", "expected a contour with its z in mm.+got imageZposition 'NaN'"),
        ("<imageZposition>-5.0 ", "<imageZposition>inf ", "expected a contour with its z in mm.+got imageZposition 'inf'"),
        ("<inclusion>TRUE</inclusion>", "<inclusion>MAYBE</inclusion>", "got imageZposition '-5.0', inclusion 'maybe'"),
        ("<readingSession>", "<readingSession></readingSession><readingSession>", "at most 4 readers, got 8 reading sessions"),
        ("<roi>", "<noroi>", "mismatched tag"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = annotation_text(four_readers())
    assert old in text
    with pytest.raises(ValueError, match=message) as caught:
        read_annotations(written(tmp_path, text.replace(old, new)))
    assert "069.xml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_nodule_without_contours_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nodule 'a' of reader 1: expected at least one roi, got none"):
        read_annotations(written(tmp_path, annotation_text([nodule("a", [])])))
