"""The memory of a check does not grow with the files: a few blocks of about a million voxels."""

import gzip
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
import SimpleITK

from monai_jdt.data import distinct_values, find_problems
from monai_jdt.data.files import label_values, voxel_blocks
from monai_jdt.data.files.volumes import open_volume
from monai_jdt.data.problems import DataProblemError
from monai_jdt.transforms import LoadRaters
from tests.nifti_files import write_nifti

SHAPE = (512, 512, 120)
MIB = 1 << 20
T = TypeVar("T")


def peak_of(function: Callable[[], T]) -> tuple[int, T]:
    tracemalloc.start()
    try:
        result = function()
        return tracemalloc.get_traced_memory()[1], result
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two raters of 30 MiB each, which compress to less than 1 MiB."""
    folder = tmp_path_factory.mktemp("large")
    mark = np.zeros(SHAPE, np.uint8, order="F")
    mark[100:200, 150:350, 30:110] = 1
    paths = [write_nifti(folder / "a.nii.gz", mark)]
    mark[120:180, 200:300, 50:90] = 2
    paths.append(write_nifti(folder / "b.nii.gz", mark))
    return paths


def test_a_check_takes_a_few_blocks(large: list[str]) -> None:
    item = {"case": "a", "image": [], "raters": large}
    peak, problems = peak_of(lambda: list(find_problems([item], label_values=(0, 1), progress=False)))
    assert [problem.got for problem in problems] == ["none", "2"]
    assert peak < 12 * MIB
    peak, _ = peak_of(lambda: list(find_problems([{"case": "a", "image": large[0]}], labelled=False, progress=False)))
    assert peak < 6 * MIB


@pytest.mark.parametrize("suffix", [".mha", ".nrrd", ".mhd"])
@pytest.mark.parametrize("compressed", [True, False])
def test_formats_of_itk_are_streamed_too(tmp_path: Path, suffix: str, compressed: bool) -> None:
    values = np.zeros((32, 256, 1024), np.uint8)  # eight blocks
    values[4:20, 100:140, 3:500] = 3
    path = str(tmp_path / f"a{suffix}")
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(values), path, useCompression=compressed)
    del values
    peak, blocks = peak_of(lambda: sum(int(np.count_nonzero(block)) for block in open_volume(path).blocks()))
    assert blocks == 16 * 40 * 497
    assert peak < 6 * MIB


def test_the_distinct_values_of_an_array_take_a_block(large: list[str]) -> None:
    mark = open_volume(large[0]).read()
    peak, found = peak_of(lambda: distinct_values(mark))
    assert found.tolist() == [0, 1]
    assert peak < 4 * MIB


def test_raters_are_loaded_without_wide_copies(large: list[str]) -> None:
    voxels = int(np.prod(SHAPE))
    peak, votes = peak_of(lambda: LoadRaters()(large))
    assert votes.shape == (2, *SHAPE)
    assert peak < 6 * voxels  # float64 alone would be 8 for each rater


def test_shapes_are_compared_before_voxels_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = write_nifti(tmp_path / "image.nii", np.zeros((8, 9, 10), np.int16))
    rater = tmp_path / "rater.nii.gz"
    write_nifti(rater, np.zeros((8, 9, 11), np.uint8))
    rater.write_bytes(rater.read_bytes()[:-9])
    found = find_problems([{"case": "a", "image": image, "raters": [str(rater)]}], progress=False)
    assert next(found).got == "(8, 9, 11)"
    assert "truncated" in next(found).got


def test_what_is_larger_than_memory_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", np.zeros((64, 64, 64), np.uint8))
    monkeypatch.setattr(voxel_blocks, "free_memory", lambda: 100_000)
    for load in (lambda: open_volume(path).read(), lambda: LoadRaters()([path])):
        with pytest.raises(DataProblemError) as caught:
            load()
        assert str(caught.value).startswith(f"{path}: expected voxels that fit into memory, got shape (64, 64, 64) of 0.0 GiB")
    assert list(find_problems([{"case": "a", "image": path}], labelled=False, progress=False)) == []  # a check needs little


def test_a_file_of_many_values_is_not_gathered_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_values, "MOST_VALUES", 100)
    path = write_nifti(tmp_path / "ct.nii", np.linspace(0, 1, 8000, dtype=np.float32).reshape(20, 20, 20))
    monkeypatch.setattr(voxel_blocks, "BLOCK_VOXELS", 400)
    image = write_nifti(tmp_path / "image.nii", np.zeros((20, 20, 20), np.uint8))
    (problem,) = find_problems([{"case": "a", "image": image, "raters": [path]}], progress=False)
    assert problem.expected == "whole label values"


@pytest.mark.parametrize("padding", [b"", b"\0" * 700])
def test_gzip_files_of_several_members(tmp_path: Path, padding: bytes) -> None:
    values = np.random.default_rng(0).integers(0, 255, (30, 20, 10)).astype(np.uint8)
    plain = tmp_path / "a.nii"
    write_nifti(plain, values)
    content = plain.read_bytes()
    packed = b"".join(gzip.compress(content[at : at + 1000]) + padding for at in range(0, len(content), 1000))
    (tmp_path / "a.nii.gz").write_bytes(packed)
    np.testing.assert_array_equal(open_volume(str(tmp_path / "a.nii.gz")).read(), values)
    (tmp_path / "a.nii.gz").write_bytes(packed + b"garbage")
    with pytest.raises(DataProblemError):
        open_volume(str(tmp_path / "a.nii.gz")).read()


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_arrays_are_held_against_memory_by_their_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A packed array of nothing but zeros is small as a file."""
    path, values = str(tmp_path / name), np.zeros((60, 60, 40), np.uint8)
    np.save(path, values) if name.endswith("npy") else np.savez_compressed(path, label=values)
    monkeypatch.setattr(voxel_blocks, "free_memory", lambda: 100_000)
    monkeypatch.setattr(np.lib.npyio.NpzFile, "__getitem__", lambda *_: pytest.fail("the voxels are read"))
    volume = open_volume(path)
    assert volume.shape == (60, 60, 40)
    with pytest.raises(DataProblemError, match="voxels that fit into memory"):
        volume.read()
