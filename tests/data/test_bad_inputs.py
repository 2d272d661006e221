"""Bad inputs of the data layer, each with its exact one-line error. `{root}` stands for the test's folder."""

import json
import os

import nibabel
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

SHAPE = (6, 5, 4)
SCALED = "fix: divide by that number, round, and save the values as integers"
AGAIN = "fix: copy it again from where it came"
CASES = [{"case": "a"}, {"case": "b"}]
QUBIQ = "QUBIQ cases (image.nii.gz with taskTT_segRR.nii.gz beside it)"
WRITE = "fix: write it again by `python -m monai_jdt datalist`"


@pytest.fixture
def root(tmp_path):
    """A folder with one good case, `good`, and files that are wrong in one way each."""

    def save(name, voxels, affine=None):
        nibabel.save(nibabel.Nifti1Image(voxels, np.diag([1.0, 1, 2, 1]) if affine is None else affine), tmp_path / name)

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
    save("half.nii", mark * np.float32(0.5))
    save("blurred.nii", np.where(image == 7, 0.5, mark).astype(np.float32))
    save("wide.nii", mark * np.uint16(40000))
    save("colours.nii", np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")]))
    Image.fromarray(np.zeros((5, 6, 3), np.uint8)).save(tmp_path / "colours.png")
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


IN_A_FILE = [
    ("rater", "absent.nii", "expected a file; came nothing at that path; fix: add it, or correct the path"),
    ("rater", "folder.nii", "expected a file; came a folder; fix: add it, or correct the path"),
    ("rater", "nothing.nii", f"expected a file with something in it; came 0 bytes; {AGAIN}"),
    ("rater", "cut.nii.gz", f"expected a whole gzip file; came one that ends early (truncated); {AGAIN}"),
    ("rater", "small.nii", "expected shape (6, 5, 4), as {root}/image.nii; came (5, 5, 4); fix: resample it onto the image's grid"),
    (
        "rater",
        "turned.nii",
        "expected shape (6, 5, 4), as {root}/image.nii; came (4, 6, 5), the same axes in another order; "
        "fix: move its slice axis to where the image has it",
    ),
    (
        "rater",
        "leading.nii",
        "expected shape (6, 5, 4), as {root}/image.nii; came (1, 6, 5, 4), with axes of length 1; fix: write it without them",
    ),
    (
        "rater",
        "moved.nii",
        "expected the affine of {root}/image.nii (within 0.05 mm at every corner); came one that is 3 mm off, "
        "origin [3.0, 0.0, 0.0]; fix: resample it, or correct its header if the voxels do lie on the image's",
    ),
    (
        "rater",
        "thick.nii",
        "expected voxels of 1 x 1 x 2 mm, as {root}/image.nii; came 1 x 1 x 3 mm; "
        "fix: resample it, or correct its header if the voxels do lie on the image's",
    ),
    ("rater", "inf.nii", "expected finite label values; came 12 of 120 voxels NaN or infinite; fix: write the label as whole numbers"),
    ("rater", "half.nii", "expected whole label values; came 0.5 (multiples of 0.5); " + SCALED),
    ("rater", "blurred.nii", "expected whole label values; came 0.5; fix: resample labels with nearest-neighbour only"),
    ("rater", "wide.nii", "expected label values up to 32767; came 40000; fix: number the labels anew"),
    ("rater", "colours.nii", "expected one real number a voxel; came colours; fix: save each part as a channel of its own"),
    (
        "rater",
        "colours.png",
        "expected a label map of one channel; came 3 numbers a voxel (shape (6, 5, 3)); "
        "fix: export label values, not colours or one-hot channels",
    ),
    ("rater", "two.nii", "expected label values among 0, 1; came 2; fix: name the convention of this data set"),
    ("rater", "image.nii", "expected each file once in case good; came the image itself; fix: list each rater's own file"),
    ("rater", "other.nii", "expected each file once in case good; came it is there again; fix: list each rater's own file"),
    ("warning", "empty.nii", "expected a mark; came none: every value of 120 is 0; fix: nothing, if the rater saw nothing there"),
    (
        "warning",
        "copy.nii",
        "expected a drawing of the rater's own; came the voxels of {root}/rater.nii; fix: remove one of them if it is a copy",
    ),
    ("image", "nan.nii", "expected finite values; came 1 of 120 voxels NaN or infinite; fix: repair the file, or remove the case"),
    ("image", "four.nii", "expected 1 channels on the last axis; came 4 (shape (6, 5, 4, 4)); fix: stack the modalities' files"),
    ("probability", "above.nii", "expected probabilities in [0, 1]; came 11 of 120 values outside; fix: write the file again"),
]


@pytest.mark.parametrize(("key", "name", "line"), IN_A_FILE, ids=[f"{key}-{name}" for key, name, _ in IN_A_FILE])
def test_a_bad_file(root, key, name, line):
    item = {"case": "good", "image": f"{root}/image.nii", "raters": [f"{root}/rater.nii", f"{root}/other.nii"]}
    path = f"{root}/{name}"
    item = {**item, "raters": [*item["raters"], path]} if key in ("rater", "warning") else {**item, key: path}
    (problem,) = find_problems([item], channels=1, label_values=(0, 1), progress=False)
    line = line.replace("{root}", str(root))
    assert str(problem) == f"{'warning: ' if key == 'warning' else ''}{path}: {line}"


@pytest.mark.parametrize("name", ["text.nii", "text.nrrd", "cut.nii"])
def test_an_unreadable_file_is_one_line_with_the_librarys_reason(root, name):
    item = {"case": "good", "image": f"{root}/image.nii", "raters": [f"{root}/{name}"]}
    (problem,) = find_problems([item], progress=False)
    assert str(problem).startswith(f"{root}/{name}: expected a readable ")
    assert str(problem).endswith(AGAIN)
    assert "\n" not in str(problem)


def _listed(value):
    def read(root):
        (root / "list.json").write_text(value if isinstance(value, str) else json.dumps(value))
        return read_datalist(root / "list.json")

    return read


def _checked(item, **settings):
    def check(root):
        item_at = json.loads(json.dumps(item).replace("ROOT", str(root)))
        (problem,) = find_problems([item_at], progress=False, **settings)
        raise ValueError(str(problem))

    return check


GOOD = {"case": "good", "image": "ROOT/image.nii", "raters": ["ROOT/rater.nii"]}
CALLS = {
    "no image": (_checked({**GOOD, "image": []}), "good: expected an image; came none; fix: add its file, or remove the case"),
    "no rater": (
        _checked({**GOOD, "raters": []}),
        "good: expected at least one rater; came none; fix: add a label file, or remove the case",
    ),
    "few raters": (
        _checked(GOOD, raters=2),
        "warning: good: expected 2 raters; came 1; fix: add the missing files, if they should be there",
    ),
    "many raters": (
        _checked({**GOOD, "raters": ["ROOT/rater.nii", "ROOT/other.nii"]}, raters=1),
        "warning: good: expected 1 raters; came 2; fix: see which files are too many",
    ),
    "few channels": (
        _checked({**GOOD, "image": ["ROOT/image.nii"]}, channels=4),
        "good: expected 4 image files, one a channel; came 1; fix: list one file a channel",
    ),
    "no such read": (lambda root: find_problems([], read="fast"), "read: expected full or headers, came 'fast'"),
    "no such datalist": (
        lambda root: read_datalist(root / "x.json"),
        "{root}/x.json: expected a datalist JSON; came nothing at that path; fix: name the file",
    ),
    "a list": (_listed([]), f"{{root}}/list.json: expected an object with a list of cases in it; came a list; {WRITE}"),
    "no JSON": (
        _listed("x"),
        f"{{root}}/list.json: expected a datalist JSON; came no JSON (Expecting value: line 1 column 1 (char 0)); {WRITE}",
    ),
    "no such section": (
        _listed({"testing": [{"image": "a.nii"}]}),
        "{root}/list.json: expected the section 'training', a list of cases; came the sections testing; fix: name one that is there",
    ),
    "nothing to write": (
        lambda root: write_datalist([], root / "list.json"),
        "items: expected at least one item to write, came an empty list",
    ),
    "no layout": (
        lambda root: brats_datalist(root, "brats"),
        "layout: expected auto or one of ['brats2018', 'brats2021', 'brats2023', 'msd'], came 'brats'",
    ),
    "no folder": (
        lambda root: qubiq_datalist(root / "none"),
        f"{{root}}/none: expected a folder with {QUBIQ}; came nothing at that path; fix: name the data set's folder",
    ),
    "a file for a folder": (
        lambda root: qubiq_datalist(root / "image.nii"),
        f"{{root}}/image.nii: expected a folder with {QUBIQ}; came a file; fix: name the data set's folder",
    ),
    "no QUBIQ": (
        lambda root: qubiq_datalist(root / "empty"),
        f"{{root}}/empty: expected {QUBIQ}; came no NIfTI file; fix: name the folder that holds the cases, or use pattern_datalist",
    ),
    "no task": (lambda root: qubiq_datalist(root, task="x"), "task: expected a number or a name as 'task01', came 'x'"),
    "no subset": (
        lambda root: qubiq_datalist(root, subset="dev"),
        "subset: expected training, validation, testing or None, came 'dev'",
    ),
    "no KiTS21": (
        lambda root: kits21_datalist(root / "empty"),
        "{root}/empty: expected KiTS21 cases (case_XXXXX/imaging.nii.gz with segmentations/ beside it); came no NIfTI file; "
        "fix: name the folder that holds the cases, or use pattern_datalist",
    ),
    "no CURVAS": (
        lambda root: curvas_datalist(root / "empty"),
        "{root}/empty: expected CURVAS cases (image.nii.gz with annotation_1.nii.gz, ... beside it); came no NIfTI file; "
        "fix: name the folder that holds the cases, or use pattern_datalist",
    ),
    "no modality": (
        lambda root: msseg_datalist(root, modalities=["PD"]),
        "modalities: expected names among FLAIR, T1, GADO, DP, T2, came ['PD']",
    ),
    "no case in a pattern": (
        lambda root: pattern_datalist(root, "image.nii", "{case}.nii"),
        "pattern 'image.nii': expected the field {case}, came none; add it",
    ),
    "no such field": (
        lambda root: pattern_datalist(root, "{id}.nii", "{case}.nii"),
        "pattern '{id}.nii': expected the fields {case} only, came '{id}'",
    ),
    "no pattern": (lambda root: pattern_datalist(root, [], "{case}.nii"), "image: expected at least one pattern, came an empty list"),
    "no convention": (
        lambda root: region_convention("brats"),
        "expected a region convention among ['brats2018', 'brats2021', 'brats2023', 'brats2024', 'msd'], came 'brats'",
    ),
    "fraction": (
        lambda root: split_cases(CASES, 1.0),
        "fraction: expected a number between 0 and 1, both excluded, came 1.0",
    ),
    "key": (lambda root: split_cases(CASES, key="id"), "items[0]: expected the key 'id', came ['case']; name another key"),
    "folds": (lambda root: folds(CASES, 5), "k: expected 2 to 2 folds (as many as patients), came 5"),
    "phantoms' layout": (
        lambda root: write_qubiq_phantoms(root / "p", layout="qubiq"),
        "layout: expected one of ['qubiq2020', 'qubiq2021'], came 'qubiq'",
    ),
    "phantoms' shape": (
        lambda root: qubiq_phantom(shape=(8, 8)),
        "shape: expected 2 whole numbers of at least 16 for brain-growth, came (8, 8)",
    ),
    "BraTS phantoms' shape": (
        lambda root: brats_phantom(shape=(8, 8, 8)),
        "shape: expected three whole numbers of at least 12 voxels, came (8, 8, 8)",
    ),
    "phantoms over files": (
        lambda root: write_brats_phantoms(root, cases=1, progress=False),
        "{root}: expected a free name or these phantoms; came a folder of other files; fix: name another folder, or remove this one",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_bad_call(root, name):
    call, line = CALLS[name]
    with pytest.raises((ValueError, OSError)) as caught:
        call(root)
    assert str(caught.value) == line.replace("{root}", str(root))
    assert not os.path.exists(root / "p")


def test_there_are_forty():
    assert len(IN_A_FILE) + len(CALLS) >= 40
