"""BraTS phantoms: seeded, in the files of the layouts, with the exact probability of every voxel."""

import gzip
import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monai_jdt.data import (
    DEFAULT_STYLES,
    LAYOUT_CONVENTIONS,
    PhantomLatent,
    RaterStyle,
    brats_datalist,
    brats_phantom,
    draw_rater,
    ensure_brats_phantoms,
    rater_probability,
    region_convention,
    write_brats_phantoms,
)
from tests.nifti_files import load_nifti

SMALL: dict[str, Any] = {"cases": 2, "shape": (16, 18, 14), "progress": False}


def _regions(label: np.ndarray, convention: str) -> np.ndarray:
    return np.stack([np.isin(label, values) for values in region_convention(convention).regions.values()])


def _digest(root: str) -> dict[str, Any]:
    found = {}
    for folder, _, files in os.walk(root):
        for name in files:
            path = os.path.join(folder, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, root)] = hashlib.sha256(file.read()).hexdigest()
    return found


@pytest.mark.parametrize("small_lesion", [False, True])
def test_probability_is_the_share_of_raters_in_a_monte_carlo(small_lesion: bool) -> None:
    latent = brats_phantom(5, shape=(16, 16, 16), small_lesion=small_lesion).latent
    truth = rater_probability(latent)
    rng, draws = np.random.default_rng(1), 1500
    shares = np.array([style.presence for style in DEFAULT_STYLES])
    shares = shares / shares.sum()
    marked = np.zeros(truth.shape)
    for style in rng.choice(len(DEFAULT_STYLES), size=draws, p=shares):
        marked += draw_rater(latent, DEFAULT_STYLES[style], rng)
    error = marked / draws - truth
    spread = np.sqrt(np.maximum(truth * (1 - truth), 1e-4) / draws)
    unsure = (truth > 0.02) & (truth < 0.98)
    assert unsure.sum() > 300
    # 12288 voxels of a unit Gaussian stay within 5; their mean square is 1, correlated over the voxels of a rater.
    assert np.abs(error / spread).max() < 5
    assert 0.6 < np.mean((error / spread)[unsure] ** 2) < 1.5


def test_probability_of_one_style_by_hand() -> None:
    phi = np.array([-1.0, 0.0, 0.5], dtype=np.float32).reshape(3, 1, 1, 1) * np.ones((3, 2, 2, 2), dtype=np.float32)
    without = np.full_like(phi, -50.0)
    style = RaterStyle("s", bias_mm=0.5, sd_mm=2.0, miss_small=0.25)
    got = rater_probability(PhantomLatent(phi, without, (1.0, 1.0, 1.0)), [style])[:, 0, 0, 0]
    # cdf(z) = (1 + erf(z / sqrt 2)) / 2 at z = (phi + bias) / sd, times the chance of not missing it
    want = [0.75 * 0.5 * (1 + math.erf((value + 0.5) / 2.0 / math.sqrt(2))) for value in (-1.0, 0.0, 0.5)]
    assert got == pytest.approx(want, abs=1e-6)


def test_far_from_any_boundary_the_probability_is_0_or_1() -> None:
    phi = np.array([50.0, 50.0, -50.0], dtype=np.float32).reshape(3, 1, 1, 1)
    styles = [RaterStyle("a"), RaterStyle("b", miss_small=0.3, presence=0.5)]
    assert rater_probability(PhantomLatent(phi, phi, (1, 1, 1)), styles).ravel().tolist() == [1, 1, 0]
    # without the lesion nothing is left: share (0.5 / 1.5) of style b misses it 3 times in 10
    got = rater_probability(PhantomLatent(phi, phi * 0 - 50, (1, 1, 1)), styles).ravel()
    assert got == pytest.approx([0.9, 0.9, 0], abs=1e-6)


def test_population_weighs_a_style_by_its_presence() -> None:
    phi = np.zeros((3, 1, 1, 1), dtype=np.float32)
    styles = [RaterStyle("always", bias_mm=9.0), RaterStyle("seldom", bias_mm=-9.0, presence=0.25)]
    # shares 1 / 1.25 and 0.25 / 1.25; the first always marks the voxel, the second never
    assert rater_probability(PhantomLatent(phi, phi, (1, 1, 1)), styles).ravel() == pytest.approx([0.8] * 3)


def test_styles_draw_as_they_say() -> None:
    latent = brats_phantom(1, shape=(24, 24, 24), small_lesion=True).latent
    over, under, jagged, _, smooth, misses = DEFAULT_STYLES
    rng = np.random.default_rng(0)

    def volume(style: RaterStyle) -> np.float64:
        return np.mean([draw_rater(latent, style, rng)[1].sum() for _ in range(8)])

    assert volume(over) > 1.2 * volume(jagged) > 1.2 * volume(under)

    def surface(style: RaterStyle) -> np.float64:
        return np.mean([np.abs(np.diff(draw_rater(latent, style, rng)[1].astype(int), axis=0)).sum() for _ in range(8)])

    equal_bias = [RaterStyle("a", sd_mm=0.8, length_mm=s.length_mm) for s in (jagged, smooth)]
    assert surface(equal_bias[0]) > 1.05 * surface(equal_bias[1])
    latent = brats_phantom(1, shape=(40, 40, 40), small_lesion=True).latent
    only_small = (latent.phi[1] > 1.5) & (latent.phi_main[1] < -3)
    assert only_small.any()
    seen = np.mean([draw_rater(latent, misses, rng)[1][only_small].any() for _ in range(60)])
    assert 0.05 < seen < 0.4  # 0.2 by the style


@pytest.mark.parametrize("convention", ["brats2018", "brats2021", "brats2023", "msd"])
def test_regions_are_nested_in_fields_probabilities_and_labels(convention: str) -> None:
    for index in range(3):
        case = brats_phantom(index, shape=(20, 20, 20), convention=convention)
        assert set(np.unique(case.fused)) == set(region_convention(convention).values)
        tc, wt, et = case.latent.phi
        assert (et <= tc).all()
        assert (tc <= wt).all()
        assert (case.probability[2] <= case.probability[0]).all()
        assert (case.probability[0] <= case.probability[1]).all()
        votes = sum(_regions(label, convention).astype(int) for label in case.raters.values())
        assert (_regions(case.fused, convention) == (votes > len(case.raters) / 2)).all()
        # the true share and the raters' share agree: these are the raters of that population
        assert np.abs(votes / len(case.raters) - case.probability).mean() < 0.05


def test_image_looks_like_what_it_is() -> None:
    case = brats_phantom(0)
    assert case.image.shape == (4, 48, 48, 48)
    assert case.image.dtype == case.probability.dtype == np.float32
    t1c, _, _, flair = case.image
    brain, sure = t1c > 0, case.probability > 0.97
    assert 0.2 < brain.mean() < 0.7
    assert not case.probability[:, ~brain].mean() > 0.01
    assert t1c[sure[2]].mean() > 1.3 * t1c[brain & ~sure[1]].mean()  # the rim takes up contrast
    assert flair[sure[1] & ~sure[0]].mean() > 1.3 * flair[brain & ~sure[1]].mean()  # oedema is bright
    # the softness shows: FLAIR rises with the probability of the outer region
    outer = case.latent.phi[1]
    steps = [flair[(outer > low) & (outer <= low + 0.5)].mean() for low in (-1.5, -0.75, 0.0, 0.75)]
    assert steps == sorted(steps)


def test_cases_are_seeded_and_do_not_depend_on_each_other() -> None:
    first, again, other = brats_phantom(3, seed=4), brats_phantom(3, seed=4), brats_phantom(3, seed=5)
    assert (first.image == again.image).all()
    assert (first.image != other.image).any()
    alone = [RaterStyle("x", presence=1.0), *DEFAULT_STYLES[1:]]
    changed = brats_phantom(3, seed=4, styles=alone)
    assert (changed.raters["rater2"] == first.raters["rater2"]).all()
    present = ["rater4" in brats_phantom(i, shape=(12, 12, 12)).raters for i in range(40)]
    assert 0.2 < np.mean(present) < 0.6  # 0.4 by the style


@pytest.mark.parametrize("layout", sorted(LAYOUT_CONVENTIONS))
def test_files_are_the_case_in_memory(tmp_path: Path, layout: str) -> None:
    root = write_brats_phantoms(tmp_path / "set", layout=layout, seed=3, **SMALL)
    items = brats_datalist(root)
    assert len(items) == 2
    case = brats_phantom(1, shape=SMALL["shape"], seed=3, convention=LAYOUT_CONVENTIONS[layout])
    item = items[1]
    if layout == "msd":
        image = load_nifti(item["image"])
        voxels = np.moveaxis(np.asanyarray(image.dataobj), -1, 0)[item["channels"]]
        with open(os.path.join(root, "dataset.json")) as file:
            manifest = json.load(file)
        assert manifest["numTraining"] == len(manifest["training"]) == 2
        assert all(os.path.isfile(os.path.join(root, entry["label"])) for entry in manifest["training"])
    else:
        images = [load_nifti(path) for path in item["image"]]
        voxels = np.stack([np.asanyarray(image.dataobj) for image in images])
        assert images[0].get_data_dtype() == (np.float32 if layout == "brats2023" else np.int16)
    assert (voxels == case.image).all()
    assert len(item["raters"]) == len(case.raters)
    for path, label in zip(item["raters"], case.raters.values(), strict=True):
        rater = load_nifti(path)
        assert rater.get_data_dtype() == np.uint8
        assert (np.asanyarray(rater.dataobj) == label).all()
        assert (rater.affine == case.affine).all()
    truth = load_nifti(item["probability"])
    assert (np.moveaxis(np.asanyarray(truth.dataobj), -1, 0) == case.probability).all()
    assert (truth.affine == case.affine).all()
    assert truth.header.get_zooms()[:3] == pytest.approx((1.0, 1.0, 1.2), abs=1e-4)
    assert not np.allclose(case.affine[:3, :3], np.diag([1, 1, 1.2]), atol=1e-3)


def test_same_settings_give_the_same_bytes(tmp_path: Path) -> None:
    one = _digest(write_brats_phantoms(tmp_path / "one", **SMALL))
    assert one == _digest(write_brats_phantoms(tmp_path / "two", **SMALL))
    other = _digest(write_brats_phantoms(tmp_path / "three", **{**SMALL, "seed": 1}))
    assert all(one[name] != other[name] for name in one.keys() & other.keys())
    path = next(path for path in one if path.endswith(".gz"))
    with open(tmp_path / "one" / path, "rb") as file:
        assert file.read(8)[4:8] == bytes(4)  # no time in the gzip header
    with gzip.open(tmp_path / "one" / path) as file:
        assert len(file.read()) > 352


def test_a_folder_is_reused_or_left_alone(tmp_path: Path) -> None:
    root = tmp_path / "set"
    root.mkdir()
    assert ensure_brats_phantoms(root, cases=1, shape=[12, 12, 12]) == str(root)
    times = {path: os.stat(path).st_mtime_ns for path in root.rglob("*")}
    assert len(times) > 8
    styles = [
        {"name": s.name, "bias_mm": s.bias_mm, "sd_mm": s.sd_mm, "length_mm": s.length_mm}
        | {"miss_small": s.miss_small, "presence": s.presence}
        for s in DEFAULT_STYLES
    ]
    ensure_brats_phantoms(root, cases=1, shape=(12, 12, 12), styles=styles)
    assert times == {path: os.stat(path).st_mtime_ns for path in root.rglob("*")}
    with pytest.raises(FileExistsError, match="seed 0 instead of 7"):
        ensure_brats_phantoms(root, cases=1, shape=(12, 12, 12), seed=7)
    other = tmp_path / "mine"
    other.mkdir()
    (other / "thesis.txt").write_text("x")
    with pytest.raises(FileExistsError, match="folder of other files"):
        ensure_brats_phantoms(other, cases=1)
    with pytest.raises(FileExistsError, match="got a file"):
        ensure_brats_phantoms(other / "thesis.txt", cases=1)
    assert sorted(os.listdir(tmp_path)) == ["mine", "set"]  # no drafts left behind
    assert os.listdir(other) == ["thesis.txt"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layout": "brats1999"}, "layout: expected one of"),
        ({"cases": 0}, "cases: expected at least 1"),
        ({"shape": (48, 48)}, "shape: expected three"),
        ({"shape": (8, 48, 48)}, "at least 12"),
        ({"spacing": (1, 1, 0)}, "spacing: expected three positive"),
        ({"styles": [RaterStyle("x", presence=0.5)]}, "at least one with presence 1"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_brats_phantoms(tmp_path / "set", **{**SMALL, **settings})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("wrong", [{"sd_mm": 0}, {"length_mm": -1}, {"miss_small": 1.5}, {"presence": 0}])
def test_wrong_styles_are_named(wrong: Any) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RaterStyle("x", **wrong)
