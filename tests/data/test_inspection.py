import gzip
import os
import pickle
import types

import nibabel
import numpy as np
import pytest

from monai_jdt.data import (
    DataProblem,
    DataProblemError,
    brats_datalist,
    check_items,
    find_problems,
    region_convention,
    write_brats_phantoms,
)

VALUES = region_convention("brats2021").values


@pytest.fixture
def items(tmp_path):
    root = write_brats_phantoms(tmp_path / "set", cases=2, shape=(12, 12, 12), progress=False)
    return brats_datalist(root)


def _problems(items, **settings):
    settings = {"channels": 4, "label_values": VALUES, "progress": False, **settings}
    return list(find_problems(items, **settings))


def _only(items, **settings):
    (problem,) = _problems(items, **settings)
    return problem


def _rewrite(path, change=lambda voxels: voxels, affine=None, dtype=None):
    image = nibabel.load(path)
    voxels = change(np.array(image.dataobj))
    nibabel.save(nibabel.Nifti1Image(voxels.astype(dtype or voxels.dtype), image.affine if affine is None else affine), path)


def _put(value):
    def change(voxels):
        voxels = voxels.astype(np.float32)
        voxels[3, 4, 5] = value
        return voxels

    return change


def test_good_data_has_no_problem(items, tmp_path):
    assert _problems(items) == []
    assert _problems(items, read="headers") == []
    assert check_items(items, channels=4, label_values=VALUES, progress=False) is None
    msd = brats_datalist(write_brats_phantoms(tmp_path / "m", cases=1, shape=(12, 12, 12), layout="msd", progress=False))
    assert _problems(msd, label_values=(0, 1, 2, 3)) == []


def test_problems_come_as_a_stream(items):
    problems = find_problems([{"case": "a"}, *items], progress=False)
    assert isinstance(problems, types.GeneratorType)
    os.remove(items[1]["raters"][0])  # after the start, before its turn
    assert next(problems).where == "a"
    assert items[1]["raters"][0] in [problem.where for problem in problems]


def test_empty_list():
    assert _only([]).came == "an empty list"


@pytest.mark.parametrize("key", ["image", "raters"])
def test_missing_file(items, key):
    os.remove(items[1][key][1])
    problem = _only(items, read="headers")
    assert (problem.where, problem.came) == (items[1][key][1], "nothing at that path")


@pytest.mark.parametrize("keep", [0.5, 0.97, -3])
def test_truncated_gzip_needs_the_full_read(items, keep):
    path = items[0]["raters"][2]
    with open(path, "rb") as file:
        content = file.read()
    with open(path, "wb") as file:
        file.write(content[: keep if keep < 0 else int(keep * len(content))])
    problem = _only(items)
    assert problem.where == path
    assert "truncated" in problem.came


def test_truncated_plain_file(items, tmp_path):
    path = str(tmp_path / "plain.nii")
    with gzip.open(items[0]["raters"][0]) as file:
        content = file.read()
    with open(path, "wb") as file:
        file.write(content[:-10])
    items[0]["raters"][0] = path
    assert _problems(items, read="headers") == []
    assert _only(items).where == path


def test_a_flipped_bit_is_found_by_the_checksum(items):
    path = items[0]["image"][0]
    with open(path, "rb") as file:
        content = bytearray(file.read())
    content[-6] ^= 1  # in the checksum, where nibabel never looks
    with open(path, "wb") as file:
        file.write(content)
    assert np.asanyarray(nibabel.load(path).dataobj).shape == (12, 12, 12)
    assert _only(items).where == path


@pytest.mark.parametrize("read", ["full", "headers"])
@pytest.mark.parametrize("content", [b"", b"not an image at all" * 40, gzip.compress(b"rubbish" * 100)])
def test_garbage(items, read, content):
    path = items[0]["raters"][0]
    with open(path, "wb") as file:
        file.write(content)
    problem = _only(items, read=read)
    assert problem.where == path
    assert "\n" not in str(problem)


@pytest.mark.parametrize("key", ["image", "raters"])
def test_another_shape(items, key):
    _rewrite(items[0][key][1], lambda voxels: voxels[:, :, :-2])
    problem = _only(items, read="headers")
    assert problem.where == items[0][key][1]
    assert problem.expected == f"shape (12, 12, 12), as {items[0]['image'][0]}"
    assert problem.came == "(12, 12, 10)"


@pytest.mark.parametrize("key", ["image", "raters"])
def test_another_affine(items, key):
    path = items[0][key][1]
    affine = nibabel.load(path).affine
    _rewrite(path, affine=affine + np.eye(4)[:, [3, 3, 3, 3]] * 0 + 1e-4 * np.eye(4, k=3))  # 0.1 micrometre: rounding
    assert _problems(items, read="headers") == []
    moved = affine.copy()
    moved[0, 3] += 5
    _rewrite(path, affine=moved)
    problem = _only(items, read="headers")
    assert problem.where == path
    assert "within 0.05 mm" in problem.expected
    assert problem.came.startswith("one that is 5 mm off")


def test_no_rater_and_no_image(items):
    items[0]["raters"] = []
    assert _only(items).expected == "at least one rater"
    items[0] = {**items[1], "case": "other", "image": []}
    assert _only(items).expected == "an image"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_image(items, value):
    _rewrite(items[0]["image"][2], _put(value))
    assert _problems(items, read="headers") == []
    problem = _only(items)
    assert problem.where == items[0]["image"][2]
    assert problem.came == "1 of 1728 voxels NaN or infinite"


@pytest.mark.parametrize(
    ("value", "expected", "came"),
    [
        (np.nan, "finite label values", "1 of 1728 voxels NaN or infinite"),
        (0.5, "whole label values", "0.5"),
        (3, "label values among 0, 1, 2, 4", "3"),
        (-1, "label values among 0, 1, 2, 4", "-1"),
    ],
)
def test_label_values(items, value, expected, came):
    _rewrite(items[0]["raters"][0], _put(value))
    problem = _only(items)
    assert (problem.where, problem.expected, problem.came) == (items[0]["raters"][0], expected, came)


def test_unknown_uint8_value_and_no_list_of_values(items):
    _rewrite(items[0]["raters"][0], lambda voxels: np.where(voxels == 4, 3, voxels + 5 * (voxels == 0)), dtype=np.uint8)
    assert _only(items).came == "3, 5"
    assert _problems(items, label_values=None) == []


def test_channels(items, tmp_path):
    items[0]["image"] = items[0]["image"][:3]
    assert _only(items).came == "3"
    assert _problems(items, channels=None) == []
    msd = brats_datalist(write_brats_phantoms(tmp_path / "m", cases=1, shape=(12, 12, 12), layout="msd", progress=False))
    _rewrite(msd[0]["image"], lambda voxels: voxels[..., :3])
    labels = {"label_values": (0, 1, 2, 3)}
    assert _only(msd, **labels).came == "3 (shape (12, 12, 12, 3))"
    assert _only(msd, channels=None, **labels).expected == "channels [2, 1, 3, 0] on the last axis"


def test_probability_is_looked_at(items):
    _rewrite(items[0]["probability"], lambda voxels: voxels + 0.5)
    assert _only(items).where == items[0]["probability"]


def test_a_case_twice(items):
    assert _only([*items, items[0]]).where == items[0]["case"]


def test_check_items_lists_twenty_and_counts_the_rest():
    with pytest.raises(DataProblemError) as caught:
        check_items([{"case": f"c{n}"} for n in range(13)], progress=False)  # two problems each: no image, no rater
    lines = str(caught.value).splitlines()
    assert len(lines) == 21
    assert lines[-1] == "and 6 more"
    assert lines[0].startswith("c0: expected an image")


def test_wrong_read_is_named_at_once(items):
    with pytest.raises(ValueError, match="read: expected full or headers"):
        find_problems(items, read="fast")


def test_the_error_survives_a_process_border():
    error = pickle.loads(pickle.dumps(DataProblemError([DataProblem("a", "b", "c", "d")], more=2)))
    assert str(error) == "a: expected b; came c; fix: d\nand 2 more"
    assert (len(error.problems), error.more) == (1, 2)
