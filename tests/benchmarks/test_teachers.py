"""The study of teachers: whose labels are used, what each arm learns from, and runs that are not repeated."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import teachers
from benchmarks.lidc_arrays import RatedArray, parts_of
from tests.benchmarks.test_real_raters import folder

assert folder


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    small: dict[str, Any] = {"crop": (16, 16), "channels": (2, 4), "strides": ((2, 2),), "steps": 2, "batch": 2}
    for name, study in teachers.SETS.items():
        monkeypatch.setitem(teachers.SETS, name, replace(study, **small))


def squares(patients: int, scans: int = 2) -> list[RatedArray]:
    random = np.random.default_rng(0)
    cases = []
    for patient in range(patients):
        for scan in range(scans):
            votes = np.zeros((4, 16, 16), dtype=bool)
            votes[:, 4 : 8 + patient % 5, 4:11] = True
            image = (120 * votes.mean(0) + random.integers(0, 60, (16, 16))).astype(np.uint8)
            cases.append(RatedArray(f"{patient}-{scan}", f"patient{patient}", image, votes))
    return cases


def weights_of(network: torch.nn.Module) -> torch.Tensor:
    return torch.cat([value.flatten().double() for value in network.state_dict().values()])


def test_a_tenth_of_the_patients_has_labels() -> None:
    cases = squares(20)
    known, others = teachers.sides_of(cases, seed=0)
    patients = [{case.patient for case in side} for side in (known, others)]
    assert (len(patients[0]), len(patients[1])) == (2, 18)
    assert not patients[0] & patients[1]
    assert [case.name for case in teachers.sides_of(cases, seed=1)[0]] != [case.name for case in known]


def test_the_labels_of_the_other_patients_are_not_looked_at(tiny: None) -> None:
    """Only the arm of all labels learns from them. Their images are seen by the arms that learn without labels."""
    cases = squares(10, scans=1)
    hidden = {case.name for case in teachers.sides_of(cases, seed=0)[1]}
    other_votes = [replace(case, votes=~case.votes) if case.name in hidden else case for case in cases]
    other_images = [replace(case, image=255 - case.image) if case.name in hidden else case for case in cases]
    study = teachers.SETS["lidc"]
    large = teachers.larger(study).network().eval()
    for name, arm in teachers.ARMS.items():
        own = weights_of(teachers.learn(arm, study, cases, 0, large))
        assert torch.equal(own, weights_of(teachers.learn(arm, study, other_votes, 0, large))) != arm.all_labels, name
        assert torch.equal(own, weights_of(teachers.learn(arm, study, other_images, 0, large))) != (arm.unlabelled or arm.all_labels), (
            name
        )


def test_a_study_that_was_interrupted_goes_on(folder: Path, tiny: None, monkeypatch: pytest.MonkeyPatch) -> None:
    out = folder / "out"
    train, trained = teachers.run, []

    def stop_at_the_fourth(*arguments: Any) -> None:
        trained.append(arguments[2])
        if len(trained) == 4:
            raise KeyboardInterrupt
        train(*arguments)

    monkeypatch.setattr(teachers, "run", stop_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        teachers.study_of(out, folder, ["lidc"], seeds=(0, 1))
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.json")}
    assert len(before) == 3
    assert not (out / "few_labels.md").exists()
    runs = teachers.study_of(out, folder, ["lidc"], seeds=(0, 1))["lidc"]
    assert runs.seeds == (0, 1)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    # no arm is another one
    briers = [runs.table[arm, "brier"].mean() for arm in teachers.ARMS]
    assert len(set(briers)) == len(briers)
    rows = list(csv.DictReader((out / "few_labels_runs.csv").open()))
    assert [(row["arm"], row["seed"]) for row in rows] == [(arm, seed) for arm in teachers.ARMS for seed in "01"]
    text = (out / "few_labels.md").read_text()
    assert text.startswith("**lidc, seeds 0, 1: ")
    assert text.count("| mean teacher |") == 2
    monkeypatch.setattr(teachers, "DECAY", 0.5)
    with pytest.raises(ValueError, match="Fix: name another folder"):
        teachers.study_of(out, folder, ["lidc"], seeds=(0,))


def test_phantoms_have_three_parts_and_three_readers() -> None:
    parts = parts_of(teachers.phantom_slices(40))
    assert all(parts.values())
    assert all(case.votes.shape == (3, 64, 64) and case.votes.any() and case.image.max() == 255 for case in parts["test"])
