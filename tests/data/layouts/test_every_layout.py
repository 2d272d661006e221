"""Every layout as a phantom on disk: listed, written as JSON and read back, checked, loaded and fused, by Python and by command.

What comes out is compared with the arrays that the test wrote, by numpy's mean and count of votes: no expected value is ours.
Shapes have no two axes of one length and labels no symmetry, so that a turned or flipped axis cannot go unseen.
"""

from __future__ import annotations

import json
import os
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged
from PIL import Image

from monai_jdt.cli import main
from monai_jdt.data import (
    DataProblemError,
    brats_datalist,
    check_items,
    curvas_datalist,
    find_problems,
    kits21_datalist,
    merge_kits21,
    msseg_datalist,
    pattern_datalist,
    qubiq_datalist,
    read_datalist,
    write_datalist,
)
from monai_jdt.transforms import FuseRaters, FuseRatersd, LoadRaters, LoadRatersd
from tests.nifti_files import load_nifti, save_nifti

SLICE, VOLUME = (11, 9), (8, 7, 6)
AFFINE = np.array([[-1.5, 0, 0, 10], [0, 2, 0, -7], [0, 0, 3, 4], [0, 0, 0, 1.0]])

Item = dict[str, Any]


def save(path: Path, voxels: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    """`voxels` are indexed (x, y, z), whatever the format; pictures have no affine."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = path.name.lower()
    if kind.endswith((".nii", ".nii.gz")):
        save_nifti(path, voxels, affine)
    elif kind.endswith(".png"):
        Image.fromarray(np.ascontiguousarray(voxels.T)).save(path)
    else:
        image = SimpleITK.GetImageFromArray(np.ascontiguousarray(voxels.T))
        axes = voxels.ndim
        lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine  # ITK's x and y grow the other way
        edges = np.linalg.norm(lps[:axes, :axes], axis=0)
        image.SetSpacing(edges.tolist())
        image.SetOrigin(lps[:axes, 3].tolist())
        image.SetDirection((lps[:axes, :axes] / edges).ravel().tolist())
        SimpleITK.WriteImage(image, str(path))


def opinions(rng: np.random.Generator, raters: int, shape: tuple[int, ...], values: Sequence[int]) -> np.ndarray:
    """Raters who agree on three voxels of four, `(R, *S)`."""
    truth, other = rng.choice([0, *values], size=shape), rng.choice([0, *values], size=(raters, *shape))
    return np.where(rng.random((raters, *shape)) < 0.25, other, truth).astype(np.uint8)


@dataclass
class Written:
    """A phantom on disk and what is in it."""

    list_items: Callable[[], Any]
    labels: dict[tuple[str, str], np.ndarray]  # (case, task) -> (R, *S)
    images: dict[str, np.ndarray]  # case -> (C, *S)
    values: tuple[int, ...] = (0, 1)
    regions: Any = field(default_factory=lambda: [[1]])
    channel_dim: Any = None
    affine: np.ndarray | None = field(default_factory=lambda: AFFINE)
    loadable: Callable[[Any], Any] = lambda items: items


def qubiq(
    root: Path, place: str, dataset: str, cases: dict[str, int], tasks: int, shape: tuple[int, ...], channels: int = 0
) -> Written:
    rng = np.random.default_rng(len(dataset))
    written = Written(lambda: qubiq_datalist(root, dataset), {}, {}, channel_dim=-1 if channels else None)
    for case, raters in cases.items():
        folder = root / place / case
        image = rng.normal(size=shape + ((channels,) if channels else ())).astype(np.float32)
        save(folder / "image.nii.gz", image)
        written.images[case] = np.moveaxis(image, -1, 0) if channels else image[None]
        for task in range(1, tasks + 1):
            votes = written.labels[case, f"task{task:02d}"] = opinions(rng, raters, shape, [1])
            for rater, vote in enumerate(votes, start=1):
                save(folder / f"task{task:02d}_seg{rater:02d}.nii.gz", vote)
    return written


def brats(root: Path, layout: str) -> Written:
    rng = np.random.default_rng(5)
    enhancing = 4 if layout in ("brats2018", "brats2021") else 3
    solid = {"brats2018": [1, 4], "brats2021": [1, 4], "brats2023": [1, 3], "msd": [2, 3]}[layout]  # of the data sets' pages
    values = (0, 1, 2, enhancing)
    regions = {"TC": solid, "WT": [1, 2, enhancing], "ET": [enhancing]}
    written = Written(lambda: brats_datalist(root), {}, {}, values, regions, -1 if layout == "msd" else None)
    for number, raters in ((1, 3), (2, 1)):
        case, mark, ends = {
            "brats2018": (f"Brats18_X_{number}", "_", ("t1ce", "t1", "t2", "flair")),
            "brats2021": (f"BraTS2021_0000{number}", "_", ("t1ce", "t1", "t2", "flair")),
            "brats2023": (f"BraTS-GLI-0000{number}-000", "-", ("t1c", "t1n", "t2w", "t2f")),
            "msd": (f"BRATS_00{number}", "_", ()),
        }[layout]
        image = rng.normal(size=(4, *VOLUME)).astype(np.float32)
        votes = opinions(rng, raters, VOLUME, values[1:])
        written.labels[case, layout], written.images[case] = votes, image
        names = [f"seg_rater{n}" for n in range(1, raters + 1)] if raters > 1 else ["seg"]
        if layout == "msd":
            task = root / "Task01_BrainTumour"
            save(task / f"imagesTr/{case}.nii.gz", np.moveaxis(image, 0, -1))
            for name, vote in zip(names, votes, strict=True):
                save(task / f"labelsTr/{case}{'' if name == 'seg' else '_' + name}.nii.gz", vote)
        else:
            folder = root / ("HGG" if layout == "brats2018" else "data") / case
            for end, voxels in [*zip(ends, image, strict=True), *zip(names, votes, strict=True)]:
                save(folder / f"{case}{mark}{end}.nii.gz", voxels)
    return written


def kits21(root: Path) -> Written:
    rng = np.random.default_rng(6)
    written = Written(lambda: kits21_datalist(root / "data"), {}, {}, (0, 1, 2, 3), [1, 2, 3])
    written.loadable = lambda items: merge_kits21(items, root / "merged", progress=False)
    for case in ("case_00000", "case_00001"):
        folder = root / "data" / case
        image = rng.normal(size=VOLUME).astype(np.float32)
        save(folder / "imaging.nii.gz", image)
        written.images[case] = image[None]
        votes = []
        for annotation in (1, 2, 3):
            label = np.zeros(VOLUME, np.uint8)
            # a rater's tumor lies over the cyst, and that over the kidneys
            for region, instances, value in (("kidney", 2, 1), ("cyst", 1, 3), ("tumor", 2, 2)):
                for instance in range(1, instances + 1):
                    mask = (rng.random(VOLUME) < 0.3).astype(np.uint8)
                    save(folder / f"segmentations/{region}_instance-{instance}_annotation-{annotation}.nii.gz", mask)
                    label[mask == 1] = value
            votes.append(label)
        written.labels[case, "kits21"] = np.stack(votes)
        save(folder / "aggregated_MAJ_seg.nii.gz", votes[0])
    return written


def curvas(root: Path, raters: int) -> Written:
    rng = np.random.default_rng(7)
    written = Written(lambda: curvas_datalist(root), {}, {}, (0, 1, 2, 3), {"pancreas": 1, "kidney": 2, "liver": 3})
    for case in ("UKCHLL001", "UKCHLL002"):
        case_of(written, rng, case, "curvas", root / "training_set" / case, "image.nii.gz", "annotation_{}.nii.gz", raters, [1, 2, 3])
    return written


def case_of(
    written: Written,
    rng: np.random.Generator,
    case: str,
    task: str,
    folder: Path,
    image_name: str,
    rater_name: str,
    raters: int,
    values: Sequence[int] = (1,),
    shape: tuple[int, ...] = VOLUME,
) -> None:
    image = rng.integers(0, 200, size=shape).astype(np.uint8)
    save(folder / image_name, image)
    written.images[case] = image[None]
    votes = written.labels[case, task] = opinions(rng, raters, shape, values)
    for number, vote in enumerate(votes, start=1):
        save(folder / rater_name.format(number), vote)


def msseg(root: Path, release: str) -> Written:
    rng = np.random.default_rng(8)
    written = Written(lambda: msseg_datalist(root), {}, {})
    for center, patient in (("Center_01", "Patient_01"), ("Center_07", "Patient_01")):
        if release == "newer":
            case, scans, masks = f"{center}_{patient}", "Preprocessed_Data", "Masks"
            place = root / "Training" / center / patient
        else:
            case, scans, masks, place = f"{center[-2:]}016SACH", "", "", root / "Pre-processed" / f"{center[-2:]}016SACH"
        image = rng.normal(size=(5, *VOLUME)).astype(np.float32)
        for name, voxels in zip(("FLAIR", "T1", "GADO", "DP", "T2"), image, strict=True):
            save(place / scans / f"{name}_preprocessed.nii.gz", voxels)
        votes = opinions(rng, 7, VOLUME, [1])
        for number, vote in enumerate(votes, start=1):
            save(place / masks / f"ManualSegmentation_{number}.nii.gz", vote)
        save(place / masks / "Consensus.nii.gz", votes[0])
        written.labels[case, "msseg2016"], written.images[case] = votes, image
    return written


def patterned(root: Path, suffix: str, shape: tuple[int, ...], raters: Sequence[int], task: str | None = None) -> Written:
    rng = np.random.default_rng(9)
    named: dict[str, Any] = {} if task is None else {"task": task}
    written = Written(
        lambda: pattern_datalist(root, f"**/Set-{{case}}{suffix}", f"**/Set-{{case}}_rad{{rater}}{suffix}", **named), {}, {}
    )
    written.affine = None if suffix == ".png" else AFFINE
    for number, count in enumerate(raters, start=1):
        case = f"{number:04d}"
        name = f"Set-{case}"
        case_of(written, rng, case, task or "segmentation", root / "data", name + suffix, f"{name}_rad{{}}{suffix}", count, shape=shape)
    return written


def lidc(root: Path) -> Written:
    rng = np.random.default_rng(10)
    written = Written(lambda: pattern_datalist(root, "{case}/ct.nii.gz", "{case}/mask_{rater}.nii.gz", task="nodule"), {}, {})
    for case, raters in (("LIDC-IDRI-0001_1", 4), ("LIDC-IDRI-0001_2", 2), ("LIDC-IDRI-0002_1", 1)):
        case_of(written, rng, case, "nodule", root / case, "ct.nii.gz", "mask_{}.nii.gz", raters)
    return written


def bids(root: Path) -> Written:
    rng = np.random.default_rng(11)
    names = ("sub-{case}/anat/sub-{case}_T1w.nii.gz", "derivatives/{rater}/sub-{case}/anat/sub-{case}_label-lesion_mask.nii.gz")
    written = Written(lambda: pattern_datalist(root, *names, task="lesion"), {}, {})
    for case in ("01", "02"):
        rater = f"derivatives/rater{{}}/sub-{case}/anat/sub-{case}_label-lesion_mask.nii.gz"
        case_of(written, rng, case, "lesion", root, f"sub-{case}/anat/sub-{case}_T1w.nii.gz", rater, 3)
    return written


LAYOUTS: dict[str, Callable[[Path], Written]] = {
    "qubiq2020 brain-growth": lambda root: qubiq(
        root, "training_data_v2/brain-growth/Training", "brain-growth", {"case01": 7, "case02": 7}, 1, SLICE
    ),
    "qubiq2020 brain-tumor": lambda root: qubiq(
        root, "training_data_v2/brain-tumor/Training", "brain-tumor", {"case01": 3, "case02": 3}, 3, SLICE, 4
    ),
    "qubiq2020 prostate": lambda root: qubiq(
        root, "training_data_v2/prostate/Training", "prostate", {"case01": 6, "case02": 5}, 2, (*SLICE, 1)
    ),
    "qubiq2021 kidney": lambda root: qubiq(root, "training_data_v3_QC/kidney/Training", "kidney", {"case01": 3, "case02": 3}, 1, SLICE),
    "qubiq2021 brain-tumor": lambda root: qubiq(
        root, "validation_data_qubiq2021_QC/brain-tumor/Validation", "brain-tumor", {"case29": 3, "case30": 3}, 3, SLICE, 4
    ),
    "qubiq2021 pancreas": lambda root: qubiq(
        root, "training_data_v3/pancreas", "pancreas", {"case1-1": 2, "case1-2": 2}, 1, (3, *SLICE)
    ),
    "qubiq2021 pancreatic-lesion": lambda root: qubiq(
        root, "training_data_v3/pancreatic-lesion", "pancreatic-lesion", {"case2-1": 2, "case3-1": 2}, 1, (3, *SLICE)
    ),
    "brats2018": lambda root: brats(root, "brats2018"),
    "brats2021": lambda root: brats(root, "brats2021"),
    "brats2023": lambda root: brats(root, "brats2023"),
    "msd": lambda root: brats(root, "msd"),
    "kits21": kits21,
    "curvas2024": lambda root: curvas(root, 3),
    "curvas-pdacvi": lambda root: curvas(root, 5),
    "msseg newer": lambda root: msseg(root, "newer"),
    "msseg older": lambda root: msseg(root, "older"),
    "lidc": lidc,
    "lndb mhd": lambda root: patterned(root, ".mhd", VOLUME, (3, 1), "nodule"),
    "nrrd": lambda root: patterned(root, ".nrrd", VOLUME, (3, 2)),
    "mha slices": lambda root: patterned(root, ".mha", SLICE, (3, 2)),
    "nrrd slices": lambda root: patterned(root, ".nrrd", SLICE, (3, 2)),
    "png": lambda root: patterned(root, ".png", SLICE, (3, 2), "disc"),
    "bids": bids,
}


def average(votes: np.ndarray, values: Any) -> np.ndarray:
    return np.isin(votes, values).mean(0)


def majority(votes: np.ndarray, values: Any) -> np.ndarray:
    """More than half of the raters."""
    return (2 * np.isin(votes, values).sum(0) > len(votes)).astype(float)


def groups(regions: Any) -> list[Any]:
    return list(regions.values()) if isinstance(regions, dict) else list(regions)


def pipeline(written: Written) -> Compose:
    return Compose(
        [
            LoadImaged("image"),
            EnsureChannelFirstd("image", channel_dim=written.channel_dim),
            LoadRatersd("raters", label_values=written.values, image_key="image"),
            FuseRatersd(["raters"] * 2, written.regions, ["average", "majority"], ["soft", "hard"]),
        ]
    )


def fatal(items: Sequence[Item], written: Written, **settings: Any) -> list[str]:
    return [str(p) for p in find_problems(items, label_values=written.values, progress=False, **settings) if p.fatal]


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


@pytest.mark.parametrize("name", LAYOUTS)
def test_listed_written_checked_loaded_and_fused(tmp_path: Path, name: str) -> None:
    written = LAYOUTS[name](tmp_path / "set")
    items = written.list_items()
    assert [(item["case"], item["task"]) for item in items] == sorted(written.labels)
    assert items.found.cases == len(written.images)
    assert items.found.skipped == ()
    # a set that was moved with its list
    path = write_datalist(items, tmp_path / "set" / "list.json")
    assert read_datalist(path) == items
    os.rename(tmp_path / "set", tmp_path / "moved")
    moved = read_datalist(tmp_path / "moved" / "list.json")
    assert json.dumps(moved) == json.dumps(items).replace(f"{tmp_path}/set", f"{tmp_path}/moved")
    os.rename(tmp_path / "moved", tmp_path / "set")

    channels = len(next(iter(written.images.values())))
    check_items(items, channels=channels, label_values=written.values, progress=False)
    assert fatal(items, written, channels=channels, read="headers") == []
    loadable = written.loadable(items)
    assert list(find_problems(loadable, channels=channels, label_values=written.values, progress=False)) == []

    load = pipeline(written)
    for item in loadable:
        votes, image = written.labels[item["case"], item["task"]], written.images[item["case"]]
        loaded = load(item)
        np.testing.assert_array_equal(loaded["image"].numpy(), image)
        np.testing.assert_array_equal(loaded["raters"].numpy(), votes)
        for channel, values in enumerate(groups(written.regions)):
            np.testing.assert_allclose(loaded["soft"][channel].numpy(), average(votes, values), rtol=1e-6)
            np.testing.assert_array_equal(loaded["hard"][channel].numpy(), majority(votes, values))
        if written.affine is not None:
            np.testing.assert_allclose(loaded["soft"].affine.numpy()[:2, [0, 1, 3]], written.affine[:2, [0, 1, 3]], atol=1e-4)
            if votes.ndim == 4:
                np.testing.assert_allclose(loaded["soft"].affine.numpy(), written.affine, atol=1e-4)


@pytest.mark.parametrize("name", LAYOUTS)
def test_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    written = LAYOUTS[name](tmp_path / "set")
    items = written.loadable(written.list_items())
    datalist = write_datalist(items, tmp_path / "list.json")
    allowed = ",".join(map(str, written.values))
    assert run("check", datalist, "--label-values", allowed, "--no-progress") == 0
    assert "looked at every voxel: 0 problems, 0 warnings" in capsys.readouterr().out
    dest, item = tmp_path / "fused.nii.gz", items[-1]
    assert run("fuse", str(dest), *item["raters"], "--regions", json.dumps(written.regions)) == 0
    votes = written.labels[item["case"], item["task"]]
    want = [average(votes, values) for values in groups(written.regions)]
    image = load_nifti(dest)
    np.testing.assert_allclose(image.get_fdata().squeeze(), np.stack(want, -1).squeeze(), rtol=1e-6)
    if written.affine is not None and votes.ndim == 4:
        np.testing.assert_allclose(image.affine, written.affine, atol=1e-4)


def staple(marks: np.ndarray) -> np.ndarray:
    """The binary EM of Warfield et al. written out; prior = the share of marks."""
    d = marks.reshape(len(marks), -1).astype(float)
    prior, p, q = d.mean(), np.full(len(d), 1 - 1e-5), np.full(len(d), 1 - 1e-5)
    for _ in range(300):
        inside = prior * np.prod(np.where(d == 1, p[:, None], 1 - p[:, None]), 0)
        outside = (1 - prior) * np.prod(np.where(d == 0, q[:, None], 1 - q[:, None]), 0)
        w = inside / (inside + outside)
        p, q = (d * w).sum(1) / w.sum(), ((1 - d) * (1 - w)).sum(1) / (1 - w).sum()
    return w.reshape(marks.shape[1:])


@pytest.mark.parametrize("name", ["qubiq2020 prostate", "brats2023", "lndb mhd", "png"])
def test_staple_of_files(tmp_path: Path, name: str) -> None:
    written = LAYOUTS[name](tmp_path)
    item = written.list_items()[0]
    votes = written.labels[item["case"], item["task"]]
    label = FuseRaters(written.regions, "staple")(LoadRaters(label_values=written.values)(item["raters"]))
    for channel, values in enumerate(groups(written.regions)):
        np.testing.assert_allclose(label[channel].numpy(), staple(np.isin(votes, values)), atol=2e-3)


# --- odd cases: each has the right value, or one line that names the file -------------------------------------------------


def lines(items: Sequence[Item], **settings: Any) -> list[str]:
    return [str(problem) for problem in find_problems(items, progress=False, **settings)]


def refused(item: Item, **settings: Any) -> str:
    """The one line with which the item cannot be loaded."""
    load = Compose([LoadImaged("image"), EnsureChannelFirstd("image"), LoadRatersd("raters", image_key="image", **settings)])
    with pytest.raises((DataProblemError, RuntimeError)) as caught:
        load(item)
    error = caught.value if isinstance(caught.value, DataProblemError) else caught.value.__cause__
    assert isinstance(error, DataProblemError)
    (problem,) = error.problems
    assert "\n" not in str(problem)
    return str(problem)


def loaded(item: Item, **settings: Any) -> Any:
    keys: dict[str, Any] = {"label_values": (0, 1), **settings}
    return Compose([LoadImaged("image"), EnsureChannelFirstd("image"), LoadRatersd("raters", image_key="image", **keys)])(item)


def test_five_of_six_raters(tmp_path: Path) -> None:
    written = LAYOUTS["qubiq2020 prostate"](tmp_path)
    items = written.list_items()
    assert items.found.raters == ((5, 2), (6, 2))
    few = ["warning: case02: expected 6 raters, got 5. Fix: add the missing files, if they should be there."] * 2
    assert lines(items, raters=6, label_values=(0, 1)) == few
    soft = pipeline(written)(items[2])["soft"].numpy()
    np.testing.assert_allclose(np.unique(soft), np.arange(6) / 5, rtol=1e-6)  # fifths, not sixths


def test_an_empty_mask_counts_as_background(tmp_path: Path) -> None:
    written = LAYOUTS["qubiq2021 kidney"](tmp_path)
    item = written.list_items()[0]
    votes = written.labels["case01", "task01"].copy()
    votes[1] = 0
    save(Path(item["raters"][1]), votes[1])
    path = item["raters"][1]
    fix = "nothing, if the rater saw nothing there."
    assert lines([item]) == [f"warning: {path}: expected a mark, got none: every value of 99 is 0. Fix: {fix}"]
    fused = pipeline(written)(item)
    np.testing.assert_allclose(fused["soft"][0].numpy(), average(votes, 1), rtol=1e-6)
    np.testing.assert_array_equal(fused["hard"][0].numpy(), majority(votes, 1))


@pytest.mark.parametrize("image_shape", [SLICE, (*SLICE, 1)])
def test_a_last_axis_of_one_in_some_files(tmp_path: Path, image_shape: tuple[int, ...]) -> None:
    votes = opinions(np.random.default_rng(0), 3, SLICE, [1])
    save(tmp_path / "image.nii.gz", np.zeros(image_shape, np.float32))
    item: Item = {"case": "a", "image": f"{tmp_path}/image.nii.gz", "raters": []}
    for number, (vote, suffix) in enumerate(zip(votes, (".nii.gz", ".nii", ".nii"), strict=True)):
        save(tmp_path / f"r{number}{suffix}", vote[..., None] if number == 1 else vote)
        item["raters"].append(f"{tmp_path}/r{number}{suffix}")
    assert lines([item], label_values=(0, 1)) == []
    stack = loaded(item)["raters"]
    assert stack.shape == (3, *image_shape)  # the image's
    np.testing.assert_array_equal(stack.numpy().reshape(votes.shape), votes)
    # another axis of one is not passed over
    save(tmp_path / "r2.nii", votes[2][None])
    assert lines([item]) == [refused(item)]
    assert refused(item).startswith(f"{tmp_path}/r2.nii: expected shape (11, 9), as {tmp_path}/image.nii.gz, got (1, 11, 9), ")


@pytest.mark.parametrize("wrong", [0, 2])
def test_one_annotation_with_another_header(tmp_path: Path, wrong: int) -> None:
    """The file that is told is the wrong one, also where it comes first."""
    written = LAYOUTS["curvas2024"](tmp_path)
    item = written.list_items()[0]
    path = item["raters"][wrong]
    save(Path(path), written.labels["UKCHLL001", "curvas"][wrong], np.eye(4))
    (line,) = lines([item])
    assert line == refused(item)
    assert line.startswith(
        f"{path}: expected voxels of 1.5 x 2 x 3 mm, as {item['image']}, got 1 x 1 x 1 mm. Fix: resample it by python "
    )


def test_a_turned_annotation(tmp_path: Path) -> None:
    """A header that agrees with turned voxels is right, and yet no stack can be made of it: nothing is turned in silence."""
    written = LAYOUTS["curvas2024"](tmp_path)
    item = written.list_items()[0]
    flipped = AFFINE @ np.array([[-1, 0, 0, VOLUME[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    save(Path(item["raters"][1]), written.labels["UKCHLL001", "curvas"][1][::-1].copy(), flipped)
    (line,) = lines([item])
    assert line == refused(item)
    turned = (
        f"{item['raters'][1]}: expected the orientation LAS, as {item['image']}, got RAS, on the same voxels. Fix: reorient it to LAS"
    )
    assert line.startswith(turned)


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha", ".nrrd"])
def test_a_header_that_differs_by_rounding(tmp_path: Path, suffix: str) -> None:
    turn, angle = np.eye(4), 0.3
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine = turn @ AFFINE
    votes = opinions(np.random.default_rng(1), 3, VOLUME, [1])
    image = nibabel.Nifti1Image(np.zeros(VOLUME, np.float32), None)
    image.set_qform(affine, 1)  # a quaternion in 32 bits
    nibabel.save(image, tmp_path / "image.nii.gz")
    item: Item = {"case": "a", "image": f"{tmp_path}/image.nii.gz", "raters": []}
    for number, vote in enumerate(votes):
        save(tmp_path / f"r{number}{suffix}", vote, affine.round(4 + number))
        item["raters"].append(f"{tmp_path}/r{number}{suffix}")
    affines = [load_nifti(item["image"]).affine, LoadRaters()(item["raters"][0]).affine.numpy()]
    assert not np.array_equal(*affines)
    assert lines([item]) == []
    np.testing.assert_array_equal(loaded(item)["raters"].numpy(), votes)


def test_labels_by_a_scale_factor(tmp_path: Path) -> None:
    """The header's factor, kept in 32 bits, gives 0.99999994: that is 1, and must not be cut to 0."""
    written = LAYOUTS["curvas2024"](tmp_path)
    item = written.list_items()[0]
    votes = written.labels["UKCHLL001", "curvas"]
    for path, vote, factor in zip(item["raters"], votes, (3 / 65535, 0.05, 3 / 255), strict=True):
        image = nibabel.Nifti1Image(np.round(vote / factor).astype(np.uint16), AFFINE)
        image.header.set_slope_inter(factor, 0)
        nibabel.save(image, path)
    raw = np.unique(np.stack([np.asanyarray(load_nifti(path).dataobj) for path in item["raters"]]))
    assert 0 < np.abs(raw - np.round(raw)).max() < 1e-3
    assert (raw.astype(int) != np.round(raw)).any()  # a plain cast would lose a mark
    assert lines([item], label_values=(0, 1, 2, 3)) == []
    fused = pipeline(written)(item)
    np.testing.assert_array_equal(fused["raters"].numpy(), votes)
    np.testing.assert_allclose(fused["soft"][2].numpy(), average(votes, 3), rtol=1e-6)


@pytest.mark.parametrize(
    ("factor", "got"), [(0.33, "0.33, 0.66, 0.99 (multiples of 0.33)"), (1 / 255, "0.00392157, 0.00784314, 0.0117647 (multiples of ")]
)
def test_labels_on_another_scale(tmp_path: Path, factor: float, got: str) -> None:
    item = LAYOUTS["curvas2024"](tmp_path).list_items()[0]
    path = item["raters"][2]
    save(Path(path), (np.asanyarray(load_nifti(path).dataobj) * factor).astype(np.float32))
    (line,) = lines([item], label_values=(0, 1, 2, 3))
    assert line.startswith(f"{path}: expected whole label values, got {got}")
    assert line.endswith("). Fix: divide by that number, round, and save the values as integers.")
    assert refused(item).partition("got")[2] == line.partition("got")[2]
    assert refused(item).startswith(path)


def _upper(root: Path) -> None:
    for path in [p for p in root.rglob("*.*") if p.is_file()]:
        path.rename(path.with_name(path.name.upper()))


@pytest.mark.parametrize(
    "name", ["qubiq2020 brain-growth", "brats2018", "brats2021", "brats2023", "msd", "kits21", "curvas2024", "msseg newer"]
)
def test_names_in_upper_case(tmp_path: Path, name: str) -> None:
    written = LAYOUTS[name](tmp_path / "set")
    before = len(written.list_items())
    _upper(tmp_path / "set")
    items = written.list_items()
    assert len(items) == before
    assert fatal(items, written) == []
    item = written.loadable(items)[0]
    votes = next(v for (case, task), v in sorted(written.labels.items()) if case.upper() == item["case"].upper())
    np.testing.assert_array_equal(pipeline(written)(item)["raters"].numpy(), votes)


@pytest.mark.parametrize("name", ["qubiq2020 prostate", "brats2021", "msd", "kits21", "curvas-pdacvi", "msseg older"])
def test_compressed_and_not(tmp_path: Path, name: str) -> None:
    written = LAYOUTS[name](tmp_path / "set")
    for number, path in enumerate(sorted((tmp_path / "set").rglob("*.nii.gz"))):
        if number % 2:
            nibabel.save(load_nifti(path), str(path)[: -len(".gz")])
            path.unlink()
    items = written.list_items()
    assert len(items) == len(written.labels)
    assert fatal(items, written) == []
    for item in written.loadable(items):
        votes = written.labels[item["case"], item["task"]]
        np.testing.assert_array_equal(pipeline(written)(item)["raters"].numpy(), votes)


@pytest.mark.parametrize("suffix", [".PNG", ".NRRD", ".MHA"])
def test_formats_in_upper_case(tmp_path: Path, suffix: str) -> None:
    written = patterned(tmp_path, suffix.lower(), SLICE, (2,))
    for path in sorted(tmp_path.rglob("*" + suffix.lower())):
        path.rename(path.with_suffix(suffix))
    (item,) = pattern_datalist(tmp_path, f"**/Set-{{case}}{suffix}", f"**/Set-{{case}}_rad{{rater}}{suffix}")
    if suffix != ".MHA":
        assert lines([item]) == []
        np.testing.assert_array_equal(loaded(item)["raters"].numpy(), written.labels["0001", "segmentation"])
        return
    # ITK reads no such name; each file is told with the way out
    told = lines([item])
    assert [line.partition(": expected a readable .mha file, ")[0] for line in told] == [item["image"], *item["raters"]]
    with pytest.raises(DataProblemError) as caught:
        LoadRaters()(item["raters"])
    assert {line.rpartition(". Fix: ")[2] for line in (*told, str(caught.value))} == {"name it .mha, as ITK wants it, or mend it."}


@pytest.mark.parametrize("mode", ["bit", "palette", "grey 255", "rgb image", "nifti image"])
def test_pictures_of_every_kind(tmp_path: Path, mode: str) -> None:
    """The check sees the values that the loader sees: a palette's numbers, not its colours."""
    votes = opinions(np.random.default_rng(2), 3, SLICE, [1])
    mark = 255 if mode == "grey 255" else 1
    for number, vote in enumerate(votes):
        picture = Image.fromarray(np.ascontiguousarray(vote.T) * np.uint8(255 if mode in ("bit", "grey 255") else 1))
        if mode == "bit":
            picture = picture.convert("1")
        if mode == "palette":
            picture.putpalette([0, 0, 0, 255, 0, 0])
        picture.save(tmp_path / f"a_r{number}.png")
    name = "a_im.nii.gz" if mode == "nifti image" else "a_im.png"
    if mode == "rgb image":
        Image.fromarray(np.random.default_rng(3).integers(0, 255, (*SLICE[::-1], 3), dtype=np.uint8)).save(tmp_path / name)
    else:
        save(tmp_path / name, np.arange(99, dtype=np.uint8).reshape(SLICE))
    (item,) = pattern_datalist(tmp_path, f"{{case}}_{name[2:]}", "{case}_r{rater}.png")
    assert lines([item], label_values=(0, mark)) == []
    assert lines([item], label_values=(0, mark), channels=3 if mode == "rgb image" else 1, read="headers") == []
    got = loaded(item, label_values=(0, mark))
    np.testing.assert_array_equal(got["raters"].numpy(), votes * mark)
    assert got["image"].shape == ((3 if mode == "rgb image" else 1), *SLICE)
    # masks drawn as pictures lie where their image lies
    np.testing.assert_allclose(got["raters"].affine.numpy(), AFFINE if mode == "nifti image" else np.eye(4))


def test_instances_must_be_merged_before_they_are_loaded(tmp_path: Path) -> None:
    item = LAYOUTS["kits21"](tmp_path).list_items()[0]
    with pytest.raises(
        DataProblemError, match=r"raters: expected one file per rater, got list .*. Fix: merge_kits21\(items, dest\), or "
    ):
        LoadRaters()(item["raters"])


@pytest.mark.parametrize("read", ["full", "headers"])
def test_memory_does_not_grow_with_the_cases(tmp_path: Path, read: Any) -> None:
    shape = (40, 36, 32)
    image, votes = np.zeros(shape, np.float32), opinions(np.random.default_rng(4), 2, shape, [1])
    save(tmp_path / "image.nii.gz", image)
    for number, vote in enumerate(votes):
        save(tmp_path / f"r{number}.nii.gz", vote)
    raters = [f"{tmp_path}/r{number}.nii.gz" for number in range(2)]
    for number in range(9):  # one file under a name for each case, since two cases may not have one image
        os.link(tmp_path / "image.nii.gz", tmp_path / f"image{number}.nii.gz")

    def peak(cases: int) -> int:
        items = [{"case": f"c{n}", "image": f"{tmp_path}/image{n}.nii.gz", "raters": raters} for n in range(cases)]
        tracemalloc.start()
        try:
            assert list(find_problems(items, read=read, progress=False)) == []
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(1)  # what is imported and kept once
    few, many = peak(3), peak(9)
    assert many - few < image.size  # less than a quarter of one image
    assert read == "headers" or few > image.nbytes
