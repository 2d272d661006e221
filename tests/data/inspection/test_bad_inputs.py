"""Bad inputs of the data layer, each with its exact one-line error. `{root}` stands for the test's folder."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from monai_jdt.data import (
    brats_datalist,
    brats_phantom,
    curvas_datalist,
    find_problems,
    folds,
    kits21_datalist,
    msseg_datalist,
    pattern_datalist,
    qubiq_datalist,
    qubiq_phantom,
    read_datalist,
    region_convention,
    split_cases,
    write_brats_phantoms,
    write_datalist,
    write_qubiq_phantoms,
)
from monai_jdt.data.layouts.listing import CaseList
from tests.nifti_files import save_nifti

SHAPE = (6, 5, 4)
SCALED = "Fix: divide by that number, round, and save the values as integers"
AGAIN = "Fix: copy it again from its source"
CASES = [{"case": "a"}, {"case": "b"}]
QUBIQ = "QUBIQ cases (image.nii.gz with taskTT_segRR.nii.gz beside it)"
WRITE = "Fix: write it again by `python -m monai_jdt datalist`"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with one good case, `good`, and files that are wrong in one way each."""

    def save(name: str, voxels: np.ndarray, affine: np.ndarray | None = None) -> None:
        save_nifti(tmp_path / name, voxels, np.diag([1.0, 1, 2, 1]) if affine is None else affine)

    mark = np.zeros(SHAPE, np.uint8)
    mark[1:3, 1:4, 1:3] = 1
    image = np.arange(120, dtype=np.float32).reshape(SHAPE)
    save("image.nii", image)
    save("nan.nii", np.where(image == 7, np.nan, image).astype(np.float32))
    save("four.nii", np.stack([image] * 4, -1))
    save("rater.nii", mark)
    save("zipped.nii.gz", mark)
    save("other.nii", mark[::-1].copy())
    save("copy.nii", mark)
    save("empty.nii", mark * 0)
    save("two.nii", mark * 2)
    save("picture.nii", mark * 255)
    save("half.nii", mark * np.float32(0.5))
    save("blurred.nii", np.where(image == 7, 0.5, mark).astype(np.float32))
    save("wide.nii", mark * np.uint16(40000))
    save("colours.nii", np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")]))
    Image.fromarray(np.eye(3, dtype=np.uint8)[np.arange(30).reshape(5, 6) % 3]).save(tmp_path / "colours.png")
    save("inf.nii", np.where(mark == 1, np.inf, mark[::-1]).astype(np.float32))
    mark[1, 1, 1] = 0  # another drawing
    save("small.nii", mark[:-1])
    save("turned.nii", mark.transpose(2, 0, 1).copy())
    save("leading.nii", mark[None])
    save("moved.nii", mark, np.diag([1.0, 1, 2, 1]) + 3 * np.eye(4, k=3))
    save("thick.nii", mark, np.diag([1.0, 1, 3, 1]))
    save("above.nii", mark * np.float32(1.5))
    (tmp_path / "text.nii").write_text("not an image")
    (tmp_path / "text.nrrd").write_text("not an image")
    (tmp_path / "nothing.nii").write_bytes(b"")
    (tmp_path / "cut.nii").write_bytes((tmp_path / "rater.nii").read_bytes()[:-10])
    (tmp_path / "cut.nii.gz").write_bytes((tmp_path / "zipped.nii.gz").read_bytes()[:-10])
    (tmp_path / "folder.nii").mkdir()
    (tmp_path / "empty").mkdir()
    return tmp_path


RESAMPLE = "by python -m monai_jdt resample LIST.json FOLDER"
IN_A_FILE = [
    ("rater", "absent.nii", "expected a file, got nothing at that path. Fix: add it, or correct the path"),
    ("rater", "folder.nii", "expected a file, got a folder. Fix: add it, or correct the path"),
    ("rater", "nothing.nii", f"expected a file with something in it, got 0 bytes. {AGAIN}"),
    ("rater", "cut.nii.gz", f"expected a whole gzip file, got one that ends early (truncated). {AGAIN}"),
    (
        "rater",
        "small.nii",
        f"expected shape (6, 5, 4), as {{root}}/image.nii, got (5, 5, 4). Fix: resample it onto the image's grid {RESAMPLE}",
    ),
    (
        "rater",
        "turned.nii",
        "expected shape (6, 5, 4), as {root}/image.nii, got (4, 6, 5), the same axes in another order. "
        "Fix: put its axes in the image's order, by numpy.transpose(voxels, (1, 2, 0)), and give it the image's header",
    ),
    (
        "rater",
        "leading.nii",
        "expected shape (6, 5, 4), as {root}/image.nii, got (1, 6, 5, 4), with axes of length 1. Fix: write it without them",
    ),
    (
        "rater",
        "moved.nii",
        "expected the affine of {root}/image.nii (within 0.05 mm at every corner), got one that is 3 mm off, "
        f"origin [3.0, 0.0, 0.0]. Fix: resample it {RESAMPLE}, or correct its header if the voxels do lie on the image's",
    ),
    (
        "rater",
        "thick.nii",
        "expected voxels of 1 x 1 x 2 mm, as {root}/image.nii, got 1 x 1 x 3 mm. "
        f"Fix: resample it {RESAMPLE}, or correct its header if the voxels do lie on the image's",
    ),
    ("rater", "inf.nii", "expected finite label values, got 12 of 120 voxels NaN or infinite. Fix: write the label as whole numbers"),
    ("rater", "half.nii", "expected whole label values, got 0.5 (multiples of 0.5). " + SCALED),
    ("rater", "blurred.nii", "expected whole label values, got 0.5. Fix: resample labels with nearest-neighbour only"),
    ("rater", "wide.nii", "expected label values up to 32767, got 40000. Fix: number the labels anew"),
    ("rater", "colours.nii", "expected one real number per voxel, got colours. Fix: save each part as a channel of its own"),
    (
        "rater",
        "colours.png",
        "expected a label map of one channel, got 3 numbers per voxel (shape (6, 5, 3)). "
        "Fix: export label values, not colours or one-hot channels, or name the colour of the mark by `foreground`",
    ),
    (
        "rater",
        "two.nii",
        "expected label values among 0, 1, got 2. Fix: set `label_values` and `regions` to those of the files, or correct the labels",
    ),
    (
        "rater",
        "picture.nii",
        "expected label values among 0, 1, got 255. Fix: write `foreground: 255` in the list (`datalist --foreground 255`), "
        "or set `label_values` and `regions`",
    ),
    ("rater", "image.nii", "expected each file once in case good, got the image itself. Fix: list each rater's own file"),
    ("rater", "other.nii", "expected each file once in case good, got it is there again. Fix: list each rater's own file"),
    ("warning", "empty.nii", "expected a mark, got none: every value of 120 is 0. Fix: nothing, if the rater saw nothing there"),
    (
        "warning",
        "copy.nii",
        "expected a drawing of the rater's own, got the voxels of {root}/rater.nii. Fix: remove one of them if it is a copy",
    ),
    ("image", "nan.nii", "expected finite values, got 1 of 120 voxels NaN or infinite. Fix: repair the file, or remove the case"),
    ("image", "four.nii", "expected 1 channels on the last axis, got 4 (shape (6, 5, 4, 4)). Fix: stack the modalities' files"),
    ("probability", "above.nii", "expected probabilities in [0, 1], got 11 of 120 values outside. Fix: write the file again"),
]


@pytest.mark.parametrize(("key", "name", "line"), IN_A_FILE, ids=[f"{key}-{name}" for key, name, _ in IN_A_FILE])
def test_a_bad_file(root: Path, key: str, name: str, line: str) -> None:
    item = {"case": "good", "image": f"{root}/image.nii", "raters": [f"{root}/rater.nii", f"{root}/other.nii"]}
    path = f"{root}/{name}"
    item = {**item, "raters": [*item["raters"], path]} if key in ("rater", "warning") else {**item, key: path}
    (problem,) = find_problems([item], channels=1, label_values=(0, 1), progress=False)
    line = line.replace("{root}", str(root))
    assert str(problem) == f"{'warning: ' if key == 'warning' else ''}{path}: {line}."


@pytest.mark.parametrize("name", ["text.nii", "text.nrrd", "cut.nii"])
def test_an_unreadable_file_is_one_line_with_the_librarys_reason(root: Path, name: str) -> None:
    item = {"case": "good", "image": f"{root}/image.nii", "raters": [f"{root}/{name}"]}
    (problem,) = find_problems([item], progress=False)
    assert str(problem).startswith(f"{root}/{name}: expected a readable ")
    assert str(problem).endswith(AGAIN + ".")
    assert "\n" not in str(problem)


def _listed(value: Any) -> Callable[[Path], CaseList]:
    def read(root: Path) -> CaseList:
        (root / "list.json").write_text(value if isinstance(value, str) else json.dumps(value))
        return read_datalist(root / "list.json")

    return read


def _checked(item: dict[str, Any], **settings: Any) -> Callable[[Path], None]:
    def check(root: Path) -> None:
        item_at = json.loads(json.dumps(item).replace("ROOT", str(root)))
        (problem,) = find_problems([item_at], progress=False, **settings)
        raise ValueError(str(problem))

    return check


#: Values that no annotation allows.
UNKNOWN: Any = "fast"
HALF: Any = 1.5

GOOD: dict[str, Any] = {"case": "good", "image": "ROOT/image.nii", "raters": ["ROOT/rater.nii"]}
CALLS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no image": (_checked({**GOOD, "image": []}), "good: expected an image, got none. Fix: add its file, or remove the case"),
    "no rater": (
        _checked({**GOOD, "raters": []}),
        "good: expected at least one rater, got none. Fix: add a label file, or remove the case",
    ),
    "few raters": (
        _checked(GOOD, raters=2),
        "warning: good: expected 2 raters, got 1. Fix: add the missing files, if they should be there",
    ),
    "many raters": (
        _checked({**GOOD, "raters": ["ROOT/rater.nii", "ROOT/other.nii"]}, raters=1),
        "warning: good: expected 1 raters, got 2. Fix: see which files are too many",
    ),
    "few channels": (
        _checked({**GOOD, "image": ["ROOT/image.nii"]}, channels=4),
        "good: expected 4 image files, one per channel, got 1. Fix: list one file per channel",
    ),
    "no such read": (
        lambda root: find_problems([], read=UNKNOWN),
        "read: expected full or headers, got 'fast'. Fix: name one of these",
    ),
    "no such datalist": (
        lambda root: read_datalist(root / "x.json"),
        "{root}/x.json: expected a datalist JSON, got nothing at that path. Fix: name the file",
    ),
    "a list": (_listed([]), f"{{root}}/list.json: expected an object with a list of cases in it, got a list. {WRITE}"),
    "no JSON": (
        _listed("x"),
        f"{{root}}/list.json: expected a datalist JSON, got no JSON (Expecting value: line 1 column 1 (char 0)). {WRITE}",
    ),
    "no such section": (
        _listed({"testing": [{"image": "a.nii"}]}),
        "{root}/list.json: expected the section 'training', a list of cases, got the sections testing. Fix: name one that is there",
    ),
    "nothing to write": (
        lambda root: write_datalist([], root / "list.json"),
        "items: expected at least one item to write, got an empty list. Fix: see what the lister left out",
    ),
    "no layout": (
        lambda root: brats_datalist(root, "brats"),
        "layout: expected auto or one of ['brats2018', 'brats2021', 'brats2023', 'msd'], got 'brats'. Fix: name one of these",
    ),
    "no folder": (
        lambda root: qubiq_datalist(root / "none"),
        f"{{root}}/none: expected a folder with {QUBIQ}, got nothing at that path. Fix: name the data set's folder",
    ),
    "a file for a folder": (
        lambda root: qubiq_datalist(root / "image.nii"),
        f"{{root}}/image.nii: expected a folder with {QUBIQ}, got a file. Fix: name the data set's folder",
    ),
    "no QUBIQ": (
        lambda root: qubiq_datalist(root / "empty"),
        f"{{root}}/empty: expected {QUBIQ}, got no NIfTI file. Fix: name the folder that holds the cases, or use pattern_datalist",
    ),
    "no task": (lambda root: qubiq_datalist(root, task="x"), "task: expected a number or a name as 'task01', got 'x'. Fix: pass 1"),
    "no subset": (
        lambda root: qubiq_datalist(root, subset="dev"),
        "subset: expected training, validation, testing or None, got 'dev'. Fix: name one of these",
    ),
    "no KiTS21": (
        lambda root: kits21_datalist(root / "empty"),
        "{root}/empty: expected KiTS21 cases (case_XXXXX/imaging.nii.gz with segmentations/ beside it), got no NIfTI file. "
        "Fix: name the folder that holds the cases, or use pattern_datalist",
    ),
    "no CURVAS": (
        lambda root: curvas_datalist(root / "empty"),
        "{root}/empty: expected CURVAS cases (image.nii.gz with annotation_1.nii.gz, ... beside it), got no NIfTI file. "
        "Fix: name the folder that holds the cases, or use pattern_datalist",
    ),
    "no modality": (
        lambda root: msseg_datalist(root, modalities=["PD"]),
        "modalities: expected names among FLAIR, T1, GADO, DP, T2, got ['PD']. Fix: name at least one of these",
    ),
    "no case in a pattern": (
        lambda root: pattern_datalist(root, "image.nii", "{case}.nii"),
        "pattern 'image.nii': expected the field {case}, got none. Fix: write {case} for the part of the name that names the case",
    ),
    "no such field": (
        lambda root: pattern_datalist(root, "{id}.nii", "{case}.nii"),
        "pattern '{id}.nii': expected the fields {case} only, got '{id}'. "
        "Fix: write {case} for the part of the name that names the case, and * for what may be anything",
    ),
    "no pattern": (
        lambda root: pattern_datalist(root, [], "{case}.nii"),
        "image: expected at least one pattern, got an empty list. Fix: write one, with {case}",
    ),
    "no convention": (
        lambda root: region_convention("brats"),
        "regions: expected a region convention among ['brats2018', 'brats2021', 'brats2023', 'brats2024', 'msd'], got 'brats'. "
        "Fix: name one of these, or give the regions themselves",
    ),
    "fraction": (
        lambda root: split_cases(CASES, 1.0),
        "fraction: expected a number between 0 and 1, both excluded, got 1.0. Fix: pass 0.2",
    ),
    "key": (lambda root: split_cases(CASES, key="id"), "items[0]: expected the key 'id', got ['case']. Fix: name another key"),
    "folds of one patient": (
        lambda root: folds([{"case": "case1-1"}, {"case": "case1-2"}], 5),
        "items: expected at least 2 patients for folds, got 1 (case1, 2 cases). "
        "Fix: add cases, or use the same list on both sides on purpose",
    ),
    "seed of folds": (lambda root: folds(CASES, 2, -1), "seed: expected a whole number >= 0, got -1. Fix: pass 0"),
    "seed of a split": (lambda root: split_cases(CASES, 0.5, HALF), "seed: expected a whole number >= 0, got 1.5. Fix: pass 0"),
    "seed of phantoms": (
        lambda root: write_brats_phantoms(root / "new", seed=-1, cases=1, shape=(12, 12, 12), progress=False),
        "seed: expected a whole number >= 0, got -1. Fix: pass 0",
    ),
    "folds of nothing": (
        lambda root: folds([], 5),
        "items: expected at least 2 patients for folds, got an empty list. "
        "Fix: add cases, or use the same list on both sides on purpose",
    ),
    "folds": (lambda root: folds(CASES, 5), "k: expected 2 folds, at most as many as patients, got 5. Fix: ask for 2"),
    "phantoms' layout": (
        lambda root: write_qubiq_phantoms(root / "p", layout="qubiq"),
        "layout: expected one of ['qubiq2020', 'qubiq2021'], got 'qubiq'. Fix: name one of these",
    ),
    "phantoms' shape": (
        lambda root: qubiq_phantom(shape=(8, 8)),
        "shape: expected 2 whole numbers of at least 16 for brain-growth, got (8, 8). Fix: pass (64, 64)",
    ),
    "BraTS phantoms' shape": (
        lambda root: brats_phantom(shape=(8, 8, 8)),
        "shape: expected three whole numbers of at least 12 voxels, got (8, 8, 8). Fix: pass (48, 48, 48)",
    ),
    "phantoms over files": (
        lambda root: write_brats_phantoms(root, cases=1, progress=False),
        "{root}: expected a free name or these phantoms, got a folder of other files. Fix: name another folder, or remove this one",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_bad_call(root: Path, name: str) -> None:
    call, line = CALLS[name]
    with pytest.raises((ValueError, OSError)) as caught:
        call(root)
    assert str(caught.value).removesuffix(".") == line.replace("{root}", str(root))
    assert not os.path.exists(root / "p")


def test_there_are_forty() -> None:
    assert len(IN_A_FILE) + len(CALLS) >= 40
