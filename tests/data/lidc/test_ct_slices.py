from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from monai_jdt.data.lidc.ct_slices import CtSlice, DuplicateSlices, is_dicom, read_slice_header, read_slice_hu, series_of_slices
from tests.data.lidc.tcia_files import POSITIONS, SERIES, SPACING, STUDY, hounsfield, sop_uid, write_series, write_slice


def a_slice(z: float, **changed: object) -> CtSlice:
    one = CtSlice(
        f"{z:g}.dcm",
        SERIES,
        STUDY,
        sop_uid(SERIES, z),
        "LIDC-IDRI-0001",
        "CT",
        (24, 20),
        SPACING,
        (-30.5, -20.25, z),
        (1, 0, 0, 0, 1, 0),
        1,
    )
    return replace(one, **changed)  # type: ignore[arg-type]


def test_a_header_is_read_without_voxels(tmp_path: Path) -> None:
    path = write_slice(tmp_path / "1-001.dcm", -2.5)
    expected = CtSlice(
        str(path),
        SERIES,
        STUDY,
        sop_uid(SERIES, -2.5),
        "LIDC-IDRI-0001",
        "CT",
        (24, 20),
        SPACING,
        (-30.5, -20.25, -2.5),
        (1, 0, 0, 0, 1, 0),
        102,
    )
    assert read_slice_header(str(path)) == expected


@pytest.mark.parametrize(("slope", "intercept"), [("1", "-1024"), ("2", "-1000"), ("1", "0")])
def test_voxels_are_hounsfield_units_as_columns_and_rows(tmp_path: Path, slope: str, intercept: str) -> None:
    voxels = hounsfield(0.0) // 2 * 2
    path = write_slice(tmp_path / "1.dcm", 0.0, voxels, slope=slope, intercept=intercept)
    found = read_slice_hu(read_slice_header(str(path)))
    assert found.dtype == np.int16
    assert (found == voxels).all()


def test_values_beyond_int16_are_refused(tmp_path: Path) -> None:
    path = write_slice(tmp_path / "1.dcm", 0.0, hounsfield(0.0).astype(np.int32) * 100, slope="100", intercept="0")
    with pytest.raises(ValueError, match="expected Hounsfield units within int16, got -100000 to"):
        read_slice_hu(read_slice_header(str(path)))


@pytest.mark.parametrize("kept", [0, 200, 0.5, -2])
def test_a_truncated_file_is_one_line(tmp_path: Path, kept: float) -> None:
    path = write_slice(tmp_path / "1.dcm", 0.0)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept) if 0 < kept < 1 else int(kept)])
    with pytest.raises(
        ValueError, match=r"1\.dcm: expected a whole DICOM file, got (a damaged or truncated one|an empty file)\. Fix: download"
    ) as caught:
        read_slice_header(str(path))
    assert "\n" not in str(caught.value)


def test_dicom_is_known_by_its_name_or_its_head(tmp_path: Path) -> None:
    path = write_slice(tmp_path / "1.dcm", 0.0)
    for name in ("000000", "1.3.6.1.42"):
        (tmp_path / name).write_bytes(path.read_bytes())
        assert is_dicom(str(tmp_path / name))
    for name in ("LICENSE", "metadata.csv"):
        (tmp_path / name).write_text("x" * 200)
        assert not is_dicom(str(tmp_path / name))
    (tmp_path / "DICOMDIR").write_bytes(path.read_bytes())
    assert not is_dicom(str(tmp_path / "DICOMDIR"))


def test_slices_are_put_in_the_order_of_their_places(tmp_path: Path) -> None:
    slices = [read_slice_header(str(path)) for path in write_series(tmp_path)]
    series = series_of_slices(slices[::-1])
    assert series.scan.slice_positions == POSITIONS
    assert [one.sop_uid for one in series.slices] == [sop_uid(SERIES, z) for z in POSITIONS]
    assert series.scan.shape == (24, 20, 6)
    assert series.scan.spacing == (*SPACING, 2.5)
    assert (series.affine == [[-0.5, 0, 0, 30.5], [0, -0.75, 0, 20.25], [0, 0, 2.5, -10], [0, 0, 0, 1]]).all()


def test_a_patient_on_the_belly_is_turned_in_the_affine() -> None:
    turned = [a_slice(z, orientation=(-1.0, 0.0, 0.0, 0.0, -1.0, 0.0)) for z in (0.0, 2.0)]
    assert (series_of_slices(turned).affine == [[0.5, 0, 0, 30.5], [0, 0.75, 0, 20.25], [0, 0, 2, 0], [0, 0, 0, 1]]).all()


def test_distances_that_are_rounded_are_equal() -> None:
    series = series_of_slices([a_slice(z) for z in (0.0, 0.67, 1.33, 2.0)])
    assert series.scan.spacing[2] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("positions", "line"),
    [
        (
            (0, 2.5, 7.5, 10),
            r"expected a slice at every 2\.5 mm, got 1 missing, the first after z = 2\.5 mm\. Fix: download the series again",
        ),
        ((0, 2.5, 5, 7.5, 15, 20), r"got 3 missing, the first after z = 7\.5 mm"),
        ((0, 2.5, 5, 8.5, 11), r"expected slices at equal distances, got 2\.5 to 3\.5 mm, 3\.5 mm after z = 5 mm"),
        ((0, 2.5, 5, 6.25, 8.75), r"expected slices at equal distances, got 1\.25 to 2\.5 mm, 1\.25 mm after z = 5 mm"),
    ],
)
def test_missing_slices_and_unequal_distances_are_refused(positions: tuple[float, ...], line: str) -> None:
    with pytest.raises(ValueError, match=rf"series {SERIES}: .*{line}"):
        series_of_slices([a_slice(z) for z in positions])


def test_two_images_at_one_position_are_refused_or_the_first_is_taken() -> None:
    slices = [a_slice(0.0), a_slice(2.5, instance=7), a_slice(2.5, instance=3, sop_uid="1.9", path="other.dcm"), a_slice(5.0)]
    with pytest.raises(
        ValueError, match=r"expected one image at each position, got 1 twice, such as other.dcm and 2.5.dcm. Fix: --duplicates first"
    ):
        series_of_slices(slices)
    assert [one.path for one in series_of_slices(slices, DuplicateSlices.FIRST).slices] == ["0.dcm", "other.dcm", "5.dcm"]


@pytest.mark.parametrize("shift", [-0.005, 0.005])
def test_the_first_of_two_images_is_that_of_the_smaller_number_wherever_it_is(shift: float) -> None:
    slices = [a_slice(0.0), a_slice(2.5, instance=7), a_slice(2.5 + shift, instance=3, path="other.dcm"), a_slice(5.0)]
    series = series_of_slices(slices, DuplicateSlices.FIRST)
    assert [one.path for one in series.slices] == ["0.dcm", "other.dcm", "5.dcm"]
    assert series.scan.slice_positions == (0.0, 2.5 + shift, 5.0)


def test_a_position_without_a_number_is_none(tmp_path: Path) -> None:
    path = write_slice(tmp_path / "1.dcm", 0.0, position="-30.5\\-20.25\\nan")
    assert read_slice_header(str(path)).position is None


@pytest.mark.parametrize("instance", ["--5", "-", "5.5", ""])
def test_an_instance_number_that_is_none_is_0(tmp_path: Path, instance: str) -> None:
    assert read_slice_header(str(write_slice(tmp_path / "1.dcm", 0.0, instance=instance))).instance == 0


def test_a_copy_of_a_series_is_refused() -> None:
    slices = [a_slice(z, path=f"{folder}/{z}.dcm") for folder in "ab" for z in (0.0, 2.5)]
    with pytest.raises(ValueError, match=r"got 2 twice, such as a/0\.0\.dcm and b/0\.0\.dcm\. Fix: remove one copy of the series"):
        series_of_slices(slices)


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"modality": "DX"}, r"expected CT slices with their places, got modality DX in 2\.5\.dcm"),
        ({"position": None}, "got no ImagePositionPatient"),
        ({"orientation": None}, "got no ImageOrientationPatient"),
        ({"spacing": (0.0, 0.0)}, "got no PixelSpacing"),
        ({"orientation": (1.0, 0.0, 0.0, 0.0, 0.9, 0.4)}, "expected axial slices without tilt, got ImageOrientationPatient"),
        (
            {"orientation": (0.0, 1.0, 0.0, -1.0, 0.0, 0.0)},
            r"expected one size, spacing, place, patient and study in all slices, got others in 2\.5\.dcm than",
        ),
        ({"size": (24, 24)}, "expected one size, spacing"),
        ({"spacing": (0.5, 0.5)}, "expected one size, spacing"),
        ({"position": (-30.0, -20.25, 2.5)}, "expected one size, spacing"),
        ({"patient": "LIDC-IDRI-0002"}, "expected one size, spacing"),
    ],
)
def test_slices_that_make_no_grid_are_refused(changed: dict[str, object], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        series_of_slices([a_slice(0.0), a_slice(2.5, **changed)])
