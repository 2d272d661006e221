"""One rule for the place of a NIfTI file's voxels: in the check, the loaders, `fuse` and whatever MONAI saves."""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from monai.transforms import LoadImage, SaveImage

from monai_jdt.cli import main
from monai_jdt.data import find_problems
from monai_jdt.data.files.volumes import open_volume
from monai_jdt.data.problems import DataProblemError
from monai_jdt.transforms import LoadRaters, LoadVolume, LoadVolumed
from tests.nifti_files import SFORM, load_nifti, write_nifti
from tests.present import present

SHAPE = (6, 7, 5)
MARK = np.zeros(SHAPE, np.uint8)
MARK[1:4, 2:5, 1:3] = 1
MOVED = SFORM + 30 * np.eye(4, k=3)
SHEARED = SFORM + np.array([[0, 0.6, 0, 0], [0] * 4, [0] * 4, [0] * 4])
LEFT_HANDED = np.diag([2.0, 2, 2, 1])

#: header fields, the affine, the part of the warning that tells the other transform (None: no warning)
HEADERS: dict[str, tuple[dict[str, Any], np.ndarray, str | None]] = {
    "pixdim against sform": (
        {"pixdim": (1.75, 1.75, 5.47)},
        SFORM,
        "pixdim says voxels of 1.75 x 1.75 x 5.47 mm (the qform has code 0)",
    ),
    "two places": ({"qform": MOVED}, SFORM, "the qform (code 1) says voxels of 2 x 2 x 2 mm, origin [120.0, -126.0, -72.0]"),
    "qform of code 0": ({"qform": MOVED, "qform_code": 0}, SFORM, None),
    "qform alone": ({"sform": None, "qform": MOVED}, MOVED, None),
    "neither": ({"sform": None, "pixdim": (2, 2, 3)}, np.array([[-2, 0, 0, 5], [0, 2, 0, -6], [0, 0, 3, -6], [0, 0, 0, 1]]), None),
    "pixdim 0": ({"pixdim": (0, 2, 2)}, SFORM, "pixdim says voxels of 0 x 2 x 2 mm"),
    "pixdim negative": ({"pixdim": (-2, 2, 2)}, SFORM, None),
    "qfac 0": ({"sform": None, "qform": SFORM, "pixdim": (2, 2, 2)}, SFORM, None),
    "quaternion": ({"pixdim": (2, 2, 2), "quatern_b": 2, "qform_code": 1}, SFORM, "the numbers of the qform are no rotation"),
    "rounded": ({"pixdim": (2.001, 2, 2)}, SFORM, None),
    "sheared": ({"sform": SHEARED, "pixdim": (2, np.hypot(2, 0.6), 2)}, SHEARED, None),
    "left-handed": ({"sform": LEFT_HANDED, "pixdim": (2, 2, 2)}, LEFT_HANDED, None),
    "NIfTI-2": ({"version": 2, "pixdim": (1.75, 1.75, 5.47)}, SFORM, "pixdim says voxels of 1.75 x 1.75 x 5.47 mm"),
    "metres": ({"sform": np.diag([1e-3, 1e-3, 1e-3, 1]) @ SFORM, "pixdim": (2e-3,) * 3, "xyzt_units": 1}, SFORM, "metres"),
    "microns": ({"sform": np.diag([1e3, 1e3, 1e3, 1]) @ SFORM, "pixdim": (2e3,) * 3, "xyzt_units": 3}, SFORM, "microns"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_one_rule(tmp_path: Path, name: str) -> None:
    fields, affine, warning = HEADERS[name]
    path = write_nifti(tmp_path / "rater.nii.gz", MARK, **fields)
    problems = list(find_problems([{"case": "a", "image": path, "raters": []}], labelled=False, progress=False))
    assert [problem.fatal for problem in problems] == [False] * (warning is not None)
    if warning is not None:
        assert warning in problems[0].got
        assert problems[0].where == path
        assert "\n" not in str(problems[0])
    for loaded in (
        LoadVolume()(path),
        LoadRaters()(path),
        LoadRaters("NibabelReader")(path),
        LoadVolumed("image")({"image": path})["image"],
    ):
        np.testing.assert_allclose(loaded.affine, affine, atol=1e-4)
    with pytest.raises(SystemExit) as ended:
        main(["fuse", str(tmp_path / "fused.nii.gz"), path, path])
    assert not ended.value.code
    np.testing.assert_allclose(load_nifti(tmp_path / "fused.nii.gz").affine, affine, atol=1e-4)
    SaveImage(tmp_path, separate_folder=False, print_log=False)(LoadVolume(ensure_channel_first=True)(path))
    np.testing.assert_allclose(load_nifti(tmp_path / "rater_trans.nii.gz").affine, affine, atol=1e-4)


def test_monais_reader_has_another_rule(tmp_path: Path) -> None:
    """The reason for a reader of our own; if this fails MONAI has changed, and its reader may do."""
    path = write_nifti(tmp_path / "a.nii.gz", MARK, pixdim=(1.75, 1.75, 5.47))
    assert not np.allclose(LoadImage(image_only=True)(path).affine, SFORM, atol=1)
    path = write_nifti(tmp_path / "b.nii.gz", np.stack([MARK] * 3, -1), pixdim=(2, 2, 2))  # nothing disagrees
    assert not np.allclose(LoadImage(image_only=True)(path).affine, SFORM, atol=1)
    np.testing.assert_allclose(LoadVolume()(path).affine, SFORM)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"sform": np.diag([0.0, 0, 0, 1]), "pixdim": (2, 2, 2)}, "a sform that can be inverted"),
        ({"sform": SFORM[[0, 0, 2, 3]], "pixdim": (2, 2, 2)}, "a sform that can be inverted"),
        ({"sform": np.full((4, 4), np.nan), "pixdim": (2, 2, 2)}, "a sform that can be inverted"),
        ({"sform": None, "qform": SFORM, "pixdim": (0, 2, 2)}, "voxels with a size"),
        ({"sform": None, "pixdim": (2, 0, 2)}, "voxels with a size"),
        ({"sform": None, "qform_code": 1, "quatern_b": 2, "pixdim": (2, 2, 2)}, "a qform that is a rotation"),
    ],
)
def test_no_place_is_refused_by_the_check_and_the_loaders(tmp_path: Path, fields: dict[str, Any], expected: str) -> None:
    path = write_nifti(tmp_path / "a.nii", MARK, **fields)
    (problem,) = find_problems([{"case": "a", "image": path}], labelled=False, read="headers", progress=False)
    assert (problem.where, problem.expected, problem.fatal) == (path, expected, True)
    for load in (LoadVolume(), LoadRaters(), LoadRaters("ITKReader")):
        with pytest.raises(DataProblemError) as caught:
            load(path)
        assert str(caught.value) == str(problem)


def test_a_pair_and_its_parts(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Pair(MARK, SFORM), tmp_path / "pair.hdr")
    nibabel.save(nibabel.AnalyzeImage(MARK, None), tmp_path / "analyze.hdr")
    for name in ("pair.hdr", "pair.img", "analyze.img"):
        volume = open_volume(str(tmp_path / name))
        np.testing.assert_array_equal(volume.read(), MARK)
        np.testing.assert_array_equal(np.concatenate(list(volume.blocks())), MARK.ravel(order="F"))
    np.testing.assert_allclose(present(open_volume(str(tmp_path / "pair.img")).affine), SFORM)
    (tmp_path / "pair.img").unlink()
    with pytest.raises(
        DataProblemError, match=r"pair\.hdr: expected its \.img file beside it, got nothing at .*pair\.img\. Fix: copy it there"
    ):
        open_volume(str(tmp_path / "pair.hdr"))


@pytest.mark.parametrize(
    ("codes", "header"), [("LPS", "left-posterior-superior"), ("RAS", "right-anterior-superior"), ("LAS", "left-anterior-superior")]
)
def test_the_spaces_of_nrrd(tmp_path: Path, codes: str, header: str) -> None:
    """The same voxels whatever the space that the header counts in; pynrrd's reader, which MONAI prefers, knows LPS only."""
    signs = np.array([1.0 if side in "RAS" else -1.0 for side in codes])
    rows = [",".join(str(v) for v in signs * column) for column in SFORM[:3, :3].T]
    text = (
        f"NRRD0004\ntype: uchar\ndimension: 3\nspace: {header}\nsizes: {' '.join(map(str, SHAPE))}\n"
        f"space directions: {' '.join(f'({row})' for row in rows)}\nkinds: domain domain domain\nencoding: raw\n"
        f"space origin: ({','.join(str(v) for v in signs * SFORM[:3, 3])})\n\n"
    )
    path = tmp_path / "a.nrrd"
    path.write_bytes(text.encode() + MARK.tobytes(order="F"))
    nifti = write_nifti(tmp_path / "b.nii", MARK, pixdim=(2, 2, 2))
    item = {"case": "a", "image": nifti, "raters": [str(path)]}
    assert list(find_problems([item], progress=False)) == []
    np.testing.assert_allclose(LoadRaters()([nifti, str(path)]).affine, SFORM, atol=1e-6)
    np.testing.assert_array_equal(LoadRaters()([nifti, str(path)]).numpy(), [MARK, MARK])
