"""The formats that are opened, the line about a file that is not, and the fix for a file on other voxels."""

import gzip
import json
import os
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK
from PIL import Image
from typer.testing import CliRunner

from monai_jdt.cli import app
from monai_jdt.data import find_problems
from monai_jdt.data.files.kept_locale import kept_locale
from monai_jdt.data.files.volumes import open_volume
from monai_jdt.data.problems import DataProblem, DataProblemError
from monai_jdt.transforms import LoadRaters, LoadVolume
from tests.nifti_files import SFORM, load_nifti, write_nifti
from tests.present import present

SHAPE = (6, 7, 5)
MARK = np.zeros(SHAPE, np.uint8)
MARK[1:4, 2:5, 1:3] = 1
NO_CHANNELS = "export label values, not colours or one-hot channels"


@pytest.fixture
def image(tmp_path: Path) -> str:
    return write_nifti(tmp_path / "image.nii", np.arange(210, dtype=np.int16).reshape(SHAPE))


def save(folder: Path, name: str, values: np.ndarray = MARK) -> str:
    """A file of the format that its name tells."""
    path = str(folder / name)
    if name.endswith((".mgz", ".mgh")):
        nibabel.save(nibabel.MGHImage(values, SFORM), path)
    elif name.endswith((".hdr", ".img")):
        nibabel.save(nibabel.Nifti1Pair(values, SFORM), path)
    elif name.endswith(".npy"):
        np.save(path, values)
    elif name.endswith(".npz"):
        np.savez_compressed(path, label=values)
    elif name.lower().endswith((".nii", ".nii.gz")):
        os.rename(write_nifti(path.lower(), values), path)
    else:
        volume = SimpleITK.GetImageFromArray(np.ascontiguousarray(values.T))
        volume.SetSpacing((2.0, 2.0, 2.0))
        volume.SetOrigin((-90.0, 126.0, -72.0))
        volume.SetDirection((1, 0, 0, 0, -1, 0, 0, 0, 1))
        SimpleITK.WriteImage(volume, path)
    return path


def problems(image: str, rater: str, **settings: Any) -> list[DataProblem]:
    return list(find_problems([{"case": "a", "image": image, "raters": [rater]}], progress=False, **settings))


@pytest.mark.parametrize(
    "name", ["a.mgz", "a.mgh", "a.hdr", "a.img", "a.npy", "a.npz", "a.mha", "a.nrrd", "a.nii", "a.nii.gz", "A.NII.GZ"]
)
def test_formats_are_opened_by_the_check_and_the_loader(tmp_path: Path, image: str, name: str) -> None:
    path = save(tmp_path, name)
    assert problems(image, path) == []
    for values in (2, 0.5):
        other = save(tmp_path, "b" + name[1:], (MARK * np.float32(values)).astype(np.float32))
        (problem,) = problems(image, other, label_values=(0, 1))
        assert problem.where == other  # its voxels were looked at
        with pytest.raises(DataProblemError, match=r"label values"):
            LoadRaters(label_values=[0, 1])(other)
    np.testing.assert_array_equal(LoadRaters()(path).numpy()[0], MARK)
    np.testing.assert_array_equal(LoadVolume()(path).numpy(), MARK)
    np.testing.assert_array_equal(np.concatenate(list(open_volume(path).blocks())), MARK.ravel(order="F"))


def dicom(folder: Path, series: str = "1.2.3", slices: int = 5) -> str:
    os.makedirs(folder, exist_ok=True)
    writer = SimpleITK.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for k in range(slices):
        one = SimpleITK.GetImageFromArray(np.ascontiguousarray(MARK[:, :, k].T).astype(np.int16)[None])
        one.SetSpacing((2.0, 2.0, 2.0))
        tags = {
            "0008|0060": "CT", "0020|000e": series, "0020|000d": "1.2",
            "0020|0032": f"-90\\126\\{-72 + 2 * k}",
            "0020|0037": "1\\0\\0\\0\\1\\0", "0020|0013": str(k), "0008|0018": f"{series}.{k}",
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
        }  # fmt: skip
        for tag, value in tags.items():
            one.SetMetaData(tag, value)
        writer.SetFileName(os.path.join(folder, f"{series}_{k:02d}.dcm"))
        with kept_locale():
            writer.Execute(one)
    return str(folder)


def test_dicom(tmp_path: Path, image: str) -> None:
    folder = dicom(tmp_path / "series")
    volume = open_volume(folder)
    assert volume.shape == SHAPE
    np.testing.assert_array_equal(np.concatenate(list(volume.blocks())), MARK.ravel(order="F"))
    np.testing.assert_array_equal(LoadRaters()(folder).numpy()[0], MARK)
    again = SimpleITK.ImageSeriesReader()
    again.SetFileNames(sorted(str(path) for path in (tmp_path / "series").iterdir()))
    np.testing.assert_allclose(
        np.diag(present(volume.affine))[:3], np.array(again.Execute().GetSpacing()) * np.sign(np.diag(present(volume.affine))[:3])
    )
    alone = os.path.join(folder, "1.2.3_02.dcm")
    assert open_volume(alone).shape == (*SHAPE[:2], 1)
    os.rename(alone, os.path.join(folder, "IM0002"))  # as scanners name them
    assert open_volume(os.path.join(folder, "IM0002")).shape == (*SHAPE[:2], 1)
    dicom(tmp_path / "series", "1.2.4")
    (problem,) = problems(folder, save(tmp_path, "a.npy"))
    assert str(problem).startswith(f"{folder}: expected one DICOM series in the folder, got 2 series. Fix: put each")


UNREAD = {
    "a.pt": "got '.pt', which was not opened. Fix: save it as NIfTI (.nii.gz), or mend its name.",
    "a.zarr": "got '.zarr', which was not opened.",
    "label": "got a name without an ending, which was not opened.",
    "a.nii.gz.gz": "expected a file that is compressed once, got a name that says twice. Fix: decompress it once, to {path}.",
    "a.mha.gz": "expected a file that is not compressed as a whole, got a .gz file. Fix: decompress it, to {path}.",
}


@pytest.mark.parametrize("read", ["full", "headers"])
@pytest.mark.parametrize("name", UNREAD)
def test_what_is_not_opened_is_reported_and_no_clean_exit(tmp_path: Path, image: str, name: str, read: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"something")
    (problem,) = problems(image, str(path), read=read)
    assert UNREAD[name].replace("{path}", str(path)[:-3]) in str(problem)
    (tmp_path / "list.json").write_text(json.dumps({"training": [{"image": image, "raters": [str(path)]}]}))
    done = CliRunner().invoke(
        app, ["check", str(tmp_path / "list.json"), "--no-progress", *(["--headers-only"] if read != "full" else [])]
    )
    assert done.exit_code == 1
    assert str(problem) in done.output
    assert "looked at" in done.output
    assert done.output.splitlines()[-2] == "not opened, so that no voxel of theirs was looked at: 1 file"


def renamed(source: str, target: Path) -> str:
    os.rename(source, target)
    return str(target)


def doubled(folder: Path) -> str:
    path = folder / "twice.nii.gz"
    with open(save(folder, "once.nii.gz"), "rb") as file:
        path.write_bytes(gzip.compress(file.read()))
    return str(path)


def test_names_that_lie(tmp_path: Path, image: str) -> None:
    plain = renamed(save(tmp_path, "a.nii"), tmp_path / "plain.nii.gz")
    packed = renamed(save(tmp_path, "a.nii.gz"), tmp_path / "packed.nii")
    mgh = renamed(save(tmp_path, "a.mgz"), tmp_path / "packed.mgh")
    mgz = renamed(save(tmp_path, "a.mgh"), tmp_path / "plain.mgz")
    lines = {
        plain: f"{plain}: expected a gzip file, as its name says, got a plain file. Fix: rename it to {plain[:-3]}.",
        packed: f"{packed}: expected a plain file, as its name says, got a gzip file. Fix: rename it to {packed}.gz.",
        mgh: f"{mgh}: expected a plain file, as its name says, got a gzip file. Fix: rename it to {mgh[:-1]}z.",
        mgz: f"{mgz}: expected a gzip file, as its name says, got a plain file. Fix: rename it to {mgz[:-1]}h.",
        doubled(tmp_path): "got a gzip file within a gzip file. Fix: decompress it once, by gunzip.",
    }
    for path, line in lines.items():
        for read in ("full", "headers"):
            (problem,) = problems(image, path, read=read)
            assert line in str(problem)
        for load in (LoadRaters(), LoadVolume(), LoadRaters("NibabelReader")):
            with pytest.raises(DataProblemError) as caught:
                load(path)
            assert str(caught.value) == str(problem)


def test_channels_where_a_label_should_be(tmp_path: Path, image: str) -> None:
    one_hot = np.stack([MARK == 0, MARK == 1], -1).astype(np.uint8)
    vector = SimpleITK.GetImageFromArray(np.ascontiguousarray(one_hot.transpose(2, 1, 0, 3)), isVector=True)
    for name in ("layers.seg.nrrd", "layers.mha"):
        SimpleITK.WriteImage(vector, str(tmp_path / name))
    colours = tmp_path / "colours.png"
    Image.fromarray(np.eye(3, dtype=np.uint8)[np.arange(42).reshape(7, 6) % 3] * 255).save(colours)
    cases = {
        save(tmp_path, "last.nii.gz", one_hot): ("2 channels on axis 3 (shape (6, 7, 5, 2))", NO_CHANNELS),
        save(tmp_path, "itk.nii.gz", one_hot[:, :, :, None]): ("2 channels on axis 4 (shape (6, 7, 5, 1, 2))", NO_CHANNELS),
        str(tmp_path / "layers.seg.nrrd"): (
            "2 layers of segments that overlap (shape (6, 7, 5, 2))", "export it from 3D Slicer as a label map, one value per voxel",
        ),
        str(tmp_path / "layers.mha"): ("2 numbers per voxel (shape (6, 7, 5, 2))", NO_CHANNELS),
    }  # fmt: skip
    for path, (got, fix) in cases.items():
        (problem,) = problems(image, path)
        assert (problem.expected, problem.got, problem.fix) == ("a label map of one channel", got, fix)
        with pytest.raises(DataProblemError) as caught:
            LoadRaters()(path)
        assert str(caught.value) == str(problem)
    first = save(tmp_path, "first.nii.gz", one_hot.transpose(3, 0, 1, 2).copy())
    (problem,) = problems(image, first)
    assert (problem.got, problem.fix) == ("2 channels on axis 0 (shape (2, 6, 7, 5))", NO_CHANNELS)
    with pytest.raises(DataProblemError, match="3 numbers per voxel"):
        LoadRaters()(str(colours))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_a_grey_picture_in_colours_is_a_mask(tmp_path: Path, mode: str) -> None:
    grey = Image.fromarray(MARK[:, :, 1].T * np.uint8(255))
    paths = [str(tmp_path / f"{name}.png") for name in ("grey", "colours")]
    grey.save(paths[0])
    grey.convert(mode).save(paths[1])
    np.testing.assert_array_equal(LoadRaters()(paths).numpy(), [MARK[:, :, 1] * 255] * 2)
    item = {"case": "a", "image": [], "raters": paths}
    found = list(find_problems([item], label_values=(0, 255), progress=False))
    assert [problem.expected for problem in found] == ["an image", "a drawing of the rater's own"]  # the two are one drawing


def test_an_image_of_many_channels_in_a_list(tmp_path: Path) -> None:
    path = str(tmp_path / "photo.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (7, 6, 3)).astype(np.uint8)).save(path)
    item = {"case": "a", "image": [path]}
    (problem,) = find_problems([item], channels=3, labelled=False, progress=False)
    assert (problem.where, problem.fix) == (path, 'list it by itself, "image": "FILE"')
    assert list(find_problems([{**item, "image": path}], channels=3, labelled=False, progress=False)) == []


def test_an_orientation_is_named_and_its_header_is_not_blamed(tmp_path: Path, image: str) -> None:
    rater = nibabel.Nifti1Image(MARK, SFORM)  # LAS
    for codes in ("RAS", "LPS", "PIR", "SAL"):
        path = str(tmp_path / f"{codes}.nii.gz")
        there = nibabel.orientations.ornt_transform(nibabel.io_orientation(SFORM), nibabel.orientations.axcodes2ornt(codes))
        nibabel.save(rater.as_reoriented(there), path)
        (problem,) = problems(image, path)
        assert (problem.expected, problem.got) == (f"the orientation LAS, as {image}", f"{codes}, on the same voxels")
        assert problem.fix == "reorient it to LAS, voxels and header together, e.g. by MONAI's Orientation"
    path = write_nifti(tmp_path / "other.nii", MARK, sform=np.diag([-1.0, 1, 1, 1]) @ SFORM + 9 * np.eye(4, k=2), pixdim=(2, 2, 2))
    moved = np.diag([2.0, 2, 2, 1])
    path = write_nifti(tmp_path / "moved.nii", MARK, sform=moved)
    (problem,) = problems(image, path)
    assert problem.got.startswith("RAS, which turned to LAS is ")
    then = "then resample it onto the image's grid by python -m monai_jdt resample LIST.json FOLDER"
    assert problem.fix == f"reorient it to LAS, voxels and header together, {then}"


def test_swapped_axes_are_named(tmp_path: Path, image: str) -> None:
    path = write_nifti(tmp_path / "a.nii", np.ascontiguousarray(MARK.transpose(2, 0, 1)))
    (problem,) = problems(image, path)
    assert problem.got == "(5, 6, 7), the same axes in another order"
    assert problem.fix == "put its axes in the image's order, by numpy.transpose(voxels, (1, 2, 0)), and give it the image's header"
    flat = {name: str(tmp_path / f"{name}.png") for name in ("i", "r")}
    Image.fromarray(np.zeros((7, 6), np.uint8)).save(flat["i"])
    Image.fromarray(np.ones((6, 7), np.uint8)).save(flat["r"])
    (problem,) = problems(flat["i"], flat["r"])
    assert "numpy.transpose(voxels, (1, 0))" in problem.fix


@pytest.mark.parametrize("header", ["a.mhd", "a.nhdr"])
def test_a_header_without_its_voxels(tmp_path: Path, image: str, header: str) -> None:
    path = save(tmp_path, header)
    lost = next(str(file) for file in tmp_path.iterdir() if file.suffix in (".raw", ".zraw", ".gz") or file.name == "a.raw.gz")
    os.remove(lost)
    (problem,) = problems(image, path)
    assert (problem.expected, problem.got) == ("its voxels in the file that it names", f"nothing at {lost}")
    assert problem.fix == f"copy {os.path.basename(lost)} there"
    with pytest.raises(DataProblemError, match=f"Fix: copy {os.path.basename(lost)} there"):
        LoadRaters()(path)


@pytest.mark.parametrize("reader", ["ITKReader", "NibabelReader", None])
@pytest.mark.parametrize("asked", ["A.nii", "A.nii.gz"])
def test_a_namesake_is_not_read_instead(tmp_path: Path, reader: str | None, asked: str) -> None:
    other = np.roll(MARK, 1, 0)
    for name in ("A.nii", "A.nii.gz"):
        save(tmp_path, name, MARK if name == asked else other)
    votes = LoadRaters(reader=reader)(str(tmp_path / asked))
    np.testing.assert_array_equal(votes.numpy()[0], MARK)
    assert votes.meta["filename_or_obj"] == str(tmp_path / asked)


def test_vectors_as_itk_writes_them(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(*SHAPE, 1, 3)).astype(np.float32)
    path = write_nifti(tmp_path / "a.nii.gz", values, intent_code=1007)
    assert list(find_problems([{"case": "a", "image": path}], channels=3, labelled=False, progress=False)) == []
    np.testing.assert_array_equal(LoadVolume(ensure_channel_first=True)(path).numpy(), values[:, :, :, 0].transpose(3, 0, 1, 2))
    times = write_nifti(tmp_path / "b.nii.gz", np.zeros((*SHAPE, 2, 3), np.float32))
    (problem,) = find_problems([{"case": "a", "image": times}], labelled=False, progress=False)
    assert problem.expected == "at most one axis beside space, of channels"


def test_volumes_of_one_slice(tmp_path: Path) -> None:
    image = write_nifti(tmp_path / "i.nii", np.zeros((6, 7, 1), np.int16))
    raters = [save(tmp_path, name, MARK[:, :, 1:2].copy()) for name in ("a.nii.gz", "b.mha", "c.nrrd")]
    assert [p.expected for p in find_problems([{"case": "a", "image": image, "raters": raters}], progress=False)] == [
        "a drawing of the rater's own"
    ] * 2
    assert LoadRaters()(raters).shape == (3, 6, 7, 1)
    assert LoadVolume(ensure_channel_first=True)(image).shape == (1, 6, 7, 1)


def test_several_arrays_in_a_file(tmp_path: Path, image: str) -> None:
    path = str(tmp_path / "a.npz")
    np.savez(path, a=MARK, b=MARK)
    (problem,) = problems(image, path)
    assert (problem.expected, problem.got) == ("one array", "2 (a, b)")


def test_what_nibabel_mends_in_a_header_is_no_line_of_its_own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_nifti(tmp_path / "a.nii", MARK, pixdim=(-2, 2, 2))
    load_nifti(path)
    assert "pixdim" in caplog.text
    caplog.clear()
    assert problems(path, save(tmp_path, "b.mha")) == []
    assert LoadVolume()(path).shape == SHAPE
    assert caplog.text == ""


def test_a_label_as_jpeg_is_refused(tmp_path: Path) -> None:
    """Its compression spreads two values over many, of which 1 may be one."""
    path = str(tmp_path / "a.jpg")
    rng = np.random.default_rng(0)
    Image.fromarray((rng.random((40, 40)) > 0.5).astype(np.uint8) * np.uint8(255)).save(path, quality=60)
    item = {"case": "a", "image": [], "raters": [path]}
    for values in (None, (0, 255)):
        _, problem = find_problems([item], label_values=values, progress=False)
        assert problem.got.endswith("more, which the compression of JPEG has changed")
        assert problem.fix == "export the label again, as PNG"
    with pytest.raises(DataProblemError, match="as PNG"):
        LoadRaters()(path)
    Image.new("L", (40, 40)).save(path)
    assert not LoadRaters()(path).any()


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_a_drawing_in_the_alpha_is_no_grey_mask(tmp_path: Path, mode: str) -> None:
    path = str(tmp_path / "a.png")
    picture = Image.new(mode, MARK.shape[:2])
    picture.putalpha(Image.fromarray(MARK[:, :, 1].T * np.uint8(255)))
    picture.save(path)
    with pytest.raises(DataProblemError, match="numbers per voxel"):
        LoadRaters()(path)


def test_a_picture_may_be_larger_than_pillows_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    path = str(tmp_path / "a.png")
    Image.fromarray(MARK[:, :, 1].T).save(path)
    np.testing.assert_array_equal(LoadRaters()(path).numpy()[0], MARK[:, :, 1])
    assert Image.MAX_IMAGE_PIXELS == 20


def test_a_photograph_that_viewers_turn_is_reported(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    path = str(tmp_path / "photo.jpg")
    Image.new("RGB", (6, 7)).save(path, exif=exif)
    (warning,) = problems(path, save(tmp_path, "a.npy", MARK[:, :, 1]))
    assert not warning.fatal
    assert warning.got.startswith("an EXIF orientation of 3")
    Image.new("RGB", (6, 7)).save(path)
    assert problems(path, save(tmp_path, "a.npy", MARK[:, :, 1])) == []


def test_a_series_that_lacks_a_slice_is_reported(tmp_path: Path) -> None:
    folder = dicom(tmp_path / "series", slices=5)
    os.remove(os.path.join(folder, "1.2.3_03.dcm"))
    (warning,) = open_volume(folder).warnings
    assert (warning.expected, warning.got) == ("slices at equal distances", "2 to 4 mm, the largest after 1.2.3_02.dcm")


def test_verbs_take_a_folder_of_dicom_files(tmp_path: Path) -> None:
    folder, dest = dicom(tmp_path / "series"), str(tmp_path / "fused.nii.gz")
    assert CliRunner().invoke(app, ["fuse", dest, folder]).exit_code == 0
    np.testing.assert_array_equal(load_nifti(dest).get_fdata(), MARK)
    assert CliRunner().invoke(app, ["figure", str(tmp_path / "a.png"), "--image", folder, "--rater", dest]).exit_code == 0
    os.mkdir(tmp_path / "empty")
    told = CliRunner().invoke(app, ["figure", "a.png", "--image", str(tmp_path / "empty"), "--rater", dest]).exception
    assert str(told).endswith("empty: expected an image file, got a folder. Fix: correct the path.")


def test_channels_on_the_first_axis_are_reported_for_the_image(tmp_path: Path) -> None:
    """The raters, which are right, are not held against a space of which the channels are an axis."""
    image = write_nifti(tmp_path / "image.nii", np.zeros((3, 9, 10, 8), np.int16))
    (problem,) = problems(image, write_nifti(tmp_path / "rater.nii", np.ones((9, 10, 8), np.uint8)))
    assert (problem.where, problem.expected) == (image, "channels on the last axis")
    assert problem.fix == "move them, by numpy.moveaxis(voxels, 0, -1), and keep the header"


@pytest.mark.parametrize(("name", "other"), [("a.png", "b.nii.gz"), ("a.nrrd", "b.mha"), ("a.npy", "b.png")])
def test_another_format_than_that_of_the_name(tmp_path: Path, image: str, name: str, other: str) -> None:
    values = MARK[:, :, 1] if name.endswith(".png") else MARK
    if name.endswith(".png"):
        Image.fromarray(values).save(tmp_path / name)
    else:
        save(tmp_path, name, values)
    os.rename(tmp_path / name, tmp_path / other)
    (problem,) = problems(image, str(tmp_path / other))
    assert problem.fix == f"rename it to b{os.path.splitext(name)[1]}, which is what it holds"
    assert "sitk" not in problem.got


def test_a_line_about_a_damaged_file_is_the_same_in_every_run(tmp_path: Path) -> None:
    path = tmp_path / "a.mha"
    path.write_bytes(b"ObjectType = Image\nNDims = 3\n")
    with pytest.raises(DataProblemError, match=r"expected a readable \.mha file, got 29 bytes") as caught:
        open_volume(str(path))
    assert "0x" not in str(caught.value)  # ITK names objects by their addresses in memory
