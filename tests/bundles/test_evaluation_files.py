"""What an evaluation and a prediction leave: scores by case, region and rater, probabilities, masks, and the record of the run."""

from __future__ import annotations

import csv
import json
import logging
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from monai_jdt.bundle_runtime import evaluation_files
from monai_jdt.data import brats_datalist, qubiq_datalist, write_brats_phantoms, write_qubiq_phantoms
from monai_jdt.data.files.folder_lock import sole_run_in
from monai_jdt.functional.expected_overlap import best_expected_mask, expected_overlap
from monai_jdt.handlers import CaseVolumeWriter
from monai_jdt.report.evaluation_rows import EvaluationCase, evaluation_rows
from monai_jdt.report.prediction_files import PredictionFolder, PredictionKind
from monai_jdt.report.run_folder import TRAINING_COLUMNS, RunRecord, read_run, read_scores, read_training
from tests.bundles import test_brats_bundle as brats
from tests.bundles import test_qubiq_bundle as qubiq
from tests.nifti_files import load_nifti

SMALL: dict[ModuleType, dict[str, Any]] = {brats: {**brats.TINY, "epochs": 1}, qubiq: qubiq.TINY}
NET: dict[ModuleType, dict[str, Any]] = {brats: brats.NETWORK, qubiq: qubiq.SMALL_NET}


@pytest.fixture(scope="module", params=[brats, qubiq], ids=["brats", "qubiq"])
def trained(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[ModuleType, Path, str]:
    """The bundle's module of tests, a folder with its weights, and its data: four cases."""
    bundle, root = request.param, tmp_path_factory.mktemp("run")
    if bundle is brats:
        data = write_brats_phantoms(root / "set", cases=4, shape=(16, 16, 16), progress=False)
    else:
        data = write_qubiq_phantoms(root / "set", datasets="prostate", cases=4, shape=(20, 24), progress=False)
    bundle.start("train.yaml", root=root, dataset_dir=data, **SMALL[bundle])
    return bundle, root, data


def evaluate(trained: tuple[ModuleType, Path, str], out: Path, **given: Any) -> RunRecord:
    bundle, root, data = trained
    settings: dict[str, Any] = {"dataset_dir": data, "output_dir": str(out), **SMALL[bundle], **given}
    bundle.start("train.yaml", "evaluate.yaml", root=root, **settings)
    return read_run(out)


def rows_by_files(record: RunRecord) -> Iterator[tuple[tuple[str, ...], float]]:
    """The rows that the verb `evaluate` makes of the files that a record names."""
    (model,) = record.models
    folder = PredictionFolder(model.folder, [case.plain for case in record.cases], model.pattern)
    for case in record.cases:
        path = folder.path_of(case.plain, case.others)
        kind, regions = PredictionKind(model.kind), record.regions
        made = kind, record.decision, record.empty_below, record.settings["challenge_scores"], record.exclusive
        of_case = EvaluationCase(model.name, case.name, case.patient, path, case.files, case.raters, regions, *made)
        for row in evaluation_rows(of_case):
            yield tuple(row[key] for key in ("model", "case", "patient", "region", "rater", "score")), row["value"]


#: What the one evaluation that several tests look at is given.
GIVEN: dict[ModuleType, dict[str, Any]] = {brats: {"decision": "expected_jaccard", "challenge_scores": "brats"}, qubiq: {}}


@pytest.fixture(scope="module")
def evaluated(trained: Any) -> Path:
    """The folder of an evaluation: of qubiq with the threshold, of brats with expected scores."""
    folder = trained[1] / "evaluated"
    evaluate(trained, folder, **GIVEN[trained[0]])
    return folder


#: One bundle is enough in the short tier: these sections are equal in both.
one_bundle = pytest.mark.parametrize("trained", [pytest.param(brats, marks=pytest.mark.long), qubiq], indirect=True, ids=str)


def test_the_scores_are_those_of_the_verb_evaluate(trained: Any, evaluated: Path) -> None:
    check_scores(evaluated)


@one_bundle
def test_the_scores_of_another_decision_are_those_of_the_verb_evaluate(trained: Any, tmp_path: Path) -> None:
    given = {"decision": "threshold"} if trained[0] is brats else {"decision": "expected_jaccard", "challenge_scores": "curvas"}
    evaluate(trained, tmp_path / "one", **given)
    check_scores(tmp_path / "one")


def check_scores(folder: Path) -> None:
    record = read_run(folder)
    found = {tuple(row.values())[:-1]: float(row["value"]) for row in read_scores(folder)}
    expected = dict(rows_by_files(record))
    assert found.keys() == expected.keys()
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-7, nan_ok=True)
    assert len({case for _, case, *_ in found}) == len(record.cases) >= 1
    # the metric of the training is not computed again
    with (folder / "metrics.csv").open() as lines:
        table = {name: float(value) for name, value in csv.reader(lines)}
    if "val_thresholded_dice" in table:
        values = [value for key, value in found.items() if key[-1] == "qubiq_dice"]
        assert table["val_thresholded_dice"] == pytest.approx(np.mean(values))


def test_the_record_says_what_was_run(trained: Any, evaluated: Path) -> None:
    bundle, root, data = trained
    record = read_run(evaluated)
    assert record.settings["decision"] == record.decision == GIVEN[bundle].get("decision", "threshold")
    assert record.settings["ckpt_path"] == f"{root}/models/model.pt"
    assert "datalist" not in record.settings
    assert record.datalist == data
    assert record.models[0].folder == str(evaluated / "scored")
    assert list(record.regions) == (["TC", "WT", "ET"] if bundle is brats else ["prostate task01"])
    assert all(Path(file).is_file() for case in record.cases for file in (*case.files, *case.image))
    assert "<html" in (evaluated / "report.html").read_text()
    assert list(evaluated.rglob(".*")) == []


def test_the_training_leaves_its_course(trained: Any) -> None:
    rows = read_training(trained[1] / "eval")
    assert tuple(rows[0]) == TRAINING_COLUMNS
    assert {row["epoch"] for row in rows} == {"1"}
    assert {"train_mean_loss", "val_mean_dice"} <= {row["name"] for row in rows}


class _Killed(BaseException):
    pass


@one_bundle
def test_a_page_that_lacks_its_library_is_logged(trained: Any, evaluated: Path, tmp_path: Path, monkeypatch: Any, caplog: Any) -> None:
    shutil.copytree(evaluated, tmp_path / "run")
    (tmp_path / "run" / "report.html").unlink()
    for name in [name for name in sys.modules if name.split(".")[0] == "plotly"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "plotly", None)
    evaluation_files._write_page(str(tmp_path / "run"), progress=False)
    page = tmp_path / "run" / "report.html"
    fix = f"pip install plotly, then python -m monai_jdt report {tmp_path}/run"
    assert caplog.messages[-1] == f"{page}: expected the package plotly, got none. Fix: {fix}."
    assert not page.exists()


@one_bundle
def test_an_evaluation_that_is_killed_leaves_the_one_before(trained: Any, evaluated: Path, tmp_path: Path, monkeypatch: Any) -> None:
    shutil.copytree(evaluated, tmp_path, dirs_exist_ok=True)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and "tensorboard" not in str(path)}
    write = CaseVolumeWriter.__call__

    def killed(self: Any, engine: Any) -> None:
        write(self, engine)
        raise _Killed

    monkeypatch.setattr(CaseVolumeWriter, "__call__", killed)
    with pytest.raises(_Killed):
        evaluate(trained, tmp_path, decision="expected_dice")
    assert {path: path.read_bytes() for path in before} == before
    assert list((tmp_path / "scored" / ".unfinished").iterdir())
    monkeypatch.undo()
    assert evaluate(trained, tmp_path, decision="expected_dice").decision == "expected_dice"
    assert not (tmp_path / "scored" / ".unfinished").exists()


@one_bundle
def test_two_evaluations_do_not_share_a_folder(trained: Any, tmp_path: Path, capsys: Any) -> None:
    with sole_run_in(tmp_path), pytest.raises(SystemExit):
        evaluate(trained, tmp_path)
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith(f"monai_jdt: error: {tmp_path}: expected a folder that no other run writes to, got one that process ")
    assert list(tmp_path.iterdir()) == []


@one_bundle
def test_a_kill_between_scores_and_record_is_noticed(trained: Any, evaluated: Path, tmp_path: Path, monkeypatch: Any) -> None:
    shutil.copytree(evaluated, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(evaluation_files, "write_run", lambda *_: (_ for _ in ()).throw(_Killed))
    with pytest.raises(_Killed):
        evaluate(trained, tmp_path, decision="expected_dice", empty_below=1)
    with pytest.raises(ValueError, match="one of other scores: the run ended early"):
        read_run(tmp_path)
    monkeypatch.undo()
    # the folder is still held by the run that ended, in this process
    evaluate(trained, tmp_path)
    assert list(tmp_path.rglob(".*")) == []


@one_bundle
def test_an_evaluation_of_expected_scores_names_the_level_of_its_cases(trained: Any, tmp_path: Path, caplog: Any) -> None:
    def levels(setting: str = "empty_below") -> list[str]:
        return [message for message in caplog.messages if message.startswith(f"{setting} ")]

    with caplog.at_level(logging.INFO):
        evaluate(trained, tmp_path, decision="expected_dice")
        assert len(levels()) == len(levels("temperature")) == 1
        # masks that a level has emptied say nothing of a better one. Nor are logits kept that a temperature has divided
        record = evaluate(trained, tmp_path, decision="expected_dice", empty_below=1, temperature=1e6)
    assert len(levels()) == len(levels("temperature")) == 1
    assert record.settings["temperature"] == "1000000.0"
    for path in (tmp_path / "scored").glob("*.nii.gz"):
        np.testing.assert_allclose(load_nifti(path).dataobj, 0.5, atol=1e-4)
    assert (record.settings["empty_below"], record.empty_below) == ("1.0", 1.0)
    scores = [float(row["value"]) for row in read_scores(tmp_path) if row["score"] == "dice"]
    assert all(score in (0, 1) or np.isnan(score) for score in scores)


@pytest.mark.parametrize(
    ("trained", "decision"),
    # masks of several regions, and of one under a softmax
    [
        (brats, "expected_dice"),
        (qubiq, "expected_dice"),
        (qubiq, "threshold"),
        pytest.param(brats, "threshold", marks=pytest.mark.long),
    ],
    indirect=["trained"],
    ids=str,
)
def test_a_prediction_has_masks_and_confidences(trained: Any, tmp_path: Path, decision: str) -> None:
    bundle, root, data = trained
    given: dict[str, Any] = {"decision": decision} if decision != "threshold" else {"save_masks": True}
    bundle.start("inference.yaml", root=root, dataset_dir=data, output_dir=str(tmp_path), **NET[bundle], **given)
    with (tmp_path / "confidence.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert list(rows[0]) == ["case", "region", "score", "value"]
    assert {row["score"] for row in rows} == {"expected_dice"}
    masks = sorted((tmp_path / "masks").rglob("*.nii.gz"))
    files = sorted(path for path in tmp_path.rglob("*.nii.gz") if "masks" not in path.parts)
    assert len(masks) == len(files) == 4
    names = list(dict.fromkeys(row["region"] for row in rows))
    assert names == (["TC", "WT", "ET"] if bundle is brats else ["prostate task01"])
    for mask, file in zip(masks, files, strict=True):
        case = str(mask.relative_to(tmp_path / "masks")).removesuffix(".nii.gz")
        assert case.partition("/")[0] == file.parent.name
        chosen, stored = (np.asarray(load_nifti(path).dataobj) for path in (mask, file))
        assert chosen.dtype == np.uint8
        assert chosen.shape == stored.shape
        np.testing.assert_array_equal(load_nifti(mask).affine, load_nifti(file).affine)
        prob = torch.from_numpy(np.moveaxis(stored, -1, 0) if len(names) > 1 else stored[None])[None]
        expected = prob > 0.5
        if decision == "expected_dice":
            with_background = torch.cat([1 - prob, prob], 1)
            expected = best_expected_mask(prob)[0] if bundle is brats else best_expected_mask(with_background, softmax=True)[0][:, 1:]
        decided = torch.from_numpy(np.moveaxis(chosen, -1, 0) if len(names) > 1 else chosen[None])[None].bool()
        assert torch.equal(decided, expected)
        score = [float(row["value"]) for row in rows if row["case"] == case]
        torch.testing.assert_close(torch.tensor([score]).double(), expected_overlap(prob, expected), rtol=1e-5, atol=1e-6)


@one_bundle
def test_a_prediction_divides_logits_by_the_temperature(trained: Any, tmp_path: Path) -> None:
    bundle, root, data = trained
    found = {}
    # the size of the images: nothing is interpolated between the logits and the files
    given = {**NET[bundle], **({"size": [20, 24]} if bundle is qubiq else {})}
    for temperature in (1, 2):
        out = tmp_path / str(temperature)
        bundle.start("inference.yaml", root=root, dataset_dir=data, output_dir=str(out), temperature=temperature, **given)
        files = {str(path.relative_to(out)): path for path in out.rglob("*.nii.gz")}
        found[temperature] = {name: np.asarray(load_nifti(path).dataobj, np.float64) for name, path in files.items()}
    assert len(found[1]) == 4
    for name, plain in found[1].items():
        divided = np.log(plain / (1 - plain)) / 2
        np.testing.assert_allclose(found[2][name], 1 / (1 + np.exp(-divided)), atol=1e-3)


@one_bundle
def test_names_of_raters_travel_with_the_list(trained: Any, tmp_path: Path) -> None:
    bundle, root, data = trained
    find = brats_datalist if bundle is brats else qubiq_datalist
    listed = [
        # names that are no file names, and one patient each: the split of a list
        {"case": f"../{number}", "image": item["image"], "raters": dict(zip("abcdefgh", item["raters"], strict=False))}
        for number, item in enumerate(find(data))
    ]
    shutil.copytree(root / "models", tmp_path / "models")
    (tmp_path / "list.json").write_text(json.dumps({"training": listed}))
    settings: dict[str, Any] = {"datalist_file": str(tmp_path / "list.json"), "output_dir": str(tmp_path / "out"), **SMALL[bundle]}
    bundle.start("train.yaml", "evaluate.yaml", root=tmp_path, **settings)
    record = read_run(tmp_path / "out")
    assert record.cases[0].raters[:2] == ("a", "b")
    found = {tuple(row.values())[:-1]: float(row["value"]) for row in read_scores(tmp_path / "out")}
    assert found == pytest.approx(dict(rows_by_files(record)), rel=1e-5, abs=1e-7, nan_ok=True)
    assert {path.parent for path in tmp_path.rglob("*.nii.gz")} == {tmp_path / "out" / "scored"}
