"""Every writer of the package writes whole files or none, under names of up to 255 bytes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monai_jdt.cli import main
from monai_jdt.cli.bundle import copy_bundle, shipped_bundles
from monai_jdt.data import (
    kits21_datalist,
    merge_kits21,
    whole_file,
    whole_folder,
    write_brats_phantoms,
    write_datalist,
    write_qubiq_phantoms,
)
from monai_jdt.report import draw_case
from tests.nifti_files import save_nifti

LONG = "n" * 232


def volume(path: Path) -> str:
    return save_nifti(path, np.ones((4, 4, 2), np.uint8), np.eye(4))


def write_figure(place: Path) -> Path:
    path = place / f"{LONG}.png"
    draw_case(path, np.zeros((1, 6, 6, 4)), np.zeros((1, 6, 6, 4)), np.zeros((1, 6, 6, 4), np.uint8), regions=[[1]])
    return path


def write_fused(place: Path) -> Path:
    path = place / f"{LONG}.nii.gz"
    with pytest.raises(SystemExit) as ended:
        main(["fuse", str(path), volume(place.parent / "a.nii.gz"), volume(place.parent / "b.nii.gz")])
    assert not ended.value.code
    return path


def write_merged(place: Path) -> Path:
    volume(place.parent / LONG / "imaging.nii.gz")
    volume(place.parent / LONG / "segmentations" / "kidney_instance-1_annotation-1.nii.gz")
    ((path,),) = (item["raters"] for item in merge_kits21(kits21_datalist(place.parent), place / LONG, progress=False))
    return Path(path)


WRITERS = {
    "datalist": lambda place: Path(write_datalist([{"image": "a.nii"}], place / f"{LONG}.json")),
    "brats": lambda place: Path(write_brats_phantoms(place / LONG, cases=1, shape=(12, 12, 12), progress=False)),
    "qubiq": lambda place: Path(write_qubiq_phantoms(place / LONG, datasets="kidney", cases=1, shape=(16, 16), progress=False)),
    "bundle": lambda place: Path(copy_bundle(shipped_bundles()[0], place / LONG)),
    "figure": write_figure,
    "fuse": write_fused,
    "merge": write_merged,
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_long_legal_name_is_written_and_no_draft_is_left(tmp_path: Path, writer: str) -> None:
    place = tmp_path / "out [1]"
    path = WRITERS[writer](place)
    assert path.exists()
    assert not [name for _, folders, files in os.walk(place) for name in [*folders, *files] if name.startswith(".")]


def test_after_an_error_the_old_content_is_there(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")

    def fail_half_way(writer: Any, name: str, write: Callable[[Path], Any]) -> None:
        with writer(tmp_path / name) as draft:
            write(Path(draft))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way(whole_file, "a.json", lambda draft: draft.write_text("half"))
    assert path.read_text() == "old"
    with pytest.raises(RuntimeError):
        fail_half_way(whole_folder, "folder", lambda draft: (draft / "half").touch())
    assert os.listdir(tmp_path) == ["a.json"]


def test_the_ending_stays_and_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link.nii.gz").symlink_to("real/target.nii.gz")
    with whole_file(tmp_path / "link.nii.gz") as draft:
        assert draft.endswith(".nii.gz")
        Path(draft).write_text("x")
    assert (tmp_path / "link.nii.gz").is_symlink()
    assert (tmp_path / "real" / "target.nii.gz").read_text() == "x"
    (tmp_path / "linked").symlink_to(tmp_path / "real2")
    with whole_folder(tmp_path / "linked") as draft:
        (Path(draft) / "x").touch()
    assert os.listdir(tmp_path / "real2") == ["x"]


def test_what_cannot_be_written_is_reported_by_the_name_that_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    said = {}
    for name in ("n" * 256, "file/below", "full"):
        with pytest.raises(OSError, match="expected") as caught, whole_folder(tmp_path / name):
            pass
        said[name] = str(caught.value).removeprefix(f"{tmp_path / name}: ")
    assert said == {
        "n" * 256: "expected a name that the file system takes, got 256 bytes. Fix: name it shorter.",
        "file/below": f"expected a place in a folder, got one below a file ({tmp_path}/file). Fix: name another place.",
        "full": "expected a place that can be written to, got Directory not empty. Fix: name another place, or make this one writable.",
    }
    with pytest.raises(IsADirectoryError, match=r"full: expected the name of a file to write, got a folder\. Fix: add a file name\."):
        write_datalist([{"image": "a"}], tmp_path / "full")
    assert sorted(os.listdir(tmp_path)) == ["file", "full"]
