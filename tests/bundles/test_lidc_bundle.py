"""The LIDC bundle, tiny and in this process: cases of a conversion in, weights, scores and predictions out, on the files' own grid."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, run

from monai_jdt.bundle_runtime import ensure_lidc_cases, lidc_cases, with_unmarked
from monai_jdt.data import DataProblemError, lidc_phantom, write_lidc_phantoms
from tests.bundles.lidc_set import write_lidc_set
from tests.nifti_files import load_nifti

BUNDLE = Path(__file__).parents[2] / "bundles" / "lidc_multirater_segmentation"
NETWORK: dict[str, Any] = {"network_def#blocks_down": [1, 1], "network_def#blocks_up": [1], "roi": [16, 16, 16]}
TINY: dict[str, Any] = {**NETWORK, "epochs": 2, "val_interval": 1, "show_progress": False}


def configs(*names: str) -> list[str]:
    return [str(BUNDLE / "configs" / name) for name in names]


def start(*names: str, root: Path | str, **overrides: Any) -> None:
    # the logging file would bind a handler to the standard output of this test
    run(config_file=configs(*names), bundle_root=str(root), **{"logging_file": False, **overrides})


def resolved(data: str, *ids: str, **overrides: Any) -> list[Any]:
    """What the ids of train.yaml are under these overrides."""
    parser = ConfigParser(ConfigParser.load_config_files(configs("train.yaml")))
    for key, value in {"dataset_dir": data, **overrides}.items():
        parser[key] = value
    parser.parse()
    return [parser.get_parsed_content(name) for name in ids]


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_lidc_set(tmp_path_factory.mktemp("lidc") / "cases")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, cases: str) -> Path:
    root = tmp_path_factory.mktemp("bundle")
    start("train.yaml", root=root, dataset_dir=cases, **TINY)
    return root


def test_training_writes_weights_and_a_picture(trained: Path) -> None:
    weights = torch.load(trained / "models" / "model.pt", weights_only=True)
    assert weights["conv_final.2.conv.weight"].shape[0] == 2  # the background and the nodule
    settings = json.loads((trained / "models" / "model.json").read_text())
    expected = {"activation": "softmax", "spacing": [1, 1, 1], "normalize": "ct", "window": [-1000, 400]}
    assert {key: settings[key] for key in expected} == expected
    assert (trained / "eval" / "case.png").stat().st_size > 10_000


def test_scores_are_those_of_the_files_own_grid(trained: Path, cases: str) -> None:
    start("train.yaml", "evaluate.yaml", root=trained, dataset_dir=cases, **TINY)
    with (trained / "eval" / "metrics.csv").open() as lines:
        table = {row[0]: float(row[1]) for row in csv.reader(lines)}
    assert set(table) == {"val_thresholded_dice", "val_mean_dice"}
    predicted = sorted((trained / "eval" / "scored").glob("*.nii.gz"))
    validated = {path.name.removesuffix(".nii.gz") for path in predicted}
    # a quarter of four patients, with all their nodules
    assert len({name.partition("_")[0] for name in validated}) == 1
    scores = []
    for path in predicted:
        prediction = load_nifti(path)
        case = Path(cases) / path.name.removesuffix(".nii.gz")
        assert prediction.shape[:3] == load_nifti(case / "ct.nii.gz").shape
        np.testing.assert_allclose(prediction.affine, load_nifti(case / "ct.nii.gz").affine, atol=1e-4)
        share = np.mean([np.asanyarray(load_nifti(case / f"reader{r}.nii.gz").dataobj) for r in range(1, 5)], axis=0)
        prob = prediction.get_fdata().reshape(share.shape)
        levels = []
        for level in np.arange(0.1, 0.95, 0.1):
            p, t = prob > level, share > level
            levels.append(2 * (p & t).sum() / (p.sum() + t.sum()) if p.sum() + t.sum() else 1.0)
        scores.append(np.mean(levels))
    assert table["val_thresholded_dice"] == pytest.approx(np.mean(scores), abs=0.02)
    rows = list(csv.DictReader((trained / "eval" / "evaluation.csv").open()))
    assert {row["case"] for row in rows} == validated
    assert (trained / "eval" / "report.html").is_file()


def test_both_grids_of_training_and_validation(cases: str) -> None:
    (split, train, validate) = resolved(cases, "split", "train#preprocessing", "validate#preprocessing", **TINY)
    item = split[0][0]
    image = load_nifti(item["image"])
    assert image.header.get_zooms() != (1, 1, 1)
    validated = validate(item)
    assert validated["raters"].shape[1:] == image.shape
    np.testing.assert_allclose(validated["image"].pixdim, [1, 1, 1], atol=1e-3)
    marked = [np.asanyarray(load_nifti(path).dataobj) for path in item["raters"]]
    assert (validated["raters"].numpy() == np.stack(marked)).all()
    crops = train(item)
    assert len(crops) == 2
    for crop in crops:
        assert crop["image"].shape == (1, 16, 16, 16)
        assert crop["label"].shape == (2, 16, 16, 16)
        # votes of four readers, each from the nearest voxel: quarters, and the background has the rest
        torch.testing.assert_close(crop["label"].as_tensor() * 4, (crop["label"].as_tensor() * 4).round())
        torch.testing.assert_close(crop["label"].sum(0).as_tensor(), torch.ones(16, 16, 16))


@pytest.mark.parametrize("crop", ["random", "whole"])
def test_sigmoid_without_resampling(crop: str, cases: str) -> None:
    given = {**TINY, "activation": "sigmoid", "spacing": None, "crop": crop, "label_source": "random_rater"}
    split, train, network = resolved(cases, "split", "train#preprocessing", "network_def", **given)
    items = train(split[0][0])
    for item in items if isinstance(items, list) else [items]:
        assert item["label"].shape == (1, 16, 16, 16)
        assert set(item["label"].unique().tolist()) <= {0, 1}
    assert network(torch.zeros(1, 1, 16, 16, 16)).shape == (1, 1, 16, 16, 16)


def test_a_run_with_sigmoid_and_votes(cases: str, tmp_path: Path) -> None:
    given = {**TINY, "epochs": 1, "activation": "sigmoid", "spacing": None, "crop": "whole", "unmarked": "missing"}
    start("train.yaml", "votes.yaml", root=tmp_path, dataset_dir=cases, **given)
    assert json.loads((tmp_path / "models" / "model.json").read_text())["out_channels"] == 1
    out = tmp_path / "out"
    start("inference.yaml", root=tmp_path, dataset_dir=cases, output_dir=str(out), decision="expected_dice", **NETWORK)
    assert len(list(out.glob("masks/*.nii.gz"))) == len(list(out.glob("*/nodule.nii.gz"))) == len(lidc_cases(cases))


def test_readers_who_marked_nothing(cases: str) -> None:
    items = [dict(item) for item in lidc_cases(cases)]
    assert all(len(item["raters"]) == 4 for item in items)
    present = [len(item["readers"]) for item in items]
    assert min(present) < 4
    assert [len(item["raters"]) for item in with_unmarked(items, "missing")] == present
    for item in items:
        assert [os.path.basename(path) for path in item["raters"]] == [f"reader{n}.nii.gz" for n in item["readers"]]
    with pytest.raises(ValueError, match=r"unmarked: expected cases that say who marked the nodules \(`readers`\)"):
        with_unmarked([{"case": "a", "raters": ["x1.nii.gz"]}], "missing")


def test_phantoms_come_through_the_conversion_as_they_were(tmp_path: Path) -> None:
    folder = ensure_lidc_cases(str(tmp_path / "phantoms"), cases=2, shape=[40, 44, 12])
    assert folder == ensure_lidc_cases(str(tmp_path / "phantoms"), cases=2, shape=[40, 44, 12])
    items = lidc_cases(folder)
    phantoms = {f"LIDC-IDRI-{9001 + index}": lidc_phantom(index, shape=(40, 44, 12)) for index in range(2)}
    assert [item["case"] for item in items] == [f"{name}_n{n + 1}" for name, case in phantoms.items() for n in range(len(case.nodules))]
    for item in items:
        case, image = phantoms[item["patient"]], load_nifti(item["image"])
        # the field of view is smaller than a crop
        assert (np.asanyarray(image.dataobj).transpose(2, 1, 0) == case.image).all()
        np.testing.assert_allclose(image.affine, case.affine, atol=1e-4)
        for reader, path in enumerate(item["raters"]):
            mask = np.asanyarray(load_nifti(path).dataobj).transpose(2, 1, 0) > 0
            np.testing.assert_array_equal(mask, case.reader_mask(reader))


def test_without_a_reader_of_xml_the_run_ends_with_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "defusedxml", None)
    line = refused(capsys, "train.yaml", root=tmp_path, **{**TINY, "phantoms": {"cases": 2, "shape": [40, 40, 12]}})
    assert "expected the package defusedxml" in line
    assert "pip install 'monai-jdt[lidc]'" in line
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_dicom_series_is_predicted_on_its_grid(trained: Path, tmp_path: Path) -> None:
    dicom = write_lidc_phantoms(tmp_path / "dicom", cases=2, shape=(40, 44, 12), progress=False)
    out = tmp_path / "out"
    start("inference.yaml", root=trained, dataset_dir=dicom, output_dir=str(out), **NETWORK)
    assert sorted(path.name for path in out.iterdir()) == ["LIDC-IDRI-9001", "LIDC-IDRI-9002", "confidence.csv"]
    case = lidc_phantom(1, shape=(40, 44, 12))
    prediction = load_nifti(out / "LIDC-IDRI-9002" / "nodule.nii.gz")
    assert prediction.shape == (40, 44, 12)
    np.testing.assert_allclose(prediction.affine, case.affine, atol=1e-4)
    values = prediction.get_fdata()
    assert 0 <= values.min() < values.max() <= 1


def test_inference_needs_no_monai_jdt(tmp_path: Path, cases: str, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dicom = write_lidc_phantoms(tmp_path / "dicom", cases=1, shape=(40, 44, 12), progress=False)
    start("inference.yaml", root=trained, dataset_dir=dicom, output_dir=str(tmp_path / "with"), **NETWORK)
    for name in [name for name in sys.modules if name.split(".")[0] == "monai_jdt"]:
        monkeypatch.setitem(sys.modules, name, None)
    start("inference.yaml", root=trained, dataset_dir=cases, output_dir=str(tmp_path / "alone"), **NETWORK)
    assert len(list((tmp_path / "alone").glob("LIDC-IDRI-900*/nodule.nii.gz"))) > 4
    start("inference.yaml", root=trained, dataset_dir=dicom, output_dir=str(tmp_path / "alone_dicom"), **NETWORK)
    alone = [load_nifti(file).get_fdata() for file in (tmp_path / "alone_dicom").rglob("*.nii.gz")]
    beside = [load_nifti(file).get_fdata() for file in (tmp_path / "with").rglob("*.nii.gz")]
    assert len(alone) == 1
    assert np.abs(np.sort(alone[0].ravel()) - np.sort(beside[0].ravel())).max() < 1e-3


def refused(capsys: pytest.CaptureFixture[str], *names: str, root: Path, **given: Any) -> str:
    with pytest.raises(SystemExit) as caught:
        start(*names, root=root, **given)
    # sys.exit with words prints them and ends with 1
    last = str(caught.value.code) if caught.value.code != 1 else capsys.readouterr().err.rstrip("\n").splitlines()[-1]
    assert last.startswith("monai_jdt: error: ")
    return last.removeprefix("monai_jdt: error: ")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"activation": "relu"}, "activation: expected one of softmax, sigmoid, got 'relu'. Fix: --activation s"),
        ({"spacing": [1, 1]}, "spacing: expected a list of 3 numbers > 0, or null, got [1, 1]"),
        ({"spacing": [0, 1, 1]}, "spacing: expected a list of 3 numbers"),
        ({"unmarked": "ignored"}, "unmarked: expected one of background, missing, got 'ignored'"),
        ({"crop": "center"}, "crop: expected one of random, whole, got 'center'"),
        ({"label_source": "stapple"}, "label_source: expected one of average, weighted, majority, staple, random_rater, got 'stapple'"),
        (
            {"voxel_size": [1, 1, 1]},
            "--voxel_size: expected a key that the run reads, got an unknown one. Fix: did you mean --spacing?",
        ),
        ({"roi": [12, 16, 20]}, "roi: expected multiples of 8"),
        ({"val_fraction": 1.5}, "val_fraction: expected a number between 0 and 1"),
    ],
    ids=str,
)
def test_a_wrong_setting_is_one_line(given: dict[str, Any], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, "train.yaml", root=tmp_path, **given).startswith(says)
    assert list(tmp_path.iterdir()) == []


def test_weights_are_used_as_they_were_trained(trained: Path, cases: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for key, value in (("spacing", [2, 2, 2]), ("activation", "sigmoid"), ("window", [-200, 300])):
        line = refused(
            capsys, "inference.yaml", root=trained, dataset_dir=cases, output_dir=str(tmp_path / "out"), **NETWORK, **{key: value}
        )
        assert line.startswith(f"{key}: expected ")
    line = refused(capsys, "train.yaml", "evaluate.yaml", root=trained, dataset_dir=cases, **{**TINY, "spacing": None})
    assert "spacing" in line


def test_data_that_are_not_converted(tmp_path: Path, cases: str, capsys: pytest.CaptureFixture[str]) -> None:
    raw = tmp_path / "raw"
    (raw / "LIDC-IDRI-0001").mkdir(parents=True)
    (raw / "LIDC-IDRI-0001" / "069.xml").touch()
    line = refused(capsys, "train.yaml", root=tmp_path / "run", dataset_dir=str(raw), **TINY)
    assert line.startswith(f"dataset_dir {raw}: expected the cases of a conversion, with datalist.json, got DICOM or XML files")
    assert f"Fix: python -m monai_jdt lidc {raw} CASES" in line
    with pytest.raises(DataProblemError, match="got none"):
        lidc_cases(str(tmp_path / "nothing"))
    broken = tmp_path / "broken"
    shutil.copytree(cases, broken)
    path = broken / "LIDC-IDRI-9002_n1" / "reader3.nii.gz"
    path.write_bytes(path.read_bytes()[:200])
    line = refused(capsys, "train.yaml", root=tmp_path / "run", dataset_dir=str(broken), **TINY)
    assert str(path) in line
    line = refused(capsys, "inference.yaml", root=tmp_path / "run", dataset_dir=str(raw), ckpt_path=str(path))
    assert line.startswith(f"dataset_dir {raw}: expected CT named ct.nii*, or folders with DICOM files, got none")
    assert not (tmp_path / "run").exists()
