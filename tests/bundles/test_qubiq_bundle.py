"""The QUBIQ bundle on every set and label source, tiny and in this process: files in, files out, and one line for what is wrong."""

import csv
import glob
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, run

from monai_jdt.data import QUBIQ_SETS, qubiq_datalist, write_qubiq_phantoms
from tests.nifti_files import load_nifti, save_nifti

BUNDLE = Path(__file__).parents[2] / "bundles" / "qubiq_multirater_segmentation"
SMALL_NET: dict[str, Any] = {
    "network_def#init_filters": 8,
    "network_def#blocks_down": [1, 1],
    "network_def#blocks_up": [1],
    "size": [16, 16],
}
TINY: dict[str, Any] = {**SMALL_NET, "epochs": 1, "val_interval": 1, "folds": 2, "show_progress": False}
SOURCES = ["average", "weighted", "majority", "staple", "random_rater"]


def configs(*names: str) -> list[str]:
    return [str(BUNDLE / "configs" / name) for name in names]


def start(*names: str, root: Path | str, **overrides: Any) -> None:
    # the logging file would bind a handler to the standard output of this test
    run(config_file=configs(*names), bundle_root=str(root), **{"logging_file": False, **overrides})


def resolved(root: Path | str, *ids: str, **overrides: Any) -> list[Any]:
    """What the ids of train.yaml are under these overrides."""
    parser = ConfigParser(ConfigParser.load_config_files(configs("train.yaml")))
    for key, value in {"bundle_root": str(root), **overrides}.items():
        parser[key] = value
    parser.parse()
    return [parser.get_parsed_content(name) for name in ids]


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Every set in one folder, 2D 20 x 24, 3D 24 x 20 x 24; four cases, of which one or more lack the sixth rater of the prostate."""
    return write_qubiq_phantoms(tmp_path_factory.mktemp("data") / "set", datasets="all", cases=4, shape=(20, 24), progress=False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, phantoms: str) -> Path:
    root = tmp_path_factory.mktemp("bundle")
    start("train.yaml", root=root, dataset_dir=phantoms, **TINY)
    return root


def test_training_writes_weights_events_and_a_picture(trained: Path) -> None:
    weights = torch.load(trained / "models" / "model.pt", weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in weights.values())
    assert sorted(os.listdir(trained / "models")) == ["last.pt", "model.json", "model.pt"]
    assert (trained / "eval" / "case.png").stat().st_size > 10_000
    assert os.listdir(trained / "eval" / "tensorboard")


def test_evaluation_writes_tables(trained: Path, phantoms: str) -> None:
    start("train.yaml", "evaluate.yaml", root=trained, dataset_dir=phantoms, **TINY)
    with (trained / "eval" / "metrics.csv").open() as lines:
        table = {row[0]: float(row[1]) for row in csv.reader(lines)}
    assert set(table) == {"val_thresholded_dice", "val_mean_dice"}
    rows = (trained / "eval" / "val_thresholded_dice_raw.csv").read_text().splitlines()
    assert len(rows) == 3  # a header and the two cases of the fold
    assert "prostate/Training/case01/image.nii.gz" in rows[1]
    # the table's mean is that of the cases
    assert table["val_thresholded_dice"] == pytest.approx(np.mean([float(row.split(",")[1]) for row in rows[1:]]), abs=1e-3)


def test_phantoms_are_made_on_first_use_and_get_the_short_protocol(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"phantoms": {"cases": 4, "shape": [16, 16]}}
    start("train.yaml", root=tmp_path, set="kidney", **TINY, **settings)
    assert len(glob.glob(f"{tmp_path}/data/phantoms_kidney/*/kidney/Training/case0*/task01_seg03.nii.gz")) == 4
    assert (tmp_path / "models" / "model.pt").is_file()
    assert resolved(tmp_path, "protocol", "epochs", "size", set="kidney", **settings) == ["short", 40, [64, 64]]


def test_real_data_get_the_protocol_of_the_paper(tmp_path: Path, phantoms: str) -> None:
    shutil.copytree(phantoms, tmp_path / "set", ignore=shutil.ignore_patterns("phantom.json"))
    keys = ("protocol", "epochs", "size", "batch_size", "split", "loss", "optimizer")
    found = resolved(tmp_path, *keys, dataset_dir=str(tmp_path / "set"), folds=2)
    assert found[:4] == ["paper", 150, [256, 256], 8]
    # the first fold is the first block of cases
    assert [[item["case"] for item in side] for side in found[4]] == [["case03", "case04"], ["case01", "case02"]]
    assert "activation=softmax, alpha=1.0, beta=1.0, lambda_jdt=0.75, lambda_ce=0.25" in repr(found[5])
    assert isinstance(found[6], torch.optim.AdamW)
    assert resolved(tmp_path, *keys[1:4], dataset_dir=str(tmp_path / "set"), set="pancreas") == [150, [64, 128, 128], 2]


@pytest.mark.parametrize("name", QUBIQ_SETS)
def test_every_set_from_files_to_predictions(tmp_path: Path, phantoms: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    settings: dict[str, Any] = {"set": name, "task": QUBIQ_SETS[name].tasks, "dataset_dir": phantoms}
    dims = QUBIQ_SETS[name].spatial_dims
    start("train.yaml", root=tmp_path, **settings, **{**TINY, "size": [16] * dims})
    assert (tmp_path / "eval" / "case.png").stat().st_size > 10_000
    start("inference.yaml", root=tmp_path, **settings, **{**SMALL_NET, "size": [16] * dims})
    masks = {item["case"]: item["raters"][0] for item in qubiq_datalist(phantoms, name, QUBIQ_SETS[name].tasks)}
    out = tmp_path / "eval" / "predictions"
    assert f"4 predictions in {out}" in capsys.readouterr().out
    found = {path.parent.name: path for path in out.rglob("*.nii.gz")}
    assert set(found) == set(masks)
    assert len(found) == 4
    for case, path in found.items():
        assert path == out / case / f"task{QUBIQ_SETS[name].tasks:02d}.nii.gz"
        prediction, mask = load_nifti(path), load_nifti(masks[case])
        # a trailing axis of length 1 as well: without it a comparison with a mask would broadcast
        assert prediction.shape == mask.shape
        assert prediction.get_data_dtype() == np.float32
        np.testing.assert_allclose(prediction.affine, mask.affine, atol=1e-5)
        values = prediction.get_fdata()
        assert 0 <= values.min() < values.max() <= 1


@pytest.mark.parametrize("source", SOURCES)
def test_every_label_source_gives_its_label(tmp_path: Path, phantoms: str, source: str) -> None:
    settings: dict[str, Any] = {
        "dataset_dir": phantoms,
        "label_source": source,
        "set": "prostate",
        "size": [16, 16],
        "train#augmentations": [],
    }
    items, transforms = resolved(tmp_path, "datalist", "train#preprocessing", **settings)
    assert {len(item["raters"]) for item in items} == {5, 6}
    item = next(item for item in items if len(item["raters"]) == 6)
    labels = [transforms(item)["label"] for _ in range(12)]
    assert all(label.shape == (2, 16, 16) for label in labels)
    assert all(torch.allclose(label.sum(0), torch.ones(16, 16), atol=1e-6) for label in labels)
    label = labels[0]
    # 20 x 24 to 16 x 16 by the nearest: the voxel in which the centre of the new one lies
    rows, columns = ((np.arange(16) + 0.5) * 20 / 16).astype(int), ((np.arange(16) + 0.5) * 24 / 16).astype(int)
    votes = np.stack([np.asarray(load_nifti(path).dataobj)[rows][:, columns, 0] for path in item["raters"]])
    count = votes.sum(0)
    if source == "average":
        np.testing.assert_allclose(label[1], count / 6, atol=1e-6)
    elif source == "majority":
        np.testing.assert_array_equal(label[1], count > 3)  # three of six: a tie, background
        assert (count == 3).any()
    elif source == "random_rater":
        drawn = {label[1].numpy().tobytes() for label in labels}
        assert len(drawn) > 1  # another one at each visit
        assert drawn <= {vote.astype(np.float32).tobytes() for vote in votes}
    else:
        # nobody's share leaves what all say, or nobody
        assert (label[1][torch.as_tensor(count == 6)] > 0.99).all()
        assert (label[1][torch.as_tensor(count == 0)] < 0.01).all()
        assert not np.allclose(label[1], count / 6, atol=1e-3)


@pytest.mark.parametrize("source", SOURCES[1:])
def test_training_on_every_label_source(tmp_path: Path, phantoms: str, source: str) -> None:
    start("train.yaml", root=tmp_path, dataset_dir=phantoms, label_source=source, **TINY)
    assert (tmp_path / "models" / "model.pt").is_file()


def test_a_short_training_learns_the_structure(tmp_path: Path) -> None:
    data = write_qubiq_phantoms(tmp_path / "set", datasets="brain-growth", cases=8, shape=(32, 32), progress=False)
    settings: dict[str, Any] = {
        "dataset_dir": data,
        "set": "brain-growth",
        "size": [32, 32],
        "folds": 4,
        "learning_rate": 0.01,
        "batch_size": 3,
    }
    start("train.yaml", root=tmp_path, **{**TINY, **settings, "epochs": 15, "val_interval": 15})
    start("train.yaml", "evaluate.yaml", root=tmp_path, **{**TINY, **settings})
    with (tmp_path / "eval" / "metrics.csv").open() as lines:
        table = {row[0]: float(row[1]) for row in csv.reader(lines)}
    assert table["val_thresholded_dice"] > 0.7
    assert table["val_mean_dice"] > 0.7


def test_another_data_set_needs_an_overlay_only(tmp_path: Path) -> None:
    # two contrasts, one structure, raters in files of their own, slices of different sizes
    rng = np.random.default_rng(0)
    for number, case in enumerate(("a", "b", "c", "d")):
        folder = tmp_path / "eyes" / case
        folder.mkdir(parents=True)
        label = np.zeros((20 + number, 18), np.uint8)
        label[8:14, 7:13] = 1
        planes = {f"contrast{c}": (rng.normal(size=label.shape) + label * c).astype(np.float32) for c in (1, 2)}
        planes |= {f"disc_rater{r}": np.roll(label, r, 0) for r in range(2 + number % 2)}
        for name, values in planes.items():
            save_nifti(folder / f"{name}.nii.gz", values, np.eye(4))
    overlay = tmp_path / "eyes.yaml"
    overlay.write_text(
        "datalist: $bundle_start.exit_on_error(jdt_data.pattern_datalist, @data_dir, ['{case}/contrast1.nii.gz', "
        "'{case}/contrast2.nii.gz'], '{case}/disc_rater{rater}.nii.gz')\n"
        "channels: 2\nregions: {disc: [1]}\n"
    )
    start("train.yaml", str(overlay), root=tmp_path / "run", dataset_dir=str(tmp_path / "eyes"), **TINY)
    assert (tmp_path / "run" / "models" / "model.pt").exists()
    assert (tmp_path / "run" / "eval" / "case.png").exists()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"set": "prostat"}, "Fix: --set prostate"),
        ({"label_source": "STAPLE"}, "Fix: --label_source staple"),
        ({"task": 3}, "expected labelled cases of prostate task03"),
        ({"fold": 2}, "fold: expected a whole number from 0 to 1"),
        ({"folds": 9}, "k: expected 2 to 4 folds"),
        ({"size": [13, 16]}, "size: expected multiples of 2"),
        ({"epochs": 0}, "epochs: expected a whole number >= 1"),
        ({"dataset_dir": "nowhere"}, "dataset_dir"),
        ({"dataset_dir": str(BUNDLE)}, "expected QUBIQ cases"),
    ],
)
def test_a_wrong_setting_is_one_line(
    tmp_path: Path, phantoms: str, capsys: pytest.CaptureFixture[str], settings: dict[str, Any], says: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        start("train.yaml", root=tmp_path, **{**TINY, "dataset_dir": phantoms, **settings})
    assert caught.value.code == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("monai_jdt: error: ")
    assert says in last
    assert not (tmp_path / "models").exists()


def test_files_with_and_without_a_last_axis_make_one_batch(tmp_path: Path, phantoms: str) -> None:
    shutil.copytree(phantoms, tmp_path / "set")
    for number, path in enumerate(sorted(glob.glob(f"{tmp_path}/set/*/prostate/Training/case03/*.nii.gz"))):
        if number % 2:
            rewritten(path, lambda values: values[..., 0])
    start("train.yaml", root=tmp_path, dataset_dir=str(tmp_path / "set"), **TINY, batch_size=2)
    assert (tmp_path / "models" / "model.pt").is_file()


def rewritten(path: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    volume = load_nifti(path)
    save_nifti(path, change(np.asanyarray(volume.dataobj)).astype(np.float32), volume.affine)


BREAKS: dict[str, Callable[..., object]] = {
    "truncated": lambda path: Path(path).write_bytes(Path(path).read_bytes()[:-20]),
    "other shape": lambda path: rewritten(path, lambda values: values[:-1]),
    "unknown label": lambda path: rewritten(path, lambda values: values * 255),
}


@pytest.mark.parametrize("kind", BREAKS)
def test_a_bad_rater_ends_with_one_line(kind: str, phantoms: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(phantoms, tmp_path / "set")
    (bad,) = glob.glob(f"{tmp_path}/set/*/prostate/Training/case03/task01_seg02.nii.gz")
    BREAKS[kind](bad)
    with pytest.raises(SystemExit) as caught:
        start("train.yaml", root=tmp_path / "run", dataset_dir=str(tmp_path / "set"), **TINY)
    assert caught.value.code == 1
    line = capsys.readouterr().err.rstrip("\n").splitlines()[-1]
    assert line.startswith(f"monai_jdt: error: {bad}: expected")
    assert "Fix:" in line
    assert not (tmp_path / "run" / "models").exists()


@pytest.mark.parametrize("names", [["train.yaml", "evaluate.yaml"], ["inference.yaml"]])
def test_a_missing_checkpoint_is_one_line(names: list[str], phantoms: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        start(*names, root=tmp_path, dataset_dir=phantoms)
    line = str(caught.value.code) if caught.value.code != 1 else capsys.readouterr().err.rstrip("\n").splitlines()[-1]
    assert line.startswith(f"monai_jdt: error: {tmp_path}/models/model.pt: expected a checkpoint")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"set": "brain-tumor"}, "set: expected prostate, as these weights were trained"),
        ({"set": "colon"}, "set: expected one of brain-growth"),
        ({"image_name": "scan.nii.gz"}, "expected images of prostate named scan.nii.gz"),
    ],
)
def test_inference_with_a_wrong_setting_is_one_line(
    trained: Path, phantoms: str, capsys: pytest.CaptureFixture[str], settings: dict[str, Any], says: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        start("inference.yaml", root=trained, dataset_dir=phantoms, **{**SMALL_NET, **settings})
    line = str(caught.value.code) if caught.value.code != 1 else capsys.readouterr().err.rstrip("\n").splitlines()[-1]
    assert line.startswith("monai_jdt: error: ")
    assert says in line


def test_predictions_of_two_folders_do_not_overwrite_each_other(trained: Path, phantoms: str, tmp_path: Path) -> None:
    source = glob.glob(f"{phantoms}/*/prostate/Training/case01/image.nii.gz")[0]
    for part in ("first", "second"):
        (tmp_path / "images" / part / "case01").mkdir(parents=True)
        shutil.copy(source, tmp_path / "images" / part / "case01" / "image.nii.gz")
    settings: dict[str, Any] = {"dataset_dir": str(tmp_path / "images"), "output_dir": str(tmp_path / "out"), **SMALL_NET}
    start("inference.yaml", root=trained, **settings)
    found = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.nii.gz"))
    assert found == ["first/case01/task01.nii.gz", "second/case01/task01.nii.gz"]


def test_inference_needs_no_monai_jdt(tmp_path: Path, phantoms: str, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "monai_jdt"]:
        monkeypatch.setitem(sys.modules, name, None)
    start("inference.yaml", root=trained, dataset_dir=phantoms, output_dir=str(tmp_path / "alone"), **SMALL_NET)
    assert len(list((tmp_path / "alone").glob("case0?/task01.nii.gz"))) == 4
    # masks by an expected score need it
    with pytest.raises(SystemExit, match="monai_jdt: error: decision: expected threshold without save_masks where monai_jdt is not"):
        start("inference.yaml", root=trained, dataset_dir=phantoms, decision="expected_dice", **SMALL_NET)


def test_without_monai_jdt_a_flat_image_gets_a_third_axis(tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_nifti(tmp_path / "a.nii.gz", np.random.default_rng(0).normal(size=(20, 18)).astype(np.float32), np.eye(4))
    for name in [name for name in sys.modules if name.split(".")[0] == "monai_jdt"]:
        monkeypatch.setitem(sys.modules, name, None)
    images: dict[str, Any] = {
        "dataset_dir": str(tmp_path),
        "image_name": "a.nii.gz",
        "prediction_name": "p.nii.gz",
        "output_dir": str(tmp_path / "alone"),
    }
    start("inference.yaml", root=trained, **images, **SMALL_NET)
    (path,) = (tmp_path / "alone").rglob("p.nii.gz")
    assert load_nifti(path).shape == (20, 18, 1)
