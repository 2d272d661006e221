"""The check of a data list: one line for each fault, none for good data."""

import gzip
import os
import pickle
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from monai_jdt.data import (
    QUBIQ_SETS,
    DataProblem,
    DataProblemError,
    brats_datalist,
    check_items,
    find_problems,
    qubiq_datalist,
    region_convention,
    write_brats_phantoms,
    write_qubiq_phantoms,
)
from monai_jdt.data.layouts.listing import CaseList
from tests.nifti_files import load_nifti, save_nifti

VALUES = region_convention("brats2021").values
ROUND = "round the values, and save them as integers"
DIVIDE = "divide by that number, round, and save the values as integers"
SEED = 1  # in so small phantoms some seeds have a rater who marks nothing


@pytest.fixture
def items(tmp_path: Path) -> CaseList:
    root = write_brats_phantoms(tmp_path / "set", cases=2, shape=(12, 12, 12), seed=SEED, progress=False)
    return brats_datalist(root)


def _problems(items: Sequence[dict[str, Any]], **settings: Any) -> list[DataProblem]:
    return list(find_problems(items, **{"channels": 4, "label_values": VALUES, "progress": False, **settings}))


def _only(items: Sequence[dict[str, Any]], **settings: Any) -> DataProblem:
    (problem,) = _problems(items, **settings)
    return problem


def _rewrite(
    path: str,
    change: Callable[[np.ndarray], np.ndarray] = lambda voxels: voxels,
    affine: np.ndarray | None = None,
    dtype: type[np.int16 | np.uint8] | None = None,
) -> None:
    image = load_nifti(path)
    voxels = change(np.array(image.dataobj))
    save_nifti(path, voxels.astype(dtype or voxels.dtype), image.affine if affine is None else affine)


def _put(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(voxels: np.ndarray) -> np.ndarray:
        voxels = voxels.astype(np.float32)
        voxels[3, 4, 5] = value
        return voxels

    return change


def test_good_data_has_no_problem(items: CaseList, tmp_path: Path) -> None:
    assert _problems(items) == []
    assert _problems(items, read="headers") == []
    check_items(items, channels=4, label_values=VALUES, progress=False)
    msd = brats_datalist(write_brats_phantoms(tmp_path / "m", cases=1, shape=(12, 12, 12), seed=SEED, layout="msd", progress=False))
    assert _problems(msd, label_values=(0, 1, 2, 3)) == []


def test_problems_come_as_a_stream(items: CaseList) -> None:
    problems = find_problems([{"case": "a"}, *items], progress=False)
    assert isinstance(problems, types.GeneratorType)
    os.remove(items[1]["raters"][0])  # after the start, before its turn
    assert next(problems).where == "a"
    assert items[1]["raters"][0] in [problem.where for problem in problems]


def test_empty_list() -> None:
    assert _only([]).got == "an empty list"


@pytest.mark.parametrize("key", ["image", "raters"])
def test_missing_file(items: CaseList, key: str) -> None:
    os.remove(items[1][key][1])
    problem = _only(items, read="headers")
    assert (problem.where, problem.got) == (items[1][key][1], "nothing at that path")


@pytest.mark.parametrize("keep", [0.5, 0.97, -3])
def test_truncated_gzip_needs_the_full_read(items: CaseList, keep: float) -> None:
    path = items[0]["raters"][2]
    with open(path, "rb") as file:
        content = file.read()
    with open(path, "wb") as file:
        file.write(content[: int(keep if keep < 0 else keep * len(content))])
    problem = _only(items)
    assert problem.where == path
    assert "truncated" in problem.got


def test_truncated_plain_file(items: CaseList, tmp_path: Path) -> None:
    path = str(tmp_path / "plain.nii")
    with gzip.open(items[0]["raters"][0]) as file:
        content = file.read()
    with open(path, "wb") as file:
        file.write(content[:-10])
    items[0]["raters"][0] = path
    assert _only(items, read="headers").got.endswith("truncated)")  # the size tells
    assert _only(items).where == path


def test_a_flipped_bit_is_found_by_the_checksum(items: CaseList) -> None:
    path = items[0]["image"][0]
    with open(path, "rb") as file:
        content = bytearray(file.read())
    content[-6] ^= 1  # in the checksum, where nibabel never looks
    with open(path, "wb") as file:
        file.write(content)
    assert np.asanyarray(load_nifti(path).dataobj).shape == (12, 12, 12)
    assert _only(items).where == path


@pytest.mark.parametrize("read", ["full", "headers"])
@pytest.mark.parametrize("content", [b"", b"not an image at all" * 40, gzip.compress(b"rubbish" * 100, mtime=0)])
def test_garbage(items: CaseList, read: str, content: bytes) -> None:
    path = items[0]["raters"][0]
    with open(path, "wb") as file:
        file.write(content)
    problem = _only(items, read=read)
    assert problem.where == path
    assert "\n" not in str(problem)


@pytest.mark.parametrize("key", ["image", "raters"])
def test_another_shape(items: CaseList, key: str) -> None:
    _rewrite(items[0][key][1], lambda voxels: voxels[:, :, :-2])
    problem = _only(items, read="headers")
    assert problem.where == items[0][key][1]
    assert problem.expected == f"shape (12, 12, 12), as {items[0]['image'][0]}"
    assert problem.got == "(12, 12, 10)"


@pytest.mark.parametrize("key", ["image", "raters"])
def test_another_affine(items: CaseList, key: str) -> None:
    path = items[0][key][1]
    affine = load_nifti(path).affine
    _rewrite(path, affine=affine + np.eye(4)[:, [3, 3, 3, 3]] * 0 + 1e-4 * np.eye(4, k=3))  # 0.1 micrometre: rounding
    assert _problems(items, read="headers") == []
    moved = affine.copy()
    moved[0, 3] += 5
    _rewrite(path, affine=moved)
    problem = _only(items, read="headers")
    assert problem.where == path
    assert "within 0.05 mm" in problem.expected
    assert problem.got.startswith("one that is 5 mm off")


def test_no_rater_and_no_image(items: CaseList) -> None:
    items[0]["raters"] = []
    assert _only(items).expected == "at least one rater"
    items[0] = {**items[1], "case": "other", "image": []}
    assert _only(items).expected == "an image"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_image(items: CaseList, value: float) -> None:
    _rewrite(items[0]["image"][2], _put(value))
    assert _problems(items, read="headers") == []
    problem = _only(items)
    assert problem.where == items[0]["image"][2]
    assert problem.got == "1 of 1728 voxels NaN or infinite"


@pytest.mark.parametrize(
    ("value", "expected", "got"),
    [
        (np.nan, "finite label values", "1 of 1728 voxels NaN or infinite"),
        (0.5, "whole label values", "0.5"),
        (3, "label values among 0, 1, 2, 4", "3"),
        (-1, "label values among 0, 1, 2, 4", "-1"),
    ],
)
def test_label_values(items: CaseList, value: float, expected: str, got: str) -> None:
    _rewrite(items[0]["raters"][0], _put(value))
    problem = _only(items)
    assert (problem.where, problem.expected, problem.got) == (items[0]["raters"][0], expected, got)


def test_unknown_uint8_value_and_no_list_of_values(items: CaseList) -> None:
    _rewrite(items[0]["raters"][0], lambda voxels: np.where(voxels == 4, 3, voxels + 5 * (voxels == 0)), dtype=np.uint8)
    assert _only(items).got == "3, 5"
    assert _problems(items, label_values=None) == []


def test_channels(items: CaseList, tmp_path: Path) -> None:
    items[0]["image"] = items[0]["image"][:3]
    assert _only(items).got == "3"
    assert _problems(items, channels=None) == []
    msd = brats_datalist(write_brats_phantoms(tmp_path / "m", cases=1, shape=(12, 12, 12), seed=SEED, layout="msd", progress=False))
    _rewrite(msd[0]["image"], lambda voxels: voxels[..., :3])
    labels: dict[str, Any] = {"label_values": (0, 1, 2, 3)}
    assert _only(msd, **labels).got == "3 (shape (12, 12, 12, 3))"
    assert _only(msd, channels=None, **labels).expected == "channels [2, 1, 3, 0] on the last axis"


def test_probability_is_checked(items: CaseList) -> None:
    _rewrite(items[0]["probability"], lambda voxels: voxels + 0.5)
    assert _only(items).where == items[0]["probability"]


def test_one_image_in_two_cases_is_a_warning(items: CaseList) -> None:
    twin = {**items[0], "case": "twin"}
    (problem,) = find_problems([items[0], twin], read="headers", progress=False)
    image = items[0]["image"][0]
    assert str(problem) == (
        f"warning: twin: expected an image of its own, got the image of case {items[0]['case']}, {image}. "
        "Fix: list all raters of an image under one case, or remove one of the cases."
    )
    # the tasks of a case share its image; so do the spellings of a path, and a link to it
    assert list(find_problems([items[0], {**items[0], "task": "other"}], read="headers", progress=False)) == []
    os.symlink(os.path.dirname(image), link := os.path.join(os.path.dirname(image), "..", "link"))
    twin["image"] = [os.path.join(link, os.path.basename(path)) for path in twin["image"]]
    assert [problem.where for problem in find_problems([items[0], twin], read="headers", progress=False)] == ["twin"]


def test_a_case_twice(items: CaseList) -> None:
    assert _only([*items, items[0]]).where == items[0]["case"]
    tasks = [{**items[0], "task": task} for task in ("a", "b")]
    assert _problems(tasks) == []
    assert _only([*tasks, tasks[1]]).got == "it is there again"


def test_warnings_are_yielded_and_do_not_fail(items: CaseList, caplog: pytest.LogCaptureFixture) -> None:
    _rewrite(items[0]["raters"][1], lambda voxels: voxels * 0)
    _rewrite(items[0]["raters"][2], lambda _: np.array(load_nifti(items[0]["raters"][0]).dataobj), dtype=np.int16)
    empty, copy = _problems(items)
    assert (empty.fatal, empty.where, empty.got) == (False, items[0]["raters"][1], "none: every value of 1728 is 0")
    assert (copy.fatal, copy.where, copy.got) == (False, items[0]["raters"][2], f"the voxels of {items[0]['raters'][0]}")
    assert str(copy).startswith(f"warning: {copy.where}: expected a drawing of the rater's own, got the voxels of ")
    assert _problems(items, read="headers") == []
    check_items(items, channels=4, label_values=VALUES, progress=False)
    assert [record.getMessage() for record in caplog.records] == [str(empty), str(copy)]
    # two raters who marked nothing are no copies of each other
    _rewrite(items[0]["raters"][2], lambda voxels: voxels * 0)
    assert [problem.expected for problem in _problems(items)] == ["a mark", "a mark"]


def test_many_warnings_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    items = [{"case": f"c{n}", "image": __file__, "raters": ["x"]} for n in range(3)]
    with pytest.raises(DataProblemError):
        check_items(items, raters=2, progress=False)
    assert sum("expected 2 raters, got 1" in record.getMessage() for record in caplog.records) == 3


def test_number_of_raters(items: CaseList) -> None:
    fewer = [{**item, "raters": item["raters"][:n]} for item, n in zip(items, (3, 4), strict=True)]
    few = _only(fewer, raters=4)
    assert str(few) == f"warning: {items[0]['case']}: expected 4 raters, got 3. Fix: add the missing files, if they should be there."
    assert _only(fewer, raters=3).fix == "see which files are too many"


def test_voxel_size_and_order_of_axes(items: CaseList) -> None:
    path = items[0]["raters"][0]
    _rewrite(path, affine=load_nifti(path).affine @ np.diag([1, 1, 2, 1]))
    problem = _only(items, read="headers")
    assert (problem.expected, problem.got) == (f"voxels of 1 x 1 x 1.2 mm, as {items[0]['image'][0]}", "1 x 1 x 2.4 mm")
    _rewrite(path, lambda voxels: np.moveaxis(voxels[:, :, :8], 2, 0))
    for file in (*items[0]["image"], *items[0]["raters"][1:]):
        _rewrite(file, lambda voxels: voxels[:, :, :8])
    _rewrite(items[0]["probability"], lambda voxels: voxels[:, :, :8])
    problem = _only(items, read="headers")
    assert (problem.got, problem.fix) == (
        "(8, 12, 12), the same axes in another order",
        "put its axes in the image's order, and give it the image's header",
    )


def test_last_axes_of_length_one_are_no_difference(items: CaseList) -> None:
    _rewrite(items[0]["raters"][0], lambda voxels: voxels[..., None, None])
    assert _problems(items) == []
    _rewrite(items[0]["raters"][0], lambda voxels: voxels[None, ..., 0, 0])
    assert _only(items).fix == "write it without them"


@pytest.mark.parametrize(
    ("values", "got", "fix"),
    [
        ([0, 1, 2, 4], None, None),
        ([0, 1.0000001, 2, 4], None, None),
        ([0.0009, 0.9991, 2, 4], None, None),
        ([0, 1.0039, 2.0078, 4], "1.00390005, 2.0078001 (an inexact scale factor)", ROUND),
        ([0, 0.25, 0.5, 0.75], "0.25, 0.5, 0.75 (multiples of 0.25)", DIVIDE),
        ([0, 0.333, 0.667, 1], "0.333, 0.667 (multiples of 0.333)", DIVIDE),
        ([0, 1 / 255, 4 / 255], "0.00392157, 0.0156863 (multiples of 0.00392157)", DIVIDE),
        ([0, 1e-4, 2e-4, 4e-4], "0.0001, 0.0002, 0.0004 (multiples of 0.0001)", DIVIDE),  # rounded they would be an empty label
        ([0, 0.25, 0.6, 1], "0.25, 0.6", "resample labels with nearest-neighbour only"),
        ([0, 0.1, 0.5, 1, 2, 4], "0.1, 0.5", "resample labels with nearest-neighbour only"),
    ],
)
def test_scaled_floats(items: CaseList, values: list[float], got: str | None, fix: str | None) -> None:
    _rewrite(items[0]["raters"][0], lambda voxels: np.resize(np.array(values, np.float32), voxels.shape))
    if got is None:
        assert _problems(items) == []
    else:
        problem = _only(items)
        assert (problem.expected, problem.got, problem.fix) == ("whole label values", got, fix)


def test_a_label_by_a_slope_in_the_header(items: CaseList) -> None:
    path = items[0]["raters"][0]
    image = load_nifti(path)
    voxels = np.array(image.dataobj).astype(np.int16) * 50
    scaled = nibabel.Nifti1Image(voxels, image.affine)
    scaled.header.set_slope_inter(0.02, 0)
    nibabel.save(scaled, path)
    values = np.unique(load_nifti(path).get_fdata())
    assert not np.array_equal(values, np.round(values))  # 0.02 is no number of 32 bits
    assert _problems(items) == []


def test_listed_twice_and_the_image_as_a_rater(items: CaseList) -> None:
    raters, image = items[0]["raters"], items[0]["image"][0]
    items[0]["raters"] = [*raters, raters[0], image]
    again, itself = _problems(items)
    assert (again.where, again.got) == (raters[0], "it is there again")
    assert (itself.where, itself.got) == (image, "the image itself")


@pytest.mark.parametrize("suffix", [".mha", ".mhd", ".nrrd", ".nhdr"])
def test_formats_of_itk(tmp_path: Path, suffix: str) -> None:
    import SimpleITK

    def write(
        name: str, array: np.ndarray, spacing: tuple[float, ...] = (1.0, 1.0, 2.0), origin: tuple[float, ...] = (5.0, 6.0, 7.0)
    ) -> str:
        image = SimpleITK.GetImageFromArray(array)
        image.SetSpacing(spacing)
        image.SetOrigin(origin)
        SimpleITK.WriteImage(image, str(tmp_path / name))
        return str(tmp_path / name)

    rng = np.random.default_rng(0)
    marks = [(rng.random((7, 8, 9)) > 0.5).astype(np.uint8) for _ in range(2)]
    item: dict[str, Any] = {"case": "0001", "image": write("i" + suffix, rng.random((7, 8, 9), dtype=np.float32))}
    item["raters"] = [write(f"r{n}{suffix}", mark) for n, mark in enumerate(marks)]
    # the same grid in a NIfTI file: x and y point the other way there
    nifti = str(tmp_path / "r.nii.gz")
    affine = np.diag([-1.0, -1.0, 2.0, 1.0])
    affine[:3, 3] = (-5, -6, 7)
    third = (rng.random((7, 8, 9)) > 0.5).astype(np.uint8)
    save_nifti(nifti, third.transpose(2, 1, 0).copy(), affine)
    item["raters"].append(nifti)
    for read in ("full", "headers"):
        assert _problems([item], channels=1, label_values=(0, 1), read=read) == []
    moved = write("moved" + suffix, marks[1], origin=(5.0, 6.0, 17.0))
    problem = _only([{**item, "raters": [moved]}], channels=1, read="headers")
    assert (problem.where, problem.got) == (moved, "one that is 10 mm off, origin [-5.0, -6.0, 17.0]")
    vector = SimpleITK.GetImageFromArray(rng.random((7, 8, 9, 4), dtype=np.float32), isVector=True)
    vector.SetSpacing((1.0, 1.0, 2.0))
    vector.SetOrigin((5.0, 6.0, 7.0))
    SimpleITK.WriteImage(vector, str(tmp_path / ("v" + suffix)))
    for read in ("full", "headers"):
        assert _problems([{**item, "image": str(tmp_path / ("v" + suffix))}], channels=4, read=read) == []
    assert any(_cut(path) for path in (item["raters"][0], str(tmp_path / "r0.raw")))
    problem = _only([item], channels=1)
    assert problem.where == item["raters"][0]
    assert problem.expected == f"a readable {suffix} file"
    assert "\n" not in str(problem)


def _cut(path: str) -> bool:
    """Take the last bytes from a file of voxels; False if it is a header only."""
    if not os.path.isfile(path) or path.endswith((".mhd", ".nhdr")):
        return False
    with open(path, "rb") as file:
        content = file.read()
    with open(path, "wb") as file:
        file.write(content[:-100])
    return True


def test_pictures(tmp_path: Path) -> None:
    import SimpleITK

    rng = np.random.default_rng(0)
    paths = {name: str(tmp_path / f"{name}.png") for name in ("image", "a", "b", "wide")}
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(rng.integers(0, 255, (12, 16), dtype=np.uint8)), paths["image"])
    for name in ("a", "b"):
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(rng.integers(0, 2, (12, 16), dtype=np.uint8) * 255), paths[name])
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(rng.integers(0, 2, (12, 18), dtype=np.uint8)), paths["wide"])
    item = {"case": "x", "image": paths["image"], "raters": [paths["a"], paths["b"]]}
    for read in ("full", "headers"):
        assert _problems([item], channels=1, label_values=(0, 255), read=read) == []
    got = [problem.got for problem in _problems([item], channels=1, label_values=(0, 1))]
    assert got == ["255", "255"]
    assert _only([{**item, "raters": [paths["wide"]]}], channels=1, label_values=None).got == "(18, 12)"
    nifti = str(tmp_path / "c.nii")
    save_nifti(nifti, np.ones((16, 12), np.uint8), np.diag([3.0, 3, 3, 1]))
    assert _problems([{**item, "raters": [nifti]}], channels=1, label_values=(0, 1)) == []  # a picture has no affine


@pytest.mark.parametrize("dataset", sorted(QUBIQ_SETS))
def test_qubiq_is_good_data(tmp_path: Path, dataset: str) -> None:
    root = write_qubiq_phantoms(tmp_path / "set", datasets=dataset, cases=4, shape=(32, 32), progress=False)
    items = qubiq_datalist(root)
    known = QUBIQ_SETS[dataset]
    settings: dict[str, Any] = {"channels": max(known.channels, 1), "label_values": (0, 1)}
    problems = _problems(items, **settings)
    assert [problem for problem in problems if problem.fatal] == []
    assert {problem.expected for problem in problems} <= {"a mark"}
    assert bool(problems) == (dataset == "brain-tumor")  # nothing enhances in the last case
    assert _problems(items, read="headers", **settings) == []
    fewer = _problems(items, read="headers", raters=known.raters, **settings)
    assert bool(fewer) == any(len(item["raters"]) < known.raters for item in items)


def test_masks_of_instances(items: CaseList) -> None:
    item = dict(items[0])
    path = item["raters"][0]
    item["raters"] = [[[path], []], [[item["raters"][1]], []]]
    assert {problem.expected for problem in _problems([item])} == {"label values among 0, 1"}
    for rater in items[0]["raters"][:2]:
        _rewrite(rater, lambda voxels: voxels > 0, dtype=np.uint8)
    assert _problems([item]) == []


def test_check_items_lists_twenty_and_counts_the_rest() -> None:
    with pytest.raises(DataProblemError) as caught:
        check_items([{"case": f"c{n}"} for n in range(13)], progress=False)  # two problems each: no image, no rater
    lines = str(caught.value).splitlines()
    assert len(lines) == 21
    assert lines[-1] == "and 6 more"
    assert lines[0].startswith("c0: expected an image")


def test_wrong_read_is_named_at_once(items: CaseList) -> None:
    unknown: Any = "fast"
    with pytest.raises(ValueError, match="read: expected full or headers"):
        find_problems(items, read=unknown)


def test_a_region_that_no_file_has_is_reported_once_and_last(items: CaseList) -> None:
    assert _problems(items, regions={"ET": [4], "WT": [1, 2, 4]}) == []
    (problem,) = _problems(items, regions={"nodule": [7], "WT": [1, 2, 4]})
    assert problem.fatal
    line = str(problem)
    assert line.startswith("regions: expected label values that the files hold (0, 1, 2, 4), got nodule [7]: an empty region")
    assert _problems(items, regions={"nodule": [7]}, read="headers") == []
    assert _problems(items, regions={"nodule": [7]}, labelled=False) == []


def test_the_ignored_value_is_no_label(items: CaseList) -> None:
    assert _problems(items, ignored=255) == []
    (problem,) = _problems(items, ignored=4)
    assert str(problem).startswith("ignore_index: expected a value that no label file holds, got 4, which some hold")


SHAPES = [
    ((8, 8, 8), 3, True),
    ((8, 8, 8), 2, False),
    ((8, 8, 1), 2, True),
    ((8, 8, 1), 3, True),
    ((8, 8), 2, True),
    ((8, 8), 3, False),
]


@pytest.mark.parametrize(("shape", "dims", "good"), SHAPES)
def test_images_have_the_axes_of_the_network(tmp_path: Path, shape: tuple[int, ...], dims: int, good: bool) -> None:
    save_nifti(tmp_path / "image.nii", np.zeros(shape, np.float32), np.eye(4))
    found = _problems([{"case": "a", "image": str(tmp_path / "image.nii")}], labelled=False, spatial_dims=dims, channels=1)
    assert [str(problem).split(": expected ")[1].split(", got")[0] for problem in found] == (
        [] if good else [{2: "an image of two axes", 3: "a volume of three axes"}[dims]]
    )


def test_the_error_survives_a_process_border() -> None:
    error = pickle.loads(pickle.dumps(DataProblemError([DataProblem("a", "b", "c", "d")], more=2)))
    assert str(error) == "a: expected b, got c. Fix: d.\nand 2 more"
    assert (len(error.problems), error.more) == (1, 2)


def test_names_of_raters(items: CaseList) -> None:
    for item in items:
        item["rater_names"] = [f"name {number}" for number in range(len(item["raters"]))]
    assert _problems(items) == []
    items[1]["rater_names"][0] = "Name 0"
    problem = _only(items)
    assert not problem.fatal
    assert str(problem).startswith(
        f"warning: {items[1]['case']}: rater_names: expected 'name 0', as in other cases, got 'Name 0'. Fix: "
    )
    items[1]["rater_names"] = ["name 0"] * len(items[1]["raters"])
    assert _only(items).fatal
    items[1]["rater_names"] = ["name 0"]
    assert f"expected a name for each of {len(items[1]['raters'])} raters, all different, got name 0" in str(_only(items))
