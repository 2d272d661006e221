"""The study on LIDC's readers: files hold the arrays, parts have different patients, scores are right, runs are not repeated."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.losses import DiceCELoss

from benchmarks import convert_lidc, decision_on_raters, real_raters, real_raters_results
from benchmarks.lidc_arrays import RatedArray, lidc_slices, lidc_volumes, part_of, parts_of
from benchmarks.rater_training import LOSSES, drawn_batches
from benchmarks.real_raters import Decisions
from monai_jdt.data import check_items, read_datalist
from monai_jdt.data.files.volumes import open_volume
from monai_jdt.data.splits import patients_of
from monai_jdt.losses import JDTCELoss

#: Of each part, by the hash of the name.
PATIENTS = {
    part: [name for name in (f"LIDC-IDRI-{number:04d}" for number in range(200)) if part_of(name) == part][:3]
    for part in ("training", "validation", "test")
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write both files of arrays: bright squares of three patients of each part, one of whom has an empty slice."""
    random = np.random.default_rng(0)
    slices: dict[str, list[Any]] = {"images": [], "masks": [], "patient": [], "nodule": [], "slice": []}
    volumes: dict[str, Any] = {}
    for patient in (name for names in PATIENTS.values() for name in names):
        votes = np.zeros((5, 4, 16, 16), dtype=bool)
        for reader in range(4):
            votes[:, reader, 5 : 9 + reader, 4:11] = True
        if patient in [names[0] for names in PATIENTS.values()]:
            votes[1] = False
        images = (60 * votes.mean(1) * 4 + random.integers(0, 10, (5, 16, 16))).astype(np.uint8)
        packed = np.packbits(votes, axis=-1)
        slices["images"] += list(images)
        slices["masks"] += list(packed)
        slices["patient"] += [patient] * 5
        slices["nodule"] += [0] * 5
        slices["slice"] += range(5)
        volumes |= {f"{patient}_n0_img": images, f"{patient}_n0_msk": packed, f"{patient}_n0_sp": np.array([2.5, 0.5, 0.75])}
    arrays: dict[str, Any] = {name: np.array(values) for name, values in slices.items()}
    np.savez(tmp_path / "lidc2d.npz", **arrays)
    np.savez(tmp_path / "lidc3d.npz", **volumes)
    return tmp_path


def square(votes: np.ndarray, spacing: tuple[float, ...] | None = None) -> RatedArray:
    return RatedArray("case", "patient", np.zeros(votes.shape[1:], dtype=np.uint8), votes, spacing)


def test_no_patient_is_in_two_parts_whatever_the_set(folder: Path) -> None:
    for cases in (lidc_slices(folder / "lidc2d.npz"), lidc_volumes(folder / "lidc3d.npz")):
        parts = parts_of(cases)
        assert {part: sorted({case.patient for case in own}) for part, own in parts.items()} == PATIENTS
    shares = [part_of(f"LIDC-IDRI-{number:04d}") for number in range(1000)]
    # 7 and 3 of 20, two standard deviations (.03) wide
    assert shares.count("test") / 1000 == pytest.approx(0.35, abs=0.03)
    assert shares.count("validation") / 1000 == pytest.approx(0.15, abs=0.03)


def test_the_files_hold_what_the_arrays_hold(folder: Path) -> None:
    for name, cases in (("2d", lidc_slices(folder / "lidc2d.npz", step=4)), ("3d", lidc_volumes(folder / "lidc3d.npz"))):
        dest = folder / name
        convert_lidc.convert(cases, dest)
        sections = [read_datalist(dest / "datalist.json", section) for section in PATIENTS]
        assert [sorted({item["patient"] for item in section}) for section in sections] == list(PATIENTS.values())
        items = sorted(read_datalist(dest / "datalist.json", "all"), key=lambda item: [case.name for case in cases].index(item["case"]))
        check_items(items)
        assert patients_of(items) == [case.patient for case in cases] == [item["patient"] for item in items]
        for item, case in zip(items, cases, strict=True):
            read = [open_volume(path).load() for path in (item["image"], *item["raters"])]
            assert np.array_equal(read[0].reshape(case.image.T.shape), case.image.T)
            assert np.array_equal(
                np.stack([votes.reshape(case.image.T.shape) for votes in read[1:]]), [votes.T for votes in case.votes]
            )
    assert items[0]["spacing"] == [0.75, 0.5, 2.5]
    affine = open_volume(items[0]["image"]).affine
    assert affine is not None
    assert np.array_equal(np.diag(affine), [-0.75, -0.5, 2.5, 1])


def test_a_case_that_is_there_is_not_written_again(folder: Path) -> None:
    cases = lidc_slices(folder / "lidc2d.npz", step=5)
    (image,) = {item["image"] for item in convert_lidc.convert(cases[:1], folder / "files")}
    Path(image).write_bytes(b"kept")
    assert len(convert_lidc.convert(cases, folder / "files")) == len(cases) == 9
    assert Path(image).read_bytes() == b"kept"


def test_every_fourth_slice_from_the_second_on(folder: Path) -> None:
    assert [case.name[-3:] for case in lidc_slices(folder / "lidc2d.npz", step=4)] == ["s01"] * 9
    assert [case.name[-3:] for case in lidc_slices(folder / "lidc2d.npz", step=3)][:2] == ["s01", "s04"]


def test_an_order_has_each_case_once() -> None:
    batches = drawn_batches(10, 3)
    order = torch.cat([next(batches) for _ in range(3)]).tolist()
    assert len(set(order)) == 9  # the tenth is the rest
    assert sorted(next(drawn_batches(2, 8)).tolist()) == [0, 1]


def test_probabilities_are_those_of_the_whole_image_whatever_its_size() -> None:
    image = np.arange(3 * 10 * 13, dtype=np.uint8).reshape(3, 10, 13) % 200
    case = RatedArray("odd", "patient", image, np.zeros((4, 3, 10, 13), dtype=bool))
    (prob,) = real_raters.probabilities(torch.nn.Identity(), [case], (4, 8, 8))
    assert torch.allclose(prob[0], (torch.from_numpy(image).float() / 255).sigmoid())


def test_the_mean_of_the_readers_has_no_error_but_their_spread() -> None:
    votes = np.zeros((4, 2, 4, 4), dtype=bool)
    votes[:, :, 0] = True
    votes[:2, :, 1] = True
    prob = torch.from_numpy(votes.mean(0)).float()[None]
    found = real_raters.scores(prob, square(votes, (2.0, 1.0, 0.5)), Decisions(0.4, 0.0))
    # 8 voxels of all readers, 8 of half of them, of 1 mm3 each
    assert found["volume"] == found["readers_volume"] == 12
    assert found["thresholded_dice"] == 1
    # p (1 - p) = 1/4 in 8 of 32 voxels
    assert found["brier"] == found["spread"] == pytest.approx(1 / 16)
    assert found["ece"] == 0
    # the majority, 3 of 4, are 8 voxels; a threshold of .4 marks 16: 2 * 8 / (8 + 16)
    assert found["dice_half"] == 1
    assert found["dice_validated"] == pytest.approx(2 / 3)


def test_an_empty_mask_of_an_empty_majority_scores_one_and_any_other_zero() -> None:
    votes = np.zeros((4, 4, 4), dtype=bool)
    votes[0, 0] = True
    faint, sure = torch.full((1, 4, 4), 0.3), torch.full((1, 4, 4), 0.9)
    assert real_raters.scores(faint, square(votes), Decisions(0.5, 0.0))["dice_half"] == 1
    found = real_raters.scores(sure, square(votes), Decisions(0.5, 1.0))
    assert (found["dice_half"], found["dice_expected"], found["dice_expected_level"], found["majority_empty"]) == (0, 0, 1, 1)


def test_decisions_are_those_that_are_best_with_the_majority() -> None:
    votes = np.zeros((4, 8, 8), dtype=bool)
    votes[:, :4] = True
    shy = torch.from_numpy(np.where(votes[0], 0.32, 0.02)).float()[None]
    nothing = square(np.zeros((4, 8, 8), dtype=bool))
    decisions = real_raters.chosen([shy, torch.full((1, 8, 8), 0.12)], [square(votes), nothing])
    # .15 is the first of the thresholds between .12 and .32; the second image is expected to score less than the first
    assert decisions.threshold == 0.15
    assert 0 < decisions.level < 1
    assert {name: int(mask.sum()) for name, mask in decisions.masks(shy).items()} == {
        "half": 0,
        "validated": 32,
        "expected": 32,
        "expected_level": 32,
    }


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, crop in (("2d", (8, 8)), ("3d", (8, 8, 8))):
        small: dict[str, Any] = {"crop": crop, "channels": (2, 4), "strides": ((2,) * len(crop),), "steps": 5, "batch": 2}
        monkeypatch.setitem(real_raters.SETS, name, replace(real_raters.SETS[name], **small))
    monkeypatch.setattr(real_raters, "SEEDS", (0, 1))
    monkeypatch.setattr(real_raters_results, "SEEDS", (0, 1))


def test_a_whole_study(folder: Path, tiny: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / "out"
    for script in (real_raters, real_raters_results):
        monkeypatch.setattr(
            sys, "argv", ["script", str(out), "--data", str(folder), *(["--seeds", "0,1"] if script is real_raters else [])]
        )
        script.main()
    assert "2d: training 3 images of 3 patients (1 with an empty majority)" in capsys.readouterr().out
    runs = list(csv.DictReader((out / "real_raters_runs.csv").read_text().splitlines()))
    assert len(runs) == 2 * 3 * 2 * 5  # sets, losses, seeds, looks
    rows = list(csv.DictReader((out / "real_raters.csv").read_text().splitlines()))
    assert len(rows) == 2 * 3 * 3  # sets, losses, patients
    assert {row["patient"] for row in rows} == set(PATIENTS["test"])
    found = real_raters_results.runs_of(out, "3d")
    assert found is not None
    own = [float(row["brier"]) for row in rows if row["set"] == "3d" and row["loss"] == "CE, mean"]
    brier = real_raters_results.estimate(found, "brier", "CE, mean")
    assert brier.mean == pytest.approx(np.mean(own), rel=1e-4)
    assert brier.low <= brier.mean <= brier.high
    table = (out / "real_raters.md").read_text()
    assert f"| Brier score x 1000 | {brier.text(1000, 2)} |" in table
    for picture in ("real_raters.png", "real_raters_case.png"):
        assert (out / picture).stat().st_size > 10_000


def test_a_run_is_not_repeated_and_not_mixed_with_other_settings(folder: Path, tiny: None, monkeypatch: pytest.MonkeyPatch) -> None:
    out = folder / "out"
    real_raters.study(out, folder, ["2d"], [0])
    record = out / f"{real_raters.run_name('2d', 'CE, mean', 0)}.json"
    before = record.stat().st_mtime_ns
    real_raters.study(out, folder, ["2d"], [0])
    assert record.stat().st_mtime_ns == before
    assert json.loads(record.read_text())["settings"]["steps"] == 5
    monkeypatch.setitem(real_raters.SETS, "2d", replace(real_raters.SETS["2d"], steps=6))
    with pytest.raises(ValueError, match=r"expected the settings .*'steps': 6.*, got .*'steps': 5.* Fix: name another folder"):
        real_raters.study(out, folder, ["2d"], [0])
    monkeypatch.undo()


def test_a_run_of_another_loss_or_of_other_images_is_refused(folder: Path, tiny: None, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [square(np.eye(4, dtype=bool)[None, None].repeat(4, 1)) for _ in range(2)]
    parts = {"training": cases[:1], "validation": cases[1:]}
    digest = real_raters.digest_of_images(parts)
    assert digest == real_raters.digest_of_images({part: list(own) for part, own in parts.items()})
    for changed in (
        {"training": cases, "validation": []},
        {"training": [replace(cases[0], image=cases[0].image + 1)], "validation": cases[1:]},
        {"training": [replace(cases[0], votes=~cases[0].votes)], "validation": cases[1:]},
    ):
        assert real_raters.digest_of_images(changed) != digest
    losses: list[tuple[torch.nn.Module, str]] = [
        (JDTCELoss(sigmoid=True), "mean"),
        (JDTCELoss(sigmoid=True), "majority"),
        (JDTCELoss(sigmoid=True, alpha=0.5), "mean"),
    ]
    losses += [
        (torch.nn.BCEWithLogitsLoss(), "mean"),
        (DiceCELoss(sigmoid=True), "mean"),
        (DiceCELoss(sigmoid=True, batch=True), "mean"),
    ]
    digests = [real_raters.digest_of_loss(*each) for each in losses]
    assert len(set(digests)) == len(losses)
    assert digests[0] == real_raters.digest_of_loss(JDTCELoss(sigmoid=True), "mean")  # of another object
    out = folder / "out"
    real_raters.study(out, folder, ["2d"], [0])
    monkeypatch.setitem(LOSSES, "CE, mean", (torch.nn.BCEWithLogitsLoss, "majority"))
    with pytest.raises(ValueError, match="expected the settings"):
        real_raters.study(out, folder, ["2d"], [0])


def test_pooled_calibration_errors_add_bins_first() -> None:
    loss = next(iter(LOSSES))
    bins = np.zeros((1, 2, 15, 3))
    # two images of one patient each, whose errors in one bin cancel out; a bin of the second has an error of .2 in 1 of 9 voxels
    bins[0, 0, 7] = 4, 2, 1
    bins[0, 1, 7] = 4, 2, 3
    bins[0, 1, 14] = 1, 1, 0.8
    runs = real_raters_results.Runs((0,), np.array(["a", "b"]), {}, {loss: bins}, [])
    found = real_raters_results.estimate(runs, "pooled_ece", loss)
    assert found.mean == pytest.approx(0.2 / 9)
    # of the patient a alone: |2 - 1| / 4; of b alone: (1 + .2) / 5
    assert (found.low, found.high) == (pytest.approx(0.2 / 9), pytest.approx(0.25))


def test_the_slices_of_the_study_of_decisions(folder: Path) -> None:
    data = decision_on_raters.lidc_slices(str(folder / "lidc2d.npz"))
    assert tuple(data.images.shape) == (45, 1, 16, 16)
    assert tuple(data.votes.shape) == (45, 4, 16, 16)
    assert int(data.majority()[0].sum()) == 5 * 7  # three of four readers marked rows 5 to 9
    images, labels = next(decision_on_raters.batches_of(data, data.majority().float()))
    assert tuple(images.shape) == tuple(labels.shape) == (32, 1, 16, 16)
