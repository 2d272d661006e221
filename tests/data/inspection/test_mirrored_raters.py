"""A rater whose axes run another way than the others', which no header shows."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from monai_jdt.data import (
    brats_datalist,
    brats_phantom,
    find_problems,
    qubiq_datalist,
    write_brats_phantoms,
    write_qubiq_phantoms,
)
from monai_jdt.data.inspection import mirrored_raters as mirrored
from monai_jdt.data.inspection.mirrored_raters import MarkedVoxels, _Overlaps, axis_turns
from monai_jdt.data.problems import DataProblem
from tests.nifti_files import write_nifti


def drawings(raters: int = 3, shape: tuple[int, ...] = (40, 40, 24), seed: int = 0) -> list[np.ndarray]:
    """A lesion without symmetry, off the middle, and raters who differ at its edge; values 1 and 2."""
    rng = np.random.default_rng(seed)
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    level = 0.42 - np.sqrt((x - 0.3) ** 2 + 1.7 * (y + 0.2) ** 2 + 0.8 * (z - 0.25) ** 2) + 0.2 * x * y
    noise = [ndimage.gaussian_filter(rng.normal(size=shape), 3) for _ in range(raters)]
    return [((level + 0.8 * n > 0).astype(np.uint8) + (level + 0.8 * n > 0.25)).astype(np.uint8) for n in noise]


def case(folder: Path, drawn: list[np.ndarray]) -> dict[str, Any]:
    image = write_nifti(folder / "image.nii", np.zeros(drawn[0].shape, np.int16))
    raters = [write_nifti(folder / f"rater{n}.nii.gz", np.ascontiguousarray(one)) for n, one in enumerate(drawn)]
    return {"case": "one", "image": image, "raters": raters}


def turned(item: dict[str, Any]) -> list[DataProblem]:
    return [p for p in find_problems([item], progress=False) if "axes run" in p.expected]


TURNS = {
    "flipped along axis 0": lambda v: np.flip(v, 0),
    "flipped along axis 2": lambda v: np.flip(v, 2),
    "flipped along axes 0 and 1, which is a rotation by 180 degrees": lambda v: np.flip(v, (0, 1)),
    "flipped along axes 0, 1 and 2": lambda v: np.flip(v, (0, 1, 2)),
    "with axes 0 and 1 swapped": lambda v: v.transpose(1, 0, 2),
    "with axes 0 and 1 swapped and flipped along axis 0": lambda v: np.rot90(v, 1, (1, 0)).transpose(0, 1, 2),
}


@pytest.mark.parametrize("says", TURNS)
def test_one_of_three_is_reported_with_the_turn_that_mends_it(tmp_path: Path, says: str) -> None:
    drawn = drawings()
    assert turned(case(tmp_path, drawn)) == []
    item = case(tmp_path, [drawn[0], TURNS[says](drawn[1]), drawn[2]])
    (problem,) = turned(item)
    assert (problem.where, problem.fatal) == (item["raters"][1], False)
    assert "\n" not in str(problem)
    code = problem.fix.split("save ")[1].split(" with the same header")[0]
    mended = eval(code, {"numpy": np, "voxels": TURNS[says](drawn[1])})  # the line's own advice
    np.testing.assert_array_equal(mended, drawn[1])
    if "swapped and" not in says:
        assert problem.got.endswith(f" {says}")
    assert list(find_problems([item], read="headers", progress=False)) == []


def test_of_two_raters_both_are_named(tmp_path: Path) -> None:
    drawn = drawings(2)
    assert turned(case(tmp_path, drawn)) == []
    item = case(tmp_path, [drawn[0], np.flip(drawn[1], (0, 1))])
    (problem,) = turned(item)
    assert problem.where == "one"
    assert all(path in problem.got for path in item["raters"])
    assert problem.fix == "look at both on the image: which of them is turned cannot be told from the two"


def test_groups(tmp_path: Path) -> None:
    drawn = drawings(5)
    item = case(tmp_path, [drawn[0], drawn[1], drawn[2], np.flip(drawn[3], 1), np.flip(drawn[4], 1)])
    assert [problem.where for problem in turned(item)] == item["raters"][3:]
    item["raters"] = item["raters"][1:]
    (problem,) = turned(item)
    assert problem.where == "one"
    # each in another direction
    item = case(tmp_path, [drawn[0], drawn[1], drawn[2], np.flip(drawn[3], 1), np.flip(drawn[4], 0)])
    assert [problem.got.rsplit(" flipped", 1)[1] for problem in turned(item)] == [" along axis 1", " along axis 0"]


def test_labels_that_are_symmetric_together_are_reported_by_their_values(tmp_path: Path) -> None:
    """Kidneys: 1 on the one side, 2 on the other; the marks alone look the same from both sides."""
    left = np.zeros((40, 40, 24), np.uint8)
    left[4:12, 10:25, 6:18] = 1
    drawn = [left + 2 * left[::-1] for _ in range(3)]
    drawn[1][4, 10:12], drawn[2][35, 20:25] = 0, 0
    assert turned(case(tmp_path, drawn)) == []
    (problem,) = turned(case(tmp_path, [drawn[0], drawn[1][::-1], drawn[2]]))
    # a numbering of left and right that is exchanged gives the same voxels
    assert problem.got.endswith("flipped along axis 0, or with its label values exchanged")
    assert problem.fix.endswith("if its values are numbered another way, give it the others' numbers")
    (problem,) = turned(case(tmp_path, [drawn[0], drawn[1][::-1]]))
    assert problem.fix == "look at both on the image: one of them is turned, or its label values are numbered another way"


@pytest.mark.parametrize("kind", ["symmetric", "empty", "tiny", "nobody agrees", "another shape", "noise"])
def test_what_is_no_mirrored_rater(tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(0)
    drawn = drawings(4)
    if kind == "symmetric":
        drawn = [np.zeros((20, 20, 20), np.uint8) for _ in range(3)]
        for one, width in zip(drawn, (5, 6, 7), strict=True):
            one[width:-width, width:-width, width:-width] = 1
    elif kind == "empty":
        drawn[1][:] = drawn[2][:] = 0
    elif kind == "tiny":
        drawn = [np.zeros((20, 20, 20), np.uint8) for _ in range(3)]
        drawn[0][3, 3, 3] = drawn[1][3, 3, 3] = drawn[2][16, 3, 3] = 1
    elif kind == "nobody agrees":
        drawn = [np.roll(one, tuple(rng.integers(5, 30, 3)), (0, 1, 2)) for one in drawn]
    elif kind == "noise":
        drawn = [(rng.random((12, 12, 12)) > 0.7).astype(np.uint8) for _ in range(4)]
    item = case(tmp_path, drawn)
    if kind == "another shape":
        item["raters"][2] = write_nifti(tmp_path / "wide.nii", np.pad(np.flip(drawn[2], 0), ((0, 2), (0, 0), (0, 0))))
    assert turned(item) == []


def test_careless_phantoms_give_no_alarm_and_a_flipped_one_does(tmp_path: Path) -> None:
    items = brats_datalist(write_brats_phantoms(tmp_path / "b", cases=4, shape=(24, 24, 24), progress=False))
    items += qubiq_datalist(write_qubiq_phantoms(tmp_path / "q", cases=2, shape=(32, 32), progress=False))
    assert [problem for item in items for problem in turned(item)] == []
    phantom = brats_phantom(0, shape=(48, 48, 48))
    drawn = list(phantom.raters.values())
    (problem,) = turned(case(tmp_path, [*drawn[:3], np.flip(drawn[3], 0)]))
    assert problem.where.endswith("rater3.nii.gz")


@pytest.mark.parametrize("white", [True, False])
def test_pictures_and_black_on_white(tmp_path: Path, white: bool) -> None:
    marks = [one.max(axis=2) > 0 for one in drawings(3)]
    marks[2] = np.flip(marks[2], 1)
    paths = []
    for number, mark in enumerate(marks):
        paths.append(str(tmp_path / f"{number}.png"))
        Image.fromarray((mark == white).T.astype(np.uint8) * 255).save(paths[-1])
    (problem,) = turned({"case": "one", "image": [], "raters": paths})
    assert problem.where == paths[2]
    assert "flipped along axis 1" in problem.got


def test_masks_of_instances_are_one_rater(tmp_path: Path) -> None:
    drawn = drawings(3)
    drawn[1] = np.flip(drawn[1], 0)
    image = write_nifti(tmp_path / "image.nii", np.zeros(drawn[0].shape, np.int16))
    raters = [[[write_nifti(tmp_path / f"{n}_{v}.nii.gz", (one == v).astype(np.uint8))] for v in (1, 2)] for n, one in enumerate(drawn)]
    (problem,) = turned({"case": "one", "image": image, "raters": raters})
    assert problem.where == raters[1][0][0]


def test_large_drawings_are_thinned_to_a_lattice_that_flips_onto_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = drawings(2, (60, 61, 37))
    monkeypatch.setattr(mirrored, "MOST_MARKS", 500)
    for volume in drawn:
        marks = MarkedVoxels(volume.shape)
        flat = volume.ravel(order="F")
        for start in range(0, flat.size, 60 * 61 * 4):
            marks.add(flat[start : start + 60 * 61 * 4], start)
        places, labels = marks.at_step(marks.step)
        assert marks.step > 1
        assert 0 < len(places) <= 500
        np.testing.assert_array_equal(volume[tuple(places.T)], labels)
        share = np.count_nonzero(volume) / marks.step**3
        assert 0.7 * share < len(places) < 1.4 * share
        for axis in range(3):  # a flip maps the lattice onto itself
            flipped = MarkedVoxels(volume.shape)
            flipped.add(np.flip(volume, axis).ravel(order="F"), 0)
            own, _ = flipped.at_step(flipped.step)
            back = own.copy()
            back[:, axis] = volume.shape[axis] - 1 - back[:, axis]
            assert {tuple(p) for p in back.tolist()} == {tuple(p) for p in places.tolist()}


@pytest.mark.parametrize("shape", [(8, 8, 8), (8, 8, 5), (8, 7), (9, 1)])
def test_turns_move_places_as_numpy_does(shape: tuple[int, ...]) -> None:
    volume = np.arange(np.prod(shape)).reshape(shape)
    places = np.stack(np.unravel_index(np.arange(volume.size), shape), axis=1)
    for turn in axis_turns(shape):
        moved = eval(turn.code, {"numpy": np, "voxels": volume})
        assert moved.shape == shape
        np.testing.assert_array_equal(moved[tuple(turn.moved(places, shape).T)], volume[tuple(places.T)])


LIDC = os.path.join(os.environ.get("MONAI_JDT_REAL_DATA", ""), "lidc", "lidc3d.npz")


@pytest.mark.long
@pytest.mark.skipif(not os.path.isfile(LIDC), reason="set MONAI_JDT_REAL_DATA to the folder of the real data sets")
def test_real_nodules(tmp_path: Path) -> None:
    """Four readers of 205 nodules in the middle of their crops: no alarm, and a reader who is rotated is told."""
    file = np.load(LIDC)
    told = tried = 0
    for key in [name for name in file.files if name.endswith("_msk")]:
        masks = np.unpackbits(file[key], axis=-1).transpose(1, 3, 2, 0)
        marks = []
        for mask in (*masks, np.flip(masks[0], (0, 1))):
            marks.append(MarkedVoxels(mask.shape))
            marks[-1].add(mask.ravel(order="F"), 0)
        named = [(str(n), one) for n, one in enumerate(marks)]
        assert list(mirrored.turned_raters(named[:4], key)) == []
        found = list(mirrored.turned_raters([named[4], *named[1:4]], key))
        assert [problem.where for problem in found] in ([], ["4"])
        told, tried = told + len(found), tried + 1
    assert told > 0.6 * tried


@pytest.mark.parametrize("shape", [(9, 9, 9), (9, 9, 5), (8, 8), (7, 5)])
def test_all_turns_at_once_are_the_turns_one_by_one(shape: tuple[int, ...]) -> None:
    marks = MarkedVoxels(shape)
    marks.add((np.random.default_rng(0).random(int(np.prod(shape))) < 0.6).astype(np.uint8) * 3, 0)
    overlaps = _Overlaps([marks, marks])
    places, labels = overlaps._marks[0]
    one_by_one = [overlaps._keyed(turn.moved(places, shape), labels) for turn in axis_turns(shape)]
    np.testing.assert_array_equal(overlaps._turned_samples(0), one_by_one)
