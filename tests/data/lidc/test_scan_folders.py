from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from monai_jdt.data.lidc import FoundScans, find_scans, scan_folders
from monai_jdt.data.lidc.ct_slices import is_dicom
from tests.data.lidc.tcia_files import POSITIONS, SERIES, annotation_text, hounsfield, write_scan, write_series, write_slice


def found_in(root: Path) -> FoundScans:
    return find_scans(str(root), progress=False)


def test_classic_and_retriever_layouts_are_one(tmp_path: Path) -> None:
    """TCIA's own: patient/study/series with the XML in it; the retriever's: date and number, and the XML files may be elsewhere."""
    write_scan(tmp_path / "LIDC-IDRI-0001" / "1.3.6" / "1.3.6.1")
    write_series(
        tmp_path / "manifest" / "LIDC-IDRI" / "LIDC-IDRI-0010" / "01-01-2000-NA-NA-30178" / "3000566.000000-NA-03192",
        series=f"{SERIES}.2",
        patient="LIDC-IDRI-0010",
    )
    (tmp_path / "manifest" / "metadata.csv").write_text("Series UID")
    (tmp_path / "tcia-lidc-xml" / "157").mkdir(parents=True)
    (tmp_path / "tcia-lidc-xml" / "157" / "158.xml").write_text(annotation_text([], f"{SERIES}.2"))
    found = found_in(tmp_path)
    assert [(scan.name, scan.patient, len(scan.files), Path(scan.xml).name) for scan in found.scans] == [
        ("LIDC-IDRI-0001", "LIDC-IDRI-0001", 6, "069.xml"),
        ("LIDC-IDRI-0010", "LIDC-IDRI-0010", 6, "158.xml"),
    ]
    assert not found.failures
    assert not found.notes


def test_of_two_series_in_a_folder_the_xml_names_one(tmp_path: Path) -> None:
    write_series(tmp_path / "a", (0.0, 2.5), series=f"{SERIES}.2")
    for k, z in enumerate((-5.0, -2.5, 0.0)):
        write_slice(tmp_path / "a" / f"2-{k}.dcm", z)
    (tmp_path / "a" / "069.xml").write_text(annotation_text([]))
    found = found_in(tmp_path)
    assert [scan.series_uid for scan in found.scans] == [SERIES]
    assert found.notes == (
        f"{tmp_path / 'a'}: expected the XML of its CT series, got none. Fix: add the file of LIDC-XML-only.zip to the folder.",
    )


def test_a_series_goes_on_in_a_folder_that_begins_with_another_one(tmp_path: Path) -> None:
    write_scan(tmp_path / "a", POSITIONS[:4])
    write_slice(tmp_path / "b" / "1-1.dcm", 0.0, series=f"{SERIES}.2")
    rest = [str(write_slice(tmp_path / "b" / f"1-{k}.dcm", z)) for k, z in enumerate(POSITIONS[4:], 2)]
    (scan,) = found_in(tmp_path).scans
    assert set(rest) <= set(scan.files)
    assert len(scan.files) == 7


def test_two_scans_of_a_patient_have_two_names(tmp_path: Path) -> None:
    write_scan(tmp_path / "a", series="1.2.11111")
    write_scan(tmp_path / "b", series="1.2.22222")
    write_scan(tmp_path / "c", series="1.2.33333", patient="LIDC-IDRI-0002")
    assert [scan.name for scan in found_in(tmp_path).scans] == ["LIDC-IDRI-0001_11111", "LIDC-IDRI-0001_22222", "LIDC-IDRI-0002"]


def test_x_rays_are_passed_over(tmp_path: Path) -> None:
    write_scan(tmp_path / "ct")
    write_slice(tmp_path / "dx" / "1.dcm", 0.0, hounsfield(0.0).astype("uint16"), series="1.2.9", modality="DX", intercept="0")
    (tmp_path / "dx" / "072.xml").write_text(annotation_text([], "1.2.9", root="IdriReadMessage"))
    (tmp_path / "project.xml").write_text("<project/>")
    found = found_in(tmp_path)
    assert [scan.name for scan in found.scans] == ["LIDC-IDRI-0001"]
    assert found.notes == (
        "passed over: 1 XML file of X-rays (CR, DX)",
        "passed over: 1 XML file that are no readings",
        "passed over: 1 DX series without an XML of a CT",
    )
    assert not found.failures


def test_xml_without_its_series_is_reported(tmp_path: Path) -> None:
    write_scan(tmp_path / "a")
    for n in (1, 2):
        (tmp_path / f"{n}.xml").write_text(annotation_text([], f"1.2.{n}"))
    found = found_in(tmp_path)
    assert len(found.scans) == 1
    (note,) = found.notes
    assert note.startswith(f"{tmp_path / '1.xml'}: expected its series 1.2.1, got none below the folder, and 1 more XML files. Fix: ")


def test_one_xml_twice_is_one_and_two_that_differ_are_refused(tmp_path: Path) -> None:
    write_scan(tmp_path / "a")
    shutil.copy(tmp_path / "a" / "069.xml", tmp_path / "copy.xml")
    assert len(found_in(tmp_path).scans) == 1
    assert not found_in(tmp_path).failures
    (tmp_path / "other.xml").write_text(annotation_text([]))
    (line,) = found_in(tmp_path).failures.values()
    assert line.startswith(f"series {SERIES}: expected one XML, got ")
    assert line.endswith("which differ. Fix: remove the one that is not of TCIA.")


def test_a_broken_xml_and_a_broken_slice_are_failures_of_their_own(tmp_path: Path) -> None:
    write_scan(tmp_path / "a")
    (tmp_path / "b.xml").write_text("<LidcReadMessage>")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "1.dcm").write_bytes(b"")
    found = found_in(tmp_path)
    assert len(found.scans) == 1
    assert sorted(found.failures) == [str(tmp_path / "b.xml"), str(tmp_path / "c" / "1.dcm")]


def test_a_file_that_cannot_be_opened_is_a_failure_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_scan(tmp_path / "a")
    (tmp_path / "a" / "private").write_bytes(b"")

    def refuse(path: str) -> bool:
        if path.endswith("private"):
            raise PermissionError(13, "Permission denied", path)
        return is_dicom(path)

    monkeypatch.setattr(scan_folders, "is_dicom", refuse)
    found = found_in(tmp_path)
    assert len(found.scans) == 1
    assert list(found.failures) == [str(tmp_path / "a" / "private")]
    assert "expected a file that can be read, got Permission denied." in next(iter(found.failures.values()))


def test_a_folder_without_xml_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path / "a", (0.0, 2.5))
    with pytest.raises(
        ValueError, match=r"expected LIDC-IDRI's XML files, got 2 DICOM files and no XML of a CT\. Fix: download LIDC-XML-only"
    ):
        found_in(tmp_path)
    with pytest.raises(ValueError, match="got nothing at that path"):
        found_in(tmp_path / "nowhere")
