"""QUBIQ phantoms: tasks, raters and axes of the real sets, seeded, with the exact probability of every voxel."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monai_jdt.data import (
    QUBIQ_SETS,
    draw_rater,
    ensure_qubiq_phantoms,
    qubiq_datalist,
    qubiq_phantom,
    qubiq_styles,
    write_qubiq_phantoms,
)
from tests.nifti_files import load_nifti

SMALL: dict[str, Any] = {"cases": 2, "shape": (20, 24), "progress": False}
SHAPES = {"brain-tumor": (20, 24, 4), "prostate": (20, 24, 1), "pancreas": (24, 20, 24), "pancreatic-lesion": (24, 20, 24)}


def _digest(root: str) -> dict[str, Any]:
    found = {}
    for folder, _, files in os.walk(root):
        for name in files:
            path = os.path.join(folder, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, root)] = hashlib.sha256(file.read()).hexdigest()
    return found


@pytest.mark.parametrize("dataset", sorted(QUBIQ_SETS))
def test_files_are_the_case_in_memory(tmp_path: Path, dataset: str) -> None:
    root = write_qubiq_phantoms(tmp_path / "set", datasets=dataset, seed=3, **SMALL)
    items = qubiq_datalist(root)
    known = QUBIQ_SETS[dataset]
    assert len(items) == 2 * known.tasks
    assert items.found.skipped == ()
    assert all(item["dataset"] == dataset for item in items)
    shape = SMALL["shape"] if known.spatial_dims == 2 else (24, *SMALL["shape"])
    case = qubiq_phantom(1, dataset, shape=shape, seed=3)
    for task, item in enumerate(items[known.tasks :]):
        image = load_nifti(item["image"])
        assert image.shape == SHAPES.get(dataset, SMALL["shape"])
        assert (np.asanyarray(image.dataobj) == case.image).all()
        np.testing.assert_allclose(image.affine, case.affine, atol=1e-6)
        assert len(item["raters"]) == len(case.raters)
        for path, marked in zip(item["raters"], case.raters.values(), strict=True):
            voxels = np.asanyarray(load_nifti(path).dataobj)
            assert (voxels.reshape(marked[task].shape) == marked[task]).all()
        truth = np.asanyarray(load_nifti(item["probability"]).dataobj)
        assert (truth.reshape(case.probability[task].shape) == case.probability[task]).all()
        assert truth.dtype == np.float32


def test_raters_and_tasks_are_qubiqs() -> None:
    cases = [qubiq_phantom(i, "prostate", shape=(16, 16)) for i in range(24)]
    assert {len(case.raters) for case in cases} == {5, 6}
    for dataset, known in QUBIQ_SETS.items():
        case = qubiq_phantom(3, dataset)
        assert len(qubiq_styles(dataset)) == known.raters
        assert case.probability.shape[0] == known.tasks
        assert case.latent.phi.ndim == 1 + known.spatial_dims
        assert (case.probability[1:] <= case.probability[:-1]).all()  # each further structure lies inside
        votes = np.mean(list(case.raters.values()), axis=0)
        assert np.abs(votes - case.probability).mean() < 0.05
        assert case.probability[0].max() > 0.999
    growth = [len(qubiq_phantom(i, shape=(16, 16)).raters) for i in range(8)]
    assert growth == [7] * 8
    empty = qubiq_phantom(3, "brain-tumor")
    assert not any(marked[2].any() for marked in empty.raters.values())
    assert empty.probability[2].max() == 0


def test_probability_is_the_share_of_raters_in_a_monte_carlo() -> None:
    case = qubiq_phantom(2, "brain-tumor", shape=(24, 24))
    rng, draws, styles = np.random.default_rng(1), 1200, qubiq_styles("brain-tumor")
    marked = np.mean([draw_rater(case.latent, styles[i % 3], rng) for i in range(draws)], axis=0)
    spread = np.sqrt(np.maximum(case.probability * (1 - case.probability), 1e-4) / draws)
    assert np.abs((marked - case.probability) / spread).max() < 5


def test_the_structure_can_be_seen() -> None:
    for dataset, known in QUBIQ_SETS.items():
        case = qubiq_phantom(1, dataset)
        image = case.image if known.channels else case.image.reshape(*case.probability.shape[1:], 1)
        sure, out = case.probability[0] > 0.98, (case.probability[0] < 0.02) & (image[..., 0] > image[..., 0].min() + 200)
        assert max(abs(np.median(image[sure, c]) - np.median(image[out, c])) for c in range(image.shape[-1])) > 30


def test_cases_are_seeded() -> None:
    first, again, other = (qubiq_phantom(3, "kidney", seed=s) for s in (4, 4, 5))
    assert (first.image == again.image).all()
    assert (first.image != other.image).any()


def test_made_once_and_the_same_bytes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings: dict[str, Any] = {"datasets": ["kidney", "brain-tumor"], "layout": "qubiq2020", **SMALL}
    root = write_qubiq_phantoms(tmp_path / "a", **settings)
    before = os.stat(root).st_mtime_ns
    assert ensure_qubiq_phantoms(root, **settings) == root
    assert os.stat(root).st_mtime_ns == before
    assert _digest(root) == _digest(ensure_qubiq_phantoms(tmp_path / "b", **settings))
    assert {item["image"].split("/a/")[1].split("/")[0] for item in qubiq_datalist(root)} == {"training_data_v2"}
    assert json.loads((tmp_path / "a" / "phantom.json").read_text())["settings"]["datasets"] == {
        "kidney": [20, 24],
        "brain-tumor": [20, 24],
    }
    with pytest.raises(FileExistsError, match="seed 0 instead of 1"):
        ensure_qubiq_phantoms(root, **settings, seed=1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(FileExistsError, match="got a folder of other files"):
        ensure_qubiq_phantoms(tmp_path / "mine")
    assert sorted(os.listdir(tmp_path)) == ["a", "b", "mine"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layout": "qubiq2019"}, "layout: expected one of"),
        ({"datasets": "liver"}, "datasets: expected names among .*'kidney'.* got 'liver'"),
        ({"datasets": "pancreas", "layout": "qubiq2020"}, r"datasets: expected names among .* \(qubiq2020\), got 'pancreas'"),
        ({"datasets": []}, "cases: expected at least 1 of at least one data set, got 2 of"),
        ({"cases": 0}, "cases: expected at least 1"),
        ({"shape": (8, 20)}, r"shape: expected 2 whole numbers of at least 16 for brain-growth, got \(8, 20\)"),
        ({"shape": (20, 20, 20)}, "shape: expected 2 whole numbers"),
        ({"spacing": 0}, "spacing: expected a positive number of mm, got 0"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_qubiq_phantoms(tmp_path / "set", **{**SMALL, **settings})
    with pytest.raises(ValueError, match="dataset: expected one of"):
        qubiq_phantom(0, "liver")
    assert os.listdir(tmp_path) == []
